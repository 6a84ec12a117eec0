package collector_test

import (
	"bytes"
	"context"
	"errors"
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

// TestCheck compares a whole report of four regions: one that succeeds, one without a
// task, one that is refused, and one with unusual responses and a refused inventory.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(26 * 365 * 24 * time.Hour) // until after the tasks
		const beijing, odd = "ap-beijing", "ap-chengdu"
		server := newSimulator(t, crsapi.API20, crsapi.API30)
		tasks := crsapitest.DocumentExample()
		for i := range tasks {
			tasks[i].StartTime = time.Now().Add(-time.Duration(i)*time.Hour - time.Minute)
		}
		server.SetTasks(guangzhou, tasks)
		server.SetTasks(shanghai, nil)
		tasks[1].Status = crsapi.Status(7)
		server.SetTasks(odd, tasks)
		server.SetTasks(beijing, nil)
		server.Inject(crsapitest.Fault{Region: beijing, Do: crsapitest.APIError(4103)})
		server.Inject(crsapitest.Fault{Region: odd, Do: crsapitest.DateSkew(-90 * time.Second)})
		server.SetInstances(guangzhou, []crsapi.Instance{existing(tasks[0].RedisID, day), existing("crs-b", day)})
		server.Inject(crsapitest.Fault{Region: odd, Action: crsapi.ActionInstances, Do: crsapitest.APIError(4101)})
		e := server.watch(t, collector.Config{Inventory: time.Minute}, beijing, odd, guangzhou, shanghai)
		var out, progress bytes.Buffer
		err := e.Check(t.Context(), "file", &out, &progress)
		if fmt.Sprint(err) != "check: 2 of 4 regions failed" || progress.Len() > 0 {
			t.Errorf("got %v, and the progress %q", err, &progress)
		}
		wantGolden(t, "check.txt", out.String())
	})
}

func TestCheckReportsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := limited(t, crsapi.API20, 2)
		server.SetTasks(guangzhou, crsapitest.Generate(3000, 5, 1))
		e := server.watch(t, collector.Config{})
		var out, progress bytes.Buffer
		if err := e.Check(t.Context(), "file", &out, &progress); err != nil {
			t.Error(err)
		}
		line := regexp.MustCompile(`^ap-guangzhou, API 2\.0: reading the list, \d+ of about \d\d pages\n`)
		if !line.MatchString(progress.String()) || !strings.Contains(out.String(), "  3000 ") {
			t.Errorf("the progress is %q, the report:\n%s", &progress, &out)
		}
	})
}

func TestCheckIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watch(t, &fakeSource{delay: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var out bytes.Buffer
		if err := e.Check(ctx, "file", &out, &out); !errors.Is(err, context.DeadlineExceeded) || out.Len() > 0 {
			t.Errorf("got %v, printed %q", err, &out)
		}
	})
}

// What TestCheck does not have.
func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		status collector.RegionStatus
		want   string
	}{
		"all rejected": {collector.RegionStatus{Rejected: 3}, "3 rows of the list could not be read"},
		"clock behind": {collector.RegionStatus{Tasks: 1, ClockSkew: 90 * time.Second}, "the local clock is 1m30s behind the API's"},
		"by offset":    {collector.RegionStatus{Tasks: 1, ByOffset: "because"}, "the list is read by limit and offset only: because"},
		"note":         {collector.RegionStatus{Tasks: 1, Notes: []string{"pages of 50"}}, "pages of 50"},
		"unlisted":     {collector.RegionStatus{Tasks: 1, Unlisted: []string{"crs-a", "crs-b"}}, "the API lists no task of 2 watched instances: crs-a, crs-b"},
	} {
		var what []string
		for _, p := range test.status.Problems() {
			what = append(what, p.What)
			if p.Advice == "" {
				t.Errorf("%s: no advice", name)
			}
		}
		if got := strings.Join(what, "; "); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
