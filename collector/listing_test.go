package collector_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
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

// TestFirstContact meets servers that read the documents in the ways that these leave
// open, one at a time, through API 2.0 and 3.0. Nobody has met the real API. Within
// three scrapes the list is seen whole and right, or the region is down and the log says
// what to change. No scrape has a wrong number.
func TestFirstContact(t *testing.T) {
	for _, test := range []struct {
		reading string
		do      crsapitest.Effect
	}{
		{"end included", crsapitest.All()},
		{"end excluded", crsapitest.ExclusiveEnd},
		{"bounds ignored", crsapitest.All(crsapitest.IgnoreBegin, crsapitest.IgnoreEnd)},
		{"end of the task, unfinished never within", crsapitest.EndOfRun},
		{"end of the task, unfinished within", crsapitest.EndOfTask},
		{"end refused without begin", crsapitest.RefuseEndAlone},
		{"bounds refused", crsapitest.RefuseBounds},
		{"hidden fractions of a second", crsapitest.HiddenFractions},
		{"oldest first", crsapitest.OldestFirst},
		{"offset is the number of a page", crsapitest.PageNumbers},
		{"limit cut to 20", crsapitest.PageCap(20)},
		{"limit above 50 refused", crsapitest.RefuseLimitAbove50},
		{"total as text", crsapitest.TotalAsText},
		{"total within data", crsapitest.TotalInData},
		{"total of the page", crsapitest.TotalOfPage},
		{"numbers as text", crsapitest.NumbersAsText},
		{"type with the prefix", crsapitest.TypePrefix},
		{"startTime of the waiting zeros", crsapitest.ZeroStart},
		{"empty list null", crsapitest.NullRows},
		{"empty list absent", crsapitest.NoRows},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			t.Run(test.reading+"/API "+string(api), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tasks := accountOfAWeek(api)
					if strings.HasPrefix(test.reading, "empty list") {
						tasks = nil
					}
					rejected := 0
					if test.do == crsapitest.ZeroStart {
						rejected = 1
					}
					meet(t, api, test.do, tasks, rejected)
				})
			})
		}
	}
}

// meet scrapes a server three times. It cannot describe the first tasks.
func meet(t *testing.T, api crsapi.API, do crsapitest.Effect, tasks []crsapi.Task, rejected int) {
	var logged bytes.Buffer
	s := newSimulator(t, api)
	s.SetTasks(guangzhou, tasks)
	s.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.Latency(20*time.Millisecond), do)})
	e := s.watch(t, collector.Config{Logger: logTo(&logged)})
	up := false
	for n := range 3 {
		got := scrape(t, e)
		if up = got.up(guangzhou); up {
			got.want(t, samples{`crs_poll_rejected_rows{region="ap-guangzhou"}`: fmt.Sprint(rejected)})
			wantEqual(t, fmt.Sprint("scrape ", n), got.of("crs_tasks"), described(tasks[rejected:]).of("crs_tasks"))
		}
		time.Sleep(15 * time.Second)
	}
	if says := regexp.MustCompile(`(?m)^level=(error|warn) .*--crs\.[a-z]`); !up && !says.Match(logged.Bytes()) {
		t.Errorf("the region is down, and the log does not say what to change:\n%s", &logged)
	}
}

// accountOfAWeek returns tasks, newest first. The newest is pending. API 2.0 has no name for
// automatic backups.
func accountOfAWeek(api crsapi.API) (tasks []crsapi.Task) {
	at := time.Now().Add(-time.Minute).Truncate(time.Second).UTC()
	names := []string{backup, "AUTOBACKUP", clean}
	if api == crsapi.API20 {
		names[1] = backup
	}
	statuses := map[int]crsapi.Status{
		0: crsapi.StatusPending, 1: crsapi.StatusExecuting, 40: crsapi.StatusExecuting,
		3: crsapi.StatusFailed, 400: crsapi.StatusFailed, 604: crsapi.StatusFailed, // backups
	}
	for i := range 650 {
		if i%10 > 0 { // else it is of the same second as the one before
			at = at.Add(-7 * time.Minute)
		}
		task := crsapi.Task{RedisID: fmt.Sprintf("crs-%d", i%13), RedisName: "name", ProjectID: "7", TaskName: names[i%3], StartTime: at}
		status, special := statuses[i]
		if task.Status = status; !special {
			task.Status = crsapi.StatusSucceeded
		}
		if finished(task) {
			task.EndTime, task.Progress = at.Add(3*time.Minute), 1
		}
		tasks = append(tasks, task)
	}
	return tasks
}
