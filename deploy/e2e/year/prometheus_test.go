package year

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
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
	rulesFile string
	db        *tsdb.DB
	engine    *promql.Engine
	groups    []*rules.Group // none while it does not run
	evals     int            // since it was started
	targets   []*target
}

var syntax = parser.NewParser(parser.Options{})

func newPrometheus(t *testing.T, rulesFile string) *prometheus {
	t.Helper()
	p := &prometheus{rulesFile: rulesFile, engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50e6, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute, Parser: syntax,
	})}
	for _, r := range regions {
		for _, e := range r.exporters {
			p.targets = append(p.targets, &target{region: r, address: e.address})
		}
	}
	p.open(t)
	t.Cleanup(func() { check(t, p.db.Close()) })
	return p
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open begins with an empty storage.
func (p *prometheus) open(t *testing.T) {
	t.Helper()
	if p.db != nil {
		check(t, errors.Join(p.db.Close(), os.RemoveAll(p.db.Dir())))
	}
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = (15 * day).Milliseconds() // as Prometheus has it by default
	// Large blocks make no difference to what the rules read, but to the time it takes.
	opts.MinBlockDuration, opts.MaxBlockDuration = day.Milliseconds(), (3 * day).Milliseconds()
	opts.WALSegmentSize = -1 // a restart of Prometheus keeps the storage open
	var err error
	p.db, err = tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	check(t, err)
	for _, target := range p.targets {
		target.move(target.moves)
	}
}

// step does what a view says and returns what fires afterwards. While Prometheus does not
// run, what was scraped stays, unless it is lost. A series that ends meanwhile gets no stale
// marker.
func (p *prometheus) step(t *testing.T, at time.Time, v view) []labels.Labels {
	t.Helper()
	if v.does != runs {
		if v.does == lost && p.groups != nil {
			p.open(t)
		}
		p.groups = nil
		for _, target := range p.targets {
			target.shown = nil
		}
		return nil
	}
	app := p.db.Appender(t.Context())
	for i, a := range v.answers {
		check(t, p.targets[i].take(app, at.UnixMilli(), a))
	}
	check(t, app.Commit())
	return p.evaluate(t, at.Add(evaluateAfter))
}

// target is the state of one target's scrape.
type target struct {
	region  region
	address string
	moves   int
	up      *series
	known   map[string]*series // by their text
	shown   []*series          // by the last scrape
}

type series struct {
	labels labels.Labels
	ref    storage.SeriesRef
	at     int64 // of the last scrape that shows it, in milliseconds
}

// move gives the target the address that it has after so many moves. All of its series are
// new ones.
func (t *target) move(moves int) {
	t.moves = moves
	t.known = map[string]*series{}
	t.up = &series{labels: t.own(labels.FromStrings(labels.MetricName, "up"))}
}

// own returns labels of the target's series as Prometheus stores them.
func (t *target) own(l labels.Labels) labels.Labels {
	b := labels.NewBuilder(l)
	if l.Has("region") && t.region.shown != "" {
		b.Set("region", t.region.shown)
	}
	b.Set("job", "crs")
	b.Set("account", t.region.account)
	b.Set("instance", fmt.Sprintf("%d.%s", t.moves, t.address))
	return b.Labels()
}

// take adds what one scrape gives to the storage, with a stale marker for each series that
// ends, as a scrape of Prometheus does.
func (t *target) take(app storage.Appender, at int64, a answer) error {
	if a.moves != t.moves {
		t.move(a.moves)
	}
	before := t.shown
	t.shown = make([]*series, 0, len(before))
	for line := range strings.Lines(a.text) {
		if !strings.HasPrefix(line, "crs_") || strings.HasPrefix(line, "crs_api_request_duration_seconds") {
			continue // comments, the Go runtime, and what no rule reads
		}
		if err := t.takeLine(app, at, strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
	}
	stale := math.Float64frombits(value.StaleNaN)
	for _, s := range before {
		if s.at != at {
			if err := s.append(app, at, stale); err != nil {
				return err
			}
		}
	}
	up := 1.0
	switch {
	case a.away:
		up = stale
	case a.text == "":
		up = 0
	}
	return t.up.append(app, at, up)
}

func (t *target) takeLine(app storage.Appender, at int64, line string) error {
	blank := strings.LastIndexByte(line, ' ')
	v, err := strconv.ParseFloat(line[blank+1:], 64)
	if err != nil {
		return err
	}
	s := t.known[line[:blank]]
	if s == nil {
		text := strings.Clone(line[:blank]) // does not keep all of the answer
		l, err := syntax.ParseMetric(text)
		if err != nil {
			return err
		}
		s = &series{labels: t.own(l)}
		t.known[text] = s
	}
	s.at = at
	t.shown = append(t.shown, s)
	return s.append(app, at, v)
}

func (s *series) append(app storage.Appender, at int64, v float64) (err error) {
	s.ref, err = app.Append(s.ref, s.labels, at, v)
	return err
}

// evaluate evaluates all groups and returns what fires. After a start the state of the
// alerts is restored after the second evaluation, as Prometheus does.
func (p *prometheus) evaluate(t *testing.T, at time.Time) (firing []labels.Labels) {
	t.Helper()
	if p.groups == nil {
		p.start(t)
	}
	p.evals++
	for _, g := range p.groups {
		g.Eval(context.Background(), at)
		if p.evals == 2 {
			g.RestoreForState(at)
		}
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				t.Fatalf("rule %s at %s: %s", r.Name(), at, err)
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
	return firing
}

// start loads the rules as a new Prometheus does.
func (p *prometheus) start(t *testing.T) {
	t.Helper()
	m := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(p.engine, p.db), AppendableV2: p.db, Queryable: p.db,
		NotifyFunc:      func(context.Context, string, ...*rules.Alert) {},
		OutageTolerance: time.Hour, ForGracePeriod: 10 * time.Minute, ResendDelay: time.Minute,
		Parser: syntax,
	})
	groups, errs := m.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, p.rulesFile)
	check(t, errors.Join(errs...))
	for _, g := range groups {
		p.groups = append(p.groups, g)
	}
	slices.SortFunc(p.groups, func(a, b *rules.Group) int { return cmp.Compare(a.Name(), b.Name()) })
	p.evals = 0
}
