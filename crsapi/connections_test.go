package crsapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestBadConnections opens as many connections as the client may have, and makes all of
// them bad. New ones are good: after the first fault, the client closes all connections.
func TestBadConnections(t *testing.T) {
	eachCase(t, map[string]crsapitest.Effect{
		"hang": crsapitest.Hang, "half of the JSON": crsapitest.TruncatedJSON, "503": crsapitest.HTTPStatus(503),
	}, func(t *testing.T, api crsapi.API, fault crsapitest.Effect) {
		var seen recorder
		c, server := serve(t, api, crsapitest.DocumentExample(), seen.in)
		together := func(n int) {
			t.Helper()
			var group sync.WaitGroup
			for range n {
				group.Go(func() {
					if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		}
		slow := server.Inject(crsapitest.Fault{Do: crsapitest.Latency(time.Second)})
		together(c.Concurrency())
		if n := server.Connections(); n != c.Concurrency() {
			t.Fatalf("%d connections", n)
		}
		slow()
		server.Inject(crsapitest.Fault{Do: server.OnOpenConnections(fault)})
		seen.attempts = nil
		together(1)
		together(50)
		if failed := len(strings.Fields(strings.ReplaceAll(seen.reasons(), "ok", ""))); failed != 1 {
			t.Errorf("attempts %s, want one that fails", seen.reasons())
		}
	})
}

// wantTimeout requires that a call times out during a step.
func wantTimeout(ctx context.Context, t *testing.T, c *crsapi.Client, step string, requested bool) {
	t.Helper()
	_, err := c.Page(ctx, crsapi.Query{})
	if failed := wantError(t, err, crsapi.ReasonTimeout); failed.Requested != requested || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v", failed)
	}
	if !strings.HasSuffix(err.Error(), ": timeout while "+step+": context deadline exceeded") {
		t.Errorf("got %q, want %q", err, step)
	}
	if strings.Contains(err.Error(), canaryKey) || strings.Contains(err.Error(), "Signature") {
		t.Errorf("a secret: %v", err)
	}
}

// TestTimeoutNamesTheStep ends a call by its deadline during each step of connecting.
func TestTimeoutNamesTheStep(t *testing.T) {
	type dial = func(ctx context.Context, network, addr string) (net.Conn, error)
	// dialer has a name server that does not respond, and cannot connect.
	dialer := func(hang func() error) dial {
		return (&net.Dialer{
			Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, hang() }},
			Control:  func(string, string, syscall.RawConn) error { return hang() },
		}).DialContext
	}
	// silent connects to a host that reads one byte.
	silent := func(hang func() error) dial {
		return func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				_, _ = far.Read(make([]byte, 1))
				_ = hang()
				_ = far.Close()
			}()
			return near, nil
		}
	}
	for name, test := range map[string]struct {
		endpoint string
		dial     func(hang func() error) dial
		proxy    string
		want     string
	}{
		"look-up":                 {"https://redis.example.test/", dialer, "", "looking up redis.example.test"},
		"connection":              {"https://192.0.2.1/", dialer, "", "connecting to 192.0.2.1:443"},
		"connection to the proxy": {"https://redis.example.test/", dialer, "192.0.2.1:3128", "connecting to 192.0.2.1:3128"},
		"CONNECT":                 {"https://redis.example.test/", silent, "proxy:3128", "waiting for a connection to proxy:3128"},
		"TLS":                     {"https://redis.example.test/", silent, "", "negotiating TLS"},
		"request":                 {"http://redis.example.test/", silent, "", "sending the request"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			transport := &http.Transport{DialContext: test.dial(func() error {
				cancel(context.DeadlineExceeded)
				<-t.Context().Done()
				return net.ErrClosed
			})}
			if test.proxy != "" {
				transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: test.proxy, User: url.UserPassword("user", canaryKey)})
			}
			c := newClient(t, three, transport, func(cfg *crsapi.Config) {
				cfg.Endpoint, cfg.RequestTimeout = test.endpoint, time.Hour
				cfg.UserAgent = strings.Repeat("x", 8<<10) // more than the buffer of a transport
			})
			wantTimeout(ctx, t, c, test.want, true)
			if transport.OnProxyConnectResponse != nil {
				t.Error("the transport of the caller was changed")
			}
		})
	}
}

// TestTimeoutNamesTheOtherSteps has the steps before and after the connection.
func TestTimeoutNamesTheOtherSteps(t *testing.T) {
	type step struct {
		do        crsapitest.Effect
		change    func(*crsapi.Config)
		want      string
		requested bool
	}
	eachCase(t, map[string]step{
		"no response": {crsapitest.Hang, func(*crsapi.Config) {}, "waiting for the response", true},
		"slow body":   {crsapitest.SlowBody(10, time.Second), func(*crsapi.Config) {}, "reading the response", true},
		"slot":        {crsapitest.Latency(4 * time.Second), func(cfg *crsapi.Config) { cfg.Concurrency = 1 }, "waiting for one of 1 requests in flight to end", false},
		"rate limit":  {crsapitest.Latency(0), func(cfg *crsapi.Config) { cfg.Limiter = crsapi.NewLimiter(0.1) }, "waiting for the rate limit of 0.1 requests per second", false},
	}, func(t *testing.T, api crsapi.API, test step) {
		c, server := serve(t, api, nil, test.change)
		var other sync.WaitGroup
		page := func() {
			if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
				t.Error(err)
			}
		}
		if test.requested { // there is a connection
			page()
		}
		server.Inject(crsapitest.Fault{Count: 1, Do: test.do})
		if !test.requested {
			other.Go(page)
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantTimeout(ctx, t, c, test.want, test.requested)
		other.Wait()
	})
}

// TestProxyRefuses has a proxy that refuses all, for both kinds of requests.
func TestProxyRefuses(t *testing.T) {
	type refusal struct {
		scheme, status string // status line of the proxy
		want           string
		http           int // HTTPStatus of the error
		tries          int
	}
	const noCredentials = "the proxy requires credentials: HTTP status 407 Proxy Authentication Required"
	eachCase(t, map[string]refusal{
		"407, CONNECT": {"https", "407 Proxy Authentication Required", noCredentials, 407, 1},
		"407":          {"http", "407 Proxy Authentication Required", noCredentials, 407, 1},
		// Without CONNECT, it looks like a response of the API.
		"403, CONNECT": {"https", "403 no", "send the request: the proxy does not connect: HTTP status 403 Forbidden", 0, 4},
	}, func(t *testing.T, api crsapi.API, test refusal) {
		var seen recorder
		c := newClient(t, api, &http.Transport{
			Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:1", User: url.UserPassword("user", canaryKey)}),
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go refuse(far, test.status)
				return near, nil
			},
		}, seen.in, func(cfg *crsapi.Config) { cfg.Endpoint = test.scheme + "://redis.example.test/" })
		_, err := c.Page(t.Context(), crsapi.Query{})
		if failed := wantError(t, err, crsapi.ReasonNetwork); failed.HTTPStatus != test.http || !failed.Requested {
			t.Errorf("got %+v", failed)
		}
		if !strings.HasSuffix(err.Error(), "redis.example.test: "+test.want) || strings.Contains(err.Error(), canaryKey) {
			t.Errorf("got %q, want %q", err, test.want)
		}
		if got := seen.reasons(); got != repeat(crsapi.ReasonNetwork, test.tries) {
			t.Errorf("attempts %s, want %d", got, test.tries)
		}
	})
}

// refuse responds to one request.
func refuse(conn net.Conn, status string) {
	defer func() { _ = conn.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
}
