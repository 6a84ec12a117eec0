// Package trace tells why an HTTP request got no response: which step was under
// way, and whether a proxy refused it.
package trace

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
)

// Watch returns a copy of req, and a Trace that follows it.
func Watch(req *http.Request) (*http.Request, *Trace) {
	t := &Trace{step: "sending the request", target: hostPort(req.URL)}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn:           t.getConn,
		DNSStart:          func(info httptrace.DNSStartInfo) { t.begin(dialing, "looking up "+t.of("", info.Host)) },
		ConnectStart:      func(_, addr string) { t.begin(dialing, "connecting to "+t.of(t.proxy, addr)) },
		ConnectDone:       t.connectDone,
		TLSHandshakeStart: func() { t.begin(dialing, "negotiating TLS") },
		GotConn:           func(httptrace.GotConnInfo) { t.begin(connected, "sending the request") },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				t.begin(sent, "waiting for the response")
			}
		},
		GotFirstResponseByte: func() { t.begin(answered, "reading the response") },
	})
	return req.WithContext(ctx), t
}

// Trace notes the last step that a request began. A transport calls its hooks
// from several goroutines, those of a dial even after the request has got
// another connection or has ended.
type Trace struct {
	target string // host and port of the URL
	proxy  string // host and port of the proxy, if any; set before the dial begins

	mu    sync.Mutex
	stage stage
	step  string
}

// stage is how far a request is. A step of an earlier stage is of a dial that
// the request does not wait for, or was reported late.
type stage int

const (
	dialing stage = iota
	connected
	sent
	answered
)

func (t *Trace) begin(at stage, step string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at >= t.stage {
		t.stage, t.step = at, step
	}
}

// getConn learns what the transport connects to: the host of the URL, or a proxy.
func (t *Trace) getConn(hostPort string) {
	if hostPort != t.target {
		t.proxy = hostPort
	}
	t.begin(dialing, "waiting for a connection to "+t.of(t.proxy, t.target))
}

func (t *Trace) connectDone(_, _ string, err error) {
	if err == nil && t.proxy != "" {
		t.begin(dialing, "waiting for the proxy "+t.proxy)
	}
}

// of names what a dial is for: the proxy, by this name if it is not empty, or the
// target.
func (t *Trace) of(proxy, target string) string {
	switch {
	case t.proxy == "":
		return target
	case proxy == "":
		return "the proxy " + target
	}
	return "the proxy " + proxy
}

// hostPort returns the host and port of a URL, in the form that GetConn has.
func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// Timeout returns the error of a request that timed out. It wraps err, and names
// the step that was under way.
func (t *Trace) Timeout(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Errorf("timeout while %s: %w", t.step, err)
}

// ProxyError is the error of a proxy that refused to connect, or to send a
// request on.
type ProxyError struct {
	Status int // HTTP status of the proxy
}

// Error implements error.
func (e *ProxyError) Error() string {
	problem := "the proxy does not connect"
	if e.Status == http.StatusProxyAuthRequired {
		problem = "the proxy requires credentials"
	}
	return fmt.Sprintf("%s: HTTP status %d %s", problem, e.Status, http.StatusText(e.Status))
}

// CheckConnect is for the field OnProxyConnectResponse of an http.Transport. The
// error of net/http has only the text that the proxy wrote.
func CheckConnect(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &ProxyError{resp.StatusCode}
	}
	return nil
}
