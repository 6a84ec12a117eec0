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
	// maxInOrder bounds the pages that are read one after the other.
	maxInOrder = 128
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
	if err := q.validate(c.cfg.API); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	begin := time.Now()
	var seen union
	var before [][]row
	for reread := 0; ; reread++ {
		r := &reading{client: c, query: q, sweep: s, last: reread == maxRereads}
		if err := r.read(ctx); err != nil {
			return r.pages, err
		}
		// A page that came twice may be a page that never came: it must do so
		// again.
		if r.settled && (!r.repeats || slices.EqualFunc(before, r.pages, slices.Equal[[]row])) {
			return r.pages, nil
		}
		before = r.pages
		seen.add(r.pages)
		// One reading alone may have missed a task; two hardly miss the same.
		if reread == 0 || reread < maxRereads && time.Since(begin) < rereadFor {
			continue
		}
		m, err := r.readEnds(ctx, &seen)
		if err != nil {
			return nil, err
		}
		if rows := seen.settle(m); rows != nil {
			return [][]row{rows}, nil
		}
		if reread >= maxRereads {
			return nil, decodeError("%d readings never added up to totalCount, at last %d", reread+1, m.total)
		}
	}
}

// reading is one reading of all pages.
type reading struct {
	client *Client
	query  Query
	sweep  *Sweep
	last   bool // there will be no other

	total   int     // tasks listed, by the first page
	size    int     // rows to a page, as the server grants them
	pages   [][]row // in the list's order
	settled bool    // nothing moved: pages are the list
	repeats bool    // a page came twice though the offset is heeded
	inOrder bool    // pages were read one after the other

	// first is the first page, asked for once more when all others had come.
	first response
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
	// does a totalCount that is too small come to light. (Above, a server that
	// caps the page and tells the cap as totalCount is believed.)
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
	return r.checkFirst(ctx, inStep)
}

// readRest reads all pages but the first, and tells whether each was as long
// as it had to be and repeated totalCount.
func (r *reading) readRest(ctx context.Context, count int) (inStep bool, err error) {
	r.pages = slices.Grow(r.pages, count-1)[:count]
	var moved, over atomic.Bool
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(r.client.cfg.Concurrency)
	// A task can hide from pages that are read side by side, if it moves on
	// from one not read yet to one that has been. Page by page it cannot.
	if r.last && count <= maxInOrder {
		r.inOrder = true
		group.SetLimit(1)
	}
	// An empty page is the end, however many totalCount promises after it.
	for i := 1; i < count && !over.Load() && groupCtx.Err() == nil; i++ {
		group.Go(func() error {
			p, err := r.page(groupCtx, i*r.size, r.size)
			if err != nil {
				return err
			}
			r.pages[i] = p.rows
			if due := min(r.size, r.total-i*r.size); p.total != r.total || len(p.rows) != due {
				moved.Store(true)
			}
			if len(p.rows) == 0 {
				over.Store(true)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	return !moved.Load(), nil
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
	r.repeats = true
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

// checkFirst asks for the first page once more. A task that was added while an
// old one dropped off leaves every length and total as they were, and moves all
// rows in between by one place: whichever end is the new one, the first page's
// too.
func (r *reading) checkFirst(ctx context.Context, inStep bool) (err error) {
	r.first, err = r.page(ctx, 0, r.size)
	r.settled = err == nil && inStep && r.first.total == r.total && sameTasks(r.first.rows, r.pages[0])
	return err
}

// readEnds reads the end where the list gains, back to what was seen before;
// then the end where it loses; then the first again, to tell how far the list
// moved meanwhile. All that they show goes into seen.
func (r *reading) readEnds(ctx context.Context, seen *union) (m moment, err error) {
	gaining, losing := r.readHead, r.readLast
	if !r.newestFirst() {
		gaining, losing = r.readTail, r.readFirst
	}
	newest, total, err := gaining(ctx, r.first.total, seen)
	if err != nil {
		return m, err
	}
	seen.addAgain(newest)
	oldest, _, err := losing(ctx, total, seen)
	if err != nil {
		return m, err
	}
	again, totalAgain, err := gaining(ctx, total, seen)
	if err != nil {
		return m, err
	}
	added := 0
	for _, page := range again {
		for _, row := range page {
			if !seen.has(row) {
				added++
			}
		}
	}
	seen.addAgain(oldest)
	m = moment{total: total, oldest: oldest}
	// Where a task may have hidden between two pages, as one does at every loss
	// of a list that loses at its front, another that dropped off could stand
	// in for it. A number that needs such a guess is none.
	if r.inOrder && r.newestFirst() {
		m.lost = max(total+added-totalAgain, 0)
	}
	return m, nil
}

// readHead reads from the first page on until a page shows what was seen. The
// total is of when the first was read: what is added after that is not there.
func (r *reading) readHead(ctx context.Context, _ int, seen *union) (pages [][]row, total int, err error) {
	for i := 0; i <= maxPages; i++ {
		p, err := r.page(ctx, i*r.size, r.size)
		if err != nil {
			return nil, 0, err
		}
		if i == 0 {
			total = p.total
		}
		pages = append(pages, p.rows)
		if len(p.rows) < r.size || slices.ContainsFunc(p.rows, seen.has) {
			break
		}
	}
	return pages, total, nil
}

// readTail reads the last pages, and those before them down to one that shows
// what was seen.
func (r *reading) readTail(ctx context.Context, total int, seen *union) (pages [][]row, newTotal int, err error) {
	pages, newTotal, err = r.readLast(ctx, total, seen)
	for i := max(total-1, 0)/r.size - 1; err == nil && i >= 0 && !slices.ContainsFunc(pages[0], seen.has); i-- {
		var p response
		p, err = r.page(ctx, i*r.size, r.size)
		pages = slices.Insert(pages, 0, p.rows)
	}
	return pages, newTotal, err
}

func (r *reading) readFirst(ctx context.Context, _ int, _ *union) (pages [][]row, total int, err error) {
	p, err := r.page(ctx, 0, r.size)
	return [][]row{p.rows}, p.total, err
}

// readLast asks for the last page of a list of so many tasks, and for those
// after it until one is not full: only then is it the list's end.
func (r *reading) readLast(ctx context.Context, total int, _ *union) (pages [][]row, newTotal int, err error) {
	for i := max(total-1, 0) / r.size; i <= maxPages; i++ {
		p, err := r.page(ctx, i*r.size, r.size)
		if err != nil {
			return nil, 0, err
		}
		pages, newTotal = append(pages, p.rows), p.total
		if len(p.rows) < r.size {
			break
		}
	}
	return pages, newTotal, nil
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

func (r *reading) page(ctx context.Context, offset, limit int) (response, error) {
	q := r.query
	q.Offset, q.Limit = offset, limit
	a, err := r.client.fetch(ctx, r.client.protocol.list(q), r.sweep.names)
	if err != nil {
		return response{}, fmt.Errorf("page at offset %d: %w", offset, err)
	}
	r.sweep.pages.Add(1)
	return a, nil
}
