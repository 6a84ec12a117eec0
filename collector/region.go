package collector

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"github.com/go-kit/log"
	"golang.org/x/sync/errgroup"
)

const (
	// maxPoll limits a poll that gets no answer. It is also the longest scrape
	// timeout accepted.
	maxPoll = 5 * time.Minute
	// maxSave is how long a scrape waits until the counters of its poll are on the
	// disk.
	maxSave = time.Second
)

// region polls one region. A poll belongs to its region: scrapes wait for it,
// and none cancels it. It ends by success, failure, maxPoll or close.
//
//	idle --join--> polling --success, failure, maxPoll--> idle
//	                  |
//	                  +--------------close--------------> closed
//
// At most one poll is in progress. It alone uses the fields up to mu.
type region struct {
	name        string
	sources     []Source // in the order in which the region goes over to them
	queries     queries
	stateScope  func(crsapi.API) string
	requests    *regionRequests
	ledger      *ledger.Ledger
	store       *ledger.Store
	log         pollLog
	reasons     *failureReasons // nil if they are not wanted
	minInterval time.Duration
	syncs       *syncs
	ctx         context.Context // of all polls; ends with close
	running     *sync.WaitGroup

	current int       // index of the source that the region is read through
	listing *listing  // of that source
	listed  *snapshot // of the last successful poll; nil before the first
	newest  time.Time // submission time of the newest task ever listed; zero before one was

	verification verification

	reading atomic.Pointer[[]*openList] // that a poll reads now
	waiting log.Logger

	mu     sync.Mutex
	poll   *poll     // the newest; nil before the first
	last   *outcome  // of the last poll that ended, without its list
	shown  *TaskList // of the last poll that succeeded; nil before the first
	closed bool
}

// poll is one poll, shared by all scrapes that join it.
type poll struct {
	done    chan struct{} // closed at the end
	outcome *outcome      // valid at the end; nil if close ended the poll
	told    atomic.Bool   // the log says that scrapes cannot wait for it
}

// outcome is what an ended poll found. It never changes.
type outcome struct {
	RegionStatus
	list     *snapshot        // nil if the poll failed
	counters *ledger.Counters // nil before the first success; may not be saved yet
	saving   <-chan struct{}  // closed when the write of the counters has ended; nil without a write
}

// start makes the region ready for its first poll. The API in use before a
// restart stays in use.
func (r *region) start() {
	for i, source := range r.sources {
		if strings.HasPrefix(r.ledger.Source(), prefixOf(source.API())) {
			r.current = i
		}
	}
	queries, _, _ := r.queries.through(r.source().API())
	r.listing = r.list(r.source(), queries)
	r.last = &outcome{
		RegionStatus: RegionStatus{Region: r.name, API: r.source().API()},
		counters:     r.ledger.Counters(),
	}
}

func (r *region) source() Source { return r.sources[r.current] }

func (r *region) syncing() *syncing { return r.listing.syncing }

// list returns the lists of a source.
func (r *region) list(source Source, queries queries) *listing {
	return newListing(source, queries, r.syncs.of(r, source.Limiter()), r.log.logger)
}

// scopeOf identifies the lists of an API for the ledger.
func (r *region) scopeOf(api crsapi.API) string {
	return prefixOf(api) + r.queries.scope(r.stateScope(api))
}

// prefixOf is empty for API 2.0, which was the only one when state files began.
func prefixOf(api crsapi.API) string {
	if api == crsapi.API20 {
		return ""
	}
	return string(api) + " "
}

// join returns the poll that answers a scrape which begins now: the one in
// progress, a finished one younger than minInterval, or a new one.
func (r *region) join() *poll {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.poll != nil && (!r.poll.ended() || r.poll.outcome.youngerThan(r.minInterval)) {
		return r.poll
	}
	r.poll = &poll{done: make(chan struct{})}
	if r.closed {
		close(r.poll.done)
		return r.poll
	}
	p := r.poll
	r.syncs.gate.enter()
	r.running.Go(func() { r.run(p) })
	return p
}

func (p *poll) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (o *outcome) youngerThan(age time.Duration) bool { return o != nil && time.Since(o.End) < age }

// result returns what a scrape that joined p shows: the outcome or, if there is
// none, what remains of the last one without a list.
func (r *region) result(p *poll) *outcome {
	if p.ended() && p.outcome != nil {
		return p.outcome
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *region) status() RegionStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.last.RegionStatus
	status.PagesRead, status.PagesDue = r.progress()
	status.NextFull, status.Verifying = r.nextFull()
	return status
}

// close lets no further poll begin.
func (r *region) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// run is one poll, from its first request to its outcome.
func (r *region) run(p *poll) {
	defer close(p.done)
	defer r.syncs.gate.leave()
	begin, sent := time.Now(), r.requests.sent.Load()
	ctx, cancel := r.untilNoProgress()
	defer cancel()
	results, err := r.read(ctx)
	if err != nil && r.ctx.Err() != nil {
		return // close ended it, which is not a failure of the region
	}
	now := time.Now()
	o := &outcome{RegionStatus: RegionStatus{Region: r.name, API: r.source().API(), End: now, Duration: now.Sub(begin), Err: err}}
	o.OutOfTime = r.listing.outOfTime()
	o.Requests = int(r.requests.sent.Load() - sent)
	for _, result := range results {
		o.Pages += result.Pages
		o.Rejected += result.Rejected
		r.requests.read(result)
	}
	if err != nil {
		reason, requested := reasonOf(err)
		if !requested {
			r.requests.fail(reason)
		}
		r.log.failed(err)
		o.saving = r.save(false)
	} else {
		if r.reasons != nil {
			r.reasons.log(r.source(), r.listing.lists)
		}
		list, changes := r.listed.next(r.listing.lists)
		o.list = list
		o.LastSuccess = now
		o.Tasks, o.Instances, o.NewestTask = o.list.tasks, len(o.list.instances), o.list.newestTask()
		o.Unlisted = r.queries.unlisted(list)
		if o.NewestTask.After(r.newest) {
			r.newest = o.NewestTask
			r.requests.firstSeen().Set(r.requests.clock.Time(now).Sub(r.newest).Seconds())
		}
		o.saving = r.save(r.count(list, changes, now))
		r.log.succeeded(o)
		r.log.corrected(results)
		r.syncing().polled(r, results, o)
	}
	o.counters = r.ledger.Counters()
	var shown *TaskList
	if err == nil {
		shown = newTaskList(o, r.listing.lists)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		o.LastSuccess = r.last.LastSuccess
	} else {
		r.shown = shown
	}
	remains := *o
	remains.list = nil
	r.last, p.outcome = &remains, o
}

// untilNoProgress returns a context that ends when no answer has come for maxPoll,
// or with close.
func (r *region) untilNoProgress() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	timer := time.AfterFunc(maxPoll, func() { cancel(context.DeadlineExceeded) })
	r.requests.onAnswer(func() { timer.Reset(maxPoll) })
	return ctx, func() {
		r.requests.onAnswer(nil)
		timer.Stop()
		cancel(nil)
	}
}

// read brings the lists up to date. If the API is retired, it asks the next
// source, and goes over to that if it answers.
func (r *region) read(ctx context.Context) ([]*mirror.Result, error) {
	full := r.syncing().full()
	results, err := r.pollListing(ctx, r.listing, full)
	if reason, _ := reasonOf(err); err == nil || reason != crsapi.ReasonRetired || r.current+1 == len(r.sources) {
		return results, err
	}
	next := r.sources[r.current+1]
	queries, without, ok := r.queries.through(next.API())
	if !ok {
		return results, fmt.Errorf("%w; API %s has none of the task types %q", err, next.API(), without)
	}
	listing := r.list(next, queries)
	results, nextErr := r.pollListing(ctx, listing, full)
	if nextErr != nil {
		return results, &bothFailed{r.source().API(), next.API(), err, nextErr}
	}
	r.log.wentOver(r.source().API(), next.API(), err, without)
	r.current++
	r.listing, r.listed = listing, nil
	return results, nil
}

// bothFailed is the error of a poll whose API is retired and whose successor
// failed too.
type bothFailed struct {
	api, successor    crsapi.API
	err, successorErr error
}

func (e *bothFailed) Error() string {
	return fmt.Sprintf("API %s: %v; API %s: %v", e.api, e.err, e.successor, e.successorErr)
}

func (e *bothFailed) Unwrap() []error { return []error{e.err, e.successorErr} }

// pollListing polls the lists of a source. If the list of the whole region is
// refused, it asks for each instance.
func (r *region) pollListing(ctx context.Context, l *listing, full bool) ([]*mirror.Result, error) {
	if err := l.choose(ctx); err != nil {
		return nil, err
	}
	results, err := r.pollAll(ctx, l.lists, full)
	if !l.isRefusal(err) {
		return results, err
	}
	l.refused(err)
	return r.pollAll(ctx, l.lists, full)
}

// pollAll polls lists in parallel: the client limits the requests.
func (r *region) pollAll(ctx context.Context, lists []*openList, full bool) ([]*mirror.Result, error) {
	r.reading.Store(&lists)
	defer r.reading.Store(nil)
	results := make([]*mirror.Result, len(lists))
	group, ctx := errgroup.WithContext(ctx)
	for i, l := range lists {
		group.Go(func() (err error) {
			results[i], err = l.poll(ctx, full)
			return err
		})
	}
	err := group.Wait()
	results = slices.DeleteFunc(results, func(r *mirror.Result) bool { return r == nil })
	return results, err
}

// progress returns the pages of a full reading in progress: read, and due.
func (r *region) progress() (read, due int) {
	if lists := r.reading.Load(); lists != nil {
		for _, l := range *lists {
			n, of := l.Progress()
			read, due = read+n, due+of
		}
	}
	return read, due
}

// count gives the ledger what the list changed. It reports whether there is
// something to save.
func (r *region) count(list *snapshot, changes iter.Seq[ledger.Change], now time.Time) (changed bool) {
	kind := ledger.Normal
	scope := r.scopeOf(r.source().API())
	switch r.ledger.Source() {
	case "":
		kind = ledger.Baseline
	case scope:
	default:
		kind = ledger.Absorbed
	}
	changed = r.ledger.Apply(ledger.Batch{
		Kind: kind, Source: scope, Whole: r.listed == nil,
		Changes: changes,
		Time:    now, Date: r.requests.clock.Time(now),
	})
	r.listed = list
	return changed
}

// save lets the counters be written if they have changed or are not saved yet,
// and returns what a scrape waits for. A poll does not wait: the disk must not
// hold up the next one.
func (r *region) save(changed bool) <-chan struct{} {
	if counters := r.ledger.Counters(); !changed && r.saved(counters) == counters {
		r.store.Check()
		return nil
	}
	return r.store.Save()
}

// saved returns c if no restart can take it back, else what was last saved.
func (r *region) saved(c *ledger.Counters) *ledger.Counters { return r.store.Saved(r.name, c) }

// reasonOf returns why a poll failed, and whether a failed request was the
// cause, which is already counted.
func reasonOf(err error) (reason crsapi.Reason, requested bool) {
	var apiErr *crsapi.Error
	switch {
	case errors.As(err, &apiErr):
		return apiErr.Reason, apiErr.Requested
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return crsapi.ReasonTimeout, false
	default:
		return crsapi.ReasonDecode, false
	}
}
