package collector

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

// kept is an exporter of one region with a state file, which can be restarted.
type kept struct {
	t      *testing.T
	cfg    Config
	source *fakeSource
	e      *Exporter
	log    bytes.Buffer
}

func newKept(t *testing.T) *kept {
	k := &kept{t: t, source: &fakeSource{}}
	k.cfg = Config{
		Regions:   []string{guangzhou},
		StateFile: filepath.Join(t.TempDir(), "state"),
		Logger:    log.NewLogfmtLogger(log.NewSyncWriter(&k.log)),
		Dial:      func(string, func(crsapi.Attempt)) (Source, error) { return k.source, nil },
	}
	k.start()
	t.Cleanup(func() { k.e.Close() })
	return k
}

func (k *kept) start() {
	k.t.Helper()
	e, err := New(k.cfg)
	if err != nil {
		k.t.Fatal(err)
	}
	k.e = e
}

// crash ends the exporter without anything that it would do in peace.
func (k *kept) crash() {
	k.t.Helper()
	k.e.state.stale = false
	k.e.Close()
}

// scrape polls the tasks and returns the counters that are not 0, by instance,
// task name and status, and how many are exposed in all.
func (k *kept) scrape(tasks ...crsapi.Task) (counts map[string]string, exposed int) {
	k.t.Helper()
	k.source.set(list(tasks...), nil)
	return k.scrapeWhatever()
}

func (k *kept) scrapeWhatever() (counts map[string]string, exposed int) {
	k.t.Helper()
	counts = map[string]string{}
	for line := range strings.Lines(scrape(k.t, k.e)) {
		if !strings.HasPrefix(line, transitionsMetric.Name+"{") {
			continue
		}
		exposed++
		var id, region, st, name, value string
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == '"' })
		id, region, st, name, value = fields[1], fields[3], fields[5], fields[7], strings.TrimSpace(fields[8][1:])
		if region == guangzhou && value != "0" {
			counts[id+" "+name+" "+st] = value
		}
	}
	return counts, exposed
}

func (k *kept) want(what string, want map[string]string, tasks ...crsapi.Task) {
	k.t.Helper()
	if got, _ := k.scrape(tasks...); !maps.Equal(got, want) {
		k.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestStateRestart(t *testing.T) {
	const start = "2017-02-10 01:00:00"
	var (
		running = task("crs-a", backup, start, crsapi.StatusExecuting)
		failed  = task("crs-a", backup, start, crsapi.StatusFailed)
		older   = task("crs-a", backup, "2017-02-09 01:00:00", crsapi.StatusFailed)
		later   = task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusFailed)
		other   = task("crs-b", clean, start, crsapi.StatusFailed)
		one     = map[string]string{"crs-a backupInstance failed": "1"}
		two     = map[string]string{"crs-a backupInstance failed": "2"}
	)
	for name, end := range map[string]func(*kept){
		"in peace": func(k *kept) { k.e.Close() },
		"a crash":  (*kept).crash,
	} {
		restart := func(k *kept) { end(k); k.start() }
		t.Run(name+"/what turned meanwhile counts once", func(t *testing.T) {
			k := newKept(t)
			k.want("baseline", nil, running, older)
			k.want("shown", nil, running, older)
			restart(k)
			k.scrape(failed, older) // a crash may have to show the 0 again
			k.want("after it failed", one, failed, older)
			restart(k)
			k.want("again", one, failed, older)
			restart(k)
			k.want("its row away", one)
			k.want("its row back", one, failed, older)
		})
		t.Run(name+"/a counter that counted needs no new 0", func(t *testing.T) {
			k := newKept(t)
			k.scrape(running)
			k.want("failed", one, failed)
			restart(k)
			k.want("another", two, failed, later)
		})
		t.Run(name+"/a series that is born meanwhile begins at 0", func(t *testing.T) {
			k := newKept(t)
			k.scrape(running)
			restart(k)
			k.want("birth", nil, running, other)
			restart(k)
			k.scrape(running, other)
			k.want("shown", map[string]string{"crs-b cleanInstance failed": "1"}, running, other)
		})
		t.Run(name+"/counters are there though the API is not", func(t *testing.T) {
			k := newKept(t)
			k.scrape(running)
			k.want("failed", one, failed)
			before, n := k.scrape(failed)
			restart(k)
			k.source.set(nil, errors.New("away"))
			if after, m := k.scrapeWhatever(); !maps.Equal(before, after) || n != m {
				t.Errorf("%d counters %v, before %d %v", m, after, n, before)
			}
			k.want("back", two, failed, later)
		})
		t.Run(name+"/created stays", func(t *testing.T) {
			k := newKept(t)
			weird := running
			weird.Status = 9
			k.scrape(running, weird)
			before := k.e.regions[0].ledger.current.counters[0]
			restart(k)
			after := k.e.regions[0].ledger.current.counters[0]
			if !after.created.Equal(before.created) || !after.unknownCreated.Equal(before.unknownCreated) || before.unknownCreated.IsZero() {
				t.Errorf("got %v, %v, want %v, %v", after.created, after.unknownCreated, before.created, before.unknownCreated)
			}
		})
		t.Run(name+"/an empty list is a baseline too", func(t *testing.T) {
			k := newKept(t)
			k.scrape()
			restart(k)
			k.scrape(failed)
			k.want("born meanwhile", one, failed)
		})
		t.Run(name+"/a region that is not watched meanwhile", func(t *testing.T) {
			k := newKept(t)
			k.scrape(running)
			k.want("failed", one, failed)
			k.cfg.Regions = []string{"ap-beijing"}
			restart(k)
			k.scrape(running)
			restart(k)
			k.scrape(running)
			k.cfg.Regions = []string{guangzhou, "ap-beijing"}
			restart(k)
			k.want("watched again", two, failed, later)
		})
		t.Run(name+"/other instances", func(t *testing.T) {
			k := newKept(t)
			k.cfg.RedisIDs = []string{"crs-a"}
			restart(k)
			k.scrape(running)
			k.want("failed", one, failed)
			k.cfg.RedisIDs = nil
			restart(k)
			now := failed
			now.StartTime = time.Now().Add(time.Minute).Truncate(time.Second)
			k.scrape(failed, now, other)
			k.want("history of the new, not of the old", two, failed, now, other)
			restart(k)
			k.scrape(failed, now, other)
			k.want("for good", two, failed, now, other)
		})
		t.Run(name+"/other scope", func(t *testing.T) {
			k := newKept(t)
			k.scrape(running)
			k.want("failed", one, failed)
			k.cfg.StateScope = "another zone"
			restart(k)
			k.scrape(later, other)
			k.want("all else is history", one, later, other)
			k.want("no longer", two, later, other, task("crs-a", backup, "2017-02-11 02:00:00", crsapi.StatusFailed))
		})
	}
}

// A region that has not been polled yet is saved along with others, but not as
// if what its new filters bring to light were known.
func TestStateOfARegionBeforeItsFirstPoll(t *testing.T) {
	k := newKept(t)
	k.cfg.Regions = []string{guangzhou, "ap-beijing"}
	k.cfg.RedisIDs = []string{"crs-a"}
	k.crash()
	k.start()
	running := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	other := task("crs-b", clean, "2017-02-10 01:00:00", crsapi.StatusFailed)
	k.scrape(running)
	k.scrape(running)
	k.cfg.RedisIDs = nil
	k.crash()
	k.start()
	beijing := k.e.regions[1]
	if beijing.name != "ap-beijing" {
		t.Fatal("not the region meant")
	}
	k.source.set(list(running, other), nil)
	if _, err := beijing.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.crash()
	k.start()
	k.scrape(running, other)
	k.want("history", nil, running, other)
}

// A longer lookback brings old tasks to light, of series known for long.
func TestStateLongerLookback(t *testing.T) {
	k := newKept(t)
	ago := func(age time.Duration, status crsapi.Status) crsapi.Task {
		r := task("crs-a", backup, "2017-02-10 01:00:00", status)
		r.StartTime = time.Now().Add(-age).Truncate(time.Second)
		return r
	}
	k.cfg.Lookback = time.Hour
	k.crash()
	k.start()
	k.scrape(ago(time.Minute, crsapi.StatusSucceeded))
	k.cfg.Lookback = 24 * time.Hour
	k.crash()
	k.start()
	k.scrape(ago(time.Minute, crsapi.StatusSucceeded), ago(2*time.Hour, crsapi.StatusFailed), ago(-time.Minute, crsapi.StatusError))
	k.want("only what was submitted since", map[string]string{"crs-a backupInstance error": "1"})
}

func TestStateOfARegionLongGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		k.scrape(task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed))
		k.e.Close()
		time.Sleep(retention + time.Second)
		k.start()
		if n := len(k.e.state.ledgers[guangzhou].series); n != 0 {
			t.Errorf("%d series are remembered", n)
		}
	})
}

func TestStateForgetsWithTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		running := task("crs-a", backup, "1999-12-01 01:00:00", crsapi.StatusExecuting)
		other := task("crs-b", clean, "1999-12-02 01:00:00", crsapi.StatusExecuting)
		k.scrape(running, other)
		running.Status = crsapi.StatusFailed
		k.scrape(running, other)
		time.Sleep(retention + time.Hour)
		k.e.state.written = time.Now() // the log alone has to tell
		k.scrape(other)
		k.crash()
		k.start()
		l := k.e.regions[0].ledger
		if len(l.series) != 1 || len(l.instances) != 1 || l.horizon != running.StartTime.Unix() {
			t.Errorf("%d series, %d instances, horizon %d", len(l.series), len(l.instances), l.horizon)
		}
		k.want("forgotten, and so no news", nil, running, other)
	})
}

func TestStateIsWrittenOnlyWhenSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := &countingFS{stateFS: osFS{}}
		path := filepath.Join(t.TempDir(), "state")
		s, err := loadState(files, path, log.NewNopLogger(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.close(time.Now()) }()
		l := s.ledger(guangzhou, 0, 0)
		poll := func(tasks ...crsapi.Task) int {
			before := files.bytes
			snap, runs := takeSnapshot([]asked{{list: list(tasks...)}}, 0)
			l.markShown(l.update(snap, runs, time.Now()))
			if !s.commit(guangzhou, time.Now()) {
				t.Error("not saved")
			}
			return files.bytes - before
		}
		running := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
		old := task("crs-a", backup, "2017-02-09 01:00:00", crsapi.StatusSucceeded)
		if n := poll(running, old); n < recordsOffset {
			t.Errorf("the baseline wrote %d bytes", n)
		}
		time.Sleep(time.Minute)
		if n := poll(running, old); n != 0 {
			t.Errorf("a poll in which nothing changed wrote %d bytes", n)
		}
		running.Status = crsapi.StatusFailed
		if n := poll(running, old); n == 0 || n > 200 {
			t.Errorf("one change wrote %d bytes", n)
		}
		time.Sleep(rewriteInterval)
		if n := poll(running, old); n < recordsOffset {
			t.Errorf("after an hour %d bytes were written", n)
		}
		s.minLog = 0
		s.base = 0
		running.Status = crsapi.StatusError
		if n := poll(running, old); n < recordsOffset {
			t.Errorf("a log that is too long was not folded up: %d bytes", n)
		}
	})
}

// countingFS counts the bytes written.
type countingFS struct {
	stateFS
	bytes int
}

type countingHandle struct {
	stateHandle
	fs *countingFS
}

func (f *countingFS) create(name string) (stateHandle, error) {
	h, err := f.stateFS.create(name)
	return countingHandle{h, f}, err
}

func (h countingHandle) WriteAt(p []byte, offset int64) (int, error) {
	h.fs.bytes += len(p)
	return h.stateHandle.WriteAt(p, offset)
}

func TestStateHasOneWriter(t *testing.T) {
	k := newKept(t)
	link := filepath.Join(t.TempDir(), "link")
	k.scrape()
	if err := os.Symlink(k.cfg.StateFile, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{k.cfg.StateFile, link} {
		cfg := k.cfg
		cfg.StateFile = path
		e, err := New(cfg)
		want := "collector: state file " + k.cfg.StateFile + ": in use by another process"
		if err == nil {
			e.Close()
			t.Fatal("a second exporter took the file")
		}
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
	k.e.Close()
	k.start()
}

func TestStateInAWrongPlace(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none", "state"), dir, pipe} {
		cfg := Config{Regions: []string{"a"}, StateFile: path, Dial: func(string, func(crsapi.Attempt)) (Source, error) { return always(list()), nil }}
		if e, err := New(cfg); err == nil {
			e.Close()
			t.Errorf("%s is no place for a file", path)
		} else if !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("the error does not name %s: %v", path, err)
		}
	}
	cfg := Config{Regions: []string{"a"}, StateFile: filepath.Join(dir, "state"), Dial: func(string, func(crsapi.Attempt)) (Source, error) { return nil, errors.New("no key") }}
	for range 2 { // the second finds no lock left
		if _, err := New(cfg); err == nil || err.Error() != "region a: no key" {
			t.Errorf("got %v", err)
		}
	}
}

// A file that was cut or changed anywhere either says what was saved, or is set
// aside.
func TestStateDamaged(t *testing.T) {
	k := newKept(t)
	running := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	failed := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	k.scrape(running)
	k.scrape(failed)
	k.scrape(failed, task("crs-b", clean, "2017-02-10 01:00:00", crsapi.StatusFailed))
	k.crash()
	good, err := os.ReadFile(k.cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	one := map[string]string{"crs-a backupInstance failed": "1"}
	check := func(t *testing.T, bad []byte, wantReset bool) {
		t.Helper()
		if err := os.WriteFile(k.cfg.StateFile, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		k.t = t
		k.log.Reset()
		k.start()
		defer k.crash()
		got, _ := k.scrape(failed)
		reset := testutil.ToFloat64(k.e.state.lastReset) != 0
		aside, err := filepath.Glob(k.cfg.StateFile + ".bad-*")
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case reset != wantReset:
			t.Errorf("reset: %t, want %t", reset, wantReset)
		case !reset && (!maps.Equal(got, one) || len(aside) != 0):
			t.Errorf("got %v with %d files set aside", got, len(aside))
		case reset && (len(got) != 0 || len(aside) != 1):
			t.Errorf("reset to %v with %d files set aside", got, len(aside))
		case reset:
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, bad) {
				t.Errorf("set aside is not what was there: %v", err)
			}
			if n := strings.Count(k.log.String(), "level=error"); n != 1 || !strings.Contains(k.log.String(), "state_file="+k.cfg.StateFile) {
				t.Errorf("logged %d errors: %s", n, k.log.String())
			}
			if err := os.Remove(aside[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("as it was", func(t *testing.T) { check(t, good, false) })
	t.Run("uncommitted tail", func(t *testing.T) { check(t, append(slices.Clone(good), 0, 0, 0, 99, 1, 2, 3), false) })
	t.Run("empty", func(t *testing.T) { check(t, nil, true) })
	t.Run("foreign", func(t *testing.T) { check(t, bytes.Repeat([]byte("[Unit]\n"), 2000), true) })
	t.Run("a later version", func(t *testing.T) {
		bad := slices.Clone(good)
		bad[11] = 2
		check(t, bad, true)
	})
	for i := range commitCopies {
		t.Run(fmt.Sprintf("copy %d of the commit torn", i), func(t *testing.T) {
			bad := slices.Clone(good)
			bad[commitOffset+i*commitStride+3] ^= 1
			check(t, bad, false)
		})
	}
	t.Run("both copies torn", func(t *testing.T) {
		bad := slices.Clone(good)
		bad[commitOffset]++
		bad[commitOffset+commitStride]++
		check(t, bad, true)
	})
	t.Run("any cut", func(t *testing.T) {
		rapid.Check(t, func(r *rapid.T) { check(t, good[:rapid.IntRange(0, len(good)-1).Draw(r, "length")], true) })
	})
	t.Run("every byte that matters", func(t *testing.T) {
		for i := range good {
			used := i < len(stateMagic)+4 || i >= recordsOffset
			if !used && i%97 != 0 {
				continue
			}
			bad := slices.Clone(good)
			bad[i] ^= 1 << (i % 8)
			if !used {
				check(t, bad, false)
			} else if _, _, err := decodeState(bad); !errors.Is(err, errBadState) {
				t.Errorf("byte %d changed, and got %v", i, err)
			}
		}
	})
}

func TestStateKeepsOneBadFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t)
		foreign := k.cfg.StateFile + ".bad-mine"
		if err := os.WriteFile(foreign, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			k.crash()
			if err := os.WriteFile(k.cfg.StateFile, []byte("bad"), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			k.start()
		}
		want := k.cfg.StateFile + ".bad-" + time.Now().UTC().Format(badTimeLayout)
		aside, err := filepath.Glob(k.cfg.StateFile + ".bad-*")
		if err != nil || !slices.Equal(aside, []string{want, foreign}) {
			t.Errorf("set aside: %v %v, want %s", aside, err, want)
		}
		resetAt := float64(time.Now().Unix())
		k.crash()
		time.Sleep(time.Minute)
		k.start()
		if got := testutil.ToFloat64(k.e.state.lastReset); got != resetAt {
			t.Errorf("last reset at %f, want %f", got, resetAt)
		}
	})
}

// faultyFS fails as it is told to, after so many good operations.
type faultyFS struct {
	stateFS
	mu   sync.Mutex
	err  error
	good int
}

func (f *faultyFS) set(err error, good int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.good = err, good
}

func (f *faultyFS) fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.good > 0 {
		f.good--
		return nil
	}
	return f.err
}

func (f *faultyFS) create(name string) (stateHandle, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	h, err := f.stateFS.create(name)
	return faultyHandle{h, f}, err
}

func (f *faultyFS) rename(from, to string) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.stateFS.rename(from, to)
}

func (f *faultyFS) sync(folder string) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.stateFS.sync(folder)
}

type faultyHandle struct {
	stateHandle
	fs *faultyFS
}

func (h faultyHandle) WriteAt(p []byte, offset int64) (int, error) {
	if err := h.fs.fault(); err != nil {
		n, _ := h.stateHandle.WriteAt(p[:len(p)/2], offset) // as a full disk does
		return n, err
	}
	return h.stateHandle.WriteAt(p, offset)
}

func (h faultyHandle) Sync() error {
	if err := h.fs.fault(); err != nil {
		return err
	}
	return h.stateHandle.Sync()
}

// Whatever operation a full disk makes fail: the list is shown, counters stay
// what they were, and nothing is lost when there is room again, nor by a
// crash before.
func TestStateOnAFullDisk(t *testing.T) {
	running := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	failed := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	born := task("crs-b", clean, "2017-02-10 01:00:00", crsapi.StatusFailed)
	both := map[string]string{"crs-a backupInstance failed": "1", "crs-b cleanInstance failed": "1"}
	for _, anew := range []bool{false, true} {
		for good := range 7 {
			for _, crash := range []bool{false, true} {
				t.Run(fmt.Sprintf("anew %t/after %d operations/crash %t", anew, good, crash), func(t *testing.T) {
					k := newKept(t)
					files := &faultyFS{stateFS: osFS{}}
					k.e.state.fs = files
					k.scrape(running)
					k.scrape(running)
					if anew {
						k.e.state.drop()
					}
					files.set(syscall.ENOSPC, good)
					counts, n := k.scrape(failed, born)
					down := testutil.ToFloat64(k.e.state.errors) > 0
					if down != strings.Contains(k.log.String(), "no space left on device") {
						t.Errorf("%t, but logged %s", down, k.log.String())
					}
					if down && (len(counts) > 0 || n != 5) {
						t.Errorf("not durable, but exposed %d: %v", n, counts)
					}
					body := scrape(t, k.e)
					wantSample(t, body, `crs_up{region="ap-guangzhou"}`, "1")
					wantSample(t, body, `crs_tasks{redisId="crs-b",region="ap-guangzhou",status="failed",taskName="cleanInstance"}`, "1")
					wantSample(t, body, `crs_instance_info{projectId="0",redisId="crs-b",redisName="name of crs-b",region="ap-guangzhou"}`, "1")
					if errs := strings.Count(k.log.String(), "level=error"); errs > 1 {
						t.Errorf("logged %d errors: %s", errs, k.log.String())
					}
					if crash {
						k.crash()
						k.start()
					} else {
						files.set(nil, 0)
					}
					k.scrape(failed, born)
					k.scrape(failed, born)
					k.want("room again", both, failed, born)
					if !crash && down && !strings.Contains(k.log.String(), "written again") {
						t.Errorf("logged %s", k.log.String())
					}
					k.crash()
					k.start()
					k.scrape(failed, born)
					k.want("after another crash", both, failed, born)
				})
			}
		}
	}
}

// Two polls in a row that fail to be saved, at any two operations, and a crash:
// the second must not spoil what of the first did reach the disk.
func TestStateAfterTwoFailures(t *testing.T) {
	running := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	failed := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	later := task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusFailed)
	for first := range 5 {
		for second := range 8 {
			t.Run(fmt.Sprintf("after %d and %d operations", first, second), func(t *testing.T) {
				k := newKept(t)
				files := &faultyFS{stateFS: osFS{}}
				k.e.state.fs = files
				k.scrape(running)
				k.scrape(running)
				files.set(syscall.EIO, first)
				k.scrape(failed)
				files.set(syscall.EIO, second)
				k.scrape(failed, later)
				k.crash()
				k.start()
				k.scrape(failed, later)
				k.want("after the crash", map[string]string{"crs-a backupInstance failed": "2"}, failed, later)
				if testutil.ToFloat64(k.e.state.lastReset) != 0 {
					t.Errorf("logged %s", k.log.String())
				}
			})
		}
	}
}

func TestStateMetricsAreAsDescribed(t *testing.T) {
	k := newKept(t)
	k.scrape(task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting))
	described := map[string]Metric{}
	for _, m := range StateMetrics() {
		described[m.Name] = m
	}
	for _, f := range gatherAll(t, k.e) {
		if m, ok := described[f.GetName()]; ok {
			if strings.ToLower(f.GetType().String()) != m.Type || f.GetHelp() != m.Help || len(f.Metric[0].Label) != len(m.Labels) {
				t.Errorf("%s is not as described", m.Name)
			}
			delete(described, m.Name)
		}
	}
	if len(described) > 0 {
		t.Errorf("not exposed: %v", described)
	}
	info, err := os.Stat(k.cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(k.e.state.size); got != float64(info.Size()) {
		t.Errorf("the size is %f, want %d", got, info.Size())
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %s", info.Mode())
	}
	if problems, err := testutil.CollectAndLint(k.e.state); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	k.e.Close()
	if k.e.state.commit(guangzhou, time.Now()) {
		t.Error("saved after the end")
	}
}
