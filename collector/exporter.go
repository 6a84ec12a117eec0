package collector

import (
	"context"
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/collectors/version"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

const (
	maxLookback = 10 * 365 * 24 * time.Hour
	maxOffset   = time.Hour
	maxInterval = time.Hour
	maxFullSync = 24 * time.Hour
)

// MaxLookback30 is how long API 3.0 lists a task. A longer Config.Lookback has no effect
// there.
const MaxLookback30 = 30 * 24 * time.Hour

// Config says what an Exporter watches.
type Config struct {
	Regions []string // as the API calls them; at least one, none twice

	// Dial returns the Sources of a region, at least one. The region is read
	// through the first. If its API is retired, and the next Source answers in
	// the same poll, the region switches to that for good. Sources call observe
	// for every HTTP request that they have sent, if need be from several
	// goroutines at once.
	Dial func(region string, observe func(crsapi.Attempt)) ([]Source, error)

	// RedisIDs limits the tasks to those of these instances; all if empty. Up to 50
	// instances are requested one by one. More are filtered from the list of the region.
	// An instance that the API does not know has no tasks.
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

	// Inventory is how often all instances of each region are read, from 1m to 1h, beside
	// the polls; 0 for never. They are read through the last Source. An instance without
	// any task needs backups too then, and one that does not exist any more needs none.
	Inventory time.Duration

	// Sync says how much of the lists a poll reads; SyncAuto if empty.
	Sync Sync
	// FullSyncInterval is within which time each page of a list is read again; 15m if 0.
	FullSyncInterval time.Duration

	// TimeoutOffset is subtracted from the timeout of a scrape, as a safety
	// margin for the network.
	TimeoutOffset time.Duration
	// MinInterval is how long a finished poll answers further scrapes; 0 to
	// poll at every scrape.
	MinInterval time.Duration

	// StateFile keeps the facts and the counters of transitions across restarts;
	// empty to keep them nowhere. Transitions during the downtime then count at the
	// first poll. Files with the suffixes .lock, .tmp and .bad are used too.
	StateFile string
	// StateScope names everything else that decides which tasks are listed, and with
	// which times: endpoints, account, UTC offset. If it, the API, RedisIDs, TaskTypes
	// or Lookback differ from those of the state file, the first list is absorbed: it
	// counts nothing. The facts are forgotten then, unless only the API differs. Only
	// the API and a hash of the others are kept.
	StateScope string

	Logger log.Logger // none if nil
}

// regionName can be part of a host name.
var regionName = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

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
	case c.Inventory != 0 && (c.Inventory < time.Minute || c.Inventory > maxInterval):
		return invalid("Inventory", "must be 0s, or from %s to %s, not %s", time.Minute, maxInterval, c.Inventory)
	}
	known := map[string]string{} // by long name
	for _, name := range c.Regions {
		other, twice := known[crsapi.LongRegion(name)]
		switch {
		case !regionName.MatchString(name):
			return invalid("Regions", "must have only letters, digits and hyphens in each name, not %q", name)
		case twice && other == name:
			return invalid("Regions", "must not contain %q twice", name)
		case twice:
			return invalid("Regions", "must not contain one region by two names, %q and %q", other, name)
		}
		known[crsapi.LongRegion(name)] = name
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

// scope identifies lists that show the same tasks with the same times.
func (c *Config) scope(api crsapi.API) string {
	text := fmt.Sprintf("%q %q %d %q", c.RedisIDs, c.TaskTypes, c.Lookback, c.StateScope)
	return fmt.Sprintf("%s %x", api, sha256.Sum256([]byte(text)))
}

// Exporter watches the regions of its Config. It is safe for concurrent use.
type Exporter struct {
	cfg      Config
	regions  []*region
	running  sync.WaitGroup // requests for reasons, and readings of inventories
	stop     context.CancelFunc
	store    *ledger.Store
	registry *prometheus.Registry
}

// New returns an Exporter that has not sent a request yet. Close ends it. A setting that
// is not valid gives a *crsapi.ConfigError. It is an error too if the state file is used
// by another process or cannot be where it is. A damaged state file is set aside.
func New(cfg Config) (*Exporter, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = log.NewNopLogger()
	}
	if cfg.Sync == "" {
		cfg.Sync = SyncAuto
	}
	if cfg.FullSyncInterval == 0 {
		cfg.FullSyncInterval = 15 * time.Minute
	}
	cfg.RedisIDs = slices.Compact(slices.Sorted(slices.Values(cfg.RedisIDs)))
	cfg.TaskTypes = slices.Compact(slices.Sorted(slices.Values(cfg.TaskTypes)))
	ctx, stop := context.WithCancel(context.Background())
	e := &Exporter{cfg: cfg, stop: stop, registry: prometheus.NewRegistry()}
	e.registry.MustRegister(
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
		registerState(e.registry, e.store)
	}
	ledgers := e.store.Ledgers(cfg.Regions)
	limit := rate.NewLimiter(rate.Every(time.Minute/maxReasons), maxReasons)
	for i, name := range cfg.Regions {
		metrics := newRequestMetrics(e.registry, name)
		sources, err := cfg.dial(name, metrics.observe)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("region %s: %w", name, err)
		}
		logger := log.With(cfg.Logger, "region", name)
		r := &region{
			exporter: e, cfg: &e.cfg, name: name, sources: sources, ctx: ctx, metrics: metrics,
			ledger: ledgers[i], store: e.store, log: pollLog{logger: logger},
		}
		if cfg.FailureReasons {
			r.reasons = &failureReasons{limit: limit, logger: logger, running: &e.running}
		}
		r.inventory.Store(&InventoryStatus{})
		if cfg.Inventory > 0 {
			metrics.registerInventory(e.registry, name, &r.inventory)
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
	case c.Inventory > 0 && sources[len(sources)-1].API() == crsapi.API20:
		return nil, &crsapi.ConfigError{Field: "Inventory", Problem: "needs API 3.0: use --crs.api=auto, and --crs.v3-endpoint if --crs.endpoint is set"}
	}
	valid := sources[0].API().TaskTypes()
	for _, taskType := range c.TaskTypes {
		if !slices.Contains(valid, taskType) {
			return nil, &crsapi.ConfigError{Field: "TaskTypes", Problem: fmt.Sprintf("must be of %q with API %s, not %q", valid, sources[0].API(), taskType)}
		}
	}
	return sources, nil
}

// Register adds a collector to what every scrape shows.
func (e *Exporter) Register(c prometheus.Collector) error {
	if err := e.registry.Register(c); err != nil {
		return fmt.Errorf("register a collector: %w", err)
	}
	return nil
}

// Close ends the polls in progress, waits for them, and saves and closes the state file.
// After that no poll begins: a region is down, unless its last poll is younger than
// Config.MinInterval.
func (e *Exporter) Close() {
	e.stop()
	for _, r := range e.regions {
		<-r.join(0) // waits for the poll in progress
	}
	e.running.Wait()
	e.store.Close()
}

// Poll polls all regions in parallel and returns what a scrape exposes. A region with a
// poll in progress is not polled again: all scrapes of that time share its result. Poll
// returns when ctx ends at the latest. In the Results, a region whose poll has not ended
// by then is down. Its poll goes on.
func (e *Exporter) Poll(ctx context.Context) *Results {
	timeout := defaultScrapeTimeout - e.cfg.TimeoutOffset
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	polls := make([]<-chan singleflight.Result, len(e.regions))
	for i, r := range e.regions {
		polls[i] = r.join(timeout)
	}
	results := &Results{outcomes: make([]*outcome, len(e.regions)), pagesURL: e.cfg.PagesURL}
	for i, r := range e.regions {
		results.outcomes[i] = r.wait(ctx, polls[i])
	}
	return results
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

	Pages    int // pages read by the last poll
	Requests int // requests sent during the last poll, retries included
	Rejected int // rows of the last poll that could not be read
	// ClockSkew is the API clock minus the local clock; 0 before the first response.
	ClockSkew time.Duration

	// Of the last poll's list; zero if the poll failed. Instances has those of the inventory.
	Tasks, Instances int
	NewestTask       time.Time // submission time
	// Unlisted are the instances of Config.RedisIDs that neither the list nor the inventory
	// has. The API may not know them: it answers an empty list, or that they do not exist.
	Unlisted []string

	// FullRead is since when all of the list has been read; zero before the first list.
	FullRead time.Time
	// ByOffset says why the list is read by limit and offset only; empty if it is not.
	ByOffset string
	// Notes are other facts about how the API answers, one line each.
	Notes []string

	Inventory InventoryStatus

	// Of a first reading in progress: pages read, and about how many are due; 0
	// without one.
	PagesRead, PagesDue int
}

// Status returns the status of each region, in the order of Config.Regions. It
// sends no request.
func (e *Exporter) Status() []RegionStatus {
	all := make([]RegionStatus, len(e.regions))
	for i, r := range e.regions {
		all[i] = r.last.Load().RegionStatus
		all[i].PagesRead, all[i].PagesDue = r.progress()
		all[i].Inventory = *r.inventory.Load()
		now := time.Now()
		all[i].ClockSkew = r.metrics.clock.Time(now).Sub(now)
	}
	return all
}
