package collector_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

func TestInvalidConfig(t *testing.T) {
	type config = collector.Config
	const most, hour = 10 * 365 * day, time.Hour
	a := []string{"a"}
	types := fmt.Sprintf(`TaskTypes must be of %q with API 2.0, not "backupInstance"`, crsapi.API20.TaskTypes())
	for want, cfg := range map[string]config{
		"Regions must name at least one region":                                               {},
		"Regions must not contain an empty name":                                              {Regions: []string{"a", ""}},
		`Regions must have only letters, digits and hyphens in each name, not "b/"`:           {Regions: []string{"a", "b/"}},
		`Regions must not contain "a" twice`:                                                  {Regions: []string{"a", "b", "a"}},
		`Regions must not contain one region by two names, "gz" and "ap-guangzhou"`:           {Regions: []string{"gz", guangzhou}},
		"RedisIDs must not contain an empty ID":                                               {Regions: a, RedisIDs: []string{"b", ""}},
		`RedisIDs must not contain commas, blanks, quotes or control characters, as in "c,d"`: {Regions: a, RedisIDs: []string{"b", "c,d"}},

		"Lookback must be from 0s to 87600h0m0s, not -1ns":              {Regions: a, Lookback: -1},
		"TimeoutOffset must be from 0s to 1h0m0s, not 1h0m0.000000001s": {Regions: a, TimeoutOffset: hour + 1},
		"MinInterval must be from 0s to 1h0m0s, not 1h0m0.000000001s":   {Regions: a, MinInterval: hour + 1},
		"FullSyncInterval must be from 0s to 24h0m0s, not -1ns":         {Regions: a, FullSyncInterval: -1},
		types: {Regions: a, TaskTypes: []string{backup}},

		// The limits themselves.
		"": {Regions: a, Lookback: most, TimeoutOffset: hour, MinInterval: hour, FullSyncInterval: day, TaskTypes: crsapi.API20.TaskTypes()},
	} {
		cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
			return []collector.Source{&fakeSource{}}, nil
		}
		e, err := collector.New(cfg)
		got := ""
		if invalid := (*crsapi.ConfigError)(nil); errors.As(err, &invalid) {
			got = invalid.Field + " " + invalid.Problem
		} else if err == nil {
			e.Close()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

var (
	running = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	failed  = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	later   = task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusFailed)
	other   = task("crs-b", clean, "2017-02-10 01:00:00", crsapi.StatusFailed)

	failedOnce = samples{transitions("crs-a", backup, "failed"): "1"}
)

// A list of other filters or of another scope is absorbed: what it brings to
// light does not count, but what happens later does.
func TestChangedFiltersAreAbsorbed(t *testing.T) {
	for name, change := range map[string]func(*collector.Config){
		"instances":  func(cfg *collector.Config) { cfg.RedisIDs = []string{"crs-b", "crs-c", "crs-a"} },
		"task types": func(cfg *collector.Config) { cfg.TaskTypes = []string{"task_backupInstance"} },
		"lookback":   func(cfg *collector.Config) { cfg.Lookback = 10 * 365 * day },
		"scope":      func(cfg *collector.Config) { cfg.StateScope = "another zone" },
		"":           func(cfg *collector.Config) { cfg.RedisIDs = []string{"crs-b", "crs-a", "crs-b"} }, // the same instances
	} {
		s := newStateful(t)
		s.cfg.RedisIDs = []string{"crs-a", "crs-b"}
		s.restart()
		s.scrape(running)
		s.scrape(running)
		change(&s.cfg)
		s.restart()
		if name == "" {
			s.want("the same instances", failedOnce, failed)
			continue
		}
		for range 3 {
			s.want(name, samples{}, failed, other)
		}
		s.want(name+", and a failure after that", failedOnce, failed, other, later)
	}
}

// While the disk is full, scrapes show the list, and the counters as last saved.
func TestFullDisk(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	saved := s.scrape(running).transitions()
	disk := func(full bool) {
		temporary := s.cfg.StateFile + ".tmp"
		err := os.RemoveAll(temporary)
		if full { // it cannot be created
			err = os.MkdirAll(filepath.Join(temporary, "x"), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	disk(true)
	for range 3 {
		got := s.scrape(failed, later, other)
		got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", fmt.Sprintf(tasksSeries, "crs-a", "failed", backup): "2"})
		wantEqual(t, "the disk is full", got.transitions(), saved)
	}
	if n := strings.Count(s.log.String(), "level=error"); n != 1 || !strings.Contains(s.log.String(), "cannot write the state file") {
		t.Errorf("logged %d errors: %s", n, s.log.String())
	}
	// Polls in which nothing changes try to save, too.
	scrape(t, s.e).want(t, samples{"crs_state_errors_total": "4"})
	disk(false)
	for range 2 {
		s.want("there is space again, and a new series shows its 0", samples{transitions("crs-a", backup, "failed"): "2"}, failed, later, other)
	}
	want := samples{transitions("crs-a", backup, "failed"): "2", transitions("crs-b", clean, "failed"): "1"}
	s.want("it was shown twice", want, failed, later, other)
}

// A list that is complete when Close comes is shown with its counters.
func TestCloseWhileAListArrives(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	s.scrape(running)
	var closing sync.WaitGroup
	s.source = &fakeSource{answer: func(ctx context.Context, _ collector.Filter) (*mirror.Result, error) {
		closing.Go(s.e.Close)
		<-ctx.Done()
		return list(failed), nil
	}}
	s.restart()
	got := poll(t, s.e, time.Minute)
	closing.Wait()
	got.wantUp(t)
	wantEqual(t, "counters", got.transitions().nonzero(), failedOnce)
}

func TestOptionalMetrics(t *testing.T) {
	s := newStateful(t)
	s.cfg.Inventory, s.source.api = time.Minute, crsapi.API30
	s.restart()
	s.scrape(running)
	wantDescribed(t, families(t, s.e), collector.OptionalMetrics())
	const size, errs, reset = "crs_state_size_bytes", "crs_state_errors_total", "crs_state_last_reset_timestamp_seconds"
	info, err := os.Stat(s.cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	scrape(t, s.e).want(t, samples{errs: "0", reset: "0", size: decimal(float64(info.Size()))})
	wantEqual(t, "without a state file", shown(t).of(size, errs, reset), samples{})
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
	cfg := collector.Config{
		Regions: []string{"a", "b"}, StateFile: filepath.Join(t.TempDir(), "state"),
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
