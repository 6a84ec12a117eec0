package ledger

import (
	"cmp"
	"iter"
	"maps"
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
	Held    uint64 // added to Value once enough scrapes have shown the first 0
	Created int64  // UNIX nanoseconds; 0 if the counter does not exist yet
	Shown   uint8  // scrapes that have shown it, at most enoughScrapes
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
	next    int      // index at which a list is expected to go on
}

// state is what the file has of a region.
type state struct {
	Source  string
	Seen    int64    // UNIX seconds of the last list, by the API's clock
	Horizon int64    // unknown tasks submitted up to this second are history
	Entries []*entry // ordered by series
	Facts   *Facts   // nil before the first list
}

// Ledger has the counters of one region. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	state   state
	index   map[Series]*entry
	pending bool // a counter is held, or has not been shown often enough
}

// New returns an empty Ledger.
func New() *Ledger { return restore(state{Horizon: math.MinInt64}) }

// restore returns a Ledger with a saved state. Each process shows the first 0 often enough
// itself: the other server of a pair may have missed it.
func restore(s state) *Ledger {
	l := &Ledger{state: s, index: map[Series]*entry{}, pending: true}
	for _, e := range s.Entries {
		l.index[e.Series] = e
		for status := range e.ByStatus {
			if c := &e.ByStatus[status]; c.Shown < enoughScrapes {
				c.Shown = 0
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
	// Instances are those of the list, ordered by RedisID. They are nil if the list is the
	// same, unless it is empty.
	Instances []Listed
	// Inventory is when the last inventory was read, in UNIX seconds; 0 if none was read since
	// the start. If inventories are not Watched, what they said before the start does not count.
	Inventory int64
	Watched   bool

	Time time.Time // end of the poll by the local clock
	Date time.Time // end of the poll by the API's clock
}

// Source returns the source of the last list, empty before the first.
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
	old := l.see(b)
	if b.Tasks != nil {
		changed = l.list(b)
	}
	date := b.Date.Unix()
	if date/hour != l.state.Seen/hour {
		l.forget(date)
	}
	l.state.Seen = date
	return l.release() || changed || old
}

// list counts what is new in a list. What it does not have has left. The first list of a
// source counts nothing, and sets the horizon.
func (l *Ledger) list(b Batch) (changed bool) {
	date, created := b.Date.Unix(), min(b.Time.UnixNano(), b.Date.UnixNano())
	for _, e := range l.state.Entries {
		e.next = 0
		for i := range e.Seconds {
			if e.Seconds[i].Left == 0 {
				e.Seconds[i].Left = uint32(date)
			}
		}
	}
	sameSource := b.Source == l.state.Source
	known, newest := len(l.index), int64(math.MinInt64)
	for series, listed := range b.Tasks {
		changed = l.count(l.entry(series, created), listed, created, sameSource) || changed
		if listed.Start <= date { // a later date is wrong, and would make all others history
			newest = max(newest, listed.Start)
		}
	}
	if len(l.index) > known {
		slices.SortFunc(l.state.Entries, func(a, b *entry) int { return a.Compare(b.Series) })
	}
	if sameSource {
		return changed
	}
	if newest == math.MinInt64 {
		newest = date
	}
	l.state.Source = b.Source
	l.state.Horizon = max(l.state.Horizon, newest-maxLateness-1)
	return true
}

// count takes one second of the list into account. Only more tasks in a status than ever
// before count: so a row that vanishes and returns counts once. An unknown second up to
// the horizon is history. count reports whether a status has more tasks.
func (l *Ledger) count(e *entry, listed Second, created int64, sameSource bool) (more bool) {
	s, known := e.second(listed.Start)
	counts := sameSource && (known || listed.Start > l.state.Horizon)
	s.Left = 0
	for status, n := range listed.Most {
		if n <= s.Most[status] {
			continue
		}
		c := &e.ByStatus[status]
		if c.Created == 0 { // Rare
			c.Created = created
		}
		if counts {
			c.Held += uint64(n - s.Most[status])
			l.pending = true
		}
		s.Most[status], more = n, true
	}
	return more
}

// entry returns the entry of a series. The counters of a new one begin at created.
func (l *Ledger) entry(s Series, created int64) *entry {
	if e := l.index[s]; e != nil {
		return e
	}
	e := &entry{Counters: Counters{Series: Series{strings.Clone(s.RedisID), strings.Clone(s.TaskName)}}}
	for status := range Rare {
		e.ByStatus[status].Created = created
	}
	l.state.Entries = append(l.state.Entries, e)
	l.index[e.Series], l.pending = e, true
	return e
}

// second returns a second, and whether it is known. An unknown one is inserted. Since
// lists are ascending, it is mostly the next one.
func (e *entry) second(start int64) (*Second, bool) {
	i, known := e.next, true
	if i == len(e.Seconds) || e.Seconds[i].Start != start {
		i, known = slices.BinarySearchFunc(e.Seconds, start, func(s Second, start int64) int { return cmp.Compare(s.Start, start) })
	}
	if !known {
		e.Seconds = slices.Insert(e.Seconds, i, Second{Start: start})
	}
	e.next = i + 1
	return &e.Seconds[i], known
}

// Shown tells the ledger that one scrape has received counters.
func (l *Ledger) Shown(all []Counters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.pending {
		return
	}
	for i := range all {
		e := l.index[all[i].Series]
		if e == nil {
			continue
		}
		for status := range e.ByStatus {
			c := &e.ByStatus[status]
			if c.Shown < enoughScrapes && c.Created != 0 && c.Created == all[i].ByStatus[status].Created {
				c.Shown++
			}
		}
	}
}

// release counts what is held where enough scrapes have shown the 0.
func (l *Ledger) release() (released bool) {
	if !l.pending {
		return false
	}
	l.pending = false
	for _, e := range l.state.Entries {
		for status := range e.ByStatus {
			c := &e.ByStatus[status]
			switch {
			case c.Created != 0 && c.Shown < enoughScrapes:
				l.pending = true
			case c.Held > 0:
				c.Value, c.Held, released = c.Value+c.Held, 0, true
			}
		}
	}
	return released
}

// forget drops seconds that left the list longer than the retention ago, and instances
// without any second. What was dropped is history: the horizon moves up to it, but not to
// a time at which tasks may still appear.
func (l *Ledger) forget(date int64) {
	limit, known := date-retention, map[string]bool{} // by redisId
	for _, e := range l.state.Entries {
		e.Seconds = slices.DeleteFunc(e.Seconds, func(s Second) bool {
			if s.Left == 0 || int64(s.Left) > limit || s.Start >= limit {
				return false
			}
			l.state.Horizon = max(l.state.Horizon, s.Start)
			return true
		})
		if len(e.Seconds) > 0 {
			known[e.RedisID] = true
		}
	}
	maps.DeleteFunc(l.index, func(s Series, _ *entry) bool { return !known[s.RedisID] })
	l.state.Entries = slices.DeleteFunc(l.state.Entries, func(e *entry) bool { return !known[e.RedisID] })
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
