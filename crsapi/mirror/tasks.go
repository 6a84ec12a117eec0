package mirror

import (
	"iter"
	"sort"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// Tasks are the tasks of a copy at one moment. They never change. A reader holds no
// lock, so no Poll waits for it.
type Tasks struct {
	names   []string
	windows [][]row // none is empty
	rows    int
}

// Tasks returns the tasks that the copy has now.
func (m *Mirror) Tasks() *Tasks {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Rows and names that are in a table do not change: a table only gets new ones.
	t := &Tasks{names: m.table.names.values, windows: make([][]row, 0, len(m.table.windows)), rows: m.table.rows}
	for i := range m.table.windows {
		if rows := m.table.windows[i].rows; len(rows) > 0 {
			t.windows = append(t.windows, rows)
		}
	}
	return t
}

// Newest yields the tasks that were submitted from one second to another, both
// included, newest first. A zero time is no bound.
func (t *Tasks) Newest(from, to time.Time) iter.Seq[crsapi.Task] {
	s := always
	if !from.IsZero() {
		s.lo = from.Unix()
	}
	if !to.IsZero() {
		s.hi = to.Unix()
	}
	names := symbols{values: t.names}
	return func(yield func(crsapi.Task) bool) {
		last := sort.Search(len(t.windows), func(i int) bool { return t.windows[i][0].start > s.hi })
		for i := last - 1; i >= 0; i-- {
			rows := within(t.windows[i], s)
			if len(rows) == 0 {
				if t.windows[i][0].start < s.lo {
					return
				}
				continue
			}
			for k := len(rows) - 1; k >= 0; k-- {
				if rows[k].redisID != rejected && !yield(names.task(&rows[k])) {
					return
				}
			}
		}
	}
}
