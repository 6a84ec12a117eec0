package mirror

import (
	"context"
	"errors"
	"slices"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"golang.org/x/sync/errgroup"
)

// maxFutile limits the readings in a row that show no task that is new.
const maxFutile = 4

// readByOffset reads the tasks from lo up to hi by limit and offset; the first page is
// known. rest is what the last page shows of older tasks.
//
// A server that sorts by time alone may return tasks of a second in another order for
// each page: one comes twice, and another never. So a task counts as often as one page
// shows it, and pages of several sizes are read until all are seen, or until pages of
// two sizes show the same tasks in the same places: then the order is stable, and each
// place is a task.
func (m *Mirror) readByOffset(ctx context.Context, first answer, lo, hi int64) (seen []row, rest answer, err error) {
	read := m.readPages
	if lo == beginning && !m.pageTotals { // so it is known how many pages there are
		read = m.readAllPages
	}
	places := map[int][]row{} // by size of the pages
	n, futile := 0, 0
	widest := m.cfg.Lister.API().MaxPageSize()
	for i := 0; futile < maxFutile; i++ {
		if i > 0 {
			size := min(m.size, m.limit)
			sizes := []int{max(size, widest), size, size - size/10, size - size/4}
			first, err = m.page(ctx, hi, crsapi.Query{Limit: sizes[(i-1)%len(sizes)]})
			if isRefused(err) && widest > m.limit {
				widest = m.limit
				continue
			}
			if err != nil {
				return nil, rest, err
			}
		}
		var pages [][]row
		pages, rest, err = read(ctx, first, lo, hi)
		futile++
		if errors.Is(err, errMoved) && (lo > beginning || !m.complete) {
			n = 0
			continue // with a copy, the poll goes on from that
		}
		if err != nil {
			return nil, rest, err
		}
		size, all, rows := len(first.rows), slices.Concat(pages...), unite(pages)
		if lo == beginning {
			m.unsorted = !slices.IsSortedFunc(all, func(a, b row) int { return b.StartTime.Compare(a.StartTime) })
		}
		if len(all) == n && lo == hi { // other readings of a long list may be of other tasks
			if rows = union(seen, rows); len(rows) > len(seen) {
				futile = 0
			}
		}
		if seen, n = rows, len(all); len(seen) == n {
			return seen, rest, nil
		}
		for other, rows := range places {
			if other != size && slices.EqualFunc(rows, all, func(a, b row) bool { return compareIdentity(&a, &b) == 0 }) {
				slices.SortFunc(all, compare)
				return all, rest, nil
			}
		}
		places[size] = all
	}
	if err != nil {
		return nil, rest, err
	}
	return nil, rest, inconsistent("pages by offset show %d of %d tasks", len(seen), n)
}

// readPages reads on from the first page until all from lo on is read. If totalCount
// is that of the page, the last page is the one that is not full.
func (m *Mirror) readPages(ctx context.Context, a answer, lo, hi int64) (pages [][]row, rest answer, err error) {
	for n, total, size := 0, a.total, len(a.rows); ; {
		k := 0
		for k < len(a.rows) && second(&a.rows[k]) >= lo {
			k++
		}
		pages = append(pages, a.rows[:k])
		n += k
		if k < len(a.rows) || k < size || k == 0 || n == total && !m.pageTotals {
			return pages, answer{a.rows[k:], total - n, a.date}, nil
		}
		if a, err = m.page(ctx, hi, crsapi.Query{Limit: size, Offset: n}); err != nil {
			return nil, rest, err
		}
		if !m.pageTotals && (a.total != total || len(a.rows) != min(size, total-n)) {
			return nil, rest, errMoved
		}
	}
}

// readAllPages is readPages for the whole list, whose pages it reads side by side.
// If the last page is full, the one behind it must be empty.
func (m *Mirror) readAllPages(ctx context.Context, first answer, _, hi int64) (pages [][]row, rest answer, err error) {
	size := len(first.rows)
	if first.whole() {
		return [][]row{first.rows}, rest, nil
	}
	pages = make([][]row, first.total/size+1)
	pages[0] = first.rows
	m.expect(len(pages) + 1)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(m.cfg.Concurrency)
	for i := 1; i < len(pages); i++ {
		group.Go(func() error {
			a, err := m.page(ctx, hi, crsapi.Query{Limit: size, Offset: i * size})
			if err == nil && (a.total != first.total || len(a.rows) != min(size, first.total-i*size)) {
				err = errMoved
			}
			pages[i] = a.rows
			return err
		})
	}
	return pages, rest, group.Wait()
}

// unite returns the union of pages.
func unite(pages [][]row) []row {
	if n := len(pages); n > 1 {
		return union(unite(pages[:n/2]), unite(pages[n/2:]))
	}
	return slices.SortedFunc(slices.Values(slices.Concat(pages...)), compare)
}

// keepsCopy reports whether the copy can be brought up to date by offset. A list in
// another order does not show what is new. With Lookback, it depends on the server
// whether older tasks are listed.
func (m *Mirror) keepsCopy() bool {
	return m.complete && !m.unsorted && !m.pageTotals && m.cfg.Lookback == 0
}

// readList reads all pages between two heads that are the same.
func (m *Mirror) readList(ctx context.Context) error {
	head, err := m.head(ctx)
	if err != nil {
		return err
	}
	rows, _, err := m.readByOffset(ctx, head, beginning, endless)
	if err != nil {
		return err
	}
	if len(rows) > len(head.rows) {
		again, err := m.head(ctx)
		if err != nil {
			return err
		}
		before, after := head.between(beginning, endless), again.between(beginning, endless)
		// Tasks of a second may be in another order now.
		same := sameTasks(before, after) || !m.unsorted && common(rows, after) == len(after)
		if again.total != head.total || !same {
			return errMoved
		}
	}
	// A server that ignores the begin lists what is before Lookback, too.
	m.rows = slices.DeleteFunc(rows, func(r row) bool { return second(&r) < m.begin && !r.StartTime.IsZero() })
	m.known, m.complete = m.horizon(&head), true
	m.turn, m.fullRead = beginning, m.began
	return nil
}

// readPlaces reads all tasks after lo up to hi by offset: the place of a task in the
// list is that in the copy, except within its second.
func (m *Mirror) readPlaces(ctx context.Context, lo, hi int64) ([]row, error) {
	var all answer
	size, n := m.size, len(m.rows)
	for i := (n - m.count(hi)) / size * size; i < n-m.count(lo); i += size {
		a, err := m.page(ctx, endless, crsapi.Query{Limit: size, Offset: i})
		if err != nil {
			return nil, err
		}
		if a.total != n {
			return nil, errMoved
		}
		all.rows = append(all.rows, a.rows...)
	}
	rows := all.between(lo, hi)
	if !sameTasks(m.between(lo, hi), rows) {
		return nil, irregular{text: "pages show other tasks than the copy has in their place"}
	}
	return rows, nil
}

// takeOutOldest takes tasks out of the copy that are older than the last page of a list
// of so many tasks.
func (m *Mirror) takeOutOldest(ctx context.Context, total int) error {
	size := m.size
	a, err := m.page(ctx, endless, crsapi.Query{Limit: size, Offset: (total - 1) / size * size})
	if err != nil {
		return err
	}
	if a.total != total || len(a.rows) == 0 {
		return nil // the next head shows what has changed
	}
	oldest := a.between(beginning, endless)
	newest := second(&oldest[len(oldest)-1])
	m.replace(beginning, newest-1, oldest[:upTo(oldest, newest-1)])
	if len(m.rows) > total {
		return irregular{text: "tasks have left from within the list"}
	}
	return nil
}
