package tests

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// The evaluator does what Prometheus's packages rules and tsdb do for promtool. Those two
// import a large part of Prometheus, which takes minutes to build; promql does not.

var queryParser = parser.NewParser(parser.Options{})

// epoch is when all tests begin, as in promtool.
var epoch = time.Unix(0, 0).UTC()

// evaluator evaluates rules as Prometheus does, on a storage in memory.
type evaluator struct {
	storage *memory
	engine  *promql.Engine
	rules   []*rule
}

// rule is a rule and its state.
type rule struct {
	rulefmt.Rule
	written map[string]labels.Labels // the series that the last evaluation wrote
	active  map[string]*alert        // pending and firing
}

type alert struct {
	labels, annotations labels.Labels
	activeAt            time.Time
	keepFiringSince     time.Time // zero while the expression has a result
	firing              bool
}

func newEvaluator(groups *rulefmt.RuleGroups, interval time.Duration) *evaluator {
	e := &evaluator{
		storage: &memory{map[string]map[string]*series{}},
		engine: promql.NewEngine(promql.EngineOpts{
			MaxSamples:               10_000_000,
			Timeout:                  time.Minute,
			EnableAtModifier:         true,
			EnableNegativeOffset:     true,
			NoStepSubqueryIntervalFn: func(int64) int64 { return interval.Milliseconds() },
			Parser:                   queryParser,
		}),
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			e.rules = append(e.rules, &rule{Rule: r, active: map[string]*alert{}})
		}
	}
	return e
}

// load appends a series of samples from the epoch on, written as in promtool's files: the
// series, a blank and the values.
func (e *evaluator) load(line string, interval time.Duration) error {
	l, values, err := queryParser.ParseSeriesDesc(line)
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	if e.storage.series[l.Get(labels.MetricName)][l.String()] != nil {
		return fmt.Errorf("two series %s", l)
	}
	for i, v := range values {
		if v.Histogram != nil {
			return fmt.Errorf("%s: histograms are not supported", l)
		}
		if !v.Omitted {
			e.storage.append(l, epoch.Add(time.Duration(i)*interval), v.Value)
		}
	}
	return nil
}

// query evaluates an expression. A scalar becomes a vector of one sample, as in a rule.
func (e *evaluator) query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	q, err := e.engine.NewInstantQuery(ctx, e.storage, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, result.Err
	}
	switch v := result.Value.(type) {
	case promql.Vector:
		return slices.Clone(v), nil // Close reuses v
	case promql.Scalar:
		return promql.Vector{{T: v.T, F: v.V}}, nil
	}
	return nil, fmt.Errorf("%s is neither a vector nor a scalar", expr)
}

// evaluate evaluates all rules once, in their order.
func (e *evaluator) evaluate(ctx context.Context, at time.Time) error {
	for _, r := range e.rules {
		if err := e.evaluateRule(ctx, r, at); err != nil {
			return fmt.Errorf("%s%s at %s: %w", r.Record, r.Alert, at.Sub(epoch), err)
		}
	}
	return nil
}

func (e *evaluator) evaluateRule(ctx context.Context, r *rule, at time.Time) error {
	vector, err := e.query(ctx, r.Expr, at)
	if err != nil {
		return err
	}
	if r.Record != "" {
		return e.record(r, vector, at)
	}
	return e.alert(ctx, r, vector, at)
}

func (e *evaluator) record(r *rule, vector promql.Vector, at time.Time) error {
	written := map[string]labels.Labels{}
	for _, sample := range vector {
		b := labels.NewBuilder(sample.Metric).Set(labels.MetricName, r.Record)
		for name, v := range r.Labels {
			b.Set(name, v)
		}
		l := b.Labels()
		if _, twice := written[l.String()]; twice {
			return fmt.Errorf("two results with the labels %s", l)
		}
		written[l.String()] = l
		e.storage.append(l, at, sample.F)
	}
	e.endSeries(r, written, at)
	return nil
}

func (e *evaluator) alert(ctx context.Context, r *rule, vector promql.Vector, at time.Time) error {
	result := map[string]bool{}
	for _, sample := range vector {
		l, notes, err := e.expand(ctx, r, sample, at)
		if err != nil {
			return err
		}
		key := l.String()
		if result[key] {
			return fmt.Errorf("two results with the labels %s", l)
		}
		result[key] = true
		a := r.active[key]
		if a == nil {
			a = &alert{labels: l, activeAt: at}
			r.active[key] = a
		}
		a.annotations = notes
		a.keepFiringSince = time.Time{}
	}

	for key, a := range r.active {
		if result[key] {
			continue
		}
		if a.keepFiringSince.IsZero() {
			a.keepFiringSince = at
		}
		if !a.firing || at.Sub(a.keepFiringSince) >= time.Duration(r.KeepFiringFor) {
			delete(r.active, key)
		}
	}

	written := map[string]labels.Labels{}
	for _, a := range r.active {
		if at.Sub(a.activeAt) >= time.Duration(r.For) {
			a.firing = true
		}
		state := "pending"
		if a.firing {
			state = "firing"
		}
		l := labels.NewBuilder(a.labels).Set(labels.MetricName, "ALERTS").Set("alertstate", state).Labels()
		written[l.String()] = l
		e.storage.append(l, at, 1)
		l = labels.NewBuilder(a.labels).Set(labels.MetricName, "ALERTS_FOR_STATE").Labels()
		written[l.String()] = l
		e.storage.append(l, at, float64(a.activeAt.Unix()))
	}
	e.endSeries(r, written, at)
	return nil
}

// expand returns the labels and annotations of an alert. Unlike Prometheus, which puts the
// error into the text, it fails if a template does.
func (e *evaluator) expand(ctx context.Context, r *rule, sample promql.Sample, at time.Time) (l, notes labels.Labels, err error) {
	const variables = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"
	data := template.AlertTemplateData(sample.Metric.Map(), nil, "", sample)
	fill := func(b *labels.Builder, texts map[string]string) error {
		for name, text := range texts {
			t := template.NewTemplateExpander(ctx, variables+text, "", data, model.Time(at.UnixMilli()), e.query, nil, nil)
			expanded, err := t.Expand()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			b.Set(name, expanded)
		}
		return nil
	}
	b := labels.NewBuilder(sample.Metric).Del(labels.MetricName)
	if err := fill(b, r.Labels); err != nil {
		return l, notes, err
	}
	b.Set(labels.AlertName, r.Alert)
	n := labels.NewBuilder(labels.EmptyLabels())
	err = fill(n, r.Annotations)
	return b.Labels(), n.Labels(), err
}

// endSeries marks the series that the last evaluation wrote and this one did not as stale.
func (e *evaluator) endSeries(r *rule, written map[string]labels.Labels, at time.Time) {
	for key, l := range r.written {
		if _, ok := written[key]; !ok {
			e.storage.append(l, at, math.Float64frombits(value.StaleNaN))
		}
	}
	r.written = written
}

// firing describes the firing alerts of one name, as describe does.
func (e *evaluator) firing(name string) []string {
	all := []string{}
	for _, r := range e.rules {
		for _, a := range r.active {
			if r.Alert == name && a.firing {
				all = append(all, describe(a.labels, a.annotations))
			}
		}
	}
	slices.Sort(all)
	return all
}

// memory is a storage.Queryable: series by name, then by labels.
type memory struct {
	series map[string]map[string]*series
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample // in the order of time
}

func (m *memory) append(l labels.Labels, at time.Time, v float64) {
	name, key := l.Get(labels.MetricName), l.String()
	if m.series[name] == nil {
		m.series[name] = map[string]*series{}
	}
	s := m.series[name][key]
	if s == nil {
		s = &series{labels: l}
		m.series[name][key] = s
	}
	s.samples = append(s.samples, sample{at.UnixMilli(), v})
}

func (m *memory) Querier(from, to int64) (storage.Querier, error) {
	return querier{m, from, to}, nil
}

type querier struct {
	*memory
	from, to int64
}

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &seriesSet{}
	for name, all := range q.series {
		excludes := func(m *labels.Matcher) bool { return m.Name == labels.MetricName && !m.Matches(name) }
		if slices.ContainsFunc(matchers, excludes) {
			continue
		}
		for _, s := range all {
			mismatches := func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }
			if slices.ContainsFunc(matchers, mismatches) {
				continue
			}
			if samples := s.between(q.from, q.to); len(samples) > 0 {
				found.series = append(found.series, storage.NewListSeries(s.labels, samples))
			}
		}
	}
	return found
}

// between returns the samples from one time to another, both included.
func (s *series) between(from, to int64) []chunks.Sample {
	compare := func(s chunks.Sample, t int64) int { return cmp.Compare(s.T(), t) }
	first, _ := slices.BinarySearchFunc(s.samples, from, compare)
	end, _ := slices.BinarySearchFunc(s.samples, to+1, compare)
	return s.samples[first:max(first, end)]
}

// The engine calls neither of these two.

func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	panic("not implemented")
}

func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	panic("not implemented")
}

func (querier) Close() error { return nil }

type seriesSet struct {
	series []storage.Series
	next   int
}

func (s *seriesSet) Next() bool                      { s.next++; return s.next <= len(s.series) }
func (s *seriesSet) At() storage.Series              { return s.series[s.next-1] }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

type sample struct {
	at    int64 // UNIX milliseconds
	value float64
}

func (s sample) T() int64                    { return s.at }
func (s sample) F() float64                  { return s.value }
func (s sample) Type() chunkenc.ValueType    { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }
func (sample) ST() int64                     { return 0 }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
