package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// The state file holds the ledgers, so that counters survive a restart. It is
// a snapshot followed by a log of what changed since:
//
//	0     "CRSSTATE", version (uint32)
//	512   commit: sequence (uint64), end (uint64), CRC-32C of both
//	1024  the same commit once more
//	4096  records up to end, each of one region:
//	      length (uint32), CRC-32C of length and payload, payload
//
// Numbers of a fixed size are big-endian; the payload is that of
// [ledger.encode]. What is behind end was never committed. A commit writes and
// syncs its record, then both copies of the commit, each in a sector of its own,
// and syncs those; only then is a counter exposed. So a crash leaves the commit
// before or the new one, a damaged copy has its twin, and a file that was cut
// or changed anywhere else is known as such: counters that went back a little
// would be worse than counters that begin anew, since Prometheus would take
// all they ever counted for new.
//
// An embedded store would not give that: bbolt checksums its meta pages, not
// its data, and reads through a memory map, where a file cut short is a SIGBUS.
const (
	stateMagic   = "CRSSTATE"
	stateVersion = 1

	commitOffset  = 512
	commitStride  = 512
	commitCopies  = 2
	commitSize    = 8 + 8 + 4
	recordsOffset = 4096
	recordHeader  = 4 + 4

	// maxStateSize is a bound against foreign files; 100,000 tasks take
	// 0.7 MB.
	maxStateSize = 1 << 30
	// minLog is how long the log may grow at least, before it and the
	// snapshot are written anew as one snapshot.
	minLog = 1 << 20
	// rewriteInterval is how old the times at which tasks were last listed may
	// get in the file: they change at every poll, but matter after a month.
	rewriteInterval = time.Hour

	badTimeLayout = "20060102T150405Z"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errBadState  = errors.New("no state file, or a damaged one")
	errStateSize = fmt.Errorf("the state is greater than %d bytes", maxStateSize)
)

// stateFS is what a state needs of a file system. Names are paths.
type stateFS interface {
	// read returns a regular file whole, or an error if it is greater than
	// limit.
	read(name string, limit int64) ([]byte, error)
	create(name string) (stateHandle, error) // truncates
	rename(from, to string) error
	remove(name string) error
	glob(pattern string) ([]string, error)
	// sync makes durable what names the folder holds.
	sync(folder string) error
}

// stateHandle is a file open for writing.
type stateHandle interface {
	WriteAt(p []byte, offset int64) (int, error)
	Sync() error
	Close() error
}

// state keeps ledgers in a file. It writes nothing that has not changed, and
// appends to no file that it has not written itself: the first change after a
// start writes the file anew. Its methods may be called from several goroutines
// at once.
type state struct {
	fs     stateFS
	path   string
	unlock func() error
	log    log.Logger

	errors    prometheus.Counter
	size      prometheus.Gauge
	lastReset prometheus.Gauge

	mu      sync.Mutex
	ledgers map[string]*ledger // by region, those not configured too
	file    stateHandle        // nil if the next commit has to write the file anew
	seq     uint64             // of the last commit
	end     int64              // of the last record committed
	base    int64              // size of the snapshot
	minLog  int64
	bad     bool      // what is at path has still to be set aside
	stale   bool      // polls have succeeded since the last rewrite
	written time.Time // last rewrite, or the start
	failing bool
	closed  bool
}

// openState reads the state file and locks it against other processes. A file
// that cannot be understood is set aside. The errors it returns are those
// of a wrong path or of a file in use.
func openState(path string, logger log.Logger, now time.Time) (*state, error) {
	// The lock must be the same whatever way leads to the file.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	s, err := loadState(osFS{}, path, logger, now)
	if err != nil {
		return nil, fmt.Errorf("state file: %w", errors.Join(err, unlock()))
	}
	s.unlock = unlock
	return s, nil
}

func loadState(files stateFS, path string, logger log.Logger, now time.Time) (*state, error) {
	s := &state{
		fs: files, path: path, log: log.With(logger, "state_file", path), written: now, minLog: minLog,
		ledgers:   map[string]*ledger{},
		unlock:    func() error { return nil },
		errors:    prometheus.NewCounter(prometheus.CounterOpts{Name: stateErrorsMetric.Name, Help: stateErrorsMetric.Help}),
		size:      prometheus.NewGauge(prometheus.GaugeOpts{Name: stateSizeMetric.Name, Help: stateSizeMetric.Help}),
		lastReset: prometheus.NewGauge(prometheus.GaugeOpts{Name: stateLastResetMetric.Name, Help: stateLastResetMetric.Help}),
	}
	data, err := files.read(path, maxStateSize)
	if err == nil {
		s.ledgers, s.seq, err = decodeState(data)
	}
	switch {
	case err == nil:
		s.size.Set(float64(len(data)))
		for region, l := range s.ledgers {
			if l.polled < now.Add(-retention).Unix() {
				delete(s.ledgers, region)
				s.stale = true
			}
		}
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errBadState), errors.Is(err, errStateSize), errors.Is(err, errIO):
		s.ledgers, s.bad = map[string]*ledger{}, true
		level.Error(s.log).Log("msg", "the state file cannot be used: counters begin anew", "err", err)
		if err := s.setAside(now); err != nil {
			s.failed(err)
		}
	default:
		return nil, err
	}
	_ = files.remove(path + ".tmp") // left by a crash, of no use, and overwritten if it stays
	if aside := s.aside(); len(aside) > 0 {
		s.lastReset.Set(float64(badTime(path, aside[len(aside)-1])))
	}
	return s, nil
}

// ledger returns the ledger of a region as it was saved, or a new one, which
// from then on notes what changes. The filters say what is asked of the region,
// the scope what answers.
func (s *state) ledger(region string, filters, scope uint64) *ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.ledgers[region]
	if !ok {
		l = newLedger()
		s.ledgers[region] = l
	}
	l.keep(filters, scope)
	return l
}

// commit makes the region's ledger durable as it is, and tells whether it is.
// If not, what was durable before still is, and a later commit makes up for it.
func (s *state) commit(region string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.stale = true
	l := s.ledgers[region]
	if record, changed := l.changes(region); changed {
		write := func() error { return s.rewrite(now) }
		if s.file != nil {
			write = func() error { return s.append(record) }
		}
		if err := write(); err != nil {
			s.failed(err)
			return false
		}
		l.saved()
	}
	age := now.Sub(s.written)
	if s.end-s.base > max(s.base, s.minLog) || age >= rewriteInterval || age < 0 {
		if err := s.rewrite(now); err != nil {
			s.failed(err) // what counts is saved already
		}
	}
	return true
}

// failed counts an error, and logs it if it is news.
func (s *state) failed(err error) {
	s.errors.Inc()
	if !s.failing {
		level.Error(s.log).Log("msg", "the state file cannot be written: counters stay where they were last saved", "err", err)
	}
	s.failing = true
}

func (s *state) succeeded(size int64) {
	s.size.Set(float64(size))
	if s.failing {
		level.Info(s.log).Log("msg", "the state file is written again")
	}
	s.failing = false
}

// append commits one record to the file.
func (s *state) append(payload []byte) error {
	record := appendRecord(nil, payload)
	end := s.end + int64(len(record))
	if end > maxStateSize {
		s.drop()
		return errStateSize
	}
	if _, err := s.file.WriteAt(record, s.end); err != nil {
		return fmt.Errorf("append to %s: %w", s.path, err) // uncommitted: the next overwrites it
	}
	if err := s.finish(s.file, end); err != nil {
		// Nobody knows what is on the disk now, but that the last commit is.
		s.drop()
		return fmt.Errorf("append to %s: %w", s.path, err)
	}
	s.end = end
	s.succeeded(end)
	return nil
}

// finish makes the records up to end durable, and then the commit that says so.
func (s *state) finish(file stateHandle, end int64) error {
	if err := file.Sync(); err != nil {
		return err
	}
	s.seq++
	commit := binary.BigEndian.AppendUint64(nil, s.seq)
	commit = binary.BigEndian.AppendUint64(commit, uint64(end))
	commit = binary.BigEndian.AppendUint32(commit, crc32.Checksum(commit, castagnoli))
	for i := range int64(commitCopies) {
		if _, err := file.WriteAt(commit, commitOffset+i*commitStride); err != nil {
			return err
		}
	}
	return file.Sync()
}

// drop makes the next commit write the file anew.
func (s *state) drop() {
	if s.file != nil {
		_ = s.file.Close() // synced, or given up
		s.file = nil
	}
}

// rewrite puts a file in the place of the old one that holds all regions as
// they are.
func (s *state) rewrite(now time.Time) error {
	if s.bad {
		if err := s.setAside(now); err != nil {
			return err
		}
	}
	data := make([]byte, recordsOffset)
	copy(data, stateMagic)
	binary.BigEndian.PutUint32(data[len(stateMagic):], stateVersion)
	for _, region := range slices.Sorted(maps.Keys(s.ledgers)) {
		if payload, ok := s.ledgers[region].whole(region); ok {
			data = appendRecord(data, payload)
		}
	}
	if len(data) > maxStateSize {
		return errStateSize
	}
	temporary := s.path + ".tmp"
	file, err := s.fs.create(temporary)
	if err != nil {
		return fmt.Errorf("create state file: %w", err)
	}
	if _, err = file.WriteAt(data, 0); err == nil {
		err = s.finish(file, int64(len(data)))
	}
	if err == nil {
		err = s.fs.rename(temporary, s.path)
	}
	if err != nil {
		_ = file.Close() // of no use any more
		_ = s.fs.remove(temporary)
		return fmt.Errorf("write state file: %w", err)
	}
	s.drop()
	if err := s.fs.sync(filepath.Dir(s.path)); err != nil {
		// The name may still lead to the old file after a crash: the next
		// commit has to try again.
		_ = file.Close()
		return fmt.Errorf("write state file: %w", err)
	}
	s.file, s.end, s.base = file, int64(len(data)), int64(len(data))
	s.written, s.stale = now, false
	s.succeeded(s.end)
	return nil
}

// setAside moves the file that cannot be used out of the way, in place of the
// one set aside before.
func (s *state) setAside(now time.Time) error {
	older := s.aside()
	name := s.path + ".bad-" + now.UTC().Format(badTimeLayout)
	if err := s.fs.rename(s.path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set state file aside: %w", err)
	}
	s.bad = false
	s.lastReset.Set(float64(badTime(s.path, name)))
	level.Warn(s.log).Log("msg", "the state file was set aside", "as", name)
	for _, old := range older {
		if old != name {
			if err := s.fs.remove(old); err != nil {
				level.Warn(s.log).Log("msg", "an older state file stays beside", "err", err)
			}
		}
	}
	return nil
}

// aside returns the files set aside, oldest first.
func (s *state) aside() []string {
	names, err := s.fs.glob(globEscape(s.path) + ".bad-*")
	if err != nil {
		return nil
	}
	names = slices.DeleteFunc(names, func(name string) bool { return badTime(s.path, name) == 0 })
	slices.Sort(names)
	return names
}

// badTime returns when a file was set aside, in UNIX seconds, or 0 if its name
// is not that of such a file.
func badTime(path, name string) int64 {
	t, err := time.Parse(badTimeLayout, name[min(len(name), len(path)+len(".bad-")):])
	if err != nil {
		return 0
	}
	return t.Unix()
}

func globEscape(path string) string {
	var escaped []byte
	for _, c := range []byte(path) {
		if c == '*' || c == '?' || c == '[' || c == '\\' {
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, c)
	}
	return string(escaped)
}

// close saves what no commit had to save, and gives the file up.
func (s *state) close(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.stale {
		if err := s.rewrite(now); err != nil {
			s.failed(err)
		}
	}
	s.closed = true
	s.drop()
	if err := s.unlock(); err != nil {
		level.Warn(s.log).Log("msg", "the state file could not be unlocked", "err", err)
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	ch <- s.errors
	ch <- s.size
	ch <- s.lastReset
}

func appendRecord(data, payload []byte) []byte {
	begin := len(data)
	data = binary.BigEndian.AppendUint32(data, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(data[begin:], castagnoli), castagnoli, payload)
	data = binary.BigEndian.AppendUint32(data, sum)
	return append(data, payload...)
}

// decodeState returns the ledgers in a state file and the sequence of its last
// commit. Every error is an errBadState.
func decodeState(data []byte) (map[string]*ledger, uint64, error) {
	if len(data) < recordsOffset || string(data[:len(stateMagic)]) != stateMagic {
		return nil, 0, fmt.Errorf("%w: no header", errBadState)
	}
	if v := binary.BigEndian.Uint32(data[len(stateMagic):]); v != stateVersion {
		return nil, 0, fmt.Errorf("%w: version %d is not known", errBadState, v)
	}
	var seq, end uint64
	for i := range commitCopies {
		commit := data[commitOffset+i*commitStride:][:commitSize]
		sum := binary.BigEndian.Uint32(commit[16:])
		if s := binary.BigEndian.Uint64(commit); s > seq && sum == crc32.Checksum(commit[:16], castagnoli) {
			seq, end = s, binary.BigEndian.Uint64(commit[8:])
		}
	}
	switch {
	case seq == 0:
		return nil, 0, fmt.Errorf("%w: no commit", errBadState)
	case end < recordsOffset || end > uint64(len(data)):
		return nil, 0, fmt.Errorf("%w: %d bytes where %d were written", errBadState, len(data), end)
	}
	ledgers := map[string]*ledger{}
	for offset := uint64(recordsOffset); offset < end; {
		rest := data[offset:end]
		if len(rest) < recordHeader {
			return nil, 0, fmt.Errorf("%w: a record ends early at offset %d", errBadState, offset)
		}
		n := uint64(binary.BigEndian.Uint32(rest))
		if n > uint64(len(rest)-recordHeader) {
			return nil, 0, fmt.Errorf("%w: a record ends early at offset %d", errBadState, offset)
		}
		payload := rest[recordHeader:][:n]
		sum := crc32.Update(crc32.Checksum(rest[:4], castagnoli), castagnoli, payload)
		if sum != binary.BigEndian.Uint32(rest[4:]) {
			return nil, 0, fmt.Errorf("%w: the checksum at offset %d is wrong", errBadState, offset)
		}
		if err := decodeRecord(ledgers, payload); err != nil {
			return nil, 0, fmt.Errorf("%w: record at offset %d: %w", errBadState, offset, err)
		}
		offset += recordHeader + n
	}
	for _, l := range ledgers {
		l.restored()
	}
	return ledgers, seq, nil
}
