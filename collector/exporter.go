package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
)

// DefaultScrapeTimeout is assumed of a scrape that does not tell its own. It
// also suits a first poll that no scrape asks for.
const DefaultScrapeTimeout = 10 * time.Second

// Config says what an Exporter watches.
type Config struct {
	Regions []string // as the API calls them; at least one, none twice

	// Dial returns the Source of a region. Whatever Source it is tells every
	// HTTP request it sends to observe, which may be called from several
	// goroutines at once.
	Dial func(region string, observe func(crsapi.Attempt)) (Source, error)

	RedisIDs  []string      // only these instances; all if empty
	TaskTypes []string      // only these of crsapi.TaskTypes; all if empty
	Lookback  time.Duration // only tasks submitted in this last while; all if 0

	// TimeoutOffset is taken off the timeout that a scrape tells, for the way
	// there and back.
	TimeoutOffset time.Duration
	// MinInterval is how long a finished poll answers further scrapes; 0 to
	// poll for every scrape.
	MinInterval time.Duration

	// StateFile is where the counters of transitions are kept across restarts;
	// empty to keep them nowhere. A region's first poll then is no baseline if
	// the file has its counters: what turned meanwhile counts. Beside the file,
	// names that begin with its name and ".lock", ".tmp" or ".bad-" are used.
	//
	// If RedisIDs, TaskTypes or Lookback have changed since, the first poll
	// is the baseline of the series that the file does not have, and tasks
	// submitted before the file was last written count only if it has them.
	StateFile string
	// StateScope names whatever else decides which tasks are listed and with
	// what times, such as the endpoint, the account and the UTC offset. If it
	// has changed, tasks that StateFile does not have count nothing at the
	// first poll. Only a checksum of it is kept.
	StateScope string

	Logger log.Logger // none if nil
}

func (c *Config) check() error {
	switch {
	case c.Dial == nil:
		return errors.New("no way to a region")
	case len(c.Regions) == 0:
		return errors.New("no region to watch")
	case slices.Contains(c.Regions, ""):
		return errors.New("the name of a region is empty")
	case slices.Contains(c.RedisIDs, ""):
		return errors.New("the ID of an instance is empty")
	case c.Lookback < 0:
		return fmt.Errorf("lookback %s is negative", c.Lookback)
	case c.TimeoutOffset < 0:
		return fmt.Errorf("timeout offset %s is negative", c.TimeoutOffset)
	case c.MinInterval < 0:
		return fmt.Errorf("minimum interval %s is negative", c.MinInterval)
	}
	for i, name := range c.Regions {
		if slices.Contains(c.Regions[:i], name) {
			return fmt.Errorf("region %q is given twice", name)
		}
	}
	for _, taskType := range c.TaskTypes {
		if !slices.Contains(crsapi.TaskTypes(), taskType) {
			return fmt.Errorf("%q is no task type that the API can filter by", taskType)
		}
	}
	return nil
}

// Exporter watches the regions of its Config. It is safe for concurrent use.
type Exporter struct {
	regions       []*region
	lifetime      *lifetime
	state         *state // nil if none is kept
	registry      *prometheus.Registry
	timeoutOffset time.Duration
	logger        log.Logger
}

// New returns an Exporter that has asked nothing yet. Close ends it. It is an
// error if Config.StateFile is in use by another process, or in a place where
// it cannot be; if it is damaged, it is set aside.
func New(cfg Config) (*Exporter, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = log.NewNopLogger()
	}
	e := &Exporter{
		lifetime:      newLifetime(),
		registry:      prometheus.NewRegistry(),
		timeoutOffset: cfg.TimeoutOffset,
		logger:        cfg.Logger,
	}
	api := newAPIMetrics()
	e.registry.MustRegister(
		api,
		version.NewCollector("crs_exporter"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	asks := queries{
		redisIDs:  slices.Compact(slices.Sorted(slices.Values(cfg.RedisIDs))),
		taskTypes: slices.Clone(cfg.TaskTypes),
		lookback:  cfg.Lookback,
	}
	if cfg.StateFile != "" {
		state, err := openState(cfg.StateFile, cfg.Logger, time.Now())
		if err != nil {
			return nil, fmt.Errorf("collector: %w", err)
		}
		e.state = state
		e.registry.MustRegister(state)
	}
	for _, name := range cfg.Regions {
		metrics := api.of(name)
		source, err := cfg.Dial(name, metrics.observe)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("region %s: %w", name, err)
		}
		ledger := newLedger()
		if e.state != nil {
			ledger = e.state.ledger(name, asks.fingerprint(), fingerprint(cfg.StateScope))
		}
		e.regions = append(e.regions, &region{
			name:        name,
			source:      source,
			queries:     asks,
			api:         metrics,
			ledger:      ledger,
			state:       e.state,
			durable:     ledger.current,
			restored:    ledger.current,
			log:         &stateLog{logger: log.With(cfg.Logger, "region", name)},
			minInterval: cfg.MinInterval,
			lifetime:    e.lifetime,
			turn:        make(chan struct{}, 1),
		})
	}
	return e, nil
}

// Close ends the polls under way, waits for them, and gives up the state file.
// Later polls fail at once.
func (e *Exporter) Close() {
	e.lifetime.end()
	if e.state != nil {
		e.state.close(time.Now())
	}
}

// Poll asks all regions side by side and returns what a scrape is to expose.
// Regions that are being asked already are not asked again: all scrapes of
// that time share the answer.
//
// It returns when ctx is done at the latest. Regions that have not answered by
// then count as failed in these Results; they are asked on as long as anybody
// waits for them. If ctx is cancelled rather than out of time, what was asked
// for it alone is no failure of the region.
func (e *Exporter) Poll(ctx context.Context) *Results {
	patience, cancel := beforeDeadline(ctx)
	defer cancel()
	flights := make([]*flight, len(e.regions))
	for i, r := range e.regions {
		flights[i] = r.join()
	}
	for _, f := range flights {
		select {
		case <-f.done:
		case <-patience.Done():
		}
	}

	cause := context.DeadlineExceeded
	if errors.Is(ctx.Err(), context.Canceled) {
		cause = context.Canceled
	}
	var ending []*flight
	for i, r := range e.regions {
		if r.leave(flights[i], cause) {
			ending = append(ending, flights[i])
		}
	}
	for _, f := range ending {
		select {
		case <-f.done:
		case <-ctx.Done():
		}
	}

	results := &Results{regions: make([]regionResult, len(e.regions))}
	for i, r := range e.regions {
		results.regions[i] = regionResult{r, r.answer(flights[i])}
	}
	return results
}

// beforeDeadline returns a context that ends a little before ctx does.
func beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(maxGrace, time.Until(deadline)/10)))
}
