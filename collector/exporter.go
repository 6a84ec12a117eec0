package collector

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
)

// defaultScrapeTimeout is the timeout of a scrape that does not send one.
const defaultScrapeTimeout = 10 * time.Second

const (
	maxLookback = 10 * 365 * 24 * time.Hour
	maxOffset   = time.Hour
	maxInterval = time.Hour
)

// Config says what an Exporter watches.
type Config struct {
	Regions []string // as the API calls them; at least one, none twice

	// Dial returns the Source of a region. The Source calls observe for every
	// HTTP request that it has sent, if need be from several goroutines at once.
	Dial func(region string, observe func(crsapi.Attempt)) (Source, error)

	RedisIDs  []string      // only these instances; all if empty
	TaskTypes []string      // only these of crsapi.TaskTypes; all if empty
	Lookback  time.Duration // only tasks submitted within this duration; all if 0

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
	// StateScope names everything else that decides which tasks are listed,
	// and with which times: endpoint, account, UTC offset. If it, RedisIDs,
	// TaskTypes or Lookback differ from those of the state file, the first list
	// is absorbed: it counts nothing. Only a hash of them is kept.
	StateScope string

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
	case c.Lookback < 0 || c.Lookback > maxLookback:
		return invalid("Lookback", "must be from 0s to %s, not %s", maxLookback, c.Lookback)
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
	for _, taskType := range c.TaskTypes {
		if !slices.Contains(crsapi.API20.TaskTypes(), taskType) {
			return invalid("TaskTypes", "must be of %q, not %q", crsapi.API20.TaskTypes(), taskType)
		}
	}
	return nil
}

// Exporter watches the regions of its Config. It is safe for concurrent use.
type Exporter struct {
	regions       []*region
	running       sync.WaitGroup // polls
	stop          context.CancelFunc
	store         *ledger.Store
	registry      *prometheus.Registry
	timeoutOffset time.Duration
	logger        log.Logger
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
		logger:        cfg.Logger,
	}
	requests := newRequestMetrics()
	e.registry.MustRegister(
		requests,
		version.NewCollector("crs_exporter"),
		collectors.NewGoCollector(),
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
	for _, name := range cfg.Regions {
		metrics := requests.of(name)
		source, err := cfg.Dial(name, metrics.observe)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("region %s: %w", name, err)
		}
		e.regions = append(e.regions, &region{
			name:        name,
			source:      source,
			queries:     queries,
			scope:       queries.scope(cfg.StateScope),
			requests:    metrics,
			ledger:      e.store.Ledger(name),
			store:       e.store,
			log:         pollLog{logger: log.With(cfg.Logger, "region", name)},
			minInterval: cfg.MinInterval,
			ctx:         ctx,
			running:     &e.running,
		})
	}
	return e, nil
}

// Close ends the polls in progress, waits for them, and saves and closes the
// state file. After that no poll begins: a region is down, unless its last poll
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
func (e *Exporter) Poll(ctx context.Context) *Results {
	polls := make([]*poll, len(e.regions))
	for i, r := range e.regions {
		polls[i] = r.join()
	}
	results := &Results{regions: make([]regionResult, len(e.regions))}
	for i, r := range e.regions {
		select {
		case <-polls[i].done:
		case <-ctx.Done():
		}
		results.regions[i] = regionResult{r, r.result(polls[i])}
	}
	return results
}

// RegionStatus is what the last poll of a region found. A poll that Close ended
// does not count.
type RegionStatus struct {
	Region      string
	End         time.Time     // of the last poll; zero before the first
	Duration    time.Duration // of the last poll
	Err         error         // of the last poll; nil if it succeeded
	LastSuccess time.Time     // end of the last successful poll; zero before the first

	Pages    int // pages read by the last poll
	Rejected int // rows of the last poll that could not be read

	// Of the last poll's list; zero if the poll failed.
	Tasks, Instances int
	NewestTask       time.Time // submission time
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

// lookahead is how far in the future a query with a begin ends: clocks and
// zones may differ.
const lookahead = 24 * time.Hour

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

// scope identifies lists that show the same tasks with the same times.
func (qs queries) scope(rest string) string {
	text := fmt.Sprintf("%q %q %d %q", qs.redisIDs, qs.taskTypes, qs.lookback, rest)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}
