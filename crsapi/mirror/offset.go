package mirror

import (
	"context"
	"slices"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// maxByOffset limits the readings of one poll by limit and offset.
const maxByOffset = 4

// pollByOffset reads the list page by page, as the only way with a server that
// does no bounds. A task that leaves while another is added may go unnoticed.
func (m *Mirror) pollByOffset(ctx context.Context) error {
	cause := Due
	if !m.complete {
		cause = First
	}
	m.result.Full = append(m.result.Full, cause)
	var seen []row
	last := 0
	sizes := m.sizes()[1:] // the pages end elsewhere each time
	for i := range maxByOffset {
		rows, total, known, err := m.readByOffset(ctx, sizes[i%len(sizes)])
		switch {
		case err != nil:
			return err
		case rows == nil:
			seen = nil // the list changed
			continue
		case len(rows) < total && total == last:
			rows = union(seen, rows)
		}
		last = total
		if len(rows) == total {
			m.set(always, m.wanted(rows), true)
			m.known, m.complete = known, true
			m.table.repack(m.pageSize())
			return nil
		}
		seen = rows
	}
	return inconsistent("%d readings by offset do not add up to totalCount", maxByOffset)
}

// wanted returns a copy of the rows without those before Lookback, which a server
// that ignores the bound lists.
func (m *Mirror) wanted(rows []row) []row {
	kept := make([]row, 0, len(rows))
	for _, r := range rows {
		if r.start >= m.begin || r.redisID == rejected && r.start == beginning {
			kept = append(kept, r)
		}
	}
	return kept
}

// readByOffset reads all pages. The rows are nil if the list changed meanwhile.
// A task counts as often as one page shows it, for on two pages it may be one that
// moved: they may be fewer than total. known is the horizon of what was read.
func (m *Mirror) readByOffset(ctx context.Context, size int) (rows []row, total int, known int64, err error) {
	first, err := m.pageAt(ctx, 0, size)
	if err != nil {
		return nil, 0, 0, err
	}
	total, size, known = first.total, len(first.rows), first.horizon()
	slices.SortFunc(first.rows, compareRows)
	if first.whole() {
		return append([]row{}, first.rows...), total, known, nil
	}
	if size == 0 {
		return nil, 0, 0, inconsistent("an empty page though totalCount is %d", total)
	}
	m.expect(total/size + 2)
	pages := [][]row{first.rows}
	checked := false
	for offset := size; offset < total; offset += size {
		a, err := m.pageAt(ctx, offset, size)
		if err != nil {
			return nil, 0, 0, err
		}
		if a.total != total || len(a.rows) != min(size, total-offset) {
			return nil, 0, 0, nil
		}
		slices.SortFunc(a.rows, compareRows)
		if !checked && sameTasks(first.rows, a.rows) { // twins, or the same page
			checked = true
			if err := m.checkOffsets(ctx, total, size); err != nil {
				return nil, 0, 0, err
			}
		}
		pages = append(pages, a.rows)
	}
	again, err := m.pageAt(ctx, 0, size)
	if err != nil {
		return nil, 0, 0, err
	}
	slices.SortFunc(again.rows, compareRows)
	if again.total != total || !sameTasks(first.rows, again.rows) {
		return nil, 0, 0, nil
	}
	for len(pages) > 1 { // in pairs, so that a row is copied a few times only
		for i := 0; i+1 < len(pages); i += 2 {
			pages[i/2] = union(pages[i], pages[i+1])
		}
		if n := len(pages); n%2 == 1 {
			pages[n/2] = pages[n-1]
		}
		pages = pages[:(len(pages)+1)/2]
	}
	if rows = pages[0]; len(rows) == total {
		return rows, total, known, nil
	}
	if !checked {
		err = m.checkOffsets(ctx, total, size)
	}
	return rows, total, known, err
}

// checkOffsets returns an error if the server ignores the offset: then it has a
// page beyond the end.
func (m *Mirror) checkOffsets(ctx context.Context, total, size int) error {
	beyond := (total + size - 1) / size * size
	a, err := m.pageAt(ctx, beyond, size)
	if err == nil && len(a.rows) > 0 && a.total <= beyond {
		err = inconsistent("page at offset %d of %d tasks has rows: the server ignores the offset", beyond, a.total)
	}
	return err
}

// pageAt requests one page in whatever order the server has.
func (m *Mirror) pageAt(ctx context.Context, offset, size int) (answer, error) {
	q := m.query(always, crsapi.Query{Limit: size, Offset: offset})
	p, err := m.fetch(ctx, q)
	if err != nil {
		return answer{}, err
	}
	a := m.unchecked(p)
	return a, a.check(q.Limit)
}

// horizon returns up to where what is read from now on has every task.
func (a *answer) horizon() int64 {
	newest := int64(beginning)
	for _, r := range a.rows {
		if r.start <= a.date {
			newest = max(newest, r.start)
		}
	}
	if newest == beginning {
		newest = a.date
	}
	return newest - lateness
}
