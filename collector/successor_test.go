package collector_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

var errRetired = &crsapi.Error{Reason: crsapi.ReasonRetired, Requested: true, Err: errors.New("RequestForbidden")}

// newSuccession returns a region with API 2.0, which is retired, and its successor.
func newSuccession(t *testing.T, lookback time.Duration, types ...string) *stateful {
	s := newStateful(t)
	s.cfg.TaskTypes, s.cfg.Lookback = types, lookback
	s.source, s.successor = &fakeSource{err: errRetired}, &fakeSource{api: crsapi.API30, list: list(someTask)}
	s.restart()
	return s
}

// scrapeAPI scrapes, wants the region to be read through this API and no other, and
// returns the samples and what was logged.
func (s *stateful) scrapeAPI(api crsapi.API, up bool) (got samples, logged string) {
	s.t.Helper()
	s.log.Reset()
	got = scrape(s.t, s.e)
	wantEqual(s.t, "API", got.of("crs_api_info"), samples{fmt.Sprintf("crs_api_info{api=%q,region=%q}", api, guangzhou): "1"})
	if got.up(guangzhou) != up {
		s.t.Errorf("up is %t, logged %s", !up, &s.log)
	}
	return got, s.log.String()
}

func TestRetiredAPIIsReplacedInTheSamePoll(t *testing.T) {
	s := newSuccession(t, 0)
	automatic := task("crs-a", "AUTOBACKUP", "2017-02-10 01:00:05", crsapi.StatusFailed)
	second, third := automatic, automatic
	second.StartTime, third.StartTime = automatic.StartTime.Add(day), automatic.StartTime.Add(2*day)
	wantCounted := func(got samples, times string) {
		t.Helper()
		want := samples{transitions("crs-a", "AUTOBACKUP", "failed"): times}
		wantEqual(t, "counters", got.transitions().nonzero(), want.nonzero())
	}
	s.source.set(list(running), nil)
	s.successor.set(list(failed, automatic), nil)
	for range 2 {
		s.scrapeAPI(crsapi.API20, true)
	}
	if len(s.successor.filters) != 0 {
		t.Error("API 3.0 was requested though API 2.0 answers")
	}

	// Its first list is absorbed.
	s.source.set(nil, errRetired)
	got, log := s.scrapeAPI(crsapi.API30, true)
	wantEqual(t, "tasks", got.of("crs_tasks").nonzero(), samples{
		fmt.Sprintf(tasksSeries, "crs-a", "failed", backup):       "1",
		fmt.Sprintf(tasksSeries, "crs-a", "failed", "AUTOBACKUP"): "1",
	})
	wantCounted(got, "0")
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=warn") ||
		!strings.Contains(log, "API 2.0 is retired, switched to API 3.0; tasks that finished in between are not counted") {
		t.Errorf("logged %q", log)
	}

	// What it lists from now on counts, also if API 2.0 answers again, and after a restart.
	scrape(t, s.e) // the second that shows the first 0
	s.source.set(list(running), nil)
	calls := len(s.source.filters)
	s.successor.set(list(second, failed, automatic), nil)
	got, log = s.scrapeAPI(crsapi.API30, true)
	wantCounted(got, "1")
	s.restart()
	s.successor.set(list(third, second, failed, automatic), nil)
	got, _ = s.scrapeAPI(crsapi.API30, true)
	wantCounted(got, "2")
	if len(s.source.filters) != calls || log != "" {
		t.Errorf("API 2.0 was requested again, or logged %q", log)
	}

	// The settings go back to API 2.0 alone: its list is absorbed.
	s.successor = nil
	s.source.set(list(failed, later), nil)
	s.restart()
	got, _ = s.scrapeAPI(crsapi.API20, true)
	wantCounted(got, "2")
}

func TestOnlyRetirementLeadsToTheSuccessor(t *testing.T) {
	for _, reason := range crsapi.Reasons() {
		s := newSuccession(t, 0)
		s.source.set(nil, &crsapi.Error{Reason: reason, Requested: true})
		if reason == crsapi.ReasonRetired {
			s.scrapeAPI(crsapi.API30, true)
		} else if s.scrapeAPI(crsapi.API20, false); len(s.successor.filters) != 0 {
			t.Errorf("%s: API 3.0 was requested", reason)
		}
	}
}

func TestBothAPIsFail(t *testing.T) {
	s := newSuccession(t, 0)
	denied := &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true, Err: errors.New("not authorized to DescribeTaskList")}
	s.successor.set(nil, denied)
	_, log := s.scrapeAPI(crsapi.API20, false)
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, `msg="poll failed" reason="retired, API 3.0: denied"`) ||
		!strings.Contains(log, "RequestForbidden") || !strings.Contains(log, "DescribeTaskList") {
		t.Errorf("logged %q", log)
	}
	if err := s.e.Status()[0].Err; !errors.Is(err, errRetired) || !errors.Is(err, denied) {
		t.Errorf("status has error %v", err)
	}
	// The advice is about the successor, which can be repaired.
	problems, advice := s.e.Status()[0].Problems(), "Attach a CAM policy that allows redis:DescribeTaskList"
	if len(problems) != 1 || !strings.Contains(problems[0].What, "API 2.0: ") || !strings.HasPrefix(problems[0].Advice, advice) {
		t.Errorf("got %q", problems)
	}
	if _, log := s.scrapeAPI(crsapi.API20, false); log != "" {
		t.Errorf("logged again: %q", log)
	}
	// A change of the second reason is news.
	s.successor.set(nil, &crsapi.Error{Reason: crsapi.ReasonThrottled, Requested: true})
	if _, log := s.scrapeAPI(crsapi.API20, false); !strings.Contains(log, `reason="retired, API 3.0: throttled"`) {
		t.Errorf("logged %q", log)
	}
}

func TestSuccessorWithoutTheTaskTypes(t *testing.T) {
	s := newSuccession(t, 90*day, "task_importRdb", "task_backupInstance")
	const without = `msg="API 3.0 does not have all task types of the settings" without=task_importRdb`
	if _, log := s.scrapeAPI(crsapi.API30, true); strings.Count(log, without) != 1 {
		t.Errorf("logged %q", log)
	}
	want := []collector.Filter{{TaskTypes: []string{"task_backupInstance"}, Lookback: 30 * day}}
	if !reflect.DeepEqual(s.successor.filters, want) {
		t.Errorf("requested %+v, want %+v", s.successor.filters, want)
	}

	s = newSuccession(t, 0, "task_importRdb", "task_restoreStream")
	_, log := s.scrapeAPI(crsapi.API20, false)
	if len(s.successor.filters) != 0 || !strings.Contains(log, "reason=retired") || !strings.Contains(log, "API 3.0 has none of the task types") {
		t.Errorf("%d polls of API 3.0, logged %q", len(s.successor.filters), log)
	}
}
