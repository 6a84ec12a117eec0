package mirror

import (
	"slices"
	"sort"
)

// The copy is cut into windows of whole seconds, each of which fits in a page. The
// newest tasks are in no window: the head shows them.

// windows cuts the copy up to a second into windows. It returns the last second of
// each. A page has all tasks of a window and at least one that is older.
func (m *Mirror) windows(last int64) (cuts []int64) {
	rows := m.rows[:m.count(last)]
	size := max(1, m.size-1)
	for len(rows) > size {
		n := upTo(rows[:size], second(&rows[size])-1) // whole seconds
		if n == 0 {
			n = upTo(rows, second(&rows[0]))
		}
		cuts = append(cuts, second(&rows[n-1]))
		rows = rows[n:]
	}
	if len(rows) > 0 {
		cuts = append(cuts, last)
	}
	return cuts
}

// belowHead returns the windows of the tasks that the head is not expected to show.
// It lowers known to the last of them.
func (m *Mirror) belowHead(inTurn int) []int64 {
	m.known = min(m.known, m.top(inTurn))
	windows := m.windows(m.known)
	if inTurn >= len(windows) {
		m.expect(len(windows) + 1)
	}
	return windows
}

// top returns the second down to which the head shows all tasks, even if new ones
// take a part of it.
func (m *Mirror) top(inTurn int) int64 {
	n := m.size
	if len(m.rows) <= n {
		return beginning
	}
	left := n / 2
	if inTurn == All {
		left = n * 3 / 4
	}
	return second(&m.rows[len(m.rows)-left-1])
}

// fullReading returns the number of pages of a full reading.
func (m *Mirror) fullReading() int { return len(m.windows(m.top(All))) + 1 }

// nextTurn returns which windows are due: those that may have changed and, in turn,
// inTurn of the others, from the newest to the oldest and then again from the top. Call
// done after they were read.
func (m *Mirror) nextTurn(windows []int64, inTurn int) (due []bool, done func()) {
	// The window that has the second of the turn is next.
	from := 1 + sort.Search(len(windows), func(i int) bool { return windows[i] >= m.turn })
	turnFrom := m.turnFrom
	if m.turn == beginning || from > len(windows) || inTurn >= len(windows) {
		from, turnFrom = len(windows), m.began
	}
	to := from - min(from, inTurn)
	due = make([]bool, len(windows))
	lo := int64(beginning)
	for i, hi := range windows {
		due[i] = i >= to && i < from || m.mayChange(lo, hi)
		lo = hi
	}
	return due, func() {
		switch {
		case to == 0:
			m.turn, m.fullRead = beginning, turnFrom
		case to < from:
			m.turn, m.turnFrom = windows[to-1], turnFrom
		}
	}
}

// mayChange reports whether a status after lo up to hi may have changed.
func (m *Mirror) mayChange(lo, hi int64) bool {
	return slices.ContainsFunc(m.between(lo, hi), func(r row) bool { return !isRejected(r) && !isFinal(&r, m.known) })
}
