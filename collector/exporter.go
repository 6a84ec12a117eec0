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
	registry      *prometheus.Registry
	timeoutOffset time.Duration
	logger        log.Logger
}

// New returns an Exporter that has asked nothing yet. Close ends it.
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
	for _, name := range cfg.Regions {
		metrics := api.of(name)
		source, err := cfg.Dial(name, metrics.observe)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("region %s: %w", name, err)
		}
		e.regions = append(e.regions, &region{
			name:        name,
			source:      source,
			queries:     asks,
			api:         metrics,
			ledger:      newLedger(),
			log:         &stateLog{logger: log.With(cfg.Logger, "region", name)},
			minInterval: cfg.MinInterval,
			lifetime:    e.lifetime,
			turn:        make(chan struct{}, 1),
		})
	}
	return e, nil
}

// Close ends the polls under way and waits for them. Later polls fail at once.
func (e *Exporter) Close() { e.lifetime.end() }

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
