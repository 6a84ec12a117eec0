package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	path    string // empty to keep nothing
	logger  log.Logger
	fsync   func(*os.File) error // for the file and its folder; tests replace it
	lock    *flock.Flock
	ledgers map[string]*Ledger // by region

	writing chan struct{} // full during a write

	mu      sync.Mutex
	status  Status
	next    chan struct{} // closed when the requested write has ended; nil if none is
	stalled chan struct{} // closed while the disk is stalled
	closed  bool
}

// Status describes the file.
type Status struct {
	Errors    uint64    // failed and stalled writes, and calls of Save during a stall
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
func Open(path string, logger log.Logger) (*Store, error) {
	s := &Store{
		path: path, logger: log.With(logger, "state_file", path), fsync: (*os.File).Sync,
		ledgers: map[string]*Ledger{}, writing: make(chan struct{}, 1), stalled: make(chan struct{}),
	}
	if path != "" {
		if err := s.open(); err != nil {
			return nil, fmt.Errorf("state file %s: %w", path, err)
		}
	}
	return s, nil
}

func (s *Store) open() error {
	if target, err := filepath.EvalSymlinks(s.path); err == nil {
		s.path = target // a rename must not replace the symlink
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

// load reads the file. It sets a file aside that is damaged or of another version.
func (s *Store) load() error {
	bad, lastReset := badFile(s.path)
	s.status.LastReset = lastReset
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ledgers, fault := decode(data)
	if fault == nil {
		s.ledgers, s.status.Size = ledgers, int64(len(data))
		return nil
	}
	if err := os.Rename(s.path, bad); err != nil {
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
	if s.status.Err == errStalled {
		s.status.Errors++ // a stall of hours must not look like one error
	}
	if s.next == nil {
		s.next = make(chan struct{})
		go s.write(s.next)
	}
	ended, stalled := s.next, s.stalled
	s.mu.Unlock()
	select {
	case <-ended:
	case <-stalled:
	}
	return s.Status().Err == nil // each write has all
}

// write writes the file once the write before has ended. It reports a stall while that
// lasts.
func (s *Store) write(ended chan struct{}) {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	s.mu.Lock()
	s.next = nil // this write may miss what is applied from now on
	s.mu.Unlock()
	data := encode(s.ledgers)
	written := make(chan error, 1)
	go func() { written <- s.replace(data) }()
	select {
	case err := <-written:
		s.report(err, len(data))
	case <-time.After(maxWait):
		s.report(errStalled, 0)
		s.report(<-written, len(data))
	}
	s.mu.Lock()
	if s.closed && s.next == nil {
		_ = s.lock.Close() // the end of the process unlocks it too
	}
	s.mu.Unlock()
	close(ended)
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
	switch {
	case fmt.Sprint(err) == fmt.Sprint(before):
	case err == nil:
		level.Info(s.logger).Log("msg", "state file written again")
	default:
		level.Error(s.logger).Log("msg", "cannot write the state file: counters stay as last saved", "err", err)
	}
}
