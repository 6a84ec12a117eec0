package collector_test

import (
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestKeptConnectionsGoBad polls many pages over several connections, behind all of
// which the machines then go bad. New connections are good.
func TestKeptConnectionsGoBad(t *testing.T) {
	for name, do := range map[string]crsapitest.Effect{
		"hang":             crsapitest.Hang,
		"reset":            crsapitest.ResetBeforeHeaders,
		"cut":              crsapitest.ShortBody,
		"half of the JSON": crsapitest.TruncatedJSON,
		"500":              crsapitest.HTTPStatus(500),
		"5100":             crsapitest.APIError(5100),
	} {
		for sync, tasks := range map[collector.Sync]int{collector.SyncFull: 1200, collector.SyncIncremental: 3300} {
			t.Run(name+"/"+string(sync), func(t *testing.T) {
				eachAPI(t, func(t *testing.T, api crsapi.API) {
					server := crsapitest.NewMemoryServer()
					t.Cleanup(server.Close)
					server.SetTasks(guangzhou, crsapitest.Generate(tasks, 50, 1))
					// So slow that requests in flight need connections of their own.
					server.Inject(crsapitest.Fault{Do: crsapitest.Latency(50 * time.Millisecond)})
					e := newExporter(t, collector.Config{
						TimeoutOffset: 500 * time.Millisecond,
						Sync:          sync,
						Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
							return dialSimulated(server, region, observe, api)
						},
					}, map[string]collector.Source{guangzhou: nil})
					up := samples{`crs_up{region="ap-guangzhou"}`: "1"}
					for range 2 {
						scrape(t, e).want(t, up)
					}
					if n := server.Connections(); n < 4 {
						t.Fatalf("only %d connections", n)
					}
					server.Inject(crsapitest.Fault{Do: server.OnOpenConnections(do)})
					for range 2 {
						scrape(t, e).want(t, up)
					}
				})
			})
		}
	}
}
