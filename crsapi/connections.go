package crsapi

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

// maxHeader is the size limit of a response header, in bytes.
const maxHeader = 64 << 10

// connections sends requests, and keeps connections for the next ones until one
// of them meets a fault. What is behind one address may be many machines, and a
// connection stays with its machine, good or bad.
type connections struct {
	dialer *net.Dialer // of the Client's own transport

	mu        sync.Mutex
	transport http.RoundTripper
}

func newConnections(cfg *Config) *connections {
	c := &connections{}
	t, ok := cfg.Transport.(*http.Transport)
	switch {
	case cfg.Transport == nil:
		c.dialer = &net.Dialer{Timeout: cfg.RequestTimeout}
		t = newTransport(cfg.Concurrency, c.dialer)
	case ok:
		t = t.Clone() // the caller may use it for other requests
	default:
		c.transport = cfg.Transport
		return c
	}
	if t.OnProxyConnectResponse == nil {
		t.OnProxyConnectResponse = trace.CheckConnect
	}
	c.transport = t
	return c
}

// newTransport returns a transport for HTTP/1.1 only: a request that times out
// closes its connection, and does no harm to others. A dialer with the timeout of
// a request gives each of several addresses of a name a part of that time.
func newTransport(concurrency int, dialer *net.Dialer) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		MaxIdleConnsPerHost:    concurrency,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    dialer.Timeout,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// RoundTrip implements http.RoundTripper.
func (c *connections) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	t := c.transport
	c.mu.Unlock()
	return t.RoundTrip(req)
}

// renew makes later requests use new connections, with a new look-up of the name.
// It closes all kept connections, and those in use after their request: when the
// response of a bad one has been read, nobody knows which of the kept ones it is.
func (c *connections) renew() {
	c.mu.Lock()
	old := c.transport
	if t, ok := old.(*http.Transport); ok {
		c.transport = t.Clone()
	}
	c.mu.Unlock()
	closeIdle(old)
}

func (c *connections) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	closeIdle(c.transport)
}

func closeIdle(t http.RoundTripper) {
	if t, ok := t.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
