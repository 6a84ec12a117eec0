package collector

import (
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Results are what one scrape exposes of all regions. The list and the counters
// of a region are of the same poll, unless the state file cannot be written: then
// the counters are as last saved, which may be of an earlier poll, never of a
// later one. Results never change.
//
// They are a Gatherer, not a Collector, and build the families themselves: a
// registry would hash, sort and copy hundreds of thousands of series at every
// scrape. The tests send them through a registry to check them.
type Results struct {
	regions  []regionResult
	pagesURL string
}

// regionResult says all that an answer shows of a region. Two that are equal show
// the same.
type regionResult struct {
	region   *region
	outcome  *outcome
	counters *ledger.Counters // that are saved; nil if none are

	read, due int // pages of a full reading in progress
}

var _ prometheus.Gatherer = (*Results)(nil)

// Gather implements prometheus.Gatherer. The families share parts and must not
// be changed. The error is always nil.
func (rs *Results) Gather() ([]*dto.MetricFamily, error) { return rs.families(), nil }

func (rs *Results) families() []*dto.MetricFamily {
	b := newBuilder(rs.pagesURL)
	for _, r := range rs.regions {
		b.region(r.outcome, r.counters)
		b.reading(r)
	}
	return b.families()
}

// markShown tells the ledgers that a scraper has received these Results.
func (rs *Results) markShown() {
	for _, r := range rs.regions {
		if r.counters != nil {
			r.region.ledger.Shown(r.counters)
		}
	}
}

// builder builds the families of all regions.
type builder struct {
	pagesURL string

	tasks, transitions, lastStart, oldestStart, lastDuration                   *dto.MetricFamily
	lastBackup, usualInterval                                                  *dto.MetricFamily
	instanceGone, aliveSince, oldestTask, instanceInfo                         *dto.MetricFamily
	up, apiInfo, pagesInfo, pollDuration, pollPages, rejectedRows, lastSuccess *dto.MetricFamily
	readingPages, readingPagesRead                                             *dto.MetricFamily

	status                          [statuses]*dto.LabelPair
	outcomeSucceeded, outcomeFailed *dto.LabelPair
	// counts has a gauge for each small number, because most values are small.
	counts [16]*dto.Gauge
}

func newBuilder(pagesURL string) *builder {
	b := &builder{
		pagesURL: pagesURL,

		tasks:         newFamily(tasksMetric),
		transitions:   newFamily(transitionsMetric),
		lastStart:     newFamily(lastStartMetric),
		oldestStart:   newFamily(oldestStartMetric),
		lastDuration:  newFamily(lastDurationMetric),
		lastBackup:    newFamily(lastBackupMetric),
		usualInterval: newFamily(usualIntervalMetric),
		instanceGone:  newFamily(instanceGoneMetric),
		aliveSince:    newFamily(aliveSinceMetric),
		oldestTask:    newFamily(oldestTaskMetric),
		instanceInfo:  newFamily(instanceInfoMetric),
		up:            newFamily(upMetric),
		apiInfo:       newFamily(apiInfoMetric),
		pagesInfo:     newFamily(pagesInfoMetric),
		pollDuration:  newFamily(pollDurationMetric),
		pollPages:     newFamily(pollPagesMetric),
		rejectedRows:  newFamily(rejectedRowsMetric),
		lastSuccess:   newFamily(lastSuccessMetric),

		readingPages:     newFamily(readingPagesMetric),
		readingPagesRead: newFamily(readingPagesReadMetric),

		outcomeSucceeded: label("outcome", "succeeded"),
		outcomeFailed:    label("outcome", "failed"),
	}
	for st, name := range statusNames {
		b.status[st] = label("status", name)
	}
	for n := range b.counts {
		b.counts[n] = gauge(float64(n))
	}
	return b
}

func newFamily(m Metric) *dto.MetricFamily {
	kind := dto.MetricType_GAUGE
	if m.Type == typeCounter {
		kind = dto.MetricType_COUNTER
	}
	return &dto.MetricFamily{Name: &m.Name, Help: &m.Help, Type: &kind}
}

// families returns the families that have a metric, ordered by name.
func (b *builder) families() []*dto.MetricFamily {
	all := []*dto.MetricFamily{
		b.apiInfo, b.lastBackup, b.usualInterval, b.aliveSince, b.instanceGone, b.instanceInfo, b.oldestTask,
		b.lastSuccess, b.pagesInfo, b.pollDuration, b.pollPages, b.rejectedRows, b.readingPages, b.readingPagesRead,
		b.lastDuration, b.lastStart, b.oldestStart, b.transitions, b.tasks, b.up,
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
}

func (b *builder) region(o *outcome, counters *ledger.Counters) {
	region := label("region", o.Region)
	labels := []*dto.LabelPair{region}
	up := 0
	if o.list != nil {
		up = 1
	}
	b.count(b.up, labels, up)
	b.count(b.apiInfo, []*dto.LabelPair{label("api", string(o.API)), region}, 1)
	if b.pagesURL != "" {
		b.count(b.pagesInfo, []*dto.LabelPair{region, label("url", b.pagesURL)}, 1)
	}
	if !o.End.IsZero() {
		b.value(b.pollDuration, labels, o.Duration.Seconds())
		b.count(b.pollPages, labels, o.Pages)
		b.count(b.rejectedRows, labels, o.Rejected)
	}
	if !o.LastSuccess.IsZero() {
		b.value(b.lastSuccess, labels, float64(o.LastSuccess.UnixNano())/float64(time.Second))
	}
	var listed []*listedSeries
	if o.list != nil {
		listed = o.list.series
	}
	var counted []ledger.Counter
	if counters != nil {
		counted = counters.All
	}
	b.series(region, listed, counted)
	for i, s := range listed { // ordered by instance
		if i == 0 || s.RedisID != listed[i-1].RedisID {
			b.instance(region, s.RedisID, o.list.instances[s.RedisID])
		}
	}
}

// reading adds the metrics of a full reading that the scrape could not wait for.
func (b *builder) reading(r regionResult) {
	if r.due > 0 {
		labels := []*dto.LabelPair{label("region", r.outcome.Region)}
		b.count(b.readingPages, labels, r.due)
		b.count(b.readingPagesRead, labels, r.read)
	}
}

func (b *builder) instance(region *dto.LabelPair, id string, in *instance) {
	redisID := label("redisId", id)
	labels := []*dto.LabelPair{redisID, region}
	b.count(b.instanceInfo, []*dto.LabelPair{
		label("projectId", in.projectID), redisID, label("redisName", in.redisName), region,
	}, 1)
	gone := 0
	if in.gone {
		gone = 1
	}
	b.count(b.instanceGone, labels, gone)
	b.time(b.aliveSince, labels, in.aliveSince)
	b.time(b.oldestTask, labels, in.oldest)
	b.time(b.lastBackup, []*dto.LabelPair{b.outcomeSucceeded, redisID, region}, in.backupSucceeded)
	b.time(b.lastBackup, []*dto.LabelPair{b.outcomeFailed, redisID, region}, in.backupFailed)
	if in.usualInterval > 0 {
		b.value(b.usualInterval, labels, float64(in.usualInterval))
	}
}

// time adds a metric unless the time is never.
func (b *builder) time(f *dto.MetricFamily, labels []*dto.LabelPair, second int64) {
	if second != never {
		b.value(f, labels, float64(second))
	}
}

// series adds the metrics of all series. Both lists are ordered; a series that
// is in both has its labels once.
func (b *builder) series(region *dto.LabelPair, listed []*listedSeries, counted []ledger.Counter) {
	for len(listed) > 0 || len(counted) > 0 {
		isListed, isCounted := len(listed) > 0, len(counted) > 0
		if isListed && isCounted {
			order := listed[0].Compare(counted[0].Series)
			isListed, isCounted = order <= 0, order >= 0
		}
		var key ledger.Series
		if isListed {
			key = listed[0].Series
		} else {
			key = counted[0].Series
		}
		redisID, taskName := label("redisId", key.RedisID), label("taskName", key.TaskName)
		var labels [statuses][]*dto.LabelPair
		for st := range labels {
			labels[st] = []*dto.LabelPair{redisID, region, b.status[st], taskName}
		}
		if isCounted {
			b.counted(&labels, &counted[0])
			counted = counted[1:]
		}
		if isListed {
			b.listed(&labels, listed[0])
			listed = listed[1:]
		}
	}
}

func (b *builder) counted(labels *[statuses][]*dto.LabelPair, c *ledger.Counter) {
	created, zero := timestamppb.New(c.Created), 0.0
	none := &dto.Counter{Value: &zero, CreatedTimestamp: created}
	for st, n := range c.Entered {
		counter := none
		value := float64(n)
		switch {
		case st == unknown && c.RareCreated.IsZero():
			continue
		case st == unknown:
			counter = &dto.Counter{Value: &value, CreatedTimestamp: timestamppb.New(c.RareCreated)}
		case n > 0:
			counter = &dto.Counter{Value: &value, CreatedTimestamp: created}
		}
		b.transitions.Metric = append(b.transitions.Metric, &dto.Metric{Label: labels[st], Counter: counter})
	}
}

func (b *builder) listed(labels *[statuses][]*dto.LabelPair, s *listedSeries) {
	for st, n := range s.count {
		if n > 0 || st != unknown {
			b.count(b.tasks, labels[st], n)
		}
		if n > 0 {
			b.value(b.lastStart, labels[st], float64(s.newest[st]))
			switch st := status(st); st {
			case pending, executing:
				b.value(b.oldestStart, labels[st], float64(s.oldest[st]))
			case succeeded, failed, errored:
				if s.lasted[st] != unknownDuration {
					b.value(b.lastDuration, labels[st], float64(s.lasted[st]))
				}
			}
		}
	}
}

func (b *builder) count(f *dto.MetricFamily, labels []*dto.LabelPair, n int) {
	if n < len(b.counts) {
		f.Metric = append(f.Metric, &dto.Metric{Label: labels, Gauge: b.counts[n]})
		return
	}
	b.value(f, labels, float64(n))
}

func (b *builder) value(f *dto.MetricFamily, labels []*dto.LabelPair, value float64) {
	f.Metric = append(f.Metric, &dto.Metric{Label: labels, Gauge: gauge(value)})
}

func gauge(value float64) *dto.Gauge { return &dto.Gauge{Value: &value} }

// label returns one label. The labels of a metric must be sorted by name.
func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: &value}
}

// stateMetrics describe the state file.
type stateMetrics struct{ store *ledger.Store }

var _ prometheus.Collector = stateMetrics{}

// Describe implements prometheus.Collector.
func (m stateMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m stateMetrics) Collect(ch chan<- prometheus.Metric) {
	status := m.store.Status()
	reset := 0.0
	if !status.LastReset.IsZero() {
		reset = float64(status.LastReset.Unix())
	}
	send := func(metric Metric, kind prometheus.ValueType, value float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(metric.Name, metric.Help, nil, nil), kind, value)
	}
	send(stateErrorsMetric, prometheus.CounterValue, float64(status.Errors))
	send(stateSizeMetric, prometheus.GaugeValue, float64(status.Size))
	send(stateLastResetMetric, prometheus.GaugeValue, reset)
}
