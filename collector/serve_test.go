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

func TestWithPrefix(t *testing.T) {
	mux := http.NewServeMux()
	for _, path := range []string{"/{$}", "/metrics"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) })
	}
	for _, test := range []struct {
		prefix, path string
		status       int
		text         string // the body, or where a redirect leads to
	}{
		{"", "/", 200, "/"},
		{"", "//metrics", 404, ""},
		{"", "/x/../metrics", 404, ""},
		{"/ops/crs", "/ops/crs/", 200, "/"},
		{"/ops/crs", "/ops/crs/metrics", 200, "/metrics"},
		{"/ops/crs", "/metrics", 404, ""},
		{"/ops/crs", "/ops/crs//metrics", 404, ""},
		{"/ops/crs", "/ops/crsx", 404, ""},
		{"/ops/crs", "/", 302, "./ops/crs/"},
		{"/ops/crs", "/ops/crs", 302, "./crs/"},
	} {
		w := httptest.NewRecorder()
		collector.WithPrefix(test.prefix, mux).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://host"+test.path, nil))
		if got := w.Body.String() + w.Header().Get("Location"); w.Code != test.status || test.text != "" && got != test.text {
			t.Errorf("%q below %q: %d %q, want %d %q", test.path, test.prefix, w.Code, got, test.status, test.text)
		}
	}
}

func TestCheckHealth(t *testing.T) {
	for status, healthy := range map[int]bool{200: true, 401: true, 500: false} {
		path := ""
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path = r.URL.Path
			w.WriteHeader(status)
		}))
		port := server.URL[strings.LastIndex(server.URL, ":"):]
		for _, host := range []string{"127.0.0.1", "", "0.0.0.0"} {
			if err := collector.CheckHealth(t.Context(), []string{"vsock://:1", host + port, "127.0.0.1:1"}, "/crs"); (err == nil) != healthy || path != "/crs/-/healthy" {
				t.Errorf("%q, status %d: %v, path %s", host, status, err, path)
			}
		}
		server.Close()
		if err := collector.CheckHealth(t.Context(), []string{port}, ""); err == nil {
			t.Error("a closed server is healthy")
		}
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	if err := collector.CheckHealth(t.Context(), []string{strings.TrimPrefix(secure.URL, "https://")}, ""); err != nil {
		t.Errorf("with TLS: %v", err)
	}
	for _, address := range []string{"", "127.0.0.1:no", "vsock://:10991"} {
		if err := collector.CheckHealth(t.Context(), []string{address}, ""); err == nil {
			t.Errorf("%q is healthy", address)
		}
	}
}
