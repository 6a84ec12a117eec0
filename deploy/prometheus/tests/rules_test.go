// Package tests runs the rule tests beside it as promtool does, with Prometheus's own rules,
// storage and engine. It has a module of its own, which is faster to build than promtool.
package tests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"go.yaml.in/yaml/v3"
)

const rulesFile = "../rules/crs.yml"

// epoch is when all tests begin, as in promtool.
var epoch = time.Unix(0, 0).UTC()

// testFile is the part of promtool's format that the files here use. Other fields are
// errors.
type testFile struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []ruleTest     `yaml:"tests"`
}

type ruleTest struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"` // of the samples; without it, the evaluation interval
	InputSeries []inputSeries  `yaml:"input_series"`
	AlertTests  []alertTest    `yaml:"alert_rule_test"`
	ExprTests   []exprTest     `yaml:"promql_expr_test"`
}

type inputSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type alertTest struct {
	Alertname string         `yaml:"alertname"`
	EvalTime  model.Duration `yaml:"eval_time"`
	ExpAlerts []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

type exprTest struct {
	Expr       string         `yaml:"expr"`
	EvalTime   model.Duration `yaml:"eval_time"`
	ExpSamples []struct {
		Labels string  `yaml:"labels"`
		Value  float64 `yaml:"value"`
	} `yaml:"exp_samples"`
}

// TestRules runs the tests of the shipped rules.
func TestRules(t *testing.T) {
	files, err := filepath.Glob("*_test.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rule tests found: %v", err)
	}
	for _, file := range files {
		runFile(t, file, rulesFile)
	}
}

// TestExceptions runs the tests of the rules with the exceptions from their comment, placed
// where the comment says: before the default of crs:backup_deadline_timestamp_seconds.
func TestExceptions(t *testing.T) {
	const start = `- record: crs:backup_deadline_timestamp_seconds
        expr: |
          max without (instance, pod) (
`
	head, rest, found := strings.Cut(readFile(t, rulesFile), start)
	examples := regexp.MustCompile(`(?m)^ *# +(\S.* or)$`).FindAllStringSubmatch(head, -1)
	if !found || len(examples) == 0 {
		t.Fatal("no examples of exceptions before the rule of the deadlines")
	}
	for _, example := range slices.Backward(examples) {
		rest = "            " + example[1] + "\n" + rest
	}
	file := filepath.Join(t.TempDir(), "crs.yml")
	if err := os.WriteFile(file, []byte(head+start+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	runFile(t, "testdata/exceptions_test.yml", file)
}

// runFile runs the tests of a file on a file of rules.
func runFile(t *testing.T, path, rulesFile string) {
	t.Run(filepath.Base(path), func(t *testing.T) {
		decoder := yaml.NewDecoder(strings.NewReader(readFile(t, path)))
		decoder.KnownFields(true)
		var file testFile
		if err := decoder.Decode(&file); err != nil {
			t.Fatal(err)
		}
		if len(file.Tests) == 0 {
			t.Fatal("no tests")
		}
		for _, test := range file.Tests {
			t.Run(test.Name, func(t *testing.T) {
				t.Parallel()
				test.run(t, rulesFile, time.Duration(file.EvaluationInterval))
			})
		}
	})
}

// run loads the input series, evaluates the rules from the UNIX epoch to the last time of
// the test, and compares.
func (test ruleTest) run(t *testing.T, rulesFile string, every time.Duration) {
	load := fmt.Sprintf("load %s\n", cmp.Or(test.Interval, model.Duration(every)))
	for _, in := range test.InputSeries {
		load += in.Series + " " + in.Values + "\n"
	}
	loader, err := promqltest.NewLazyLoader(load, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer loader.Close()
	loader.SubqueryInterval = every
	groups, errs := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(loader.QueryEngine(), loader.Storage()),
		AppendableV2: loader.Storage(),
		Context:      t.Context(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       promslog.NewNopLogger(),
		Parser:       parser.NewParser(parser.Options{}),
	}).LoadGroups(every, labels.EmptyLabels(), "", nil, false, rulesFile)
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	var all []rules.Rule
	alerts := map[string]*rules.AlertingRule{}
	for _, group := range groups {
		all = append(all, group.Rules()...)
	}
	for _, r := range all {
		if alert, ok := r.(*rules.AlertingRule); ok {
			alert.SetRestored(true) // else it writes no ALERTS
			alerts[alert.Name()] = alert
		}
	}

	var end time.Duration
	for _, a := range test.AlertTests {
		end = max(end, time.Duration(a.EvalTime))
		if alerts[a.Alertname] == nil {
			t.Fatalf("no alert %s", a.Alertname)
		}
	}
	for _, x := range test.ExprTests {
		end = max(end, time.Duration(x.EvalTime))
	}
	for now := time.Duration(0); now <= end; now += every {
		loader.WithSamplesTill(epoch.Add(now), func(err error) {
			for _, group := range groups {
				group.Eval(t.Context(), epoch.Add(now))
			}
			for _, r := range all {
				err = errors.Join(err, r.LastError())
			}
			if err != nil {
				t.Fatalf("at %s: %v", now, err)
			}
		})
		for _, a := range test.AlertTests {
			// The last evaluation that is not after the time of the test.
			if at := time.Duration(a.EvalTime); now <= at && at < now+every {
				a.check(t, alerts[a.Alertname])
			}
		}
	}
	for _, x := range test.ExprTests {
		var want []string
		for _, s := range x.ExpSamples {
			l, err := parser.NewParser(parser.Options{}).ParseMetric(s.Labels)
			if err != nil {
				t.Fatalf("%s: %v", s.Labels, err)
			}
			want = append(want, fmt.Sprint(l, " ", s.Value))
		}
		at := epoch.Add(time.Duration(x.EvalTime))
		compare(t, fmt.Sprintf("%s at %s", x.Expr, x.EvalTime), query(t, loader.QueryEngine(), loader.Queryable(), x.Expr, at), want)
	}
}

func (a alertTest) check(t *testing.T, rule *rules.AlertingRule) {
	t.Helper()
	var got, want []string
	for _, active := range rule.ActiveAlerts() {
		if active.State == rules.StateFiring {
			got = append(got, fmt.Sprint(active.Labels, "\n  ", active.Annotations))
		}
	}
	for _, expected := range a.ExpAlerts {
		l := labels.NewBuilder(labels.FromMap(expected.Labels)).Set(labels.AlertName, a.Alertname).Labels()
		want = append(want, fmt.Sprint(l, "\n  ", labels.FromMap(expected.Annotations)))
	}
	compare(t, fmt.Sprintf("%s at %s", a.Alertname, a.EvalTime), got, want)
}

// compare compares two lists, in any order.
func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// query returns the samples of an expression at a time.
func query(t *testing.T, engine *promql.Engine, series storage.Queryable, expr string, at time.Time) []string {
	t.Helper()
	q, err := engine.NewInstantQuery(t.Context(), series, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	vector, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	var samples []string
	for _, s := range vector {
		samples = append(samples, fmt.Sprint(s.Metric, " ", s.F))
	}
	return samples
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
