package crsapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// hole is a network in which one step never ends. It ends the call once that step
// is under way.
type hole struct {
	endCall func()
	done    chan struct{}
}

func (h hole) hang() error {
	h.endCall()
	<-h.done
	return net.ErrClosed
}

// dialer has a name server that does not respond, and reaches no address.
func (h hole) dialer(context.Context) *http.Transport {
	return &http.Transport{DialContext: (&net.Dialer{
		Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, h.hang() }},
		Control:  func(string, string, syscall.RawConn) error { return h.hang() },
	}).DialContext}
}

// ownDial reaches nothing, and tells no step.
func (h hole) ownDial(context.Context) *http.Transport {
	return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, h.hang() }}
}

// silent connects to a host that reads one byte.
func (h hole) silent(ctx context.Context) *http.Transport {
	return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		context.AfterFunc(ctx, func() { _ = far.Close() })
		go func() {
			_, _ = far.Read(make([]byte, 1))
			h.endCall()
		}()
		return near, nil
	}}
}

// TestTimeoutNamesTheStep ends calls by their deadline during each step of getting
// a connection.
func TestTimeoutNamesTheStep(t *testing.T) {
	for name, test := range map[string]struct {
		endpoint  string
		transport func(hole, context.Context) *http.Transport
		proxy     string
		want      string
	}{
		"look-up":                 {"https://redis.example.test/", hole.dialer, "", "looking up redis.example.test"},
		"connection":              {"https://192.0.2.1/", hole.dialer, "", "connecting to 192.0.2.1:443"},
		"connection, own port":    {"http://192.0.2.1:81/", hole.dialer, "", "connecting to 192.0.2.1:81"},
		"own dial":                {"https://redis.example.test/", hole.ownDial, "", "waiting for a connection to redis.example.test:443"},
		"own dial, http":          {"http://redis.example.test/", hole.ownDial, "", "waiting for a connection to redis.example.test:80"},
		"TLS":                     {"https://redis.example.test/", hole.silent, "", "negotiating TLS"},
		"request":                 {"http://redis.example.test/", hole.silent, "", "sending the request"},
		"look-up of the proxy":    {"https://redis.example.test/", hole.dialer, "proxy.example.test:3128", "looking up proxy.example.test"},
		"connection to the proxy": {"https://redis.example.test/", hole.dialer, "192.0.2.1:3128", "connecting to 192.0.2.1:3128"},
		"own dial to the proxy":   {"http://redis.example.test/", hole.ownDial, "proxy.example.test:3128", "waiting for a connection to proxy.example.test:3128"},
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				ctx, cancel := context.WithCancelCause(t.Context())
				h := hole{func() { cancel(context.DeadlineExceeded) }, make(chan struct{})}
				defer close(h.done)
				c := newTestClient(t, api, func(cfg *crsapi.Config) {
					transport := test.transport(h, t.Context())
					if test.proxy != "" {
						transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: test.proxy, User: url.UserPassword("user", canaryKey)})
					}
					cfg.Endpoint, cfg.Transport, cfg.RequestTimeout = test.endpoint, transport, time.Hour
					cfg.UserAgent = strings.Repeat("x", 8<<10) // more than a transport buffers
				})
				wantTimeout(ctx, t, c, test.want)
			})
		})
	}
}

// wantTimeout requires a call to time out during a step.
func wantTimeout(ctx context.Context, t *testing.T, c *crsapi.Client, step string) {
	t.Helper()
	_, err := c.Page(ctx, crsapi.Query{})
	var failed *crsapi.Error
	if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonTimeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want a timeout", err)
	}
	if !strings.HasSuffix(err.Error(), ": timeout while "+step+": context deadline exceeded") {
		t.Errorf("got %q, want %q", err, step)
	}
	if strings.Contains(err.Error(), canaryKey) || strings.Contains(err.Error(), "Signature") {
		t.Errorf("a secret: %v", err)
	}
}

// TestTimeoutNamesTheStepOfTheResponse does so once a request is sent, and before.
func TestTimeoutNamesTheStepOfTheResponse(t *testing.T) {
	for name, test := range map[string]struct {
		do   crsapitest.Effect
		want string
	}{
		"no response": {crsapitest.Hang, "waiting for the response"},
		"slow body":   {crsapitest.SlowBody(10, time.Second), "reading the response"},
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				synctest.Test(t, func(t *testing.T) {
					c, server := serve(t, api, crsapitest.DocumentExample(), nil)
					defer c.CloseIdleConnections()
					if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
						t.Fatal(err)
					}
					server.Inject(crsapitest.Fault{Do: test.do})
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					defer cancel()
					wantTimeout(ctx, t, c, test.want)
				})
			})
		})
	}
	t.Run("queue", func(t *testing.T) {
		eachAPI(t, func(t *testing.T, api crsapi.API) {
			synctest.Test(t, func(t *testing.T) {
				c, server := serve(t, api, nil, func(cfg *crsapi.Config) { cfg.Concurrency = 1 })
				defer c.CloseIdleConnections()
				server.Inject(crsapitest.Fault{Do: crsapitest.Latency(4 * time.Second)})
				var first sync.WaitGroup
				first.Go(func() { _, _ = c.Page(t.Context(), crsapi.Query{}) })
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				wantTimeout(ctx, t, c, "waiting for one of 1 requests in flight to end")
				first.Wait()
			})
		})
	})
	t.Run("rate", func(t *testing.T) {
		eachAPI(t, func(t *testing.T, api crsapi.API) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := serve(t, api, nil, func(cfg *crsapi.Config) { cfg.Limiter = crsapi.NewLimiter(0.1) })
				defer c.CloseIdleConnections()
				if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(context.DeadlineExceeded) })
				wantTimeout(ctx, t, c, "waiting for the rate limit of 0.1 requests per second")
			})
		})
	})
}

// TestTimeoutOfAProxy ends a call once the proxy has read CONNECT.
func TestTimeoutOfAProxy(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel(context.DeadlineExceeded)
			<-r.Context().Done()
		}))
		defer server.Close()
		defer server.CloseClientConnections()
		proxy, _ := url.Parse(server.URL)
		proxy.User = url.UserPassword("user", canaryKey)
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Endpoint, cfg.Transport = "https://redis.example.test/", &http.Transport{Proxy: http.ProxyURL(proxy)}
			cfg.RequestTimeout = time.Minute
		})
		wantTimeout(ctx, t, c, "waiting for "+proxy.Host)
	})
}

// TestProxyRefuses has a proxy that lets nobody through, for both kinds of requests.
func TestProxyRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		status string // status line of the proxy
		want   string
		http   int // HTTPStatus of the error
		tries  int
	}{
		"407":            {"407 Proxy Authentication Required", "the proxy requires credentials: HTTP status 407 Proxy Authentication Required", 407, 1},
		"407, own words": {"407 authenticationrequired", "the proxy requires credentials: HTTP status 407 Proxy Authentication Required", 407, 1},
		"403, CONNECT":   {"403 no", "send the request: the proxy does not connect: HTTP status 403 Forbidden", 0, 4},
		"502, CONNECT":   {"502 no", "send the request: the proxy does not connect: HTTP status 502 Bad Gateway", 0, 4},
	} {
		for _, scheme := range []string{"http", "https"} {
			if strings.Contains(name, "CONNECT") && scheme == "http" {
				continue // it looks like a response of the API
			}
			t.Run(name+"/"+scheme, func(t *testing.T) {
				eachAPI(t, func(t *testing.T, api crsapi.API) {
					synctest.Test(t, func(t *testing.T) {
						var seen recorder
						c := newTestClient(t, api, func(cfg *crsapi.Config) {
							cfg.Observe, cfg.Endpoint = seen.observe, scheme+"://redis.example.test/"
							cfg.Transport = &http.Transport{
								Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:1", User: url.UserPassword("user", canaryKey)}),
								DialContext: func(context.Context, string, string) (net.Conn, error) {
									near, far := net.Pipe()
									go refuse(far, test.status)
									return near, nil
								},
							}
						})
						_, err := c.Page(t.Context(), crsapi.Query{})
						var failed *crsapi.Error
						if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonNetwork || failed.HTTPStatus != test.http || !failed.Requested {
							t.Fatalf("got %+v, want network", err)
						}
						if !strings.HasSuffix(err.Error(), "redis.example.test: "+test.want) || strings.Contains(err.Error(), canaryKey) {
							t.Errorf("got %q, want %q", err, test.want)
						}
						if got := seen.reasons(); !slices.Equal(got, slices.Repeat([]crsapi.Reason{crsapi.ReasonNetwork}, test.tries)) {
							t.Errorf("attempts %v, want %d", got, test.tries)
						}
					})
				})
			})
		}
	}
}

// refuse answers one request.
func refuse(conn net.Conn, status string) {
	defer func() { _ = conn.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
}
