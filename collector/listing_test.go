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
// single instances only. More of them need the list of the region. Task types and lookback
// reach the API.
func TestFewInstancesOfALongList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(100, 31)
		cleaned := tasks[0]
		cleaned.TaskName = clean
		tasks = append([]crsapi.Task{cleaned}, tasks...)
		for _, n := range []int{2, 50, 51} {
			var logged bytes.Buffer
			s := newSimulator(t, api)
			s.SetTasks(guangzhou, tasks)
			s.Inject(crsapitest.Fault{Do: crsapitest.DenyUnfiltered})
			e := s.watch(t, collector.Config{
				RedisIDs: ids[:n], TaskTypes: []string{"task_backupInstance"}, Lookback: 30 * day, Logger: logTo(&logged),
			})
			for _, want := range []int{2 * n, n} { // first contact doubts totals
				before := s.Requests(guangzhou)
				got := scrape(t, e)
				if up := got.up(guangzhou); up != (n <= 50) {
					t.Errorf("%d instances: up is %t", n, up)
				} else if up {
					got.wantBackups(t, ids[:n], 30)
				}
				if sent := s.Requests(guangzhou) - before; n <= 50 && sent != want {
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
		var logged bytes.Buffer
		tasks, ids := nightly(2, 3)
		created := backupOf("crs-unknown", time.Minute, crsapi.StatusSucceeded)
		s := newSimulator(t, api)
		s.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
		e := s.watch(t, collector.Config{RedisIDs: []string{ids[0], "crs-unknown"}, Logger: logTo(&logged)})
		for n, step := range []struct {
			exists  bool
			counted string
			named   int // times so far
		}{
			{false, "", 1},
			{false, "", 1},
			{true, "0", 1},
			{true, "0", 1},
			{true, "1", 1},
			{false, "1", 2},
			{false, "1", 2},
			{true, "1", 2},
		} {
			s.SetTasks(guangzhou, tasks)
			if step.exists {
				s.Add(guangzhou, created)
			}
			time.Sleep(15 * time.Second)
			scrape(t, e).want(t, samples{
				`crs_up{region="ap-guangzhou"}`:                 "1",
				`crs_corrections_total{region="ap-guangzhou"}`:  "0",
				failuresOf(crsapi.ReasonAPI):                    "0",
				transitions("crs-unknown", backup, "succeeded"): step.counted,
			})
			if got := strings.Count(logged.String(), "crs-unknown"); got != step.named {
				t.Errorf("scrape %d: named %d times, want %d: %s", n, got, step.named, &logged)
			}
		}
	})
}
