package trace_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

// TestSteps calls the hooks as net/http does: those of a dial also after the request got
// another connection, and that of a response before the whole request is sent.
func TestSteps(t *testing.T) {
	late := errors.New("late")
	req, steps := trace.Watch(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	hooks := httptrace.ContextClientTrace(req.Context())
	for _, test := range []struct {
		hook func()
		want string
	}{
		{func() {}, "sending the request"},
		{func() { hooks.GetConn("proxy:3128") }, "waiting for a connection to proxy:3128"},
		{func() { hooks.DNSStart(httptrace.DNSStartInfo{Host: "proxy"}) }, "looking up proxy"},
		{func() { hooks.ConnectStart("tcp", "192.0.2.1:3128") }, "connecting to 192.0.2.1:3128"},
		{func() { hooks.ConnectDone("tcp", "192.0.2.1:3128", late) }, "connecting to 192.0.2.1:3128"},
		{func() { hooks.ConnectDone("tcp", "192.0.2.1:3128", nil) }, "waiting for 192.0.2.1:3128"},
		{func() { // two dials at the same time
			var dials sync.WaitGroup
			dials.Go(hooks.TLSHandshakeStart)
			dials.Go(hooks.TLSHandshakeStart)
			dials.Wait()
		}, "negotiating TLS"},
		{func() { hooks.GotConn(httptrace.GotConnInfo{}) }, "sending the request"},
		{func() { hooks.TLSHandshakeStart() }, "sending the request"},
		{func() { hooks.WroteRequest(httptrace.WroteRequestInfo{Err: late}) }, "sending the request"},
		{func() { hooks.GotFirstResponseByte() }, "reading the response"},
		{func() { hooks.WroteRequest(httptrace.WroteRequestInfo{}) }, "reading the response"},
	} {
		test.hook()
		if got := steps.Timeout(late); got.Error() != "timeout while "+test.want+": late" || !errors.Is(got, late) {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
