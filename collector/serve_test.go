package collector_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector"
)

// Served paths and redirects; the tests of the program have the paths without a trick.
func TestWithPrefix(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(http.ResponseWriter, *http.Request) {})
	for _, test := range []struct {
		prefix, path string
		status       int
		redirect     string
	}{
		{"", "//metrics", 404, ""},
		{"", "/x/../metrics", 404, ""},
		{"/ops/crs", "/ops/crs/metrics", 200, ""},
		{"/ops/crs", "/ops/crs//metrics", 404, ""},
		{"/ops/crs", "/ops/crsx", 404, ""},
		{"/ops/crs", "/", 302, "./ops/crs/"},
		{"/ops/crs", "/ops/crs", 302, "./crs/"},
	} {
		w := serve(collector.WithPrefix(test.prefix, mux), httptest.NewRequest(http.MethodGet, "http://host"+test.path, nil))
		if got := w.Header().Get("Location"); w.Code != test.status || got != test.redirect {
			t.Errorf("%q below %q: %d %q, want %d %q", test.path, test.prefix, w.Code, got, test.status, test.redirect)
		}
	}
}

func TestCheckHealth(t *testing.T) {
	status, path := http.StatusOK, ""
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		w.WriteHeader(status)
	})
	server, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	defer server.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	address := server.Listener.Addr().String()
	for _, test := range []struct {
		status    int
		addresses string
		healthy   bool
	}{
		{200, "vsock://:1 " + address + " 127.0.0.1:1", true},
		{200, address[strings.LastIndex(address, ":"):], true},
		{401, address, true},
		{500, address, false},
		{200, secure.Listener.Addr().String(), true},
		{200, "127.0.0.1:1", false},
		{200, "127.0.0.1:no", false},
		{200, "vsock://:10991", false},
	} {
		status = test.status
		err := collector.CheckHealth(t.Context(), strings.Fields(test.addresses), "/crs")
		if (err == nil) != test.healthy || path != "/crs/-/healthy" {
			t.Errorf("%q, status %d: %v, path %s", test.addresses, status, err, path)
		}
	}
}
