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
