package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

const region = "ap-guangzhou"

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns the lines of a level since the last call.
func (l *logBuffer) take(level string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, "level="+level) {
			lines = append(lines, line)
		}
	}
	l.b.Reset()
	return lines
}

// testDisk fails or stalls when files are synced, as it is told to.
type testDisk struct {
	failure atomic.Pointer[syncFailure]
	stall   atomic.Pointer[chan struct{}]
	writes  atomic.Int64
}

type syncFailure struct {
	name string // of the file or folder
	err  error
}

func (d *testDisk) sync(f *os.File) error {
	if strings.HasSuffix(f.Name(), ".tmp") {
		d.writes.Add(1)
		if stall := d.stall.Load(); stall != nil {
			<-*stall
		}
	}
	if failure := d.failure.Load(); failure != nil && failure.name == f.Name() {
		return failure.err
	}
	return nil
}

func (d *testDisk) fail(name string, err error) { d.failure.Store(&syncFailure{name, err}) }
func (d *testDisk) resume()                     { close(*d.stall.Swap(nil)) }

// stop stalls the next write. One that is stalled ends.
func (d *testDisk) stop() {
	stall := make(chan struct{})
	if before := d.stall.Swap(&stall); before != nil {
		close(*before)
	}
}

// fileSteps are steps of a ledger that a Store keeps.
type fileSteps struct {
	*steps
	disk   testDisk
	path   string
	region string
	store  *ledger.Store
	log    logBuffer
}

func newFileSteps(t testing.TB) *fileSteps {
	s := &fileSteps{steps: newSteps(t), path: filepath.Join(t.TempDir(), "state"), region: region}
	s.open()
	t.Cleanup(func() { s.store.Close() })
	return s
}

func (s *fileSteps) open() {
	s.t.Helper()
	store, err := ledger.Open(s.path, log.NewLogfmtLogger(&s.log))
	if err != nil {
		s.t.Fatal(err)
	}
	store.SetSync(s.disk.sync)
	s.store, s.ledger = store, store.Ledgers([]string{s.region})[0]
	s.counters = s.ledger.Counters()
}

// reopen is a restart.
func (s *fileSteps) reopen() {
	s.t.Helper()
	s.store.Close()
	s.open()
}

// kill is a restart without Close: it goes on with a copy of the file.
func (s *fileSteps) kill() {
	s.t.Helper()
	data := s.read()
	s.store.Close()
	s.write(data)
	s.open()
}

func (s *fileSteps) read() []byte {
	s.t.Helper()
	data, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

func (s *fileSteps) write(data []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *fileSteps) mustSave() {
	s.t.Helper()
	if !s.store.Save() {
		s.t.Fatal(s.store.Status().Err)
	}
}

// failOnce saves a list in which a task has failed since the baseline.
func (s *fileSteps) failOnce() {
	s.t.Helper()
	s.poll(in(backupA, noon, executing))
	s.show()
	s.poll(in(backupA, noon, failed))
	s.mustSave()
	s.want("saved", oneFailed)
}

// wantLog checks the lines of a level since the last call: one that has all texts, or
// none without texts.
func (s *fileSteps) wantLog(level string, texts ...string) {
	s.t.Helper()
	lines := s.log.take(level)
	if len(lines) != min(len(texts), 1) {
		s.t.Errorf("logged %q, want %q", lines, texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(lines[0], text) || !strings.Contains(lines[0], "state_file="+s.path) {
			s.t.Errorf("logged %q, want %q", lines[0], text)
		}
	}
}

func TestRestart(t *testing.T) {
	for name, restart := range map[string]func(*fileSteps){
		"after Close": (*fileSteps).reopen, "after a kill": (*fileSteps).kill,
	} {
		t.Run(name+"/counters, dates and source are as before", func(t *testing.T) {
			s := newFileSteps(t)
			s.failOnce()
			s.change(in(backupB, noon+1, unknown))
			s.mustSave()
			before := s.counters
			restart(s)
			if !slices.Equal(s.counters, before) || s.ledger.Source() != "2.0" {
				t.Errorf("got %v of %q, want %v", s.counters, s.ledger.Source(), before)
			}
			s.poll(in(backupA, noon, failed), in(backupB, noon+1, unknown))
			s.settle()
			s.want("held counts are kept", oneFailed, "crs-b backup unknown 1")
		})
		t.Run(name+"/an empty list is a baseline too", func(t *testing.T) {
			s := newFileSteps(t)
			s.poll()
			s.mustSave()
			restart(s)
			s.poll(in(backupA, noon, failed))
			s.settle()
			s.want("failed meanwhile", oneFailed)
		})
	}
}

// A region that is not watched keeps its part of the file for 30 days.
func TestRegionNotWatched(t *testing.T) {
	for days, kept := range map[int]bool{29: true, 31: false} {
		t.Run(fmt.Sprint(days), func(t *testing.T) {
			s := newFileSteps(t)
			s.failOnce()
			s.watch(90 * day) // a list at rest: the last change must not decide
			s.region = "ap-beijing"
			s.reopen()
			s.skew = time.Duration(days) * day
			s.poll(in(backupB, noon, failed))
			s.mustSave()
			s.region = region
			s.kill()
			if got := s.ledger.Source() != ""; got != kept {
				t.Errorf("kept: %t", got)
			}
			if kept {
				s.want("watched again", oneFailed)
			}
		})
	}
}

func TestFileIsPrivate(t *testing.T) {
	s := newFileSteps(t)
	s.failOnce()
	s.store.Close()
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprint(e.Name(), info.Mode().Perm()&^0o200))
	}
	if want := []string{"state-r--------", "state.lock-r--------"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	if status := s.store.Status(); status != (ledger.Status{Size: int64(len(s.read()))}) {
		t.Errorf("got %+v", status)
	}
	s.open()
	if status := s.store.Status(); status != (ledger.Status{Size: int64(len(s.read()))}) {
		t.Errorf("got %+v after the restart", status)
	}
}

func TestWithoutAFile(t *testing.T) {
	store, err := ledger.Open("", log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	s := newSteps(t)
	s.ledger = store.Ledgers([]string{region})[0]
	if s.poll(in(backupA, noon, executing)); !store.Save() || store.Status() != (ledger.Status{}) {
		t.Errorf("got %+v", store.Status())
	}
	store.Close()
	store.Close()
}

// asleep calls a function and returns how long it waited. It needs synctest.
func asleep(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

func TestSavesDuringAWriteGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFileSteps(t)
		s.poll()
		s.disk.stop()
		saved := make(chan bool, 9)
		save := func() { saved <- s.store.Save() }
		go save()
		synctest.Wait()
		for n := range int64(8) {
			s.change(in(backupA, noon+n, executing))
			go save()
			synctest.Wait()
		}
		s.disk.resume()
		for range 9 {
			if !<-saved {
				t.Error("not saved")
			}
		}
		if n := s.disk.writes.Load(); n != 2 {
			t.Errorf("%d writes, want 2", n)
		}
		before := s.counters
		s.kill()
		if !slices.Equal(s.counters, before) {
			t.Errorf("the file has %v, want %v", s.counters, before)
		}
	})
}

// A stalled disk costs one second once and loses nothing. It is logged once, and each Save
// counts it while it lasts.
func TestStalledDisk(t *testing.T) {
	const stalled = "write has not finished after 1s"
	for name, failure := range map[string]error{"ends well": nil, "ends with an error": errors.New("the disk fails")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFileSteps(t)
				s.failOnce()
				s.disk.stop()
				s.change(in(backupA, noon+1, failed))
				for n, want := range []time.Duration{time.Second, 0, 0} {
					wait := asleep(func() {
						if s.store.Save() {
							t.Error("saved by a stalled disk")
						}
					})
					if wait != want {
						t.Errorf("call %d waited %s", n+1, wait)
					}
					synctest.Wait()
					if status := s.store.Status(); status.Errors != uint64(n+1) || status.Err == nil || status.Err.Error() != stalled {
						t.Errorf("got %+v after call %d", status, n+1)
					}
					time.Sleep(time.Minute)
				}
				s.wantLog("error", "counters stay as last saved", stalled)
				s.disk.fail(s.path+".tmp", failure)
				s.disk.resume()
				synctest.Wait()
				if failure != nil { // of the stalled write, and of the one requested meanwhile
					s.wantLog("error", failure.Error())
					if status := s.store.Status(); status.Errors != 5 || !errors.Is(status.Err, failure) {
						t.Errorf("got %+v", status)
					}
					s.disk.fail("", nil)
					s.mustSave()
				}
				s.wantLog("info", "state file written again")
				s.kill()
				s.want("restored", "crs-a backup failed 2")
			})
		})
	}
	t.Run("again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFileSteps(t)
			for range 2 {
				s.poll()
				s.disk.stop()
				if wait := asleep(func() { s.store.Save() }); wait != time.Second {
					t.Errorf("waited %s", wait)
				}
				s.disk.resume()
				synctest.Wait()
				s.wantLog("error", stalled)
			}
		})
	})
	t.Run("a slow disk is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFileSteps(t)
			s.poll()
			s.disk.stop()
			time.AfterFunc(time.Second-1, s.disk.resume)
			s.mustSave()
			s.wantLog("error")
		})
	})
}

func TestClose(t *testing.T) {
	t.Run("saves what is not saved", func(t *testing.T) {
		s := newFileSteps(t)
		s.failOnce()
		s.change(in(backupA, noon+1, failed))
		s.reopen()
		s.want("after the restart", "crs-a backup failed 2")
		s.store.Close()
		s.store.Close()
		if s.store.Save() {
			t.Error("saved after Close")
		}
	})
	for name, test := range map[string]struct {
		before func(*ledger.Store) // while the disk is stalled
		wait   time.Duration
	}{
		"waits a second for a stalled disk": {func(*ledger.Store) {}, time.Second},
		"does not wait again":               {func(s *ledger.Store) { s.Save() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFileSteps(t)
				s.failOnce()
				s.disk.stop()
				test.before(s.store)
				s.change(in(backupA, noon+1, failed))
				if wait := asleep(s.store.Close); wait != test.wait {
					t.Errorf("waited %s", wait)
				}
				wantInUse(t, s.path) // the write may still succeed
				if test.wait == 0 {
					s.disk.stop()
					synctest.Wait()
					wantInUse(t, s.path) // the last write is still to come
				}
				s.disk.resume()
				synctest.Wait()
				s.open()
				s.want("after the restart", "crs-a backup failed 2")
			})
		})
	}
}

// A disk that is full, read-only or gone: each failed write is counted, the first one is
// logged, and the next Save writes all again.
func TestFailedWrites(t *testing.T) {
	for name, fail := range map[string]func(s *fileSteps) error{
		"create":             func(s *fileSteps) error { return os.MkdirAll(s.path+".tmp/folder", 0o700) },
		"sync of the file":   func(s *fileSteps) error { s.disk.fail(s.path+".tmp", syscall.ENOSPC); return nil },
		"rename":             func(s *fileSteps) error { return errors.Join(os.Remove(s.path), os.MkdirAll(s.path+"/folder", 0o700)) },
		"sync of the folder": func(s *fileSteps) error { s.disk.fail(filepath.Dir(s.path), syscall.EIO); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := newFileSteps(t)
			s.failOnce()
			if err := fail(s); err != nil {
				t.Fatal(err)
			}
			s.change(in(backupA, noon+1, failed))
			for n := range uint64(3) {
				if s.store.Save() {
					t.Error("saved")
				}
				if status := s.store.Status(); status.Errors != n+1 || status.Err == nil {
					t.Errorf("got %+v after %d failed writes", status, n+1)
				}
			}
			s.wantLog("error", "counters stay as last saved", s.store.Status().Err.Error())
			if info, err := os.Stat(s.path + ".tmp"); err == nil && !info.IsDir() {
				t.Error("a part of the file was left")
			}
			s.disk.fail("", nil)
			if err := errors.Join(os.RemoveAll(s.path), os.RemoveAll(s.path+".tmp")); err != nil {
				t.Fatal(err)
			}
			s.mustSave()
			if status := s.store.Status(); status != (ledger.Status{Errors: 3, Size: int64(len(s.read()))}) {
				t.Errorf("got %+v after the repair", status)
			}
			s.mustSave()
			s.wantLog("info", "state file written again")
			s.kill()
			s.want("after a kill", "crs-a backup failed 2")
		})
	}
}

// Whatever becomes of the files during the run, the next Save writes all.
func TestFilesChangedMeanwhile(t *testing.T) {
	s := newFileSteps(t)
	s.failOnce()
	if err := errors.Join(os.Remove(s.path), os.WriteFile(s.path+".tmp", make([]byte, 9999), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.mustSave()
	s.kill()
	s.want("restored", oneFailed)
}

// All methods may be called at once: for the race detector.
func TestConcurrency(t *testing.T) {
	s := newFileSteps(t)
	regions := []string{region, "ap-beijing"}
	ledgers := s.store.Ledgers(regions)
	var group sync.WaitGroup
	for _, l := range ledgers {
		group.Go(func() {
			for n := range int64(50) {
				list := tasks(map[identity]row{{backupA, noon + n}: in(backupA, noon+n, failed)})
				l.Apply(ledger.Batch{Source: "2.0", Tasks: list, Time: time.Now(), Date: time.Unix(noon+n, 0)})
				if !s.store.Save() {
					t.Error(s.store.Status().Err)
				}
			}
		})
		group.Go(func() {
			for range 500 {
				l.Shown(l.Counters())
				_, _ = l.Source(), s.store.Status()
			}
		})
	}
	group.Wait()
	before := [][]ledger.Counters{ledgers[0].Counters(), ledgers[1].Counters()}
	s.reopen()
	for i, l := range s.store.Ledgers(regions) {
		if got := counts(l.Counters()); !slices.Equal(got, counts(before[i])) {
			t.Errorf("%s: got %v, want %v", regions[i], got, counts(before[i]))
		}
	}
}
