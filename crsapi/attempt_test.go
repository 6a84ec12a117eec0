package crsapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// recorder collects the attempts reported to Observe.
type recorder struct {
	mu       sync.Mutex
	attempts []crsapi.Attempt
}

func (r *recorder) observe(a crsapi.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, a)
}

func (r *recorder) reasons() []crsapi.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	reasons := []crsapi.Reason{}
	for _, a := range r.attempts {
		reasons = append(reasons, a.Reason)
	}
	return reasons
}

func TestRetries(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		broken := errors.New("connection reset by peer")
		often := func(r crsapi.Reason) []crsapi.Reason { return []crsapi.Reason{r, r, r, r} }
		once := func(r crsapi.Reason) []crsapi.Reason { return []crsapi.Reason{r} }
		twice := func(r crsapi.Reason) []crsapi.Reason { return []crsapi.Reason{r, r} }
		for name, test := range map[string]struct {
			status int
			body   string
			err    error
			want   []crsapi.Reason // of the attempts, the last also of the error
		}{
			"204": {status: 204, want: once(crsapi.ReasonAPI)},
			"302": {status: 302, want: once(crsapi.ReasonAPI)},
			"400": {status: 400, want: once(crsapi.ReasonAPI)},
			"401": {status: 401, want: once(crsapi.ReasonDenied)},
			"403": {status: 403, want: once(crsapi.ReasonDenied)},
			"404": {status: 404, want: once(crsapi.ReasonAPI)},
			"429": {status: 429, want: often(crsapi.ReasonThrottled)},
			"500": {status: 500, want: often(crsapi.ReasonServer)},
			"503": {status: 503, want: often(crsapi.ReasonServer)},

			"HTML":     {body: "<html>", want: twice(crsapi.ReasonDecode)},
			"empty":    {body: "", want: twice(crsapi.ReasonDecode)},
			"no total": {body: `{"code":0,"Response":{"RequestId":"r"}}`, want: once(crsapi.ReasonDecode)},
			"reset":    {err: broken, want: often(crsapi.ReasonNetwork)},
			"EOF":      {err: io.EOF, want: often(crsapi.ReasonNetwork)},
			"timeout":  {err: context.DeadlineExceeded, want: often(crsapi.ReasonTimeout)},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					signatures := map[string]bool{}
					var seen recorder
					c := newTestClient(t, api, func(cfg *crsapi.Config) {
						cfg.Observe, cfg.RequestTimeout = seen.observe, time.Minute
						cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
							sent := read(r)
							// API 3.0 has no nonce: within a second the signature is the same.
							signatures[sent.signature+sent.timestamp] = true
							if want := fmt.Sprint(time.Now().Unix()); sent.timestamp != want {
								t.Errorf("timestamp %s, want the current %s", sent.timestamp, want)
							}
							time.Sleep(time.Second)
							if test.err != nil {
								return nil, test.err
							}
							if test.status == 0 {
								test.status = http.StatusOK
							}
							return respond(test.status, test.body)
						})
					})
					_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
					var failed *crsapi.Error
					if !errors.As(err, &failed) {
						t.Fatalf("got %v, want an *Error", err)
					}
					if got := seen.reasons(); fmt.Sprint(got) != fmt.Sprint(test.want) {
						t.Errorf("attempts %v, want %v", got, test.want)
					}
					if want := test.want[len(test.want)-1]; failed.Reason != want || !failed.Requested {
						t.Errorf("error %+v, want reason %s and Requested", failed, want)
					}
					if len(signatures) != len(test.want) {
						t.Errorf("%d signatures at %d attempts", len(signatures), len(test.want))
					}
					if test.err != nil && !errors.Is(err, test.err) {
						t.Errorf("%v does not wrap %v", err, test.err)
					}
				})
			})
		}
	})
}

func TestRetryRecovers(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			var seen recorder
			bodies := []string{apiError(4500, ""), apiError(5100, ""), apiError(4400, ""), listJSON(api, 1, rowJSON(api))}
			c := newTestClient(t, api, func(cfg *crsapi.Config) {
				cfg.Observe = seen.observe
				cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
					body := bodies[0]
					bodies = bodies[1:]
					return respond(200, body)
				})
			})
			p, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
			if err != nil || len(p.Tasks) != 1 {
				t.Fatalf("got %+v, %v", p, err)
			}
			want := []crsapi.Reason{crsapi.ReasonAuth, crsapi.ReasonServer, crsapi.ReasonThrottled, ""}
			if got := seen.reasons(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("attempts %v, want %v", got, want)
			}
		})
	})
}

func TestDeadlines(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		hang := transportFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		throttle := transportFunc(func(*http.Request) (*http.Response, error) {
			return respond(200, apiError(4400, ""))
		})
		for name, test := range map[string]struct {
			transport http.RoundTripper
			context   func(context.Context) (context.Context, context.CancelFunc)
			want      []crsapi.Reason
			reason    crsapi.Reason // "" for context.Canceled
			within    time.Duration
		}{
			"each attempt times out": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Hour)
			}, []crsapi.Reason{crsapi.ReasonTimeout, crsapi.ReasonTimeout, crsapi.ReasonTimeout, crsapi.ReasonTimeout}, crsapi.ReasonTimeout, 30 * time.Second},
			"deadline of the caller": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 2*time.Second)
			}, []crsapi.Reason{crsapi.ReasonTimeout}, crsapi.ReasonTimeout, 2 * time.Second},
			"cause of the caller": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(2*time.Second, func() { cancel(context.DeadlineExceeded) })
				return ctx, func() { cancel(nil) }
			}, []crsapi.Reason{crsapi.ReasonTimeout}, crsapi.ReasonTimeout, 2 * time.Second},
			"cancelled by the caller": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(2*time.Second, cancel)
				return ctx, cancel
			}, []crsapi.Reason{""}, "", 2 * time.Second},
			"no retry after the deadline": {throttle, func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 50*time.Millisecond)
			}, []crsapi.Reason{crsapi.ReasonThrottled}, crsapi.ReasonThrottled, 0},
			"cancelled between two attempts": {throttle, func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(50*time.Millisecond, cancel)
				return ctx, cancel
			}, []crsapi.Reason{crsapi.ReasonThrottled}, "", 50 * time.Millisecond},
			"cancelled before": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				return ctx, cancel
			}, []crsapi.Reason{}, "", 0},
			"deadline already over": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 0)
			}, []crsapi.Reason{}, crsapi.ReasonTimeout, 0},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var seen recorder
					c := newTestClient(t, api, func(cfg *crsapi.Config) {
						cfg.Observe, cfg.Transport = seen.observe, test.transport
					})
					begin := time.Now()
					ctx, cancel := test.context(t.Context())
					defer cancel()
					_, err := c.Page(ctx, crsapi.Query{Limit: 1})
					if took := time.Since(begin); took > test.within {
						t.Errorf("took %v, want at most %v", took, test.within)
					}
					var failed *crsapi.Error
					switch {
					case test.reason == "" && (errors.As(err, &failed) || !errors.Is(err, context.Canceled)):
						t.Errorf("got %v, want context.Canceled", err)
					case test.reason != "" && (!errors.As(err, &failed) || failed.Reason != test.reason):
						t.Errorf("got %v, want reason %s", err, test.reason)
					case test.reason != "" && failed.Requested != (len(test.want) > 0):
						t.Errorf("Requested is %v at %d attempts", failed.Requested, len(test.want))
					}
					if got := seen.reasons(); fmt.Sprint(got) != fmt.Sprint(test.want) {
						t.Errorf("attempts %v, want %v", got, test.want)
					}
				})
			})
		}
	})
}

func TestRateLimit(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			c := newTestClient(t, api, func(cfg *crsapi.Config) {
				cfg.Limiter = crsapi.NewLimiter(20)
				cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(200, listJSON(api, 0)) })
			})
			begin := time.Now()
			for range 41 {
				if _, err := c.Page(t.Context(), crsapi.Query{Limit: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(begin); took != 2*time.Second {
				t.Errorf("41 requests at 20 a second took %v, want 2s", took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			_, err := c.Page(ctx, crsapi.Query{Limit: 1})
			var failed *crsapi.Error
			if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonTimeout || failed.Requested {
				t.Errorf("got %v, want a timeout without a request", err)
			}
		})
	})
}

// TestClientsShareALimiter sends requests for two regions of one host, whose
// quota they share.
func TestClientsShareALimiter(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var at []time.Time
			sent := map[string]int{}
			limiter := crsapi.NewLimiter(20)
			client := func(region string) *crsapi.Client {
				return newTestClient(t, api, func(cfg *crsapi.Config) {
					cfg.Region, cfg.Limiter = region, limiter
					cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
						mu.Lock()
						defer mu.Unlock()
						at = append(at, time.Now())
						sent[region]++
						return respond(200, listJSON(api, 0))
					})
				})
			}
			var group sync.WaitGroup
			for _, c := range []*crsapi.Client{client("ap-guangzhou"), client("ap-shanghai")} {
				group.Go(func() {
					for range 30 {
						if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			if took := at[len(at)-1].Sub(at[0]); len(at) != 60 || took != 59*50*time.Millisecond {
				t.Errorf("%d requests at 20 a second took %v, want 2.95s", len(at), took)
			}
			for region, n := range sent {
				if n != 30 {
					t.Errorf("%d requests of %s", n, region)
				}
			}
		})
	})
}

func TestConcurrency(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var now, most int
			c := newTestClient(t, api, func(cfg *crsapi.Config) {
				cfg.Concurrency = 3
				cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
					mu.Lock()
					now++
					most = max(most, now)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					now--
					mu.Unlock()
					return respond(200, listJSON(api, 0))
				})
			})
			var group sync.WaitGroup
			for range 9 {
				group.Go(func() {
					if _, err := c.Page(t.Context(), crsapi.Query{Limit: 1}); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if most != 3 {
				t.Errorf("%d requests in flight, want 3", most)
			}
		})
	})
}

// TestSecretsAreRedacted makes the server and the transport echo every secret.
func TestSecretsAreRedacted(t *testing.T) {
	for _, protocol := range []struct {
		api    crsapi.API
		method string
	}{{crsapi.API20, http.MethodGet}, {crsapi.API20, http.MethodPost}, {crsapi.API30, http.MethodPost}, {crsapi.APITCE, http.MethodPost}} {
		api, method := protocol.api, protocol.method
		var signature string
		echo := func(r *http.Request) string {
			sent := read(r)
			if signature = sent.signature; signature == "" {
				t.Error("no signature")
			}
			return strings.Join([]string{
				canaryID, canaryKey, canaryToken, signature, sent.text, r.URL.String(),
				url.PathEscape(canaryToken), url.QueryEscape(canaryKey),
			}, " ")
		}
		for name, transport := range map[string]transportFunc{
			"message": func(r *http.Request) (*http.Response, error) {
				return respond(200, apiError(4100, echo(r)))
			},
			"codeDesc": func(r *http.Request) (*http.Response, error) {
				return respond(200, fmt.Sprintf(`{"code":4000,"codeDesc":%q}`, echo(r)))
			},
			"code": func(r *http.Request) (*http.Response, error) {
				return respond(200, fmt.Sprintf(`{"code":%q}`, echo(r)))
			},
			"API 3.0": func(r *http.Request) (*http.Response, error) {
				return respond(200, envelope(echo(r)))
			},
			"RequestId": func(r *http.Request) (*http.Response, error) {
				return respond(200, fmt.Sprintf(`{"Response":{"Error":{"Code":"InternalError","Message":"m"},"RequestId":%q}}`, echo(r)))
			},
			"RequestId of no list": func(r *http.Request) (*http.Response, error) {
				return respond(200, fmt.Sprintf(`{"Response":{"RequestId":%q}}`, echo(r)))
			},
			"encoding": func(r *http.Request) (*http.Response, error) {
				resp, err := respond(200, "")
				resp.Header.Set("Content-Encoding", echo(r))
				return resp, err
			},
			"HTML":   func(r *http.Request) (*http.Response, error) { return respond(200, "<p>"+echo(r)) },
			"status": func(r *http.Request) (*http.Response, error) { return respond(500, echo(r)) },
			"plain":  func(r *http.Request) (*http.Response, error) { return nil, errors.New(echo(r)) },
			"*url.Error": func(r *http.Request) (*http.Response, error) {
				return nil, &url.Error{Op: "Get", URL: echo(r), Err: io.EOF}
			},
			"wrapped": func(r *http.Request) (*http.Response, error) {
				return nil, fmt.Errorf("proxy: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New(echo(r))})
			},
		} {
			t.Run(string(api)+"/"+method+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newTestClient(t, api, func(cfg *crsapi.Config) { cfg.Method, cfg.Transport = method, transport })
					_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
					if err == nil {
						t.Fatal("no error")
					}
					for e := err; e != nil; e = errors.Unwrap(e) {
						for _, form := range []string{"%v", "%+v", "%#v", "%q"} {
							text := fmt.Sprintf(form, e) + crsapi.Advice(e, api)
							for _, secret := range []string{canaryID, canaryKey, canaryToken, signature, url.QueryEscape(canaryKey), url.QueryEscape(canaryToken), url.QueryEscape(signature), url.PathEscape(canaryToken)} {
								if strings.Contains(text, secret) {
									t.Errorf("%s shows %q: %s", form, secret, text)
								}
							}
						}
					}
				})
			})
		}
	}
}

// TestBrokenResponses cuts responses off, once and for ever.
func TestBrokenResponses(t *testing.T) {
	for name, test := range map[string]struct {
		do    crsapitest.Effect
		want  crsapi.Reason
		tries int
	}{
		"reset before the headers": {crsapitest.ResetBeforeHeaders, crsapi.ReasonNetwork, 4},
		"reset after the headers":  {crsapitest.ResetAfterHeaders, crsapi.ReasonNetwork, 4},
		"reset in the body":        {crsapitest.ResetMidBody, crsapi.ReasonNetwork, 4},
		"short body":               {crsapitest.ShortBody, crsapi.ReasonNetwork, 4},
		"half of the JSON":         {crsapitest.TruncatedJSON, crsapi.ReasonDecode, 2},
		"hang":                     {crsapitest.Hang, crsapi.ReasonTimeout, 4},
		"slow headers":             {crsapitest.SlowHeaders(time.Second), crsapi.ReasonTimeout, 4},
		"slow body":                {crsapitest.SlowBody(10, time.Second), crsapi.ReasonTimeout, 4},
		"endless body":             {crsapitest.EndlessBody, crsapi.ReasonDecode, 1},
		"gzip bomb":                {crsapitest.GzipBomb(9 << 20), crsapi.ReasonDecode, 1},
		"HTML with status 200":     {crsapitest.HTTPStatus(200), crsapi.ReasonDecode, 2},
		"no error in the envelope": {crsapitest.Body(`{"Response":{"RequestId":"r"}}`), crsapi.ReasonDecode, 1},
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				synctest.Test(t, func(t *testing.T) {
					var seen recorder
					c, server := serve(t, api, crsapitest.DocumentExample(), func(cfg *crsapi.Config) { cfg.Observe = seen.observe })
					clear := server.Inject(crsapitest.Fault{Do: test.do})
					_, err := c.Page(t.Context(), crsapi.Query{})
					var failed *crsapi.Error
					if !errors.As(err, &failed) || failed.Reason != test.want || !failed.Requested {
						t.Errorf("got %v, want reason %s", err, test.want)
					}
					if got := seen.reasons(); !slices.Equal(got, slices.Repeat([]crsapi.Reason{test.want}, test.tries)) {
						t.Errorf("attempts %v, want %d of %s", got, test.tries, test.want)
					}
					clear()
					if test.tries > 1 {
						server.Inject(crsapitest.Fault{Count: 1, Do: test.do})
					}
					if p, err := c.Page(t.Context(), crsapi.Query{}); err != nil || len(p.Tasks) != 9 {
						t.Errorf("after the fault: %+v, %v", p, err)
					}
				})
			})
		})
	}
}

// TestNoReplay closes a kept connection during a request: net/http must not
// send the request again, because the API refuses a nonce that it has seen.
func TestNoReplay(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		var mu sync.Mutex
		sent := map[string]int{}
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			requests++
			n := requests
			sent[r.FormValue("Nonce")]++
			mu.Unlock()
			if n == 2 {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, listJSON(api, 0))
		}))
		defer server.Close()
		var seen recorder
		c := newTestClient(t, api, func(cfg *crsapi.Config) { cfg.Endpoint, cfg.Observe = server.URL, seen.observe })
		for range 2 {
			if _, err := c.Page(t.Context(), crsapi.Query{Limit: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if want := []crsapi.Reason{"", crsapi.ReasonNetwork, ""}; fmt.Sprint(seen.reasons()) != fmt.Sprint(want) {
			t.Errorf("attempts %v, want %v", seen.reasons(), want)
		}
		if requests != 3 || api == crsapi.API20 && len(sent) != 3 {
			t.Errorf("%d nonces in %d requests, want 3 in 3", len(sent), requests)
		}
	})
}

func TestBodyLimit(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, handler := range map[string]http.HandlerFunc{
			"endless": func(w http.ResponseWriter, _ *http.Request) {
				chunk := bytes.Repeat([]byte(" "), 1<<20)
				for {
					if _, err := w.Write(chunk); err != nil {
						return
					}
				}
			},
			"gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				chunk := bytes.Repeat([]byte(" "), 1<<20)
				for range 12 {
					if _, err := z.Write(chunk); err != nil {
						return
					}
				}
				_ = z.Close()
			},
		} {
			t.Run(name, func(t *testing.T) {
				server := httptest.NewServer(handler)
				defer server.Close()
				c := newTestClient(t, api, func(cfg *crsapi.Config) { cfg.Endpoint = server.URL })
				_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
				var failed *crsapi.Error
				if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonDecode || !strings.Contains(err.Error(), "larger than 8 MiB") {
					t.Errorf("got %v, want decode: larger than 8 MiB", err)
				}
			})
		}
	})
}

func TestRedirectIsNotFollowed(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Error("the signed request was sent to another host")
		}))
		defer elsewhere.Close()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.String(), http.StatusTemporaryRedirect)
		}))
		defer server.Close()
		c := newTestClient(t, api, func(cfg *crsapi.Config) { cfg.Endpoint = server.URL })
		_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
		var failed *crsapi.Error
		if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonAPI || failed.HTTPStatus != http.StatusTemporaryRedirect {
			t.Errorf("got %v, want reason api with HTTP status 307", err)
		}
	})
}

func TestClockSkew(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		// Requests are sent 0.4 s into a second, and responses arrive 0.2 s later.
		for name, test := range map[string]struct {
			header time.Duration // of the Date header, from the second of the request
			want   time.Duration
		}{
			"same second":    {0, 0},
			"next second":    {time.Second, 400 * time.Millisecond},
			"second before":  {-time.Second, -400 * time.Millisecond},
			"an hour ahead":  {time.Hour, time.Hour - 600*time.Millisecond},
			"an hour behind": {-time.Hour, -time.Hour + 600*time.Millisecond},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					date := time.Now().UTC().Add(test.header).Format(http.TimeFormat)
					a := attemptWithDate(t, api, date)
					if !a.HasClockSkew || a.ClockSkew != test.want || a.Duration != 200*time.Millisecond {
						t.Errorf("got %+v, want a skew of %v", a, test.want)
					}
				})
			})
		}
		for name, date := range map[string]string{"no header": "", "invalid header": "yesterday"} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if a := attemptWithDate(t, api, date); a.HasClockSkew || a.ClockSkew != 0 {
						t.Errorf("got %+v", a)
					}
				})
			})
		}
	})
}

func attemptWithDate(t *testing.T, api crsapi.API, date string) crsapi.Attempt {
	t.Helper()
	time.Sleep(400 * time.Millisecond)
	var seen recorder
	c := newTestClient(t, api, func(cfg *crsapi.Config) {
		cfg.Observe = seen.observe
		cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
			time.Sleep(200 * time.Millisecond)
			resp, err := respond(http.StatusOK, listJSON(api, 0))
			resp.Header.Set("Date", date)
			return resp, err
		})
	})
	if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
		t.Fatal(err)
	}
	return seen.attempts[0]
}

// providerFunc is a Provider.
type providerFunc func(context.Context) (credentials.Key, error)

func (f providerFunc) Key(ctx context.Context) (credentials.Key, error) { return f(ctx) }

func TestNoKey(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		broken := errors.New("file is gone")
		for name, test := range map[string]struct {
			provider credentials.Provider
			want     string
		}{
			"provider fails": {providerFunc(func(context.Context) (credentials.Key, error) { return credentials.Key{}, broken }), "credentials: file is gone"},
			"empty key":      {credentials.Static{}, "credentials: the SecretId is empty"},
		} {
			t.Run(name, func(t *testing.T) {
				var seen recorder
				c := newTestClient(t, api, func(cfg *crsapi.Config) {
					cfg.Credentials, cfg.Observe = test.provider, seen.observe
					cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
						t.Error("a request was sent")
						return respond(500, "")
					})
				})
				_, err := c.Page(t.Context(), crsapi.Query{})
				var failed *crsapi.Error
				if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonAuth || failed.Requested || !strings.HasSuffix(err.Error(), test.want) {
					t.Errorf("got %v, want auth: %s", err, test.want)
				}
				if len(seen.attempts) > 0 {
					t.Errorf("attempts %v", seen.attempts)
				}
			})
		}
	})
}

// TestQueueDeadline checks that a call stops at its deadline while others use
// all slots.
func TestQueueDeadline(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			c := newTestClient(t, api, func(cfg *crsapi.Config) {
				cfg.Concurrency = 1
				cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
					time.Sleep(4 * time.Second)
					return respond(http.StatusOK, listJSON(api, 0))
				})
			})
			var first sync.WaitGroup
			first.Go(func() {
				if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Page(ctx, crsapi.Query{})
			var failed *crsapi.Error
			if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonTimeout || failed.Requested {
				t.Errorf("got %v, want a timeout without a request", err)
			}
			first.Wait()
		})
	})
}

// rotated returns the same key until that is refused.
type rotated struct {
	id       string
	held     credentials.Key
	refusals int
}

func (r *rotated) Key(context.Context) (credentials.Key, error) {
	if r.held.SecretID == "" {
		r.held = credentials.Key{SecretID: r.id, SecretKey: canaryKey}
	}
	return r.held, nil
}

func (r *rotated) Refused(c credentials.Key) {
	r.refusals++
	if c == r.held {
		r.held = credentials.Key{}
	}
}

// TestRenewedKey: a key that is refused is sent once, and the one that takes its place
// once, whether it is good or not.
func TestRenewedKey(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, test := range map[string]struct {
			body  string   // of the refusal
			next  []string // keys after the first
			want  string   // keys of the requests
			works bool
		}{
			"the same key":         {apiError(4104, ""), []string{"old"}, "[old]", false},
			"a good key":           {apiError(4104, ""), []string{"good"}, "[old good]", true},
			"3.0, a good key":      {envelope("AuthFailure.TokenFailure"), []string{"good"}, "[old good]", true},
			"another bad key":      {apiError(4100, ""), []string{"bad", "worse"}, "[old bad]", false},
			"no key":               {apiError(4104, ""), []string{""}, "[old]", false},
			"denied, a good key":   {apiError(4102, ""), []string{"good"}, "[old]", false},
			"expired, the old key": {apiError(4200, ""), []string{"old"}, "[old old]", false},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var sent []string
					keys := &renewing{ids: append([]string{"old"}, test.next...)}
					c := newTestClient(t, api, func(cfg *crsapi.Config) {
						cfg.Credentials = keys
						cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
							id := read(r).secretID
							sent = append(sent, id)
							if id == "good" {
								return respond(http.StatusOK, listJSON(api, 0))
							}
							return respond(http.StatusOK, test.body)
						})
					})
					if _, err := c.Page(t.Context(), crsapi.Query{}); (err == nil) != test.works || fmt.Sprint(sent) != test.want {
						t.Errorf("keys %v, want %s; error %v", sent, test.want, err)
					}
				})
			})
		}
	})
}

// renewing is a Provider that has the next key after each refusal, and no other after
// the last.
type renewing struct{ ids []string }

func (r *renewing) Key(context.Context) (credentials.Key, error) {
	return credentials.Key{SecretID: r.ids[0], SecretKey: canaryKey}, nil
}

func (r *renewing) Refused(key credentials.Key) {
	if key.SecretID == r.ids[0] && len(r.ids) > 1 {
		r.ids = r.ids[1:]
	}
}

// TestUnrequestedEncoding: what a server or a proxy encodes in a way that nobody asked
// for is named.
func TestUnrequestedEncoding(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for encoding, want := range map[string]string{
			"br": `the response has the content encoding "br", which was not requested`, "identity": "", "": "",
		} {
			c := newTestClient(t, api, func(cfg *crsapi.Config) {
				cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
					resp, err := respond(http.StatusOK, listJSON(api, 0))
					resp.Header.Set("Content-Encoding", encoding)
					return resp, err
				})
			})
			_, err := c.Page(t.Context(), crsapi.Query{})
			var failed *crsapi.Error
			switch {
			case want == "" && err != nil:
				t.Errorf("%q: %v", encoding, err)
			case want != "" && (!errors.As(err, &failed) || failed.Reason != crsapi.ReasonDecode || !strings.HasSuffix(err.Error(), ": "+want)):
				t.Errorf("%q: got %v, want %s", encoding, err, want)
			}
		}
	})
}

// TestRefusalsAreReported sends requests to an API that has revoked a key.
func TestRefusalsAreReported(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, test := range map[string]struct {
			body string
			read bool // a new key is used next
		}{
			"4100":         {apiError(4100, ""), true},
			"4104":         {apiError(4104, ""), true},
			"4105":         {apiError(4105, ""), true},
			"4106":         {apiError(4106, ""), true},
			"AuthFailure":  {envelope("AuthFailure.TokenFailure"), true},
			"expired":      {apiError(4200, ""), false},
			"replayed":     {apiError(4500, ""), false},
			"denied":       {apiError(4103, ""), false},
			"over quota":   {apiError(4400, ""), false},
			"server error": {apiError(6000, ""), false},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := &rotated{id: "old"}
					c := newTestClient(t, api, func(cfg *crsapi.Config) {
						cfg.Credentials = r
						cfg.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
							if read(req).secretID == "old" {
								return respond(http.StatusOK, test.body)
							}
							return respond(http.StatusOK, listJSON(api, 0))
						})
					})
					if _, err := c.Page(t.Context(), crsapi.Query{Limit: 1}); err == nil {
						t.Error("the old key is accepted")
					}
					r.id = "new"
					_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
					if got := err == nil; got != test.read {
						t.Errorf("with the new key: %v", err)
					}
				})
			})
		}
	})
}
