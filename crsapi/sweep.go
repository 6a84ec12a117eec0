package crsapi

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// maxPages bounds a sweep. It is what maxTotal takes at 100 to a page.
	maxPages = maxTotal / 100
	// maxRereads bounds how often a list that moves is read again.
	maxRereads = 3
	// rereadFor bounds how long more than one rereading may take: a list that
	// takes seconds to read would otherwise never be done in time.
	rereadFor = 2 * time.Second
)

// Sweep is the whole list, as it stood at one moment.
type Sweep struct {
	names    *symbols
	rows     [][]row
	tasks    int
	rejected int
	pages    atomic.Int64
}

// Len returns the number of tasks.
func (s *Sweep) Len() int { return s.tasks }

// Rejected returns the number of rows that could not be read and are no task
// of the sweep.
func (s *Sweep) Rejected() int { return s.rejected }

// Pages returns the number of pages that were asked for and came, those of
// repeated readings included.
func (s *Sweep) Pages() int { return int(s.pages.Load()) }

// All yields the tasks, page after page. Their strings are shared: each
// distinct one is held once.
func (s *Sweep) All() iter.Seq[Task] {
	return func(yield func(Task) bool) {
		for _, page := range s.rows {
			for _, r := range page {
				if r.readable() && !yield(s.names.task(r)) {
					return
				}
			}
		}
	}
}

// Sweep reads the whole list: the first page tells how long it is, the rest
// go side by side, and every one must agree with the first. A list that moved
// meanwhile is read again, and merged when it does not come to rest.
//
// On failure the Sweep holds no task, but still tells Pages and Rejected. The
// error is an *Error, or wraps context.Canceled where ctx was cancelled by its
// caller before it ran out, or says what is wrong with q.
func (c *Client) Sweep(ctx context.Context, q Query) (*Sweep, error) {
	s := &Sweep{names: newSymbols()}
	rows, err := c.sweep(ctx, q, s)
	for _, page := range rows {
		rejected := countRejected(page)
		s.rejected += rejected
		s.tasks += len(page) - rejected
	}
	if err != nil {
		s.tasks = 0
		return s, fmt.Errorf("list tasks of region %s: %w", c.cfg.Region, err)
	}
	s.rows = rows
	return s, nil
}

func (c *Client) sweep(ctx context.Context, q Query, s *Sweep) ([][]row, error) {
	q.Limit, q.Offset = c.cfg.PageSize, 0
	if err := q.validate(); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	begin := time.Now()
	var seen union
	for reread := 0; ; reread++ {
		r := &reading{client: c, query: q, sweep: s}
		if err := r.read(ctx); err != nil {
			return r.pages, err
		}
		if r.settled {
			return r.pages, nil
		}
		seen.add(r.pages, r.head)
		// One reading alone may have missed a task; two hardly miss the same.
		if reread == 0 || reread < maxRereads && time.Since(begin) < rereadFor {
			continue
		}
		tail, err := r.readTail(ctx)
		if err != nil {
			return nil, err
		}
		if rows := seen.settle(r.headTotal, tail); rows != nil {
			return [][]row{rows}, nil
		}
		if reread >= maxRereads {
			return nil, decodeError("%d readings never added up to totalCount, at last %d", reread+1, r.headTotal)
		}
	}
}

// reading is one reading of all pages.
type reading struct {
	client *Client
	query  Query
	sweep  *Sweep

	total   int     // tasks listed, by the first page
	size    int     // rows to a page, as the server grants them
	pages   [][]row // in the list's order
	settled bool    // nothing moved: pages are the list

	// head is the page where new tasks show up, asked for once more when all
	// others had come, and headTotal the totalCount that it told.
	head      []row
	headTotal int
}

func (r *reading) read(ctx context.Context) error {
	first, err := r.page(ctx, 0, r.query.Limit)
	if err != nil {
		return err
	}
	r.total, r.size, r.pages = first.total, min(len(first.rows), r.query.Limit), [][]row{first.rows}
	switch {
	case len(first.rows) == r.total && r.total != r.query.Limit:
		r.settled = true
		return nil
	case len(first.rows) == 0 || len(first.rows) > r.query.Limit || len(first.rows) > r.total:
		return decodeError("page of %d rows at limit %d though totalCount is %d",
			len(first.rows), r.query.Limit, r.total)
	}
	// The last page is the one that is not full. Where totalCount is a
	// multiple of the size it is empty, and asked for all the same: only so
	// does a totalCount that is too small come to light.
	count := r.total/r.size + 1
	if count > maxPages {
		return decodeError("%d tasks at %d to a page are more than %d pages", r.total, r.size, maxPages)
	}
	inStep, err := r.readRest(ctx, count)
	if err != nil {
		return err
	}
	if err := r.checkOffsets(ctx, inStep); err != nil {
		return err
	}
	return r.checkHead(ctx, inStep)
}

// readRest reads all pages but the first, and tells whether each was as long
// as it had to be and repeated totalCount.
func (r *reading) readRest(ctx context.Context, count int) (inStep bool, err error) {
	r.pages = slices.Grow(r.pages, count-1)[:count]
	moved := make([]bool, count)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(r.client.cfg.Concurrency)
	for i := 1; i < count && groupCtx.Err() == nil; i++ {
		group.Go(func() error {
			p, err := r.page(groupCtx, i*r.size, r.size)
			if err != nil {
				return err
			}
			due := min(r.size, r.total-i*r.size)
			r.pages[i], moved[i] = p.rows, p.total != r.total || len(p.rows) != due
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	return !slices.Contains(moved, true), nil
}

// checkOffsets returns an error where the server gave a page twice because it
// takes no notice of the offset. Two pages may also be alike because their
// tasks are, so a page beyond the end decides: it must be empty.
func (r *reading) checkOffsets(ctx context.Context, inStep bool) error {
	var suspect bool
	if inStep {
		suspect = anyRepeats(r.pages)
	} else {
		suspect = !slices.ContainsFunc(r.pages[1:], func(p []row) bool { return !slices.Equal(p, r.pages[0]) })
	}
	if !suspect {
		return nil
	}
	beyond := len(r.pages) * r.size
	p, err := r.page(ctx, beyond, r.size)
	if err != nil {
		return err
	}
	if len(p.rows) > 0 && p.total <= beyond {
		return decodeError("page at offset %d of %d tasks has rows: the server ignores the offset", beyond, p.total)
	}
	return nil
}

func anyRepeats(pages [][]row) bool {
	type ends struct{ first, last row }
	seen := make(map[ends]int, len(pages))
	for i, p := range pages {
		if len(p) == 0 {
			continue
		}
		key := ends{p[0], p[len(p)-1]}
		if j, ok := seen[key]; ok && slices.Equal(p, pages[j]) {
			return true
		}
		seen[key] = i
	}
	return false
}

// checkHead asks once more for the page where new tasks show up. A task that
// was added while an old one dropped off leaves every length and total as they
// were, and the rows beneath one place further: only there does it show.
func (r *reading) checkHead(ctx context.Context, inStep bool) error {
	at := 0
	if !r.newestFirst() {
		at = (r.total - 1) / r.size
	}
	p, err := r.page(ctx, at*r.size, r.size)
	if err != nil {
		return err
	}
	r.head, r.headTotal = p.rows, p.total
	r.settled = inStep && p.total == r.total && sameTasks(p.rows, r.pages[at])
	return nil
}

// readTail asks once more for the page where old tasks drop off.
func (r *reading) readTail(ctx context.Context) ([]row, error) {
	at := 0
	if r.newestFirst() {
		at = max(r.headTotal-1, 0) / r.size
	}
	p, err := r.page(ctx, at*r.size, r.size)
	return p.rows, err
}

// newestFirst tells the list's order, newest first where it shows none: the
// document leaves it open, but all its examples are so.
func (r *reading) newestFirst() bool {
	var first, last row
	for _, page := range r.pages {
		for _, row := range page {
			if row.readable() {
				if !first.readable() {
					first = row
				}
				last = row
			}
		}
	}
	return first.start >= last.start
}

func (r *reading) page(ctx context.Context, offset, limit int) (answer, error) {
	q := r.query
	q.Offset, q.Limit = offset, limit
	a, err := r.client.fetch(ctx, q, r.sweep.names)
	if err != nil {
		return answer{}, fmt.Errorf("page at offset %d: %w", offset, err)
	}
	r.sweep.pages.Add(1)
	return a, nil
}
