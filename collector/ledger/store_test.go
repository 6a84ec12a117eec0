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
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

const region = "ap-guangzhou"

// testDisk fails or stalls when files are synced, as it is told to.
type testDisk struct {
	gate    chan struct{} // full while a file is synced, and while the disk is stalled
	failing string        // name of the file or folder
	err     error
	writes  int
}

func (d *testDisk) sync(f *os.File) error {
	if strings.HasSuffix(f.Name(), ".tmp") {
		d.stall()
		d.writes++
		d.resume()
	}
	if f.Name() == d.failing {
		return d.err
	}
	return nil
}

// stall stalls the next write, until resume.
func (d *testDisk) stall() { d.gate <- struct{}{} }

func (d *testDisk) resume() { <-d.gate }

// fileSteps are steps of a ledger that a Store keeps.
type fileSteps struct {
	*steps
	disk   testDisk
	path   string
	region string
	store  *ledger.Store
	log    bytes.Buffer
}

func newFileSteps(t testing.TB) *fileSteps {
	s := &fileSteps{steps: newSteps(t), path: filepath.Join(t.TempDir(), "state"), region: region}
	s.disk.gate = make(chan struct{}, 1)
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

// wantLog wants one line of a level since the last call, with all of the texts.
func (s *fileSteps) wantLog(level string, texts ...string) {
	s.t.Helper()
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(s.log.String())), func(line string) bool {
		return !strings.Contains(line, "level="+level)
	})
	s.log.Reset()
	for _, text := range append(texts, "state_file="+s.path) {
		if len(lines) != 1 || !strings.Contains(lines[0], text) {
			s.t.Errorf("logged %q, want %q", lines, text)
		}
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
			if kept {
				s.want("watched again", oneFailed)
			} else if source := s.ledger.Source(); source != "" {
				t.Errorf("it is still there, with the source %s", source)
			}
		})
	}
}

// asleep calls a function and returns how long it waited. It needs synctest.
func asleep(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

// A slow disk is waited for.
func TestSavesDuringAWriteGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFileSteps(t)
		s.poll()
		s.disk.stall()
		time.AfterFunc(time.Second-1, s.disk.resume)
		var saves sync.WaitGroup
		for n := range int64(9) {
			s.change(in(backupA, noon+n, executing))
			saves.Go(s.mustSave)
			synctest.Wait()
		}
		saves.Wait()
		if s.disk.writes != 2 || s.log.Len() > 0 {
			t.Errorf("%d writes, want 2; logged %s", s.disk.writes, &s.log)
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
	synctest.Test(t, func(t *testing.T) {
		s := newFileSteps(t)
		s.failOnce()
		for n, failure := range []error{nil, errors.New("the disk fails")} {
			s.change(in(backupA, noon+1+int64(n), failed))
			s.disk.stall()
			for call, want := range []time.Duration{time.Second, 0, 0} {
				before := s.store.Status().Errors
				var saved bool
				if wait := asleep(func() { saved = s.store.Save() }); saved || wait != want {
					t.Errorf("call %d waited %s, and saved: %t", call, wait, saved)
				}
				synctest.Wait()
				if status := s.store.Status(); status.Errors != before+1 || fmt.Sprint(status.Err) != stalled {
					t.Errorf("got %+v after call %d", status, call)
				}
				time.Sleep(time.Minute)
			}
			s.wantLog("error", "counters stay as last saved", stalled)
			before := s.store.Status().Errors
			s.disk.failing, s.disk.err = s.path+".tmp", failure
			s.disk.resume()
			synctest.Wait()
			if failure != nil { // of the stalled write, and of the one requested meanwhile
				s.wantLog("error", failure.Error())
				if status := s.store.Status(); status.Errors != before+2 || !errors.Is(status.Err, failure) {
					t.Errorf("got %+v", status)
				}
				s.disk.err = nil
				s.mustSave()
			}
			s.wantLog("info", "state file written again")
		}
		s.kill()
		s.want("restored", "crs-a backup failed 3")
	})
}

func TestClose(t *testing.T) {
	for name, saves := range map[string]int{"waits a second for a stalled disk": 0, "does not wait again": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFileSteps(t)
				s.failOnce()
				s.disk.stall()
				for range saves {
					s.store.Save()
				}
				s.change(in(backupA, noon+1, failed))
				if wait := asleep(s.store.Close); wait != time.Second*time.Duration(1-saves) {
					t.Errorf("waited %s", wait)
				}
				if s.store.Save() {
					t.Error("saved after Close")
				}
				synctest.Wait()
				wantRefused(t, s.path, inUse) // the write may still succeed
				if saves > 0 {
					go s.disk.stall() // behind the write that waits, before the last one
					synctest.Wait()
					s.disk.resume()
					synctest.Wait()
					wantRefused(t, s.path, inUse) // the last write is still to come
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
	failSync := func(s *fileSteps, name string, err error) error {
		s.disk.failing, s.disk.err = name, err
		return nil
	}
	for name, fail := range map[string]func(s *fileSteps) error{
		"create": func(s *fileSteps) error { return os.MkdirAll(s.path+".tmp/folder", 0o700) },
		"write": func(s *fileSteps) error {
			if _, err := os.Stat("/dev/full"); err != nil {
				s.t.Skip(err)
			}
			return os.Symlink("/dev/full", s.path+".tmp")
		},
		"sync of the file": func(s *fileSteps) error { return failSync(s, s.path+".tmp", syscall.ENOSPC) },
		"rename": func(s *fileSteps) error {
			return errors.Join(os.RemoveAll(s.path), os.MkdirAll(s.path+"/folder", 0o700))
		},
		"sync of the folder": func(s *fileSteps) error { return failSync(s, filepath.Dir(s.path), syscall.EIO) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newFileSteps(t)
			s.failOnce()
			s.change(in(backupA, noon+1, failed))
			for n := range uint64(3) {
				if err := fail(s); err != nil {
					t.Fatal(err)
				}
				saved := s.store.Save()
				if status := s.store.Status(); saved || status.Errors != n+1 || status.Err == nil {
					t.Errorf("saved: %t, and %+v after %d failed writes", saved, status, n+1)
				}
			}
			s.wantLog("error", "counters stay as last saved", s.store.Status().Err.Error())
			if info, err := os.Lstat(s.path + ".tmp"); err == nil && !info.IsDir() {
				t.Error("a part of the file was left")
			}
			s.disk.err = nil
			if err := errors.Join(os.RemoveAll(s.path), os.RemoveAll(s.path+".tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.path+".tmp", make([]byte, 9999), 0o600); err != nil { // as a kill leaves it
				t.Fatal(err)
			}
			s.mustSave()
			if status := s.store.Status(); status != (ledger.Status{Errors: 3, Size: int64(len(s.read()))}) {
				t.Errorf("got %+v after the repair", status)
			}
			s.wantLog("info", "state file written again")
			s.kill()
			s.want("after a kill", "crs-a backup failed 2")
		})
	}
}

// Whenever the power fails, the disk has the old file or the new one, and the new one once
// it is saved: the temporary file is synced before the rename, and the folder after it.
func TestPowerFailures(t *testing.T) {
	s := newFileSteps(t)
	s.failOnce()
	s.change(in(backupA, noon+1, failed))
	var synced []string
	var written []byte
	renamed := func() bool { return bytes.Equal(s.read(), written) }
	s.store.SetSync(func(f *os.File) error {
		if len(synced) == 0 {
			written, _ = os.ReadFile(f.Name())
		}
		synced = append(synced, fmt.Sprintf("%s, renamed: %t", f.Name(), renamed()))
		return nil
	})
	s.mustSave()
	want := []string{s.path + ".tmp, renamed: false", filepath.Dir(s.path) + ", renamed: true"}
	if !slices.Equal(synced, want) || !renamed() {
		t.Errorf("synced %q, want %q; renamed: %t", synced, want, renamed())
	}
}

// All methods may be called at once: for the race detector.
func TestConcurrency(t *testing.T) {
	s := newFileSteps(t)
	reader := s.ledger
	var group sync.WaitGroup
	group.Go(func() {
		for n := range int64(50) {
			s.change(in(backupA, noon+n, failed))
			s.mustSave()
		}
	})
	group.Go(func() {
		for range 500 {
			reader.Shown(reader.Counters())
			_, _, _ = reader.Source(), reader.Facts("2.0"), s.store.Status()
		}
	})
	group.Wait()
}
