package ledger

import (
	"context"
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

	badSuffix = ".bad" // of a damaged file that was set aside
)

// Store holds the ledgers of all regions and keeps them in a file. One
// goroutine writes the file, always whole: to a temporary file, which it syncs
// and renames. It is safe for concurrent use.
type Store struct {
	path   string // empty to keep nothing
	disk   disk
	lock   *flock.Flock
	logger log.Logger

	wake    chan struct{} // has a value while next waits for the writer
	closing chan struct{}
	closed  chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	loaded  map[string]*Ledger   // by region, as the file had them
	ledgers map[string]*Ledger   // by region, those in use
	saved   map[string]*Counters // by region, as in the file
	next    *write               // requested and not started; nil if there is none
	status  FileStatus
	ended   bool
}

// write is one write of the file.
type write struct {
	done chan struct{}
	err  error // valid when done is closed
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
// Open locks path+".lock" against other processes. It renames a damaged file to
// path+".bad" and logs that. The error is about a wrong path, a file in use by
// another process, or a damaged file that cannot be renamed.
func Open(path string, logger log.Logger) (*Store, error) { return open(path, osDisk{}, logger) }

func open(path string, d disk, logger log.Logger) (*Store, error) {
	s := &Store{
		path: path, disk: d, logger: log.With(logger, "state_file", path),
		wake: make(chan struct{}, 1), closing: make(chan struct{}), closed: make(chan struct{}),
		ledgers: map[string]*Ledger{}, saved: map[string]*Counters{},
	}
	if path == "" {
		close(s.closed)
		return s, nil
	}
	// The lock must be the same also through symlinks.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		s.path = target
	}
	s.lock = flock.New(s.path+".lock", flock.SetPermissions(0o600))
	if err := s.takeLock(); err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, errors.Join(err, s.lock.Close()))
	}
	go s.writeLoop()
	return s, nil
}

func (s *Store) load() error {
	data, err := readRegular(s.path)
	if err == nil {
		s.loaded, err = decode(data)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errDamaged):
		level.Error(s.logger).Log("msg", "cannot use the state file: counters restart at zero", "err", err)
		if err := s.setAside(); err != nil {
			return err
		}
		data = nil
	case err != nil:
		return err
	}
	s.status.Size = int64(len(data))
	if bad, err := os.Stat(s.path + badSuffix); err == nil {
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

// Saved returns the counters of a region that a restart cannot take back: those
// in the file or, if there is no file, those after the last batch. They are nil
// if there are none.
func (s *Store) Saved(region string) *Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path == "" {
		return s.ledgers[region].Counters()
	}
	return s.saved[region]
}

// Save waits until all that was applied before is in the file, or that failed,
// or ctx ends. The write goes on when ctx has ended.
func (s *Store) Save(ctx context.Context) error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return errors.New("the state file is closed")
	}
	if s.next == nil {
		s.next = &write{done: make(chan struct{})}
		select {
		case s.wake <- struct{}{}:
		default: // the writer is still to wake up for the request before
		}
	}
	w := s.next
	s.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return fmt.Errorf("write state file: %w", context.Cause(ctx))
	}
}

// Status returns the current status of the file.
func (s *Store) Status() FileStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Close saves what is not in the file yet and unlocks it. It waits 5 seconds at
// most. A writer that the disk stalls for longer ends with the process.
func (s *Store) Close() {
	s.mu.Lock()
	ended := s.ended
	s.ended = true
	s.mu.Unlock()
	if !ended {
		close(s.closing)
	}
	select {
	case <-s.closed:
	case <-time.After(closeTimeout):
		level.Error(s.logger).Log("msg", "cannot save the counters before shutdown: the disk stalls")
	}
}

// writeLoop is the only goroutine that writes the file.
func (s *Store) writeLoop() {
	defer close(s.closed)
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.wake:
			s.writeNext()
		case <-tick.C:
			s.writeNext()
		case <-s.closing:
			s.writeNext()
			if err := s.lock.Close(); err != nil {
				level.Warn(s.logger).Log("msg", "cannot unlock the state file", "err", err)
			}
			return
		}
	}
}

// writeNext writes the file, unless no batch was ever applied.
func (s *Store) writeNext() {
	s.mu.Lock()
	w := s.next
	s.next = nil
	state, counters := s.snapshot()
	s.mu.Unlock()
	var size int64
	var err error
	if state != nil {
		size, err = s.writeFile(*state)
		s.written(size, counters, err)
	}
	if w != nil {
		w.err = err
		close(w.done)
	}
}

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
	if !applied {
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
	// Somebody may have removed the folder or the lock file.
	folder := filepath.Dir(s.path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return 0, err
	}
	if err := s.takeLock(); err != nil {
		return 0, err
	}
	temporary := s.path + ".tmp"
	if err := s.disk.write(temporary, data); err != nil {
		_ = os.Remove(temporary) // it may fill the disk
		return 0, err
	}
	if err := s.disk.rename(temporary, s.path); err != nil {
		return 0, err
	}
	return int64(len(data)), s.disk.sync(folder)
}

// takeLock locks the lock file, again if it is not the one locked before.
func (s *Store) takeLock() error {
	if s.lock.Locked() {
		held, err := s.lock.Stat()
		if err != nil {
			return err
		}
		there, err := os.Stat(s.lock.Path())
		if err == nil && os.SameFile(held, there) {
			return nil
		}
		if err := s.lock.Unlock(); err != nil {
			return err
		}
	}
	locked, err := s.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if !locked {
		return errors.New("in use by another process")
	}
	return nil
}

// setAside renames the damaged file. Its time is then that of the reset.
func (s *Store) setAside() error {
	bad, now := s.path+badSuffix, time.Now()
	if err := errors.Join(os.Rename(s.path, bad), os.Chtimes(bad, now, now)); err != nil {
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
