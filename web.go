package main

import (
	"fmt"
	stdlog "log"
	"net/http"
	"path"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
)

const (
	// Limits for a client that sends a request or reads a response. The handler
	// of scrapes sets its own deadline.
	readTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second
	idleTimeout  = 2 * time.Minute

	maxRequestHeader = 32 << 10
	// relativeRoot is the root of the server, as seen from its landing page.
	relativeRoot = "./"
)

func newServer(handler http.Handler, errorLog *stdlog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxRequestHeader,
		ErrorLog:          errorLog,
	}
}

// newMux returns the handler of all paths, which match exactly. Links are
// relative, so that they also work behind a proxy that serves them under a path.
func newMux(telemetryPath string, exporter *collector.Exporter) (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "CRS Exporter",
		Description: "Tasks of Tencent Cloud's Redis (CRS) for Prometheus",
		Version:     version.Info(),
		Profiling:   "false",
		RoutePrefix: relativeRoot,
		Links: []web.LandingLinks{
			{Address: telemetryPath, Text: "Metrics", Description: "for Prometheus"},
			{Address: healthyPath, Text: "Healthy", Description: "200 while the process runs"},
			{Address: readyPath, Text: "Ready", Description: "200 once every region was polled"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("landing page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+telemetryPath, exporter.Handler())
	mux.Handle("GET "+healthyPath, exporter.Healthy())
	mux.Handle("GET "+readyPath, exporter.Ready())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		// The landing page compares the path with the prefix of its links.
		r = r.Clone(r.Context())
		r.URL.Path = relativeRoot
		landing.ServeHTTP(w, r)
	})
	return cleanPaths(mux), nil
}

// cleanPaths answers 404 to paths like //metrics, from which a ServeMux redirects
// to an absolute path.
func cleanPaths(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Clean(r.URL.Path) != r.URL.Path {
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
