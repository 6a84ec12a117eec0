// Package ledger counts how many tasks were seen to enter each status. It
// promises that no task counts twice in one status, that the first sample of
// every counter is 0, that no counter decreases, and, with a [Store] that has
// a file, that the counters survive restarts, kills and full disks. A Ledger
// does not know where its batches come from, who shows its counters, or that
// there is a file.
package ledger

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Statuses is the number of statuses. A status is an index below it.
	Statuses = 6
	// Rare is the status that has a counter only from its first task on. The
	// other statuses of a series have one from the first task of the series on.
	Rare = Statuses - 1
)

const (
	// retention is how long the ledger remembers what is no longer listed.
	retention = 30 * 24 * time.Hour // of time watched
	// maxStep limits what a gap between two batches adds to the time watched:
	// nothing was watched during the gap.
	maxStep = time.Hour
	// maxLateness separates late tasks from history: a task that was submitted
	// earlier than this before the newest task of the baseline is history.
	maxLateness = time.Hour
	// maxSkew is how far our clock may be behind the API's.
	maxSkew = time.Hour
)

// Series is what counters are kept for, each status apart.
type Series struct{ RedisID, TaskName string }

// Compare orders series by instance, then by task name.
func (s Series) Compare(other Series) int {
	return cmp.Or(strings.Compare(s.RedisID, other.RedisID), strings.Compare(s.TaskName, other.TaskName))
}

// Change says how the tasks of a series that were submitted in one second are
// listed now.
type Change struct {
	Series
	Second int64            // UNIX seconds
	Tasks  [Statuses]uint16 // number of tasks in each status; all 0 if none is listed any more
}

func (c *Change) listed() bool { return c.Tasks != [Statuses]uint16{} }

// Kind says what a batch means for the counters.
type Kind uint8

// The kinds of batches.
const (
	Normal   Kind = iota // what is new counts
	Baseline             // the first batch of a ledger: nothing counts
	Absorbed             // the first batch of another source, a whole one: nothing counts
)

// Batch is what one poll found.
type Batch struct {
	Kind Kind
	// Source names what the tasks come from. The ledger keeps it for its caller.
	Source string
	// Whole means that Changes are all tasks: what they do not contain is not
	// listed any more.
	Whole bool
	// Changes has each second of a series at most once; nil for none. Apply ranges
	// over it twice.
	Changes iter.Seq[Change]

	Time time.Time // end of the poll by the local clock
	Date time.Time // end of the poll by the API's clock, which also dates the tasks
}

// Ledger holds the counters of one region. It is safe for concurrent use.
//
// The rules:
//
//   - Tasks with the same instance, name and second of submission cannot be
//     told apart. For each such second the ledger remembers the largest number
//     of tasks seen in each status at once. Only a larger number counts. So a
//     row that vanishes and returns, or moves between two statuses, counts once
//     in each, and a task that leaves the list hides no other.
//   - The first batch is the baseline: it is remembered and counts nothing. The
//     same applies to the first batch of another source, which is absorbed.
//   - A task that appears later counts in the status in which it appears. If it
//     was submitted more than an hour before the newest task of the baseline,
//     it is history and does not count.
//   - A counter starts at 0. What it has to count is held until two scrapes
//     have shown the 0, one for each of a pair of Prometheus servers.
//   - A task that was not listed during 30 days of watching, and was submitted
//     before that, is forgotten. It does not count if it returns. The counters
//     of an instance are dropped when all its tasks are forgotten. Time counts
//     as watched between batches of one process, at most an hour each.
type Ledger struct {
	mu sync.Mutex

	source  string
	series  map[Series]*entry
	holding map[*entry]struct{} // entries that hold counts

	// horizon is a submission time. Unknown tasks up to it do not count: they
	// are history, or were forgotten.
	horizon int64

	watched time.Duration
	applied time.Time // Batch.Time of the last batch; zero before the first of this process

	current *Counters // nil before the first batch
	// shown are the two highest sequence numbers that scrapes have shown, which
	// are equal after two scrapes of the same Counters.
	shown [2]uint64
}

// entry is what the ledger keeps of a series.
type entry struct {
	Series
	seconds []second // ascending by start

	counted [Statuses]uint64
	held    [Statuses]uint64 // to be added to counted

	created, rareCreated time.Time // rareCreated is zero as long as there is no such counter
	born, rareBorn       uint64    // sequence number of the first Counters with them
}

// second is the tasks of a series that were submitted in one second. A million
// of them take 24 MB.
type second struct {
	start int64            // UNIX seconds
	most  [Statuses]uint16 // largest number of tasks seen in the status at once
	// left is when the last task left the list, in seconds watched plus one; 0
	// while one is listed.
	left uint32
}

// Counters are the counters at one moment. They never change.
type Counters struct {
	All      []Counter // ordered by series
	sequence uint64
}

// Counter is the counters of one series, by status.
type Counter struct {
	Series
	Entered     [Statuses]uint64
	Created     time.Time
	RareCreated time.Time // of the counter of Rare; zero without one
}

// New returns an empty Ledger.
func New() *Ledger {
	return &Ledger{
		series:  map[Series]*entry{},
		holding: map[*entry]struct{}{},
		horizon: math.MinInt64,
	}
}

// Source returns the source of the last batch, empty before the first.
func (l *Ledger) Source() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source
}

// Counters returns the counters after the last batch, nil before the first.
func (l *Ledger) Counters() *Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// Shown tells the ledger that one scrape has received c.
func (l *Ledger) Shown(c *Counters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.sequence > l.shown[0]:
		l.shown[0], l.shown[1] = c.sequence, l.shown[0]
	case c.sequence > l.shown[1]:
		l.shown[1] = c.sequence
	}
}

// Apply applies a batch. It reports whether there is something to save at once.
func (l *Ledger) Apply(b Batch) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if b.Changes == nil {
		b.Changes = func(func(Change) bool) {}
	}
	before := l.watched
	l.watch(b.Time)
	sequence := uint64(1)
	if l.current != nil {
		sequence = l.current.sequence + 1
	}
	changed = b.Source != l.source
	visible := l.current == nil // the counters differ
	l.source = b.Source

	created := b.created()
	if b.Kind != Normal {
		l.horizon = max(l.horizon, b.newest()-int64(maxLateness/time.Second)-1)
	}
	if b.Whole {
		l.unlistAll()
	}
	for c := range b.Changes {
		e, known := l.series[c.Series]
		if !c.listed() {
			if known {
				l.unlist(e, c.Second)
			}
			continue
		}
		if !known {
			e = l.add(c.Series, sequence, created)
			visible = true
		}
		if c.Tasks[Rare] > 0 && e.rareCreated.IsZero() {
			e.rareCreated, e.rareBorn = created, sequence
			visible = true
		}
		if l.list(e, &c, b.Kind == Normal) {
			changed = true
		}
	}
	for e := range l.holding {
		if l.release(e) {
			visible = true
		}
	}
	if l.watched/time.Hour != before/time.Hour && l.forget(b.Date) {
		visible = true
	}
	if visible {
		l.current = l.counters(sequence)
	}
	return changed || visible
}

// watch adds the time since the last batch. Only the monotonic clock decides:
// the wall clock may jump.
func (l *Ledger) watch(now time.Time) {
	if !l.applied.IsZero() {
		l.watched += min(max(now.Sub(l.applied), 0), maxStep)
	}
	l.applied = now
}

func (l *Ledger) left() uint32 { return uint32(l.watched/time.Second) + 1 }

// newest returns the newest submission time of the batch. Tasks dated later
// than Date are left out: a wrong date must not turn all others into history.
func (b *Batch) newest() int64 {
	date := b.Date.Unix()
	newest := int64(math.MinInt64)
	for c := range b.Changes {
		if c.listed() && c.Second <= date {
			newest = max(newest, c.Second)
		}
	}
	if newest == math.MinInt64 {
		return date
	}
	return newest
}

// created returns when counters that begin with the batch were created. It is
// the earlier of the two clocks: a scraper takes a date after its own samples for
// a reset, and counts all again. But a clock of ours that is more than an hour
// behind is wrong.
func (b *Batch) created() time.Time {
	// Round leaves the wall clocks to be compared.
	if ahead := b.Date.Round(0).Sub(b.Time); ahead < 0 || ahead > maxSkew {
		return b.Date
	}
	return b.Time
}

func (l *Ledger) add(s Series, sequence uint64, created time.Time) *entry {
	// The caller's strings may be parts of larger ones.
	s = Series{strings.Clone(s.RedisID), strings.Clone(s.TaskName)}
	e := &entry{Series: s, created: created, born: sequence}
	l.series[s] = e
	return e
}

// list applies a change with tasks. It reports whether a status has more tasks
// than ever before.
func (l *Ledger) list(e *entry, c *Change, counts bool) (more bool) {
	i, known := e.find(c.Second)
	if !known {
		e.seconds = slices.Insert(e.seconds, i, second{start: c.Second})
		counts = counts && c.Second > l.horizon
	}
	s := &e.seconds[i]
	s.left = 0
	for status, n := range c.Tasks {
		if n <= s.most[status] {
			continue
		}
		if counts {
			e.held[status] += uint64(n - s.most[status])
			l.holding[e] = struct{}{}
		}
		s.most[status] = n
		more = true
	}
	return more
}

func (l *Ledger) unlist(e *entry, start int64) {
	if i, known := e.find(start); known && e.seconds[i].left == 0 {
		e.seconds[i].left = l.left()
	}
}

func (l *Ledger) unlistAll() {
	left := l.left()
	for _, e := range l.series {
		for i := range e.seconds {
			if e.seconds[i].left == 0 {
				e.seconds[i].left = left
			}
		}
	}
}

func (e *entry) find(start int64) (int, bool) {
	// New tasks come at the end.
	if n := len(e.seconds); n == 0 || e.seconds[n-1].start < start {
		return n, false
	}
	return slices.BinarySearchFunc(e.seconds, start, func(s second, start int64) int { return cmp.Compare(s.start, start) })
}

// release counts what e holds where two scrapes have shown the 0 before.
func (l *Ledger) release(e *entry) (released bool) {
	rest := false
	for status, n := range e.held {
		born := e.born
		if status == Rare {
			born = e.rareBorn
		}
		switch {
		case n == 0:
		case born > l.shown[1]:
			rest = true
		default:
			e.counted[status] += n
			e.held[status] = 0
			released = true
		}
	}
	if !rest {
		delete(l.holding, e)
	}
	return released
}

// forget drops what was last listed longer than the retention ago, and the
// counters of instances of which it then remembers no task. It reports whether
// there were any.
func (l *Ledger) forget(date time.Time) (dropped bool) {
	if l.watched < retention {
		return false
	}
	limit := uint32((l.watched-retention)/time.Second) + 1
	// Tasks that are younger than that by their date stay: the horizon must not
	// reach a time at which tasks may still appear.
	old := date.Add(-retention).Unix()
	remembered := map[string]bool{} // by redisId
	for _, e := range l.series {
		e.seconds = slices.DeleteFunc(e.seconds, func(s second) bool {
			forgotten := s.left != 0 && s.left <= limit && s.start < old
			if forgotten {
				l.horizon = max(l.horizon, s.start)
			}
			return forgotten
		})
		if cap(e.seconds) > 2*len(e.seconds) {
			e.seconds = append([]second(nil), e.seconds...) // frees the rest
		}
		if len(e.seconds) > 0 {
			remembered[e.RedisID] = true
		}
	}
	for s, e := range l.series {
		if !remembered[s.RedisID] {
			delete(l.series, s)
			delete(l.holding, e)
			dropped = true
		}
	}
	return dropped
}

func (l *Ledger) counters(sequence uint64) *Counters {
	c := &Counters{All: make([]Counter, 0, len(l.series)), sequence: sequence}
	for _, e := range l.series {
		c.All = append(c.All, Counter{e.Series, e.counted, e.created, e.rareCreated})
	}
	slices.SortFunc(c.All, func(a, b Counter) int { return a.Compare(b.Series) })
	return c
}
