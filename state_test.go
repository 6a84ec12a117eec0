package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// stateRun is an exporter with a state file whose disk fails. A backup of crs-1
// fails before each scrape.
type stateRun struct {
	*running
	t        *testing.T
	server   *crsapitest.Server
	args     []string
	path     string // of the state file
	at       time.Time
	failures int // that are listed
}

func startWithState(t *testing.T) *stateRun {
	s := &stateRun{t: t, at: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), failures: -1}
	s.path = filepath.Join(t.TempDir(), "folder", "state")
	if err := os.Mkdir(filepath.Dir(s.path), 0o700); err != nil {
		t.Fatal(err)
	}
	s.server, s.args = simulate(t, map[string][]crsapi.Task{guangzhou: {backup("crs-1", s.at, crsapi.StatusSucceeded)}})
	s.running = start(t, s.with(s.path)...)
	s.scrape()
	s.scrape()
	s.failures = 0
	s.wantCounted(s.fail(), 1)
	return s
}

// with returns the arguments with a state file.
func (s *stateRun) with(path string) []string {
	return append(slices.Clone(s.args), "--scrape.timeout-offset=0s", "--state.file="+path)
}

// fail adds a failed backup and scrapes. The list must be whole.
func (s *stateRun) fail() map[string]string {
	s.t.Helper()
	s.failures++
	s.at = s.at.Add(time.Hour)
	s.server.Add(guangzhou, backup("crs-1", s.at, crsapi.StatusFailed))
	samples := s.scrape()
	want(s.t, samples, map[string]string{
		`crs_up{region="ap-guangzhou"}`: "1",
		`crs_tasks{redisId="crs-1",region="ap-guangzhou",status="failed",taskName="backupInstance"}`: strconv.Itoa(s.failures),
	})
	return samples
}

func (s *stateRun) wantCounted(samples map[string]string, failed int) {
	s.t.Helper()
	want(s.t, samples, map[string]string{transitions("crs-1", "failed"): strconv.Itoa(failed)})
}

// wantErrors wants the errors to be counted and one line of the log to name the
// file.
func (s *stateRun) wantErrors(some bool) {
	s.t.Helper()
	_, body := s.get("/metrics")
	if strings.Contains(body, "\ncrs_state_errors_total 0\n") == some {
		s.t.Errorf("errors counted: %t, want %t", !some, some)
	}
	lines := 0
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "level=error") && strings.Contains(line, "state_file="+s.path) {
			lines++
		}
	}
	if (lines == 1) != some {
		s.t.Errorf("%d errors logged:\n%s", lines, s.log)
	}
}

// wantAfterAKill wants another exporter to go on from a copy of the file.
func (s *stateRun) wantAfterAKill(failed int) {
	s.t.Helper()
	data, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Error(err)
		return
	}
	path := filepath.Join(s.t.TempDir(), "copy")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	restarted := start(s.t, s.with(path)...)
	s.wantCounted(restarted.scrape(), failed)
	if err := restarted.wait(); err != nil {
		s.t.Error(err)
	}
}

// Whatever is wrong with the disk of the state file: the list is shown, counters
// stay as last saved, and when it works again, all that happened counts once.
func TestStateFileOnAFailingDisk(t *testing.T) {
	for name, disk := range map[string]struct{ fail, heal func(path string) error }{
		"no temporary file": { // as on a full or read-only disk
			func(path string) error { return os.MkdirAll(filepath.Join(path+".tmp", "x"), 0o700) },
			func(path string) error { return os.RemoveAll(path + ".tmp") },
		},
		"a file for a folder": {
			func(path string) error {
				folder := filepath.Dir(path)
				return errors.Join(os.Rename(folder, folder+".moved"), os.WriteFile(folder, nil, 0o600))
			},
			func(path string) error { return os.Remove(filepath.Dir(path)) },
		},
		"a folder for the file": {
			func(path string) error {
				return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700))
			},
			os.RemoveAll,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startWithState(t)
			if err := disk.fail(s.path); err != nil {
				t.Skip(err)
			}
			for range 3 {
				s.wantCounted(s.fail(), 1)
			}
			s.wantErrors(true)
			if err := disk.heal(s.path); err != nil {
				t.Fatal(err)
			}
			s.wantCounted(s.fail(), 5)
			s.wantAfterAKill(5)
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A file that somebody removes or replaces while the exporter runs is there again
// after the next scrape, though that counts nothing.
func TestStateFileIsTakenAway(t *testing.T) {
	for name, take := range map[string]func(path string) error{
		"file removed":   os.Remove,
		"file emptied":   func(path string) error { return os.Truncate(path, 0) },
		"folder removed": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"folder moved":   func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".moved") },
	} {
		t.Run(name, func(t *testing.T) {
			s := startWithState(t)
			if err := take(s.path); err != nil {
				t.Skip(err)
			}
			s.scrape()
			s.waitForLog("somebody changed the state file")
			s.wantCounted(s.scrape(), 1)
			for n := range 3 {
				s.wantCounted(s.fail(), 2+n)
			}
			s.wantErrors(false)
			s.wantAfterAKill(4)
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
