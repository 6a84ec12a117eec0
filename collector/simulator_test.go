package collector_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// against returns an Exporter that watches regions of a new simulator with the
// real client, over connections that see a bubble's clock.
func against(t *testing.T, regions ...string) (*crsapitest.Server, *collector.Exporter) {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	return server, watch(t, server, regions...)
}

func watch(t *testing.T, server *crsapitest.Server, regions ...string) *collector.Exporter {
	t.Helper()
	e, err := collector.New(collector.Config{
		Regions:       regions,
		TimeoutOffset: 500 * time.Millisecond,
		Dial: func(region string, observe func(crsapi.Attempt)) (collector.Source, error) {
			cfg := crsapi.DefaultConfig()
			cfg.Region, cfg.Observe, cfg.RateLimit = region, observe, 0
			cfg.Endpoint, cfg.Transport = server.URL, server.Client().Transport
			cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
			client, err := crsapi.NewClient(cfg)
			if err != nil {
				return nil, err
			}
			return collector.FromAPI(client), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// scrape returns the samples of a scrape by their series.
func scrape(t *testing.T, e *collector.Exporter) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	begin := time.Now()
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if took := time.Since(begin); w.Code != http.StatusOK || took > 9500*time.Millisecond {
		t.Errorf("status %d after %s", w.Code, took)
	}
	samples := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if i := strings.LastIndex(line, " "); strings.HasPrefix(line, "crs_") {
			samples[line[:i]] = strings.TrimSpace(line[i+1:])
		}
	}
	return samples
}

func want(t *testing.T, samples map[string]string, wanted map[string]string) {
	t.Helper()
	for series, value := range wanted {
		if samples[series] != value {
			t.Errorf("%s is %q, want %q", series, samples[series], value)
		}
	}
}

// describing returns what samples tell of a region's list.
func describing(samples map[string]string, region string) []string {
	var found []string
	for series := range samples {
		name, _, _ := strings.Cut(series, "{")
		switch name {
		case "crs_tasks", "crs_task_last_start_timestamp_seconds", "crs_task_oldest_start_timestamp_seconds", "crs_instance_info":
			if strings.Contains(series, fmt.Sprintf("region=%q", region)) {
				found = append(found, series)
			}
		}
	}
	slices.Sort(found)
	return found
}

func TestDocumentsExampleFromTheSimulator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, e := against(t, "ap-guangzhou")
		server.SetTasks("ap-guangzhou", crsapitest.DocumentExample())
		samples := scrape(t, e)
		const labels = `{redisId="crs-izbob1wh",region="ap-guangzhou",status=%q,taskName=%q}`
		wanted := map[string]string{
			`crs_up{region="ap-guangzhou"}`:                 "1",
			`crs_poll_pages{region="ap-guangzhou"}`:         "1",
			`crs_poll_rejected_rows{region="ap-guangzhou"}`: "0",
			`crs_api_requests_total{region="ap-guangzhou"}`: "1",
			`crs_instance_info{projectId="0",redisId="crs-izbob1wh",redisName="for API test",region="ap-guangzhou"}`: "1",

			"crs_task_last_start_timestamp_seconds" + fmt.Sprintf(labels, "succeeded", "restoreBackup"):  "1.486716978e+09",
			"crs_task_last_start_timestamp_seconds" + fmt.Sprintf(labels, "succeeded", "backupInstance"): "1.486710156e+09",
			"crs_task_last_start_timestamp_seconds" + fmt.Sprintf(labels, "succeeded", "cleanInstance"):  "1.486539496e+09",
		}
		for taskName, succeeded := range map[string]string{"backupInstance": "6", "restoreBackup": "2", "cleanInstance": "1"} {
			for _, status := range []string{"pending", "executing", "succeeded", "failed", "error"} {
				series := fmt.Sprintf(labels, status, taskName)
				wanted["crs_tasks"+series] = "0"
				wanted["crs_task_transitions_total"+series] = "0"
			}
			wanted["crs_tasks"+fmt.Sprintf(labels, "succeeded", taskName)] = succeeded
		}
		want(t, samples, wanted)
		if n := len(describing(samples, "ap-guangzhou")); n != 15+3+1 {
			t.Errorf("%d series describe the list, want 19", n)
		}
	})
}

func TestOneRegionInTroubleHarmsNoOther(t *testing.T) {
	tests := []struct {
		name    string
		trouble func(*crsapitest.Server)
		reason  string
	}{
		{"failing", func(s *crsapitest.Server) {
			s.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.HTTPStatus(http.StatusBadGateway)})
		}, "server"},
		{"hanging", func(s *crsapitest.Server) {
			s.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.Hang})
		}, "timeout"},
		{"key refused", func(s *crsapitest.Server) {
			s.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.APIError(4100)})
		}, "auth"},
		{"permission revoked", func(s *crsapitest.Server) {
			s.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.APIError(4102)})
		}, "denied"},
		{"over the quota", func(s *crsapitest.Server) {
			s.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.APIError(4400)})
		}, "throttled"},
		{"totals that never add up", func(s *crsapitest.Server) {
			s.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.Total(func(total int) int { return total + 50 })})
		}, "decode"},
		{"reset", func(s *crsapitest.Server) {
			s.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.ResetBeforeHeaders})
		}, "network"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, e := against(t, "ap-beijing", "ap-shanghai")
				for _, region := range []string{"ap-beijing", "ap-shanghai"} {
					server.SetTasks(region, crsapitest.Generate(250, 5, 1))
				}
				before := scrape(t, e)
				want(t, before, map[string]string{`crs_up{region="ap-beijing"}`: "1", `crs_up{region="ap-shanghai"}`: "1"})

				test.trouble(server)
				during := scrape(t, e)
				want(t, during, map[string]string{`crs_up{region="ap-beijing"}`: "0", `crs_up{region="ap-shanghai"}`: "1"})
				if found := describing(during, "ap-beijing"); len(found) > 0 {
					t.Errorf("the list of the region in trouble is described: %v", found)
				}
				for series, value := range before {
					if strings.Contains(series, "ap-shanghai") && strings.HasPrefix(series, "crs_task") && during[series] != value {
						t.Errorf("%s of the other region is %q, want %q", series, during[series], value)
					}
					if strings.Contains(series, "ap-beijing") && strings.HasPrefix(series, "crs_task_transitions_total") && during[series] != value {
						t.Errorf("the counter %s is %q, want %q", series, during[series], value)
					}
				}
				for _, reason := range crsapi.Reasons() {
					n := during[fmt.Sprintf("crs_api_failures_total{reason=%q,region=\"ap-beijing\"}", reason)]
					if (n != "0") != (string(reason) == test.reason) {
						t.Errorf("%s failures of reason %s", n, reason)
					}
					if n := during[fmt.Sprintf("crs_api_failures_total{reason=%q,region=\"ap-shanghai\"}", reason)]; n != "0" {
						t.Errorf("%s failures of reason %s in the other region", n, reason)
					}
				}

				server.ClearFaults()
				after := scrape(t, e)
				if !slices.Equal(describing(after, "ap-beijing"), describing(before, "ap-beijing")) {
					t.Error("the region in trouble has not recovered")
				}
			})
		})
	}
}

func TestTwentyScrapesCostOnePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, e := against(t, "ap-guangzhou")
		server.SetTasks("ap-guangzhou", crsapitest.Generate(1000, 10, 1))
		server.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
		want(t, scrape(t, e), map[string]string{`crs_up{region="ap-guangzhou"}`: "1"})
		one := server.Requests("ap-guangzhou")
		var scrapes sync.WaitGroup
		for range 20 {
			scrapes.Go(func() {
				want(t, scrape(t, e), map[string]string{`crs_up{region="ap-guangzhou"}`: "1"})
			})
		}
		scrapes.Wait()
		if all := server.Requests("ap-guangzhou") - one; one < 10 || all != one {
			t.Errorf("one scrape costs %d requests, twenty at once %d", one, all)
		}
	})
}

func TestFailureBetweenTwoScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			region = "ap-guangzhou"
			failed = `crs_task_transitions_total{redisId="crs-a",region="ap-guangzhou",status="failed",taskName="backupInstance"}`
		)
		task := func(age time.Duration, status crsapi.Status) crsapi.Task {
			return crsapi.Task{
				RedisID: "crs-a", RedisName: "a", ProjectID: "0", TaskName: "backupInstance",
				StartTime: time.Now().Add(-age).Truncate(time.Second).UTC(), Status: status,
			}
		}
		server, e := against(t, region)
		running, older := task(time.Hour, crsapi.StatusExecuting), task(24*time.Hour, crsapi.StatusFailed)
		server.SetTasks(region, []crsapi.Task{running, older})
		want(t, scrape(t, e), map[string]string{failed: "0"})

		running.Status = crsapi.StatusFailed
		server.SetTasks(region, []crsapi.Task{running})
		want(t, scrape(t, e), map[string]string{failed: "1"})
		server.SetTasks(region, nil)
		want(t, scrape(t, e), map[string]string{failed: "1"})
		server.SetTasks(region, []crsapi.Task{running, older})
		want(t, scrape(t, e), map[string]string{failed: "1"})

		restarted := watch(t, server, region)
		want(t, scrape(t, restarted), map[string]string{failed: "0"})
	})
}
