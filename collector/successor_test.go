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

// succession is a region with API 2.0, which is retired, and its successor, and a state file.
type succession struct {
	restarting
	legacy, successor *fakeSource
}

func newSuccession(t *testing.T, cfg collector.Config) *succession {
	s := &succession{legacy: &fakeSource{err: errRetired}, successor: &fakeSource{api: crsapi.API30, list: list(someTask)}}
	s.cfg = cfg
	s.start(t, func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		return []collector.Source{s.legacy, s.successor}, nil
	})
	return s
}

// scrapeAPI scrapes, wants the region to be read through this API and no other, and
// returns the samples and what was logged.
func (s *succession) scrapeAPI(api crsapi.API, up bool) (got samples, logged string) {
	s.t.Helper()
	s.log.Reset()
	got = s.scrape()
	wantEqual(s.t, "API", got.of("crs_api_info"), samples{fmt.Sprintf("crs_api_info{api=%q,region=%q}", api, guangzhou): "1"})
	if got.up(guangzhou) != up {
		s.t.Errorf("up is %t, logged %s", !up, &s.log)
	}
	return got, s.log.String()
}

func TestRetiredAPIIsReplacedInTheSamePoll(t *testing.T) {
	s := newSuccession(t, collector.Config{})
	automatic := task("crs-a", "AUTOBACKUP", "2017-02-10 01:00:05", crsapi.StatusFailed)
	second := task("crs-a", "AUTOBACKUP", "2017-02-11 01:00:05", crsapi.StatusFailed)
	third := task("crs-a", "AUTOBACKUP", "2017-02-12 01:00:05", crsapi.StatusFailed)
	s.legacy.set(list(running), nil)
	s.successor.set(list(failed, automatic), nil)
	for range 2 {
		s.scrapeAPI(crsapi.API20, true)
	}
	if s.successor.polls() != 0 {
		t.Error("API 3.0 was requested though API 2.0 answers")
	}

	// Its first list is absorbed.
	s.legacy.set(nil, errRetired)
	got, log := s.scrapeAPI(crsapi.API30, true)
	got.want(t, samples{
		fmt.Sprintf(tasksSeries, "crs-a", "failed", backup):    "1",
		fmt.Sprintf(tasksSeries, "crs-a", "executing", backup): "0",
		fmt.Sprintf(backupSeries, "failed", "crs-a"):           decimal(float64(automatic.StartTime.Unix())),
	})
	wantEqual(t, "counters", got.transitions().nonzero(), samples{})
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=warn") ||
		!strings.Contains(log, "API 2.0 is retired, switched to API 3.0; tasks that finished in between are not counted") {
		t.Errorf("logged %q", log)
	}

	// What it lists from now on counts, also if API 2.0 answers again, and after a restart.
	s.scrape() // the second that shows the first 0
	s.legacy.set(list(running), nil)
	calls := s.legacy.polls()
	s.successor.set(list(second, failed, automatic), nil)
	got, log = s.scrapeAPI(crsapi.API30, true)
	wantEqual(t, "counters", got.transitions().nonzero(), samples{transitions("crs-a", "AUTOBACKUP", "failed"): "1"})
	s.restart()
	s.successor.set(list(third, second, failed, automatic), nil)
	got, _ = s.scrapeAPI(crsapi.API30, true)
	counted := samples{transitions("crs-a", "AUTOBACKUP", "failed"): "2"}
	wantEqual(t, "counters after a restart", got.transitions().nonzero(), counted)
	if s.legacy.polls() != calls || log != "" {
		t.Errorf("API 2.0 was requested again, or logged %q", log)
	}

	// The settings go back to API 2.0 alone: its list is absorbed.
	s.cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		return []collector.Source{s.legacy}, nil
	}
	s.legacy.set(list(failed, later), nil)
	s.restart()
	got, _ = s.scrapeAPI(crsapi.API20, true)
	wantEqual(t, "counters of API 2.0", got.transitions().nonzero(), counted)
}

func TestOnlyRetirementLeadsToTheSuccessor(t *testing.T) {
	for _, reason := range crsapi.Reasons() {
		s := newSuccession(t, collector.Config{})
		s.legacy.set(nil, &crsapi.Error{Reason: reason, Requested: true})
		if reason == crsapi.ReasonRetired {
			s.scrapeAPI(crsapi.API30, true)
		} else if s.scrapeAPI(crsapi.API20, false); s.successor.polls() != 0 {
			t.Errorf("%s: API 3.0 was requested", reason)
		}
	}
}

func TestBothAPIsFail(t *testing.T) {
	s := newSuccession(t, collector.Config{})
	denied := &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true, Err: errors.New("not authorized to DescribeTaskList")}
	s.successor.set(nil, denied)
	_, log := s.scrapeAPI(crsapi.API20, false)
	if strings.Count(log, "\n") != 1 || !strings.Contains(log, `msg="poll failed"`) || !strings.Contains(log, `reason="retired, API 3.0: denied"`) ||
		!strings.Contains(log, "RequestForbidden") || !strings.Contains(log, "DescribeTaskList") {
		t.Errorf("logged %q", log)
	}
	if err := s.e.Status()[0].Err; !errors.Is(err, errRetired) || !errors.Is(err, denied) {
		t.Errorf("status has error %v", err)
	}
	// The advice is about the successor, which can be repaired.
	problems := s.e.Status()[0].Problems()
	if len(problems) != 1 || !strings.Contains(problems[0].What, "API 2.0: ") || !strings.HasPrefix(problems[0].Advice, "Attach a CAM policy that allows redis:DescribeTaskList") {
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
	s := newSuccession(t, collector.Config{TaskTypes: []string{"task_importRdb", "task_backupInstance"}, Lookback: 90 * day})
	if _, log := s.scrapeAPI(crsapi.API30, true); strings.Count(log, `msg="API 3.0 does not have all task types of the settings" without=task_importRdb`) != 1 {
		t.Errorf("logged %q", log)
	}
	want := []collector.Filter{{TaskTypes: []string{"task_backupInstance"}, Lookback: 30 * day}}
	if !reflect.DeepEqual(s.successor.filters, want) {
		t.Errorf("requested %+v, want %+v", s.successor.filters, want)
	}

	s = newSuccession(t, collector.Config{TaskTypes: []string{"task_importRdb", "task_restoreStream"}})
	_, log := s.scrapeAPI(crsapi.API20, false)
	if s.successor.polls() != 0 || !strings.Contains(log, "reason=retired") || !strings.Contains(log, "API 3.0 has none of the task types") {
		t.Errorf("%d polls of API 3.0, logged %q", s.successor.polls(), log)
	}
}
