package trace_test

import (
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

// TestLateSteps calls the hooks as net/http does: those of a dial also after the request
// got another connection, from several goroutines, and that of a response before the
// whole request is sent.
func TestLateSteps(t *testing.T) {
	late := errors.New("late")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://h/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req, steps := trace.Watch(req)
	hooks := httptrace.ContextClientTrace(req.Context())
	want := func(step string) {
		t.Helper()
		if got := steps.Timeout(late); got.Error() != "timeout while "+step+": late" || !errors.Is(got, late) {
			t.Errorf("got %q, want %q", got, step)
		}
	}
	hooks.GetConn("proxy:3128")
	want("waiting for a connection to proxy:3128")
	hooks.DNSStart(httptrace.DNSStartInfo{Host: "proxy"})
	hooks.ConnectStart("tcp", "192.0.2.1:3128")
	hooks.ConnectDone("tcp", "192.0.2.1:3128", late)
	want("connecting to 192.0.2.1:3128")
	hooks.ConnectDone("tcp", "192.0.2.1:3128", nil)
	want("waiting for 192.0.2.1:3128")
	hooks.GotConn(httptrace.GotConnInfo{})
	var dials sync.WaitGroup
	for range 4 {
		dials.Go(func() {
			hooks.ConnectDone("tcp", "192.0.2.2:3128", nil)
			hooks.TLSHandshakeStart()
		})
	}
	want("sending the request")
	dials.Wait()
	hooks.WroteRequest(httptrace.WroteRequestInfo{Err: late})
	want("sending the request")
	hooks.GotFirstResponseByte()
	hooks.WroteRequest(httptrace.WroteRequestInfo{})
	want("reading the response")
}
