package mirror

import (
	"context"
	"slices"
	"sort"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// readStatuses reads the status of each task up to p that may have changed and
// was not read in this poll. again says that the answers show another list than
// the head did.
func (m *Mirror) readStatuses(ctx context.Context, p int64) (again bool, err error) {
	if m.statuses == m.polls {
		return false, nil // what is not in the copy since, this poll has read
	}
	var unclear []int64 // seconds whose statuses must be read without a filter
	for _, kind := range []struct {
		span    span
		has     func(w *window) int
		matches func(crsapi.Status) bool
		filter  []crsapi.Status
	}{
		{span{beginning, p}, func(w *window) int { return w.open }, isOpen, []crsapi.Status{crsapi.StatusPending, crsapi.StatusExecuting}},
		{span{m.known - mayReopen, p}, func(w *window) int { return w.failed }, isFailed, []crsapi.Status{crsapi.StatusFailed, crsapi.StatusError}},
	} {
		held := m.unread(kind.span, kind.has, kind.matches)
		if len(held) == 0 {
			continue
		}
		filter := m.filter(kind.filter)
		if filter == nil {
			unclear = append(unclear, secondsOf(held)...)
			continue
		}
		listed, ok, err := m.readByStatus(ctx, kind.span, filter)
		if err != nil {
			return false, err
		}
		if !ok {
			listed = nil // all is unclear
		}
		unclear = append(unclear, m.takeStatuses(held, listed)...)
	}
	slices.Sort(unclear)
	return m.readSeconds(ctx, slices.Compact(unclear))
}

// unread returns the rows of a span with some statuses, except those that this
// poll has read.
func (m *Mirror) unread(s span, has func(*window) int, matches func(crsapi.Status) bool) []row {
	var rows []row
	i, j := m.table.overlapping(s)
	for k := i; k < j; k++ {
		w := &m.table.windows[k]
		if has(w) == 0 || w.poll == m.polls {
			continue
		}
		for _, r := range within(w.rows, s) {
			if r.redisID != rejected && matches(r.status) {
				rows = append(rows, r)
			}
		}
	}
	return rows
}

// filter returns what the API can filter by at once of some statuses, or nil.
func (m *Mirror) filter(statuses []crsapi.Status) []crsapi.Status {
	if m.noFilter {
		return nil
	}
	var possible []crsapi.Status
	for _, s := range statuses {
		if slices.Contains(m.cfg.Lister.API().StatusFilters(), s) {
			possible = append(possible, s)
		}
	}
	return possible
}

// readByStatus reads the tasks of a span with some statuses, newest first. ok is
// false if the server does not filter, or if a second has more than a page.
func (m *Mirror) readByStatus(ctx context.Context, s span, statuses []crsapi.Status) (rows []row, ok bool, err error) {
	for {
		a, err := m.page(ctx, s, crsapi.Query{Limit: m.pageSize(), Statuses: statuses})
		if err != nil {
			return nil, false, err
		}
		for _, r := range a.rows {
			if r.redisID != rejected && !slices.Contains(statuses, r.status) {
				m.noFilter = true
				return nil, false, nil
			}
		}
		last := int64(beginning)
		if !a.whole() {
			last = a.last()
			if len(a.after(last)) == 0 {
				return nil, false, nil
			}
		}
		for _, r := range a.rows {
			// A row that cannot be read has no status, and matches any filter.
			if r.start > last && r.redisID != rejected {
				rows = append(rows, r)
			}
		}
		if a.whole() {
			return rows, true, nil
		}
		s.hi = last
	}
}

// takeStatuses gives the tasks of the copy the statuses that were listed for
// them. It returns the seconds in which the two are not the same tasks: a status
// has changed to one that was not asked for, or from one.
func (m *Mirror) takeStatuses(held, listed []row) (unclear []int64) {
	slices.SortFunc(listed, compareRows)
	all := secondsOf(held)
	all = append(all, secondsOf(listed)...)
	slices.Sort(all)
	for _, second := range slices.Compact(all) {
		one := span{second, second}
		was, now := within(held, one), within(listed, one)
		if !sameTasks(was, now) {
			if len(was) > 0 || !m.readInThisPoll(second) {
				unclear = append(unclear, second)
			}
			continue
		}
		if !slices.Equal(was, now) {
			m.update(second, was, now)
		}
	}
	return unclear
}

func (m *Mirror) readInThisPoll(second int64) bool {
	return m.table.windows[m.table.windowAt(second)].poll == m.polls
}

// update replaces rows of one second by what is listed for the same tasks.
func (m *Mirror) update(second int64, was, now []row) {
	w := &m.table.windows[m.table.windowAt(second)]
	rows := slices.Clone(w.rows)
	n := 0
	for i := range rows { // both are in order
		if n < len(was) && rows[i] == was[n] {
			rows[i] = now[n]
			n++
		}
	}
	slices.SortFunc(rows, compareRows)
	m.compare(w.rows, rows, false)
	*w = newWindow(w.span, rows, w.poll)
}

// readSeconds reads some seconds without a filter, in as few requests as their
// tasks in the copy fit in. again says that they have other tasks than the copy.
func (m *Mirror) readSeconds(ctx context.Context, seconds []int64) (again bool, err error) {
	for len(seconds) > 0 {
		s := span{seconds[0], seconds[0]}
		n := 1
		for n < len(seconds) && m.table.count(span{s.lo, seconds[n]}) <= m.pageSize() {
			s.hi = seconds[n]
			n++
		}
		seconds = seconds[n:]
		before := slices.Clone(m.table.in(s))
		if err := m.readSpan(ctx, s, false); err != nil {
			return false, err
		}
		again = again || !sameTasks(before, m.table.in(s))
	}
	return again, nil
}

// secondsOf returns the distinct seconds of sorted rows.
func secondsOf(rows []row) []int64 {
	var all []int64
	for len(rows) > 0 {
		all = append(all, rows[0].start)
		rows = rows[sort.Search(len(rows), func(i int) bool { return rows[i].start > rows[0].start }):]
	}
	return all
}
