package crsapi

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
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transportFunc answers requests without a network, so that the clock of a
// synctest bubble can be used.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func apiError(code any, message string) string {
	return fmt.Sprintf(`{"code":%v,"message":%q,"codeDesc":"Desc"}`, code, message)
}

// recorder keeps what Observe was told.
type recorder struct {
	mu       sync.Mutex
	attempts []Attempt
}

func (r *recorder) observe(a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, a)
}

func (r *recorder) reasons() []Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	reasons := []Reason{}
	for _, a := range r.attempts {
		reasons = append(reasons, a.Reason)
	}
	return reasons
}

const (
	canaryID    = "AKIDcanary/id+1"
	canaryKey   = "canary-key+/=2"
	canaryToken = "canary token+/=3"
)

func newTestClient(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		Region:      "ap-guangzhou",
		Credentials: credentials.Static{SecretID: canaryID, SecretKey: canaryKey, Token: canaryToken},
		UTCOffset:   8 * time.Hour,
	}
	change(&cfg)
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestRetries(t *testing.T) {
	broken := errors.New("connection reset by peer")
	often := func(r Reason) []Reason { return []Reason{r, r, r, r} }
	once := func(r Reason) []Reason { return []Reason{r} }
	twice := func(r Reason) []Reason { return []Reason{r, r} }
	for name, test := range map[string]struct {
		status int
		body   string
		err    error
		want   []Reason // of the attempts, the last also of the error
	}{
		"4000":        {body: apiError(4000, ""), want: once(ReasonAPI)},
		"4100":        {body: apiError(4100, ""), want: once(ReasonAuth)},
		"4101":        {body: apiError(4101, ""), want: once(ReasonDenied)},
		"4102":        {body: apiError(4102, ""), want: once(ReasonDenied)},
		"4103":        {body: apiError(4103, ""), want: once(ReasonDenied)},
		"4104":        {body: apiError(4104, ""), want: once(ReasonAuth)},
		"4105":        {body: apiError(4105, ""), want: once(ReasonAuth)},
		"4106":        {body: apiError(4106, ""), want: once(ReasonAuth)},
		"4110":        {body: apiError(4110, ""), want: once(ReasonDenied)},
		"4200":        {body: apiError(4200, ""), want: twice(ReasonAuth)},
		"4300":        {body: apiError(4300, ""), want: once(ReasonDenied)},
		"4400":        {body: apiError(4400, ""), want: often(ReasonThrottled)},
		"4420":        {body: apiError(4420, ""), want: often(ReasonThrottled)},
		"4480":        {body: apiError(4480, ""), want: often(ReasonThrottled)},
		"4500":        {body: apiError(4500, ""), want: twice(ReasonAuth)},
		"4600":        {body: apiError(4600, ""), want: once(ReasonAPI)},
		"5000":        {body: apiError(5000, ""), want: once(ReasonAPI)},
		"5100":        {body: apiError(5100, ""), want: often(ReasonServer)},
		"6000":        {body: apiError(6000, ""), want: often(ReasonServer)},
		"6100":        {body: apiError(6100, ""), want: once(ReasonAPI)},
		"6200":        {body: apiError(6200, ""), want: often(ReasonServer)},
		"string code": {body: apiError(`"4100"`, ""), want: once(ReasonAuth)},
		"a new code":  {body: apiError(-1, ""), want: once(ReasonAPI)},
		"a word":      {body: apiError(`"Oops"`, ""), want: once(ReasonAPI)},

		"AuthFailure":           {body: envelope("AuthFailure.SignatureFailure"), want: once(ReasonAuth)},
		"AuthFailure expired":   {body: envelope("AuthFailure.SignatureExpire"), want: twice(ReasonAuth)},
		"AuthFailure not may":   {body: envelope("AuthFailure.UnauthorizedOperation"), want: once(ReasonDenied)},
		"UnauthorizedOperation": {body: envelope("UnauthorizedOperation"), want: once(ReasonDenied)},
		"RequestLimitExceeded":  {body: envelope("RequestLimitExceeded"), want: often(ReasonThrottled)},
		"InternalError":         {body: envelope("InternalError.DbOperationFailed"), want: often(ReasonServer)},
		"SystemError":           {body: envelope("FailedOperation.SystemError"), want: often(ReasonServer)},
		"InvalidParameter":      {body: envelope("InvalidParameter"), want: once(ReasonAPI)},

		"204": {status: 204, want: once(ReasonAPI)},
		"302": {status: 302, want: once(ReasonAPI)},
		"400": {status: 400, want: once(ReasonAPI)},
		"401": {status: 401, want: once(ReasonDenied)},
		"403": {status: 403, want: once(ReasonDenied)},
		"404": {status: 404, want: once(ReasonAPI)},
		"429": {status: 429, want: often(ReasonThrottled)},
		"500": {status: 500, want: often(ReasonServer)},
		"503": {status: 503, want: often(ReasonServer)},

		"HTML":     {body: "<html>", want: once(ReasonDecode)},
		"empty":    {body: "", want: once(ReasonDecode)},
		"no total": {body: `{"code":0}`, want: once(ReasonDecode)},
		"reset":    {err: broken, want: often(ReasonNetwork)},
		"EOF":      {err: io.EOF, want: often(ReasonNetwork)},
		"timeout":  {err: context.DeadlineExceeded, want: often(ReasonTimeout)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signatures := map[string]bool{}
				var seen recorder
				c := newTestClient(t, func(cfg *Config) {
					cfg.Observe = seen.observe
					cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
						q := r.URL.Query()
						signatures[q.Get("Nonce")+q.Get("Signature")] = true
						if want := fmt.Sprint(time.Now().Unix()); q.Get("Timestamp") != want {
							t.Errorf("Timestamp %s, want the present %s", q.Get("Timestamp"), want)
						}
						if test.err != nil {
							return nil, test.err
						}
						if test.status == 0 {
							test.status = http.StatusOK
						}
						return respond(test.status, test.body)
					})
				})
				_, err := c.Page(t.Context(), Query{Limit: 1})
				var failed *Error
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
}

func envelope(code string) string {
	return fmt.Sprintf(`{"Response":{"Error":{"Code":%q,"Message":"m"},"RequestId":"r"}}`, code)
}

func TestErrorTells(t *testing.T) {
	c := newTestClient(t, func(cfg *Config) {
		cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
			return respond(200, `{"code":4000,"message":"(11201)\nwrong \u0007limit","codeDesc":"Desc"}`)
		})
	})
	_, err := c.Page(t.Context(), Query{Limit: 1})
	const want = "GetRedisTaskList redis.api.qcloud.com: API error 4000 (Desc): (11201) wrong  limit"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestRetryRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen recorder
		answers := []string{apiError(4500, ""), apiError(5100, ""), apiError(4400, ""), listJSON(1, rowJSON())}
		c := newTestClient(t, func(cfg *Config) {
			cfg.Observe = seen.observe
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
				body := answers[0]
				answers = answers[1:]
				return respond(200, body)
			})
		})
		p, err := c.Page(t.Context(), Query{Limit: 1})
		if err != nil || len(p.Tasks) != 1 {
			t.Fatalf("got %+v, %v", p, err)
		}
		want := []Reason{ReasonAuth, ReasonServer, ReasonThrottled, ""}
		if got := seen.reasons(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("attempts %v, want %v", got, want)
		}
	})
}

func TestDeadlines(t *testing.T) {
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
		want      []Reason
		reason    Reason // "" for context.Canceled
		within    time.Duration
	}{
		"an attempt runs out, and the next ones": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Hour)
		}, []Reason{ReasonTimeout, ReasonTimeout, ReasonTimeout, ReasonTimeout}, ReasonTimeout, 30 * time.Second},
		"the caller's deadline": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Second)
		}, []Reason{ReasonTimeout}, ReasonTimeout, 2 * time.Second},
		"the caller's cause": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(2*time.Second, func() { cancel(context.DeadlineExceeded) })
			return ctx, func() { cancel(nil) }
		}, []Reason{ReasonTimeout}, ReasonTimeout, 2 * time.Second},
		"the caller leaves": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(2*time.Second, cancel)
			return ctx, cancel
		}, []Reason{""}, "", 2 * time.Second},
		"no wait that ends after the deadline": {throttle, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, []Reason{ReasonThrottled}, ReasonThrottled, 0},
		"already over": {hang, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 0)
		}, []Reason{}, ReasonTimeout, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen recorder
				c := newTestClient(t, func(cfg *Config) {
					cfg.Observe, cfg.Transport = seen.observe, test.transport
				})
				begin := time.Now()
				ctx, cancel := test.context(t.Context())
				defer cancel()
				_, err := c.Page(ctx, Query{Limit: 1})
				if took := time.Since(begin); took > test.within {
					t.Errorf("took %v, want at most %v", took, test.within)
				}
				var failed *Error
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
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestClient(t, func(cfg *Config) {
			cfg.RateLimit = 20
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(200, listJSON(0)) })
		})
		begin := time.Now()
		for range 41 {
			if _, err := c.Page(t.Context(), Query{Limit: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("41 requests at 20 a second took %v, want 2s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := c.Page(ctx, Query{Limit: 1})
		var failed *Error
		if !errors.As(err, &failed) || failed.Reason != ReasonTimeout || failed.Requested {
			t.Errorf("got %v, want a timeout without a request", err)
		}
	})
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var now, most int
		c := newTestClient(t, func(cfg *Config) {
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
				return respond(200, listJSON(0))
			})
		})
		var group sync.WaitGroup
		for range 9 {
			group.Go(func() {
				if _, err := c.Page(t.Context(), Query{Limit: 1}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if most != 3 {
			t.Errorf("%d requests in flight, want 3", most)
		}
	})
}

// TestSecretsStayInside has everything that can be echoed echoed.
func TestSecretsStayInside(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		var signature string
		echo := func(r *http.Request) string {
			form := r.URL.Query()
			if r.Body != nil {
				body, _ := io.ReadAll(r.Body)
				if posted, err := url.ParseQuery(string(body)); err == nil && len(posted) > 0 {
					form = posted
				}
			}
			signature = form.Get("Signature")
			return strings.Join([]string{
				canaryID, canaryKey, canaryToken, signature, form.Encode(), r.URL.String(),
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
			t.Run(method+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newTestClient(t, func(cfg *Config) { cfg.Method, cfg.Transport = method, transport })
					_, err := c.Page(t.Context(), Query{Limit: 1})
					if err == nil {
						t.Fatal("no error")
					}
					for e := err; e != nil; e = errors.Unwrap(e) {
						for _, form := range []string{"%v", "%+v", "%#v", "%q"} {
							text := fmt.Sprintf(form, e)
							for _, secret := range []string{canaryID, canaryKey, canaryToken, signature, url.QueryEscape(canaryKey), url.QueryEscape(canaryToken), url.QueryEscape(signature), url.PathEscape(canaryToken)} {
								if strings.Contains(text, secret) {
									t.Errorf("%s tells %q: %s", form, secret, text)
								}
							}
						}
					}
				})
			})
		}
	}
	key := credentials.Key{SecretID: "id", SecretKey: canaryKey, Token: canaryToken}
	for _, form := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(form, key); strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") {
			t.Errorf("%s of Credentials tells a secret: %s", form, text)
		}
	}
}

func TestParametersOnTheWire(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			var form url.Values
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != method {
					t.Errorf("method %s", r.Method)
				}
				if method == http.MethodPost && r.URL.RawQuery != "" {
					t.Errorf("a POST with the query %q", r.URL.RawQuery)
				}
				_ = r.ParseForm()
				form = r.Form
				_, _ = io.WriteString(w, listJSON(0))
			}))
			defer server.Close()
			c := newTestClient(t, func(cfg *Config) {
				cfg.Endpoint, cfg.Method = server.URL+"/v2/index.php", method
			})
			_, err := c.Page(t.Context(), Query{
				Limit: 10, Offset: 20, RedisID: "crs-1", RedisName: "for API test",
				BeginTime: time.Date(2016, 12, 27, 16, 3, 52, 0, time.UTC),
				EndTime:   time.Date(2017, 2, 10, 16, 3, 52, 0, time.UTC),
				Statuses:  []Status{StatusSucceeded, StatusError}, TaskTypes: TaskTypes()[:2],
			})
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{
				"Action": "GetRedisTaskList", "Region": "ap-guangzhou", "SecretId": canaryID, "Token": canaryToken,
				"SignatureMethod": "HmacSHA256", "limit": "10", "offset": "20", "redisId": "crs-1",
				"redisName": "for API test", "beginTime": "2016-12-28 00:03:52", "endTime": "2017-02-11 00:03:52",
				"taskStatus.0": "2", "taskStatus.1": "-1", "taskType.0": "task_importRdb", "taskType.1": "task_exportBackup",
			} {
				if got := form.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
				form.Del(name)
			}
			for _, name := range []string{"Nonce", "Timestamp", "Signature"} {
				if form.Get(name) == "" {
					t.Errorf("no %s", name)
				}
				form.Del(name)
			}
			if len(form) > 0 {
				t.Errorf("parameters that nobody asked for: %v", form)
			}
		})
	}
}

// TestNoSilentReplay has a kept connection die under a request: net/http would
// send it again as it is, and the API refuses a Nonce that it has seen.
func TestNoSilentReplay(t *testing.T) {
	var mu sync.Mutex
	nonces := map[string]int{}
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests++
		n := requests
		nonces[r.FormValue("Nonce")]++
		mu.Unlock()
		if n == 2 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, listJSON(0))
	}))
	defer server.Close()
	var seen recorder
	c := newTestClient(t, func(cfg *Config) { cfg.Endpoint, cfg.Observe = server.URL, seen.observe })
	for range 2 {
		if _, err := c.Page(t.Context(), Query{Limit: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []Reason{"", ReasonNetwork, ""}; fmt.Sprint(seen.reasons()) != fmt.Sprint(want) {
		t.Errorf("attempts %v, want %v", seen.reasons(), want)
	}
	if len(nonces) != 3 || requests != 3 {
		t.Errorf("%d nonces in %d requests, want 3 in 3", len(nonces), requests)
	}
}

func TestBodiesAreBounded(t *testing.T) {
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
			for range 100 {
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
			c := newTestClient(t, func(cfg *Config) { cfg.Endpoint = server.URL })
			_, err := c.Page(t.Context(), Query{Limit: 1})
			var failed *Error
			if !errors.As(err, &failed) || failed.Reason != ReasonDecode || !strings.Contains(err.Error(), "larger than 8 MiB") {
				t.Errorf("got %v, want decode: larger than 8 MiB", err)
			}
		})
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the signed request went to another host")
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.String(), http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c := newTestClient(t, func(cfg *Config) { cfg.Endpoint = server.URL })
	_, err := c.Page(t.Context(), Query{Limit: 1})
	var failed *Error
	if !errors.As(err, &failed) || failed.Reason != ReasonAPI || failed.HTTPStatus != http.StatusTemporaryRedirect {
		t.Errorf("got %v, want api of HTTP status 307", err)
	}
}

func TestClockSkew(t *testing.T) {
	sent := time.Date(2026, 1, 1, 0, 0, 10, 4e8, time.UTC)
	received := sent.Add(200 * time.Millisecond)
	for name, test := range map[string]struct {
		date string
		want time.Duration
		ok   bool
	}{
		"the same second":  {"Thu, 01 Jan 2026 00:00:10 GMT", 0, true},
		"the second after": {"Thu, 01 Jan 2026 00:00:11 GMT", 400 * time.Millisecond, true},
		"the one before":   {"Thu, 01 Jan 2026 00:00:09 GMT", -400 * time.Millisecond, true},
		"an hour ahead":    {"Thu, 01 Jan 2026 01:00:10 GMT", time.Hour - 600*time.Millisecond, true},
		"an hour behind":   {"Wed, 31 Dec 2025 23:00:10 GMT", -time.Hour + 600*time.Millisecond, true},
		"none":             {"", 0, false},
		"nonsense":         {"yesterday", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := clockSkew(test.date, sent, received); got != test.want || ok != test.ok {
				t.Errorf("got %v, %v, want %v, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestNewClientRefuses(t *testing.T) {
	good := Config{Region: "r", Credentials: credentials.Static{SecretID: "i", SecretKey: "k"}}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no region":            {func(c *Config) { c.Region = "" }, "region is empty"},
		"no provider":          {func(c *Config) { c.Credentials = nil }, "no provider"},
		"ftp":                  {func(c *Config) { c.Endpoint = "ftp://h/" }, "no http or https URL"},
		"no scheme":            {func(c *Config) { c.Endpoint = "redis.api.qcloud.com" }, "no http or https URL"},
		"a password":           {func(c *Config) { c.Endpoint = "https://u:canary@h/" }, "more than scheme"},
		"a password, unparsed": {func(c *Config) { c.Endpoint = "https://u:canary@h:x/" }, "no http or https URL"},
		"a query":              {func(c *Config) { c.Endpoint = "https://h/?a=b" }, "more than scheme"},
		"PUT":                  {func(c *Config) { c.Method = "PUT" }, "not GET or POST"},
		"page size":            {func(c *Config) { c.PageSize = -1 }, "page size"},
		"concurrency":          {func(c *Config) { c.Concurrency = -1 }, "concurrency"},
		"rate":                 {func(c *Config) { c.RateLimit = -1 }, "rate limit"},
		"timeout":              {func(c *Config) { c.RequestTimeout = -1 }, "request timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			test.change(&cfg)
			_, err := NewClient(cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := NewClient(good); err != nil {
		t.Errorf("refused a good one: %v", err)
	}
}

func TestQueryRefuses(t *testing.T) {
	c := newTestClient(t, func(cfg *Config) {
		cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
			t.Error("a request was sent")
			return respond(500, "")
		})
	})
	for name, q := range map[string]Query{
		"limit 0":       {},
		"offset":        {Limit: 1, Offset: -1},
		"no task type":  {Limit: 1, TaskTypes: []string{"backupInstance"}},
		"a later one":   {Limit: 1, TaskTypes: []string{"task_upgradeArch"}},
		"limit below 0": {Limit: -1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.Page(t.Context(), q); err == nil || !strings.HasPrefix(err.Error(), "query: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// rotated gives the key that it read last, and reads again once that is refused.
type rotated struct {
	id   string
	held credentials.Key
}

func (r *rotated) Key(context.Context) (credentials.Key, error) {
	if r.held.SecretID == "" {
		r.held = credentials.Key{SecretID: r.id, SecretKey: "k"}
	}
	return r.held, nil
}

func (r *rotated) Refused(c credentials.Key) {
	if c == r.held {
		r.held = credentials.Key{}
	}
}

// TestClientTellsRefusals asks an API that has just revoked a key.
func TestClientTellsRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		read bool // the source is read again
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
				c := newTestClient(t, func(cfg *Config) {
					cfg.Credentials = r
					cfg.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
						if req.URL.Query().Get("SecretId") == "old" {
							return respond(http.StatusOK, test.body)
						}
						return respond(http.StatusOK, `{"code":0,"totalCount":0,"data":{"redisTaskSet":[]}}`)
					})
				})
				if _, err := c.Page(t.Context(), Query{Limit: 1}); err == nil {
					t.Error("the old key is good")
				}
				r.id = "new"
				_, err := c.Page(t.Context(), Query{Limit: 1})
				if got := err == nil; got != test.read {
					t.Errorf("then %v", err)
				}
			})
		})
	}
}
