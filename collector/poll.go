package collector

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"golang.org/x/sync/errgroup"
)

const (
	// maxPoll bounds a poll that scrapes keep joining. It is also the longest
	// scrape timeout that is believed.
	maxPoll = 5 * time.Minute
	// maxGrace is how long before its deadline a scrape gives up waiting, so
	// that polls it thereby ends can still say why in the same answer.
	maxGrace = 100 * time.Millisecond
	// lookahead is how far into the future a query with a begin also looks:
	// clocks and zones may be apart.
	lookahead = 24 * time.Hour
)

// Source gives the list of one region. Of a failed sweep it may return a List
// as well, which then tells Pages and Rejected.
type Source interface {
	Sweep(ctx context.Context, q crsapi.Query) (List, error)
}

// FromAPI returns the Source that asks the API.
func FromAPI(client *crsapi.Client) Source { return apiSource{client} }

type apiSource struct{ client *crsapi.Client }

func (s apiSource) Sweep(ctx context.Context, q crsapi.Query) (List, error) {
	sweep, err := s.client.Sweep(ctx, q)
	if sweep == nil {
		return nil, err
	}
	return sweep, err
}

// region is one region's polls: at most one that scrapes can join is under way
// at any time.
type region struct {
	name        string
	source      Source
	queries     queries
	api         *regionMetrics
	ledger      *ledger
	state       *state // nil if the ledger is not kept
	log         *stateLog
	minInterval time.Duration // age at which a finished poll answers no more
	lifetime    *lifetime

	// turn is held by the poll that sweeps: one that was given up may take a
	// while to end, and the next must not overtake it.
	turn   chan struct{}
	expect int // series of the last list; held by the turn too
	// durable is what a restart would begin with, if the ledger is kept; held
	// by the turn too.
	durable *tally

	restored *tally // durable from before the first poll; nil if none was

	mu     sync.Mutex
	flight *flight // the newest, under way or not; nil before the first
	// last is what stays true of the last finished poll when its list no
	// longer is; nil before the first.
	last *outcome
}

// flight is one poll, shared by all scrapes that join it.
type flight struct {
	done   chan struct{} // closed at its end
	cancel context.CancelCauseFunc

	// Under region.mu:
	waiters   int
	abandoned bool     // the last waiter has left
	outcome   *outcome // nil until the end, and ever after if nobody wanted it
}

// outcome is what a finished poll says. It never changes.
type outcome struct {
	list *snapshot // nil if the poll failed

	end         time.Time
	duration    time.Duration
	pages       int
	rejected    int
	lastSuccess time.Time // zero before the first
	tally       *tally    // nil before the first success
}

// join returns a poll that answers a scrape that begins now: one under way, a
// finished one that is young enough, or a new one. Each join needs its leave.
func (r *region) join() *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.flight.answers(r.minInterval) {
		f := &flight{done: make(chan struct{})}
		ctx, cancel := context.WithCancelCause(r.lifetime.ctx)
		f.cancel = cancel
		if !r.lifetime.run(func() { r.fly(ctx, f) }) {
			cancel(nil)
			close(f.done)
		}
		r.flight = f
	}
	r.flight.waiters++
	return r.flight
}

func (f *flight) answers(minInterval time.Duration) bool {
	switch {
	case f == nil:
		return false
	case f.outcome != nil:
		return time.Since(f.outcome.end) < minInterval
	default:
		return !f.abandoned
	}
}

func (f *flight) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// leave ends a join. The last to leave a poll under way ends it for the given
// cause, and is told so.
func (r *region) leave(f *flight, cause error) (last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiters--
	if f.waiters > 0 || f.ended() {
		return false
	}
	f.abandoned = true
	f.cancel(cause)
	return true
}

// answer returns what a scrape that joined f shows: its outcome or, where it
// has none, what stays true without a list. It is nil before the first.
func (r *region) answer(f *flight) *outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.outcome != nil {
		return f.outcome
	}
	return r.last
}

// polled tells whether a poll of the region has ended, in success or failure.
func (r *region) polled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last != nil
}

func (r *region) fly(ctx context.Context, f *flight) {
	defer close(f.done)
	defer f.cancel(nil)
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, maxPoll, context.DeadlineExceeded)
	defer cancel()

	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
		o, err := r.poll(ctx)
		r.finish(ctx, f, begin, o, err)
	case <-ctx.Done():
		r.finish(ctx, f, begin, &outcome{}, context.Cause(ctx))
	}
}

// finish publishes how a poll ended.
func (r *region) finish(ctx context.Context, f *flight, begin time.Time, o *outcome, err error) {
	if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // nobody was left to want it: not a failure of the region
	}
	o.end = time.Now()
	o.duration = o.end.Sub(begin)
	if err != nil {
		reason, requested := reasonOf(err)
		if !requested {
			r.api.fail(reason)
		}
		r.log.failed(reason, err)
	} else {
		o.lastSuccess = o.end
		r.log.succeeded(o)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
	case r.last != nil:
		o.lastSuccess, o.tally = r.last.lastSuccess, r.last.tally
	default:
		o.tally = r.restored
	}
	stays := *o
	stays.list = nil
	r.last, f.outcome = &stays, o
}

// poll sweeps the region and takes the list in. The outcome it returns tells
// pages and rejected rows of a failed sweep too.
func (r *region) poll(ctx context.Context) (*outcome, error) {
	lists, err := r.sweep(ctx)
	o := &outcome{}
	for _, a := range lists {
		if a.list != nil {
			o.pages += a.list.Pages()
			o.rejected += a.list.Rejected()
		}
	}
	if err != nil {
		return o, err
	}
	snap, runs := takeSnapshot(lists, r.expect)
	r.expect = len(snap.series)
	now := time.Now()
	o.list, o.tally = snap, r.keep(r.ledger.update(snap, runs, now), now)
	return o, nil
}

// keep makes a tally durable, if the ledger is kept at all, and returns what may
// be exposed of it: nothing that a restart would take back.
func (r *region) keep(t *tally, now time.Time) *tally {
	if r.state == nil {
		return t
	}
	if !r.state.commit(r.name, now) {
		return t.behind(r.durable)
	}
	r.durable = t
	return t
}

// sweep asks every query, side by side: the client bounds the requests.
func (r *region) sweep(ctx context.Context) ([]asked, error) {
	queries := r.queries.at(time.Now())
	lists := make([]asked, len(queries))
	group, ctx := errgroup.WithContext(ctx)
	for i, q := range queries {
		group.Go(func() error {
			list, err := r.source.Sweep(ctx, q)
			lists[i] = asked{q.RedisID, list}
			return err
		})
	}
	return lists, group.Wait()
}

// reasonOf returns why a poll failed, and whether it was a failed request that
// has been counted as such.
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

// queries says what is asked of a region.
type queries struct {
	redisIDs  []string // empty for all instances
	taskTypes []string // empty for all
	lookback  time.Duration
}

func (qs queries) at(now time.Time) []crsapi.Query {
	q := crsapi.Query{TaskTypes: qs.taskTypes}
	if qs.lookback > 0 {
		q.BeginTime, q.EndTime = now.Add(-qs.lookback), now.Add(lookahead)
	}
	if len(qs.redisIDs) == 0 {
		return []crsapi.Query{q}
	}
	all := make([]crsapi.Query, 0, len(qs.redisIDs))
	for _, id := range qs.redisIDs {
		q.RedisID = id
		all = append(all, q)
	}
	return all
}

// fingerprint tells queries that list other tasks apart.
func (qs queries) fingerprint() uint64 {
	return fingerprint(fmt.Sprintf("%q %q %d",
		qs.redisIDs, slices.Compact(slices.Sorted(slices.Values(qs.taskTypes))), qs.lookback))
}

func fingerprint(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:])
}

// lifetime is the span in which polls may run.
type lifetime struct {
	ctx  context.Context
	stop context.CancelFunc

	mu   sync.Mutex
	over bool
	wg   sync.WaitGroup
}

func newLifetime() *lifetime {
	ctx, stop := context.WithCancel(context.Background())
	return &lifetime{ctx: ctx, stop: stop}
}

// run runs f in a goroutine, or returns false if the lifetime is over.
func (l *lifetime) run(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.wg.Go(f)
	return true
}

// end makes whatever runs stop, and waits for it.
func (l *lifetime) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.stop()
	l.wg.Wait()
}
