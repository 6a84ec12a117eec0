package crsapitest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"go.uber.org/goleak"
)

func TestServers(t *testing.T) {
	for name, start := range map[string]func() *crsapitest.Server{
		"TCP":    crsapitest.NewServer,
		"TLS":    crsapitest.NewTLSServer,
		"memory": crsapitest.NewMemoryServer,
	} {
		t.Run(name, func(t *testing.T) {
			srv := start()
			defer srv.Close()
			srv.SetTasks(region, tasks("a"))
			if !strings.HasSuffix(srv.URL, "/v2/index.php") {
				t.Errorf("URL %s", srv.URL)
			}
			if secure := strings.HasPrefix(srv.URL, "https://"); secure != (srv.Certificate() != nil) || secure != (name == "TLS") {
				t.Errorf("URL %s, certificate %v", srv.URL, srv.Certificate())
			}
			a := newAsker(srv)
			for _, a.method = range []string{http.MethodGet, http.MethodPost} {
				if got := a.list(t); got != "1: a" {
					t.Error(got)
				}
			}
		})
	}

	t.Run("TLS is verified", func(t *testing.T) {
		srv := crsapitest.NewTLSServer()
		defer srv.Close()
		srv.SetTasks(region, nil)
		a := newAsker(srv)
		a.client = &http.Client{Transport: &http.Transport{}}
		if res := a.ask(t); res.err == nil {
			t.Error("a client without the certificate connected")
		}
	})

	t.Run("one simulator on two listeners", func(t *testing.T) {
		sim := crsapitest.New()
		sim.SetTasks(region, tasks("a"))
		for range 2 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := sim.Serve(l)
			defer srv.Close()
			a := newAsker(srv)
			a.nonce.Store(int64(sim.Requests("")))
			if got := a.list(t); got != "1: a" {
				t.Error(got)
			}
		}
		if n := sim.Requests(""); n != 2 {
			t.Errorf("%d requests", n)
		}
	})

	t.Run("no server", func(t *testing.T) {
		sim := crsapitest.New()
		sim.SetTasks(region, tasks("a"))
		a := newDirectAsker(sim)
		if got := a.list(t); got != "1: a" {
			t.Error(got)
		}
		sim.Inject(crsapitest.Fault{Do: crsapitest.SlowHeaders(time.Nanosecond)})
		if got := a.list(t); got != "1: a" {
			t.Error(got)
		}
	})
}

// Close must end responses that never end, all goroutines, and the listener.
func TestClose(t *testing.T) {
	effects := map[string]crsapitest.Effect{
		"hang":         crsapitest.Hang,
		"latency":      crsapitest.Latency(time.Hour),
		"slow headers": crsapitest.SlowHeaders(time.Hour),
		"slow body":    crsapitest.SlowBody(1, time.Hour),
		"endless":      crsapitest.EndlessBody,
	}
	for name, effect := range effects {
		for kind, start := range map[string]func() *crsapitest.Server{
			"TCP":    crsapitest.NewServer,
			"TLS":    crsapitest.NewTLSServer,
			"memory": crsapitest.NewMemoryServer,
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				srv := start()
				srv.SetTasks(region, numbered(10))
				arrived := make(chan struct{}, 3)
				srv.OnRequest(func(crsapitest.Request) { arrived <- struct{}{} })
				srv.Inject(crsapitest.Fault{Do: effect})
				a := newAsker(srv)
				var asked sync.WaitGroup
				for range cap(arrived) {
					r := a.request(t)
					asked.Go(func() {
						res, err := a.client.Do(r)
						if err != nil {
							return
						}
						defer res.Body.Close()
						buf := make([]byte, 4096)
						for err == nil {
							_, err = res.Body.Read(buf)
						}
						if err.Error() == "EOF" {
							t.Errorf("a response was complete: %v", res)
						}
					})
				}
				for range cap(arrived) {
					<-arrived
				}
				srv.Close()
				srv.Close()
				asked.Wait()
				if n := srv.InFlight(""); n != 0 {
					t.Errorf("%d requests in flight", n)
				}
				if res := a.ask(t); res.err == nil {
					t.Error("the closed server responded")
				}
			})
		}
	}
}

// net/http keeps a connection open for a while if it has not read the whole
// request. Close must wait for it.
func TestCloseWaitsForConnections(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	srv := crsapitest.NewServer()
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(srv.URL, "http://"), crsapitest.Path))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := "POST /v2/index.php HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9999999\r\n\r\n"
	if _, err := io.WriteString(conn, head+strings.Repeat("x", 400<<10)); err != nil {
		t.Fatal(err)
	}
	response, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(response), "HTTP/1.1 413 ") {
		t.Fatalf("%.80q, error %v", response, err)
	}
	srv.Close()
	goleak.VerifyNone(t, ignore)
}

func TestCloseWaitsForHijackedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a := newMemoryServer(t)
		ended := false
		srv.Inject(crsapitest.Fault{Do: crsapitest.Respond(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			<-r.Context().Done()
			time.Sleep(time.Minute)
			ended = true
		}))})
		r := a.request(t)
		go a.do(r)
		synctest.Wait()
		srv.Close()
		if !ended {
			t.Error("Close did not wait")
		}
	})
}

// A slow request must not keep a connection open.
func TestSlowRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newMemoryServer(t)
		conn, err := srv.Client().Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		head := "POST /v2/index.php HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\n"
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		response, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(response), "HTTP/1.1 400 ") || time.Since(start) != 10*time.Second {
			t.Errorf("%.80q, error %v after %v", response, err, time.Since(start))
		}
	})
}

// A hanging request must not end before the client ends it.
func TestHangOutlastsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a := newMemoryServer(t)
		srv.Inject(crsapitest.Fault{Do: crsapitest.Hang})
		for _, a.method = range []string{http.MethodGet, http.MethodPost} {
			ctx, cancel := context.WithTimeout(t.Context(), 48*time.Hour)
			defer cancel()
			start := time.Now()
			res := a.do(a.request(t).WithContext(ctx))
			var failed *url.Error
			if !errors.As(res.err, &failed) || !errors.Is(failed, context.DeadlineExceeded) || time.Since(start) != 48*time.Hour {
				t.Errorf("%s: error %v after %v", a.method, res.err, time.Since(start))
			}
		}
	})
}

// Timestamp, Nonce and Date follow the clock of the bubble.
func TestSynctestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a := newMemoryServer(t)
		for range 24 {
			res := a.ask(t)
			if code := res.documented(t).Code; code != 0 {
				t.Fatalf("code %d at %v", code, time.Now())
			}
			if date := res.Header.Get("Date"); date != time.Now().UTC().Format(http.TimeFormat) {
				t.Fatalf("Date %s at %v", date, time.Now())
			}
			time.Sleep(time.Hour)
		}
	})
}
