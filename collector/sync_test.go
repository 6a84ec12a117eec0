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

// longAfter moves the bubble's clock to after the newest task of Generate.
func longAfter() { time.Sleep(26 * 365 * 24 * time.Hour) }

// simulatedWith returns an Exporter of one simulated region with a rate limit.
func simulatedWith(t *testing.T, cfg collector.Config, api crsapi.API, perSecond float64, pageSize int) (*crsapitest.Server, *collector.Exporter) {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	limiter := crsapi.NewLimiter(perSecond)
	cfg.TimeoutOffset = 500 * time.Millisecond
	cfg.Dial = func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
		return dialLimited(server, region, observe, limiter, pageSize, api)
	}
	return server, newExporter(t, cfg, map[string]collector.Source{guangzhou: nil})
}

// succeeded returns tasks that will not change any more.
func succeeded(n int) []crsapi.Task {
	tasks := crsapitest.Generate(n, 50, 1)
	for i := range tasks {
		tasks[i].Status = crsapi.StatusSucceeded
	}
	return tasks
}

func fullReadings(cause string) string {
	return fmt.Sprintf("crs_full_readings_total{cause=%q,region=%q}", cause, guangzhou)
}

// 30,000 tasks with the default rate and a timeout of ten seconds are whole within
// three scrapes, and stay so.
func TestLongListIsWholeWithinThreeScrapes(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		longAfter()
		server, e := simulatedWith(t, collector.Config{}, api, 20, 100)
		server.SetTasks(guangzhou, succeeded(30_000))
		server.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
		begin := time.Now()
		for n := range 20 {
			time.Sleep(time.Until(begin.Add(time.Duration(n) * 15 * time.Second)))
			before := server.Requests(guangzhou)
			got := scrape(t, e)
			if up := got.up(guangzhou); !up && n >= 2 {
				t.Errorf("scrape %d is down", n+1)
			} else if !up {
				got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "0"})
				if got[`crs_reading_pages{region="ap-guangzhou"}`] == "" || got[`crs_reading_pages_read{region="ap-guangzhou"}`] == "0" {
					t.Errorf("scrape %d does not tell how far the reading is: %v", n+1, got.of("crs_reading_pages", "crs_reading_pages_read"))
				}
			}
			if sent := server.Requests(guangzhou) - before; n > 3 && sent > 1 {
				t.Errorf("scrape %d of a quiet list cost %d requests", n+1, sent)
			}
			if n := len(got.of("crs_api_failures_total").nonzero()); n != 0 {
				t.Errorf("failures: %v", got.of("crs_api_failures_total").nonzero())
			}
		}
		scrape(t, e).want(t, samples{fullReadings("first"): "1", fullReadings("mismatch"): "0"})
	})
}

func TestVerificationInTheBackground(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		longAfter()
		server, e := simulatedWith(t, collector.Config{Sync: collector.SyncIncremental, FullSyncInterval: 5 * time.Minute}, api, 20, 100)
		server.SetTasks(guangzhou, succeeded(10_000))
		scrape(t, e)
		// A task that was final changes far below the head. No poll can see that.
		server.Update(guangzhou, func(tasks []crsapi.Task) []crsapi.Task {
			tasks[9000].Status = crsapi.StatusFailed
			return tasks
		})
		before := server.Requests(guangzhou)
		for range 19 { // less than the interval
			time.Sleep(15 * time.Second)
			scrape(t, e).want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", `crs_corrections_total{region="ap-guangzhou"}`: "0"})
		}
		if sent := server.Requests(guangzhou) - before; sent > 19 {
			t.Errorf("%d requests of 19 polls", sent)
		}
		for range 10 {
			time.Sleep(15 * time.Second)
			scrape(t, e)
		}
		scrape(t, e).want(t, samples{
			`crs_corrections_total{region="ap-guangzhou"}`: "1",
			fullReadings("due"):                            "1",
		})
	})
}

// A verification sends no request while a poll is in progress, and at most half of
// the rate.
func TestVerificationStandsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		longAfter()
		server, e := simulatedWith(t, collector.Config{Sync: collector.SyncIncremental, FullSyncInterval: time.Minute}, crsapi.API20, 20, 100)
		server.SetTasks(guangzhou, succeeded(5000))
		scrape(t, e)
		time.Sleep(time.Minute)
		scrape(t, e) // starts the verification
		before := server.Requests(guangzhou)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if sent := server.Requests(guangzhou) - before; sent < 20 || sent > 32 {
			t.Errorf("%d requests in 3 s, want 10 a second", sent)
		}
		server.Inject(crsapitest.Fault{Do: crsapitest.Hang})
		before = server.Requests(guangzhou)
		poll(t, e, 4*time.Second)
		if sent := server.Requests(guangzhou) - before; sent > 2 {
			t.Errorf("%d requests while a poll waits", sent)
		}
	})
}

// auto reads short lists in full and long ones incrementally.
func TestAutoDependsOnTheLength(t *testing.T) {
	for tasks, incremental := range map[int]bool{2000: false, 20_000: true} {
		synctest.Test(t, func(t *testing.T) {
			longAfter()
			server, e := simulatedWith(t, collector.Config{}, crsapi.API20, 20, 100)
			server.SetTasks(guangzhou, succeeded(tasks))
			for range 4 {
				scrape(t, e)
				time.Sleep(15 * time.Second)
			}
			before := server.Requests(guangzhou)
			scrape(t, e)
			if sent := server.Requests(guangzhou) - before; (sent < 5) != incremental {
				t.Errorf("a scrape of %d tasks costs %d requests", tasks, sent)
			}
		})
	}
}
