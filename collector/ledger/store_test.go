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

// fileSteps are steps of a ledger that a Store keeps.
type fileSteps struct {
	*steps
	disk   ledger.Disk
	path   string
	region string
	store  *ledger.Store
	log    logBuffer
}

func newFileSteps(t testing.TB, disk ledger.Disk) *fileSteps {
	s := &fileSteps{steps: newSteps(t), disk: disk, path: filepath.Join(t.TempDir(), "folder", "state"), region: region}
	if err := os.Mkdir(filepath.Dir(s.path), 0o700); err != nil {
		t.Fatal(err)
	}
	s.open()
	t.Cleanup(func() { s.store.Close() })
	return s
}

func (s *fileSteps) open() {
	s.t.Helper()
	store, err := ledger.OpenOn(s.disk, s.path, log.NewLogfmtLogger(&s.log))
	if err != nil {
		s.t.Fatal(err)
	}
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
			s := newFileSteps(t, ledger.RealDisk)
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
		t.Run(name+"/a task that failed meanwhile counts once", func(t *testing.T) {
			s := newFileSteps(t, ledger.RealDisk)
			s.poll(in(backupA, noon, executing))
			s.mustSave()
			restart(s)
			for range 3 {
				s.poll(in(backupA, noon, failed))
				s.settle()
				s.mustSave()
				s.want("failed", oneFailed)
				restart(s)
			}
			s.poll()
			s.poll(in(backupA, noon, failed))
			s.want("vanished and returned", oneFailed)
		})
		t.Run(name+"/an empty list is a baseline too", func(t *testing.T) {
			s := newFileSteps(t, ledger.RealDisk)
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
	for _, test := range []struct {
		days int
		kept bool
	}{{29, true}, {31, false}} {
		for name, restart := range map[string]func(*fileSteps){"Close": (*fileSteps).reopen, "a kill": (*fileSteps).kill} {
			t.Run(fmt.Sprintf("%d days, then %s", test.days, name), func(t *testing.T) {
				s := newFileSteps(t, ledger.RealDisk)
				s.failOnce()
				for range 9 { // a list at rest: the last change must not decide
					s.now = s.now.Add(10 * day)
					if s.change(); s.changed {
						s.mustSave()
					}
				}
				s.region = "ap-beijing"
				restart(s)
				s.now = s.now.Add(time.Duration(test.days) * day)
				s.poll(in(backupB, s.now.Unix(), failed))
				s.mustSave()
				s.region = region
				restart(s)
				if kept := s.ledger.Source() != ""; kept != test.kept {
					t.Errorf("kept: %t", kept)
				}
				if test.kept {
					s.want("watched again", oneFailed)
				}
			})
		}
	}
	t.Run("a watched region that fails for longer", func(t *testing.T) {
		s := newFileSteps(t, ledger.RealDisk)
		s.failOnce()
		s.reopen()
		s.ledger = s.store.Ledgers([]string{"ap-beijing"})[0]
		s.now = s.now.Add(90 * day)
		s.poll()
		s.mustSave()
		s.kill()
		s.want("restored", oneFailed)
		if s.store.Ledgers([]string{"ap-beijing"})[0].Source() == "" {
			t.Error("the region that was polled is not saved")
		}
	})
}

func TestFileIsPrivate(t *testing.T) {
	s := newFileSteps(t, ledger.RealDisk)
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
	s.poll(in(backupA, noon, executing))
	s.show()
	s.poll(in(backupA, noon, failed))
	s.want("applied", oneFailed)
	if !store.Save() || store.Status() != (ledger.Status{}) {
		t.Errorf("got %+v", store.Status())
	}
	store.Close()
	store.Close()
}

// fakeDisk is a disk that fails or stalls as it is told to.
type fakeDisk struct {
	ledger.Disk
	mu    sync.Mutex
	errs  map[string]error // by operation
	stall chan struct{}    // writes wait until it is closed; nil for no wait
	count int
}

func (d *fakeDisk) set(operation string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errs = map[string]error{operation: err}
}

func (d *fakeDisk) err(operation string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.errs[operation]
}

func (d *fakeDisk) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stall = make(chan struct{})
}

func (d *fakeDisk) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.stall)
	d.stall = nil
}

func (d *fakeDisk) writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

func (d *fakeDisk) Write(name string, data []byte) error {
	d.mu.Lock()
	d.count++
	stall := d.stall
	d.mu.Unlock()
	if stall != nil {
		<-stall
	}
	if err := d.err("write"); err != nil { // as a full disk does
		return errors.Join(err, d.Disk.Write(name, data[:len(data)/2]))
	}
	return d.Disk.Write(name, data)
}

func (d *fakeDisk) Rename(from, to string) error {
	if err := d.err("rename"); err != nil {
		return err
	}
	return d.Disk.Rename(from, to)
}

func (d *fakeDisk) Sync(folder string) error {
	if err := d.err("sync"); err != nil {
		return err
	}
	return d.Disk.Sync(folder)
}

// asleep calls a function and returns how long it waited. It needs synctest.
func asleep(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

func TestSavesDuringAWriteGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fakeDisk{Disk: ledger.RealDisk}
		s := newFileSteps(t, disk)
		s.poll()
		disk.stop()
		saved := make(chan bool, 9)
		save := func() { saved <- s.store.Save() }
		go save()
		synctest.Wait()
		for n := range int64(8) {
			s.change(in(backupA, noon+n, executing))
			go save()
			synctest.Wait()
		}
		disk.resume()
		for range 9 {
			if !<-saved {
				t.Error("not saved")
			}
		}
		if n := disk.writes(); n != 2 {
			t.Errorf("%d writes, want 2", n)
		}
		before := s.counters
		s.kill()
		if !slices.Equal(s.counters, before) {
			t.Errorf("the file has %v, want %v", s.counters, before)
		}
	})
}

// A stalled disk costs one second once, is logged and counted while it lasts, and loses
// nothing.
func TestStalledDisk(t *testing.T) {
	for name, failure := range map[string]error{"ends well": nil, "ends with an error": errors.New("the disk fails")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := &fakeDisk{Disk: ledger.RealDisk}
				s := newFileSteps(t, disk)
				s.failOnce()
				disk.stop()
				s.change(in(backupA, noon+1, failed))
				for n := range 3 {
					wait := asleep(func() {
						if s.store.Save() {
							t.Error("saved by a stalled disk")
						}
					})
					if want := max(0, 1-n); wait != time.Duration(want)*time.Second {
						t.Errorf("call %d waited %s", n+1, wait)
					}
					synctest.Wait()
					status := s.store.Status()
					if status.Errors != 1 || status.Err == nil || status.Err.Error() != "write has not finished after 1s" {
						t.Errorf("got %+v after call %d", status, n+1)
					}
					if n == 0 {
						s.wantLog("error", "counters stay as last saved", "write has not finished after 1s")
					} else {
						s.wantLog("error")
					}
					time.Sleep(time.Minute)
				}
				disk.set("write", failure)
				disk.resume()
				synctest.Wait()
				if failure != nil { // of the stalled write, and of the one requested meanwhile
					s.wantLog("error", failure.Error())
					if status := s.store.Status(); status.Errors != 3 || !errors.Is(status.Err, failure) {
						t.Errorf("got %+v", status)
					}
					disk.set("write", nil)
					s.mustSave()
				}
				s.wantLog("info", "state file written again")
				if status := s.store.Status(); status.Err != nil {
					t.Errorf("got %+v", status)
				}
				s.mustSave()
				s.kill()
				s.want("restored", "crs-a backup failed 2")
			})
		})
	}
	t.Run("stalls again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &fakeDisk{Disk: ledger.RealDisk}
			s := newFileSteps(t, disk)
			for n := range uint64(2) {
				s.poll()
				disk.stop()
				if wait := asleep(func() { s.store.Save() }); wait != time.Second {
					t.Errorf("waited %s", wait)
				}
				synctest.Wait()
				if status := s.store.Status(); status.Errors != n+1 {
					t.Errorf("got %+v", status)
				}
				s.wantLog("error", "write has not finished after 1s")
				disk.resume()
				synctest.Wait()
			}
		})
	})
	t.Run("a slow disk is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &fakeDisk{Disk: ledger.RealDisk}
			s := newFileSteps(t, disk)
			s.poll()
			disk.stop()
			time.AfterFunc(time.Second-1, disk.resume)
			s.mustSave()
			s.wantLog("error")
		})
	})
}

func TestClose(t *testing.T) {
	t.Run("saves what is not saved", func(t *testing.T) {
		s := newFileSteps(t, ledger.RealDisk)
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
	t.Run("waits a second for a stalled disk", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &fakeDisk{Disk: ledger.RealDisk}
			s := newFileSteps(t, disk)
			s.failOnce()
			disk.stop()
			s.change(in(backupA, noon+1, failed))
			if wait := asleep(s.store.Close); wait != time.Second {
				t.Errorf("waited %s", wait)
			}
			synctest.Wait()
			s.wantLog("error", "write has not finished after 1s")
			wantInUse(t, s.path) // the write may still succeed
			disk.resume()
			synctest.Wait()
			s.open()
			s.want("after the restart", "crs-a backup failed 2")
		})
	})
	t.Run("does not wait again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &fakeDisk{Disk: ledger.RealDisk}
			s := newFileSteps(t, disk)
			s.failOnce()
			disk.stop()
			s.store.Save()
			if wait := asleep(s.store.Close); wait != 0 {
				t.Errorf("waited %s", wait)
			}
			disk.resume()
			synctest.Wait()
			s.open()
			s.want("after the restart", oneFailed)
		})
	})
}

// A disk that is full, read-only or gone: each failed write is counted, the first one is
// logged, and the next Save writes all again.
func TestFailedWrites(t *testing.T) {
	failure := errors.New("the disk fails")
	for _, operation := range []string{"write", "rename", "sync"} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/first write %t", operation, first), func(t *testing.T) {
				disk := &fakeDisk{Disk: ledger.RealDisk}
				s := newFileSteps(t, disk)
				if !first {
					s.failOnce()
				}
				disk.set(operation, failure)
				for n := range uint64(3) {
					s.change(in(backupA, noon+1, executing))
					if s.store.Save() {
						t.Error("saved")
					}
					if status := s.store.Status(); status.Errors != n+1 || !errors.Is(status.Err, failure) {
						t.Errorf("got %+v after %d failed writes", status, n+1)
					}
				}
				s.wantLog("error", "counters stay as last saved", failure.Error())
				if _, err := os.Stat(s.path + ".tmp"); operation == "write" && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a part of the file was left: %v", err)
				}
				disk.set("", nil)
				s.mustSave()
				if status := s.store.Status(); status != (ledger.Status{Errors: 3, Size: int64(len(s.read()))}) {
					t.Errorf("got %+v after the recovery", status)
				}
				s.mustSave()
				s.wantLog("info", "state file written again")
				s.change(in(backupA, noon+1, failed))
				disk.set(operation, failure)
				s.store.Save()
				s.wantLog("error", failure.Error())
				s.kill()
				s.poll(in(backupA, noon+1, failed))
				s.settle()
				if first {
					s.want("after a kill", oneFailed)
				} else {
					s.want("after a kill", "crs-a backup executing 1", "crs-a backup failed 2")
				}
			})
		}
	}
}

// Whatever becomes of the files during the run, the next Save writes all.
func TestFilesChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"file removed":       os.Remove,
		"file emptied":       func(path string) error { return os.Truncate(path, 0) },
		"folder removed":     func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"old temporary file": func(path string) error { return os.WriteFile(path+".tmp", make([]byte, 9999), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newFileSteps(t, ledger.RealDisk)
			s.failOnce()
			if err := change(s.path); err != nil {
				t.Skip(err) // where open files cannot be removed
			}
			s.change(in(backupA, noon+1, failed))
			s.mustSave()
			s.kill()
			s.want("restored", "crs-a backup failed 2")
		})
	}
}

// A logger may use the store, which must not hold its lock meanwhile.
func TestLoggerMayUseTheStore(t *testing.T) {
	disk := &fakeDisk{Disk: ledger.RealDisk}
	var store *ledger.Store
	lines := 0
	logger := log.LoggerFunc(func(...any) error {
		lines++
		_ = store.Status()
		return nil
	})
	store, err := ledger.OpenOn(disk, filepath.Join(t.TempDir(), "state"), logger)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, failure := range []error{errors.New("the disk fails"), nil} {
		disk.set("write", failure)
		if saved := store.Save(); saved != (failure == nil) {
			t.Errorf("saved: %t", saved)
		}
	}
	if lines != 2 {
		t.Errorf("%d lines logged, want 2", lines)
	}
}

// All methods may be called at once: for the race detector.
func TestConcurrency(t *testing.T) {
	s := newFileSteps(t, ledger.RealDisk)
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
