// Package tests runs the rule tests beside it as promtool does. It has a module of its own,
// because it needs less of Prometheus than the other tests of deploy.
package tests

import (
	"bytes"
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
	"github.com/prometheus/prometheus/model/rulefmt"
	"go.yaml.in/yaml/v3"
)

const rulesFile = "../rules/crs.yml"

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
	rules := readFile(t, rulesFile)
	for _, file := range files {
		runFile(t, file, rulesFile, rules)
	}
}

// TestExceptions runs the tests of the rules with the exceptions from their comment, placed
// where the comment says.
func TestExceptions(t *testing.T) {
	runFile(t, "testdata/exceptions_test.yml", "crs.yml", withExceptions(t, readFile(t, rulesFile)))
}

var exception = regexp.MustCompile(`(?m)^ *# +(\S.* or)$`)

// withExceptions inserts the commented examples of exceptions before the default of
// crs:backup_deadline_timestamp_seconds.
func withExceptions(t *testing.T, rules string) string {
	t.Helper()
	const start = `- record: crs:backup_deadline_timestamp_seconds
        expr: |
          max without (instance, pod) (
`
	head, rest, found := strings.Cut(rules, start)
	examples := exception.FindAllStringSubmatch(head, -1)
	if !found || len(examples) == 0 {
		t.Fatal("no examples of exceptions before the rule of the deadlines")
	}
	for _, example := range slices.Backward(examples) {
		rest = "            " + example[1] + "\n" + rest
	}
	return head + start + rest
}

// runFile runs the tests of a file on rules. The file must name them ruleFile.
func runFile(t *testing.T, path, ruleFile, rules string) {
	t.Run(filepath.Base(path), func(t *testing.T) {
		t.Parallel()
		decoder := yaml.NewDecoder(strings.NewReader(readFile(t, path)))
		decoder.KnownFields(true)
		var file testFile
		if err := decoder.Decode(&file); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(file.RuleFiles, []string{ruleFile}) || file.EvaluationInterval == 0 || len(file.Tests) == 0 {
			t.Fatalf("rule_files must be [%s], and evaluation_interval and tests must be given", ruleFile)
		}
		for _, test := range file.Tests {
			t.Run(test.Name, func(t *testing.T) {
				groups, errs := rulefmt.Parse([]byte(rules), false, model.UTF8Validation, queryParser, promslog.NewNopLogger())
				if len(errs) > 0 {
					t.Fatal(errors.Join(errs...))
				}
				for _, g := range groups.Groups {
					if g.Limit != 0 || g.QueryOffset != nil || len(g.Labels) > 0 {
						t.Fatalf("group %s: limit, query_offset and labels are not supported", g.Name)
					}
				}
				test.run(t, groups, time.Duration(file.EvaluationInterval))
			})
		}
	})
}

// run loads the input series, evaluates the rules from the UNIX epoch to the last time of
// the test, and compares.
func (test ruleTest) run(t *testing.T, groups *rulefmt.RuleGroups, every time.Duration) {
	e := newEvaluator(groups, every)
	interval := time.Duration(test.Interval)
	if interval == 0 {
		interval = every
	}
	for _, in := range test.InputSeries {
		if err := e.load(in.Series+" "+in.Values, interval); err != nil {
			t.Fatal(err)
		}
	}
	var end time.Duration
	for _, a := range test.AlertTests {
		end = max(end, time.Duration(a.EvalTime))
		if !slices.ContainsFunc(e.rules, func(r *rule) bool { return r.Alert == a.Alertname }) {
			t.Errorf("no alert %s", a.Alertname)
		}
	}
	for _, x := range test.ExprTests {
		end = max(end, time.Duration(x.EvalTime))
	}
	for now := time.Duration(0); now <= end; now += every {
		if err := e.evaluate(t.Context(), epoch.Add(now)); err != nil {
			t.Fatal(err)
		}
		for _, a := range test.AlertTests {
			// The last evaluation that is not after the time of the test.
			if at := time.Duration(a.EvalTime); now <= at && at < now+every {
				a.check(t, e)
			}
		}
	}
	for _, x := range test.ExprTests {
		x.check(t, e, epoch.Add(time.Duration(x.EvalTime)))
	}
}

func (a alertTest) check(t *testing.T, e *evaluator) {
	t.Helper()
	want := []string{}
	for _, expected := range a.ExpAlerts {
		l := labels.NewBuilder(labels.FromMap(expected.Labels)).Set(labels.AlertName, a.Alertname).Labels()
		want = append(want, describe(l, labels.FromMap(expected.Annotations)))
	}
	slices.Sort(want)
	if got := e.firing(a.Alertname); !slices.Equal(got, want) {
		t.Errorf("%s at %s:\n got:\n%s want:\n%s", a.Alertname, a.EvalTime, lines(got), lines(want))
	}
}

func (x exprTest) check(t *testing.T, e *evaluator, at time.Time) {
	t.Helper()
	vector, err := e.query(t.Context(), x.Expr, at)
	if err != nil {
		t.Fatal(err)
	}
	got, want := []string{}, []string{}
	for _, s := range vector {
		got = append(got, fmt.Sprint(s.Metric, " ", s.F))
	}
	for _, s := range x.ExpSamples {
		l, err := queryParser.ParseMetric(s.Labels)
		if err != nil {
			t.Fatalf("%s: %v", s.Labels, err)
		}
		want = append(want, fmt.Sprint(l, " ", s.Value))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s at %s:\n got:\n%s want:\n%s", x.Expr, x.EvalTime, lines(got), lines(want))
	}
}

// describe makes one text of an alert, to compare and to show it.
func describe(l, annotations labels.Labels) string {
	var b strings.Builder
	b.WriteString(l.String())
	annotations.Range(func(a labels.Label) { fmt.Fprintf(&b, "\n    %s: %s", a.Name, a.Value) })
	return b.String()
}

func lines(texts []string) string {
	var b bytes.Buffer
	for _, text := range texts {
		b.WriteString("  " + text + "\n")
	}
	return b.String()
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
