package main

import (
	"fmt"
	stdlog "log"
	"net/http"
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

// newMux returns the handler of all paths, which match exactly.
func newMux(telemetryPath string, exporter *collector.Exporter) (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "CRS Exporter",
		Description: "Tasks of Tencent Cloud's Redis (CRS) for Prometheus",
		Version:     version.Info(),
		Profiling:   "false",
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
	mux.Handle("GET /{$}", landing)
	return mux, nil
}
