package collector_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

var errRetired = &crsapi.Error{Reason: crsapi.ReasonRetired, Requested: true, Err: errors.New("RequestForbidden")}

// succession is a region with API 2.0 and its successor, and a state file.
type succession struct {
	restarting
	legacy, successor *fakeSource
}

func newSuccession(t *testing.T, cfg collector.Config) *succession {
	s := &succession{legacy: &fakeSource{}, successor: &fakeSource{api: crsapi.API30}}
	s.cfg = cfg
	s.start(t, func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		return []collector.Source{s.legacy, s.successor}, nil
	})
	return s
}

// logged returns what was logged since the last call.
func (s *succession) logged() string {
	defer s.log.Reset()
	return s.log.String()
}

// wantAPI wants crs_api_info to name this API and no other.
func wantAPI(t *testing.T, got samples, api crsapi.API) {
	t.Helper()
	wantEqual(t, "API", got.of("crs_api_info"), samples{fmt.Sprintf("crs_api_info{api=%q,region=%q}", api, guangzhou): "1"})
}

func TestRetiredAPIIsReplacedInTheSamePoll(t *testing.T) {
	s := newSuccession(t, collector.Config{})
	running := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	failed := running
	failed.Status = crsapi.StatusFailed
	automatic := task("crs-a", "AUTOBACKUP", "2017-02-10 01:00:05", crsapi.StatusFailed)
	later := task("crs-a", "AUTOBACKUP", "2017-02-11 01:00:05", crsapi.StatusFailed)

	s.legacy.set(list(running), nil)
	s.successor.set(list(failed, automatic), nil)
	wantAPI(t, s.scrape(), crsapi.API20)
	s.scrape()
	if s.successor.polls() != 0 {
		t.Error("API 3.0 was requested though API 2.0 answers")
	}

	s.legacy.set(nil, errRetired)
	s.logged()
	got := s.scrape()
	wantAPI(t, got, crsapi.API30)
	got.want(t, samples{
		`crs_up{region="ap-guangzhou"}`:                        "1",
		fmt.Sprintf(tasksSeries, "crs-a", "failed", backup):    "1",
		fmt.Sprintf(backupSeries, "failed", "crs-a"):           decimal(float64(automatic.StartTime.Unix())),
		transitions("crs-a", backup, "executing"):              "0",
		transitions("crs-a", backup, "failed"):                 "0",
		transitions("crs-a", "AUTOBACKUP", "failed"):           "0",
		fmt.Sprintf(tasksSeries, "crs-a", "executing", backup): "0",
	})
	if log := s.logged(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=warn") ||
		!strings.Contains(log, "API 2.0 is retired, switched to API 3.0; tasks that finished in between are not counted") {
		t.Errorf("logged %q", log)
	}

	// What API 3.0 lists from now on counts.
	s.scrape() // the second that shows the first 0
	s.logged()
	s.legacy.set(list(running), nil)
	s.successor.set(list(later, failed, automatic), nil)
	calls := s.legacy.polls()
	got = s.scrape()
	wantAPI(t, got, crsapi.API30)
	got.want(t, samples{
		transitions("crs-a", backup, "failed"):       "0",
		transitions("crs-a", "AUTOBACKUP", "failed"): "1",
	})
	if log := s.logged(); s.legacy.polls() != calls || log != "" {
		t.Errorf("API 2.0 was requested again, or logged %q", log)
	}
}

func TestOnlyRetirementLeadsToTheSuccessor(t *testing.T) {
	for _, reason := range crsapi.Reasons() {
		if reason == crsapi.ReasonRetired {
			continue
		}
		s := newSuccession(t, collector.Config{})
		s.legacy.set(nil, &crsapi.Error{Reason: reason, Requested: true})
		s.successor.set(list(someTask), nil)
		got := s.scrape()
		wantAPI(t, got, crsapi.API20)
		if got.up(guangzhou) || s.successor.polls() != 0 {
			t.Errorf("%s: API 3.0 was requested", reason)
		}
	}
}

func TestBothAPIsFail(t *testing.T) {
	s := newSuccession(t, collector.Config{})
	denied := &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true, Err: errors.New("not authorized to DescribeTaskList")}
	s.legacy.set(nil, errRetired)
	s.successor.set(nil, denied)
	for range 2 {
		got := s.scrape()
		wantAPI(t, got, crsapi.API20)
		if got.up(guangzhou) {
			t.Error("the region is up")
		}
	}
	if log := s.logged(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `msg="poll failed"`) ||
		!strings.Contains(log, `reason="retired, API 3.0: denied"`) ||
		!strings.Contains(log, "RequestForbidden") || !strings.Contains(log, "DescribeTaskList") {
		t.Errorf("logged %q", log)
	}
	err := s.e.Status()[0].Err
	if !errors.Is(err, errRetired) || !errors.Is(err, denied) {
		t.Errorf("status has error %v", err)
	}

	// A change of the second reason is news.
	s.successor.set(nil, &crsapi.Error{Reason: crsapi.ReasonThrottled, Requested: true})
	s.scrape()
	if log := s.logged(); !strings.Contains(log, `reason="retired, API 3.0: throttled"`) {
		t.Errorf("logged %q", log)
	}
	s.successor.set(list(someTask), nil)
	wantAPI(t, s.scrape(), crsapi.API30)
}

func TestSuccessorWithoutTheTaskTypes(t *testing.T) {
	s := newSuccession(t, collector.Config{TaskTypes: []string{"task_importRdb", "task_backupInstance"}, Lookback: 90 * day})
	s.legacy.set(nil, errRetired)
	s.successor.set(list(someTask), nil)
	wantAPI(t, s.scrape(), crsapi.API30)
	s.scrape()
	if log := s.logged(); strings.Count(log, `msg="API 3.0 does not have all task types of the settings" without=task_importRdb`) != 1 {
		t.Errorf("logged %q", log)
	}
	for _, f := range s.successor.filters {
		if want := (collector.Filter{TaskTypes: []string{"task_backupInstance"}, Lookback: 30 * day}); !reflect.DeepEqual(f, want) {
			t.Errorf("requested %+v, want %+v", f, want)
		}
	}

	s = newSuccession(t, collector.Config{TaskTypes: []string{"task_importRdb", "task_restoreStream"}})
	s.legacy.set(nil, errRetired)
	s.successor.set(list(someTask), nil)
	got := s.scrape()
	wantAPI(t, got, crsapi.API20)
	if log := s.logged(); got.up(guangzhou) || s.successor.polls() != 0 || !strings.Contains(log, "reason=retired") ||
		!strings.Contains(log, "API 3.0 has none of the task types") {
		t.Errorf("up %t, %d polls of API 3.0, logged %q", got.up(guangzhou), s.successor.polls(), log)
	}
}

func TestRestartKeepsTheAPI(t *testing.T) {
	s := newSuccession(t, collector.Config{})
	first := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	second := task("crs-a", backup, "2017-02-11 01:00:00", crsapi.StatusFailed)
	third := task("crs-a", backup, "2017-02-12 01:00:00", crsapi.StatusFailed)
	s.legacy.set(nil, errRetired)
	s.successor.set(list(first), nil)
	s.scrape()
	s.scrape()

	s.legacy.set(list(first), nil)
	s.successor.set(list(first, second), nil)
	s.restart()
	calls := s.legacy.polls()
	got := s.scrape()
	wantAPI(t, got, crsapi.API30)
	got.want(t, samples{transitions("crs-a", backup, "failed"): "1"})
	if s.legacy.polls() != calls {
		t.Error("API 2.0 was requested after the restart")
	}

	// The settings go back to API 2.0 alone: its list is absorbed.
	s.cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		return []collector.Source{s.legacy}, nil
	}
	s.legacy.set(list(first, second, third), nil)
	s.restart()
	got = s.scrape()
	wantAPI(t, got, crsapi.API20)
	got.want(t, samples{transitions("crs-a", backup, "failed"): "1"})
}
