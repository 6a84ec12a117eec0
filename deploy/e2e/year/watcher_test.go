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
	region    region
	server    *crsapitest.Server
	stateFile string
	cut       atomic.Bool   // cannot reach the API
	hidden    exporterDoes  // away or unscraped
	moves     int           // to other addresses
	behind    time.Duration // its time zone, relative to the API's

	exporter *collector.Exporter // nil while it does not run
	downs    int                 // incidents that keep it from running
}

func newWatcher(t *testing.T, sc *scenario, server *crsapitest.Server, region region, plan exporterPlan) *watcher {
	plan.apis = sc.apisOf(plan)
	w := &watcher{exporterPlan: plan, sc: sc, region: region, server: server}
	if plan.state {
		w.stateFile = filepath.Join(t.TempDir(), "state")
	}
	t.Cleanup(w.stop)
	w.restart(t, 0)
	return w
}

// restart starts the exporter with a time zone that is so far behind the API's.
func (w *watcher) restart(t *testing.T, behind time.Duration) {
	t.Helper()
	w.stop()
	w.behind = behind
	var apis []crsapi.Config
	for _, api := range w.apis {
		cfg := crsapi.DefaultConfig(api)
		cfg.Transport = w
		cfg.UTCOffset -= behind
		cfg.Endpoint = w.server.URL
		if api != crsapi.API20 {
			cfg.Endpoint = w.server.URL3
		}
		cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
		apis = append(apis, cfg)
	}
	cfg := collector.Config{
		Regions: []string{w.region.name},
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
	a := answer{region: w.region, address: fmt.Sprintf("%d.%s", w.moves, w.address)}
	if w.hidden == away {
		return a
	}
	if w.hidden == unscraped || w.exporter == nil {
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

// suffer begins an incident of the exporter and returns what ends it.
func (w *watcher) suffer(t *testing.T, i incident) (end func()) {
	switch i.exporterDoes {
	case down:
		w.stop()
		w.downs++
		return func() {
			if w.downs--; w.downs == 0 {
				w.restart(t, w.behind)
			}
		}
	case cut:
		w.cut.Store(true)
		return func() { w.cut.Store(false) }
	case moves:
		started := w.suffer(t, incident{exporterDoes: down})
		w.hidden = away
		return func() {
			started()
			w.hidden = nothing
			w.moves++
		}
	case away, unscraped:
		w.hidden = i.exporterDoes
		return func() { w.hidden = nothing }
	case misread:
		w.restart(t, i.behind)
		return func() { w.restart(t, 0) }
	default:
		panic("nothing happens to " + w.address)
	}
}
