package collector_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

// eachAPI runs a test through each API, in a bubble.
func eachAPI(t *testing.T, test func(t *testing.T, api crsapi.API)) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		t.Run("API "+string(api), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, api) })
		})
	}
}

// simulated returns an Exporter that watches regions of a new simulator with
// the real client, over connections that see a bubble's clock.
func simulated(t *testing.T, api crsapi.API, regions ...string) (*crsapitest.Server, *collector.Exporter) {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	return server, watchSimulated(t, server, regions, api)
}

// dialSimulated returns the sources of a simulated region, one for each API.
func dialSimulated(server *crsapitest.Server, region string, observe func(crsapi.Attempt), apis ...crsapi.API) ([]collector.Source, error) {
	return dialLimited(server, region, observe, nil, 100, apis...)
}

func dialLimited(server *crsapitest.Server, region string, observe func(crsapi.Attempt), limiter *rate.Limiter, pageSize int, apis ...crsapi.API) ([]collector.Source, error) {
	var sources []collector.Source
	for _, api := range apis {
		cfg := simulatedConfig(server, region, api, observe)
		cfg.Limiter, cfg.PageSize = limiter, pageSize
		client, err := crsapi.NewClient(cfg)
		if err != nil {
			return nil, err
		}
		sources = append(sources, collector.FromAPI(client))
	}
	return sources, nil
}

// simulatedConfig returns the Config for a simulated region, without a limit.
func simulatedConfig(server *crsapitest.Server, region string, api crsapi.API, observe func(crsapi.Attempt)) crsapi.Config {
	cfg := crsapi.DefaultConfig(api)
	cfg.Region, cfg.Observe, cfg.Limiter = region, observe, nil
	cfg.Endpoint, cfg.Transport = server.URL, server.Client().Transport
	if api != crsapi.API20 {
		cfg.Endpoint = server.URL3
	}
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	return cfg
}

func watchSimulated(t testing.TB, server *crsapitest.Server, regions []string, apis ...crsapi.API) *collector.Exporter {
	t.Helper()
	sources := map[string]collector.Source{}
	for _, region := range regions {
		sources[region] = nil
	}
	return newExporter(t, collector.Config{
		TimeoutOffset: 500 * time.Millisecond,
		Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
			return dialSimulated(server, region, observe, apis...)
		},
	}, sources)
}

func TestDocumentsExampleFromTheSimulator(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		server, e := simulated(t, api, guangzhou)
		server.SetTasks(guangzhou, crsapitest.DocumentExample())
		got := scrape(t, e)
		got.want(t, samples{
			`crs_up{region="ap-guangzhou"}`:                 "1",
			`crs_poll_pages{region="ap-guangzhou"}`:         "1",
			`crs_poll_rejected_rows{region="ap-guangzhou"}`: "0",
			`crs_api_requests_total{region="ap-guangzhou"}`: "1",
		})
		const id = "crs-izbob1wh"
		wantEqual(t, "the list", got.listed().nonzero(), samples{
			fmt.Sprintf(infoSeries, "0", id, "for API test"):           "1",
			fmt.Sprintf(backupSeries, "succeeded", id):                 "1.486710156e+09",
			fmt.Sprintf(usualSeries, id):                               "71945",
			fmt.Sprintf(firstSeries, id):                               "1.486539325e+09",
			fmt.Sprintf(lastSeries, id, "succeeded", "restoreBackup"):  "1.486716978e+09",
			fmt.Sprintf(lastSeries, id, "succeeded", backup):           "1.486710156e+09",
			fmt.Sprintf(lastSeries, id, "succeeded", clean):            "1.486539496e+09",
			fmt.Sprintf(tasksSeries, id, "succeeded", "restoreBackup"): "2",
			fmt.Sprintf(tasksSeries, id, "succeeded", backup):          "6",
			fmt.Sprintf(tasksSeries, id, "succeeded", clean):           "1",
		})
		if n, m := len(got.of("crs_tasks")), len(got.transitions()); n != 15 || m != 15 || len(got.transitions().nonzero()) != 0 {
			t.Errorf("%d series of crs_tasks and %d counters, want 15 of each, the latter 0", n, m)
		}
	})
}

func TestRegionInTroubleAffectsNoOther(t *testing.T) {
	const beijing = "ap-beijing"
	tests := []struct {
		name   string
		fault  crsapitest.Effect
		reason crsapi.Reason
	}{
		{"failing", crsapitest.HTTPStatus(http.StatusBadGateway), crsapi.ReasonServer},
		{"hanging", crsapitest.Hang, crsapi.ReasonTimeout},
		{"invalid credentials", crsapitest.APIError(4100), crsapi.ReasonAuth},
		{"permission denied", crsapitest.APIError(4102), crsapi.ReasonDenied},
		{"over the quota", crsapitest.APIError(4400), crsapi.ReasonThrottled},
		{"totals that do not add up", crsapitest.Total(func(total int) int { return total + 50 }), crsapi.ReasonDecode},
		{"reset", crsapitest.ResetBeforeHeaders, crsapi.ReasonNetwork},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				server, e := simulated(t, api, beijing, shanghai)
				for _, region := range []string{beijing, shanghai} {
					server.SetTasks(region, crsapitest.Generate(250, 5, 1))
				}
				before := scrape(t, e)
				before.want(t, samples{`crs_up{region="ap-beijing"}`: "1", `crs_up{region="ap-shanghai"}`: "1"})

				stop := server.Inject(crsapitest.Fault{Region: beijing, Do: test.fault})
				begin := time.Now()
				during := scrape(t, e)
				if took := time.Since(begin); took > 9500*time.Millisecond {
					t.Errorf("the scrape took %s", took)
				}
				during.want(t, samples{`crs_up{region="ap-beijing"}`: "0", `crs_up{region="ap-shanghai"}`: "1"})
				wantEqual(t, "the list of the region in trouble", during.in(beijing).listed(), samples{})
				wantEqual(t, "its counters", during.in(beijing).transitions(), before.in(beijing).transitions())
				wantEqual(t, "the list of the other", during.in(shanghai).listed(), before.in(shanghai).listed())
				wantEqual(t, "the counters of the other", during.in(shanghai).transitions(), before.in(shanghai).transitions())
				for _, reason := range crsapi.Reasons() {
					n := during[fmt.Sprintf("crs_api_failures_total{reason=%q,region=\"ap-beijing\"}", reason)]
					if (n != "0") != (reason == test.reason) {
						t.Errorf("%s failures of reason %s", n, reason)
					}
				}
				wantEqual(t, "failures of the other", during.of("crs_api_failures_total").in(shanghai).nonzero(), samples{})

				stop()
				poll(t, e, time.Minute) // a poll may still be in progress
				wantEqual(t, "after recovery", scrape(t, e).in(beijing).listed(), before.in(beijing).listed())
			})
		})
	}
}

func TestTwentyScrapesCostOnePoll(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		server, e := simulated(t, api, guangzhou)
		time.Sleep(26 * 365 * 24 * time.Hour) // until after the newest task
		server.SetTasks(guangzhou, crsapitest.Generate(1000, 10, 1))
		server.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
		scrape(t, e) // the first reading costs more
		first := server.Requests(guangzhou)
		scrape(t, e).want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"})
		one := server.Requests(guangzhou) - first
		var scrapes sync.WaitGroup
		for range 20 {
			scrapes.Go(func() { scrape(t, e).want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"}) })
		}
		scrapes.Wait()
		if all := server.Requests(guangzhou) - first - one; one < 10 || all != one {
			t.Errorf("one scrape costs %d requests, twenty at once %d", one, all)
		}
	})
}

func TestFailureBetweenTwoScrapes(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		task := func(age time.Duration, status crsapi.Status) crsapi.Task {
			return crsapi.Task{
				RedisID: "crs-a", RedisName: "a", ProjectID: "0", TaskName: backup,
				StartTime: time.Now().Add(-age).Truncate(time.Second).UTC(), Status: status,
			}
		}
		series := transitions("crs-a", backup, "failed")
		server, e := simulated(t, api, guangzhou)
		running, older := task(time.Hour, crsapi.StatusExecuting), task(24*time.Hour, crsapi.StatusFailed)
		server.SetTasks(guangzhou, []crsapi.Task{running, older})
		for range 2 {
			scrape(t, e).want(t, samples{series: "0"})
		}
		running.Status = crsapi.StatusFailed
		for _, tasks := range [][]crsapi.Task{{running}, {}, {running, older}} {
			server.SetTasks(guangzhou, tasks)
			scrape(t, e).want(t, samples{series: "1"})
		}
		restarted := watchSimulated(t, server, []string{guangzhou}, api)
		for range 3 {
			scrape(t, restarted).want(t, samples{series: "0"})
		}
	})
}

// The same history gives the same metrics of tasks through both APIs, where
// names and statuses have equals.
func TestBothAPIsGiveTheSameMetrics(t *testing.T) {
	names := rapid.SampledFrom([]string{
		"newInstance", "resizeInstance", "closeInstance", clean, "startInstance", "deleteInstance",
		"setPassword", "exportBackup", "restoreBackup", backup,
	})
	statuses := rapid.SampledFrom([]crsapi.Status{crsapi.StatusPending, crsapi.StatusExecuting, crsapi.StatusSucceeded, crsapi.StatusFailed})
	rapid.Check(t, func(r *rapid.T) {
		server := crsapitest.NewMemoryServer()
		defer server.Close()
		var exporters []*collector.Exporter
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			e := watchSimulated(t, server, []string{guangzhou}, api)
			defer e.Close()
			exporters = append(exporters, e)
		}
		var tasks []crsapi.Task
		clock := time.Now().Add(-24 * time.Hour).Truncate(time.Second).UTC()
		for range rapid.IntRange(1, 5).Draw(r, "polls") {
			for i := range tasks {
				if rapid.IntRange(0, 3).Draw(r, "changes") == 0 {
					tasks[i].Status = statuses.Draw(r, "status")
				}
			}
			for range rapid.IntRange(0, 30).Draw(r, "new tasks") {
				clock = clock.Add(time.Duration(rapid.IntRange(0, 100).Draw(r, "step")) * time.Second)
				tasks = slices.Insert(tasks, 0, crsapi.Task{
					RedisID: rapid.SampledFrom([]string{"crs-a", "crs-b"}).Draw(r, "redisId"), RedisName: "name", ProjectID: "7",
					TaskName: names.Draw(r, "taskName"), StartTime: clock, Status: statuses.Draw(r, "status"),
				})
			}
			server.SetTasks(guangzhou, tasks)
			legacy, successor := scrape(t, exporters[0]), scrape(t, exporters[1])
			if !legacy.up(guangzhou) || !maps.Equal(legacy.listed(), successor.listed()) || !maps.Equal(legacy.transitions(), successor.transitions()) {
				r.Fatalf("API 2.0: %v\nAPI 3.0: %v", legacy, successor)
			}
		}
	})
}

func TestEveryKindOfRetirementLeadsToAPI30(t *testing.T) {
	for name, kind := range map[string]crsapitest.Effect{
		"forbidden": crsapitest.RetiredForbidden, "version": crsapitest.RetiredVersion, "envelope": crsapitest.RetiredEnvelope,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := crsapitest.NewMemoryServer()
				t.Cleanup(server.Close)
				for _, region := range []string{guangzhou, shanghai} {
					server.SetTasks(region, crsapitest.Generate(250, 5, 1))
				}
				e := watchSimulated(t, server, []string{guangzhou, shanghai}, crsapi.API20, crsapi.API30)
				before := scrape(t, e)
				server.Inject(crsapitest.Fault{API: "2.0", Region: guangzhou, Do: kind})
				during := scrape(t, e)
				during.want(t, samples{
					`crs_up{region="ap-guangzhou"}`:                 "1",
					`crs_api_info{api="3.0",region="ap-guangzhou"}`: "1",
					`crs_api_info{api="2.0",region="ap-shanghai"}`:  "1",
				})
				const retired = `crs_api_failures_total{reason="retired",region="ap-guangzhou"}`
				if during[retired] == "0" { // several, if its windows were asked for side by side
					t.Error("no request was refused")
				}
				wantEqual(t, "the other region", during.in(shanghai).listed(), before.in(shanghai).listed())
				sent := server.Requests(guangzhou)
				after := scrape(t, e)
				if after[retired] != during[retired] {
					t.Errorf("%s requests to a retired API, %s before", after[retired], during[retired])
				}
				if server.Requests(guangzhou) == sent {
					t.Error("no request after the change-over")
				}
			})
		})
	}
}
