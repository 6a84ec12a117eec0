package collector_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

func TestInvalidConfig(t *testing.T) {
	const lookback, hour = 87600 * time.Hour, time.Hour
	for _, test := range []struct {
		name           string
		change         func(*collector.Config)
		field, problem string
	}{
		{"no Dial", func(c *collector.Config) { c.Dial = nil }, "Dial", "is nil"},
		{"no region", func(c *collector.Config) { c.Regions = nil }, "Regions", "must name at least one region"},
		{"empty region", func(c *collector.Config) { c.Regions = []string{"a", ""} }, "Regions", "must not contain an empty name"},
		{"region twice", func(c *collector.Config) { c.Regions = []string{"a", "b", "a"} }, "Regions", `must not contain "a" twice`},
		{"empty instance", func(c *collector.Config) { c.RedisIDs = []string{"b", ""} }, "RedisIDs", "must not contain an empty ID"},
		{
			"two instances in one", func(c *collector.Config) { c.RedisIDs = []string{"b", "c,d"} }, "RedisIDs",
			`must not contain commas, blanks, quotes or control characters, as in "c,d"`,
		},
		{"negative lookback", func(c *collector.Config) { c.Lookback = -1 }, "Lookback", "must be from 0s to 87600h0m0s, not -1ns"},
		{"long lookback", func(c *collector.Config) { c.Lookback = lookback + 1 }, "Lookback", "must be from 0s to 87600h0m0s, not 87600h0m0.000000001s"},
		{"negative offset", func(c *collector.Config) { c.TimeoutOffset = -1 }, "TimeoutOffset", "must be from 0s to 1h0m0s, not -1ns"},
		{"long offset", func(c *collector.Config) { c.TimeoutOffset = hour + 1 }, "TimeoutOffset", "must be from 0s to 1h0m0s, not 1h0m0.000000001s"},
		{"negative interval", func(c *collector.Config) { c.MinInterval = -1 }, "MinInterval", "must be from 0s to 1h0m0s, not -1ns"},
		{"long interval", func(c *collector.Config) { c.MinInterval = hour + 1 }, "MinInterval", "must be from 0s to 1h0m0s, not 1h0m0.000000001s"},
		{"full readings are negative", func(c *collector.Config) { c.FullSyncInterval = -1 }, "FullSyncInterval", "must be from 0s to 24h0m0s, not -1ns"},
		{"full readings are rare", func(c *collector.Config) { c.FullSyncInterval = day + 1 }, "FullSyncInterval", "must be from 0s to 24h0m0s, not 24h0m0.000000001s"},
		{
			"unsupported task type", func(c *collector.Config) { c.TaskTypes = []string{backup} }, "TaskTypes",
			fmt.Sprintf(`must be of %q with API 2.0, not "backupInstance"`, crsapi.API20.TaskTypes()),
		},
		{"no source", func(c *collector.Config) {
			c.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) { return nil, nil }
		}, "Dial", "returns no source"},
		{"the limits themselves", func(c *collector.Config) {
			c.Lookback, c.TimeoutOffset, c.MinInterval, c.FullSyncInterval, c.TaskTypes = lookback, hour, hour, day, crsapi.API20.TaskTypes()
		}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
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
		})
	}
}

func TestDialFails(t *testing.T) {
	cause := errors.New("no key")
	cfg := collector.Config{
		Regions:   []string{"a", "b"},
		StateFile: filepath.Join(t.TempDir(), "state"),
		Dial: func(region string, _ func(crsapi.Attempt)) ([]collector.Source, error) {
			if region == "b" {
				return nil, cause
			}
			return []collector.Source{&fakeSource{}}, nil
		},
	}
	for range 2 { // the second time the state file is not in use
		if _, err := collector.New(cfg); !errors.Is(err, cause) || err.Error() != "region b: no key" {
			t.Errorf("got %v", err)
		}
	}
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: &mirror.Result{Rejected: 1, Pages: 2, Tasks: []crsapi.Task{
			task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
			task("crs-a", clean, "2017-02-10 03:00:00", crsapi.StatusSucceeded),
			task("crs-b", clean, "2017-02-10 02:00:00", crsapi.StatusSucceeded),
		}}, delay: time.Second}
		e, err := collector.New(collector.Config{
			Regions: []string{shanghai, guangzhou},
			Dial: func(region string, _ func(crsapi.Attempt)) ([]collector.Source, error) {
				return []collector.Source{map[string]*fakeSource{guangzhou: source, shanghai: {list: list()}}[region]}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		want := func(when string, want collector.RegionStatus) {
			t.Helper()
			want.Region, want.API = guangzhou, crsapi.API20
			if got := e.Status(); len(got) != 2 || got[0].Region != shanghai || !reflect.DeepEqual(got[1], want) {
				t.Errorf("%s: got %+v, want %+v after that of %s", when, got, want, shanghai)
			}
		}
		var before collector.RegionStatus
		answered := make(chan bool)
		begin := func() {
			go func() {
				e.Poll(t.Context())
				answered <- true
			}()
			synctest.Wait()
			want("a poll is in progress", before)
		}
		scrape := func(when string, takes time.Duration, next collector.RegionStatus) {
			t.Helper()
			source.setDelay(takes)
			begin()
			<-answered
			next.End, next.Duration, next.LastSuccess, next.FullRead = time.Now(), takes, before.LastSuccess, before.FullRead
			if next.Err == nil {
				next.LastSuccess, next.FullRead = time.Now(), time.Now().Add(-takes)
			}
			want(when, next)
			before = next
		}
		want("before the first poll", before)
		if source.polls() != 0 {
			t.Error("Status sent a request")
		}
		scrape("success", time.Second, collector.RegionStatus{
			Pages: 2, Rejected: 1, Tasks: 3, Instances: 2, NewestTask: beijing("2017-02-10 03:00:00"),
		})
		if got := e.Status()[0]; got.Tasks != 0 || !got.NewestTask.IsZero() || got.LastSuccess.IsZero() {
			t.Errorf("of an empty list: %+v", got)
		}
		time.Sleep(time.Minute)
		down := errors.New("down")
		source.set(&mirror.Result{Pages: 5, Rejected: 4}, down)
		scrape("failure", 2*time.Second, collector.RegionStatus{Err: down, Pages: 5, Rejected: 4})
		source.set(nil, down)
		scrape("second failure", 3*time.Second, collector.RegionStatus{Err: down})
		source.set(list(someTask), nil)
		scrape("recovery", 2*time.Second, collector.RegionStatus{Pages: 1, Tasks: 1, Instances: 1, NewestTask: someTask.StartTime})
		begin()
		e.Close()
		<-answered
		want("Close", before)
	})
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
	t.Run("a series that is new after the restart starts at 0", func(t *testing.T) {
		s := newStateful(t)
		s.scrape(running)
		s.restart()
		s.want("new", samples{}, running, other)
		s.restart()
		s.want("shown twice, once by each process", samples{}, running, other)
		s.want("shown twice by one process", samples{}, running, other)
		s.want("after that", samples{transitions("crs-b", clean, "failed"): "1"}, running, other)
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
	t.Run("a region that is not watched in one run keeps its counters", func(t *testing.T) {
		s := newStateful(t)
		s.cfg.Regions = []string{guangzhou, shanghai}
		s.restart()
		s.scrape(running)
		s.cfg.Regions = []string{shanghai}
		s.restart()
		s.scrape(running)
		s.cfg.Regions = []string{guangzhou, shanghai}
		s.restart()
		for range 3 {
			s.scrape(failed)
		}
		got := s.scrape(failed).transitions().nonzero()
		wantEqual(t, "counters", got, samples{
			transitions("crs-a", backup, "failed"):             "1",
			transitionsIn(shanghai, "crs-a", backup, "failed"): "1",
		})
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
			s.restart()
			s.want("after another restart", samples{}, failed, later, other)
			newer := task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)
			s.want("a failure after that", failedOnce, failed, later, other, newer)
		})
	}
}

// wantUnsaved wants a scrape of the failed tasks which shows the list, and the
// counters as last saved.
func (s *stateful) wantUnsaved(what string, saved samples) {
	s.t.Helper()
	got := s.scrape(failed, later, other)
	got.want(s.t, samples{
		`crs_up{region="ap-guangzhou"}`:                        "1",
		fmt.Sprintf(tasksSeries, "crs-a", "failed", backup):    "2",
		fmt.Sprintf(tasksSeries, "crs-b", "failed", clean):     "1",
		fmt.Sprintf(infoSeries, "0", "crs-b", "name of crs-b"): "1",
	})
	wantEqual(s.t, what, got.transitions(), saved)
}

func TestFullDisk(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	saved := s.scrape(running).transitions()
	// The temporary file cannot be created.
	blocker := s.cfg.StateFile + ".tmp"
	if err := os.MkdirAll(filepath.Join(blocker, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.wantUnsaved("the disk is full", saved)
	}
	if n := strings.Count(s.log.String(), "level=error"); n != 1 || !strings.Contains(s.log.String(), "cannot write the state file") {
		t.Errorf("logged %d errors: %s", n, s.log.String())
	}
	// Polls in which nothing changes try to save, too.
	scrape(t, s.e).want(t, samples{"crs_state_errors_total": "4"})
	if err := os.RemoveAll(blocker); err != nil {
		t.Fatal(err)
	}
	s.want("there is space again", failedTwice, failed, later, other)
	s.want("the 0 of the new series was shown once", failedTwice, failed, later, other)
	want := samples{transitions("crs-a", backup, "failed"): "2", transitions("crs-b", clean, "failed"): "1"}
	s.want("it was shown twice", want, failed, later, other)

	// Close saves what a poll could not.
	if err := os.MkdirAll(filepath.Join(blocker, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	newer := task("crs-b", clean, "2017-02-10 03:00:00", crsapi.StatusFailed)
	s.want("the disk is full again", want, failed, later, other, newer)
	if err := os.RemoveAll(blocker); err != nil {
		t.Fatal(err)
	}
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

// What stays listed is remembered. What has left the list is forgotten after 30 days of
// watching.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stays := task("crs-a", backup, "1999-06-02 01:00:00", crsapi.StatusSucceeded)
		leaves := task("crs-b", backup, "1999-06-01 01:00:00", crsapi.StatusSucceeded)
		leavesLate := task("crs-c", backup, "1999-06-01 01:00:00", crsapi.StatusSucceeded)
		s := newStateful(t)
		watch := func(hours int, counters int, tasks ...crsapi.Task) {
			t.Helper()
			for range hours {
				time.Sleep(time.Hour)
				s.source.set(list(tasks...), nil)
				poll(t, s.e, time.Minute)
			}
			if got := scrape(t, s.e).transitions(); len(got) != counters || len(got.nonzero()) != 0 {
				t.Errorf("counters %v, want %d that are 0", got, counters)
			}
		}
		watch(1, 15, stays, leaves, leavesLate)
		watch(29*24, 15, stays, leavesLate)
		s.restart()
		watch(24+2, 10, stays)
		watch(29*24+4, 5, stays)
	})
}

func TestStateMetricsAreAsDescribed(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	wantDescribed(t, families(t, s.e), collector.StateMetrics())
	info, err := os.Stat(s.cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	const size, errs, reset = "crs_state_size_bytes", "crs_state_errors_total", "crs_state_last_reset_timestamp_seconds"
	wantEqual(t, "state", scrape(t, s.e).of(size, errs, reset), samples{errs: "0", reset: "0", size: decimal(float64(info.Size()))})

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
	if without := shown(t).of(size, errs, reset); len(without) != 0 {
		t.Errorf("%v is exposed without a state file", without)
	}
}

func TestStateFileCannotBeUsed(t *testing.T) {
	cfg := newStateful(t).cfg
	for problem, name := range map[string]string{
		"two exporters use one state file": cfg.StateFile,
		"the folder does not exist":        filepath.Join(t.TempDir(), "none", "state"),
	} {
		cfg.StateFile = name
		if e, err := collector.New(cfg); err == nil {
			e.Close()
			t.Error(problem)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%s, but the error does not name the file: %v", problem, err)
		}
	}
}
