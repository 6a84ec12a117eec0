package crsapitest_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestNetworkFaults(t *testing.T) {
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
				// The client repeats a request if a reused connection ends
				// before the response.
				srv.Client().CloseIdleConnections()
			}
			t.Run("truncated", func(t *testing.T) {
				inject(t, crsapitest.TruncatedJSON)
				res := a.ask(t)
				if res.err != nil || string(res.body) != whole[:len(whole)/2] || res.ContentLength != int64(len(whole)/2) {
					t.Errorf("error %v, %d bytes, Content-Length %d", res.err, len(res.body), res.ContentLength)
				}
			})
			t.Run("short", func(t *testing.T) {
				inject(t, crsapitest.ShortBody)
				res := a.ask(t)
				if !errors.Is(res.err, io.ErrUnexpectedEOF) || string(res.body) != whole[:len(whole)/2] || res.ContentLength != int64(len(whole)) {
					t.Errorf("error %v, %d bytes, Content-Length %d", res.err, len(res.body), res.ContentLength)
				}
			})
			t.Run("reset before headers", func(t *testing.T) {
				inject(t, crsapitest.ResetBeforeHeaders)
				res := a.ask(t)
				if res.Response != nil || kind.tcp && !errors.Is(res.err, syscall.ECONNRESET) || res.err == nil {
					t.Errorf("%v, error %v", res.Response, res.err)
				}
			})
			t.Run("reset after headers", func(t *testing.T) {
				inject(t, crsapitest.ResetAfterHeaders)
				// The client may see the reset before the headers.
				res := a.ask(t)
				if res.err == nil || len(res.body) != 0 {
					t.Errorf("%v, %d bytes, error %v", res.Response, len(res.body), res.err)
				}
			})
			t.Run("reset mid-body", func(t *testing.T) {
				inject(t, crsapitest.ResetMidBody)
				res := a.ask(t)
				if res.err == nil || len(res.body) > len(whole)/2 {
					t.Errorf("%v, %d bytes, error %v", res.Response, len(res.body), res.err)
				}
			})
			t.Run("endless", func(t *testing.T) {
				inject(t, crsapitest.EndlessBody)
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
				var d parsedPage
				if err := json.Unmarshal(res.body, &d); err != nil || res.err != nil || len(d.Message) != 9<<20 {
					t.Errorf("message of %d bytes, errors %v, %v", len(d.Message), err, res.err)
				}
				r := a.request(t)
				r.Header.Set("Accept-Encoding", "identity")
				if res = a.do(r); res.err != nil || res.Header.Get("Content-Encoding") != "gzip" || len(res.body) > 100<<10 {
					t.Errorf("compressed: %d bytes, error %v", len(res.body), res.err)
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
			t.Run("no fault", func(t *testing.T) {
				if res := a.ask(t); res.err != nil || string(res.body) != whole {
					t.Errorf("%d bytes, error %v", len(res.body), res.err)
				}
			})
		})
	}
}

// The clock of the bubble makes the delays exact.
func TestSlowResponses(t *testing.T) {
	tests := []struct {
		name   string
		do     crsapitest.Effect
		header time.Duration // until Do returns; negative for never
		body   time.Duration // until the body is read; negative for never
	}{
		{"none", crsapitest.All(), 0, 0},
		{"latency", crsapitest.Latency(20 * time.Millisecond), 20 * time.Millisecond, 20 * time.Millisecond},
		{"hang", crsapitest.Hang, -1, 0},
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
						t.Fatalf("Do returned after %v: %v", header, err)
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
							t.Errorf("body ended after %v: %v", body, err)
						}
					} else if err != nil || body != test.body {
						t.Errorf("body after %v, error %v", body, err)
					}
				}
				// A disconnected client must not count as in flight.
				synctest.Wait()
				if n := srv.InFlight(region); n != 0 {
					t.Errorf("%d requests in flight", n)
				}
			})
		})
	}
}

// The hook runs before the latency, and the simulator reads the list after it.
func TestLatencyDelaysReading(t *testing.T) {
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
