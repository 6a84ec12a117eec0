package main

import (
	stdlog "log"
	"net/http"
	"path"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
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

// newMux returns the handler of all paths, which match exactly, below a prefix that
// is empty or like /crs. Links are relative, so that they also work behind a proxy
// that serves them under a path, or strips one.
func newMux(prefix, telemetryPath string, exporter *collector.Exporter, pages *pages) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+prefix+telemetryPath, exporter.Handler())
	mux.Handle("GET "+prefix+healthyPath, exporter.Healthy())
	mux.Handle("GET "+prefix+readyPath, exporter.Ready())
	mux.Handle("GET "+prefix+"/{$}", pages.status())
	mux.Handle("GET "+prefix+tasksPath, pages.tasks())
	mux.Handle("GET "+prefix+backupsPath, pages.backups())
	if prefix != "" {
		mux.Handle("GET /{$}", redirect("."+prefix+"/"))
		mux.Handle("GET "+prefix, redirect("./"+path.Base(prefix)+"/"))
	}
	return cleanPaths(prefix, mux)
}

// redirect redirects to a relative URL, which http.Redirect would make an absolute
// path.
func redirect(to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	})
}

// cleanPaths answers 404 to paths like //metrics, from which a ServeMux redirects
// to an absolute path.
func cleanPaths(prefix string, mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Clean(r.URL.Path) != r.URL.Path && r.URL.Path != prefix+"/" {
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
