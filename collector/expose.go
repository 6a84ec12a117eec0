package collector

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Results are what one scrape exposes of all regions. They never change.
//
// They are a Gatherer and not a Collector: a registry hashes, sorts and copies every
// sample, which for a large account costs more than all the rest. The tests send them
// through a registry.
type Results struct {
	outcomes []*outcome
	pagesURL string
}

var _ prometheus.Gatherer = (*Results)(nil)

// Gather implements prometheus.Gatherer. The samples share their labels.
func (rs *Results) Gather() ([]*dto.MetricFamily, error) {
	g := &gathering{families: map[*Metric]*dto.MetricFamily{}}
	for _, o := range rs.outcomes {
		g.outcome(o)
		if rs.pagesURL != "" {
			g.add(&pagesInfoMetric, 1, pairs("region", o.Region, "url", rs.pagesURL))
		}
	}
	byName := func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) }
	return slices.SortedFunc(maps.Values(g.families), byName), nil
}

// shown tells the ledgers that a scraper has received these Results.
func (rs *Results) shown() {
	for _, o := range rs.outcomes {
		o.ledger.Shown(o.counters)
	}
}

// gathering is the families of a scrape.
type gathering struct {
	families map[*Metric]*dto.MetricFamily
	small    [16]*dto.Gauge // most values are small, and equal ones share one
	zero     *dto.Counter   // most counters are 0
}

func (g *gathering) add(m *Metric, value float64, labels []*dto.LabelPair) {
	f := g.family(m, dto.MetricType_GAUGE)
	f.Metric = append(f.Metric, &dto.Metric{Label: labels, Gauge: g.gauge(value)})
}

func (g *gathering) family(m *Metric, kind dto.MetricType) *dto.MetricFamily {
	f := g.families[m]
	if f == nil {
		f = &dto.MetricFamily{Name: &m.Name, Help: &m.Help, Type: &kind}
		g.families[m] = f
	}
	return f
}

func (g *gathering) gauge(value float64) *dto.Gauge {
	n := int(value)
	if n < 0 || n >= len(g.small) || float64(n) != value {
		return &dto.Gauge{Value: &value}
	}
	if g.small[n] == nil {
		g.small[n] = &dto.Gauge{Value: &value}
	}
	return g.small[n]
}

func (g *gathering) counter(c ledger.Counter) *dto.Counter {
	created := time.Unix(0, c.Created)
	if c.Value == 0 && g.zero != nil && g.zero.CreatedTimestamp.AsTime().Equal(created) {
		return g.zero
	}
	value := float64(c.Value)
	counter := &dto.Counter{Value: &value, CreatedTimestamp: timestamppb.New(created)}
	if c.Value == 0 {
		g.zero = counter
	}
	return counter
}

// seconds returns a time in seconds since the epoch.
func seconds(t time.Time) float64 { return float64(t.UnixNano()) / float64(time.Second) }

// pairs returns labels, given as names and values, ordered by name.
func pairs(namesAndValues ...string) []*dto.LabelPair {
	labels := make([]*dto.LabelPair, 0, len(namesAndValues)/2)
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		labels = append(labels, &dto.LabelPair{Name: &namesAndValues[i], Value: &namesAndValues[i+1]})
	}
	return labels
}

func (g *gathering) outcome(o *outcome) {
	region := pairs("region", o.Region)
	g.add(&upMetric, number(o.list != nil), region)
	g.add(&apiInfoMetric, 1, pairs("api", string(o.API), "region", o.Region))
	if !o.End.IsZero() {
		g.add(&pollDurationMetric, o.Duration.Seconds(), region)
		g.add(&pollPagesMetric, float64(o.Pages), region)
		g.add(&rejectedRowsMetric, float64(o.Rejected), region)
		g.add(&byOffsetMetric, number(o.ByOffset != ""), region)
	}
	if !o.FullRead.IsZero() {
		g.add(&fullReadMetric, seconds(o.FullRead), region)
	}
	if !o.LastSuccess.IsZero() {
		g.add(&lastSuccessMetric, seconds(o.LastSuccess), region)
	}
	if o.PagesDue > 0 {
		g.add(&readingPagesMetric, float64(o.PagesDue), region)
		g.add(&readingPagesReadMetric, float64(o.PagesRead), region)
	}
	var status [ledger.Statuses]*dto.LabelPair
	for st, name := range statusNames {
		status[st] = pairs("status", name)[0]
	}
	labels := func(s ledger.Series) (all [ledger.Statuses][]*dto.LabelPair) {
		own := pairs("redisId", s.RedisID, "taskName", s.TaskName)
		for st := range all {
			all[st] = []*dto.LabelPair{own[0], region[0], status[st], own[1]}
		}
		return all
	}
	for i := range o.counters {
		g.counters(&o.counters[i], labels(o.counters[i].Series))
	}
	g.facts(o.facts, region[0])
	if o.list == nil {
		return
	}
	for _, s := range o.list.series {
		g.series(s, labels(s.Series))
	}
	for _, in := range o.list.instances {
		g.instance(in, o.Region)
	}
}

// facts adds what the exporter knows of a region.
func (g *gathering) facts(f *ledger.Facts, region *dto.LabelPair) {
	if f.Seen == 0 {
		return
	}
	g.add(&seenMetric, float64(f.Seen), []*dto.LabelPair{region})
	for i := range f.Instances {
		in := &f.Instances[i]
		owed := f.Owed(in)
		unlessSettled := func(second int64) float64 {
			if owed {
				return float64(second)
			}
			return math.Inf(1)
		}
		redisID := pairs("redisId", in.RedisID)[0]
		labels := []*dto.LabelPair{redisID, region}
		g.add(&lastGoodMetric, unlessSettled(in.Good), labels)
		g.add(&deadlineMetric, unlessSettled(in.Deadline), labels)
		if in.FailingSince != 0 {
			g.add(&failingSinceMetric, float64(in.FailingSince), labels)
		}
		for j := range in.Tasks {
			t := &in.Tasks[j]
			labels := []*dto.LabelPair{redisID, region, pairs("taskName", t.TaskName)[0]}
			g.add(&finishedBeforeMetric, unlessSettled(f.FinishedBefore(t)), labels)
			if t.Failed.Start == 0 {
				continue
			}
			g.add(&taskFailureMetric, float64(t.Failed.End), labels)
			if t.Succeeded.Start != 0 {
				g.add(&taskSuccessMetric, float64(t.Succeeded.End), labels)
			}
		}
	}
}

func (g *gathering) counters(c *ledger.Counters, labels [ledger.Statuses][]*dto.LabelPair) {
	for st, counter := range c.ByStatus {
		if counter.Created != 0 {
			f := g.family(&transitionsMetric, dto.MetricType_COUNTER)
			f.Metric = append(f.Metric, &dto.Metric{Label: labels[st], Counter: g.counter(counter)})
		}
	}
}

func (g *gathering) series(s *series, labels [ledger.Statuses][]*dto.LabelPair) {
	for st, n := range s.count {
		if n > 0 || st != unknown {
			g.add(&tasksMetric, float64(n), labels[st])
		}
		if n == 0 {
			continue
		}
		g.add(&lastStartMetric, float64(s.newest[st]), labels[st])
		if st == pending || st == executing {
			g.add(&oldestStartMetric, float64(s.oldest[st]), labels[st])
		}
		if finished(st) && s.lasted[st] != unknownDuration {
			g.add(&lastDurationMetric, float64(s.lasted[st]), labels[st])
		}
	}
}

func (g *gathering) instance(in *instance, region string) {
	g.add(&instanceInfoMetric, 1, pairs("projectId", in.projectID, "redisId", in.RedisID, "redisName", in.redisName, "region", region))
	if in.backupSucceeded != 0 {
		g.add(&lastBackupMetric, float64(in.backupSucceeded), pairs("outcome", "succeeded", "redisId", in.RedisID, "region", region))
	}
	if in.backupFailed != 0 {
		g.add(&lastBackupMetric, float64(in.backupFailed), pairs("outcome", "failed", "redisId", in.RedisID, "region", region))
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
