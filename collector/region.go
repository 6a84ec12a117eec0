package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// maxPoll limits a poll that gets no answer. It is also the longest scrape timeout
// accepted.
const maxPoll = 5 * time.Minute

// maxUnseen is the longest time between two lists after which the age of a new task says
// something about the clocks. After a longer time, the task may be old because no poll read
// it. CRSClock alerts from 50 minutes on.
const maxUnseen = 30 * time.Minute

// region polls one region. One poll at most is in progress; it alone uses the fields up
// to flight.
type region struct {
	exporter *Exporter
	cfg      *Config
	name     string
	sources  []Source
	ctx      context.Context // of all polls; ends with Close
	metrics  *requestMetrics
	ledger   *ledger.Ledger
	store    *ledger.Store
	log      pollLog
	reasons  *failureReasons // nil if they are not wanted

	current  int // index of the source
	lists    []*openList
	list     *TaskList         // of the last poll that succeeded; nil before
	parts    [][]crsapi.Task   // that it was made of
	counters []ledger.Counters // as the state file has them
	unsaved  bool
	newest   time.Time // submission time of the newest task ever listed

	pages   atomic.Int64 // of its lists
	flight  singleflight.Group
	last    atomic.Pointer[outcome]  // of the last poll
	shown   atomic.Pointer[TaskList] // of the last poll that succeeded; nil before
	reading atomic.Pointer[[]*openList]

	inventoryBegun time.Time // of the last reading; only polls use it
	inventory      atomic.Pointer[InventoryStatus]
}

// maxAlone limits the watched instances that are requested one by one.
const maxAlone = 50

// openList is a list with what its last poll found.
type openList struct {
	List
	tasks   []crsapi.Task // none if the API does not know the instance
	windows int
}

// outcome is what a poll found. It never changes.
type outcome struct {
	RegionStatus
	list     *TaskList // nil if the poll failed, or has not ended
	counters []ledger.Counters
	facts    *ledger.Facts // also if the poll failed
	ledger   *ledger.Ledger

	corrections int
}

// start makes the region ready for its first poll.
func (r *region) start() {
	for i, source := range r.sources { // the API in use before a restart stays in use
		if strings.HasPrefix(r.ledger.Source(), string(source.API())+" ") {
			r.current = i
		}
	}
	r.lists = r.open(r.source(), r.possibleTypes(r.source().API()))
	r.counters = r.ledger.Counters()
	r.last.Store(&outcome{RegionStatus: RegionStatus{Region: r.name, API: r.source().API()}, counters: r.counters, facts: r.facts(), ledger: r.ledger})
}

func (r *region) facts() *ledger.Facts { return r.ledger.Facts(r.cfg.scope(r.source().API())) }

func (r *region) source() Source { return r.sources[r.current] }

// wait waits for the poll that answers a scrape which begins now: the one in progress or
// a new one. When ctx ends, the region is down.
func (r *region) wait(ctx context.Context, poll <-chan singleflight.Result) *outcome {
	select {
	case result := <-poll:
		return result.Val.(*outcome)
	default:
	}
	select {
	case result := <-poll:
		return result.Val.(*outcome)
	case <-ctx.Done():
		o := r.last.Load().down()
		o.PagesRead, o.PagesDue = r.progress()
		return o
	}
}

// join joins the poll in progress, or starts one. timeout is how long the scrape waits.
func (r *region) join(timeout time.Duration) <-chan singleflight.Result {
	return r.flight.DoChan("", func() (any, error) { return r.poll(timeout), nil })
}

// down returns the outcome without its list.
func (o *outcome) down() *outcome {
	down := *o
	down.list = nil
	return &down
}

// poll is one poll, from its first request to its outcome.
func (r *region) poll(timeout time.Duration) *outcome {
	last := r.last.Load()
	if !last.End.IsZero() && time.Since(last.End) < r.cfg.MinInterval {
		return last
	}
	if r.ctx.Err() != nil {
		return last.down()
	}
	begin, sent := time.Now(), r.metrics.sent.Load()
	turn := func(l *openList) int { return r.inTurn(l, timeout, begin.Sub(last.End)) }
	ctx, cancel := r.untilNoProgress()
	defer cancel()
	o := &outcome{RegionStatus: RegionStatus{Region: r.name, LastSuccess: last.LastSuccess}, ledger: r.ledger}
	list, err := r.read(ctx, turn, o)
	if err != nil && r.ctx.Err() != nil {
		return last.down() // Close ended it, which is not a failure of the region
	}
	o.API, o.Err, o.End = r.source().API(), err, time.Now()
	o.Duration, o.Requests = o.End.Sub(begin), int(r.metrics.sent.Load()-sent)
	r.metrics.corrections.Add(float64(o.corrections)) // of several lists, some may have been read
	if err != nil {
		reason, counted := reasonOf(err)
		if !counted {
			r.metrics.fail(reason)
		}
		r.log.failed(o)
		o.facts = last.facts
		o.FullRead, o.ByOffset = last.FullRead, cmp.Or(o.ByOffset, last.ByOffset)
		if len(o.Notes) == 0 {
			o.Notes = last.Notes
		}
	} else {
		r.count(list, o.End)
		o.facts = r.facts()
		r.describe(list, o)
		r.log.succeeded(o)
	}
	r.log.notes(o)
	if r.unsaved && r.store.Save() {
		r.unsaved, r.counters = false, r.ledger.Counters()
	}
	o.counters = r.counters
	r.last.Store(o)
	r.startInventory(o.End)
	return o
}

func (r *region) describe(list *TaskList, o *outcome) {
	o.list, o.LastSuccess = list, o.End
	o.Tasks, o.Instances, o.NewestTask = len(list.tasks), len(list.instances), list.newest()
	for _, id := range r.cfg.RedisIDs {
		if _, listed := slices.BinarySearchFunc(list.instances, id, func(in *instance, id string) int { return strings.Compare(in.RedisID, id) }); !listed {
			o.Unlisted = append(o.Unlisted, id)
		}
	}
	if o.NewestTask.After(r.newest) {
		r.newest = o.NewestTask
		// A task of the first list, or after a time without polls, may have waited for the
		// poll: there, only a task of the future says something.
		before := r.shown.Load()
		if delay := r.metrics.clock.Time(o.End).Sub(r.newest); delay < 0 || before != nil && o.End.Sub(before.Read) < maxUnseen {
			r.metrics.firstSeen.WithLabelValues().Set(delay.Seconds())
		}
	}
	shown := *list
	shown.Read, shown.facts = o.End, o.facts
	r.shown.Store(&shown)
}

// count gives the ledger the list.
func (r *region) count(list *TaskList, now time.Time) {
	b := ledger.Batch{
		Source: r.cfg.scope(r.source().API()), Time: now, Date: r.metrics.clock.Time(now),
		Watched: r.cfg.Inventory > 0, Inventory: list.inventory,
	}
	if list != r.list || len(list.tasks) == 0 {
		b.Instances = list.listed()
	}
	if list != r.list {
		b.Tasks = list.seconds
		if r.reasons != nil {
			r.reasons.log(r.ctx, r.source(), list)
		}
		r.list = list
	}
	r.unsaved = r.ledger.Apply(b) || r.unsaved
}

// untilNoProgress returns a context that ends when no answer has come for maxPoll, or
// with Close.
func (r *region) untilNoProgress() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	go func() {
		for {
			select {
			case <-r.metrics.answered:
			case <-ctx.Done():
				return
			case <-time.After(maxPoll):
				cancel(context.DeadlineExceeded)
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// read brings the list up to date. If the API is retired, it polls the next source, and
// switches to that if it answers.
func (r *region) read(ctx context.Context, turn func(*openList) int, o *outcome) (*TaskList, error) {
	list, err := r.readAll(ctx, r.lists, turn, o)
	if reason, _ := reasonOf(err); err == nil || reason != crsapi.ReasonRetired || r.current+1 == len(r.sources) {
		return list, err
	}
	next := r.sources[r.current+1]
	types := r.possibleTypes(next.API())
	if len(types) == 0 && len(r.cfg.TaskTypes) > 0 {
		return nil, fmt.Errorf("%w; API %s has none of the task types %q", err, next.API(), r.cfg.TaskTypes)
	}
	lists := r.open(next, types)
	list, nextErr := r.readAll(ctx, lists, turn, o)
	if nextErr != nil {
		return nil, &bothFailed{r.source().API(), next.API(), err, nextErr}
	}
	without := slices.DeleteFunc(slices.Clone(r.cfg.TaskTypes), func(t string) bool { return slices.Contains(types, t) })
	r.log.switched(r.source().API(), next.API(), err, without)
	r.current++
	r.lists = lists
	return list, nil
}

// possibleTypes returns those of Config.TaskTypes that an API has.
func (r *region) possibleTypes(api crsapi.API) []string {
	return slices.DeleteFunc(slices.Clone(r.cfg.TaskTypes), func(t string) bool { return !slices.Contains(api.TaskTypes(), t) })
}

// open opens the list of the region, or one for each watched instance if they are few.
func (r *region) open(source Source, types []string) []*openList {
	f := Filter{TaskTypes: types, Lookback: r.cfg.Lookback}
	if source.API() == crsapi.API30 {
		f.Lookback = min(f.Lookback, MaxLookback30)
	}
	if n := len(r.cfg.RedisIDs); n == 0 || n > maxAlone {
		return []*openList{{List: source.Open(f)}}
	}
	var lists []*openList
	for _, id := range r.cfg.RedisIDs {
		f.RedisID = id
		lists = append(lists, &openList{List: source.Open(f)})
	}
	return lists
}

// readAll polls lists in parallel: the client limits the requests. It returns the list
// of the last poll if nothing changed.
func (r *region) readAll(ctx context.Context, lists []*openList, turn func(*openList) int, o *outcome) (*TaskList, error) {
	r.reading.Store(&lists)
	defer r.reading.Store(nil)
	results := make([]*mirror.Result, len(lists))
	group, ctx := errgroup.WithContext(ctx)
	for i, l := range lists {
		group.Go(func() (err error) {
			results[i], err = l.poll(ctx, turn(l))
			return err
		})
	}
	err := group.Wait()
	for _, result := range results {
		o.add(result)
	}
	if err != nil {
		return nil, r.explain(err)
	}
	parts, pages := make([][]crsapi.Task, len(lists)), 0
	for i, l := range lists {
		parts[i], pages = l.tasks, pages+l.windows+1
	}
	r.pages.Store(int64(pages))
	inventory := r.inventory.Load()
	if r.list != nil && r.list.inventory == inventory.begun && slices.EqualFunc(parts, r.parts, isSame) {
		return r.list, nil
	}
	r.parts = parts
	return newTaskList(r.watched(parts), inventory), nil
}

// add adds what the poll of one list found.
func (o *outcome) add(result *mirror.Result) {
	o.Pages += result.Pages
	o.Rejected += result.Rejected
	o.corrections += result.Corrections
	if !result.FullRead.IsZero() && (o.FullRead.IsZero() || result.FullRead.Before(o.FullRead)) {
		o.FullRead = result.FullRead
	}
	o.ByOffset = cmp.Or(o.ByOffset, result.ByOffset)
	for _, note := range result.Notes {
		if !slices.Contains(o.Notes, note) {
			o.Notes = append(o.Notes, note)
		}
	}
}

// explain names the reason where a key may list single instances only.
func (r *region) explain(err error) error {
	if reason, _ := reasonOf(err); reason == crsapi.ReasonDenied && len(r.cfg.RedisIDs) > maxAlone {
		return fmt.Errorf("more than %d watched instances need a key that may list the whole region: %w", maxAlone, err)
	}
	return err
}

// isSame reports whether two parts are the same unchanged list.
func isSame(a, b []crsapi.Task) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// watched returns the tasks of the watched instances in one list, oldest first. A server
// may ignore the filter, and list each instance for each request.
func (r *region) watched(parts [][]crsapi.Task) []crsapi.Task {
	if len(r.cfg.RedisIDs) == 0 {
		return parts[0]
	}
	var all []crsapi.Task
	for i, tasks := range parts {
		for _, task := range tasks {
			if len(parts) > 1 && task.RedisID != r.cfg.RedisIDs[i] {
				continue
			}
			if _, ok := slices.BinarySearch(r.cfg.RedisIDs, task.RedisID); ok {
				all = append(all, task)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b crsapi.Task) int { return a.StartTime.Compare(b.StartTime) })
	return all
}

func (l *openList) poll(ctx context.Context, inTurn int) (*mirror.Result, error) {
	result, err := l.Poll(ctx, inTurn)
	if crsapi.IsUnknownInstance(err) { // an empty list
		result, err = &mirror.Result{Pages: result.Pages, FullRead: time.Now()}, nil
	}
	if err == nil {
		l.tasks, l.windows = result.Tasks, result.Windows
	}
	return result, err
}

// progress returns the pages of a first reading in progress: read, and due.
func (r *region) progress() (read, due int) {
	if lists := r.reading.Load(); lists != nil {
		for _, l := range *lists {
			n, of := l.Progress()
			read, due = read+n, due+of
		}
	}
	return read, due
}

// bothFailed is the error of a poll whose API is retired and whose successor failed too.
type bothFailed struct {
	api, successor    crsapi.API
	err, successorErr error
}

func (e *bothFailed) Error() string {
	return fmt.Sprintf("API %s: %v; API %s: %v", e.api, e.err, e.successor, e.successorErr)
}

func (e *bothFailed) Unwrap() []error { return []error{e.err, e.successorErr} }

// reasonOf returns why a poll failed, and whether a failed request was the cause, which
// is already counted.
func reasonOf(err error) (reason crsapi.Reason, counted bool) {
	var apiErr *crsapi.Error
	switch {
	case errors.As(err, &apiErr) && slices.Contains(crsapi.Reasons(), apiErr.Reason):
		return apiErr.Reason, apiErr.Requested
	case apiErr != nil:
		return crsapi.ReasonAPI, apiErr.Requested
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return crsapi.ReasonTimeout, false
	default:
		return crsapi.ReasonDecode, false
	}
}
