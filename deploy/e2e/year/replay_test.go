package year

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// evaluateAfter is how long after a scrape the rules are evaluated.
const evaluateAfter = 15 * time.Second

// prometheus is the parts of Prometheus that decide what fires, at virtual times: its
// storage, its engine and its rule groups.
type prometheus struct {
	dir       string // of the storages
	rulesFile string

	db      *tsdb.DB
	engine  *promql.Engine
	parser  parser.Parser
	groups  []*rules.Group // none while it does not run
	evals   int            // since it was started
	targets []*target
	spent   time.Duration // on evaluations
	count   int           // evaluations
}

// prometheuses send their alerts to the same Alertmanager, which takes those with the
// same labels for one.
type prometheuses []*prometheus

func (all prometheuses) step(f frame, n *notices) error {
	at := time.Unix(f.At, 0)
	var firing []labels.Labels
	runs := false
	for i, p := range all {
		more, err := p.step(at, f.Views[i])
		if err != nil {
			return err
		}
		firing = append(firing, more...)
		runs = runs || p.groups != nil
	}
	if runs {
		n.see(at.Add(evaluateAfter), firing)
	}
	return nil
}

func (all prometheuses) close() (err error) {
	for _, p := range all {
		err = errors.Join(err, p.close())
	}
	return err
}

// target is the state of one target's scrape.
type target struct {
	parser  parser.Parser
	region  region
	address string
	moves   int
	labels  labels.Labels
	up      series
	known   []series // by id
	values  map[int]float64
}

type series struct {
	labels labels.Labels
	ref    storage.SeriesRef
}

func newPrometheus(dir, rulesFile string) (*prometheus, error) {
	p := &prometheus{dir: dir, rulesFile: rulesFile, parser: parser.NewParser(parser.Options{})}
	p.engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50e6, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute, Parser: p.parser,
	})
	for _, r := range regions {
		for _, e := range r.exporters {
			t := &target{parser: p.parser, region: r, address: e.address, values: map[int]float64{}}
			t.move(0)
			p.targets = append(p.targets, t)
		}
	}
	return p, p.open()
}

// open begins with an empty storage.
func (p *prometheus) open() error {
	if err := p.close(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(p.dir, "tsdb")
	if err != nil {
		return err
	}
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = (15 * day).Milliseconds() // as Prometheus has it by default
	// Large blocks make no difference to what the rules read, but to the time it takes.
	opts.MinBlockDuration, opts.MaxBlockDuration = day.Milliseconds(), (3 * day).Milliseconds()
	opts.WALSegmentSize = -1 // a restart of Prometheus keeps the storage open
	p.db, err = tsdb.Open(dir, nil, nil, opts, nil)
	for _, t := range p.targets {
		t.up.ref = 0
		for i := range t.known {
			t.known[i].ref = 0
		}
	}
	return err
}

func (p *prometheus) close() error {
	if p.db == nil {
		return nil
	}
	err := p.db.Close()
	return errors.Join(err, os.RemoveAll(p.db.Dir()))
}

// step does what a view says and returns what fires afterwards.
func (p *prometheus) step(at time.Time, v view) ([]labels.Labels, error) {
	if v.Does != runs {
		return nil, p.stop(v.Does)
	}
	app := p.db.Appender(context.Background())
	for i := range v.Targets {
		if err := p.targets[v.Targets[i].Target].append(app, at, &v.Targets[i]); err != nil {
			return nil, fmt.Errorf("append at %s: %w", at, err)
		}
	}
	if err := app.Commit(); err != nil {
		return nil, err
	}
	return p.evaluate(at.Add(evaluateAfter))
}

// stop ends the scrapes and rules. What was scraped stays, unless it is lost.
func (p *prometheus) stop(how promDoes) error {
	running := len(p.groups) > 0
	p.groups = nil
	for _, t := range p.targets {
		clear(t.values)
	}
	if how == lost && running {
		return p.open()
	}
	return nil
}

// move gives the target, and all of its series, the address that it has after so many moves.
func (t *target) move(moves int) {
	t.moves = moves
	t.labels = labels.FromStrings("job", "crs", "account", t.region.account, "instance", moved(t.address, moves))
	t.up = series{labels: t.own(labels.FromStrings(labels.MetricName, "up"))}
	for i := range t.known {
		t.known[i] = series{labels: t.own(t.known[i].labels)}
	}
}

// own returns labels of the target's series as Prometheus stores them.
func (t *target) own(l labels.Labels) labels.Labels {
	b := labels.NewBuilder(l)
	if l.Has("region") && t.region.shown != "" {
		b.Set("region", t.region.shown)
	}
	t.labels.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
	return b.Labels()
}

// append adds what one scrape of a target adds to the storage, with a stale marker for
// each series that ends, as a scrape of Prometheus does.
func (t *target) append(app storage.Appender, at time.Time, s *scrape) error {
	if s.Moves != t.moves {
		t.move(s.Moves)
	}
	for _, text := range s.New {
		l, err := t.parser.ParseMetric(text)
		if err != nil {
			return err
		}
		t.known = append(t.known, series{labels: t.own(l)})
	}
	stale := math.Float64frombits(value.StaleNaN)
	up := 1.0
	ended := s.Gone
	if s.State != answered {
		up = 0
		for id := range t.values {
			ended = append(ended, id)
		}
	}
	for _, id := range ended {
		delete(t.values, id)
		if err := t.known[id].append(app, at, stale); err != nil {
			return err
		}
	}
	for _, v := range s.Set {
		t.values[v.ID] = v.Value
	}
	for id, v := range t.values {
		if err := t.known[id].append(app, at, v); err != nil {
			return err
		}
	}
	if s.State == noTarget {
		up = stale
	}
	return t.up.append(app, at, up)
}

func (s *series) append(app storage.Appender, at time.Time, v float64) (err error) {
	s.ref, err = app.Append(s.ref, s.labels, at.UnixMilli(), v)
	return err
}

// evaluate evaluates all groups and returns what fires. After a start the state of the
// alerts is restored after the second evaluation, as Prometheus does.
func (p *prometheus) evaluate(at time.Time) (firing []labels.Labels, err error) {
	if p.groups == nil {
		if err := p.load(); err != nil {
			return nil, err
		}
	}
	begun := time.Now()
	p.evals++
	for _, g := range p.groups {
		g.Eval(context.Background(), at)
		if p.evals == 2 {
			g.RestoreForState(at)
		}
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				return nil, fmt.Errorf("rule %s at %s: %w", r.Name(), at, err)
			}
		}
		for _, r := range g.AlertingRules() {
			r.ForEachActiveAlert(func(a *rules.Alert) {
				if a.State == rules.StateFiring {
					firing = append(firing, a.Labels)
				}
			})
		}
	}
	p.spent += time.Since(begun)
	p.count++
	return firing, nil
}

// load starts the rules as a new Prometheus does.
func (p *prometheus) load() error {
	m := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(p.engine, p.db), AppendableV2: p.db, Queryable: p.db,
		NotifyFunc:      func(context.Context, string, ...*rules.Alert) {},
		OutageTolerance: time.Hour, ForGracePeriod: 10 * time.Minute, ResendDelay: time.Minute,
		Parser: p.parser, GroupLoader: loader{p.parser},
	})
	groups, errs := m.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, p.rulesFile)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, g := range groups {
		p.groups = append(p.groups, g)
	}
	slices.SortFunc(p.groups, func(a, b *rules.Group) int {
		if a.Name() < b.Name() {
			return -1
		}
		return 1
	})
	p.evals = 0
	return nil
}

// loader loads rules without their annotations, which change nothing that fires and take a
// quarter of an evaluation.
type loader struct{ parser parser.Parser }

func (l loader) Load(file string, ignoreUnknownFields bool, names model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	groups, errs := rulefmt.ParseFile(file, ignoreUnknownFields, names, l.parser, promslog.NewNopLogger())
	if len(errs) > 0 {
		return nil, errs
	}
	for _, g := range groups.Groups {
		for i := range g.Rules {
			g.Rules[i].Annotations = nil
		}
	}
	return groups, nil
}

func (l loader) Parse(query string) (parser.Expr, error) { return l.parser.ParseExpr(query) }
