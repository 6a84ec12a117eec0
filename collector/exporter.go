package collector

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
	"golang.org/x/time/rate"
)

// defaultScrapeTimeout is the timeout of a scrape that does not send one.
const defaultScrapeTimeout = 10 * time.Second

const (
	maxLookback = 10 * 365 * 24 * time.Hour
	maxOffset   = time.Hour
	maxInterval = time.Hour
	maxFullSync = 24 * time.Hour
)

// Config says what an Exporter watches.
type Config struct {
	Regions []string // as the API calls them; at least one, none twice

	// Dial returns the Sources of a region, at least one. The region is read
	// through the first. If its API is retired, and the next Source answers in
	// the same poll, the region goes over to that for good. Sources call observe
	// for every HTTP request that they have sent, if need be from several
	// goroutines at once.
	Dial func(region string, observe func(crsapi.Attempt)) ([]Source, error)

	// RedisIDs limits the tasks to those of these instances; all if empty. They are
	// asked for one by one or, where that costs less and is allowed, all instances
	// are, and only the tasks of these are shown. An instance that the API does not
	// know has no tasks.
	RedisIDs []string
	// TaskTypes limits the tasks to these of API.TaskTypes of the first Source;
	// all if empty. A later Source leaves out those that its API does not have.
	TaskTypes []string
	// Lookback limits the tasks to those submitted within this duration; all if
	// 0. See MaxLookback30.
	Lookback time.Duration

	// PagesURL is the URL of the HTML pages, for crs_pages_info; no series if empty.
	PagesURL string

	// FailureReasons logs the vendor's reason of each task that is newly seen
	// failed. Only API 3.0 has it.
	FailureReasons bool

	// Sync says how much of the lists a poll reads; SyncAuto if empty.
	Sync Sync
	// FullSyncInterval is how long a list that is read incrementally goes without
	// a full reading; 15m if 0.
	FullSyncInterval time.Duration

	// TimeoutOffset is subtracted from the timeout of a scrape, as a safety
	// margin for the network.
	TimeoutOffset time.Duration
	// MinInterval is how long a finished poll answers further scrapes; 0 to
	// poll at every scrape.
	MinInterval time.Duration

	// StateFile keeps the counters of transitions across restarts; empty to
	// keep them nowhere. Transitions during the downtime then count at the
	// first poll. Files with the suffixes .lock, .tmp and .bad are used too.
	StateFile string
	// StateScope, if not nil, names everything else that decides which tasks are
	// listed through an API, and with which times: endpoint, account, UTC offset.
	// If it, the API, RedisIDs, TaskTypes or Lookback differ from those of the
	// state file, the first list is absorbed: it counts nothing. Only the API and
	// a hash of the others are kept.
	StateScope func(crsapi.API) string

	Logger log.Logger // none if nil
}

func (c *Config) validate() error {
	invalid := func(field, format string, values ...any) error {
		return &crsapi.ConfigError{Field: field, Problem: fmt.Sprintf(format, values...)}
	}
	switch {
	case c.Dial == nil:
		return invalid("Dial", "is nil")
	case len(c.Regions) == 0:
		return invalid("Regions", "must name at least one region")
	case slices.Contains(c.Regions, ""):
		return invalid("Regions", "must not contain an empty name")
	case slices.Contains(c.RedisIDs, ""):
		return invalid("RedisIDs", "must not contain an empty ID")
	case notAnID(c.RedisIDs) >= 0:
		return invalid("RedisIDs", "must not contain commas, blanks, quotes or control characters, as in %q", c.RedisIDs[notAnID(c.RedisIDs)])
	case c.Lookback < 0 || c.Lookback > maxLookback:
		return invalid("Lookback", "must be from 0s to %s, not %s", maxLookback, c.Lookback)
	case c.FullSyncInterval < 0 || c.FullSyncInterval > maxFullSync:
		return invalid("FullSyncInterval", "must be from 0s to %s, not %s", maxFullSync, c.FullSyncInterval)
	case c.TimeoutOffset < 0 || c.TimeoutOffset > maxOffset:
		return invalid("TimeoutOffset", "must be from 0s to %s, not %s", maxOffset, c.TimeoutOffset)
	case c.MinInterval < 0 || c.MinInterval > maxInterval:
		return invalid("MinInterval", "must be from 0s to %s, not %s", maxInterval, c.MinInterval)
	}
	for i, name := range c.Regions {
		if slices.Contains(c.Regions[:i], name) {
			return invalid("Regions", "must not contain %q twice", name)
		}
	}
	return nil
}

// notAnID returns the index of a text that is several IDs, or more than an ID, or
// -1. The documents do not say which characters an ID has.
func notAnID(ids []string) int {
	return slices.IndexFunc(ids, func(id string) bool {
		return strings.ContainsFunc(id, func(r rune) bool {
			return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(",;\"'`", r)
		})
	})
}

// Exporter watches the regions of its Config. It is safe for concurrent use.
type Exporter struct {
	regions       []*region
	running       sync.WaitGroup // polls
	stop          context.CancelFunc
	store         *ledger.Store
	registry      *prometheus.Registry
	timeoutOffset time.Duration
	minInterval   time.Duration
	pagesURL      string
	logger        log.Logger
	syncs         *syncs
}

// New returns an Exporter that has not sent a request yet. Close ends it. A
// setting that is not valid gives a *crsapi.ConfigError. It is an error too if
// the state file is used by another process or cannot be where it is. A damaged
// state file is set aside.
func New(cfg Config) (*Exporter, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = log.NewNopLogger()
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Exporter{
		stop:          stop,
		registry:      prometheus.NewRegistry(),
		timeoutOffset: cfg.TimeoutOffset,
		minInterval:   cfg.MinInterval,
		pagesURL:      cfg.PagesURL,
		logger:        cfg.Logger,
		syncs:         newSyncs(&cfg),
	}
	requests := newRequestMetrics()
	e.registry.MustRegister(
		requests,
		version.NewCollector("crs_exporter"),
		newGoMetrics(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	var err error
	if e.store, err = ledger.Open(cfg.StateFile, cfg.Logger); err != nil {
		stop()
		return nil, err
	}
	if cfg.StateFile != "" {
		e.registry.MustRegister(stateMetrics{e.store})
	}
	queries := queries{
		redisIDs:  slices.Compact(slices.Sorted(slices.Values(cfg.RedisIDs))),
		taskTypes: slices.Compact(slices.Sorted(slices.Values(cfg.TaskTypes))),
		lookback:  cfg.Lookback,
	}
	if cfg.StateScope == nil {
		cfg.StateScope = func(crsapi.API) string { return "" }
	}
	reasonsLimit := rate.NewLimiter(rate.Every(time.Minute/maxReasons), maxReasons)
	for _, name := range cfg.Regions {
		metrics := requests.of(name)
		sources, err := cfg.dial(name, metrics.observe)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("region %s: %w", name, err)
		}
		r := &region{
			name:        name,
			sources:     sources,
			queries:     queries,
			stateScope:  cfg.StateScope,
			requests:    metrics,
			ledger:      e.store.Ledger(name),
			store:       e.store,
			log:         pollLog{logger: log.With(cfg.Logger, "region", name)},
			minInterval: cfg.MinInterval,
			ctx:         ctx,
			running:     &e.running,
			syncs:       e.syncs,
			waiting:     log.With(cfg.Logger, "region", name),
		}
		if cfg.FailureReasons {
			r.reasons = &failureReasons{limit: reasonsLimit, logger: r.log.logger, ctx: ctx, running: &e.running}
		}
		r.start()
		e.regions = append(e.regions, r)
	}
	return e, nil
}

func (c *Config) dial(region string, observe func(crsapi.Attempt)) ([]Source, error) {
	sources, err := c.Dial(region, observe)
	switch {
	case err != nil:
		return nil, err
	case len(sources) == 0:
		return nil, &crsapi.ConfigError{Field: "Dial", Problem: "returns no source"}
	}
	valid := sources[0].API().TaskTypes()
	for _, taskType := range c.TaskTypes {
		if !slices.Contains(valid, taskType) {
			return nil, &crsapi.ConfigError{Field: "TaskTypes", Problem: fmt.Sprintf("must be of %q with API %s, not %q", valid, sources[0].API(), taskType)}
		}
	}
	return sources, nil
}

// Close ends the polls in progress, waits for them, and saves and closes the
// state file. It leaves a writer behind that the disk stalls for more than 5
// seconds. After that no poll begins: a region is down, unless its last poll
// is younger than Config.MinInterval.
func (e *Exporter) Close() {
	for _, r := range e.regions {
		r.close()
	}
	e.stop()
	e.running.Wait()
	e.store.Close()
}

// Poll polls all regions in parallel and returns what a scrape exposes. A
// region with a poll in progress is not polled again: all scrapes of that time
// share its result.
//
// Poll returns when ctx ends at the latest. In the Results, a region whose poll
// has not ended by then is down. Its poll goes on.
//
// With a state file, Poll then waits until the counters are saved: at most a
// second, and at most half of the time that ctx leaves. The Results have no
// counter that a restart would take back.
func (e *Exporter) Poll(ctx context.Context) *Results {
	polls := make([]*poll, len(e.regions))
	for i, r := range e.regions {
		polls[i] = r.join()
	}
	if deadline, ok := ctx.Deadline(); ok {
		e.syncs.budget.observe(time.Until(deadline))
	}
	results := &Results{regions: make([]regionResult, len(e.regions)), pagesURL: e.pagesURL}
	for i, r := range e.regions {
		select {
		case <-polls[i].done:
		case <-ctx.Done():
		}
		results.regions[i] = regionResult{region: r, outcome: r.result(polls[i])}
		if !polls[i].ended() {
			read, due := r.progress()
			results.regions[i].read, results.regions[i].due = read, due
			if due > 0 && polls[i].told.CompareAndSwap(false, true) {
				level.Info(r.waiting).Log("msg", "the list is still being read: scrapes show it when it is whole", "read", read, "pages", due)
			}
		}
	}
	results.waitSaved(ctx)
	return results
}

// waitSaved waits until the counters are saved or the time for that is over, and
// takes those that are.
func (rs *Results) waitSaved(ctx context.Context) {
	limit := maxSave
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for i := range rs.regions {
		r := &rs.regions[i]
		if r.outcome.saving != nil {
			select {
			case <-r.outcome.saving:
			case <-ctx.Done():
			}
		}
		r.counters = r.region.saved(r.outcome.counters)
	}
}

// RegionStatus is what the last poll of a region found. A poll that Close ended
// does not count.
type RegionStatus struct {
	Region      string
	API         crsapi.API    // that the region is read through
	End         time.Time     // of the last poll; zero before the first
	Duration    time.Duration // of the last poll
	Err         error         // of the last poll; nil if it succeeded
	LastSuccess time.Time     // end of the last successful poll; zero before the first

	// OutOfTime says that the last poll asked for each instance of Config.RedisIDs,
	// for which a scrape has no time at the rate limit.
	OutOfTime bool

	Pages    int // pages read by the last poll
	Requests int // requests sent during the last poll, retries included
	Rejected int // rows of the last poll that could not be read

	// Of the last poll's list; zero if the poll failed.
	Tasks, Instances int
	NewestTask       time.Time // submission time
	// Unlisted are the instances of Config.RedisIDs of which it has no task. The API
	// may not know them: it answers an empty list, or that they do not exist.
	Unlisted []string

	// Of a full reading in progress: pages read, and about how many are due; 0
	// without one.
	PagesRead, PagesDue int

	// NextFull is when the list that is read incrementally is due for the next full
	// reading, in the background; zero if each poll reads all. Verifying says that
	// such a reading is in progress.
	NextFull  time.Time
	Verifying bool
}

// Status returns the status of each region, in the order of Config.Regions. It
// sends no request.
func (e *Exporter) Status() []RegionStatus {
	all := make([]RegionStatus, len(e.regions))
	for i, r := range e.regions {
		all[i] = r.status()
	}
	return all
}

// queries says what is requested of a region.
type queries struct {
	redisIDs  []string // sorted; empty for all instances
	taskTypes []string // sorted; empty for all
	lookback  time.Duration
}

// MaxLookback30 is how long API 3.0 lists a task. A longer Config.Lookback has
// no effect there.
const MaxLookback30 = 30 * 24 * time.Hour

// through returns the queries without what an API does not have, and the task
// types that this leaves out. ok is false if it leaves out all of them.
func (qs queries) through(api crsapi.API) (possible queries, without []string, ok bool) {
	possible = qs
	possible.taskTypes = nil
	for _, taskType := range qs.taskTypes {
		if slices.Contains(api.TaskTypes(), taskType) {
			possible.taskTypes = append(possible.taskTypes, taskType)
		} else {
			without = append(without, taskType)
		}
	}
	if api == crsapi.API30 {
		possible.lookback = min(qs.lookback, MaxLookback30)
	}
	return possible, without, len(possible.taskTypes) > 0 || len(qs.taskTypes) == 0
}

// filter returns the filter for all instances.
func (qs queries) filter() Filter { return Filter{TaskTypes: qs.taskTypes, Lookback: qs.lookback} }

// openRegion opens the list of the whole region, of which the tasks of the redisIDs
// are shown.
func (qs queries) openRegion(source Source) *openList {
	l := &openList{List: source.Open(qs.filter())}
	if len(qs.redisIDs) > 0 {
		l.redisIDs = map[string]bool{}
		for _, id := range qs.redisIDs {
			l.redisIDs[id] = true
		}
	}
	return l
}

// openEach opens a list for each of the redisIDs.
func (qs queries) openEach(source Source) []*openList {
	var lists []*openList
	f := qs.filter()
	for _, id := range qs.redisIDs {
		f.RedisID = id
		lists = append(lists, &openList{redisIDs: map[string]bool{id: true}, List: source.Open(f)})
	}
	return lists
}

// unlisted returns the redisIDs of which a list has no task.
func (qs queries) unlisted(list *snapshot) (ids []string) {
	for _, id := range qs.redisIDs {
		if _, ok := list.instances[id]; !ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// scope identifies lists that show the same tasks with the same times.
func (qs queries) scope(rest string) string {
	text := fmt.Sprintf("%q %q %d %q", qs.redisIDs, qs.taskTypes, qs.lookback, rest)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}
