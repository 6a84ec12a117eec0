package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"golang.org/x/sync/errgroup"
)

// readSpan reads all tasks of a span, newest first.
func (m *Mirror) readSpan(ctx context.Context, s span, verify bool) error {
	for s.lo <= s.hi {
		a, err := m.ask(ctx, s)
		if err != nil {
			return err
		}
		if a.whole() {
			m.set(s, a.rows, verify)
			return nil
		}
		if s.hi, _, err = m.keep(ctx, s, &a, verify); err != nil {
			return err
		}
	}
	return nil
}

// readAgain reads every window of the copy, except the newest tasks, which the
// next head has.
func (m *Mirror) readAgain(ctx context.Context, cause Cause) error {
	m.result.Full = append(m.result.Full, cause)
	m.noFilter = false
	m.table.repack(m.pageSize())
	windows := slices.Clone(m.table.windows)
	if n := len(windows); n > 1 && len(windows[n-1].rows) <= m.pageSize()/2 {
		// readDown reads down to the horizon, should the next head not have them.
		windows = windows[:n-1]
		m.known = min(m.known, windows[n-2].hi)
	}
	m.expect(len(windows) + 1)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(m.cfg.Concurrency)
	for _, w := range slices.Backward(windows) {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return m.readSpan(ctx, w.span, true) })
	}
	return group.Wait()
}

func (m *Mirror) expect(pages int) {
	m.readYet.Store(0)
	m.due.Store(int64(pages))
}

// readFirst reads a list of which there is no copy. A head of it is known.
func (m *Mirror) readFirst(ctx context.Context, head answer) error {
	m.result.Full = append(m.result.Full, First)
	m.table = &table{names: m.table.names, windows: []window{{span: always}}}
	known := head.horizon()
	p := head.last()
	above := head.after(p)
	m.set(span{p + 1, endless}, above, false)
	left := head.total - len(above)
	pages := left/m.pageSize() + 1
	m.expect(pages + 1)

	reading := &reading{mirror: m, parts: []*part{{span: span{beginning, p}, left: left}}}
	// The last page of a part is half empty, so a part has some pages.
	if workers := min(m.cfg.Concurrency, pages/4); workers > 1 {
		oldest, read, err := m.readOldest(ctx, p, head.total)
		if err != nil {
			return err
		}
		if read {
			reading.parts[0].lo = oldest
		}
		reading.divide(workers, oldest)
	}
	if err := reading.run(ctx); err != nil {
		return err
	}
	m.known, m.complete = known, true
	return nil
}

// errUndecided says that no page had a second that could show whether the server
// does bounds.
var errUndecided = errors.New("no second can be asked for alone")

// maxDeeper limits the pages below the head that probe asks for.
const maxDeeper = 4

// probe asks for one second of the head alone. The answer shows whether the server
// does bounds. If it does not show what the head did, another head is asked: the
// tasks may just have left with their instance. If the head has no such second,
// as when all of it is of one, a page further down may.
func (m *Mirror) probe(ctx context.Context, head answer) error {
	a, size := head, m.pageSize()
	for deeper, wrong := 0, 0; ; {
		second, ok := a.secondAlone(deeper > 0)
		if ok {
			one, err := m.ask(ctx, span{second, second})
			if err != nil {
				return err
			}
			slices.SortFunc(one.rows, compareRows)
			if sameTasks(one.rows, a.at(second)) {
				m.bounded = true
				return nil
			}
			if wrong++; wrong == 2 {
				return errIrregular
			}
		} else {
			deeper++
		}
		offset := (1<<deeper - 1) * size
		if deeper > maxDeeper || offset >= head.total {
			return errUndecided // the next poll may have one
		}
		var err error
		if a, err = m.page(ctx, always, crsapi.Query{Limit: size, Offset: offset}); err != nil {
			return err
		}
	}
}

// secondAlone returns a second that a page has all tasks of, which no task enters,
// and which has one that ended: a server may take a bound for one of the end. A
// page below the head may have a part of its first second only.
func (a *answer) secondAlone(below bool) (second int64, ok bool) {
	if len(a.rows) == 0 {
		return 0, false
	}
	newest := a.rows[0].start
	last := a.last()
	if last <= a.date { // else the time zone is wrong
		newest = min(newest, a.date)
	}
	for _, r := range a.rows {
		switch {
		case r.start == last || below && r.start == a.rows[0].start:
		case !below && r.start > newest-lateness || isOpen(r.status) || r.redisID == rejected:
		default:
			return r.start, true
		}
	}
	return 0, false
}

// readOldest reads the last page of the list by offset. If read, it is in the copy:
// all tasks older than the second that is returned. Else that is about the second
// of the oldest task, which only divides the work.
func (m *Mirror) readOldest(ctx context.Context, p int64, total int) (oldest int64, read bool, err error) {
	size := m.pageSize()
	offset := (total - 1) / size * size
	a, err := m.page(ctx, always, crsapi.Query{Limit: size, Offset: offset})
	if err != nil || len(a.rows) == 0 {
		return 0, false, err
	}
	first := a.rows[0].start
	if first > p || offset+len(a.rows) != a.total || first == a.last() {
		return a.last(), false, nil
	}
	// What is older than the first row ends the list.
	n := 0
	for a.rows[n].start == first {
		n++
	}
	m.set(span{beginning, first - 1}, slices.Clone(a.rows[n:]), false)
	return first, true, nil
}

// reading is a full reading by several workers, each with a part of the time.
type reading struct {
	mirror *Mirror

	mu     sync.Mutex
	parts  []*part // not yet read to the end
	oldest int64   // about the second of the oldest task
}

// part is a span that one worker reads, newest first.
type part struct {
	span
	left int // about so many tasks are not read yet
}

// divide cuts the only part into equal times.
func (r *reading) divide(n int, oldest int64) {
	r.oldest = oldest
	whole := r.parts[0]
	step := (whole.hi - oldest) / int64(n)
	if step < 1 {
		return
	}
	r.parts = nil
	hi := whole.hi
	for i := range n {
		lo := hi - step + 1
		if i == n-1 {
			lo = whole.lo
		}
		r.parts = append(r.parts, &part{span{lo, hi}, whole.left / n})
		hi = lo - 1
	}
}

func (r *reading) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range slices.Clone(r.parts) {
		group.Go(func() error {
			for p != nil {
				if err := r.read(ctx, p); err != nil {
					return err
				}
				p = r.next(p)
			}
			return nil
		})
	}
	return group.Wait()
}

// read reads a part to its end, which next may move up meanwhile.
func (r *reading) read(ctx context.Context, p *part) error {
	m := r.mirror
	for {
		r.mu.Lock()
		s := p.span
		r.mu.Unlock()
		if s.lo > s.hi {
			return nil
		}
		a, err := m.ask(ctx, s)
		if err != nil {
			return err
		}
		r.mu.Lock()
		now := p.span
		if a.whole() || a.last() < now.lo {
			p.lo = s.hi + 1 // nothing is left to take
			p.hi = s.hi
			r.mu.Unlock()
			m.set(now, a.after(max(now.lo, beginning+1)-1), false)
			return nil
		}
		p.hi = a.last() // so that next takes nothing that is kept here
		r.mu.Unlock()
		hi, left, err := m.keep(ctx, s, &a, false)
		if err != nil {
			return err
		}
		r.mu.Lock()
		p.hi = hi
		if p.lo == s.lo {
			p.left = left
		} else {
			p.left = min(p.left, left)
		}
		r.mu.Unlock()
	}
}

// next gives a worker whose part is read half of the part with most tasks left,
// or nil if none has more than two pages: then it would hardly help.
func (r *reading) next(done *part) *part {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts = slices.DeleteFunc(r.parts, func(p *part) bool { return p == done })
	if len(r.parts) == 0 {
		return nil
	}
	most := slices.MaxFunc(r.parts, func(a, b *part) int { return a.left - b.left })
	if most.left <= 2*r.mirror.pageSize() {
		return nil
	}
	return r.halve(most)
}

func (r *reading) halve(p *part) *part {
	lo := p.lo
	if lo == beginning {
		lo = r.oldest
	}
	if p.hi-lo < 2 {
		return nil
	}
	mid := lo + (p.hi-lo)/2
	lower := &part{span{p.lo, mid}, p.left / 2}
	p.lo, p.left = mid+1, p.left-p.left/2
	r.parts = append(r.parts, lower)
	return lower
}

// maxDiscards limits how often in a row Verify discards the answers for a window
// because a Poll began meanwhile. Then the window is left to the next Verify.
const maxDiscards = 3

// errPolled says that a Poll began before an answer to Verify could be used.
var errPolled = errors.New("a poll began meanwhile")

// Verify reads the windows of the copy once more, one by one. It calls wait before
// each request, which returns when one may be sent. It corrects the copy; the next
// Poll proves it, and tells what was wrong. The errors are those of Poll, and those
// of wait.
func (m *Mirror) Verify(ctx context.Context, wait func(context.Context) error) error {
	m.mu.Lock()
	if m.complete {
		m.table.repack(m.pageSize())
	}
	m.mu.Unlock()
	hi := int64(endless)
	for discarded := 0; hi != beginning; {
		v := &verification{mirror: m, wait: wait}
		lo, next, err := v.window(ctx, hi)
		switch {
		case err == nil:
			hi, discarded = next, 0
		case !errors.Is(err, errPolled):
			return err
		default:
			if discarded++; discarded == maxDiscards {
				hi, discarded = before(lo), 0
			}
		}
	}
	return nil
}

// before returns the second before another one; nothing is before the beginning.
func before(second int64) int64 {
	if second == beginning {
		return beginning
	}
	return second - 1
}

// verification reads one window for Verify. Its answers are of use until the next
// Poll begins, which may know more.
type verification struct {
	mirror *Mirror
	wait   func(context.Context) error
	polls  int
	names  *symbols
}

// window verifies the newest seconds up to hi, and returns up to where the time is
// left to read, or beginning. lo is the begin of what was asked for.
func (v *verification) window(ctx context.Context, hi int64) (lo, next int64, err error) {
	m := v.mirror
	lo = hi
	if err := v.wait(ctx); err != nil {
		return lo, 0, err
	}
	m.mu.Lock()
	if !m.complete || !m.bounded || hi < m.begin {
		m.mu.Unlock()
		return lo, beginning, nil
	}
	v.polls, v.names = m.polls, m.table.names
	lo = m.table.windows[m.table.windowAt(hi)].lo
	m.mu.Unlock()
	s := span{lo, hi}
	a, err := v.page(ctx, s, crsapi.Query{Limit: m.pageSize()}, true)
	if err != nil {
		return lo, 0, err
	}
	if a.whole() {
		return lo, before(lo), v.take(s, a.rows)
	}
	last := a.last()
	if rows := a.after(last); len(rows) > 0 {
		return lo, last, v.take(span{last + 1, hi}, rows)
	}
	rows, err := m.readSecond(ctx, last, func(ctx context.Context, s span, q crsapi.Query) (answer, error) {
		return v.page(ctx, s, q, false)
	})
	if err != nil {
		return lo, 0, err
	}
	return lo, last - 1, v.take(span{last, hi}, rows)
}

// page requests a page without holding the lock.
func (v *verification) page(ctx context.Context, s span, q crsapi.Query, waited bool) (answer, error) {
	m := v.mirror
	if !waited {
		if err := v.wait(ctx); err != nil {
			return answer{}, err
		}
	}
	m.mu.Lock()
	err := v.check()
	q = m.query(s, q)
	m.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	p, err := m.cfg.Lister.Page(ctx, q)
	if err != nil {
		return answer{}, fmt.Errorf("verify the copy: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := v.check(); err != nil {
		return answer{}, err
	}
	a, err := m.answer(s, q, p)
	if errors.Is(err, errIrregular) {
		m.bounded = false // the next Poll looks whether the server still does bounds
		err = inconsistent("verify the copy: %w", err)
	}
	return a, err
}

// check returns errPolled if a Poll began, or if the strings of the table changed.
func (v *verification) check() error {
	if v.polls != v.mirror.polls || v.names != v.mirror.table.names {
		return errPolled
	}
	return nil
}

// take takes rows into the copy.
func (v *verification) take(s span, rows []row) error {
	m := v.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := v.check(); err != nil {
		return err
	}
	m.set(s, rows, true)
	return nil
}
