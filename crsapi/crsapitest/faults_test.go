package crsapitest_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// codes asks n times and returns the codes answered.
func codes(t testing.TB, a *asker, n int) []int {
	t.Helper()
	var got []int
	for range n {
		got = append(got, a.code(t))
	}
	return got
}

func TestFaultsByRegionCountAndRate(t *testing.T) {
	expect := func(t *testing.T, a *asker, want ...int) {
		t.Helper()
		if got := codes(t, a, len(want)); !slices.Equal(got, want) {
			t.Errorf("codes %v, want %v", got, want)
		}
	}
	t.Run("region", func(t *testing.T) {
		srv, a := newServer(t)
		srv.SetTasks("ap-other", nil)
		srv.Inject(crsapitest.Fault{Region: "ap-other", Do: crsapitest.APIError(4103)})
		expect(t, a, 0, 0)
		a.region = "ap-other"
		expect(t, a, 4103, 4103)
	})
	t.Run("skip and count", func(t *testing.T) {
		srv, a := newServer(t)
		srv.Inject(crsapitest.Fault{Skip: 2, Count: 3, Do: crsapitest.APIError(6000)})
		expect(t, a, 0, 0, 6000, 6000, 6000, 0, 0)
	})
	t.Run("a refused request is not counted", func(t *testing.T) {
		srv, a := newServer(t)
		srv.Inject(crsapitest.Fault{Skip: 1, Count: 1, Do: crsapitest.APIError(6000)})
		a.key = "wrong"
		expect(t, a, 4100, 4100, 4100)
		a.key = crsapitest.SecretKey
		expect(t, a, 0, 6000, 0)
	})
	t.Run("rate", func(t *testing.T) {
		srv, a := newServer(t)
		draw := func(seed uint64) []int {
			srv.Heal()
			srv.Seed(seed)
			srv.Inject(crsapitest.Fault{Rate: 0.5, Do: crsapitest.APIError(5100)})
			return codes(t, a, 200)
		}
		first, again, other := draw(1), draw(1), draw(2)
		failed := 0
		for _, code := range first {
			if code == 5100 {
				failed++
			}
		}
		if failed < 70 || failed > 130 {
			t.Errorf("%d of 200 failed", failed)
		}
		if !slices.Equal(first, again) || slices.Equal(first, other) {
			t.Error("the seed does not decide")
		}
	})
	t.Run("rate and count", func(t *testing.T) {
		srv, a := newServer(t)
		srv.Inject(crsapitest.Fault{Rate: 0.5, Count: 2, Do: crsapitest.APIError(5100)})
		codes(t, a, 50)
		if n := srv.Answers(region, 5100); n != 2 {
			t.Errorf("%d failed, want 2", n)
		}
	})
	t.Run("removed and healed", func(t *testing.T) {
		srv, a := newServer(t)
		remove := srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(5100)})
		srv.Inject(crsapitest.Fault{Skip: 2, Do: crsapitest.APIError(6200)})
		expect(t, a, 5100)
		remove()
		remove()
		expect(t, a, 0, 6200)
		srv.Heal()
		expect(t, a, 0)
	})
	t.Run("together, the last decides", func(t *testing.T) {
		srv, a := newServer(t)
		srv.SetTasks(region, numbered(9))
		srv.Inject(crsapitest.Fault{Do: crsapitest.PageCap(3)})
		srv.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.IgnoreOffset(), crsapitest.TotalDelta(1))})
		if got := a.list(t, "offset", "5"); got != "10: 0 1 2" {
			t.Error(got)
		}
		srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(5100)})
		srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(6000)})
		expect(t, a, 6000)
	})
	t.Run("mistakes", func(t *testing.T) {
		for name, f := range map[string]func(){
			"no effect":         func() { crsapitest.New().Inject(crsapitest.Fault{}) },
			"negative count":    func() { crsapitest.New().Inject(crsapitest.Fault{Count: -1, Do: crsapitest.Hang()}) },
			"negative skip":     func() { crsapitest.New().Inject(crsapitest.Fault{Skip: -1, Do: crsapitest.Hang()}) },
			"rate over 1":       func() { crsapitest.New().Inject(crsapitest.Fault{Rate: 1.5, Do: crsapitest.Hang()}) },
			"rate not a number": func() { crsapitest.New().Inject(crsapitest.Fault{Rate: math.NaN(), Do: crsapitest.Hang()}) },
			"status 0":          func() { crsapitest.HTTPStatus(0) },
			"cap 0":             func() { crsapitest.PageCap(40, 0) },
			"no cap":            func() { crsapitest.PageCap() },
			"limit 0":           func() { crsapitest.RateLimit(0) },
			"slow by 0":         func() { crsapitest.SlowBody(0, 0) },
			"no region":         func() { crsapitest.New().SetTasks("", nil) },
			"no key":            func() { crsapitest.New().SetAccount(crsapitest.Account{SecretID: "a"}) },
			"short window":      func() { crsapitest.New().SetWindow(time.Millisecond) },
			"drop less":         func() { crsapitest.New().Drop(region, -1) },
			"jitter negative":   func() { crsapitest.TotalJitter(-1) },
			"no instances":      func() { crsapitest.Generate(1, 0, 1) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", name)
					}
				}()
				f()
			}()
		}
	})
}

// Each documented code must come with the words that the documents have for it.
func TestAPIErrors(t *testing.T) {
	srv, a := newServer(t)
	for _, code := range []int{
		4000, 4100, 4101, 4102, 4103, 4104, 4105, 4106, 4110, 4200, 4300, 4400, 4420, 4480, 4500, 4600, 5000, 5100, 6000, 6100, 6200, 9999,
	} {
		remove := srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(code)})
		desc := map[int]string{4000: "InvalidParameter", 4100: "AuthFailure", 4400: "RequestLimitExceeded", 4420: "RequestLimitExceeded", 4480: "RequestLimitExceeded"}[code]
		if d := a.ask(t).documented(t); d.Code != code || d.CodeDesc != desc || d.Message == "" {
			t.Errorf("%d: %+v", code, d)
		}
		remove()
	}
}

func TestAnswers(t *testing.T) {
	const page = `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":[`
	tests := []struct {
		name   string
		do     crsapitest.Effect
		status int
		body   string // a prefix where it ends in "…"
		header map[string]string
	}{
		{name: "none", do: crsapitest.All(), status: 200, body: page + "…"},
		{
			name: "API error in words", do: crsapitest.APIErrorText(4000, "Desc", "(11201)\"quoted\""), status: 200,
			body: `{"code":4000,"message":"(11201)\"quoted\"","codeDesc":"Desc"}`,
		},
		{
			name: "API error with a string code", do: crsapitest.All(crsapitest.APIErrorText(4400, "d", "m"), crsapitest.StringCode()), status: 200,
			body: `{"code":"4400","message":"m","codeDesc":"d"}`,
		},
		{
			name: "API 3.0 envelope", do: crsapitest.Envelope("AuthFailure.SignatureFailure", "no"), status: 200,
			body: `{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure","Message":"no"},"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"}}`,
		},
		{
			name: "HTTP status", do: crsapitest.HTTPStatus(502), status: 502,
			body:   "<html>\r\n<head><title>502 Bad Gateway</title></head>…",
			header: map[string]string{"Content-Type": "text/html; charset=utf-8"},
		},
		{
			name: "HTML with 200", do: crsapitest.HTTPStatus(200), status: 200,
			body:   "<html>…",
			header: map[string]string{"Content-Type": "text/html; charset=utf-8"},
		},
		{
			name: "HTTP status with a header", do: crsapitest.All(crsapitest.HTTPStatus(429), crsapitest.Header("Retry-After", "7")), status: 429,
			body:   "<html>…",
			header: map[string]string{"Retry-After": "7"},
		},
		{
			name: "no content", do: crsapitest.HTTPStatus(204), status: 204,
			body: "",
		},
		{
			name: "redirect", do: crsapitest.Redirect("https://elsewhere.example/v2/index.php"), status: 307,
			body:   "<html>…",
			header: map[string]string{"Location": "https://elsewhere.example/v2/index.php"},
		},
		{name: "other body", do: crsapitest.Body("not JSON"), status: 200, body: "not JSON"},
		{name: "empty body", do: crsapitest.Body(""), status: 200, body: ""},
		{
			name: "handler", do: crsapitest.All(crsapitest.DateSkew(0), crsapitest.Header("X-Kept", "1"), crsapitest.Respond(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "short and stout")
			}))), status: 418,
			body:   "short and stout",
			header: map[string]string{"X-Kept": "1", "Content-Type": "text/plain; charset=utf-8"},
		},
		{name: "string code", do: crsapitest.StringCode(), status: 200, body: `{"code":"0","message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":[{…`},
		{name: "string total", do: crsapitest.StringTotal(), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":"3","data":{"redisTaskSet":[{…`},
		{name: "data null", do: crsapitest.Data("null"), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":null}`},
		{name: "data array", do: crsapitest.Data("[]"), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":[]}`},
		{name: "data missing", do: crsapitest.Data(""), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3}`},
		{name: "set null", do: crsapitest.TaskSet("null"), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":null}}`},
		{name: "set object", do: crsapitest.TaskSet("{}"), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":{}}}`},
		{name: "set missing", do: crsapitest.TaskSet(""), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{}}`},
		{name: "null only when empty", do: crsapitest.WhenEmpty(crsapitest.Data("null")), status: 200, body: page + "{…"},
		{
			name: "float progress", do: crsapitest.All(crsapitest.FloatProgress(), crsapitest.PageCap(1)), status: 200,
			body: page + `{"startTime":"2024-03-01 20:00:00","taskName":"backupInstance","redisName":"n","redisId":"0","projectId":0,"status":2,"progress":1.0}]}}`,
		},
		{name: "total", do: crsapitest.Total(-1), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":-1,"data":{…`},
		{name: "total off", do: crsapitest.TotalDelta(-5), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":-2,"data":{…`},
		{name: "no Date", do: crsapitest.NoDate(), status: 200, body: page + "…", header: map[string]string{"Date": ""}},
	}
	srv, a := newServer(t)
	srv.SetTasks(region, numbered(3))
	a.client = &http.Client{
		Transport:     srv.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv.Heal()
			srv.Inject(crsapitest.Fault{Do: test.do})
			res := a.ask(t)
			if res.err != nil || res.StatusCode != test.status {
				t.Fatalf("%v, error %v", res.Response, res.err)
			}
			prefix, cut := strings.CutSuffix(test.body, "…")
			if body := string(res.body); body != test.body && (!cut || !strings.HasPrefix(body, prefix)) {
				t.Errorf("body %q, want %q", body, test.body)
			}
			for name, want := range test.header {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
	t.Run("null when empty", func(t *testing.T) {
		srv.Heal()
		srv.Inject(crsapitest.Fault{Do: crsapitest.WhenEmpty(crsapitest.Data("null"), crsapitest.StringTotal())})
		if body := string(a.ask(t, "offset", "3").body); body != `{"code":0,"message":"","codeDesc":"Success","totalCount":"3","data":null}` {
			t.Error(body)
		}
	})
	t.Run("total at random", func(t *testing.T) {
		srv.Heal()
		srv.Inject(crsapitest.Fault{Do: crsapitest.TotalJitter(1)})
		seen := map[int]bool{}
		for range 100 {
			seen[a.ask(t).documented(t).TotalCount] = true
		}
		if len(seen) != 3 || !seen[2] || !seen[3] || !seen[4] {
			t.Errorf("totals %v", seen)
		}
	})
	t.Run("Date", func(t *testing.T) {
		srv.Heal()
		srv.Inject(crsapitest.Fault{Do: crsapitest.DateSkew(-time.Hour)})
		date, err := http.ParseTime(a.ask(t).Header.Get("Date"))
		if off := time.Since(date); err != nil || off < 59*time.Minute || off > 61*time.Minute {
			t.Errorf("off by %v, error %v", off, err)
		}
	})
}

func TestPagingFaults(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks(region, numbered(10))
	type page struct{ offset, limit, want string }
	tests := []struct {
		name  string
		do    crsapitest.Effect
		pages []page
	}{
		{"page cap", crsapitest.PageCap(3), []page{{"0", "5", "10: 0 1 2"}, {"5", "2", "10: 5 6"}}},
		{"page caps in turn", crsapitest.PageCap(3, 1), []page{{"0", "5", "10: 0 1 2"}, {"3", "5", "10: 3"}, {"4", "5", "10: 4 5 6"}}},
		{"offsets rounded to the limit", crsapitest.RoundOffsets(), []page{{"0", "4", "10: 0 1 2 3"}, {"4", "4", "10: 4 5 6 7"}, {"7", "4", "10: 4 5 6 7"}}},
		{
			"offsets rounded to the cap",
			crsapitest.All(crsapitest.RoundOffsets(), crsapitest.PageCap(3)),
			[]page{{"3", "5", "10: 3 4 5"}, {"5", "5", "10: 3 4 5"}},
		},
		{"offsets ignored", crsapitest.IgnoreOffset(), []page{{"0", "2", "10: 0 1"}, {"8", "2", "10: 0 1"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv.Heal()
			srv.Inject(crsapitest.Fault{Do: test.do})
			for _, p := range test.pages {
				if got := a.list(t, "offset", p.offset, "limit", p.limit); got != p.want {
					t.Errorf("offset %s limit %s: %s, want %s", p.offset, p.limit, got, p.want)
				}
			}
		})
	}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a := newMemoryServer(t)
		srv.SetTasks("ap-other", nil)
		srv.Inject(crsapitest.Fault{Do: crsapitest.RateLimit(3)})
		expect := func(want ...int) {
			t.Helper()
			if got := codes(t, a, len(want)); !slices.Equal(got, want) {
				t.Errorf("codes %v, want %v", got, want)
			}
		}
		expect(0, 0, 0, 4400, 4400)
		time.Sleep(time.Second/3 + time.Millisecond)
		expect(0, 4400)
		time.Sleep(time.Hour)
		expect(0, 0, 0, 4400)
		a.region = "ap-other"
		expect(0, 0, 0, 4400)
	})
}

func TestWireFaults(t *testing.T) {
	for _, kind := range []struct {
		name  string
		start func() *crsapitest.Server
		tcp   bool
	}{
		{"TCP", crsapitest.NewServer, true},
		{"TLS", crsapitest.NewTLSServer, true},
		{"memory", crsapitest.NewMemoryServer, false},
	} {
		t.Run(kind.name, func(t *testing.T) {
			srv := kind.start()
			defer srv.Close()
			srv.SetTasks(region, numbered(100))
			a := newAsker(srv)
			whole := string(a.ask(t).body)
			if !json.Valid([]byte(whole)) {
				t.Fatal(whole)
			}

			inject := func(t *testing.T, effect crsapitest.Effect) {
				t.Cleanup(srv.Inject(crsapitest.Fault{Do: effect}))
				// On a connection used before, the client's transport would
				// take an early end for an idle connection's and ask again.
				srv.Client().CloseIdleConnections()
			}
			t.Run("truncated", func(t *testing.T) {
				inject(t, crsapitest.TruncatedJSON())
				res := a.ask(t)
				if res.err != nil || string(res.body) != whole[:len(whole)/2] || res.ContentLength != int64(len(whole)/2) {
					t.Errorf("error %v, %d bytes, Content-Length %d", res.err, len(res.body), res.ContentLength)
				}
			})
			t.Run("short", func(t *testing.T) {
				inject(t, crsapitest.ShortBody())
				res := a.ask(t)
				if !errors.Is(res.err, io.ErrUnexpectedEOF) || string(res.body) != whole[:len(whole)/2] || res.ContentLength != int64(len(whole)) {
					t.Errorf("error %v, %d bytes, Content-Length %d", res.err, len(res.body), res.ContentLength)
				}
			})
			t.Run("reset before headers", func(t *testing.T) {
				inject(t, crsapitest.ResetBeforeHeaders())
				res := a.ask(t)
				if res.Response != nil || kind.tcp && !errors.Is(res.err, syscall.ECONNRESET) || res.err == nil {
					t.Errorf("%v, error %v", res.Response, res.err)
				}
			})
			t.Run("reset after headers", func(t *testing.T) {
				inject(t, crsapitest.ResetAfterHeaders())
				// The reset may overtake the headers.
				res := a.ask(t)
				if res.err == nil || len(res.body) != 0 {
					t.Errorf("%v, %d bytes, error %v", res.Response, len(res.body), res.err)
				}
			})
			t.Run("reset in mid-body", func(t *testing.T) {
				inject(t, crsapitest.ResetMidBody())
				res := a.ask(t)
				if res.err == nil || len(res.body) > len(whole)/2 {
					t.Errorf("%v, %d bytes, error %v", res.Response, len(res.body), res.err)
				}
			})
			t.Run("endless", func(t *testing.T) {
				inject(t, crsapitest.EndlessBody())
				res, err := a.client.Do(a.request(t))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				decoder := json.NewDecoder(res.Body)
				for range 8 {
					if _, err := decoder.Token(); err != nil {
						t.Fatal(err)
					}
				}
				if n, err := io.CopyN(io.Discard, res.Body, 32<<20); err != nil {
					t.Errorf("ended after %d bytes: %v", n, err)
				}
			})
			t.Run("gzip bomb", func(t *testing.T) {
				inject(t, crsapitest.GzipBomb(9<<20))
				res := a.ask(t)
				var d documented
				if err := json.Unmarshal(res.body, &d); err != nil || res.err != nil || len(d.Message) != 9<<20 {
					t.Errorf("message of %d bytes, errors %v, %v", len(d.Message), err, res.err)
				}
				r := a.request(t)
				r.Header.Set("Accept-Encoding", "identity")
				if res = a.do(r); res.err != nil || res.Header.Get("Content-Encoding") != "gzip" || len(res.body) > 100<<10 {
					t.Errorf("packed: %d bytes, error %v", len(res.body), res.err)
				}
				if _, err := gzip.NewReader(strings.NewReader(string(res.body))); err != nil {
					t.Error(err)
				}
			})
			t.Run("slow body", func(t *testing.T) {
				inject(t, crsapitest.SlowBody(len(whole)/3, time.Millisecond))
				if res := a.ask(t); res.err != nil || string(res.body) != whole {
					t.Errorf("%d bytes, error %v", len(res.body), res.err)
				}
			})
			t.Run("slow headers", func(t *testing.T) {
				inject(t, crsapitest.All(crsapitest.SlowHeaders(time.Microsecond), crsapitest.HTTPStatus(503), crsapitest.Header("X-Slow", "1")))
				if res := a.ask(t); res.err != nil || res.StatusCode != 503 || res.Header.Get("X-Slow") != "1" || !strings.HasPrefix(string(res.body), "<html>") {
					t.Errorf("%v, error %v", res.Response, res.err)
				}
			})
			t.Run("whole again", func(t *testing.T) {
				if res := a.ask(t); res.err != nil || string(res.body) != whole {
					t.Errorf("%d bytes, error %v", len(res.body), res.err)
				}
			})
		})
	}
}

// Waits to the second, on the bubble's clock.
func TestSlowness(t *testing.T) {
	tests := []struct {
		name   string
		do     crsapitest.Effect
		header time.Duration // until Do returns; less than 0 for never
		body   time.Duration // until the body is read; less than 0 for never
	}{
		{"none", crsapitest.All(), 0, 0},
		{"latency", crsapitest.Latency(20 * time.Millisecond), 20 * time.Millisecond, 20 * time.Millisecond},
		{"hang", crsapitest.Hang(), -1, 0},
		{"slow body", crsapitest.All(crsapitest.Body("12345"), crsapitest.SlowBody(2, time.Second)), 0, 3 * time.Second},
		{"body that stops", crsapitest.SlowBody(1, 24*time.Hour), 0, -1},
		{"headers that stop", crsapitest.SlowHeaders(24 * time.Hour), -1, 0},
		// HTTP/1.1 204 No Content, Connection: close, Date: Sat, 01 Jan 2000 00:00:00 GMT, Content-Type: text/html; charset=utf-8
		{"slow headers", crsapitest.All(crsapitest.HTTPStatus(204), crsapitest.SlowHeaders(time.Second)), 123 * time.Second, 123 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, a := newMemoryServer(t)
				a.client.Timeout = time.Hour
				srv.Inject(crsapitest.Fault{Do: test.do})
				start := time.Now()
				res, err := a.client.Do(a.request(t))
				header := time.Since(start)
				if test.header < 0 {
					if err == nil || header != time.Hour {
						t.Fatalf("answered or given up after %v: %v", header, err)
					}
				} else if err != nil || header != test.header {
					t.Fatalf("headers after %v, error %v", header, err)
				}
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					body := time.Since(start)
					if test.body < 0 {
						if err == nil || body != time.Hour {
							t.Errorf("read or given up after %v: %v", body, err)
						}
					} else if err != nil || body != test.body {
						t.Errorf("body after %v, error %v", body, err)
					}
				}
				// A client that has left must leave nothing behind.
				synctest.Wait()
				if n := srv.InFlight(region); n != 0 {
					t.Errorf("%d requests in flight", n)
				}
			})
		})
	}
}

// The list is read after the latency, and the hook runs before it.
func TestLatencyReadsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a := newMemoryServer(t)
		srv.Inject(crsapitest.Fault{Do: crsapitest.Latency(time.Second)})
		srv.OnRequest(func(crsapitest.Request) {
			time.AfterFunc(time.Second/2, func() { srv.Add(region, tasks("late")...) })
		})
		if got := a.list(t); got != "1: late" {
			t.Error(got)
		}
	})
}

func TestEchoSecrets(t *testing.T) {
	srv, a := newServer(t)
	srv.SetAccount(crsapitest.Account{SecretID: a.id, SecretKey: a.key, Token: "canary-token"})
	a.token = "canary-token"
	a.client = &http.Client{
		Transport:     srv.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	srv.EchoSecrets(true)

	p := a.params()
	signature := a.signature(p)
	p["Signature"] = "wrong" + signature
	res := a.do(a.raw(t, encode(p)))
	d := res.documented(t)
	header := res.Header.Get("X-Debug-Request")
	for _, secret := range []string{"SecretId=" + a.id, "Token=canary-token", "wrong" + signature, encode(p), "GET127.0.0.1/v2/index.php?Action="} {
		if !strings.Contains(d.Message, secret) || !strings.Contains(d.CodeDesc, secret) || !strings.Contains(header, secret) {
			t.Errorf("no %s in message %s, codeDesc %s or header %s", secret, d.Message, d.CodeDesc, header)
		}
	}
	if d.Code != 4100 || strings.Contains(string(res.body), a.key) {
		t.Errorf("code %d, or the key itself in %s", d.Code, res.body)
	}

	for name, effect := range map[string]crsapitest.Effect{
		"API error": crsapitest.APIError(4100),
		"envelope":  crsapitest.Envelope("AuthFailure", "no"),
		"HTML":      crsapitest.HTTPStatus(502),
		"redirect":  crsapitest.Redirect("https://elsewhere.example/"),
	} {
		remove := srv.Inject(crsapitest.Fault{Do: effect})
		res := a.ask(t)
		if !strings.Contains(string(res.body), "canary-token") || res.Header.Get("X-Debug-Request") == "" {
			t.Errorf("%s: %s", name, res.body)
		}
		if name == "redirect" && !strings.Contains(res.Header.Get("Location"), "Signature=") {
			t.Errorf("Location %s", res.Header.Get("Location"))
		}
		remove()
	}
	// A good page stays good.
	if res := a.ask(t); res.documented(t).Code != 0 || strings.Contains(string(res.body), "canary") || res.Header.Get("X-Debug-Request") == "" {
		t.Errorf("page %s, headers %v", res.body, res.Header)
	}
	srv.Heal()
	if res := a.ask(t, "limit", "0"); strings.Contains(string(res.body), "canary") || res.Header.Get("X-Debug-Request") != "" {
		t.Errorf("healed: %s", res.body)
	}
}

func TestCounts(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks("ap-other", nil)
	codes(t, a, 3)
	a.region = "ap-other"
	codes(t, a, 1)
	a.ask(t, "limit", "0")
	a.ask(t, "Region", "ap-nowhere")
	a.key = "wrong"
	a.ask(t)
	srv.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(500)})
	a.key = crsapitest.SecretKey
	a.ask(t)
	srv.Heal()
	srv.Inject(crsapitest.Fault{Do: crsapitest.TruncatedJSON()})
	a.ask(t)
	srv.Heal()

	got := map[string]int{}
	for _, name := range []string{"", region, "ap-other", "ap-nowhere"} {
		got[name+" requests"] = srv.Requests(name)
		got[name+" at once"] = srv.MaxInFlight(name)
		for _, code := range []int{0, 4000, 4100} {
			got[name+" "+strconv.Itoa(code)] = srv.Answers(name, code)
		}
	}
	want := map[string]int{
		" requests": 9, " at once": 1, " 0": 4, " 4000": 2, " 4100": 1,
		region + " requests": 3, region + " at once": 1, region + " 0": 3, region + " 4000": 0, region + " 4100": 0,
		"ap-other requests": 5, "ap-other at once": 1, "ap-other 0": 1, "ap-other 4000": 1, "ap-other 4100": 1,
		"ap-nowhere requests": 0, "ap-nowhere at once": 0, "ap-nowhere 0": 0, "ap-nowhere 4000": 0, "ap-nowhere 4100": 0,
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, want %d", name, got[name], n)
		}
	}
	srv.ResetCounts()
	if srv.Requests("") != 0 || srv.Answers("", 0) != 0 || srv.MaxInFlight("") != 0 || srv.Requests(region) != 0 {
		t.Error("counts are not reset")
	}
}

func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a := newMemoryServer(t)
		srv.SetTasks("ap-other", nil)
		srv.SetTasks(region, []crsapi.Task{})
		srv.Inject(crsapitest.Fault{Do: crsapitest.Latency(time.Second)})
		for range 2 {
			for i := range 5 {
				r := a.request(t)
				if i == 4 {
					r = a.request(t, "Region", "ap-other")
				}
				go func() {
					if res := a.do(r); res.err != nil {
						t.Error(res.err)
					}
				}()
			}
			synctest.Wait()
			if all, here, other := srv.InFlight(""), srv.InFlight(region), srv.InFlight("ap-other"); all != 5 || here != 4 || other != 1 {
				t.Errorf("in flight %d, %d, %d", all, here, other)
			}
			time.Sleep(2 * time.Second)
		}
		if all, here, other := srv.MaxInFlight(""), srv.MaxInFlight(region), srv.MaxInFlight("ap-other"); all != 5 || here != 4 || other != 1 {
			t.Errorf("greatest %d, %d, %d", all, here, other)
		}
		if n := srv.InFlight(""); n != 0 {
			t.Errorf("%d still in flight", n)
		}
	})
}
