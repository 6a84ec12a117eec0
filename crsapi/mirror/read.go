package mirror

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"golang.org/x/sync/errgroup"
)

// stretch is what pages below each other show.
type stretch struct {
	rows []row // all that is listed after lo, in order
	lo   int64
	left int   // tasks listed up to lo
	at   []row // some of them, of the second lo
	// clean says that each total was what the page before left: below each page the
	// list was at rest until the next was read.
	clean bool
	pages int // after the first
}

// errElsewhere is the error of a page that lacks the tasks that the page above it shows
// of the same second.
var errElsewhere = irregular{text: "endTime does not include all tasks submitted in its second"}

// down reads on from a page, the newest first, until all after lo is read.
func (m *Mirror) down(ctx context.Context, a answer, lo int64) (s stretch, err error) {
	s.clean = true
	var parts [][]row
	for {
		if a.whole() {
			parts = append(parts, a.between(beginning, endless))
			s.lo, s.left, s.at = beginning, 0, nil
			break
		}
		s.lo = a.last()
		rows := a.between(s.lo, endless)
		s.left, s.at = a.total-len(rows), a.between(s.lo-1, s.lo)
		if s.lo > lo && len(rows) == 0 { // the second has more than a page
			rows, rest, err := m.readByOffset(ctx, a, s.lo, s.lo)
			if err == nil {
				err = m.check(&rest, s.lo-1)
			}
			if err == nil && common(rows, s.at) == 0 {
				err = errElsewhere
			}
			if err != nil {
				return s, err
			}
			s.pages++
			s.clean = s.clean && len(rows)+rest.total == s.left
			parts, a = append(parts, rows), rest
			continue
		}
		if parts = append(parts, rows); s.lo <= lo {
			break
		}
		if a, err = m.ask(ctx, s.lo, crsapi.Query{}); err != nil {
			return s, err
		}
		s.pages++
		s.clean = s.clean && a.total == s.left
		// This page has the tasks that the page above shows of its last second, unless
		// an instance was deleted. A server that excludes the end, or compares it with
		// the end of the task, returns none of them.
		if (a.whole() || a.last() < s.lo) && len(s.at) > 0 && common(a.between(s.lo-1, s.lo), s.at) == 0 {
			return s, errElsewhere
		}
	}
	slices.Reverse(parts)
	s.rows = slices.Concat(parts...)
	return s, nil
}

// readWindows reads the windows of the copy that are due, side by side.
func (m *Mirror) readWindows(ctx context.Context, cuts []int64, due []bool) error {
	parts := make([][]row, len(cuts)+1)
	parts[len(cuts)] = m.between(cuts[len(cuts)-1], endless)
	changed := atomic.Bool{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(m.cfg.Concurrency)
	lo := int64(beginning)
	for i, hi := range cuts {
		if parts[i] = m.between(lo, hi); due[i] {
			lo := lo
			group.Go(func() error {
				rows, err := m.readWindow(ctx, lo, hi)
				if err == nil && !slices.Equal(rows, parts[i]) {
					parts[i] = rows
					changed.Store(true)
				}
				return err
			})
		}
		lo = hi
	}
	err := group.Wait()
	if err == nil && changed.Load() {
		m.rows = slices.Concat(parts...)
	}
	return err
}

// readWindow reads all tasks after lo up to hi.
func (m *Mirror) readWindow(ctx context.Context, lo, hi int64) ([]row, error) {
	if m.byOffset != "" {
		return m.readPlaces(ctx, lo, hi)
	}
	a, err := m.ask(ctx, hi, crsapi.Query{})
	if err != nil {
		return nil, err
	}
	s, err := m.down(ctx, a, lo)
	return s.rows[upTo(s.rows, lo):], err
}

// readFirst reads a list of which there is no copy, in equal parts side by side. If
// it is too short for that, it returns the head, from which prove reads on.
func (m *Mirror) readFirst(ctx context.Context) (*answer, error) {
	m.rows, m.known = nil, beginning
	head, err := m.askHead(ctx)
	if err != nil {
		return nil, err
	}
	n := min(m.cfg.Concurrency, head.total/m.size/6)
	m.expect(head.total/m.size + max(n, 1))
	if n < 2 {
		return &head, nil
	}
	last := head.last()
	cuts := make([]int64, n)
	cuts[0] = last
	group, groupCtx := errgroup.WithContext(ctx)
	for i := 1; i < n; i++ {
		group.Go(func() error {
			// The second only divides the work.
			a, err := m.ask(groupCtx, endless, crsapi.Query{Limit: 1, Offset: head.total * i / n})
			if cuts[i] = last; len(a.rows) > 0 {
				cuts[i] = min(last, a.last())
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(cuts)
	m.rows = head.between(last, endless)
	cuts = slices.Compact(cuts)
	if err := m.readWindows(ctx, cuts, slices.Repeat([]bool{true}, len(cuts))); err != nil {
		return nil, err
	}
	m.known, m.complete = m.horizon(&head), true
	return nil, nil
}
