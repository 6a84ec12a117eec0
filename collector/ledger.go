package collector

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// retention is how long the ledger remembers a task, and an instance, that is
// no longer listed.
const retention = 30 * 24 * time.Hour

// ledger counts, for one region, how many tasks were seen to enter each
// status. The API gives a task no id and no history, so the ledger remembers
// what it saw and counts only what goes beyond that:
//
//   - Tasks that share redisId, taskName and second of submission cannot be
//     told apart and are one group. Of a group it remembers, status by status,
//     how many of its tasks were in it at once at most; a poll that shows more
//     counts the difference. So a row that vanishes and comes back, or goes to
//     and fro, counts once in a status, and a task that drops off the list
//     hides no other.
//   - What the first update shows is the baseline and counts nothing.
//   - A series that is born later starts at 0, and what it has to count is
//     held back until a scrape has shown that 0: increase() would miss it.
//
// Its methods may be called from several goroutines at once.
type ledger struct {
	mu sync.Mutex

	series    map[seriesKey]*watched
	instances map[string]*instance
	holding   []*watched // those with something held back

	// horizon is the newest submission time that was forgotten. A task not
	// remembered that is no newer was seen before: it counts nothing.
	horizon int64

	current *tally // as the last update left it; nil before the first
	shown   uint64 // greatest tally.seq that a scrape has shown

	polled  int64    // last update, UNIX seconds
	journal *journal // nil if the ledger is not kept
}

// instance is one redisId and the series that live and die with it.
type instance struct {
	listed int64 // last update that listed it, UNIX seconds
	series []*watched
}

// watched is what the ledger keeps of one series.
type watched struct {
	seriesKey
	groups []group // ascending by start
	stale  int64   // smallest seen of groups

	counted [statuses]uint64 // what a tally tells
	held    [statuses]uint64 // what is still to be added to it

	created        time.Time
	bornSeq        uint64    // of the tally that first had the series
	unknownCreated time.Time // of the sixth status, likewise; zero for never
	unknownBornSeq uint64
}

// group is the tasks of a series that were submitted in the same second. A
// million of them are 24 MB.
type group struct {
	start   int64            // UNIX seconds
	seen    uint32           // last update that listed it, UNIX seconds
	entered [statuses]uint16 // most tasks ever seen in the status at once
}

// tally is what the counters say after an update. It never changes.
type tally struct {
	seq      uint64     // grows with each tally that differs from the one before
	counters []counters // in the order of their keys
}

// counters are those of one series.
type counters struct {
	seriesKey
	entered        [statuses]uint64
	created        time.Time
	unknownCreated time.Time // zero as long as there is no counter of unknown
	hidden         bool      // none of them may be exposed yet
}

func newLedger() *ledger {
	return &ledger{
		series:    map[seriesKey]*watched{},
		instances: map[string]*instance{},
		horizon:   math.MinInt64,
	}
}

// update takes in a successful poll that ended now and returns the counters
// after it. The runs are those of takeSnapshot.
func (l *ledger) update(snap *snapshot, runs [][]row, now time.Time) *tally {
	l.mu.Lock()
	defer l.mu.Unlock()

	seq := uint64(1)
	if l.current != nil {
		seq = l.current.seq + 1
	}
	horizon, horizonOfNew := l.horizons()
	changed := l.current == nil
	l.polled = now.Unix()
	l.journal.polled()
	l.holding = slices.DeleteFunc(l.holding, func(w *watched) bool {
		released, rest := w.release(l.shown)
		if released {
			changed = true
			l.journal.note(w, nil)
		}
		return !rest
	})
	for i := range snap.series {
		s := &snap.series[i]
		horizon := horizon
		w, ok := l.series[s.seriesKey]
		if !ok {
			w = l.watch(s.seriesKey, seq, now)
			l.journal.noteWhole(w)
			changed = true
			horizon = horizonOfNew
		}
		l.instances[w.redisID].listed = now.Unix()
		if s.count[unknown] > 0 && w.unknownCreated.IsZero() {
			w.unknownCreated, w.unknownBornSeq = now, seq
			l.journal.note(w, nil)
			changed = true
		}
		entered, starts := w.merge(runs[i], horizon, now.Unix())
		if len(starts) > 0 {
			l.journal.note(w, starts)
		}
		if entered == ([statuses]uint64{}) {
			continue
		}
		wasHolding := w.isHolding()
		for st, n := range entered {
			w.held[st] += n
		}
		released, rest := w.release(l.shown)
		changed = changed || released
		if rest && !wasHolding {
			l.holding = append(l.holding, w)
		}
	}
	if l.forget(now.Add(-retention).Unix()) {
		changed = true
	}
	if changed {
		l.current = l.tally(seq)
	}
	return l.current
}

// horizons returns up to which submission time a task that is not remembered
// counts nothing, if it belongs to a series that is watched or to a new one.
func (l *ledger) horizons() (watched, fresh int64) {
	switch {
	case l.current == nil || l.journal.isNewScope():
		return math.MaxInt64, math.MaxInt64
	case l.journal.areNewFilters():
		return max(l.horizon, l.polled), math.MaxInt64
	default:
		return l.horizon, l.horizon
	}
}

// markShown tells the ledger that a scrape has shown t.
func (l *ledger) markShown(t *tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown = max(l.shown, t.seq)
}

func (l *ledger) watch(key seriesKey, seq uint64, now time.Time) *watched {
	// The snapshot's strings may be parts of greater ones.
	key = seriesKey{strings.Clone(key.redisID), strings.Clone(key.taskName)}
	w := &watched{seriesKey: key, stale: math.MaxInt64, created: now, bornSeq: seq}
	l.series[key] = w
	in, ok := l.instances[key.redisID]
	if !ok {
		in = &instance{}
		l.instances[key.redisID] = in
	}
	in.series = append(in.series, w)
	return w
}

func (l *ledger) tally(seq uint64) *tally {
	t := &tally{seq: seq, counters: make([]counters, 0, len(l.series))}
	for _, w := range l.series {
		t.counters = append(t.counters, counters{w.seriesKey, w.counted, w.created, w.unknownCreated, false})
	}
	slices.SortFunc(t.counters, func(a, b counters) int { return a.compare(b.seriesKey) })
	return t
}

// behind returns a tally that has the series of t beside those of durable, but
// no counters other than those of durable, which may be nil.
func (t *tally) behind(durable *tally) *tally {
	if durable == nil {
		durable = &tally{}
	}
	mixed := &tally{seq: durable.seq, counters: slices.Clone(durable.counters)}
	for _, c := range t.counters {
		_, ok := slices.BinarySearchFunc(durable.counters, c.seriesKey, func(c counters, key seriesKey) int {
			return c.compare(key)
		})
		if !ok {
			mixed.counters = append(mixed.counters, counters{seriesKey: c.seriesKey, hidden: true})
		}
	}
	slices.SortFunc(mixed.counters, func(a, b counters) int { return a.compare(b.seriesKey) })
	return mixed
}

// forget drops what was last listed before limit, in UNIX seconds, and tells
// whether a series is gone with it.
func (l *ledger) forget(limit int64) bool {
	gone := false
	for id, in := range l.instances {
		lost := in.listed < limit
		for _, w := range in.series {
			if w.stale < limit {
				l.horizon = max(l.horizon, w.forget(limit))
				l.journal.noteWhole(w)
			}
			if lost {
				delete(l.series, w.seriesKey)
				l.journal.noteWhole(w)
				gone = true
			}
		}
		if lost {
			delete(l.instances, id)
		}
	}
	if gone {
		l.holding = slices.DeleteFunc(l.holding, func(w *watched) bool { return l.series[w.seriesKey] != w })
	}
	return gone
}

// release counts what was held back, as far as a scrape has shown the 0 that
// must come first. It tells whether there was any such, and whether more is
// held back still.
func (w *watched) release(shown uint64) (released, rest bool) {
	for st, n := range w.held {
		born := w.bornSeq
		if status(st) == unknown {
			born = w.unknownBornSeq
		}
		switch {
		case n == 0:
		case born > shown:
			rest = true
		default:
			w.counted[st] += n
			w.held[st] = 0
			released = true
		}
	}
	return released, rest
}

func (w *watched) isHolding() bool { return w.held != [statuses]uint64{} }

// merge takes the listed rows of the series into its groups and returns how
// many tasks entered each status, and which groups, by their start, are new or
// have changed. Rows of a group that is not remembered count only if submitted
// after horizon.
func (w *watched) merge(run []row, horizon, now int64) (entered [statuses]uint64, changed []int64) {
	var fresh []group
	i := 0
	w.stale = now
	for len(run) > 0 {
		g := group{start: run[0].start(), seen: uint32(now)}
		n := 0
		for n < len(run) && run[n].start() == g.start {
			if c := &g.entered[run[n].status()]; *c < math.MaxUint16 {
				*c++
			}
			n++
		}
		run = run[n:]

		for i < len(w.groups) && w.groups[i].start < g.start {
			w.stale = min(w.stale, int64(w.groups[i].seen))
			i++
		}
		if i < len(w.groups) && w.groups[i].start == g.start {
			known := &w.groups[i]
			known.seen = g.seen
			more := false
			for st, n := range g.entered {
				if n > known.entered[st] {
					entered[st] += uint64(n - known.entered[st])
					known.entered[st] = n
					more = true
				}
			}
			if more {
				changed = append(changed, g.start)
			}
			i++
			continue
		}
		fresh = append(fresh, g)
		if g.start > horizon {
			for st, n := range g.entered {
				entered[st] += uint64(n)
			}
		}
	}
	for ; i < len(w.groups); i++ {
		w.stale = min(w.stale, int64(w.groups[i].seen))
	}
	w.insert(fresh)
	for _, g := range fresh {
		changed = append(changed, g.start)
	}
	return entered, changed
}

// insert adds groups, ascending by start, none of which is there yet.
func (w *watched) insert(fresh []group) {
	if len(fresh) == 0 {
		return
	}
	i, j := len(w.groups)-1, len(fresh)-1
	need := len(w.groups) + len(fresh)
	if need > cap(w.groups) {
		// Tasks come one by one: the doubling of append would waste as much
		// memory as the groups take.
		grown := make([]group, len(w.groups), need+len(w.groups)/8)
		copy(grown, w.groups)
		w.groups = grown
	}
	w.groups = w.groups[:need]
	for k := need - 1; j >= 0; k-- {
		if i >= 0 && w.groups[i].start > fresh[j].start {
			w.groups[k] = w.groups[i]
			i--
		} else {
			w.groups[k] = fresh[j]
			j--
		}
	}
}

// forget drops the groups that were last listed before limit and returns the
// newest submission time among them. A group submitted later than limit stays,
// whatever the reason for such a date: the horizon must never reach a time
// at which tasks may still turn up for the first time.
func (w *watched) forget(limit int64) (horizon int64) {
	horizon, w.stale = math.MinInt64, math.MaxInt64
	w.groups = slices.DeleteFunc(w.groups, func(g group) bool {
		if int64(g.seen) < limit && g.start < limit {
			horizon = max(horizon, g.start)
			return true
		}
		w.stale = min(w.stale, int64(g.seen))
		return false
	})
	if cap(w.groups) > 2*len(w.groups) {
		w.groups = slices.Clip(slices.Clone(w.groups))
	}
	return horizon
}
