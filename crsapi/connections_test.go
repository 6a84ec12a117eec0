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
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestTimeoutNamesTheStep ends a call by its deadline, before and after it has a connection.
func TestTimeoutNamesTheStep(t *testing.T) {
	type step struct {
		do        crsapitest.Effect
		change    func(*crsapi.Config)
		want      string
		requested bool
	}
	oneSlot := func(cfg *crsapi.Config) { cfg.Concurrency = 1 }
	slowRate := func(cfg *crsapi.Config) { cfg.Limiter = crsapi.NewLimiter(0.1) }
	eachCase(t, map[string]step{
		"no response": {crsapitest.Hang, func(*crsapi.Config) {}, "waiting for the response", true},
		"slow body":   {crsapitest.SlowBody(10, time.Second), func(*crsapi.Config) {}, "reading the response", true},
		"slot":        {crsapitest.Latency(4 * time.Second), oneSlot, "waiting for one of 1 requests in flight to end", false},
		"rate limit":  {crsapitest.Latency(0), slowRate, "waiting for the rate limit of 0.1 requests per second", false},
	}, func(t *testing.T, api crsapi.API, test step) {
		c, server := serve(t, api, nil, test.change)
		server.Inject(crsapitest.Fault{Count: 1, Do: test.do})
		var other sync.WaitGroup
		if !test.requested {
			other.Go(func() {
				if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Page(ctx, crsapi.Query{})
		if failed := wantError(t, err, crsapi.ReasonTimeout); failed.Requested != test.requested || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v", failed)
		}
		if !strings.HasSuffix(err.Error(), ": timeout while "+test.want+": context deadline exceeded") {
			t.Errorf("got %q, want %q", err, test.want)
		}
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
	proxy := http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:1", User: url.UserPassword("user", canaryKey)})
	eachCase(t, map[string]refusal{
		"407, CONNECT": {"https", "407 Proxy Authentication Required", noCredentials, 407, 1},
		"407":          {"http", "407 Proxy Authentication Required", noCredentials, 407, 1},
		// Without CONNECT, it looks like a response of the API.
		"403, CONNECT": {"https", "403 no", "send the request: the proxy does not connect: HTTP status 403 Forbidden", 0, 4},
	}, func(t *testing.T, api crsapi.API, test refusal) {
		var seen recorder
		transport := &http.Transport{Proxy: proxy, DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				if r, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(far, "HTTP/1.1 "+test.status+"\r\nContent-Length: 0\r\n\r\n")
				}
				_ = far.Close()
			}()
			return near, nil
		}}
		c := newClient(t, api, transport, seen.in, func(cfg *crsapi.Config) { cfg.Endpoint = test.scheme + "://redis.example.test/" })
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
		if transport.OnProxyConnectResponse != nil {
			t.Error("the transport of the caller was changed")
		}
	})
}
