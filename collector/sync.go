package collector

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"golang.org/x/time/rate"
)

// Sync says how much of the lists a poll reads.
type Sync string

// The ways to read.
const (
	SyncAuto        Sync = "auto"        // in full where that takes less than half of a scrape, else incrementally
	SyncFull        Sync = "full"        // every page at every poll
	SyncIncremental Sync = "incremental" // only what may have changed
)

// Syncs returns the ways to read.
func Syncs() []Sync { return []Sync{SyncAuto, SyncFull, SyncIncremental} }

const (
	defaultFullSyncInterval = 15 * time.Minute
	// retryVerify is how long after a verification that failed the next begins.
	retryVerify = time.Minute
)

// syncs has the decisions for all endpoints.
type syncs struct {
	mode     Sync
	interval time.Duration
	budget   scrapeBudget
	gate     gate

	mu    sync.Mutex
	known map[any]*syncing // by *rate.Limiter, or by *region without a limit
}

func newSyncs(cfg *Config) *syncs {
	s := &syncs{mode: cfg.Sync, interval: cfg.FullSyncInterval, known: map[any]*syncing{}}
	if s.mode == "" {
		s.mode = SyncAuto
	}
	if s.interval == 0 {
		s.interval = defaultFullSyncInterval
	}
	s.budget.shortest[0] = defaultScrapeTimeout - cfg.TimeoutOffset
	return s
}

// of returns the decision for the endpoint whose requests a limiter limits. Without
// a limit, each region decides alone.
func (s *syncs) of(r *region, limiter *rate.Limiter) *syncing {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := any(limiter)
	if limiter == nil {
		key = r
	}
	if known := s.known[key]; known != nil {
		known.join(r)
		return known
	}
	decision := &syncing{syncs: s, pages: map[*region]int{}, incremental: s.mode == SyncIncremental}
	if limiter != nil {
		decision.rate = float64(limiter.Limit())
		decision.slowly = rate.NewLimiter(limiter.Limit()/2, 1)
	}
	s.known[key] = decision
	decision.join(r)
	return decision
}

// syncing decides how the regions of one endpoint are read.
type syncing struct {
	*syncs
	rate   float64       // requests per second; 0 for no limit
	slowly *rate.Limiter // of verifications; nil for no limit

	mu          sync.Mutex
	pages       map[*region]int // of the last full reading; 0 before
	incremental bool
}

// join makes a region one of those that share the rate.
func (s *syncing) join(r *region) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.pages[r]; !ok {
		s.pages[r] = 0
	}
}

// takes returns how long so many requests of every region take at the rate; 0
// without a limit.
func (s *syncing) takes(requests int) time.Duration {
	if s.rate == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(float64(requests*len(s.pages)) / s.rate * float64(time.Second))
}

// fits reports whether so many requests of every region take less than half of a
// scrape, inTime whether a scrape has the time for them.
func (s *syncing) fits(requests int) bool   { return s.takes(requests) <= s.budget.least()/2 }
func (s *syncing) inTime(requests int) bool { return s.takes(requests) <= s.budget.least() }

// together reports whether a list of the whole region, of so many pages, costs less
// than a list for each of its watched instances. now is the way in use, unless this
// is the first choice: then the other one must cost less than half, for each change
// costs a full reading.
func (s *syncing) together(instances, pages int, now, first bool) bool {
	if s.mode != SyncFull && !s.fits(instances) {
		return true // read incrementally if need be, it is whole in time
	}
	each, region := float64(instances), float64(pages+1)
	incremental := s.mode == SyncIncremental || s.mode == SyncAuto && !s.fits(pages)
	if incremental {
		// One or two requests a poll, and its share of the verifications: polls are
		// about a minute apart.
		region = 2 + float64(pages)*float64(time.Minute)/float64(s.interval)
	}
	switch {
	case first:
		return region < each
	case now:
		return region <= 2*each
	default:
		// No scrape shall wait for the first reading of a long list.
		return 2*region < each && s.fits(pages)
	}
}

// full reports whether the next poll reads every page.
func (s *syncing) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.incremental
}

// decide decides again after a full reading of one region.
func (s *syncing) decide(r *region, pages int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[r] = pages
	if s.mode != SyncAuto {
		return
	}
	if s.rate > 0 {
		sum := 0
		for _, n := range s.pages {
			sum += n
		}
		took = time.Duration(float64(sum) / s.rate * float64(time.Second))
	}
	switch budget := s.budget.least(); {
	case took > budget/2:
		s.incremental = true
	case took < budget/3:
		s.incremental = false
	}
}

// polled learns from a poll that succeeded, and starts a verification if one is
// due.
func (s *syncing) polled(r *region, results []*mirror.Result, o *outcome) {
	v := &r.verification
	v.mu.Lock()
	defer v.mu.Unlock()
	defer s.setDue(v)
	if !slices.ContainsFunc(results, func(result *mirror.Result) bool { return len(result.Full) == 0 }) {
		v.last = o.End
		s.decide(r, o.Pages, o.Duration)
		return
	}
	if v.running || o.End.Sub(v.last) < s.interval || o.End.Before(v.notBefore) {
		return
	}
	v.running = true
	lists := r.listing.lists
	r.running.Go(func() { s.verify(r, lists) })
}

// verification is when the copy of a region was last read in full.
type verification struct {
	mu        sync.Mutex
	running   bool
	last      time.Time
	notBefore time.Time
	due       time.Time // zero if every poll reads all
}

// setDue sets when the next verification is due. The caller holds v.mu.
func (s *syncing) setDue(v *verification) {
	v.due = time.Time{}
	if !s.full() {
		v.due = v.last.Add(s.interval)
		if v.due.Before(v.notBefore) {
			v.due = v.notBefore
		}
	}
}

// nextFull returns when the next verification is due, and whether one is in
// progress; a zero time if polls read all, or before the first full reading.
func (r *region) nextFull() (due time.Time, running bool) {
	r.verification.mu.Lock()
	defer r.verification.mu.Unlock()
	return r.verification.due, r.verification.running
}

func (s *syncing) verify(r *region, lists []*openList) {
	var err error
	for _, l := range lists {
		if err == nil {
			err = l.Verify(r.ctx, s.wait)
		}
		if crsapi.IsUnknownInstance(err) {
			err = nil // it has nothing to verify
		}
	}
	v := &r.verification
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running = false
	defer s.setDue(v)
	if err != nil { // the polls tell what is wrong
		v.notBefore = time.Now().Add(retryVerify)
		return
	}
	v.last = time.Now()
	r.requests.fullReadings(mirror.Due).Inc()
}

// wait returns when a verification may send a request: no poll is in progress, and
// half of the rate allows it.
func (s *syncing) wait(ctx context.Context) error {
	if s.slowly != nil {
		if err := s.slowly.Wait(ctx); err != nil {
			return err
		}
	}
	return s.gate.wait(ctx)
}

// scrapeBudget is the shortest time that scrapes gave polls in the last hour.
type scrapeBudget struct {
	mu       sync.Mutex
	shortest [2]time.Duration // of this half hour and of the one before; 0 if none
	since    time.Time
}

func (b *scrapeBudget) observe(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch age := time.Since(b.since); {
	case b.since.IsZero():
		b.since, b.shortest = time.Now(), [2]time.Duration{d, 0}
	case age >= time.Hour:
		b.since, b.shortest = time.Now(), [2]time.Duration{d, 0}
	case age >= time.Hour/2:
		b.since, b.shortest = time.Now(), [2]time.Duration{d, b.shortest[0]}
	default:
		b.shortest[0] = min(b.shortest[0], d)
	}
}

func (b *scrapeBudget) least() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	least := time.Duration(math.MaxInt64)
	for _, d := range b.shortest {
		if d > 0 {
			least = min(least, d)
		}
	}
	return least
}

// gate lets verifications through when no poll is in progress.
type gate struct {
	mu    sync.Mutex
	polls int
	idle  chan struct{} // closed when the last poll leaves; nil if none is in progress
}

func (g *gate) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.polls++; g.polls == 1 {
		g.idle = make(chan struct{})
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.polls--; g.polls == 0 {
		close(g.idle)
		g.idle = nil
	}
}

func (g *gate) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		idle := g.idle
		g.mu.Unlock()
		if idle == nil {
			return ctx.Err()
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
