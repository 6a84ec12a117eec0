package collector_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestTurn checks how many pages scrapes read of a list at rest.
func TestTurn(t *testing.T) {
	for _, test := range []struct {
		name             string
		sync             collector.Sync
		rate             float64
		regions, windows int
		least, most      int           // pages of a scrape
		age              time.Duration // at most
	}{
		{"full", collector.SyncFull, 20, 1, 50, 50, 53, 10 * time.Second},
		{"a short list fits in half of the scrape", collector.SyncAuto, 20, 1, 50, 50, 53, 10 * time.Second},
		{"a long one does not", collector.SyncAuto, 20, 1, 120, 1, 17, 270 * time.Second},
		{"regions share the rate", collector.SyncAuto, 20, 4, 50, 1, 9, 270 * time.Second},
		{"without a limit", collector.SyncAuto, 0, 1, 120, 120, 124, 10 * time.Second},
		{"incremental", collector.SyncIncremental, 20, 1, 50, 1, 9, 270 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := limited(t, crsapi.API20, test.rate)
				server.pageSize = 20 // windows of 19
				server.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
				var regions []string
				tasks, _ := nightly(5, 19*test.windows/5) // few instances, so that scrapes are small
				for i := range test.regions {
					regions = append(regions, fmt.Sprintf("r%d", i))
					server.SetTasks(regions[i], tasks)
				}
				e := server.watch(t, collector.Config{Sync: test.sync, FullSyncInterval: 2 * time.Minute}, regions...)
				for range 4 { // the first reading
					scrape(t, e)
					time.Sleep(15 * time.Second)
				}
				for range 20 {
					scrape(t, e)
					status := e.Status()[0]
					if status.Err != nil || status.Pages < test.least || status.Pages > test.most {
						t.Fatalf("%d pages, %v", status.Pages, status.Err)
					}
					time.Sleep(15 * time.Second)
				}
				if age := time.Since(e.Status()[0].FullRead) - 15*time.Second; age > test.age {
					t.Errorf("all has been read since %s", age)
				}
			})
		})
	}
}

// 30,000 tasks with the default rate and a timeout of ten seconds are whole within three
// scrapes, and then cost a few requests a scrape. So they are if many of the instances are
// watched.
func TestLongListIsWholeWithinThreeScrapes(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(100, 300)
		for watched, redisIDs := range map[int][]string{100: nil, 60: ids[:60]} {
			server := limited(t, api, 20)
			e := server.watch(t, collector.Config{RedisIDs: redisIDs})
			server.SetTasks(guangzhou, tasks)
			server.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
			for n := 1; n <= 8; n++ {
				before := server.Requests(guangzhou)
				got := scrape(t, e)
				if n >= 3 || got.up(guangzhou) {
					got.wantUp(t)
					got.wantBackups(t, ids[:watched], 300)
				} else if read := got.of("crs_reading_pages", "crs_reading_pages_read").nonzero(); len(read) != 2 {
					t.Errorf("scrape %d does not show the progress: %v", n, read)
				}
				// One for the head, and a share of 300 pages in 15 minutes.
				if sent := server.Requests(guangzhou) - before; n > 4 && sent > 1+6 {
					t.Errorf("scrape %d of a quiet list cost %d requests", n, sent)
				}
				wantEqual(t, "failures", got.of("crs_api_failures_total").nonzero(), samples{})
				time.Sleep(15 * time.Second)
			}
			// After a pause, a scrape does not read more than it has time for.
			time.Sleep(day)
			scrape(t, e).wantUp(t)
		}
	})
}

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
