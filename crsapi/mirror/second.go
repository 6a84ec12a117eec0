package mirror

import (
	"context"
	"slices"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const (
	// maxReadings limits the readings of one second.
	maxReadings = 16
	// maxFutile limits the readings in a row that show no task that is new.
	maxFutile = 4
)

// readSecond reads a second that has more tasks than a page, by offset. A server
// that sorts by time alone may give its tasks in another order for each page: one
// comes twice, and another never. So a task counts as often as one answer shows
// it, and pages of several sizes are read until the sum is the total.
func (m *Mirror) readSecond(ctx context.Context, second int64, get getPage) ([]row, error) {
	var seen []row
	total, futile := 0, 0
	sizes := m.sizes()
	limit := sizes[0] // the fewest rows that came where more were asked for
	for i := range maxReadings {
		size := min(sizes[i%len(sizes)], limit)
		rows, n, err := readPages(ctx, span{second, second}, size, &limit, seen, get)
		if err != nil {
			return nil, err
		}
		if i > 0 && n != total {
			// The second has changed since the last reading: only this one counts.
			if rows, n, err = readPages(ctx, span{second, second}, min(size, limit), &limit, nil, get); err != nil {
				return nil, err
			}
		}
		futile++
		if len(rows) != len(seen) {
			futile = 0
		}
		seen, total = rows, n
		if len(seen) == total {
			return seen, nil
		}
		if futile == maxFutile {
			break
		}
	}
	return nil, inconsistent("the pages of one second with %d tasks show %d", total, len(seen))
}

// getPage requests one page of a span, as Mirror.page does.
type getPage func(context.Context, span, crsapi.Query) (answer, error)

// sizes are the sizes of pages that readSecond uses.
func (m *Mirror) sizes() []int {
	n := m.pageSize()
	sizes := []int{max(n, m.cfg.Lister.API().MaxPageSize()), n, n - n/10, n - n/4}
	return slices.DeleteFunc(sizes, func(size int) bool { return size < 1 })
}

// readPages reads a span by offset. It returns what these pages and seen show, in
// order, and the total, or -1 if that changed. It lowers limit to the rows of a
// page that has fewer than it should.
func readPages(ctx context.Context, s span, size int, limit *int, seen []row, get getPage) (rows []row, total int, err error) {
	rows = seen
	for offset := 0; ; offset += size {
		a, err := get(ctx, s, crsapi.Query{Limit: size, Offset: offset})
		if err != nil {
			return nil, 0, err
		}
		if offset == 0 {
			total = a.total
		} else if a.total != total {
			return rows, -1, nil
		}
		if n := len(a.rows); n < min(size, total-offset) {
			*limit = min(*limit, max(n, 1))
			if offset == 0 {
				size = max(n, 1)
			}
		}
		slices.SortFunc(a.rows, compareRows)
		rows = union(rows, a.rows)
		if offset+size >= total || len(a.rows) == 0 {
			return rows, total, nil
		}
	}
}

// union returns each task as often as one of two sets of sorted rows has it, with
// the statuses of the second.
func union(a, b []row) []row {
	if len(a) == 0 {
		return b
	}
	all := make([]row, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(a) == 0:
			return append(all, b...)
		case len(b) == 0:
			return append(all, a...)
		}
		switch order := compareIdentity(a[0], b[0]); {
		case order < 0:
			all, a = append(all, a[0]), a[1:]
		case order > 0:
			all, b = append(all, b[0]), b[1:]
		default:
			all, a, b = append(all, b[0]), a[1:], b[1:]
		}
	}
	return all
}
