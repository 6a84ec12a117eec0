package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const (
	// lateness is how far below the newest known task a new one may appear.
	lateness = 60 // seconds
	// mayReopen is how long a failed task may still change: a retry reopens it.
	mayReopen = 24 * 60 * 60 // seconds
	// maxRounds limits the heads of one attempt to prove the copy.
	maxRounds = 4
	// maxFull limits the full readings of one poll.
	maxFull = 2
	// maxUnproven is the number of full readings in a row that prove nothing,
	// after which only limit and offset are used, for a time of distrust.
	maxUnproven = 3
	distrust    = time.Hour
	// maxChanged limits the changes that are kept one by one.
	maxChanged = 100_000
)

// Lister reads one page of a region's list. *crsapi.Client is one.
type Lister interface {
	API() crsapi.API
	Page(ctx context.Context, q crsapi.Query) (*crsapi.Page, error)
}

// Config configures a Mirror.
type Config struct {
	Lister Lister
	// RedisID and TaskTypes limit the list, as those of crsapi.Query do.
	RedisID   string
	TaskTypes []string
	// Lookback limits the list to tasks submitted within this duration; 0 for all.
	Lookback time.Duration
	// PageSize is the number of tasks to ask for; the server may return fewer.
	PageSize int
	// Concurrency is the maximum number of requests in flight.
	Concurrency int
}

// turn is a lock that is held while requests are sent. Who waits for a sync.Mutex
// stops the clock of a testing/synctest bubble; who waits for a turn does not.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// Mirror keeps a copy of one list. Its methods may be called from several
// goroutines at once; they wait for a Poll in progress.
type Mirror struct {
	cfg Config

	mu    turn  // held during a Poll, and while Verify applies an answer
	polls int   // polls begun
	begin int64 // the oldest second that the list has; beginning without Lookback

	work  sync.Mutex // for the goroutines of a Poll
	table *table
	size  int // rows of a page

	// known is the horizon of the copy: it has every listed task up to this
	// second, and perhaps some that have left. Valid if complete.
	known    int64
	complete bool
	// bounded says that the server was seen to do bounds.
	bounded  bool
	noFilter bool // the server ignores the filter by status
	statuses int  // the last poll that read every status that may have changed
	unproven int  // full readings in a row that proved nothing
	byOffset time.Time

	clock crsapi.Clock // by the Date headers

	changed map[Key]struct{} // since the last successful Poll
	whole   bool             // everything changed

	result  *Result      // of the Poll in progress
	pages   atomic.Int64 // of the Poll in progress
	due     atomic.Int64 // pages of the full reading in progress; 0 if none
	readYet atomic.Int64 // of them, pages read
}

// Key names the tasks of one instance and name that were submitted in one second.
type Key struct {
	RedisID, TaskName string
	Second            int64 // UNIX seconds
}

// Cause is why a list was read in full.
type Cause string

// The causes.
const (
	First    Cause = "first"    // there was no copy
	Due      Cause = "due"      // it was asked for
	Mismatch Cause = "mismatch" // the copy did not add up
)

// Causes returns all causes.
func Causes() []Cause { return []Cause{First, Due, Mismatch} }

// Result is what a Poll did.
type Result struct {
	// Changed are the tasks that changed since the last successful Poll. Whole
	// says that everything may have changed; Changed is then nil.
	Changed map[Key]struct{}
	Whole   bool

	Pages       int     // pages read
	Rejected    int     // listed rows that could not be read
	Full        []Cause // full readings
	Corrections int     // what full readings and Verify found wrong in the copy since the last Poll
}

// New returns a Mirror without a copy.
func New(cfg Config) *Mirror {
	cfg.PageSize, cfg.Concurrency = max(1, cfg.PageSize), max(1, cfg.Concurrency)
	return &Mirror{cfg: cfg, mu: make(turn, 1), table: newTable(), size: cfg.PageSize, whole: true, changed: map[Key]struct{}{}, result: &Result{}}
}

// errIrregular is wrapped by the errors of answers that only limit and offset can
// explain: rows outside the bounds, or in another order than newest first.
var errIrregular = errors.New("the server does not do bounds")

// Poll brings the copy up to date and proves that it is the list. With full, it
// reads all of it; else only what may have changed, unless the copy does not add
// up. After an error the Result has Pages, Full and Corrections only. The errors
// are those of crsapi.Client.Page, wrapped, or an *crsapi.Error with ReasonDecode
// if the answers do not add up.
func (m *Mirror) Poll(ctx context.Context, full bool) (*Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.polls++
	r := m.result
	m.pages.Store(0)
	defer m.due.Store(0)
	err := m.poll(ctx, full)
	m.result = &Result{}
	r.Pages = int(m.pages.Load())
	if err != nil {
		return r, err
	}
	r.Whole, r.Changed = m.whole, m.changed
	if r.Whole {
		r.Changed = nil
	}
	m.whole, m.changed = false, map[Key]struct{}{}
	for i := range m.table.windows {
		r.Rejected += m.table.windows[i].rejected
	}
	return r, nil
}

func (m *Mirror) poll(ctx context.Context, full bool) error {
	if m.table.names.grown() {
		m.table.dropNames()
	}
	m.begin = beginning
	if m.cfg.Lookback > 0 {
		m.begin = m.clock.Time(time.Now()).Add(-m.cfg.Lookback).Unix()
		m.set(span{beginning, m.begin - 1}, nil, false)
	}
	if time.Now().Before(m.byOffset) {
		return m.pollByOffset(ctx)
	}
	err := m.pollByBounds(ctx, full)
	switch {
	case errors.Is(err, errIrregular):
		m.byOffset, m.bounded = time.Now().Add(distrust), false
		return m.pollByOffset(ctx)
	case errors.Is(err, errUndecided):
		return m.pollByOffset(ctx)
	}
	return err
}

// pollByBounds reads what is due and proves the copy.
func (m *Mirror) pollByBounds(ctx context.Context, full bool) error {
	// A list that fits in the head is read by the head. Else it must be known that
	// the server does bounds.
	first, due := !m.complete, full && m.complete
	if due && m.bounded && m.table.rows > m.pageSize() {
		if err := m.readAgain(ctx, Due); err != nil {
			return err
		}
		due = false
	}
	for n := 0; ; n++ {
		head, found, err := m.prove(ctx)
		switch {
		case err != nil:
			return err
		case found == proven && due && !head.whole():
			if err := m.readAgain(ctx, Due); err != nil {
				return err
			}
			due = false
			continue
		case found == proven:
			m.unproven = 0
			if head.whole() {
				m.readWhole(first, full)
			}
			return nil
		case found == lacking && n > 0:
			m.unproven++
		}
		if m.unproven >= maxUnproven {
			return fmt.Errorf("%d full readings do not add up: %w", m.unproven, errIrregular)
		}
		if n == maxFull {
			return inconsistent("%d full readings do not add up to totalCount, at last %d", n, head.total)
		}
		if m.complete {
			err = m.readAgain(ctx, Mismatch)
		} else {
			err = m.readFirst(ctx, head)
		}
		if err != nil {
			return err
		}
	}
}

// readWhole notes that a head was the whole list.
func (m *Mirror) readWhole(first, full bool) {
	switch {
	case first:
		m.result.Full = append(m.result.Full, First)
	case full:
		m.result.Full = append(m.result.Full, Due)
	}
}

// answer is one page, newest first.
type answer struct {
	rows  []row
	total int
	date  int64 // the API's clock
}

// whole reports whether the page has all tasks that were asked for.
func (a *answer) whole() bool { return len(a.rows) == a.total }

// last is the second of the oldest row.
func (a *answer) last() int64 { return a.rows[len(a.rows)-1].start }

// after returns a copy of the rows that were submitted after a second.
func (a *answer) after(second int64) []row {
	n := 0
	for n < len(a.rows) && a.rows[n].start > second {
		n++
	}
	return slices.Clone(a.rows[:n])
}

// at returns a copy of the rows of a second, in order.
func (a *answer) at(second int64) []row {
	var rows []row
	for _, r := range a.rows {
		if r.start == second {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, compareRows)
	return rows
}

// ask requests the newest page of a span.
func (m *Mirror) ask(ctx context.Context, s span) (answer, error) {
	return m.page(ctx, s, crsapi.Query{Limit: m.pageSize()})
}

// askHead requests the newest page of the list. A server that caps its pages may
// change that, so it gets the configured limit.
func (m *Mirror) askHead(ctx context.Context) (answer, error) {
	a, err := m.page(ctx, always, crsapi.Query{Limit: m.cfg.PageSize})
	if err == nil && !a.whole() {
		m.setPageSize(len(a.rows))
	}
	return a, err
}

// query returns the query for tasks of a span.
func (m *Mirror) query(s span, q crsapi.Query) crsapi.Query {
	q.TaskTypes = m.cfg.TaskTypes
	if m.cfg.RedisID != "" {
		q.RedisID = m.cfg.RedisID
	}
	if lo := max(s.lo, m.begin); lo != beginning {
		q.BeginTime = time.Unix(lo, 0)
	}
	if s.hi != endless {
		q.EndTime = time.Unix(s.hi, 0)
	}
	return q
}

// fetch requests one page of a query that has its span.
func (m *Mirror) fetch(ctx context.Context, q crsapi.Query) (*crsapi.Page, error) {
	p, err := m.cfg.Lister.Page(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("page at offset %d: %w", q.Offset, err)
	}
	m.pages.Add(1)
	m.readYet.Add(1)
	return p, nil
}

// page requests one page of a span.
func (m *Mirror) page(ctx context.Context, s span, q crsapi.Query) (answer, error) {
	if s.hi < m.begin {
		return answer{}, nil // none of it is in the list
	}
	q = m.query(s, q)
	p, err := m.fetch(ctx, q)
	if err != nil {
		return answer{}, err
	}
	return m.answer(s, q, p)
}

// answer checks that the rows of a page are in the span and newest first.
func (m *Mirror) answer(s span, q crsapi.Query, p *crsapi.Page) (answer, error) {
	a := m.unchecked(p)
	if err := a.check(q.Limit); err != nil {
		return a, err
	}
	for i, r := range a.rows {
		switch {
		case r.redisID == rejected && r.start == beginning:
			return a, fmt.Errorf("a row has no time that can be read: %w", errIrregular)
		case r.start < max(s.lo, m.begin) || r.start > s.hi:
			return a, fmt.Errorf("a row is outside the time asked for: %w", errIrregular)
		case i > 0 && r.start > a.rows[i-1].start && !a.whole():
			return a, fmt.Errorf("the rows are not newest first: %w", errIrregular)
		}
	}
	if n := len(a.rows); q.Offset == 0 && n < q.Limit && n < a.total {
		if n == 0 {
			return a, inconsistent("an empty page though totalCount is %d", a.total)
		}
		m.setPageSize(min(n, m.pageSize())) // the server caps its pages
	}
	return a, nil
}

// unchecked returns a page as an answer.
func (m *Mirror) unchecked(p *crsapi.Page) answer {
	a := answer{rows: m.rowsOf(p), total: p.TotalCount, date: m.clock.Time(time.Now()).Unix()}
	if !p.Date.IsZero() {
		a.date = p.Date.Unix()
		m.clock.Set(p.Date, time.Now())
	}
	return a
}

// check checks the number of rows.
func (a *answer) check(limit int) error {
	if n := len(a.rows); n > limit || n > a.total {
		return inconsistent("page of %d rows at limit %d though totalCount is %d", n, limit, a.total)
	}
	return nil
}

// inconsistent returns the error of answers that contradict each other.
func inconsistent(format string, args ...any) error {
	return &crsapi.Error{Reason: crsapi.ReasonDecode, Err: fmt.Errorf(format, args...)}
}

// set makes rows the tasks of a span, and notes what changed. With verify, it
// counts what the copy had wrong: tasks that it lacked, and tasks that it held as
// final.
func (m *Mirror) set(s span, rows []row, verify bool) {
	m.work.Lock()
	defer m.work.Unlock()
	slices.SortFunc(rows, compareRows)
	if m.complete {
		m.compare(m.table.in(s), rows, verify)
	}
	m.table.replace(s, rows, m.polls)
}

// compare notes the differences between two sets of rows, second by second.
func (m *Mirror) compare(before, after []row, verify bool) {
	for len(before) > 0 || len(after) > 0 {
		second := int64(math.MaxInt64)
		if len(before) > 0 {
			second = before[0].start
		}
		if len(after) > 0 {
			second = min(second, after[0].start)
		}
		was, now := before, after
		before, after = cutSecond(before, second), cutSecond(after, second)
		was, now = was[:len(was)-len(before)], now[:len(now)-len(after)]
		if slices.Equal(was, now) {
			continue
		}
		m.noteChanges(was, now)
		if verify && second <= m.known {
			m.result.Corrections += m.corrections(was, now)
		}
	}
}

// cutSecond returns the rows without those of the given second, which come first.
func cutSecond(rows []row, second int64) []row {
	n := 0
	for n < len(rows) && rows[n].start == second {
		n++
	}
	return rows[n:]
}

// noteChanges notes the rows that only one of two sorted sets has.
func (m *Mirror) noteChanges(was, now []row) {
	for len(was) > 0 || len(now) > 0 {
		var order int
		switch {
		case len(was) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = compareRows(was[0], now[0])
		}
		if order < 0 {
			m.note(&was[0])
		}
		if order > 0 {
			m.note(&now[0])
		}
		if order <= 0 {
			was = was[1:]
		}
		if order >= 0 {
			now = now[1:]
		}
	}
}

func (m *Mirror) note(r *row) {
	if m.whole || r.redisID == rejected {
		return
	}
	if len(m.changed) >= maxChanged {
		m.whole, m.changed = true, map[Key]struct{}{}
		return
	}
	m.changed[Key{m.table.names.values[r.redisID], m.table.names.values[r.taskName], r.start}] = struct{}{}
}

// corrections counts the tasks of one second that the copy lacked, or held as
// final with another status.
func (m *Mirror) corrections(was, now []row) int {
	n := 0
	for _, r := range now {
		i, ok := slices.BinarySearchFunc(was, r, compareIdentity)
		switch {
		case !ok:
			n++
		case was[i].status != r.status && m.isFinal(&was[i]):
			n++
		}
		if ok {
			was = slices.Delete(slices.Clone(was), i, i+1)
		}
	}
	return n
}

// isFinal reports whether the copy takes the status for the last one. A task that
// succeeded stays so, and one that failed more than a day ago.
func (m *Mirror) isFinal(r *row) bool {
	return r.status == crsapi.StatusSucceeded || isFailed(r.status) && r.start < m.known-mayReopen
}

func (m *Mirror) pageSize() int {
	m.work.Lock()
	defer m.work.Unlock()
	return m.size
}

func (m *Mirror) setPageSize(n int) {
	m.work.Lock()
	defer m.work.Unlock()
	m.size = n
}

// rowsOf returns the rows of a page in its order. A rejected row without a time
// has the time beginning.
func (m *Mirror) rowsOf(p *crsapi.Page) []row {
	m.work.Lock()
	defer m.work.Unlock()
	rows := make([]row, 0, len(p.Tasks)+len(p.Rejected))
	rejects := p.Rejected
	for i := 0; len(rows) < cap(rows); {
		if len(rejects) > 0 && rejects[0].Index == len(rows) {
			start := int64(beginning)
			if at := rejects[0].StartTime; !at.IsZero() {
				start = at.Unix()
			}
			rows = append(rows, row{identity: identity{start: start, taskID: int64(rejects[0].Hash)}})
			rejects = rejects[1:]
			continue
		}
		rows = append(rows, m.table.names.row(&p.Tasks[i]))
		i++
	}
	return rows
}

// Progress returns how many pages the full reading in progress has read, and about
// how many are due; 0 without one. It does not wait for a Poll.
func (m *Mirror) Progress() (read, due int) {
	due = int(m.due.Load())
	return min(int(m.readYet.Load()), due), due
}

// Len returns the number of tasks of the copy, rejected rows included.
func (m *Mirror) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.rows
}

// At returns the tasks of a Key.
func (m *Mirror) At(k Key) []crsapi.Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	var tasks []crsapi.Task
	redisID, ok := m.table.names.ids[k.RedisID]
	taskName, ok2 := m.table.names.ids[k.TaskName]
	if !ok || !ok2 || redisID == rejected {
		return nil
	}
	for _, r := range m.table.in(span{k.Second, k.Second}) {
		if r.redisID == redisID && r.taskName == taskName {
			tasks = append(tasks, m.table.names.task(&r))
		}
	}
	return tasks
}

// All yields all tasks, oldest first. No other method may be called meanwhile.
func (m *Mirror) All() iter.Seq[crsapi.Task] {
	return func(yield func(crsapi.Task) bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i := range m.table.windows {
			for k := range m.table.windows[i].rows {
				r := &m.table.windows[i].rows[k]
				if r.redisID != rejected && !yield(m.table.names.task(r)) {
					return
				}
			}
		}
	}
}
