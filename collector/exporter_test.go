package collector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestInvalidConfig(t *testing.T) {
	dial := func(string, func(crsapi.Attempt)) ([]collector.Source, error) { return only(always(list())), nil }
	one := []string{"a"}
	tests := []struct {
		name           string
		cfg            collector.Config
		field, problem string
	}{
		{"no Dial", collector.Config{Regions: one}, "Dial", "is nil"},
		{"no region", collector.Config{Dial: dial}, "Regions", "must name at least one region"},
		{"empty region", collector.Config{Dial: dial, Regions: []string{"a", ""}}, "Regions", "must not contain an empty name"},
		{"region twice", collector.Config{Dial: dial, Regions: []string{"a", "b", "a"}}, "Regions", `must not contain "a" twice`},
		{"empty instance", collector.Config{Dial: dial, Regions: one, RedisIDs: []string{"b", ""}}, "RedisIDs", "must not contain an empty ID"},
		{"negative lookback", collector.Config{Dial: dial, Regions: one, Lookback: -1}, "Lookback", "must be from 0s to 87600h0m0s, not -1ns"},
		{"long lookback", collector.Config{Dial: dial, Regions: one, Lookback: 87600*time.Hour + 1}, "Lookback", "must be from 0s to 87600h0m0s, not 87600h0m0.000000001s"},
		{"negative offset", collector.Config{Dial: dial, Regions: one, TimeoutOffset: -1}, "TimeoutOffset", "must be from 0s to 1h0m0s, not -1ns"},
		{"long offset", collector.Config{Dial: dial, Regions: one, TimeoutOffset: time.Hour + 1}, "TimeoutOffset", "must be from 0s to 1h0m0s, not 1h0m0.000000001s"},
		{"negative interval", collector.Config{Dial: dial, Regions: one, MinInterval: -1}, "MinInterval", "must be from 0s to 1h0m0s, not -1ns"},
		{"long interval", collector.Config{Dial: dial, Regions: one, MinInterval: time.Hour + 1}, "MinInterval", "must be from 0s to 1h0m0s, not 1h0m0.000000001s"},
		{"unsupported task type", collector.Config{Dial: dial, Regions: one, TaskTypes: []string{backup}}, "TaskTypes", fmt.Sprintf(`must be of %q with API 2.0, not "backupInstance"`, crsapi.API20.TaskTypes())},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := collector.New(test.cfg)
			var invalid *crsapi.ConfigError
			if !errors.As(err, &invalid) || invalid.Field != test.field || invalid.Problem != test.problem {
				t.Errorf("got %v, want %s %s", err, test.field, test.problem)
			}
		})
	}
	t.Run("the limits themselves are valid", func(t *testing.T) {
		newExporter(t, collector.Config{
			Lookback: 87600 * time.Hour, TimeoutOffset: time.Hour, MinInterval: time.Hour, TaskTypes: crsapi.API20.TaskTypes(),
		}, map[string]collector.Source{"a": always(list())})
	})
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
			return only(always(list())), nil
		},
	}
	for range 2 { // the second time the state file is not in use
		if _, err := collector.New(cfg); !errors.Is(err, cause) || err.Error() != "region b: no key" {
			t.Errorf("got %v", err)
		}
	}
}

func TestRegionsArePolledInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(t, collector.Config{}, map[string]collector.Source{
			guangzhou: &fakeSource{list: list(someTask), delay: 3 * time.Second},
			shanghai:  &fakeSource{list: list(someTask), delay: 2 * time.Second},
		})
		begin := time.Now()
		got := poll(t, e, time.Minute)
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("took %s, want 3s", took)
		}
		got.want(t, samples{
			`crs_up{region="ap-guangzhou"}`: "1", `crs_poll_duration_seconds{region="ap-guangzhou"}`: "3",
			`crs_up{region="ap-shanghai"}`: "1", `crs_poll_duration_seconds{region="ap-shanghai"}`: "2",
		})
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: &fakeList{rejected: 1, pages: 2, tasks: []crsapi.Task{
			task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
			task("crs-a", clean, "2017-02-10 03:00:00", crsapi.StatusSucceeded),
			task("crs-b", clean, "2017-02-10 02:00:00", crsapi.StatusSucceeded),
		}}, delay: time.Second}
		sources := map[string]collector.Source{guangzhou: source, shanghai: &fakeSource{list: list()}}
		e, err := collector.New(collector.Config{
			Regions: []string{shanghai, guangzhou},
			Dial: func(region string, _ func(crsapi.Attempt)) ([]collector.Source, error) {
				return only(sources[region]), nil
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
		want("before the first poll", collector.RegionStatus{})
		if source.count() != 0 {
			t.Error("Status sent a request")
		}
		answered := make(chan bool)
		scrape := func() {
			go func() {
				e.Poll(t.Context())
				answered <- true
			}()
			synctest.Wait()
		}
		scrape()
		want("the first poll is in progress", collector.RegionStatus{})
		<-answered
		first := collector.RegionStatus{
			End: time.Now(), Duration: time.Second, LastSuccess: time.Now(), Pages: 2, Rejected: 1,
			Tasks: 3, Instances: 2, NewestTask: beijing("2017-02-10 03:00:00"),
		}
		want("after success", first)
		if got := e.Status()[0]; got.Tasks != 0 || !got.NewestTask.IsZero() || got.LastSuccess.IsZero() {
			t.Errorf("of an empty list: %+v", got)
		}

		time.Sleep(time.Minute)
		down := errors.New("down")
		source.set(&fakeList{pages: 5, rejected: 4}, down)
		source.setDelay(2 * time.Second)
		scrape()
		want("a poll is in progress", first)
		<-answered
		want("after failure", collector.RegionStatus{
			End: time.Now(), Duration: 2 * time.Second, Err: down, LastSuccess: first.LastSuccess, Pages: 5, Rejected: 4,
		})
		source.set(nil, down)
		scrape()
		<-answered
		want("after a second failure", collector.RegionStatus{
			End: time.Now(), Duration: 2 * time.Second, Err: down, LastSuccess: first.LastSuccess,
		})

		source.set(list(someTask), nil)
		scrape()
		<-answered
		want("after recovery", collector.RegionStatus{
			End: time.Now(), Duration: 2 * time.Second, LastSuccess: time.Now(), Pages: 1,
			Tasks: 1, Instances: 1, NewestTask: beijing("2017-02-10 01:00:00"),
		})
		last := e.Status()[1]
		scrape()
		e.Close()
		<-answered
		last.Region = ""
		want("after Close", last)
	})
}

// stateful is an exporter of one region with a state file, which can be
// restarted.
type stateful struct {
	t      *testing.T
	cfg    collector.Config
	source *fakeSource
	e      *collector.Exporter
	log    bytes.Buffer
}

func newStateful(t *testing.T) *stateful {
	s := &stateful{t: t, source: &fakeSource{}}
	s.cfg = collector.Config{
		Regions:   []string{guangzhou},
		StateFile: filepath.Join(t.TempDir(), "state"),
		Logger:    logTo(&s.log),
		Dial:      func(string, func(crsapi.Attempt)) ([]collector.Source, error) { return only(s.source), nil },
	}
	s.restart()
	t.Cleanup(func() { s.e.Close() })
	return s
}

func (s *stateful) restart() {
	s.t.Helper()
	if s.e != nil {
		s.e.Close()
	}
	e, err := collector.New(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.e = e
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
	t.Run("a region that is not watched any more is forgotten", func(t *testing.T) {
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
		wantEqual(t, "counters", got, samples{transitionsIn(shanghai, "crs-a", backup, "failed"): "1"})
	})
}

// A list of other filters or of another scope is absorbed: what it brings to
// light does not count, but what happens later does.
func TestChangedFiltersAreAbsorbed(t *testing.T) {
	changes := map[string]func(*collector.Config){
		"instances":  func(cfg *collector.Config) { cfg.RedisIDs = []string{"crs-b", "crs-a"} },
		"task types": func(cfg *collector.Config) { cfg.TaskTypes = []string{"task_backupInstance"} },
		"lookback":   func(cfg *collector.Config) { cfg.Lookback = 87600 * time.Hour },
		"scope":      func(cfg *collector.Config) { cfg.StateScope = func(crsapi.API) string { return "another zone" } },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := newStateful(t)
			s.scrape(running)
			s.scrape(running)
			s.want("before", failedOnce, failed)
			change(&s.cfg)
			s.restart()
			for range 3 {
				s.want("absorbed", failedOnce, failed, later, other)
			}
			s.restart()
			s.want("after another restart", failedOnce, failed, later, other)
			newer := task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)
			s.want("a failure after that", failedTwice, failed, later, other, newer)
		})
	}
	t.Run("equal filters in another order are no change", func(t *testing.T) {
		s := newStateful(t)
		s.cfg.RedisIDs = []string{"crs-a", "crs-b"}
		s.restart()
		s.scrape(running)
		s.scrape(running)
		s.cfg.RedisIDs = []string{"crs-b", "crs-a", "crs-b"}
		s.restart()
		s.want("counted", failedOnce, failed)
	})
}

// wantUnsaved wants a scrape of the failed tasks which shows the list, and the
// counters as last saved.
func (s *stateful) wantUnsaved(what string, saved samples) {
	s.t.Helper()
	begin := time.Now()
	got := s.scrape(failed, later, other)
	if took := time.Since(begin); took > 5*time.Second {
		s.t.Errorf("%s: the scrape took %s", what, took)
	}
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
	s.restart()
	s.want("after a restart", want, failed, later, other)
}

func TestCloseSavesWhatAPollCouldNot(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	s.scrape(running)
	blocker := s.cfg.StateFile + ".tmp"
	if err := os.MkdirAll(filepath.Join(blocker, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.scrape(failed)
	if err := os.RemoveAll(blocker); err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.source.set(nil, errors.New("down"))
	wantEqual(t, "counters", scrape(t, s.e).transitions().nonzero(), failedOnce)
}

// A list that is complete when Close comes is shown with its counters.
func TestCloseWhileAListArrives(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	s.scrape(running)
	began := make(chan struct{})
	s.cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		return only(sourceFunc(func(ctx context.Context, _ crsapi.Query) (swept, error) {
			close(began)
			<-ctx.Done()
			return list(failed), nil
		})), nil
	}
	s.restart()
	answered := make(chan samples)
	go func() { answered <- poll(t, s.e, time.Minute) }()
	<-began
	s.e.Close()
	got := <-answered
	if !got.up(guangzhou) {
		t.Error("down")
	}
	wantEqual(t, "counters", got.transitions().nonzero(), failedOnce)
}

// What stays listed is remembered, what has left the list is forgotten after 30
// days of watching.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := func(redisID, taskName, start string) crsapi.Task {
			return task(redisID, taskName, start, crsapi.StatusSucceeded)
		}
		var (
			stays   = old("crs-a", backup, "1999-06-02 01:00:00")
			first   = old("crs-a", backup, "1999-06-01 01:00:00")
			inPart  = old("crs-a", clean, "1999-06-01 01:00:00")
			atOnce  = old("crs-b", backup, "1999-06-01 01:00:00")
			byDay29 = old("crs-c", backup, "1999-06-01 01:00:00")
		)
		s := newStateful(t)
		watch := func(hours int, tasks ...crsapi.Task) {
			for range hours {
				time.Sleep(time.Hour)
				s.source.set(list(tasks...), nil)
				poll(t, s.e, time.Minute)
			}
		}
		want := func(when string, redisIDs ...string) {
			t.Helper()
			got := map[string]bool{}
			for series := range scrape(t, s.e).transitions() {
				id, _, _ := strings.Cut(strings.TrimPrefix(series, `crs_task_transitions_total{redisId="`), `"`)
				got[id] = true
			}
			if ids := slices.Sorted(maps.Keys(got)); !slices.Equal(ids, redisIDs) {
				t.Errorf("%s: counters of %v, want those of %v", when, ids, redisIDs)
			}
		}
		watch(1, first, stays, inPart, atOnce, byDay29)
		watch(29*24, stays, byDay29)
		want("29 days later", "crs-a", "crs-b", "crs-c")
		s.restart()
		watch(1, first, stays)
		watch(24+1, stays)
		want("30 days later", "crs-a", "crs-c")
		watch(29*24+4, stays)
		want("59 days later, and 30 after the restart", "crs-a")
		wantEqual(t, "series of the instance that stays", scrape(t, s.e).transitions().nonzero(), samples{})
		if n := len(scrape(t, s.e).transitions()); n != 10 {
			t.Errorf("%d counters, want 5 of each of its series", n)
		}
	})
}

func TestStateMetricsAreAsDescribed(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	found := families(t, s.e)
	wantDescribed(t, found, collector.StateMetrics())
	info, err := os.Stat(s.cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	state := []string{"crs_state_errors_total", "crs_state_size_bytes", "crs_state_last_reset_timestamp_seconds"}
	wantEqual(t, "state", scrape(t, s.e).of(state...), samples{
		"crs_state_errors_total": "0", "crs_state_last_reset_timestamp_seconds": "0",
		"crs_state_size_bytes": decimal(float64(info.Size())),
	})

	s.e.Close()
	if err := os.WriteFile(s.cfg.StateFile, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Unix()
	s.restart()
	after := scrape(t, s.e)
	bad, err := os.Stat(s.cfg.StateFile + ".bad")
	if err != nil {
		t.Fatal(err)
	}
	if at := bad.ModTime().Unix(); at < before || after["crs_state_last_reset_timestamp_seconds"] != decimal(float64(at)) {
		t.Errorf("the last reset is %s, want %d", after["crs_state_last_reset_timestamp_seconds"], at)
	}

	without := families(t, watch(t, always(list())))
	for _, name := range state {
		if without[name] != nil {
			t.Errorf("%s is exposed without a state file", name)
		}
	}
}

func TestStateFileCannotBeUsed(t *testing.T) {
	s := newStateful(t)
	cfg := s.cfg
	if e, err := collector.New(cfg); err == nil {
		e.Close()
		t.Error("two exporters use one state file")
	} else if !strings.Contains(err.Error(), cfg.StateFile) {
		t.Errorf("the error does not name the file: %v", err)
	}
	cfg.StateFile = filepath.Join(t.TempDir(), "none", "state")
	if e, err := collector.New(cfg); err == nil {
		e.Close()
		t.Error("the state file is in a folder that does not exist")
	}
}
