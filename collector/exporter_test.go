package collector_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

func TestInvalidConfig(t *testing.T) {
	const lookback, hour = 87600 * time.Hour, time.Hour
	for _, test := range []struct {
		change         func(*collector.Config)
		field, problem string
	}{
		{func(c *collector.Config) { c.Regions = nil }, "Regions", "must name at least one region"},
		{func(c *collector.Config) { c.Regions = []string{"a", ""} }, "Regions", "must not contain an empty name"},
		{func(c *collector.Config) { c.Regions = []string{"a", "b/"} }, "Regions", `must have only letters, digits and hyphens in each name, not "b/"`},
		{func(c *collector.Config) { c.Regions = []string{"a", "b", "a"} }, "Regions", `must not contain "a" twice`},
		{
			func(c *collector.Config) { c.Regions = []string{"gz", guangzhou} }, "Regions",
			`must not contain one region by two names, "gz" and "ap-guangzhou"`,
		},
		{func(c *collector.Config) { c.RedisIDs = []string{"b", ""} }, "RedisIDs", "must not contain an empty ID"},
		{
			func(c *collector.Config) { c.RedisIDs = []string{"b", "c,d"} }, "RedisIDs",
			`must not contain commas, blanks, quotes or control characters, as in "c,d"`,
		},
		{func(c *collector.Config) { c.Lookback = -1 }, "Lookback", "must be from 0s to 87600h0m0s, not -1ns"},
		{func(c *collector.Config) { c.TimeoutOffset = hour + 1 }, "TimeoutOffset", "must be from 0s to 1h0m0s, not 1h0m0.000000001s"},
		{func(c *collector.Config) { c.MinInterval = hour + 1 }, "MinInterval", "must be from 0s to 1h0m0s, not 1h0m0.000000001s"},
		{func(c *collector.Config) { c.FullSyncInterval = -1 }, "FullSyncInterval", "must be from 0s to 24h0m0s, not -1ns"},
		{
			func(c *collector.Config) { c.TaskTypes = []string{backup} }, "TaskTypes",
			fmt.Sprintf(`must be of %q with API 2.0, not "backupInstance"`, crsapi.API20.TaskTypes()),
		},
		{func(c *collector.Config) { // the limits themselves
			c.Lookback, c.TimeoutOffset, c.MinInterval, c.FullSyncInterval, c.TaskTypes = lookback, hour, hour, day, crsapi.API20.TaskTypes()
		}, "", ""},
	} {
		cfg := collector.Config{Regions: []string{"a"}, Dial: func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
			return []collector.Source{&fakeSource{}}, nil
		}}
		test.change(&cfg)
		e, err := collector.New(cfg)
		if err == nil {
			e.Close()
		}
		var invalid *crsapi.ConfigError
		if ok := errors.As(err, &invalid); ok != (test.field != "") || ok && (invalid.Field != test.field || invalid.Problem != test.problem) {
			t.Errorf("got %v, want %s %s", err, test.field, test.problem)
		}
	}
}

// stateful is a fake source with a state file.
type stateful struct {
	restarting
	source *fakeSource
}

func newStateful(t *testing.T) *stateful {
	s := &stateful{source: &fakeSource{}}
	s.start(t, func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		return []collector.Source{s.source}, nil
	})
	return s
}

// scrape polls the tasks and returns all samples.
func (s *stateful) scrape(tasks ...crsapi.Task) samples {
	s.t.Helper()
	s.source.set(list(tasks...), nil)
	return scrape(s.t, s.e)
}

// want polls the tasks and compares the counters that are not 0.
func (s *stateful) want(what string, want samples, tasks ...crsapi.Task) {
	s.t.Helper()
	wantEqual(s.t, what, s.scrape(tasks...).transitions().nonzero(), want)
}

var (
	running = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	failed  = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	later   = task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusFailed)
	other   = task("crs-b", clean, "2017-02-10 01:00:00", crsapi.StatusFailed)

	failedOnce  = samples{transitions("crs-a", backup, "failed"): "1"}
	failedTwice = samples{transitions("crs-a", backup, "failed"): "2"}
)

func TestRestart(t *testing.T) {
	t.Run("what changed during the downtime counts once", func(t *testing.T) {
		s := newStateful(t)
		s.scrape(running)
		s.want("baseline", samples{}, running)
		s.restart()
		s.want("after it failed", failedOnce, failed)
		s.restart()
		s.want("again", failedOnce, failed)
		s.restart()
		s.want("the row is not listed", failedOnce)
		s.want("the row is listed again", failedOnce, failed)
		s.want("another", failedTwice, failed, later)
	})
	t.Run("the counters are exposed though the API is down", func(t *testing.T) {
		s := newStateful(t)
		s.scrape(running)
		s.scrape(running)
		before := s.scrape(failed).transitions()
		s.restart()
		s.source.set(nil, errors.New("down"))
		wantEqual(t, "down", scrape(t, s.e).transitions(), before)
		s.restart()
		s.source.setDelay(time.Hour)
		wantEqual(t, "before the first poll has ended", poll(t, s.e, time.Millisecond).transitions(), before)
		s.source.setDelay(0)
		s.restart()
		s.want("up", failedTwice, failed, later)
	})
}

// A list of other filters or of another scope is absorbed: what it brings to
// light does not count, but what happens later does.
func TestChangedFiltersAreAbsorbed(t *testing.T) {
	for name, change := range map[string]func(*collector.Config){
		"instances":                           func(cfg *collector.Config) { cfg.RedisIDs = []string{"crs-b", "crs-c", "crs-a"} },
		"task types":                          func(cfg *collector.Config) { cfg.TaskTypes = []string{"task_backupInstance"} },
		"lookback":                            func(cfg *collector.Config) { cfg.Lookback = 87600 * time.Hour },
		"scope":                               func(cfg *collector.Config) { cfg.StateScope = "another zone" },
		"the same instances in another order": func(cfg *collector.Config) { cfg.RedisIDs = []string{"crs-b", "crs-a", "crs-b"} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStateful(t)
			s.cfg.RedisIDs = []string{"crs-a", "crs-b"}
			s.restart()
			s.scrape(running)
			s.scrape(running)
			change(&s.cfg)
			s.restart()
			if strings.HasPrefix(name, "the same") {
				s.want("counted", failedOnce, failed)
				return
			}
			for range 3 {
				s.want("absorbed", samples{}, failed, later, other)
			}
			newer := task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)
			s.want("a failure after that", failedOnce, failed, later, other, newer)
		})
	}
}

// While the disk is full, scrapes show the list, and the counters as last saved.
func TestFullDisk(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	saved := s.scrape(running).transitions()
	blocker := filepath.Join(s.cfg.StateFile+".tmp", "x") // the temporary file cannot be created
	disk := func(full bool) {
		err := os.RemoveAll(s.cfg.StateFile + ".tmp")
		if full {
			err = errors.Join(err, os.MkdirAll(blocker, 0o700))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	disk(true)
	for range 3 {
		got := s.scrape(failed, later, other)
		got.want(t, samples{
			`crs_up{region="ap-guangzhou"}`:                        "1",
			fmt.Sprintf(tasksSeries, "crs-a", "failed", backup):    "2",
			fmt.Sprintf(infoSeries, "0", "crs-b", "name of crs-b"): "1",
		})
		wantEqual(t, "the disk is full", got.transitions(), saved)
	}
	if n := strings.Count(s.log.String(), "level=error"); n != 1 || !strings.Contains(s.log.String(), "cannot write the state file") {
		t.Errorf("logged %d errors: %s", n, s.log.String())
	}
	// Polls in which nothing changes try to save, too.
	scrape(t, s.e).want(t, samples{"crs_state_errors_total": "4"})
	disk(false)
	s.want("there is space again", failedTwice, failed, later, other)
	s.want("the 0 of the new series was shown once", failedTwice, failed, later, other)
	want := samples{transitions("crs-a", backup, "failed"): "2", transitions("crs-b", clean, "failed"): "1"}
	s.want("it was shown twice", want, failed, later, other)

	// Close saves what a poll could not.
	disk(true)
	newer := task("crs-b", clean, "2017-02-10 03:00:00", crsapi.StatusFailed)
	s.want("the disk is full again", want, failed, later, other, newer)
	disk(false)
	s.restart()
	s.source.set(nil, errors.New("down"))
	want[transitions("crs-b", clean, "failed")] = "2"
	wantEqual(t, "after a restart", scrape(t, s.e).transitions().nonzero(), want)
}

// A list that is complete when Close comes is shown with its counters.
func TestCloseWhileAListArrives(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	s.scrape(running)
	began := make(chan struct{})
	s.source = &fakeSource{answer: func(ctx context.Context, _ collector.Filter) (*mirror.Result, error) {
		close(began)
		<-ctx.Done()
		return list(failed), nil
	}}
	s.restart()
	answered := make(chan samples)
	go func() { answered <- poll(t, s.e, time.Minute) }()
	<-began
	s.e.Close()
	got := <-answered
	got.wantUp(t)
	wantEqual(t, "counters", got.transitions().nonzero(), failedOnce)
}

func TestStateMetrics(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	wantDescribed(t, families(t, s.e), collector.StateMetrics())
	info, err := os.Stat(s.cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	const size, errs, reset = "crs_state_size_bytes", "crs_state_errors_total", "crs_state_last_reset_timestamp_seconds"
	wantEqual(t, "state", scrape(t, s.e).of(size, errs, reset), samples{errs: "0", reset: "0", size: decimal(float64(info.Size()))})
	if without := shown(t).of(size, errs, reset); len(without) != 0 {
		t.Errorf("%v is exposed without a state file", without)
	}
	s.e.Close()
	if err := os.WriteFile(s.cfg.StateFile, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.restart()
	bad, err := os.Stat(s.cfg.StateFile + ".bad")
	if err != nil {
		t.Fatal(err)
	}
	s.scrape().want(t, samples{reset: decimal(float64(bad.ModTime().Unix()))})
}

// New fails, and leaves nothing behind: neither polls nor a state file in use.
func TestNewFails(t *testing.T) {
	cause := errors.New("no key")
	cfg := newStateful(t).cfg
	if _, err := collector.New(cfg); err == nil || !strings.Contains(err.Error(), cfg.StateFile) {
		t.Errorf("two exporters use one state file: %v", err)
	}
	cfg.StateFile = filepath.Join(t.TempDir(), "state")
	cfg.Regions = []string{"a", "b"}
	for range 2 { // the second time the state file is not in use
		dialed := 0
		cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
			if dialed++; dialed == 2 {
				return nil, cause
			}
			return []collector.Source{&fakeSource{}}, nil
		}
		if _, err := collector.New(cfg); !errors.Is(err, cause) || err.Error() != "region b: no key" {
			t.Errorf("got %v", err)
		}
	}
}
