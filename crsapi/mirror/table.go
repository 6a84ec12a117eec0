package mirror

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// symbol stands for a string of a symbols table.
type symbol uint32

// symbols holds every distinct string once.
type symbols struct {
	ids    map[string]symbol
	values []string
	used   int // strings that were in use at the last dropNames
}

// grown reports whether many strings may be unused.
func (s *symbols) grown() bool { return len(s.values) >= 2*s.used+1000 }

func newSymbols() *symbols {
	return &symbols{ids: map[string]symbol{"": 0}, values: []string{""}}
}

func (s *symbols) intern(text string) symbol {
	if id, ok := s.ids[text]; ok {
		return id
	}
	id := symbol(len(s.values))
	s.ids[text] = id
	s.values = append(s.values, text)
	return id
}

// row is a task in 48 bytes that hold no pointer: a million tasks are small, and
// nothing for the garbage collector to walk through.
type row struct {
	identity
	end       int64 // UNIX seconds; 0 if unknown
	redisName symbol
	projectID symbol
	status    crsapi.Status
	progress  float32
}

// identity is all that tells one task from another. Tasks of one second may have
// the same.
type identity struct {
	start    int64 // UNIX seconds
	taskID   int64 // 0 if unknown; of a rejected row its hash
	redisID  symbol
	taskName symbol
}

// rejected is the redisID of a row that could not be read. A task has one that is
// not empty.
const rejected symbol = 0

func (s *symbols) row(t *crsapi.Task) row {
	r := row{
		identity:  identity{t.StartTime.Unix(), t.TaskID, s.intern(t.RedisID), s.intern(t.TaskName)},
		redisName: s.intern(t.RedisName),
		projectID: s.intern(t.ProjectID),
		status:    t.Status,
		progress:  t.Progress,
	}
	if !t.EndTime.IsZero() {
		r.end = t.EndTime.Unix()
	}
	return r
}

func (s *symbols) task(r *row) crsapi.Task {
	t := crsapi.Task{
		RedisID:   s.values[r.redisID],
		RedisName: s.values[r.redisName],
		ProjectID: s.values[r.projectID],
		TaskName:  s.values[r.taskName],
		StartTime: time.Unix(r.start, 0).UTC(),
		Status:    r.status,
		Progress:  r.progress,
		TaskID:    r.taskID,
	}
	if r.end != 0 {
		t.EndTime = time.Unix(r.end, 0).UTC()
	}
	return t
}

func compareIdentity(a, b row) int {
	if a.start != b.start { // nearly always
		return cmp.Compare(a.start, b.start)
	}
	return cmp.Or(cmp.Compare(a.redisID, b.redisID), cmp.Compare(a.taskName, b.taskName), cmp.Compare(a.taskID, b.taskID))
}

// compareRows orders rows so that two readings of the same tasks are equal.
func compareRows(a, b row) int {
	if order := compareIdentity(a, b); order != 0 {
		return order
	}
	return cmp.Or(
		cmp.Compare(a.status, b.status), cmp.Compare(a.end, b.end),
		cmp.Compare(a.redisName, b.redisName), cmp.Compare(a.projectID, b.projectID), cmp.Compare(a.progress, b.progress),
	)
}

func sameTasks(a, b []row) bool {
	return slices.EqualFunc(a, b, func(x, y row) bool { return x.identity == y.identity })
}

// span is a span of submission time in UNIX seconds. Both ends are included.
type span struct{ lo, hi int64 }

const (
	beginning = math.MinInt64
	endless   = math.MaxInt64
)

var always = span{beginning, endless}

// window is the tasks of a span.
type window struct {
	span
	rows []row // ordered by compareRows
	poll int   // the last poll that read all of it
	// Rows that may change: unfinished ones, and failed ones of any age.
	open, failed int
	rejected     int
}

func isOpen(s crsapi.Status) bool   { return !isFailed(s) && s != crsapi.StatusSucceeded }
func isFailed(s crsapi.Status) bool { return s == crsapi.StatusFailed || s == crsapi.StatusError }

func newWindow(s span, rows []row, poll int) window {
	w := window{span: s, rows: rows, poll: poll}
	for i := range rows {
		switch {
		case rows[i].redisID == rejected:
			w.rejected++
		case isOpen(rows[i].status):
			w.open++
		case isFailed(rows[i].status):
			w.failed++
		}
	}
	return w
}

// table is a set of tasks, ordered by submission time and cut into windows, which
// cover all time without a gap.
type table struct {
	names   *symbols
	windows []window
	rows    int
}

func newTable() *table {
	return &table{names: newSymbols(), windows: []window{{span: always}}}
}

// windowAt returns the index of the window that has a second.
func (t *table) windowAt(second int64) int {
	return sort.Search(len(t.windows), func(i int) bool { return t.windows[i].hi >= second })
}

// within returns the part of sorted rows that is in a span.
func within(rows []row, s span) []row {
	lo := sort.Search(len(rows), func(i int) bool { return rows[i].start >= s.lo })
	hi := lo + sort.Search(len(rows)-lo, func(i int) bool { return rows[lo+i].start > s.hi })
	return rows[lo:hi]
}

// overlapping returns the indexes of the windows from i to before j that a span
// overlaps.
func (t *table) overlapping(s span) (i, j int) {
	i = t.windowAt(s.lo)
	j = i + sort.Search(len(t.windows)-i, func(n int) bool { return t.windows[i+n].lo > s.hi })
	return i, j
}

// count returns the number of rows in a span.
func (t *table) count(s span) int {
	i, j := t.overlapping(s)
	n := 0
	for k := i; k < j; k++ {
		if w := &t.windows[k]; w.lo >= s.lo && w.hi <= s.hi {
			n += len(w.rows)
		} else {
			n += len(within(w.rows, s))
		}
	}
	return n
}

// in returns the rows of a span in order. They must not be changed.
func (t *table) in(s span) []row {
	i, j := t.overlapping(s)
	if j == i+1 {
		return within(t.windows[i].rows, s)
	}
	var rows []row
	for k := i; k < j; k++ {
		rows = append(rows, within(t.windows[k].rows, s)...)
	}
	return rows
}

// second returns the submission time of the nth row, counted from 0 from the
// oldest.
func (t *table) second(n int) int64 {
	for i := range t.windows {
		if rows := t.windows[i].rows; n < len(rows) {
			return rows[n].start
		}
		n -= len(t.windows[i].rows)
	}
	return endless
}

// lowerHalf returns the older part of a span with about half of its rows. It is
// the whole span if that is one second, or if its rows are.
func (t *table) lowerHalf(s span) span {
	rank := t.rows - t.count(span{s.lo, endless})
	n := t.count(s)
	mid := t.second(rank + n/2 - 1)
	if oldest := t.second(rank); mid == t.second(rank+n-1) && oldest < mid {
		mid = oldest
	}
	return span{s.lo, min(mid, s.hi)}
}

// newest returns the submission time of the newest row up to a second.
func (t *table) newest(upTo int64) (start int64, ok bool) {
	for i := t.windowAt(upTo); i >= 0; i-- {
		if rows := within(t.windows[i].rows, span{beginning, upTo}); len(rows) > 0 {
			return rows[len(rows)-1].start, true
		}
	}
	return 0, false
}

// replace makes rows the tasks of a span. It keeps them; they are ordered by compareRows.
func (t *table) replace(s span, rows []row, poll int) {
	i, j := t.overlapping(s)
	first, last := t.windows[i], t.windows[j-1]
	for k := i; k < j; k++ {
		t.rows -= len(t.windows[k].rows)
	}
	if first.span == s && slices.Equal(first.rows, rows) {
		rows = first.rows // Tasks may hold them: not twice the memory
	}
	var parts [3]window
	n := 0
	if first.lo < s.lo {
		outside := span{first.lo, s.lo - 1}
		parts[n] = newWindow(outside, slices.Clone(within(first.rows, outside)), first.poll)
		n++
	}
	parts[n] = newWindow(s, rows, poll)
	n++
	if last.hi > s.hi {
		outside := span{s.hi + 1, last.hi}
		parts[n] = newWindow(outside, slices.Clone(within(last.rows, outside)), last.poll)
		n++
	}
	for _, w := range parts[:n] {
		t.rows += len(w.rows)
	}
	t.windows = slices.Replace(t.windows, i, j, parts[:n]...)
}

// packed reports whether a repack would save so few windows that it is not worth a
// copy of the table.
func (t *table) packed(size int) bool {
	fewest := t.rows/size + 1
	return len(t.windows) < fewest+fewest/64 &&
		!slices.ContainsFunc(t.windows, func(w window) bool { return len(w.rows) > size })
}

// repack cuts the table into as few windows of at most size rows as whole seconds
// allow. It drops strings that no row has any more.
func (t *table) repack(size int) {
	if t.packed(size) && !t.names.grown() {
		return
	}
	old := t.windows
	t.windows = make([]window, 0, t.rows/size+1)
	buffer := make([]row, 0, size)
	lo := int64(beginning)
	cut := func(hi int64) {
		t.windows = append(t.windows, newWindow(span{lo, hi}, slices.Clone(buffer), 0))
		buffer, lo = buffer[:0], hi+1
	}
	for _, w := range old {
		for rows := w.rows; len(rows) > 0; {
			n := sameSecond(rows)
			if len(buffer) > 0 && len(buffer)+n > size {
				cut(rows[0].start - 1)
			}
			buffer = append(buffer, rows[:n]...)
			rows = rows[n:]
		}
	}
	cut(endless)
	t.dropNames()
}

// sameSecond returns how many of the first rows have the second of the first.
func sameSecond(rows []row) int {
	return sort.Search(len(rows), func(i int) bool { return rows[i].start > rows[0].start })
}

// dropNames makes a new symbols table if most strings of this one are unused.
func (t *table) dropNames() {
	used := make([]bool, len(t.names.values))
	live := 1
	use := func(s symbol) {
		if !used[s] {
			used[s] = true
			live++
		}
	}
	for i := range t.windows {
		for k := range t.windows[i].rows {
			r := &t.windows[i].rows[k]
			use(r.redisID)
			use(r.taskName)
			use(r.redisName)
			use(r.projectID)
		}
	}
	t.names.used = live
	if !t.names.grown() {
		return
	}
	names := newSymbols()
	move := func(s *symbol) { *s = names.intern(t.names.values[*s]) }
	for i := range t.windows {
		// Tasks may hold the rows, so they must not change.
		rows := slices.Clone(t.windows[i].rows)
		for k := range rows {
			r := &rows[k]
			move(&r.redisID)
			move(&r.taskName)
			move(&r.redisName)
			move(&r.projectID)
		}
		slices.SortFunc(rows, compareRows)
		t.windows[i].rows = rows
	}
	names.used = live
	t.names = names
}
