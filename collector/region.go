package collector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"golang.org/x/sync/errgroup"
)

const (
	// maxPoll limits a poll. It is also the longest scrape timeout accepted.
	maxPoll = 5 * time.Minute
	// maxSave is how long a poll waits until its counters are on the disk.
	maxSave = time.Second
)

// Source reads the list of one region through one API.
type Source interface {
	API() crsapi.API
	// Sweep returns soon after ctx ends. Of a failed sweep it may return a List
	// too, which then has Pages and Rejected.
	Sweep(ctx context.Context, q crsapi.Query) (List, error)
	// TaskMessage returns the vendor's reason why a task failed.
	TaskMessage(ctx context.Context, taskID int64) (string, error)
}

// FromAPI returns the Source that sends requests to the API.
func FromAPI(client *crsapi.Client) Source { return apiSource{client} }

type apiSource struct{ *crsapi.Client }

func (s apiSource) Sweep(ctx context.Context, q crsapi.Query) (List, error) {
	sweep, err := s.Client.Sweep(ctx, q)
	if sweep == nil {
		return nil, err
	}
	return sweep, err
}

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
	ctx         context.Context // of all polls; ends with close
	running     *sync.WaitGroup

	current int       // index of the source that the region is read through
	listed  *snapshot // of the last successful poll; nil before the first
	unsaved bool      // the ledger has changes that are not in the state file

	mu     sync.Mutex
	poll   *poll    // the newest; nil before the first
	last   *outcome // of the last poll that ended, without its list
	closed bool
}

// poll is one poll, shared by all scrapes that join it.
type poll struct {
	done    chan struct{} // closed at the end
	outcome *outcome      // valid at the end; nil if close ended the poll
}

// outcome is what an ended poll found. It never changes.
type outcome struct {
	RegionStatus
	list     *snapshot        // nil if the poll failed
	counters *ledger.Counters // nil before the first success
}

// start makes the region ready for its first poll. The API in use before a
// restart stays in use.
func (r *region) start() {
	for i, source := range r.sources {
		if strings.HasPrefix(r.ledger.Source(), prefixOf(source.API())) {
			r.current = i
		}
	}
	r.last = &outcome{
		RegionStatus: RegionStatus{Region: r.name, API: r.source().API()},
		counters:     r.store.Saved(r.name),
	}
}

func (r *region) source() Source { return r.sources[r.current] }

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
	return r.last.RegionStatus
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
	begin := time.Now()
	ctx, cancel := context.WithTimeout(r.ctx, maxPoll)
	defer cancel()
	lists, err := r.sweepAny(ctx)
	if err != nil && r.ctx.Err() != nil {
		return // close ended it, which is not a failure of the region
	}
	now := time.Now()
	o := &outcome{RegionStatus: RegionStatus{Region: r.name, API: r.source().API(), End: now, Duration: now.Sub(begin), Err: err}}
	for _, l := range lists {
		if l.list != nil {
			o.Pages += l.list.Pages()
			o.Rejected += l.list.Rejected()
		}
	}
	if err != nil {
		reason, requested := reasonOf(err)
		if !requested {
			r.requests.fail(reason)
		}
		r.log.failed(err)
	} else {
		o.list = takeSnapshot(lists, r.listed.size())
		o.LastSuccess = now
		o.Tasks, o.Instances, o.NewestTask = o.list.tasks, len(o.list.instances), o.list.newestTask()
		r.count(o.list, now)
		r.log.succeeded(o)
		if r.reasons != nil {
			r.reasons.log(r.source(), lists)
		}
	}
	o.counters = r.store.Saved(r.name)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		o.LastSuccess = r.last.LastSuccess
	}
	remains := *o
	remains.list = nil
	r.last, p.outcome = &remains, o
}

// sweepAny reads the list. If the API is retired, it asks the next source, and
// goes over to that if it answers.
func (r *region) sweepAny(ctx context.Context) ([]sweptList, error) {
	queries, _, _ := r.queries.through(r.source().API())
	lists, err := r.sweep(ctx, r.source(), queries)
	if reason, _ := reasonOf(err); reason != crsapi.ReasonRetired || r.current+1 == len(r.sources) {
		return lists, err
	}
	next := r.sources[r.current+1]
	queries, without, ok := r.queries.through(next.API())
	if !ok {
		return lists, fmt.Errorf("%w; API %s has none of the task types %q", err, next.API(), without)
	}
	lists, nextErr := r.sweep(ctx, next, queries)
	if nextErr != nil {
		return lists, &bothFailed{r.source().API(), next.API(), err, nextErr}
	}
	r.log.wentOver(r.source().API(), next.API(), err, without)
	r.current++
	r.listed = nil
	return lists, nil
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

// sweep sends every query, in parallel: the client limits the requests.
func (r *region) sweep(ctx context.Context, source Source, queries queries) ([]sweptList, error) {
	all := queries.at(time.Now())
	lists := make([]sweptList, len(all))
	group, ctx := errgroup.WithContext(ctx)
	for i, q := range all {
		group.Go(func() error {
			list, err := source.Sweep(ctx, q)
			lists[i] = sweptList{q.RedisID, list}
			return err
		})
	}
	return lists, group.Wait()
}

// count gives the ledger what the list changed, and waits until it is saved.
// No counter is shown that a restart would take back.
func (r *region) count(list *snapshot, now time.Time) {
	kind := ledger.Normal
	scope := r.scopeOf(r.source().API())
	switch r.ledger.Source() {
	case "":
		kind = ledger.Baseline
	case scope:
	default:
		kind = ledger.Absorbed
	}
	changed := r.ledger.Apply(ledger.Batch{
		Kind: kind, Source: scope, Whole: r.listed == nil,
		Changes: list.changesSince(r.listed),
		Time:    now, Date: now.Add(r.requests.skew()),
	})
	r.listed = list
	r.unsaved = r.unsaved || changed
	if !r.unsaved {
		return
	}
	// A list that is complete when Close comes still shows its counters.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), maxSave)
	defer cancel()
	r.unsaved = r.store.Save(ctx) != nil
}

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
