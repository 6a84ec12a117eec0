package crsapi_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// together requests n pages at once.
func together(t *testing.T, c *crsapi.Client, n int) (failed []error) {
	t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return failed
}

// openAll makes a client open as many connections as it may.
func openAll(t *testing.T, c *crsapi.Client, server *crsapitest.Server) {
	t.Helper()
	slow := server.Inject(crsapitest.Fault{Do: crsapitest.Latency(time.Second)})
	if failed := together(t, c, c.Concurrency()); failed != nil {
		t.Fatal(failed)
	}
	slow()
	if n := server.Connections(); n != c.Concurrency() {
		t.Fatalf("%d connections, want %d", n, c.Concurrency())
	}
}

// TestBadBackend keeps eight connections, and makes all that is behind them go
// bad. A new connection is good.
func TestBadBackend(t *testing.T) {
	for name, test := range map[string]struct {
		do      crsapitest.Effect
		noRetry bool // one call fails, as such a response is final
	}{
		"hang":              {do: crsapitest.Hang},
		"slow body":         {do: crsapitest.SlowBody(10, time.Second)},
		"reset":             {do: crsapitest.ResetBeforeHeaders},
		"reset in the body": {do: crsapitest.ResetMidBody},
		"cut":               {do: crsapitest.ShortBody},
		"half of the JSON":  {do: crsapitest.TruncatedJSON},
		"5100":              {do: crsapitest.APIError(5100)},
		"500":               {do: crsapitest.HTTPStatus(500)},
		"503":               {do: crsapitest.HTTPStatus(503)},
		"HTML":              {do: crsapitest.HTTPStatus(200)},
		"404":               {do: crsapitest.HTTPStatus(404), noRetry: true},
		"403":               {do: crsapitest.HTTPStatus(403), noRetry: true},
		"not a list":        {do: crsapitest.Body(`{"Response":{"RequestId":"r"}}`), noRetry: true},
	} {
		t.Run(name, func(t *testing.T) {
			onBadConnections(t, test.do, func(t *testing.T, c *crsapi.Client, seen *recorder) {
				// One call meets the fault: the rest of the kept connections go, too.
				_, err := c.Page(t.Context(), crsapi.Query{})
				if (err != nil) != test.noRetry {
					t.Errorf("the first call: %v", err)
				}
				before := len(seen.reasons())
				if before != c.Concurrency()+2 && !test.noRetry {
					t.Errorf("attempts %v, want one that fails", seen.reasons())
				}
				if failed := together(t, c, 50); failed != nil {
					t.Errorf("%d calls failed, the first with %v", len(failed), failed[0])
				}
				if failed := slices.DeleteFunc(seen.reasons()[before:], func(r crsapi.Reason) bool { return r == "" }); len(failed) != 0 {
					t.Errorf("%d attempts failed: %v", len(failed), failed)
				}
			})
			onBadConnections(t, test.do, func(t *testing.T, c *crsapi.Client, _ *recorder) {
				// Each of the kept connections may be in use when the first fault shows, and
				// the calls that wait may get it then. Their retries do not.
				failed := together(t, c, 50)
				if len(failed) > 0 && !test.noRetry {
					t.Errorf("%d calls failed, the first with %v", len(failed), failed[0])
				}
				if failed := together(t, c, 50); failed != nil {
					t.Errorf("%d calls of the next poll failed, the first with %v", len(failed), failed[0])
				}
			})
		})
	}
}

// onBadConnections runs a test through each API, with a client whose connections all
// go bad. A new one is good.
func onBadConnections(t *testing.T, do crsapitest.Effect, test func(t *testing.T, c *crsapi.Client, seen *recorder)) {
	t.Helper()
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			var seen recorder
			c, server := serve(t, api, crsapitest.DocumentExample(), func(cfg *crsapi.Config) { cfg.Observe = seen.observe })
			defer c.CloseIdleConnections()
			openAll(t, c, server)
			server.Inject(crsapitest.Fault{Do: server.OnOpenConnections(do)})
			test(t, c, &seen)
		})
	})
}

// TestDeadlineOnABadConnection lets the deadline of a call end the attempt: that
// connection was bad, too.
func TestDeadlineOnABadConnection(t *testing.T) {
	onBadConnections(t, crsapitest.Hang, func(t *testing.T, c *crsapi.Client, _ *recorder) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Page(ctx, crsapi.Query{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Page(ctx, crsapi.Query{}); err != nil {
			t.Error(err)
		}
	})
}

// TestNewConnectionAfterFault counts the connections, each of which begins with a
// look-up of the name.
func TestNewConnectionAfterFault(t *testing.T) {
	for name, test := range map[string]struct {
		do    crsapitest.Effect
		dials int // after the one of the first call
	}{
		"none":             {crsapitest.Latency(0), 0},
		"throttled":        {crsapitest.APIError(4400), 0},
		"429":              {crsapitest.HTTPStatus(429), 1}, // its body is not read
		"key refused":      {crsapitest.APIError(4104), 0},
		"denied":           {crsapitest.APIError(4103), 0},
		"replayed":         {crsapitest.APIError(4500), 0},
		"no such instance": {crsapitest.APIError(4000), 0},
		"internal error":   {crsapitest.APIError(6000), 1},
		"502":              {crsapitest.HTTPStatus(502), 1},
		"302":              {crsapitest.HTTPStatus(302), 1},
		"half of the JSON": {crsapitest.TruncatedJSON, 1},
		"cut":              {crsapitest.ShortBody, 1},
		"hang":             {crsapitest.Hang, 1},
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					var dialed []string
					c, server := serve(t, api, crsapitest.DocumentExample(), func(cfg *crsapi.Config) {
						transport := cfg.Transport.(*http.Transport).Clone()
						dial := transport.DialContext
						transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
							mu.Lock()
							defer mu.Unlock()
							dialed = append(dialed, addr)
							return dial(ctx, network, addr)
						}
						cfg.Transport = transport
					})
					defer c.CloseIdleConnections()
					if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
						t.Fatal(err)
					}
					server.Inject(crsapitest.Fault{Count: 1, Do: test.do})
					for range 3 {
						_, _ = c.Page(t.Context(), crsapi.Query{})
					}
					host := "redis.api.qcloud.com:80"
					if api != crsapi.API20 {
						host = "redis.tencentcloudapi.com:80"
					}
					if want := slices.Repeat([]string{host}, test.dials+1); !slices.Equal(dialed, want) {
						t.Errorf("dialed %v, want %v", dialed, want)
					}
				})
			})
		})
	}
}

// countingTransport is a RoundTripper of somebody else.
type countingTransport struct {
	transportFunc
	closed int
}

func (c *countingTransport) CloseIdleConnections() { c.closed++ }

func TestOtherTransportClosesIdleConnections(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, test := range []struct {
			status int
			body   string
			want   int
		}{{200, listJSON(api, 0), 0}, {200, apiError(4100, ""), 0}, {429, "", 0}, {200, "<html>", 2}, {502, "", 4}} {
			synctest.Test(t, func(t *testing.T) {
				transport := &countingTransport{transportFunc: func(*http.Request) (*http.Response, error) { return respond(test.status, test.body) }}
				c := newTestClient(t, api, func(cfg *crsapi.Config) { cfg.Transport = transport })
				_, _ = c.Page(t.Context(), crsapi.Query{})
				if transport.closed != test.want {
					t.Errorf("%d %s: closed %d times, want %d", test.status, test.body, transport.closed, test.want)
				}
			})
		}
	})
}

// TestTransportIsNotChanged: another may use it.
func TestTransportIsNotChanged(t *testing.T) {
	transport := &http.Transport{}
	newTestClient(t, crsapi.API20, func(cfg *crsapi.Config) { cfg.Transport = transport })
	if transport.OnProxyConnectResponse != nil {
		t.Error("the transport of the caller was changed")
	}
}
