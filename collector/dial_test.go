package collector_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TestLimiterPerHost has a rate limit of one request per second. The regions of one host
// share it.
func TestLimiterPerHost(t *testing.T) {
	for _, test := range []struct {
		api      crsapi.API
		endpoint string
		took     time.Duration
	}{
		{crsapi.API20, "http://host/v2/index.php", time.Second},
		{crsapi.API30, "http://host/", time.Second},
		{crsapi.API30, "http://{region}.host/", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := limited(t, test.api, 1)
			server.SetTasks(guangzhou, nil) // one request each
			server.SetTasks(shanghai, nil)
			cfg := server.config(test.api)
			cfg.Endpoint = test.endpoint
			e := newExporter(t, collector.Config{Regions: []string{guangzhou, shanghai}, Dial: collector.DialAPIs(cfg)}, nil)
			begin := time.Now()
			up := poll(t, e, time.Minute).of("crs_up").nonzero()
			if took := time.Since(begin); took != test.took || len(up) != 2 || server.Requests("") != 2 {
				t.Errorf("%s: %d requests took %v, want 2 in %v", test.endpoint, server.Requests(""), took, test.took)
			}
		})
	}
}
