// Package ledger counts how many tasks were seen to enter each status. No task counts
// twice in one status, the first sample of every series is 0, and no counter decreases.
// With a [Store] that has a file, the counters survive restarts, kills and full disks.
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

// Statuses is the number of statuses, which are indexes below it. The last one, Rare,
// has a counter only from its first task on.
const (
	Statuses = 6
	Rare     = Statuses - 1
)

// Times in seconds.
const (
	hour        = 3600
	retention   = 30 * 24 * hour // of what is no longer listed, by the API's clock
	maxLateness = hour           // of a task; what was submitted earlier is history
	maxSkew     = hour           // of the local clock behind the API's
)

// enoughScrapes must have shown the first 0 of a counter: one of each Prometheus server
// of a pair.
const enoughScrapes = 2

// Series is what counters are kept for, one per status.
type Series struct{ RedisID, TaskName string }

// Compare orders series by instance, then by task name.
func (s Series) Compare(other Series) int {
	return cmp.Or(strings.Compare(s.RedisID, other.RedisID), strings.Compare(s.TaskName, other.TaskName))
}

// Second is the tasks of a series that were submitted in one second. They cannot be told
// apart.
type Second struct {
	Start int64            // UNIX seconds
	Most  [Statuses]uint16 // most tasks seen in each status at once; only more than that count
	Left  uint32           // UNIX seconds of the first list without them; 0 while listed
}

// Counter is one counter.
type Counter struct {
	Value   uint64
	Held    uint64 // added to Value once two scrapes have shown the first 0
	Created int64  // UNIX nanoseconds; 0 if the counter does not exist yet
	Shown   uint8  // scrapes that have shown it, at most two
}

// Counters are the counters of a series at one moment.
type Counters struct {
	Series
	ByStatus [Statuses]Counter
}

// entry is all that is known of a series.
type entry struct {
	Counters
	Seconds []Second // ascending
}

// state is what the file has of a region.
type state struct {
	Source  string
	Seen    int64    // UNIX seconds of the last list by the API's clock, to within a day
	Horizon int64    // unknown tasks submitted up to this second are history
	Entries []*entry // ordered by series
}

// Ledger has the counters of one region. It is safe for concurrent use.
type Ledger struct {
	mu    sync.Mutex
	state state
	index map[Series]*entry
	young map[*entry]bool // entries with a counter that is not shown often enough
	swept int64           // UNIX seconds of the last forget by the API's clock

	watched bool // in this process; set before the first Apply
}

// New returns an empty Ledger.
func New() *Ledger { return restore(state{Horizon: math.MinInt64}) }

// restore returns a Ledger with a saved state.
func restore(s state) *Ledger {
	l := &Ledger{state: s, index: map[Series]*entry{}, young: map[*entry]bool{}}
	for _, e := range s.Entries {
		l.index[e.Series], l.young[e] = e, true
		for status := range e.ByStatus {
			if c := &e.ByStatus[status]; c.Shown < enoughScrapes {
				c.Shown = 0 // the other server of a pair may have missed it
			}
		}
	}
	return l
}

// Batch is a list.
type Batch struct {
	// Source names what the list is of. It is not empty. The first list of another Source
	// is remembered and counts nothing.
	Source string
	// Tasks yields the tasks submitted in one second, ascending by second. Their Left is
	// not used. Tasks is nil if the list is the same as in the last Batch.
	Tasks iter.Seq2[Series, Second]
	Time  time.Time // end of the poll by the local clock
	Date  time.Time // end of the poll by the API's clock
}

// Source returns the source of the last batch, empty before the first.
func (l *Ledger) Source() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Source
}

// Apply applies a list. It reports whether a restart would lose something without a
// save. It ranges over the tasks once.
func (l *Ledger) Apply(b Batch) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	date := max(b.Date.Unix(), 1)
	if b.Tasks != nil {
		changed = l.list(b, date)
	}
	if b.Source != l.state.Source {
		l.state.Source, changed = b.Source, true
	}
	if !within(date, l.state.Seen, 24*hour) {
		l.state.Seen, changed = date, true
	}
	released, dropped := l.release(), l.forget(date)
	return changed || released || dropped
}

// list takes the whole list into account. What it does not have has left. The baseline
// and the first list of another source count nothing, and set the horizon.
func (l *Ledger) list(b Batch, date int64) (changed bool) {
	for _, e := range l.state.Entries {
		for i := range e.Seconds {
			if e.Seconds[i].Left == 0 {
				e.Seconds[i].Left = uint32(date)
			}
		}
	}
	counts, created := b.Source == l.state.Source, b.created()
	known, newest := len(l.index), int64(math.MinInt64)
	for series, listed := range b.Tasks {
		if l.create(series, listed.Most[Rare] > 0, created).list(listed, counts, l.state.Horizon) {
			changed = true
		}
		if listed.Start <= date { // a later date is wrong, and would make all others history
			newest = max(newest, listed.Start)
		}
	}
	if len(l.index) > known {
		slices.SortFunc(l.state.Entries, func(a, b *entry) int { return a.Compare(b.Series) })
	}
	if newest == math.MinInt64 {
		newest = date
	}
	if !counts {
		l.state.Horizon = max(l.state.Horizon, newest-maxLateness-1)
	}
	return changed
}

// create returns the entry of a series, with counters that begin at created if they are
// missing.
func (l *Ledger) create(s Series, rare bool, created int64) *entry {
	e, ok := l.index[s]
	if !ok {
		e = &entry{Counters: Counters{Series: Series{strings.Clone(s.RedisID), strings.Clone(s.TaskName)}}}
		for status := range Rare {
			e.ByStatus[status].Created = created
		}
		l.state.Entries = append(l.state.Entries, e)
		l.index[e.Series], l.young[e] = e, true
	}
	if c := &e.ByStatus[Rare]; rare && c.Created == 0 {
		c.Created = created
		l.young[e] = true
	}
	return e
}

// list takes one second of the list into account. Only more tasks in a status than ever
// before count: so a row that vanishes and returns counts once. An unknown second up to
// the horizon is history. list reports whether a status has more tasks.
func (e *entry) list(listed Second, counts bool, horizon int64) (more bool) {
	i, known := len(e.Seconds), false
	if i > 0 && e.Seconds[i-1].Start >= listed.Start { // new tasks come at the end
		i, known = slices.BinarySearchFunc(e.Seconds, listed.Start, func(s Second, start int64) int { return cmp.Compare(s.Start, start) })
	}
	if !known {
		e.Seconds = slices.Insert(e.Seconds, i, Second{Start: listed.Start})
		counts = counts && listed.Start > horizon
	}
	s := &e.Seconds[i]
	s.Left = 0
	for status, n := range listed.Most {
		if n <= s.Most[status] {
			continue
		}
		if c := &e.ByStatus[status]; counts {
			c.Held += uint64(n - s.Most[status])
			c.release()
		}
		s.Most[status] = n
		more = true
	}
	return more
}

// Shown tells the ledger that one scrape has received counters, all that [Ledger.Counters]
// returned.
func (l *Ledger) Shown(all []Counters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.young {
		i, shown := slices.BinarySearchFunc(all, e.Series, func(c Counters, s Series) int { return c.Compare(s) })
		for status := range e.ByStatus {
			c := &e.ByStatus[status]
			if shown && c.Shown < enoughScrapes && c.Created != 0 && c.Created == all[i].ByStatus[status].Created {
				c.Shown++
			}
		}
	}
}

// release counts what is held where enough scrapes have shown the 0.
func (l *Ledger) release() (released bool) {
	for e := range l.young {
		young := false
		for status := range e.ByStatus {
			c := &e.ByStatus[status]
			released = c.release() || released
			young = young || c.Created != 0 && c.Shown < enoughScrapes
		}
		if !young {
			delete(l.young, e)
		}
	}
	return released
}

func (c *Counter) release() (released bool) {
	if c.Held == 0 || c.Shown < enoughScrapes {
		return false
	}
	c.Value, c.Held = c.Value+c.Held, 0
	return true
}

// forget drops seconds that left the list longer than the retention ago, and instances of
// which no second is left. It reports whether there were such instances. What was dropped
// is history: the horizon moves up to it, but not to a time at which tasks may still
// appear. forget works once an hour.
func (l *Ledger) forget(date int64) (dropped bool) {
	if within(date, l.swept, hour) {
		return false
	}
	l.swept = date
	limit, known := date-retention, map[string]bool{} // by redisId
	for _, e := range l.state.Entries {
		e.Seconds = slices.DeleteFunc(e.Seconds, func(s Second) bool {
			old := s.Left != 0 && int64(s.Left) <= limit && s.Start < limit
			if old {
				l.state.Horizon = max(l.state.Horizon, s.Start)
			}
			return old
		})
		if len(e.Seconds) > 0 {
			known[e.RedisID] = true
		}
	}
	l.state.Entries = slices.DeleteFunc(l.state.Entries, func(e *entry) bool {
		if known[e.RedisID] {
			return false
		}
		delete(l.index, e.Series)
		delete(l.young, e)
		dropped = true
		return true
	})
	return dropped
}

// Counters returns all counters, ordered by series. Later batches do not change them.
func (l *Ledger) Counters() []Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Counters, len(l.state.Entries))
	for i, e := range l.state.Entries {
		all[i] = e.Counters
	}
	return all
}

// created returns when counters that begin with the batch were created, in UNIX
// nanoseconds: the earlier of the two clocks, since a scraper takes a date after its own
// samples for a reset. But a local clock that is more than an hour behind is wrong.
func (b *Batch) created() int64 {
	if ahead := b.Date.Round(0).Sub(b.Time); ahead < 0 || ahead > maxSkew*time.Second {
		return b.Date.UnixNano()
	}
	return b.Time.UnixNano()
}

// within reports whether two times are less than a distance apart.
func within(a, b, distance int64) bool { return -distance < a-b && a-b < distance }
