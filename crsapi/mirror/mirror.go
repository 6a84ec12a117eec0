package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const (
	// lateness is how far below the newest known task a new one may appear.
	lateness = 60 // seconds
	// mayReopen is how long a failed task may still change: a retry reopens it.
	mayReopen = 60 * 60 // seconds
	// maxRounds limits the heads of one attempt, maxAttempts the attempts of a poll.
	maxRounds   = 4
	maxAttempts = 3
	// distrust is how long a list is read by limit and offset only, before bounds
	// are tried again.
	distrust = 15 * time.Minute
)

// All is a number of windows that no list has.
const All = math.MaxInt

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
	// PageSize is the number of tasks to request; the server may return fewer.
	PageSize int
	// Concurrency is the maximum number of requests in flight.
	Concurrency int
}

// Result is what a Poll found.
type Result struct {
	// Tasks is the list, oldest first. It never changes. It is the same slice as
	// that of the last successful Poll if the list did not change.
	Tasks    []crsapi.Task
	Rejected int // listed rows that could not be read

	Pages       int       // pages read
	Windows     int       // pages of a full reading
	Corrections int       // what was wrong in the list of the last successful Poll
	FullRead    time.Time // all of the list has been read since then

	// ByOffset is why the list is read by limit and offset only; empty if it is not.
	ByOffset string
	// Notes are other facts about the server.
	Notes []string
}

// Mirror keeps a copy of one list. Only Progress may be called during a Poll.
type Mirror struct {
	cfg Config
	snapshot

	shown struct { // by the last successful Poll
		rows         []row
		tasks        []crsapi.Task // rows without those that could not be read
		begin, known int64
	}
	began time.Time // the Poll in progress
	begin int64     // the oldest second that the list has; beginning without Lookback

	turn     int64     // windows up to this second are next in turn
	turnFrom time.Time // when the turn began at the newest window
	fullRead time.Time // all of the copy has been read since then

	// What is known of the server.
	contacted  bool          // a head was read
	limit      int           // the page size that the server does not refuse
	size       int           // rows of a page: fewer than the limit if a server caps its pages
	newest     int64         // the newest task
	newestDate int64         // by the API's clock, when it was first seen
	clock      *crsapi.Clock // by the Date headers
	byOffset   string        // why the list is read by limit and offset only, or empty
	retryAt    time.Time     // when bounds are tried again
	unsorted   bool          // rows do not come newest first
	pageTotals bool          // totalCount is that of the page

	pages     atomic.Int64 // read by the Poll in progress
	read, due atomic.Int64 // pages of the full reading in progress; due is 0 without one
}

// snapshot is the copy.
type snapshot struct {
	rows     []row // oldest first; never changed in place
	known    int64 // the copy has all that is listed up to this second; valid if complete
	complete bool
}

// New returns a Mirror without a copy.
func New(cfg Config) *Mirror {
	cfg.PageSize, cfg.Concurrency = max(1, cfg.PageSize), max(1, cfg.Concurrency)
	m := &Mirror{cfg: cfg, clock: &crsapi.Clock{}, limit: cfg.PageSize, size: cfg.PageSize, turn: beginning, newest: beginning}
	m.shown.known = beginning
	return m
}

// Poll brings the copy up to date and proves that it is the list. It reads the windows
// that may have changed and, in turn, inTurn of the others; all of them if the copy
// does not add up. After an error the Result has Pages, ByOffset and Notes only. The
// errors are those of crsapi.Client.Page, wrapped, or an *crsapi.Error with
// ReasonDecode if the answers do not add up.
func (m *Mirror) Poll(ctx context.Context, inTurn int) (*Result, error) {
	m.began = time.Now()
	m.pages.Store(0)
	defer m.due.Store(0)
	err := m.poll(ctx, inTurn)
	r := &Result{Pages: int(m.pages.Load()), ByOffset: m.byOffset}
	if m.limit < m.cfg.PageSize {
		r.Notes = append(r.Notes, fmt.Sprintf("the API refuses pages of %d tasks: %d are requested", m.cfg.PageSize, m.limit))
	}
	if err != nil {
		return r, err
	}
	r.Corrections = m.show()
	r.Tasks, r.Rejected = m.shown.tasks, len(m.rows)-len(m.shown.tasks)
	r.Windows, r.FullRead = m.fullReading(), m.fullRead
	return r, nil
}

// show makes the copy what is shown, or keeps what is shown if it is the same. It
// returns the number of corrections.
func (m *Mirror) show() (corrections int) {
	same, corrections := differences(m.shown.rows, m.rows, m.shown.begin, m.shown.known)
	m.shown.begin, m.shown.known = m.begin, m.known
	if same && m.shown.tasks != nil {
		m.rows = m.shown.rows
		return corrections
	}
	m.shown.rows, m.shown.tasks = m.rows, m.rows
	if slices.ContainsFunc(m.rows, isRejected) {
		m.shown.tasks = slices.DeleteFunc(slices.Clone(m.rows), isRejected)
	}
	return corrections
}

// Progress returns how many pages the full reading in progress has read, and about
// how many are due; 0 without one. It does not wait for a Poll.
func (m *Mirror) Progress() (read, due int) {
	due = int(m.due.Load())
	return min(int(m.read.Load()), due), due
}

// expect sets the number of pages of a full reading.
func (m *Mirror) expect(pages int) {
	m.read.Store(0)
	m.due.Store(int64(pages))
}

// errMoved is the error of a list that changed while it was read.
var errMoved = errors.New("the list changed while it was read")

// irregular is the error of an answer that contradicts what the document says of
// bounds, or another answer. Its text is Result.ByOffset.
type irregular struct {
	text string
	sure bool // a moving list is no explanation
}

func (e irregular) Error() string { return e.text }

// inconsistent returns the error of answers that cannot be the list.
func inconsistent(format string, args ...any) error {
	return &crsapi.Error{Reason: crsapi.ReasonDecode, Err: fmt.Errorf(format, args...)}
}

// poll reads what is due. If that proves nothing, it reads all, and finally by limit
// and offset only.
func (m *Mirror) poll(ctx context.Context, asked int) error {
	m.begin = beginning
	if m.cfg.Lookback > 0 {
		m.begin = m.clock.Time(time.Now()).Add(-m.cfg.Lookback).Unix()
		m.rows = m.rows[m.count(m.begin-1):]
	}
	if m.byOffset != "" && m.began.After(m.retryAt) && m.boundsWork(ctx) {
		m.byOffset = ""
	}
	before, inTurn := m.snapshot, asked
	hasMoved := false // which explains a contradiction that is not sure
	for n := 1; ; n++ {
		err := m.attempt(ctx, inTurn)
		var odd irregular
		isOdd := errors.As(err, &odd)
		hasMoved = hasMoved || !isOdd
		switch {
		case !isOdd && !errors.Is(err, errMoved):
			return err
		case isOdd && m.byOffset == "" && (odd.sure || n == maxAttempts && !hasMoved):
			m.byOffset, m.retryAt = odd.text, m.began.Add(distrust)
			m.snapshot, inTurn, n = before, asked, 0
		case n == maxAttempts:
			return inconsistent("%d attempts: %w", maxAttempts, err)
		case m.byOffset == "":
			inTurn = All
		case isOdd:
			m.complete = false
		default:
			inTurn = 0 // needs the fewest pages
		}
	}
}

// attempt reads what is due and proves the copy.
func (m *Mirror) attempt(ctx context.Context, inTurn int) error {
	if m.byOffset != "" && (!m.keepsCopy() || inTurn >= m.fullReading()) {
		return m.readList(ctx)
	}
	if !m.complete {
		head, err := m.readFirst(ctx)
		if err == nil {
			err = m.prove(ctx, head)
		}
		if err == nil {
			m.turn, m.fullRead = beginning, m.began
		}
		return err
	}
	windows := m.belowHead(inTurn)
	due, done := m.nextTurn(windows, inTurn)
	if slices.Contains(due, true) {
		if m.byOffset != "" { // the places of the windows must be known
			if err := m.prove(ctx, nil); err != nil {
				return err
			}
		}
		if err := m.readWindows(ctx, windows, due); err != nil {
			return err
		}
	}
	if err := m.prove(ctx, nil); err != nil {
		return err
	}
	done()
	return nil
}

// prove requests heads, the first of which may be given, until one proves the copy.
func (m *Mirror) prove(ctx context.Context, head *answer) error {
	var before *answer // proves the copy if the next head is the same
	for range maxRounds {
		if head == nil {
			a, err := m.askHead(ctx)
			if err != nil {
				return err
			}
			head = &a
		}
		if m.byOffset != "" && !head.whole() && head.last() > m.known {
			return irregular{text: "more tasks are new than a page has"}
		}
		if before != nil && before.sameAs(head) {
			return nil
		}
		s, err := m.down(ctx, *head, m.known)
		if err != nil {
			return err
		}
		m.replace(s.lo, endless, s.rows)
		m.known, m.complete = m.horizon(head), true
		have := m.count(s.lo)
		switch before = nil; {
		case have > s.left:
			if err := m.takeOut(ctx, s.lo, have-s.left); err != nil {
				return err
			}
		case !s.clean:
		case have < s.left || common(m.between(s.lo-1, s.lo), s.at) < len(s.at):
			return irregular{text: "the list has tasks that were not listed in their place before"}
		case s.pages > 0 && head.last() > m.known:
			// Tasks may have entered the pages below the head, while as many left.
			// The next head is the same if no task did.
			before = head
		default:
			return nil
		}
		head = nil
	}
	return errMoved
}

// boundsWork reports whether some pages below the head are as the document says.
func (m *Mirror) boundsWork(ctx context.Context) bool {
	m.retryAt = m.began.Add(distrust)
	head, err := m.askHead(ctx)
	if err != nil || head.whole() || m.unsorted || len(m.rows) == 0 {
		return false
	}
	s, err := m.down(ctx, head, second(&m.rows[max(0, len(m.rows)-4*m.size)]))
	return err == nil && s.clean
}
