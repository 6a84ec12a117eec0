package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/gofrs/flock"
)

// maxWait is how long a write may take before the disk counts as stalled.
const maxWait = time.Second

var errStalled = fmt.Errorf("write has not finished after %s", maxWait)

// Store has the ledgers of all regions and keeps them in a file, which it writes as a
// whole. It is safe for concurrent use after [Store.Ledgers].
type Store struct {
	path    string // without symlinks; empty to keep nothing
	disk    disk
	logger  log.Logger
	lock    *flock.Flock
	ledgers map[string]*Ledger // by region

	mu      sync.Mutex
	status  Status
	next    chan struct{} // closed when the write that is requested has ended; nil if none is
	writing bool          // the writer runs
	stalled chan struct{} // closed while the disk is stalled
	closed  bool
}

// Status describes the file.
type Status struct {
	Errors    uint64    // failed and stalled writes
	Err       error     // of the last write, also while it is stalled; nil if it succeeded
	Size      int64     // bytes; 0 if there is no file
	LastReset time.Time // when a file was last set aside; zero if no such file is there
}

// Open reads the file at path and locks path+".lock" against other processes. With an
// empty path the Store keeps nothing. A file that is damaged or of another version is
// renamed to path+".bad", which is logged.
//
// The error is about a path that is no regular file, a file in use by another process, or
// one that cannot be read or renamed.
func Open(path string, logger log.Logger) (*Store, error) { return open(path, osDisk{}, logger) }

func open(path string, d disk, logger log.Logger) (*Store, error) {
	s := &Store{
		disk: d, logger: log.With(logger, "state_file", path),
		ledgers: map[string]*Ledger{}, stalled: make(chan struct{}),
	}
	if path == "" {
		return s, nil
	}
	if err := s.open(path); err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) open(path string) (err error) {
	if s.path, err = resolve(path); err != nil {
		return err
	}
	for _, suffix := range []string{"", ".lock", ".tmp"} {
		if err := checkRegular(s.path + suffix); err != nil {
			return err
		}
	}
	s.lock = flock.New(s.path+".lock", flock.SetPermissions(0o600))
	if locked, err := s.lock.TryLock(); err != nil {
		return fmt.Errorf("lock: %w", err)
	} else if !locked {
		return errors.New("in use by another process")
	}
	if err := s.load(); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	return nil
}

// load reads the file. It sets a file aside that has a fault or another version.
func (s *Store) load() error {
	bad, lastReset := badFile(s.path)
	s.status.LastReset = lastReset
	file, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ledgers, fault := decode(file)
	info, err := file.Stat()
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if fault == nil {
		s.ledgers, s.status.Size = ledgers, info.Size()
		return nil
	}
	if err = checkRegular(bad); err == nil {
		err = os.Rename(s.path, bad)
	}
	if err != nil {
		return fmt.Errorf("%w; cannot set it aside: %w", fault, err)
	}
	s.status.LastReset = time.Now()
	_ = os.Chtimes(bad, s.status.LastReset, s.status.LastReset) // the owner may be another user
	level.Error(s.logger).Log("msg", "cannot use the state file: counters restart at zero", "err", fault, "set_aside_as", bad)
	return nil
}

// Ledgers returns the ledgers of the regions, as saved or new. It must be called once,
// before the first Save. Other regions stay in the file until 30 days after their last
// list, by the API's clock.
func (s *Store) Ledgers(regions []string) []*Ledger {
	all := make([]*Ledger, len(regions))
	for i, region := range regions {
		if s.ledgers[region] == nil {
			s.ledgers[region] = New()
		}
		all[i] = s.ledgers[region]
		all[i].watched = true
	}
	return all
}

// Status returns the current status of the file.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Save writes all that was applied before, and reports whether the file has it. Calls
// during a write share the next one. Save waits a second for a stalled disk, and not again
// until the disk is back.
func (s *Store) Save() bool { return s.path == "" || s.save(false) }

// Close saves and unlocks the file. If the disk is stalled, it waits as Save does, and
// the file stays locked until the write ends.
func (s *Store) Close() {
	if s.path != "" {
		s.save(true)
	}
}

func (s *Store) save(last bool) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.closed = last
	if s.next == nil {
		s.next = make(chan struct{})
	}
	if !s.writing {
		s.writing = true
		go s.writer()
	}
	ended, stalled := s.next, s.stalled
	s.mu.Unlock()
	select {
	case <-ended:
	case <-stalled:
	}
	return s.Status().Err == nil // each write has all
}

// writer writes as long as writes are requested.
func (s *Store) writer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.next != nil {
		ended := s.next
		s.next = nil
		s.mu.Unlock()
		s.write()
		s.mu.Lock()
		if s.closed && s.next == nil {
			_ = s.lock.Close() // the end of the process unlocks it too
		}
		close(ended)
	}
	s.writing = false
}

// write writes the file. It reports a stall while that lasts.
func (s *Store) write() {
	data := encode(s.ledgers)
	ended := make(chan error, 1)
	go func() { ended <- replace(s.disk, s.path, data) }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(maxWait):
		s.report(errStalled, 0)
		err = <-ended
	}
	s.report(err, len(data))
}

// report keeps how a write ended, or that it is stalled, and logs what changes.
func (s *Store) report(err error, size int) {
	s.mu.Lock()
	before := s.status.Err
	s.status.Err = err
	if err == nil {
		s.status.Size = int64(size)
	} else {
		s.status.Errors++
	}
	if err == errStalled {
		close(s.stalled)
	} else if before == errStalled {
		s.stalled = make(chan struct{})
	}
	s.mu.Unlock()
	if err == nil && before != nil {
		level.Info(s.logger).Log("msg", "state file written again")
	}
	if err != nil && (before == nil || (err == errStalled) != (before == errStalled)) {
		level.Error(s.logger).Log("msg", "cannot write the state file: counters stay as last saved", "err", err)
	}
}
