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
	disk  ledger.Disk
	path  string
	store *ledger.Store
	log   logBuffer
}

func newFileSteps(t testing.TB, disk ledger.Disk) *fileSteps {
	s := &fileSteps{steps: newSteps(t), disk: disk, path: filepath.Join(t.TempDir(), "folder", "state")}
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
	s.store, s.ledger = store, store.Ledger(region)
	s.counters = s.saved()
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

// save saves, and takes the counters that a scrape would show.
func (s *fileSteps) save() error {
	err := save(s.store)
	s.counters = s.saved()
	return err
}

// check lets the writer check the file, and waits until it has. It needs synctest.
func (s *fileSteps) check() {
	s.store.Check()
	synctest.Wait()
}

func (s *fileSteps) saved() *ledger.Counters { return s.store.Saved(region, s.ledger.Counters()) }

func save(store *ledger.Store) error {
	<-store.Save()
	return store.Status().Err
}

func (s *fileSteps) mustSave() {
	s.t.Helper()
	if err := s.save(); err != nil {
		s.t.Fatal(err)
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

func TestRestart(t *testing.T) {
	for name, restart := range map[string]func(*fileSteps){
		"after Close": (*fileSteps).reopen, "after a kill": (*fileSteps).kill,
	} {
		t.Run(name+"/counters, dates and source are as before", func(t *testing.T) {
			s := newFileSteps(t, ledger.RealDisk)
			s.failOnce()
			s.change(in(backupB, noon+1, unknown))
			s.mustSave()
			before := s.counters.All
			restart(s)
			s.want("restored", oneFailed)
			for i, c := range s.counters.All {
				b := before[i]
				if c.Series != b.Series || c.Entered != b.Entered || !c.Created.Equal(b.Created) || !c.RareCreated.Equal(b.RareCreated) {
					t.Errorf("got %v, want %v", c, b)
				}
			}
			if s.ledger.Source() != "2.0" {
				t.Errorf("the source is %q", s.ledger.Source())
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
		t.Run(name+"/a region that is no longer used is not saved again", func(t *testing.T) {
			s := newFileSteps(t, ledger.RealDisk)
			s.failOnce()
			restart(s)
			if s.poll(in(backupA, noon, failed)); s.ledger.Source() == "" {
				t.Error("it is not there after the first restart")
			}
			s.store.Close()
			other, err := ledger.Open(s.path, log.NewNopLogger())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			s.ledger = other.Ledger("ap-beijing")
			s.poll()
			if err := save(other); err != nil {
				t.Fatal(err)
			}
			other.Close()
			s.open()
			if s.counters != nil || s.ledger.Source() != "" {
				t.Errorf("got %v", s.counters)
			}
		})
		t.Run(name+"/a region that is not polled yet is saved again", func(t *testing.T) {
			s := newFileSteps(t, ledger.RealDisk)
			s.failOnce()
			restart(s)
			polled := s.ledger
			s.ledger = s.store.Ledger("ap-beijing")
			s.poll()
			s.ledger = polled
			s.mustSave()
			restart(s)
			s.want("restored", oneFailed)
			if s.store.Ledger("ap-beijing").Counters() == nil {
				t.Error("the region that was polled is not saved")
			}
		})
	}
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
	if status := s.store.Status(); status.Size != int64(len(s.read())) {
		t.Errorf("size %d, want %d", status.Size, len(s.read()))
	}
	s.open()
	if status := s.store.Status(); status != (ledger.FileStatus{Size: int64(len(s.read()))}) {
		t.Errorf("got %+v after the restart", status)
	}
}

func TestNothingAppliedNothingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fakeDisk{Disk: ledger.RealDisk}
		s := newFileSteps(t, disk)
		s.mustSave()
		time.Sleep(3 * time.Hour)
		s.reopen()
		if _, err := os.Stat(s.path); disk.writes() != 0 || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%d writes before the first batch: %v", disk.writes(), err)
		}
		s.poll()
		s.mustSave()
		s.reopen()
		before := disk.writes()
		s.mustSave()
		time.Sleep(3 * time.Hour)
		s.reopen()
		if n := disk.writes() - before; n != 0 {
			t.Errorf("%d writes of what was restored", n)
		}
	})
}

func TestSavedShowsOnlyWhatIsInTheFile(t *testing.T) {
	s := newFileSteps(t, ledger.RealDisk)
	if c := s.saved(); c != nil {
		t.Errorf("got %v before the first batch", c)
	}
	s.poll(in(backupA, noon, executing))
	if c := s.saved(); c != nil {
		t.Errorf("got %v before the first Save", c)
	}
	s.mustSave()
	first := s.counters
	s.show()
	s.poll(in(backupA, noon, failed))
	if c := s.saved(); c != first {
		t.Errorf("got %v, want those last saved", c)
	}
	s.mustSave()
	s.want("saved", oneFailed)
	ledgers, err := ledger.Decode(s.read())
	if err != nil {
		t.Fatal(err)
	}
	if got := counts(ledgers[region].Counters()); !slices.Equal(got, []string{oneFailed}) {
		t.Errorf("the file has %q", got)
	}
}

func TestWithoutAFile(t *testing.T) {
	store, err := ledger.Open("", log.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	s := newSteps(t)
	s.ledger = store.Ledger(region)
	if store.Saved(region, s.ledger.Counters()) != nil {
		t.Error("there are counters before the first batch")
	}
	s.poll(in(backupA, noon, executing))
	s.show()
	s.poll(in(backupA, noon, failed))
	s.counters = store.Saved(region, s.ledger.Counters())
	s.want("applied", oneFailed)
	if store.Save() != nil {
		t.Error("there is something to wait for")
	}
	store.Check()
	if status := store.Status(); status != (ledger.FileStatus{}) {
		t.Errorf("got %+v", status)
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

func TestSavesDuringAWriteGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fakeDisk{Disk: ledger.RealDisk}
		s := newFileSteps(t, disk)
		s.poll()
		disk.stop()
		first := s.store.Save()
		synctest.Wait()
		s.poll(in(backupA, noon, executing))
		second := s.store.Save()
		synctest.Wait()
		s.poll(in(backupA, noon, executing), in(backupB, noon, executing))
		if second == first || s.store.Save() != second {
			t.Error("only what comes during a write goes together")
		}
		synctest.Wait()
		if n := disk.writes(); n != 1 || s.saved() != nil {
			t.Errorf("%d writes, saved %v", n, s.saved())
		}
		disk.resume()
		<-first
		<-second
		synctest.Wait()
		if n := disk.writes(); n != 2 {
			t.Errorf("%d writes, want 2", n)
		}
		s.counters = s.saved()
		s.wantSeries("in the file", backupA, backupB)
	})
}

// While a write is stalled, all that is applied goes on, and what is saved stays.
func TestStalledWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fakeDisk{Disk: ledger.RealDisk}
		s := newFileSteps(t, disk)
		s.failOnce()
		saved := s.counters
		disk.stop()
		var writes []<-chan struct{}
		for n := range int64(3) {
			s.change(in(backupA, noon+1+n, failed))
			writes = append(writes, s.store.Save())
			time.Sleep(time.Minute)
			if status := s.store.Status(); status.Errors != 0 || status.Err != nil {
				t.Errorf("a slow disk is no error yet: %+v", status)
			}
			if s.saved() != saved {
				t.Errorf("shows %v, which is not saved", s.saved())
			}
		}
		disk.resume()
		for _, write := range writes {
			<-write
		}
		s.counters = s.saved()
		s.want("all of it is written", "crs-a backup failed 4")
	})
}

// A scrape shows the counters of its own poll, though those of later polls are
// saved too.
func TestSavedIsNotNewerThanAsked(t *testing.T) {
	s := newFileSteps(t, ledger.RealDisk)
	s.failOnce()
	first := s.counters
	s.change(in(backupA, noon+1, failed))
	if got := s.store.Saved(region, s.ledger.Counters()); got != first {
		t.Errorf("got %v before the write, want %v", got, first)
	}
	s.mustSave()
	if got := s.store.Saved(region, first); got != first {
		t.Errorf("got %v, want the older %v", got, first)
	}
	s.want("the newest", "crs-a backup failed 2")
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
		s.store.Check()
		<-s.store.Save()
	})
	t.Run("waits for a slow disk", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &fakeDisk{Disk: ledger.RealDisk}
			s := newFileSteps(t, disk)
			s.failOnce()
			disk.stop()
			s.change(in(backupA, noon+1, failed))
			saved := s.store.Save()
			synctest.Wait()
			time.AfterFunc(5*time.Second-1, disk.resume)
			go s.store.Close()
			<-saved
			s.store.Close()
			s.open()
			s.want("after the restart", "crs-a backup failed 2")
			if lines := s.log.take("error"); len(lines) != 0 {
				t.Errorf("logged %q", lines)
			}
		})
	})
	t.Run("stops waiting after 5 seconds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &fakeDisk{Disk: ledger.RealDisk}
			s := newFileSteps(t, disk)
			s.failOnce()
			disk.stop()
			begin := time.Now()
			s.store.Close()
			if d := time.Since(begin); d != 5*time.Second {
				t.Errorf("returned after %s", d)
			}
			if s.store.Close(); time.Since(begin) != 5*time.Second {
				t.Errorf("a second call waited again, until %s", time.Since(begin))
			}
			if lines := s.log.take("error"); len(lines) != 1 || !strings.Contains(lines[0], "the disk stalls") {
				t.Errorf("logged %q", lines)
			}
			disk.resume()
			synctest.Wait()
		})
	})
	t.Run("answers a Save that came before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := &fakeDisk{Disk: ledger.RealDisk}
			s := newFileSteps(t, disk)
			s.poll()
			disk.stop()
			first := s.store.Save()
			synctest.Wait()
			second := s.store.Save() // after the write in progress
			go s.store.Close()
			synctest.Wait()
			disk.resume()
			<-first
			<-second
		})
	})
}

func TestHourlyWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fakeDisk{Disk: ledger.RealDisk}
		s := newFileSteps(t, disk)
		s.failOnce()
		before, writes := s.read(), disk.writes()
		s.now = s.now.Add(time.Minute)
		s.poll(in(backupA, noon, failed))
		if s.changed {
			t.Error("the list is the same, but has to be saved at once")
		}
		time.Sleep(time.Hour - 1)
		synctest.Wait()
		if n := disk.writes() - writes; n != 0 {
			t.Errorf("%d writes within an hour", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := disk.writes() - writes; n != 1 || bytes.Equal(s.read(), before) {
			t.Errorf("%d writes after an hour; the time watched is not in the file", n)
		}
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if n := disk.writes() - writes; n != 6 {
			t.Errorf("%d writes after 6 hours", n)
		}
	})
}

// What is watched between two writes that a change causes is kept.
func TestWatchedTimeAcrossRestarts(t *testing.T) {
	s := newFileSteps(t, &fakeDisk{Disk: ledger.RealDisk})
	s.poll(in(backupA, noon-9, executing), in(cleanA, noon, succeeded))
	s.show()
	s.poll(in(cleanA, noon, succeeded))
	for range 30 {
		s.watch(day)
		s.reopen()
		s.poll(in(cleanA, noon, succeeded))
	}
	s.watch(time.Hour)
	s.change(in(backupA, noon-9, failed))
	s.settle()
	s.want("forgotten")
}

func TestDamagedFile(t *testing.T) {
	s := newFileSteps(t, ledger.RealDisk)
	s.failOnce()
	s.store.Close()
	good := s.read()
	flip := func(i int) []byte {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		return bad
	}
	for i := range good {
		if _, err := ledger.Decode(flip(i)); !errors.Is(err, ledger.ErrDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := ledger.Decode(good[:i]); !errors.Is(err, ledger.ErrDamaged) {
			t.Errorf("%d bytes of %d: %v", i, len(good), err)
		}
	}
	if _, err := ledger.Decode(append(slices.Clone(good), 0)); !errors.Is(err, ledger.ErrDamaged) {
		t.Errorf("one byte too many: %v", err)
	}
	for _, test := range []struct {
		name string
		data []byte
		why  string
	}{
		{"one byte changed", flip(len(good) - 3), "wrong checksum"},
		{"truncated", good[:len(good)-5], "wrong checksum"},
		{"empty", nil, "no header of this version"},
		{"only a header", good[:ledger.HeaderSize], "wrong checksum"},
		{"zeros", make([]byte, len(good)), "no header of this version"},
		{"another file", []byte("[Unit]\nDescription=Prometheus exporter\n"), "no header of this version"},
		{"the first version", append([]byte("CRSSTATE\x00\x00\x00\x01"), make([]byte, 8192)...), "no header of this version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.t = t
			s.write(test.data)
			if err := os.Chtimes(s.path, time.Unix(noon, 0), time.Unix(noon, 0)); err != nil {
				t.Fatal(err)
			}
			begin := time.Now().Truncate(time.Second)
			s.open()
			defer func() { s.store.Close() }()
			if s.counters != nil || s.ledger.Source() != "" {
				t.Errorf("restored %v", s.counters)
			}
			bad, err := os.ReadFile(s.path + ".bad")
			if err != nil || !bytes.Equal(bad, test.data) {
				t.Errorf("set aside: %q, %v", bad, err)
			}
			if _, err := os.Stat(s.path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
			status := s.store.Status()
			if status.LastReset.Before(begin) || status.LastReset.After(time.Now()) || status.Size != 0 || status.Err != nil {
				t.Errorf("got %+v", status)
			}
			if lines := s.log.take("error"); len(lines) != 1 || !strings.Contains(lines[0], test.why) || !strings.Contains(lines[0], "state_file="+s.path) {
				t.Errorf("logged %q, want one line with %q", lines, test.why)
			}
			s.poll(in(backupA, noon, failed))
			s.mustSave()
			s.want("counters restart at zero")
			s.reopen()
			if again := s.store.Status(); !again.LastReset.Equal(status.LastReset) || again.Size == 0 {
				t.Errorf("got %+v after another restart, want the reset at %s", again, status.LastReset)
			}
		})
	}
	t.Run("larger than any state", func(t *testing.T) {
		s.t = t
		if err := os.Truncate(s.path, 1<<30+1); err != nil {
			t.Fatal(err)
		}
		s.open()
		defer s.store.Close()
		if lines := s.log.take("error"); len(lines) != 1 || !strings.Contains(lines[0], "larger than") {
			t.Errorf("logged %q", lines)
		}
	})
	t.Run("cannot be set aside", func(t *testing.T) {
		s := newFileSteps(t, ledger.RealDisk)
		s.store.Close()
		s.write([]byte("damaged"))
		if err := os.MkdirAll(s.path+".bad/not empty", 0o700); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first releases the lock
			_, err := ledger.Open(s.path, log.NewNopLogger())
			if err == nil || !strings.HasPrefix(err.Error(), "state file "+s.path+": set aside the damaged file: ") {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestWrongPlaces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"a folder":         dir,
		"a missing folder": filepath.Join(dir, "missing", "state"),
		"below a file":     filepath.Join(file, "state"),
	} {
		t.Run(name, func(t *testing.T) {
			store, err := ledger.Open(path, log.NewNopLogger())
			if err == nil {
				store.Close()
				t.Fatal("it was opened")
			}
			if !strings.HasPrefix(err.Error(), "state file "+path+": ") {
				t.Errorf("the error does not name the file: %v", err)
			}
		})
	}
}

func wantInUse(t testing.TB, path string) {
	t.Helper()
	store, err := ledger.Open(path, log.NewNopLogger())
	if err == nil {
		store.Close()
		t.Fatal("a second process opened the file")
	}
	if want := "state file " + path + ": in use by another process"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestLock(t *testing.T) {
	s := newFileSteps(t, ledger.RealDisk)
	wantInUse(t, s.path)
	s.failOnce()
	wantInUse(t, s.path)
	link, folder := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "folder")
	if err := errors.Join(os.Symlink(s.path, link), os.Symlink(filepath.Dir(s.path), folder)); err != nil {
		t.Skip(err)
	}
	wantInUse(t, link)
	wantInUse(t, filepath.Join(folder, "state"))
	s.store.Close()
	s.path = link
	s.open()
	s.want("through a symlink", oneFailed)
	s.change(in(backupA, noon+1, failed))
	s.reopen()
	s.want("written through a symlink", "crs-a backup failed 2")
	if target, err := os.Readlink(link); err != nil {
		t.Errorf("the symlink was replaced: %s, %v", target, err)
	}
}

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
				shown := s.counters
				disk.set(operation, failure)
				for n := range uint64(3) {
					s.change(in(backupA, noon+1, executing))
					if err := s.save(); !errors.Is(err, failure) {
						t.Errorf("Save returned %v", err)
					}
					if status := s.store.Status(); status.Errors != n+1 || !errors.Is(status.Err, failure) {
						t.Errorf("got %+v after %d failed writes", status, n+1)
					}
					if first && s.counters != nil || !first && s.counters != shown {
						t.Errorf("shows %v, which is not saved", s.counters)
					}
				}
				if lines := s.log.take("error"); len(lines) != 1 || !strings.Contains(lines[0], failure.Error()) {
					t.Errorf("logged %q", lines)
				}
				if _, err := os.Stat(s.path + ".tmp"); operation == "write" && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a part of the file was left: %v", err)
				}
				disk.set("", nil)
				s.mustSave()
				if status := s.store.Status(); status.Errors != 3 || status.Err != nil || status.Size != int64(len(s.read())) {
					t.Errorf("got %+v after the recovery", status)
				}
				s.mustSave()
				if lines := s.log.take("info"); len(lines) != 1 || !strings.Contains(lines[0], "state file written again") {
					t.Errorf("logged %q", lines)
				}
				s.change(in(backupA, noon+1, failed))
				disk.set(operation, failure)
				_ = s.save()
				if lines := s.log.take("error"); len(lines) != 1 {
					t.Errorf("logged %q when it failed again", lines)
				}
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

// A logger may be slow: the store must not hold its lock meanwhile.
func TestLoggerMayUseTheStore(t *testing.T) {
	disk := &fakeDisk{Disk: ledger.RealDisk}
	var store *ledger.Store
	lines := 0
	logger := log.LoggerFunc(func(...any) error {
		lines++
		_, _ = store.Status(), store.Saved(region, nil)
		return nil
	})
	store, err := ledger.OpenOn(disk, filepath.Join(t.TempDir(), "state"), logger)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := newSteps(t)
	s.ledger = store.Ledger(region)
	s.poll()
	for _, failure := range []error{errors.New("the disk fails"), nil} {
		disk.set("write", failure)
		if err := save(store); !errors.Is(err, failure) {
			t.Error(err)
		}
	}
	if lines != 2 {
		t.Errorf("%d lines logged, want 2", lines)
	}
}

func inBubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// Whatever somebody does to the files while they are in use: the next poll
// notices it, whether it counts or not, logs it once, and writes all again.
func TestFilesChangedWhileInUse(t *testing.T) {
	folderOf := filepath.Dir
	// link replaces a file or folder by a symlink to a target.
	link := func(target, name string) error {
		return errors.Join(os.Rename(name, name+".moved"), os.Symlink(target, name))
	}
	none := func(string, []byte) error { return nil }
	const other = "another file, or other content"
	for name, test := range map[string]struct {
		before, change func(path string, older []byte) error
		found          string // empty if nothing that matters has changed
	}{
		"file removed":   {none, func(path string, _ []byte) error { return os.Remove(path) }, "no file"},
		"file moved":     {none, func(path string, _ []byte) error { return os.Rename(path, path+".moved") }, "no file"},
		"file emptied":   {none, func(path string, _ []byte) error { return os.Truncate(path, 0) }, other},
		"file truncated": {none, func(path string, _ []byte) error { return os.Truncate(path, 20) }, other},
		"file replaced": {none, func(path string, _ []byte) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("something else"), 0o600))
		}, other},
		"older content": {none, func(path string, older []byte) error {
			return errors.Join(os.WriteFile(path, older, 0o600), os.Chtimes(path, time.Time{}, time.Unix(noon, 0)))
		}, other},
		"older file": {none, func(path string, older []byte) error {
			return errors.Join(os.WriteFile(path+".new", older, 0o600), os.Rename(path+".new", path))
		}, other},
		"a symlink to an older file": {none, func(path string, older []byte) error {
			elsewhere := filepath.Join(filepath.Dir(folderOf(path)), "elsewhere")
			return errors.Join(os.WriteFile(elsewhere, older, 0o600), link(elsewhere, path))
		}, other},
		"a symlink to nothing": {none, func(path string, _ []byte) error { return link("nothing", path) }, "no file"},
		"a symlink that now leads to an older file": {
			func(path string, _ []byte) error {
				return errors.Join(os.Rename(path, path+".target"), os.Symlink(path+".target", path))
			},
			func(path string, older []byte) error {
				return errors.Join(os.Remove(path), os.WriteFile(path+".other", older, 0o600), os.Symlink(path+".other", path))
			}, other,
		},
		"an empty folder": {none, func(path string, _ []byte) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}, other},
		"lock file removed": {none, func(path string, _ []byte) error { return os.Remove(path + ".lock") }, "another lock file, or none"},
		"lock file replaced": {none, func(path string, _ []byte) error {
			return errors.Join(os.WriteFile(path+".new", nil, 0o600), os.Rename(path+".new", path+".lock"))
		}, "another lock file, or none"},
		"folder removed": {none, func(path string, _ []byte) error { return os.RemoveAll(folderOf(path)) }, "no file"},
		"folder renamed": {none, func(path string, _ []byte) error { return os.Rename(folderOf(path), folderOf(path)+".moved") }, "no file"},
		"folder renamed, a symlink in its place": {none, func(path string, _ []byte) error {
			folder := folderOf(path)
			return errors.Join(os.Mkdir(folder+".other", 0o700), link(folder+".other", folder))
		}, "no file"},
		"folder renamed, a symlink to it in its place": {none, func(path string, _ []byte) error {
			return link(folderOf(path)+".moved", folderOf(path))
		}, ""},
		"a folder that is a symlink leads to a new folder": {
			func(path string, _ []byte) error { return link(folderOf(path)+".moved", folderOf(path)) },
			func(path string, _ []byte) error {
				folder := folderOf(path)
				return errors.Join(os.Remove(folder), os.Mkdir(folder+".other", 0o700), os.Symlink(folder+".other", folder))
			}, "no file",
		},
		"a folder that is a symlink leads nowhere": {
			func(path string, _ []byte) error { return link(folderOf(path)+".moved", folderOf(path)) },
			func(path string, _ []byte) error { return os.RemoveAll(folderOf(path) + ".moved") }, "no file",
		},
		"old temporary file": {none, func(path string, _ []byte) error {
			return os.WriteFile(path+".tmp", make([]byte, 9999), 0o600)
		}, ""},
		"an empty file aside": {none, func(path string, _ []byte) error { return os.WriteFile(path+".bad", nil, 0o600) }, ""},
	} {
		for _, counts := range []bool{true, false} {
			inBubble(t, fmt.Sprintf("%s/counting %t", name, counts), func(t *testing.T) {
				s := newFileSteps(t, ledger.RealDisk)
				s.poll(in(backupA, noon, executing))
				s.mustSave()
				older := s.read()
				s.show()
				s.poll(in(backupA, noon, failed))
				s.mustSave()
				s.store.Close()
				if err := test.before(s.path, older); err != nil {
					t.Skip(err)
				}
				s.open()
				s.poll(in(backupA, noon, failed)) // a restart alone has nothing to save
				s.log.take("")
				if err := test.change(s.path, older); err != nil {
					t.Skip(err) // where open files cannot be removed
				}
				want := oneFailed
				for n := range int64(3) {
					if counts {
						want = fmt.Sprintf("crs-a backup failed %d", n+2)
						s.change(in(backupA, noon+1+n, failed))
						s.mustSave()
					} else {
						s.change()
						s.check()
					}
				}
				warnings := s.log.take("warn")
				if test.found == "" {
					if len(warnings) != 0 {
						t.Errorf("logged %q", warnings)
					}
				} else if len(warnings) != 1 || !strings.Contains(warnings[0], test.found) || !strings.Contains(warnings[0], "state_file="+s.path) {
					t.Errorf("logged %q, want one line with %q", warnings, test.found)
				}
				wantInUse(t, s.path)
				s.kill()
				s.want("restored", want)
			})
		}
	}
	inBubble(t, "a folder with something in it", func(t *testing.T) {
		s := newFileSteps(t, ledger.RealDisk)
		s.failOnce()
		if err := errors.Join(os.Remove(s.path), os.MkdirAll(filepath.Join(s.path, "important"), 0o700)); err != nil {
			t.Skip(err)
		}
		s.check()
		if status := s.store.Status(); status.Errors != 1 || status.Err == nil {
			t.Errorf("got %+v", status)
		}
		if err := os.Remove(filepath.Join(s.path, "important")); err != nil {
			t.Fatal(err)
		}
		s.check()
		s.kill()
		s.want("restored when it is empty", oneFailed)
	})
	inBubble(t, "before the first batch after a restart", func(t *testing.T) {
		s := newFileSteps(t, ledger.RealDisk)
		s.failOnce()
		s.reopen()
		if err := os.Remove(s.path); err != nil {
			t.Skip(err)
		}
		s.check()
		s.kill()
		s.want("restored", oneFailed)
	})
	inBubble(t, "a check writes nothing if nothing is changed", func(t *testing.T) {
		disk := &fakeDisk{Disk: ledger.RealDisk}
		s := newFileSteps(t, disk)
		s.check()
		if n := disk.writes(); n != 0 {
			t.Errorf("%d writes of nothing", n)
		}
		s.failOnce()
		before := disk.writes()
		for range 9 {
			s.change()
			s.check()
		}
		if n := disk.writes() - before; n != 0 {
			t.Errorf("%d writes", n)
		}
		if lines := s.log.take("warn"); len(lines) != 0 {
			t.Errorf("logged %q", lines)
		}
	})
	inBubble(t, "a check writes what could not be written", func(t *testing.T) {
		disk := &fakeDisk{Disk: ledger.RealDisk}
		s := newFileSteps(t, disk)
		s.failOnce()
		disk.set("write", errors.New("the disk fails"))
		s.change(in(backupA, noon+1, failed))
		_ = s.save()
		s.check()
		if status := s.store.Status(); status.Errors != 2 {
			t.Errorf("got %+v", status)
		}
		disk.set("", nil)
		s.check()
		s.kill()
		s.want("restored", "crs-a backup failed 2")
	})
	t.Run("another process has taken the lock", func(t *testing.T) {
		s := newFileSteps(t, ledger.RealDisk)
		s.failOnce()
		if err := os.Remove(s.path + ".lock"); err != nil {
			t.Skip(err)
		}
		other, err := ledger.Open(s.path, log.NewNopLogger())
		if err != nil {
			t.Fatal(err)
		}
		before := s.read()
		s.change(in(backupA, noon+1, failed))
		for range 2 {
			if err := s.save(); err == nil || err.Error() != "in use by another process" {
				t.Errorf("got %v", err)
			}
		}
		if !bytes.Equal(s.read(), before) {
			t.Error("the file of the other process was written")
		}
		other.Close()
		s.mustSave()
		wantInUse(t, s.path)
	})
}

// All methods may be called at once: for the race detector.
func TestConcurrency(t *testing.T) {
	s := newFileSteps(t, ledger.RealDisk)
	ledgers := []*ledger.Ledger{s.ledger, s.store.Ledger("ap-beijing")}
	var group sync.WaitGroup
	for i, l := range ledgers {
		name := []string{region, "ap-beijing"}[i]
		group.Go(func() {
			for n := range int64(50) {
				kind := ledger.Normal
				if n == 0 {
					kind = ledger.Baseline
				}
				l.Apply(ledger.Batch{Kind: kind, Source: "2.0", Changes: slices.Values([]ledger.Change{in(backupA, noon+n, failed)}), Time: time.Now(), Date: time.Unix(noon+n, 0)})
				<-s.store.Save()
				s.store.Check()
			}
		})
		group.Go(func() {
			for range 500 {
				if c := s.store.Saved(name, l.Counters()); c != nil {
					l.Shown(c)
				}
				_, _, _ = l.Source(), l.Counters(), s.store.Status()
			}
		})
	}
	group.Wait()
	for i, name := range []string{region, "ap-beijing"} {
		if s.store.Saved(name, ledgers[i].Counters()) != ledgers[i].Counters() {
			t.Errorf("%s: not all is saved", name)
		}
	}
}
