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
	check := func(addresses ...string) error { return collector.CheckHealth(t.Context(), addresses, "/crs") }
	for status, healthy := range map[int]bool{200: true, 401: true, 500: false} {
		path := ""
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path = r.URL.Path
			w.WriteHeader(status)
		}))
		port := server.URL[strings.LastIndex(server.URL, ":"):]
		for _, host := range []string{"127.0.0.1", ""} {
			if err := check("vsock://:1", host+port, "127.0.0.1:1"); (err == nil) != healthy || path != "/crs/-/healthy" {
				t.Errorf("%q, status %d: %v, path %s", host, status, err, path)
			}
		}
		server.Close()
		if check(port) == nil {
			t.Error("a closed server is healthy")
		}
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	if err := check(strings.TrimPrefix(secure.URL, "https://")); err != nil {
		t.Errorf("with TLS: %v", err)
	}
	for _, address := range []string{"127.0.0.1:no", "vsock://:10991"} {
		if check(address) == nil {
			t.Errorf("%q is healthy", address)
		}
	}
}
