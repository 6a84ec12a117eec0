package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
	"unicode/utf8"
)

// A state file is this header, the CRC-32C of the rest (big-endian), and a
// gob-encoded savedState. A file with a fault is not used at all: counters that
// go back a little are worse than counters that restart at 0, because
// Prometheus takes all that they ever counted as new.
const (
	fileHeader = "CRSSTATE2"
	headerSize = len(fileHeader) + crc32.Size
	// maxFileSize is a limit against unrelated files. A task takes 14 bytes.
	maxFileSize = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("not a state file, or damaged")

type savedState struct{ Ledgers []savedLedger }

type savedLedger struct {
	Region, Source string
	Horizon        int64
	Watched        time.Duration
	Series         []savedSeries
}

// savedSeries holds the seconds of a series in columns, because gob writes
// small numbers in one byte.
type savedSeries struct {
	Series
	Created, RareCreated time.Time
	Shown, RareShown     bool // two scrapes have shown the first 0
	Counted, Held        [Statuses]uint64

	Starts []int64  // each the distance from the one before
	Left   []uint32 // second.left
	Most   []uint16 // second.most, one after the other
}

func (l *Ledger) save(region string) savedLedger {
	saved := savedLedger{
		Region: region, Source: l.source, Horizon: l.horizon, Watched: l.watched,
		Series: make([]savedSeries, 0, len(l.series)),
	}
	for _, c := range l.current.All {
		saved.Series = append(saved.Series, l.series[c.Series].save(l.shown[1]))
	}
	return saved
}

func (e *entry) save(shown uint64) savedSeries {
	saved := savedSeries{
		Series: e.Series, Created: e.created.UTC(), RareCreated: e.rareCreated.UTC(),
		Shown: e.born <= shown, RareShown: e.rareBorn <= shown,
		Counted: e.counted, Held: e.held,
		Starts: make([]int64, 0, len(e.seconds)),
		Left:   make([]uint32, 0, len(e.seconds)),
		Most:   make([]uint16, 0, len(e.seconds)*Statuses),
	}
	last := int64(0)
	for i := range e.seconds {
		s := &e.seconds[i]
		saved.Starts = append(saved.Starts, s.start-last)
		saved.Left = append(saved.Left, s.left)
		saved.Most = append(saved.Most, s.most[:]...)
		last = s.start
	}
	return saved
}

var errInconsistent = errors.New("inconsistent content")

func (saved *savedLedger) restore() (*Ledger, error) {
	l := New()
	l.source, l.horizon, l.watched = saved.Source, saved.Horizon, saved.Watched
	if l.watched < 0 || l.watched >= math.MaxUint32*time.Second {
		return nil, errInconsistent
	}
	for i := range saved.Series {
		s := &saved.Series[i]
		_, twice := l.series[s.Series]
		n := len(s.Starts)
		// A label that is not UTF-8 would break the exposition.
		if twice || !utf8.ValidString(s.RedisID) || !utf8.ValidString(s.TaskName) ||
			len(s.Left) != n || len(s.Most) != n*Statuses {
			return nil, errInconsistent
		}
		if err := s.restore(l); err != nil {
			return nil, err
		}
	}
	l.current = l.counters(1)
	return l, nil
}

func (saved *savedSeries) restore(l *Ledger) error {
	// The counters restored have sequence number 1. Nothing has shown them yet.
	e := l.add(saved.Series, 1, saved.Created)
	e.rareCreated, e.rareBorn = saved.RareCreated, 1
	if saved.Shown {
		e.born = 0
	}
	if saved.RareShown {
		e.rareBorn = 0
	}
	e.counted, e.held = saved.Counted, saved.Held
	if e.held != [Statuses]uint64{} {
		l.holding[e] = struct{}{}
	}
	e.seconds = make([]second, len(saved.Starts))
	last := int64(0)
	for i := range e.seconds {
		s := &e.seconds[i]
		s.start, s.left = last+saved.Starts[i], saved.Left[i]
		copy(s.most[:], saved.Most[i*Statuses:])
		if i > 0 && s.start <= last || s.left > l.left() {
			return errInconsistent
		}
		last = s.start
	}
	return nil
}

func encode(state savedState) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(fileHeader)
	b.Write(make([]byte, crc32.Size))
	if err := gob.NewEncoder(&b).Encode(state); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	data := b.Bytes()
	binary.BigEndian.PutUint32(data[len(fileHeader):], crc32.Checksum(data[headerSize:], castagnoli))
	return data, nil
}

// decode returns the ledgers by region. Every error is an errDamaged.
func decode(data []byte) (map[string]*Ledger, error) {
	switch {
	case len(data) < headerSize || string(data[:len(fileHeader)]) != fileHeader:
		return nil, fmt.Errorf("%w: no header of this version", errDamaged)
	case binary.BigEndian.Uint32(data[len(fileHeader):]) != crc32.Checksum(data[headerSize:], castagnoli):
		return nil, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	return decodePayload(data[headerSize:])
}

func decodePayload(payload []byte) (map[string]*Ledger, error) {
	var state savedState
	if err := gob.NewDecoder(bytes.NewReader(payload)).Decode(&state); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	ledgers := make(map[string]*Ledger, len(state.Ledgers))
	for i := range state.Ledgers {
		saved := &state.Ledgers[i]
		l, err := saved.restore()
		if err != nil {
			return nil, fmt.Errorf("%w: region %q: %w", errDamaged, saved.Region, err)
		}
		ledgers[saved.Region] = l
	}
	return ledgers, nil
}
