package collector

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Results are what one scrape exposes of all regions: of each region, list and
// counters of one and the same poll. They never change.
//
// They are a Gatherer and no Collector, and build the families themselves: a
// large account has hundreds of thousands of series, which a registry would
// hash, sort and copy for every scrape. What it would check holds by
// construction, and the tests send them through one.
type Results struct{ regions []regionResult }

type regionResult struct {
	region  *region
	outcome *outcome // nil if no poll of the region has finished yet
}

var _ prometheus.Gatherer = (*Results)(nil)

// Gather implements prometheus.Gatherer. The families share parts that must
// not be changed. The error is always nil.
func (rs *Results) Gather() ([]*dto.MetricFamily, error) {
	b := newBuilder()
	for _, r := range rs.regions {
		b.region(r.region.name, r.outcome)
	}
	return b.families(), nil
}

// markShown tells the ledgers that a scraper has received these Results.
func (rs *Results) markShown() {
	for _, r := range rs.regions {
		if r.outcome != nil && r.outcome.tally != nil {
			r.region.ledger.markShown(r.outcome.tally)
		}
	}
}

// builder builds the families of all regions.
type builder struct {
	tasks, transitions, lastStart, oldestStart, instanceInfo *dto.MetricFamily
	up, pollDuration, pollPages, rejectedRows, lastSuccess   *dto.MetricFamily

	status [statuses]*dto.LabelPair
	// counts holds a gauge for each small number: most values of most metrics
	// are one of a few.
	counts [16]*dto.Gauge
}

func newBuilder() *builder {
	b := &builder{
		tasks:        newFamily(tasksMetric),
		transitions:  newFamily(transitionsMetric),
		lastStart:    newFamily(lastStartMetric),
		oldestStart:  newFamily(oldestStartMetric),
		instanceInfo: newFamily(instanceInfoMetric),
		up:           newFamily(upMetric),
		pollDuration: newFamily(pollDurationMetric),
		pollPages:    newFamily(pollPagesMetric),
		rejectedRows: newFamily(rejectedRowsMetric),
		lastSuccess:  newFamily(lastSuccessMetric),
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

// families returns those that have a metric, in the order of their names.
func (b *builder) families() []*dto.MetricFamily {
	all := []*dto.MetricFamily{
		b.instanceInfo, b.lastSuccess, b.pollDuration, b.pollPages, b.rejectedRows,
		b.lastStart, b.oldestStart, b.transitions, b.tasks, b.up,
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
}

func (b *builder) region(name string, o *outcome) {
	region := label("region", name)
	labels := []*dto.LabelPair{region}
	if o == nil {
		b.count(b.up, labels, 0)
		return
	}
	b.value(b.pollDuration, labels, o.duration.Seconds())
	b.count(b.pollPages, labels, o.pages)
	b.count(b.rejectedRows, labels, o.rejected)
	if !o.lastSuccess.IsZero() {
		b.value(b.lastSuccess, labels, float64(o.lastSuccess.UnixNano())/float64(time.Second))
	}
	if o.list == nil {
		b.count(b.up, labels, 0)
	} else {
		b.count(b.up, labels, 1)
	}
	if o.tally == nil {
		return
	}
	for i := range o.tally.counters {
		c := &o.tally.counters[i]
		redisID, taskName := label("redisId", c.redisID), label("taskName", c.taskName)
		var labels [statuses][]*dto.LabelPair
		for st := range labels {
			labels[st] = []*dto.LabelPair{redisID, region, b.status[st], taskName}
		}
		b.counters(&labels, c)
		if o.list == nil {
			continue
		}
		if s, ok := o.list.index[c.seriesKey]; ok {
			b.listed(&labels, &o.list.series[s])
		}
		if i == 0 || c.redisID != o.tally.counters[i-1].redisID {
			if in, ok := o.list.instances[c.redisID]; ok {
				b.count(b.instanceInfo, []*dto.LabelPair{
					label("projectId", in.projectID), redisID, label("redisName", in.redisName), region,
				}, 1)
			}
		}
	}
}

func (b *builder) counters(labels *[statuses][]*dto.LabelPair, c *counters) {
	if c.hidden {
		return
	}
	created, zero := timestamppb.New(c.created), 0.0
	none := &dto.Counter{Value: &zero, CreatedTimestamp: created}
	for st, n := range c.entered {
		counter := none
		switch {
		case status(st) == unknown && c.unknownCreated.IsZero():
			continue
		case status(st) == unknown:
			value := float64(n)
			counter = &dto.Counter{Value: &value, CreatedTimestamp: timestamppb.New(c.unknownCreated)}
		case n > 0:
			value := float64(n)
			counter = &dto.Counter{Value: &value, CreatedTimestamp: created}
		}
		b.transitions.Metric = append(b.transitions.Metric, &dto.Metric{Label: labels[st], Counter: counter})
	}
}

func (b *builder) listed(labels *[statuses][]*dto.LabelPair, s *listedSeries) {
	for st, n := range s.count {
		if n > 0 || status(st) != unknown {
			b.count(b.tasks, labels[st], n)
		}
		if n > 0 {
			b.value(b.lastStart, labels[st], float64(s.newest[st]))
			if st := status(st); st == pending || st == executing {
				b.value(b.oldestStart, labels[st], float64(s.oldest[st]))
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

// label is a part of the labels of a metric, which must be sorted by name.
func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: &value}
}
