package year

import (
	"cmp"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
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

// prometheus is the parts of Prometheus that decide what fires, at the times of the
// scenario: its storage, its engine and its rule groups.
type prometheus struct {
	rulesFile string
	db        *tsdb.DB
	engine    *promql.Engine
	groups    []*rules.Group // none while it does not run
	evals     int            // since it was started
	series    map[sample]*series
	shown     []*series // by the last scrape
	notices   *notices
}

var syntax = parser.NewParser(parser.Options{})

func newPrometheus(t *testing.T, rules string, n *notices) *prometheus {
	t.Helper()
	p := &prometheus{rulesFile: filepath.Join(t.TempDir(), "rules.yml"), notices: n}
	p.engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50e6, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute, Parser: syntax,
	})
	check(t, os.WriteFile(p.rulesFile, []byte(rules), 0o600))
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
	opts.BlockReloadInterval = day
	opts.WALSegmentSize = -1 // a restart of Prometheus keeps the storage open
	var err error
	p.db, err = tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	check(t, err)
	p.series = map[sample]*series{}
}

// step scrapes if Prometheus runs, and notices what fires afterwards. While it does not run,
// what was scraped stays, unless it is lost. A series that ends meanwhile gets no stale marker.
func (p *prometheus) step(t *testing.T, at time.Time, does promDoes, answers []answer) {
	t.Helper()
	if does != runs {
		if does == lost && p.groups != nil {
			p.open(t)
		}
		p.groups, p.shown = nil, nil
		return
	}
	p.store(t, at.UnixMilli(), answers)
	at = at.Add(evaluateAfter)
	p.notices.see(at, p.evaluate(t, at))
}

// answer is what a scrape gets.
type answer struct{ address, text string }

// sample is the text of a sample without its value, and where it was scraped.
type sample struct{ address, text string }

type series struct {
	labels labels.Labels
	ref    storage.SeriesRef
	at     int64 // of the last scrape that shows it, in milliseconds
}

// store puts what a scrape gets into the storage, with a stale marker for each series that
// ends, as Prometheus does.
func (p *prometheus) store(t *testing.T, at int64, answers []answer) {
	t.Helper()
	app := p.db.Appender(t.Context())
	store := func(s *series, value float64) {
		var err error
		s.ref, err = app.Append(s.ref, s.labels, at, value)
		check(t, err)
	}
	before := p.shown
	p.shown = make([]*series, 0, len(before))
	for _, a := range answers {
		for line := range strings.Lines(a.text) {
			ours := strings.HasPrefix(line, "crs_") || strings.HasPrefix(line, "up ")
			if !ours || strings.HasPrefix(line, "crs_api_request_duration_seconds") {
				continue // comments, the Go runtime, and what no rule reads
			}
			blank := strings.LastIndexByte(line, ' ')
			value, err := strconv.ParseFloat(strings.TrimSuffix(line[blank+1:], "\n"), 64)
			check(t, err)
			s := p.series[sample{a.address, line[:blank]}]
			if s == nil {
				text := strings.Clone(line[:blank]) // does not keep all of the answer
				s = &series{labels: a.labels(t, text)}
				p.series[sample{a.address, text}] = s
			}
			s.at = at
			p.shown = append(p.shown, s)
			store(s, value)
		}
	}
	for _, s := range before {
		if s.at != at {
			store(s, math.Float64frombits(value.StaleNaN))
		}
	}
	check(t, app.Commit())
}

// labels returns the labels of a sample as Prometheus stores them.
func (a answer) labels(t *testing.T, text string) labels.Labels {
	t.Helper()
	l, err := syntax.ParseMetric(text)
	check(t, err)
	return labels.NewBuilder(l).Set("job", "crs").Set("instance", a.address).Labels()
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
