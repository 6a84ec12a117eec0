package collector_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

var errRetired = &crsapi.Error{Reason: crsapi.ReasonRetired, Requested: true, Err: errors.New("RequestForbidden")}

// succession is a region with API 2.0 and its successor.
type succession struct {
	legacy, successor *fakeSource
	logged            bytes.Buffer
	cfg               collector.Config
	e                 *collector.Exporter
}

func newSuccession(t *testing.T, cfg collector.Config) *succession {
	s := &succession{legacy: &fakeSource{}, successor: &fakeSource{api: crsapi.API30}, cfg: cfg}
	s.cfg.Logger = logTo(&s.logged)
	s.cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		return []collector.Source{s.legacy, s.successor}, nil
	}
	s.restart(t)
	return s
}

func (s *succession) restart(t *testing.T) {
	if s.e != nil {
		s.e.Close()
	}
	s.logged.Reset()
	s.e = newExporter(t, s.cfg, map[string]collector.Source{guangzhou: nil})
}

func apiInfo(api crsapi.API) samples {
	return samples{fmt.Sprintf("crs_api_info{api=%q,region=%q}", api, guangzhou): "1"}
}

// wantAPI wants crs_api_info to name this API and no other.
func wantAPI(t *testing.T, got samples, api crsapi.API) {
	t.Helper()
	wantEqual(t, "API", got.of("crs_api_info"), apiInfo(api))
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
	wantAPI(t, scrape(t, s.e), crsapi.API20)
	scrape(t, s.e)
	if s.successor.count() != 0 {
		t.Error("API 3.0 was asked though API 2.0 answers")
	}

	s.legacy.set(nil, errRetired)
	s.logged.Reset()
	got := scrape(t, s.e)
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
	if log := s.logged.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=warn") ||
		!strings.Contains(log, "API 2.0 is retired: the list is read through API 3.0 from now on, and tasks that finished in between are not counted") {
		t.Errorf("logged %q", log)
	}

	// What API 3.0 lists from now on counts.
	scrape(t, s.e) // the second that shows the first 0
	s.logged.Reset()
	s.legacy.set(list(running), nil)
	s.successor.set(list(later, failed, automatic), nil)
	calls := s.legacy.count()
	got = scrape(t, s.e)
	wantAPI(t, got, crsapi.API30)
	got.want(t, samples{
		transitions("crs-a", backup, "failed"):       "0",
		transitions("crs-a", "AUTOBACKUP", "failed"): "1",
	})
	if s.legacy.count() != calls || s.logged.Len() != 0 {
		t.Errorf("API 2.0 was asked again, or logged %q", s.logged.String())
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
		got := scrape(t, s.e)
		wantAPI(t, got, crsapi.API20)
		if got.up(guangzhou) || s.successor.count() != 0 {
			t.Errorf("%s: API 3.0 was asked", reason)
		}
	}
}

func TestBothAPIsFail(t *testing.T) {
	s := newSuccession(t, collector.Config{})
	denied := &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true, Err: errors.New("not authorized to DescribeTaskList")}
	s.legacy.set(nil, errRetired)
	s.successor.set(nil, denied)
	for range 2 {
		got := scrape(t, s.e)
		wantAPI(t, got, crsapi.API20)
		if got.up(guangzhou) {
			t.Error("the region is up")
		}
	}
	if log := s.logged.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `msg="poll failed"`) ||
		!strings.Contains(log, `reason="retired, API 3.0: denied"`) ||
		!strings.Contains(log, "RequestForbidden") || !strings.Contains(log, "DescribeTaskList") {
		t.Errorf("logged %q", log)
	}
	err := s.e.Status()[0].Err
	if !errors.Is(err, errRetired) || !errors.Is(err, denied) {
		t.Errorf("status has error %v", err)
	}

	// A change of the second reason is news.
	s.logged.Reset()
	s.successor.set(nil, &crsapi.Error{Reason: crsapi.ReasonThrottled, Requested: true})
	scrape(t, s.e)
	if !strings.Contains(s.logged.String(), `reason="retired, API 3.0: throttled"`) {
		t.Errorf("logged %q", s.logged.String())
	}
	s.successor.set(list(someTask), nil)
	wantAPI(t, scrape(t, s.e), crsapi.API30)
}

func TestSuccessorWithoutTheTaskTypes(t *testing.T) {
	s := newSuccession(t, collector.Config{TaskTypes: []string{"task_importRdb", "task_backupInstance"}, Lookback: 90 * 24 * time.Hour})
	s.legacy.set(nil, errRetired)
	s.successor.set(list(someTask), nil)
	wantAPI(t, scrape(t, s.e), crsapi.API30)
	scrape(t, s.e)
	if n := strings.Count(s.logged.String(), `msg="API 3.0 does not have all task types of the settings" without=task_importRdb`); n != 1 {
		t.Errorf("%d warnings in %q", n, s.logged.String())
	}
	for _, q := range s.successor.queries {
		if strings.Join(q.TaskTypes, ",") != "task_backupInstance" {
			t.Errorf("asked for %v", q.TaskTypes)
		}
		if age := time.Since(q.BeginTime); age > 30*24*time.Hour+time.Minute {
			t.Errorf("asked for tasks of %s", age)
		}
	}

	s = newSuccession(t, collector.Config{TaskTypes: []string{"task_importRdb", "task_restoreStream"}})
	s.legacy.set(nil, errRetired)
	s.successor.set(list(someTask), nil)
	got := scrape(t, s.e)
	wantAPI(t, got, crsapi.API20)
	if got.up(guangzhou) || s.successor.count() != 0 || !strings.Contains(s.logged.String(), "reason=retired") ||
		!strings.Contains(s.logged.String(), "API 3.0 has none of the task types") {
		t.Errorf("up %t, %d sweeps of API 3.0, logged %q", got.up(guangzhou), s.successor.count(), s.logged.String())
	}
}

func TestRestartKeepsTheAPI(t *testing.T) {
	s := newSuccession(t, collector.Config{StateFile: filepath.Join(t.TempDir(), "state")})
	first := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	second := task("crs-a", backup, "2017-02-11 01:00:00", crsapi.StatusFailed)
	third := task("crs-a", backup, "2017-02-12 01:00:00", crsapi.StatusFailed)
	s.legacy.set(nil, errRetired)
	s.successor.set(list(first), nil)
	scrape(t, s.e)
	scrape(t, s.e)

	s.legacy.set(list(first), nil)
	s.successor.set(list(first, second), nil)
	s.restart(t)
	calls := s.legacy.count()
	got := scrape(t, s.e)
	wantAPI(t, got, crsapi.API30)
	got.want(t, samples{transitions("crs-a", backup, "failed"): "1"})
	if s.legacy.count() != calls {
		t.Error("API 2.0 was asked after the restart")
	}

	// The settings go back to API 2.0 alone: its list is absorbed.
	s.cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) { return only(s.legacy), nil }
	s.legacy.set(list(first, second, third), nil)
	s.restart(t)
	got = scrape(t, s.e)
	wantAPI(t, got, crsapi.API20)
	got.want(t, samples{transitions("crs-a", backup, "failed"): "1"})
}

func TestDialReturnsNoSource(t *testing.T) {
	_, err := collector.New(collector.Config{
		Regions: []string{guangzhou},
		Dial:    func(string, func(crsapi.Attempt)) ([]collector.Source, error) { return nil, nil },
	})
	var invalid *crsapi.ConfigError
	if !errors.As(err, &invalid) || invalid.Field != "Dial" {
		t.Errorf("got %v", err)
	}
}
