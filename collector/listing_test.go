package collector_test

import (
	"bytes"
	"fmt"
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

// Up to 50 instances are requested one by one, for which a key is enough that may list
// single instances only. More of them need the list of the region.
func TestFewInstancesOfALongList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(100, 30)
		for _, n := range []int{2, 50, 51} {
			var logged bytes.Buffer
			s := newSimulator(t, api)
			s.SetTasks(guangzhou, tasks)
			s.Inject(crsapitest.Fault{Do: crsapitest.DenyUnfiltered})
			e := s.watch(t, collector.Config{RedisIDs: ids[:n], Logger: logTo(&logged)})
			for _, want := range []int{2 * n, n, n} { // first contact doubts totals
				before := s.Requests(guangzhou)
				got := scrape(t, e)
				if n > 50 {
					got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "0"})
					continue
				}
				got.wantUp(t)
				got.wantBackups(t, ids[:n], 30)
				if sent := s.Requests(guangzhou) - before; sent != want {
					t.Errorf("a scrape of %d instances costs %d requests, want %d", n, sent, want)
				}
			}
			const text = "more than 50 watched instances need a key that may list the whole region"
			if strings.Count(logged.String(), text) != n/51 {
				t.Errorf("%d instances: logged %s", n, &logged)
			}
		}
	})
}

// An instance that the API does not know is an empty list. The log names it when
// that begins.
func TestUnknownInstance(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, sync := range collector.Syncs() {
			var logged bytes.Buffer
			tasks, ids := nightly(2, 3)
			s := newSimulator(t, api)
			s.SetTasks(guangzhou, tasks)
			s.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
			e := s.watch(t, collector.Config{
				RedisIDs: []string{ids[0], "crs-unknown"}, Sync: sync, FullSyncInterval: 2 * time.Minute, Logger: logTo(&logged),
			})
			scrapes := func(n, named int, counted string) {
				t.Helper()
				for range n {
					time.Sleep(15 * time.Second)
					scrape(t, e).want(t, samples{
						`crs_up{region="ap-guangzhou"}`:                 "1",
						`crs_corrections_total{region="ap-guangzhou"}`:  "0",
						failuresOf(crsapi.ReasonAPI):                    "0",
						transitions("crs-unknown", backup, "succeeded"): counted,
					})
				}
				if got := strings.Count(logged.String(), "crs-unknown"); got != named {
					t.Errorf("sync %s: named %d times, want %d: %s", sync, got, named, &logged)
				}
			}
			scrapes(20, 1, "") // each page is read several times
			created := backupOf("crs-unknown", time.Minute, crsapi.StatusSucceeded)
			s.Add(guangzhou, created)
			scrapes(2, 1, "0")
			scrapes(1, 1, "1")
			s.SetTasks(guangzhou, tasks) // it is deleted
			scrapes(3, 2, "1")
			s.Add(guangzhou, created)
			scrapes(1, 2, "1")
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
