package mirror

import (
	"context"
	"slices"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// outcome is what prove found.
type outcome int

const (
	proven  outcome = iota // the copy is the list
	empty                  // there is no copy
	lacking                // the copy lacks a task: an assumption does not hold
	moving                 // the list moved on at every round
)

// prove asks for heads until one proves the copy. The copy has every task that is
// listed up to known, so if it has as many as are listed, it has no other.
func (m *Mirror) prove(ctx context.Context) (head answer, found outcome, err error) {
	var next *answer // a head that was asked already
	for range maxRounds {
		if next != nil {
			head, next = *next, nil
		} else if head, err = m.askHead(ctx); err != nil {
			return head, 0, err
		}
		if head.whole() {
			m.complete = true
			m.set(always, head.rows, false)
			m.learn(&head)
			return head, proven, nil
		}
		if !m.bounded {
			if err := m.probe(ctx, head); err != nil {
				return head, 0, err
			}
		}
		if !m.complete {
			return head, empty, nil
		}
		low, err := m.readDown(ctx, head)
		if err != nil {
			return head, 0, err
		}
		have := m.table.count(span{beginning, low.second})
		switch {
		case have > low.left:
			if err := m.takeOut(ctx, low.second, have-low.left); err != nil {
				return head, 0, err
			}
			continue
		case !low.clean:
			continue
		case have < low.left || !contains(m.table.in(span{low.second, low.second}), low.at):
			return head, lacking, nil
		}
		if low.entered {
			h, err := m.askHead(ctx)
			if err != nil {
				return head, 0, err
			}
			if h.total != head.total || !sameAbove(&head, &h) {
				next = &h
				continue
			}
		}
		again, err := m.readStatuses(ctx, low.second)
		if err != nil {
			return head, 0, err
		}
		m.statuses = m.polls
		if !again {
			return head, proven, nil
		}
	}
	return head, moving, nil
}

// learn moves the horizon of the copy up to a head that is in it.
func (m *Mirror) learn(head *answer) {
	newest, ok := m.table.newest(head.date)
	if !ok {
		newest = head.date
	}
	m.known = newest - lateness
}

// contains reports whether sorted rows have all others, by identity.
func contains(all, others []row) bool {
	for _, r := range others {
		i, ok := slices.BinarySearchFunc(all, r, compareIdentity)
		if !ok {
			return false
		}
		all = all[i+1:]
	}
	return true
}

// sameAbove reports whether two heads show the same tasks, except in the second of
// the last row, of which a server may show any.
func sameAbove(a, b *answer) bool {
	p := max(a.last(), b.last())
	x, y := a.after(p), b.after(p)
	slices.SortFunc(x, compareRows)
	slices.SortFunc(y, compareRows)
	return sameTasks(x, y)
}

// bottom is where a head, and the pages read below it, end.
type bottom struct {
	second int64 // of the last row
	left   int   // tasks listed up to that second
	at     []row // some of them, of that second
	// clean says that each total was what the answer before left: below each page
	// the list was at rest until the next was read. So all is of the head's moment.
	clean bool
	// entered says that pages were read into which a task may have come since the
	// head, being less than a minute below the newest. If another has left them, no
	// total shows it. Then all is of the moment of these pages, if the head has not
	// changed meanwhile.
	entered bool
}

// readDown takes a head into the copy, and reads on down to the horizon of the
// copy, page by page. Afterwards the copy has all that is listed up to the horizon
// of the head.
func (m *Mirror) readDown(ctx context.Context, head answer) (bottom, error) {
	horizon := m.known
	low := bottom{second: head.last(), clean: true}
	above := head.after(low.second)
	low.left, low.at = head.total-len(above), head.at(low.second)
	m.set(span{low.second + 1, endless}, above, false)
	low.entered = low.second > max(horizon, head.horizon())
	// The tasks of a long second are read after the total that has them, so that
	// what is left must be seen in one more answer.
	seen := true
	for first := true; low.second > horizon || !seen; first = false {
		a := head // if all of it is of one second, it is the page to begin with
		if !first || len(above) > 0 {
			var err error
			if a, err = m.ask(ctx, span{beginning, low.second}); err != nil {
				return low, err
			}
		}
		low.clean = low.clean && a.total == low.left
		if a.whole() {
			m.set(span{beginning, low.second}, a.rows, false)
			low.second, low.left, low.at = beginning, 0, nil
			break
		}
		last := a.last()
		var err error
		low.second, low.left, err = m.keep(ctx, span{beginning, low.second}, &a, false)
		if err != nil {
			return low, err
		}
		low.at = nil
		if seen = low.second == last; seen {
			low.at = a.at(last)
		}
	}
	m.learn(&head)
	return low, nil
}

// keep takes the newest page of a span that has more than a page into the copy,
// as far as its seconds are complete. It returns up to where the span is left to
// read, and how many tasks that has.
func (m *Mirror) keep(ctx context.Context, s span, a *answer, verify bool) (hi int64, left int, err error) {
	last := a.last()
	rows := a.after(last)
	if len(rows) > 0 {
		m.set(span{last + 1, s.hi}, rows, verify)
		return last, a.total - len(rows), nil
	}
	rows, err = m.readSecond(ctx, last, m.page)
	if err != nil {
		return 0, 0, err
	}
	m.set(span{last, s.hi}, rows, verify)
	return last - 1, a.total - len(rows), nil
}

// takeOut takes tasks out of the copy that are no longer listed: n of those up to
// p. Most leave at the old end; else an instance was deleted.
func (m *Mirror) takeOut(ctx context.Context, p int64, n int) error {
	size := m.pageSize()
	have := m.table.count(span{beginning, p})
	// If the oldest n have left, this much of the list fits in a page.
	s := span{beginning, p}
	if end := n + size/2; end < have {
		s.hi = min(p, m.table.second(end-1))
	}
	a, err := m.ask(ctx, s)
	if err != nil {
		return err
	}
	gone := m.table.count(s) - a.total
	switch {
	case a.whole():
		m.set(s, a.rows, false)
		if gone >= n || s.hi == p {
			return nil
		}
		s = span{s.hi + 1, p}
	case gone <= 0:
		s = span{s.hi + 1, p}
	}
	left, err := m.findGone(ctx, s)
	if err != nil || m.cfg.RedisID != "" {
		return err
	}
	return m.readInstances(ctx, left)
}

// findGone finds a window of a page that lacks tasks of the copy, by halving, and
// returns the instances of these tasks.
func (m *Mirror) findGone(ctx context.Context, s span) (instances []string, err error) {
	for m.table.count(s) > m.pageSize() {
		half := m.table.lowerHalf(s)
		if half == s {
			break
		}
		a, err := m.ask(ctx, half)
		if err != nil {
			return nil, err
		}
		if a.total < m.table.count(half) {
			s = half
		} else {
			s.lo = half.hi + 1
		}
	}
	before := slices.Clone(m.table.in(s))
	if err := m.readSpan(ctx, s, false); err != nil {
		return nil, err
	}
	now := m.table.in(s)
	for _, r := range before {
		if _, ok := slices.BinarySearchFunc(now, r, compareIdentity); !ok && r.redisID != rejected {
			if id := m.table.names.values[r.redisID]; !slices.Contains(instances, id) {
				instances = append(instances, id)
			}
		}
	}
	return instances, nil
}

// maxInstances limits the requests of readInstances.
const maxInstances = 4

// readInstances takes tasks of some instances out of the copy that are no longer
// listed, if the instance has at most a page of them.
func (m *Mirror) readInstances(ctx context.Context, instances []string) error {
	for _, id := range instances[:min(len(instances), maxInstances)] {
		a, err := m.instancePage(ctx, id)
		if err != nil {
			return err
		}
		if !a.whole() {
			continue
		}
		slices.SortFunc(a.rows, compareRows)
		m.keepOnly(m.table.names.ids[id], a.rows)
	}
	return nil
}

// keepOnly takes the tasks of an instance out of the copy that are not in rows.
func (m *Mirror) keepOnly(id symbol, rows []row) {
	for i := range m.table.windows {
		w := &m.table.windows[i]
		if !slices.ContainsFunc(w.rows, func(r row) bool { return r.redisID == id }) {
			continue
		}
		kept := make([]row, 0, len(w.rows))
		left := within(rows, w.span)
		for _, r := range w.rows {
			if r.redisID == id {
				n, ok := slices.BinarySearchFunc(left, r, compareIdentity)
				if !ok {
					continue
				}
				left = left[n+1:]
			}
			kept = append(kept, r)
		}
		if len(kept) < len(w.rows) {
			m.compare(w.rows, kept, false)
			m.table.rows -= len(w.rows) - len(kept)
			*w = newWindow(w.span, kept, w.poll)
		}
	}
}

// instancePage requests the newest page of one instance.
func (m *Mirror) instancePage(ctx context.Context, id string) (answer, error) {
	return m.page(ctx, always, crsapi.Query{Limit: m.pageSize(), RedisID: id})
}
