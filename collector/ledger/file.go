package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/gofrs/flock"
)

const (
	// saveInterval is how often the file is written although no counter has
	// changed: the time watched is part of it.
	saveInterval = time.Hour
	// closeTimeout is how long Close waits for the last write.
	closeTimeout = 5 * time.Second

	lockSuffix = ".lock"
	badSuffix  = ".bad" // of a damaged file that was set aside
)

// Store holds the ledgers of all regions and keeps them in a file. One
// goroutine, the writer, does all that may wait for the disk. It writes the file
// always whole: to a temporary file, which it syncs and renames. A Store is safe
// for concurrent use.
type Store struct {
	path   string // as given; empty to keep nothing
	disk   disk
	logger log.Logger

	// Only the writer uses these, after Open.
	lock *flock.Flock // nil before the first
	file fs.FileInfo  // of the file as it was read or written; nil if it has to be written

	wake    chan struct{} // has a value while the writer has something to do
	closing chan struct{}
	closed  chan struct{} // closed when the writer has ended
	late    chan struct{} // closed when Close waits no longer

	mu      sync.Mutex
	loaded  map[string]*Ledger   // by region, as the file had them
	ledgers map[string]*Ledger   // by region, those in use
	saved   map[string]*Counters // by region, as in the file
	next    chan struct{}        // closed when the next write has ended; nil if none is requested
	status  FileStatus
	ended   bool
}

// FileStatus describes the state file.
type FileStatus struct {
	Errors    uint64    // failed writes
	Err       error     // of the last write; nil if it succeeded
	Size      int64     // bytes; 0 if there is no file yet
	LastReset time.Time // when a damaged file was last set aside; zero if none is there
}

// disk is what a Store does to files. Names are paths.
type disk interface {
	// write creates or truncates a file, writes and syncs it.
	write(name string, data []byte) error
	rename(from, to string) error
	// sync makes renames in a folder durable.
	sync(folder string) error
}

// Open returns a Store with what the file at path has. With an empty path it
// keeps nothing across restarts.
//
// Open locks the file against other processes: it locks the file with the suffix
// .lock next to it, also through symlinks. It renames a damaged file to
// path+".bad" and logs that. The error is about a wrong path, a file in use by
// another process, or a damaged file that cannot be renamed.
func Open(path string, logger log.Logger) (*Store, error) { return open(path, osDisk{}, logger) }

func open(path string, d disk, logger log.Logger) (*Store, error) {
	s := &Store{
		path: path, disk: d, logger: log.With(logger, "state_file", path),
		wake: make(chan struct{}, 1), closing: make(chan struct{}),
		closed: make(chan struct{}), late: make(chan struct{}),
		ledgers: map[string]*Ledger{}, saved: map[string]*Counters{},
	}
	if path == "" {
		close(s.closed)
		return s, nil
	}
	target := s.target()
	if err := s.takeLock(target); err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	if err := s.load(target); err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, errors.Join(err, s.lock.Close()))
	}
	go s.writeLoop()
	return s, nil
}

func (s *Store) load(target string) error {
	data, err := readRegular(target)
	if err == nil {
		s.loaded, err = decode(data)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errDamaged):
		level.Error(s.logger).Log("msg", "cannot use the state file: counters restart at zero", "err", err)
		if err := s.setAside(target); err != nil {
			return err
		}
		data = nil
	case err != nil:
		return err
	default:
		s.file, _ = os.Stat(s.path)
	}
	s.status.Size = int64(len(data))
	if bad, err := os.Stat(target + badSuffix); err == nil {
		s.status.LastReset = bad.ModTime()
	}
	return nil
}

// Ledger returns the ledger of a region, as it was saved or new. It must be
// called once for each region, before the first Save: regions for which it was
// not called are not saved again.
func (s *Store) Ledger(region string) *Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.loaded[region]
	if !ok {
		l = New()
	}
	s.ledgers[region], s.saved[region] = l, l.current
	return l
}

// Saved returns the newest counters of a region that a restart cannot take back,
// but none newer than c: c if the file has them or newer ones, or if there is no
// file, else those that the file has. They are nil if the file has none.
func (s *Store) Saved(region string, c *Counters) *Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := s.saved[region]
	if s.path == "" || c == nil || saved != nil && saved.sequence >= c.sequence {
		return c
	}
	return saved
}

// Save requests that all that was applied before is written. The channel is
// closed when that has ended, in success or failure. It is nil if there is no
// file.
func (s *Store) Save() <-chan struct{} {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return s.closed // Close saves
	}
	if s.next == nil {
		s.next = make(chan struct{})
	}
	s.wakeWriter()
	return s.next
}

// Check requests that the file is written again if the last write failed, or if
// somebody has changed the file, its lock or its folder since.
func (s *Store) Check() { s.wakeWriter() }

func (s *Store) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default: // it has not started yet what was requested before
	}
}

// Status returns the current status of the file.
func (s *Store) Status() FileStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Close saves what is not in the file yet and unlocks it. It waits until 5 seconds
// after the first call at most. A writer that the disk stalls for longer ends with
// the process.
func (s *Store) Close() {
	s.mu.Lock()
	first := !s.ended
	s.ended = true
	s.mu.Unlock()
	if first {
		close(s.closing)
		timer := time.AfterFunc(closeTimeout, func() { close(s.late) })
		defer timer.Stop()
	}
	select {
	case <-s.closed:
	case <-s.late:
		if first {
			level.Error(s.logger).Log("msg", "cannot save the counters before shutdown: the disk stalls")
		}
	}
}

// writeLoop is the writer.
func (s *Store) writeLoop() {
	defer close(s.closed)
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.wake:
			s.work(false)
		case <-tick.C:
			s.work(true)
		case <-s.closing:
			s.work(true)
			if err := s.lock.Close(); err != nil {
				level.Warn(s.logger).Log("msg", "cannot unlock the state file", "err", err)
			}
			return
		}
	}
}

// work writes the file if that is requested, if the last write failed, or if the
// file is not as it was written; with always, in any case. It writes nothing as
// long as there is nothing that the file does not have.
func (s *Store) work(always bool) {
	s.inspect()
	s.mu.Lock()
	next := s.next
	s.next = nil
	var state *savedState
	var counters map[string]*Counters
	if always || next != nil || s.status.Err != nil || s.file == nil {
		state, counters = s.snapshot()
	}
	s.mu.Unlock()
	if state != nil {
		size, err := s.writeFile(*state)
		s.written(size, counters, err)
	}
	if next != nil {
		close(next)
	}
}

// inspect looks whether the file is as it was written and whether its lock is
// held. If not, it logs what it found, once.
func (s *Store) inspect() {
	if s.file == nil {
		return
	}
	now, err := os.Stat(s.path)
	var found string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found = "no file"
	case err != nil:
		found = err.Error()
	case !os.SameFile(now, s.file) || now.Size() != s.file.Size() || !now.ModTime().Equal(s.file.ModTime()):
		found = "another file, or other content"
	case !s.holdsLock(s.target()):
		found = "another lock file, or none"
	default:
		return
	}
	s.file = nil
	level.Warn(s.logger).Log("msg", "somebody changed the state file: it is written again whole", "found", found)
}

// snapshot returns what is to be written, nil if the file has it.
func (s *Store) snapshot() (state *savedState, counters map[string]*Counters) {
	state, counters = &savedState{}, map[string]*Counters{}
	applied := false
	for _, region := range slices.Sorted(maps.Keys(s.ledgers)) {
		l := s.ledgers[region]
		l.mu.Lock()
		if l.current != nil {
			state.Ledgers = append(state.Ledgers, l.save(region))
			counters[region] = l.current
		}
		applied = applied || !l.applied.IsZero()
		l.mu.Unlock()
	}
	if !applied && (s.file != nil || len(state.Ledgers) == 0) {
		return nil, nil
	}
	return state, counters
}

// written notes how a write ended.
func (s *Store) written(size int64, counters map[string]*Counters, err error) {
	s.mu.Lock()
	before := s.status.Err
	s.status.Err = err
	if err != nil {
		s.status.Errors++
	} else {
		s.status.Size, s.saved = size, counters
	}
	s.mu.Unlock()
	// A logger that blocks must not block Saved.
	switch {
	case err != nil && before == nil:
		level.Error(s.logger).Log("msg", "cannot write the state file: counters stay as last saved", "err", err)
	case err == nil && before != nil:
		level.Info(s.logger).Log("msg", "state file written again")
	}
}

func (s *Store) writeFile(state savedState) (size int64, err error) {
	data, err := encode(state)
	if err != nil {
		return 0, err
	}
	if len(data) > maxFileSize {
		return 0, fmt.Errorf("the state is larger than %d bytes", maxFileSize)
	}
	// Somebody may have changed anything on the way to the file.
	if err := s.makeFolder(); err != nil {
		return 0, err
	}
	target := s.target()
	if err := s.takeLock(target); err != nil {
		return 0, err
	}
	temporary := target + ".tmp"
	if err := s.disk.write(temporary, data); err != nil {
		_ = os.Remove(temporary) // it may fill the disk
		return 0, err
	}
	if there, err := os.Stat(target); err == nil && there.IsDir() {
		_ = os.Remove(target) // only an empty one
	}
	s.file = nil
	if err := s.disk.rename(temporary, target); err != nil {
		return 0, err
	}
	if err := s.disk.sync(filepath.Dir(target)); err != nil {
		return 0, err
	}
	s.file, _ = os.Stat(s.path)
	return int64(len(data)), nil
}

// makeFolder makes the folder of the file. If a symlink on the way leads nowhere,
// it makes the folder in which the file was before.
func (s *Store) makeFolder() error {
	err := os.MkdirAll(filepath.Dir(s.path), 0o700)
	if err != nil && s.lock != nil {
		if err := os.MkdirAll(filepath.Dir(s.lock.Path()), 0o700); err != nil {
			return err
		}
		err = os.MkdirAll(filepath.Dir(s.path), 0o700)
	}
	return err
}

// target returns where the path leads to: the lock must be the same through any
// symlink.
func (s *Store) target() string {
	if target, err := filepath.EvalSymlinks(s.path); err == nil {
		return target
	}
	folder, name := filepath.Split(s.path)
	if target, err := filepath.EvalSymlinks(filepath.Clean(folder)); err == nil {
		return filepath.Join(target, name)
	}
	return s.path
}

// takeLock locks the lock file of the target, unless the lock is held.
func (s *Store) takeLock(target string) error {
	if s.holdsLock(target) {
		return nil
	}
	if s.lock != nil {
		if err := s.lock.Close(); err != nil {
			return err
		}
	}
	s.lock = flock.New(target+lockSuffix, flock.SetPermissions(0o600))
	locked, err := s.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if !locked {
		return errors.New("in use by another process")
	}
	return nil
}

// holdsLock reports whether the lock file of the target is the one that is locked.
func (s *Store) holdsLock(target string) bool {
	if s.lock == nil || !s.lock.Locked() {
		return false
	}
	held, err := s.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(target + lockSuffix)
	return err == nil && os.SameFile(held, there)
}

// setAside renames the damaged file. Its time is then that of the reset.
func (s *Store) setAside(target string) error {
	bad, now := target+badSuffix, time.Now()
	if err := errors.Join(os.Rename(target, bad), os.Chtimes(bad, now, now)); err != nil {
		return fmt.Errorf("set aside the damaged file: %w", err)
	}
	level.Warn(s.logger).Log("msg", "the damaged state file was set aside", "as", bad)
	return nil
}

// readRegular reads a regular file. To open a pipe would wait for its writer.
func readRegular(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > maxFileSize:
		return nil, fmt.Errorf("%w: larger than %d bytes", errDamaged, maxFileSize)
	}
	data, err := os.ReadFile(name)
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) && failed.Op == "read" {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return data, err
}

type osDisk struct{}

func (osDisk) write(name string, data []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) sync(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there
	}
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
