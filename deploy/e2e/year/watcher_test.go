package year

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// watcher is an exporter of a region, across its restarts.
type watcher struct {
	exporterPlan
	sc        *scenario
	region    string
	server    *crsapitest.Server
	stateFile string
	cut       atomic.Bool         // cannot reach the API
	away      bool                // service discovery does not have it
	moves     int                 // to other addresses
	exporter  *collector.Exporter // nil while it does not run
}

func newWatcher(t *testing.T, sc *scenario, server *crsapitest.Server, region string, plan exporterPlan) *watcher {
	w := &watcher{exporterPlan: plan, sc: sc, region: region, server: server}
	if plan.state {
		w.stateFile = filepath.Join(t.TempDir(), "state")
	}
	t.Cleanup(w.stop)
	w.start(t)
	return w
}

func (w *watcher) start(t *testing.T) {
	t.Helper()
	var apis []crsapi.Config
	for _, api := range w.apis {
		cfg := crsapi.DefaultConfig(api)
		cfg.Transport = w
		cfg.Endpoint = w.server.URL
		if api != crsapi.API20 {
			cfg.Endpoint = w.server.URL3
		}
		cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
		apis = append(apis, cfg)
	}
	cfg := collector.Config{
		Regions: []string{w.region},
		Dial:    collector.DialAPIs(apis...),
		// What a year costs decides: each scrape asks for what may have changed.
		Sync:          collector.SyncIncremental,
		TimeoutOffset: 500 * time.Millisecond,
		StateFile:     w.stateFile,
	}
	if w.sc.Inventory {
		cfg.Inventory = readEvery
	}
	var err error
	w.exporter, err = collector.New(cfg)
	check(t, err)
}

func (w *watcher) stop() {
	if w.exporter != nil {
		w.exporter.Close()
		w.exporter = nil
	}
}

// RoundTrip implements http.RoundTripper.
func (w *watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.cut.Load() {
		return nil, errors.New("no route to host")
	}
	return w.server.Client().Transport.RoundTrip(r)
}

// scrape returns what a scrape gets: nothing if service discovery does not have the exporter.
func (w *watcher) scrape(ctx context.Context) answer {
	a := answer{address: fmt.Sprintf("%d.%s", w.moves, w.address)}
	if w.away {
		return a
	}
	if w.exporter == nil {
		a.text = "up 0\n"
		return a
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	recorder := httptest.NewRecorder()
	w.exporter.Handler().ServeHTTP(recorder, r)
	a.text = recorder.Body.String() + "up 1\n"
	return a
}

// suffer begins what the exporter does in an incident, and returns what ends it.
func (w *watcher) suffer(t *testing.T, does exporterDoes) (end func()) {
	switch does {
	case cut:
		w.cut.Store(true)
		return func() { w.cut.Store(false) }
	case away:
		w.away = true
		return func() { w.away = false }
	case moves:
		w.stop()
		w.away = true
		return func() {
			w.start(t)
			w.away = false
			w.moves++
		}
	default: // down
		w.stop()
		return func() { w.start(t) }
	}
}
