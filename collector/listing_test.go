package collector_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// nightly returns finished backups of many instances, the newest first, and their
// IDs. The newest is an hour old.
func nightly(instances, each int) (tasks []crsapi.Task, ids []string) {
	for i := range instances {
		ids = append(ids, fmt.Sprintf("crs-%04d", i))
	}
	for night := range each {
		for i, id := range ids {
			tasks = append(tasks, backupOf(id, time.Hour+time.Duration(night)*day+time.Duration(i)*time.Second, crsapi.StatusSucceeded))
		}
	}
	return tasks, ids
}

// wantBackups wants the number of backups of these instances, and no others.
func (s samples) wantBackups(t testing.TB, ids []string, each int) {
	t.Helper()
	want := samples{}
	for _, id := range ids {
		want[fmt.Sprintf(tasksSeries, id, "succeeded", backup)] = fmt.Sprint(each)
	}
	wantEqual(t, "tasks", s.of("crs_tasks").nonzero(), want)
}

// watched is a simulated region of which some instances are watched.
type watched struct {
	*testing.T
	*simulator
	e   *collector.Exporter
	log bytes.Buffer
}

func watchInstances(t *testing.T, api crsapi.API, tasks []crsapi.Task, cfg collector.Config) *watched {
	t.Helper()
	w := &watched{T: t, simulator: limited(t, api, 20)}
	cfg.Logger = logTo(&w.log)
	w.e = w.watch(t, cfg)
	w.SetTasks(guangzhou, tasks)
	return w
}

// scrape waits 15 s and scrapes. It returns the samples and the requests.
func (w *watched) scrape() (got samples, requests int) {
	w.Helper()
	time.Sleep(15 * time.Second)
	before := w.Requests(guangzhou)
	got = scrape(w, w.e)
	wantEqual(w, "failures", got.of("crs_api_failures_total").nonzero().where(func(series, _ string) bool {
		return series != failuresOf(crsapi.ReasonDenied)
	}), samples{})
	return got, w.Requests(guangzhou) - before
}

// 250 instances are filtered from the list of the region: whole within three scrapes,
// and then a few requests a scrape.
func TestManyInstancesAreWholeWithinThreeScrapes(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(1000, 30)
		w := watchInstances(t, api, tasks, collector.Config{RedisIDs: ids[:250]})
		w.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
		for n := 1; n <= 8; n++ {
			got, sent := w.scrape()
			if n < 3 && !got.up(guangzhou) {
				continue
			}
			if n > 4 && sent > 1+6 { // the head, and a share of 300 pages
				t.Errorf("scrape %d costs %d requests", n, sent)
			}
			got.wantUp(t)
			got.wantBackups(t, ids[:250], 30)
		}
	})
}

// Up to 50 instances are requested one by one, for which a key is enough that may list
// single instances only. More of them need the list of the region.
func TestFewInstancesOfALongList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(100, 30)
		for _, n := range []int{2, 50, 51} {
			w := watchInstances(t, api, tasks, collector.Config{RedisIDs: ids[:n]})
			w.Inject(crsapitest.Fault{Do: crsapitest.DenyUnfiltered})
			for i := range 3 {
				got, sent := w.scrape()
				if n > 50 {
					if got.up(guangzhou) {
						t.Errorf("up with %d instances", n)
					}
					continue
				}
				got.wantUp(t)
				got.wantBackups(t, ids[:n], 30)
				if want := n * map[bool]int{true: 2, false: 1}[i == 0]; sent != want { // first contact doubts totals
					t.Errorf("scrape %d of %d instances costs %d requests", i, n, sent)
				}
			}
			const text = "more than 50 watched instances need a key that may list the whole region"
			if logged := strings.Count(w.log.String(), text); logged != n/51 {
				t.Errorf("%d instances: logged %s", n, &w.log)
			}
		}
	})
}

// An instance that the API does not know is an empty list. The log names it when
// that begins.
func TestUnknownInstance(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, sync := range collector.Syncs() {
			tasks, ids := nightly(2, 3)
			w := watchInstances(t, api, tasks, collector.Config{RedisIDs: []string{ids[0], "crs-unknown"}, Sync: sync, FullSyncInterval: 2 * time.Minute})
			w.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
			scrapes := func(n, named int, counted string) {
				t.Helper()
				for range n {
					got, _ := w.scrape()
					got.want(t, samples{
						`crs_up{region="ap-guangzhou"}`:                 "1",
						`crs_corrections_total{region="ap-guangzhou"}`:  "0",
						transitions("crs-unknown", backup, "succeeded"): counted,
					})
				}
				if got := strings.Count(w.log.String(), "crs-unknown"); got != named {
					t.Errorf("sync %s: named %d times, want %d: %s", sync, got, named, &w.log)
				}
			}
			scrapes(20, 1, "") // each page is read several times
			if status := w.e.Status()[0]; !slices.Equal(status.Unlisted, []string{"crs-unknown"}) {
				t.Errorf("status %+v", status)
			}
			created := backupOf("crs-unknown", time.Minute, crsapi.StatusSucceeded)
			w.Add(guangzhou, created)
			scrapes(2, 1, "0")
			scrapes(1, 1, "1")
			w.SetTasks(guangzhou, tasks) // it is deleted
			scrapes(3, 2, "1")
			w.Add(guangzhou, created)
			scrapes(1, 2, "1")
		}
	})
}

// An unknown instance does not keep a long list from being read incrementally.
func TestUnknownInstanceBesideALongList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(1, 10_000)
		w := watchInstances(t, api, tasks, collector.Config{RedisIDs: []string{ids[0], "crs-unknown"}})
		w.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
		for range 4 {
			w.scrape()
		}
		if got, sent := w.scrape(); !got.up(guangzhou) || sent > 4 {
			t.Errorf("%d requests, up %t", sent, got.up(guangzhou))
		}
	})
}

// Where all instances are listed, the same answer is a failure. A smaller page is tried once.
func TestUnknownWithoutAnInstance(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		s := newSimulator(t, api)
		s.Inject(crsapitest.Fault{Do: crsapitest.APIError(5000)})
		scrape(t, s.watch(t, collector.Config{})).want(t, samples{`crs_up{region="ap-guangzhou"}`: "0", failuresOf(crsapi.ReasonAPI): "2"})
	})
}

// Task types and lookback reach the API.
func TestFiltersOfTheList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		cleaned := backupOf("crs-a", time.Hour, crsapi.StatusSucceeded)
		cleaned.TaskName = clean
		s := newSimulator(t, api)
		s.SetTasks(guangzhou, []crsapi.Task{cleaned, backupOf("crs-a", 2*time.Hour, crsapi.StatusSucceeded), backupOf("crs-a", 3*day, crsapi.StatusSucceeded)})
		e := s.watch(t, collector.Config{TaskTypes: []string{"task_backupInstance"}, Lookback: 2 * day})
		scrape(t, e).wantBackups(t, []string{"crs-a"}, 1)
	})
}
