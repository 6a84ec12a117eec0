package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// leastLimit is the smallest page that is requested where larger ones are refused.
const leastLimit = 10

// answer is one page.
type answer struct {
	rows  []row // newest first
	total int
	date  int64 // the API's clock
}

// whole reports whether the page has all tasks that were requested.
func (a *answer) whole() bool { return len(a.rows) == a.total }

// last is the second of the oldest row.
func (a *answer) last() int64 { return second(&a.rows[len(a.rows)-1]) }

// between returns the rows after lo up to hi, in order.
func (a *answer) between(lo, hi int64) []row {
	rows := make([]row, 0, len(a.rows))
	for i := range a.rows {
		if s := second(&a.rows[i]); s > lo && s <= hi {
			rows = append(rows, a.rows[i])
		}
	}
	slices.SortFunc(rows, compare)
	return rows
}

// sameAs reports whether two heads show the same list, except in the second of the
// last row, of which a server may show any tasks.
func (a *answer) sameAs(b *answer) bool {
	if a.total != b.total {
		return false
	}
	last := max(a.last(), b.last())
	return sameTasks(a.between(last, endless), b.between(last, endless))
}

// horizon returns up to where what is read from now on has every task: a minute
// below the newest one. While no task is newer, the API's clock moves it on.
func (m *Mirror) horizon(head *answer) int64 {
	if len(head.rows) == 0 {
		return beginning
	}
	newest := int64(beginning)
	for i := range head.rows {
		if s := second(&head.rows[i]); s <= head.date {
			newest = max(newest, s)
		}
	}
	if newest == beginning { // all are later: the time zone is wrong
		newest = second(&head.rows[0])
	}
	if newest > m.newest {
		m.newest, m.newestDate = newest, head.date
	}
	return min(newest, m.newest+head.date-m.newestDate-lateness)
}

// askHead requests the newest page of the list, and checks it.
func (m *Mirror) askHead(ctx context.Context) (answer, error) {
	a, err := m.head(ctx)
	if err == nil {
		err = m.check(&a, endless)
	}
	return a, err
}

// head requests the first page of the list. Since a server may change the rows of
// its pages, the head has the limit of the configuration, unless that is refused.
func (m *Mirror) head(ctx context.Context) (answer, error) {
	a, err := m.page(ctx, endless, crsapi.Query{Limit: m.limit})
	if isRefused(err) && m.limit > leastLimit {
		a, err = m.smallerHead(ctx, err)
	}
	n := len(a.rows)
	switch {
	case n == 0: // or an error
	case !a.whole():
		m.size = n
	default:
		m.size = m.limit // the list is too short to show a cap
		if !m.pageTotals && (!m.contacted || n == m.limit) {
			err = m.doubt(ctx, &a)
		}
	}
	m.contacted = m.contacted || err == nil
	return a, err
}

// smallerHead halves a limit that may be refused. If the smallest one is refused
// too, it was not the limit.
func (m *Mirror) smallerHead(ctx context.Context, refused error) (answer, error) {
	least, err := m.page(ctx, endless, crsapi.Query{Limit: leastLimit})
	if err != nil {
		return answer{}, refused
	}
	for m.limit /= 2; m.limit > leastLimit; m.limit /= 2 {
		if a, err := m.page(ctx, endless, crsapi.Query{Limit: m.limit}); !isRefused(err) {
			return a, err
		}
	}
	m.limit = leastLimit
	return least, nil
}

// doubt finds out whether the total of a head that has all tasks is that of the
// page: then the next page has tasks, too.
func (m *Mirror) doubt(ctx context.Context, a *answer) error {
	next, err := m.page(ctx, endless, crsapi.Query{Limit: m.limit, Offset: len(a.rows)})
	if err != nil {
		return err
	}
	ignored := sameTasks(a.between(beginning, endless), next.between(beginning, endless)) // the offset
	if len(next.rows) > 0 && next.whole() && !ignored {
		m.pageTotals = true
		return irregular{"totalCount is that of the page, not of the list", true}
	}
	return nil
}

// ask requests the newest page up to a second.
func (m *Mirror) ask(ctx context.Context, hi int64, q crsapi.Query) (answer, error) {
	if hi < m.begin {
		return answer{}, nil // none of it is in the list
	}
	if q.Limit == 0 {
		q.Limit = m.size
	}
	a, err := m.page(ctx, hi, q)
	if err == nil {
		err = m.check(&a, hi)
	}
	return a, err
}

// check checks that rows are of the time requested, and newest first.
func (m *Mirror) check(a *answer, hi int64) error {
	for i := range a.rows {
		switch s := second(&a.rows[i]); {
		case a.rows[i].StartTime.IsZero():
			return irregular{"a row has no time that can be read", true}
		case s > hi:
			return irregular{"endTime does not bound the submission", true}
		case s < m.begin:
			return irregular{"beginTime does not bound the submission", true}
		case i > 0 && s > second(&a.rows[i-1]) && !a.whole():
			return irregular{"rows do not come newest first", true}
		}
	}
	return nil
}

func isRefused(err error) bool {
	var e *crsapi.Error
	return errors.As(err, &e) && e.Reason == crsapi.ReasonAPI && !crsapi.IsUnknownInstance(err)
}

// page requests one page up to a second.
func (m *Mirror) page(ctx context.Context, hi int64, q crsapi.Query) (answer, error) {
	q.TaskTypes = m.cfg.TaskTypes
	if m.cfg.RedisID != "" {
		q.RedisID = m.cfg.RedisID
	}
	if m.begin != beginning {
		q.BeginTime = time.Unix(m.begin, 0)
	}
	if hi != endless {
		q.EndTime = time.Unix(hi, 0)
	}
	p, err := m.cfg.Lister.Page(ctx, q)
	if isRefused(err) && q.Offset > 0 {
		return answer{total: q.Offset}, nil // the list has no more tasks
	}
	if isRefused(err) && hi != endless && q.Limit <= m.limit {
		return answer{}, irregular{fmt.Sprintf("endTime is refused (%v)", err), true}
	}
	if err != nil {
		return answer{}, fmt.Errorf("page of %d tasks at offset %d: %w", q.Limit, q.Offset, err)
	}
	m.pages.Add(1)
	m.read.Add(1)
	a := answer{rows: p.Tasks, total: p.TotalCount, date: m.clock.Time(time.Now()).Unix()}
	if !p.Date.IsZero() {
		a.date = p.Date.Unix()
		m.clock.Set(p.Date, time.Now())
	}
	n := len(a.rows)
	if n > q.Limit || n > a.total || n == 0 && q.Offset < a.total {
		return a, inconsistent("a page of %d rows at limit %d and offset %d though totalCount is %d", n, q.Limit, q.Offset, a.total)
	}
	return a, nil
}
