package trace_test

import (
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

var errLate = errors.New("late")

// watch returns the hooks of a request, and what names its step.
func watch(t *testing.T) (*httptrace.ClientTrace, func() string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://h/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req, steps := trace.Watch(req)
	return httptrace.ContextClientTrace(req.Context()), func() string { return steps.Timeout(errLate).Error() }
}

// TestLateSteps: a dial goes on after its request got another connection, and a
// response may come before the whole request is sent.
func TestLateSteps(t *testing.T) {
	hooks, step := watch(t)
	want := func(text string) {
		t.Helper()
		if got := step(); got != "timeout while "+text+": late" {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	want("sending the request")
	hooks.GetConn("h:443")
	want("waiting for a connection to h:443")
	hooks.DNSStart(httptrace.DNSStartInfo{Host: "h"})
	want("looking up h")
	hooks.ConnectStart("tcp", "192.0.2.1:443")
	hooks.ConnectStart("tcp", "192.0.2.2:443")
	want("connecting to 192.0.2.2:443")
	hooks.GotConn(httptrace.GotConnInfo{})
	hooks.ConnectDone("tcp", "192.0.2.2:443", nil)
	hooks.TLSHandshakeStart()
	want("sending the request")
	hooks.WroteRequest(httptrace.WroteRequestInfo{Err: errLate})
	want("sending the request")
	hooks.GotFirstResponseByte()
	hooks.WroteRequest(httptrace.WroteRequestInfo{})
	want("reading the response")
}

// TestSteps calls the hooks as net/http does: also after the request has ended.
func TestSteps(t *testing.T) {
	hooks, step := watch(t)
	hooks.GetConn("proxy:3128")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			hooks.DNSStart(httptrace.DNSStartInfo{Host: "proxy"})
			hooks.ConnectStart("tcp", "192.0.2.1:3128")
			hooks.ConnectDone("tcp", "192.0.2.1:3128", nil)
		})
		_ = step()
	}
	group.Wait()
	if got := step(); got != "timeout while waiting for 192.0.2.1:3128: late" {
		t.Error(got)
	}
}
