package mirror

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"sort"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// row is a listed row. One that could not be read has no RedisID, and its hash as
// TaskID.
type row = crsapi.Task

const (
	beginning = math.MinInt64 / 2 // so that an hour can be taken off
	endless   = math.MaxInt64
)

func isRejected(r row) bool { return r.RedisID == "" }

func second(r *row) int64 { return r.StartTime.Unix() }

// isFinal reports whether the status should not change any more.
func isFinal(r *row, known int64) bool {
	failed := r.Status == crsapi.StatusFailed || r.Status == crsapi.StatusError
	return r.Status == crsapi.StatusSucceeded || failed && second(r) < known-mayReopen
}

// compareIdentity compares all that distinguishes tasks. Two tasks of one second may
// be equal.
func compareIdentity(a, b *row) int {
	if order := cmp.Compare(second(a), second(b)); order != 0 { // nearly always
		return order
	}
	return cmp.Or(cmp.Compare(a.RedisID, b.RedisID), cmp.Compare(a.TaskName, b.TaskName), cmp.Compare(a.TaskID, b.TaskID))
}

// compare orders rows so that two readings of the same tasks are equal.
func compare(a, b row) int {
	if order := compareIdentity(&a, &b); order != 0 {
		return order
	}
	return cmp.Or(
		cmp.Compare(a.Status, b.Status), a.EndTime.Compare(b.EndTime),
		cmp.Compare(a.RedisName, b.RedisName), cmp.Compare(a.ProjectID, b.ProjectID), cmp.Compare(a.Progress, b.Progress),
	)
}

// pairs yields the rows of two ordered sets: two that are the same task together,
// any other with nil.
func pairs(a, b []row) iter.Seq2[*row, *row] {
	return func(yield func(x, y *row) bool) {
		for more := true; more && (len(a) > 0 || len(b) > 0); {
			order := cmp.Compare(len(b), len(a)) // if one is empty
			if len(a) > 0 && len(b) > 0 {
				order = compareIdentity(&a[0], &b[0])
			}
			switch {
			case order < 0:
				more = yield(&a[0], nil)
				a = a[1:]
			case order > 0:
				more = yield(nil, &b[0])
				b = b[1:]
			default:
				more = yield(&a[0], &b[0])
				a, b = a[1:], b[1:]
			}
		}
	}
}

// common returns how many tasks two ordered sets have in common.
func common(a, b []row) int {
	n := 0
	for x, y := range pairs(a, b) {
		if x != nil && y != nil {
			n++
		}
	}
	return n
}

func sameTasks(a, b []row) bool { return len(a) == len(b) && common(a, b) == len(a) }

// union returns each task as often as one of two ordered sets has it, with the
// statuses of the second.
func union(a, b []row) []row {
	if len(a) == 0 {
		return b
	}
	all := make([]row, 0, len(a)+len(b))
	for x, y := range pairs(a, b) {
		if y == nil {
			y = x
		}
		all = append(all, *y)
	}
	return all
}

// differences compares two lists. It counts what was wrong in the older one: tasks
// that it lacked after begin, though nothing appears up to known, and tasks that it
// had as final.
func differences(before, now []row, begin, known int64) (same bool, corrections int) {
	if len(before) == len(now) && (len(now) == 0 || &before[0] == &now[0]) {
		return true, 0
	}
	n := 0
	for n < min(len(before), len(now)) && before[n] == now[n] {
		n++
	}
	for x, y := range pairs(before[n:], now[n:]) {
		if x == nil && second(y) >= begin && second(y) <= known ||
			x != nil && y != nil && x.Status != y.Status && isFinal(x, known) {
			corrections++
		}
	}
	return n == max(len(before), len(now)), corrections
}

// upTo returns the number of ordered rows up to a second.
func upTo(rows []row, s int64) int {
	return sort.Search(len(rows), func(i int) bool { return second(&rows[i]) > s })
}

// count returns the number of rows of the copy up to a second.
func (m *Mirror) count(s int64) int { return upTo(m.rows, s) }

// between returns the rows of the copy after lo up to hi.
func (m *Mirror) between(lo, hi int64) []row { return m.rows[m.count(lo):m.count(hi)] }

// replace makes ordered rows the tasks of the copy after lo up to hi.
func (m *Mirror) replace(lo, hi int64, rows []row) {
	i, j := m.count(lo), m.count(hi)
	if !slices.Equal(m.rows[i:j], rows) {
		m.rows = slices.Concat(m.rows[:i], rows, m.rows[j:])
	}
}
