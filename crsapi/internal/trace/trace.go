// Package trace reports the step of an HTTP request that timed out, and whether a proxy
// refused the request.
package trace

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
)

// Trace records the current step of a request. The hooks are called from several
// goroutines. Those of a dial are called even after the request has another connection.
type Trace struct {
	mu    sync.Mutex
	stage int
	step  string
}

// Watch returns a copy of req, and a Trace that follows it.
func Watch(req *http.Request) (*http.Request, *Trace) {
	t := &Trace{step: "sending the request"}
	begin := func(stage int, step string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if stage >= t.stage { // otherwise of a dial that the request does not need
			t.stage, t.step = stage, step
		}
	}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn:      func(to string) { begin(0, "waiting for a connection to "+to) },
		DNSStart:     func(info httptrace.DNSStartInfo) { begin(0, "looking up "+info.Host) },
		ConnectStart: func(_, addr string) { begin(0, "connecting to "+addr) },
		ConnectDone: func(_, addr string, err error) {
			if err == nil {
				begin(0, "waiting for "+addr) // for the response to CONNECT, if it is a proxy
			}
		},
		TLSHandshakeStart: func() { begin(0, "negotiating TLS") },
		GotConn:           func(httptrace.GotConnInfo) { begin(1, "sending the request") },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				begin(2, "waiting for the response")
			}
		},
		GotFirstResponseByte: func() { begin(3, "reading the response") },
	})), t
}

// Timeout returns the error of a request that timed out. It names the current step, and
// wraps err.
func (t *Trace) Timeout(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Errorf("timeout while %s: %w", t.step, err)
}

// ProxyError is the refusal of a proxy to connect, or to forward a request.
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

// CheckConnect is for the field OnProxyConnectResponse of an http.Transport. Without it,
// the error has only the text of the proxy.
func CheckConnect(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &ProxyError{resp.StatusCode}
	}
	return nil
}
