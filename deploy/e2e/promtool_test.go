package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

// ruleTestFiles returns the tests of the rules.
func ruleTestFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(prometheusDir + "/tests/*_test.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rule tests found: %v", err)
	}
	return files
}

func TestPromtool(t *testing.T) {
	promtool := program(t, "promtool")
	run(t, promtool, "check", "config", "--lint=all", "--lint-fatal", prometheusFile, prometheusDir+"/demo.yml")
	run(t, promtool, "check", "rules", "--lint=all", "--lint-fatal", rulesFile)
	run(t, promtool, append([]string{"test", "rules"}, ruleTestFiles(t)...)...)
}

// TestRules runs the tests of the rules as promtool does, with Prometheus's own rules, storage
// and engine, which are faster to build than promtool.
func TestRules(t *testing.T) {
	for _, file := range ruleTestFiles(t) {
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
	rules, exceptions := readFile(t, rulesFile), ""
	for _, example := range regexp.MustCompile(`(?m)^ *# +(\S.* or)$`).FindAllStringSubmatch(rules, -1) {
		exceptions += "            " + example[1] + "\n"
	}
	changed := strings.Replace(rules, start, start+exceptions, 1)
	if changed == rules {
		t.Fatal("no examples of exceptions, or no rule of the deadlines")
	}
	file := filepath.Join(t.TempDir(), "crs.yml")
	writeFile(t, file, changed)
	runFile(t, prometheusDir+"/tests/testdata/exceptions_test.yml", file)
}

// ruleTest is the part of a test in promtool's format that the files use. Other fields are
// errors.
type ruleTest struct {
	Name        string
	Interval    model.Duration // of the samples; without it, the evaluation interval
	InputSeries []struct {
		Series, Values string
	} `yaml:"input_series"`
	AlertTests []struct {
		Alertname string
		EvalTime  model.Duration `yaml:"eval_time"`
		ExpAlerts []struct {
			Labels      map[string]string `yaml:"exp_labels"`
			Annotations map[string]string `yaml:"exp_annotations"`
		} `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
	ExprTests []struct {
		Expr       string
		EvalTime   model.Duration `yaml:"eval_time"`
		ExpSamples []struct {
			Labels string
			Value  float64
		} `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// runFile runs the tests of a file on a file of rules.
func runFile(t *testing.T, path, rulesFile string) {
	t.Run(filepath.Base(path), func(t *testing.T) {
		decoder := yaml.NewDecoder(strings.NewReader(readFile(t, path)))
		decoder.KnownFields(true)
		var file struct {
			RuleFiles          []string       `yaml:"rule_files"`
			EvaluationInterval model.Duration `yaml:"evaluation_interval"`
			Tests              []ruleTest
		}
		if err := decoder.Decode(&file); err != nil || len(file.Tests) == 0 {
			t.Fatalf("%d tests, %v", len(file.Tests), err)
		}
		for _, test := range file.Tests {
			t.Run(test.Name, func(t *testing.T) {
				t.Parallel()
				test.run(t, rulesFile, file.EvaluationInterval)
			})
		}
	})
}

// run loads the input series, evaluates the rules from the UNIX epoch to the last time of
// the test, and compares.
func (test ruleTest) run(t *testing.T, rulesFile string, every model.Duration) {
	load := fmt.Sprintf("load %s\n", cmp.Or(test.Interval, every))
	for _, in := range test.InputSeries {
		load += in.Series + " " + in.Values + "\n"
	}
	loader, err := promqltest.NewLazyLoader(load, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer loader.Close()
	loader.SubqueryInterval = time.Duration(every)
	groups, errs := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(loader.QueryEngine(), loader.Storage()),
		AppendableV2: loader.Storage(),
		Context:      t.Context(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       promslog.NewNopLogger(),
		Parser:       syntax,
	}).LoadGroups(time.Duration(every), labels.EmptyLabels(), "", nil, false, rulesFile)
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	alerts := map[string]*rules.AlertingRule{}
	for _, group := range groups {
		for _, alert := range group.AlertingRules() {
			alert.SetRestored(true) // else it writes no ALERTS
			alerts[alert.Name()] = alert
		}
	}

	var end model.Duration
	for _, a := range test.AlertTests {
		end = max(end, a.EvalTime)
		if alerts[a.Alertname] == nil {
			t.Fatalf("no alert %s", a.Alertname)
		}
	}
	for _, x := range test.ExprTests {
		end = max(end, x.EvalTime)
	}
	for now := model.Duration(0); now <= end; now += every {
		at := time.Unix(0, int64(now))
		loader.WithSamplesTill(at, func(err error) {
			for _, group := range groups {
				group.Eval(t.Context(), at)
				for _, r := range group.Rules() {
					err = errors.Join(err, r.LastError())
				}
			}
			if err != nil {
				t.Fatalf("at %s: %v", now, err)
			}
		})
		for _, a := range test.AlertTests {
			if a.EvalTime < now || a.EvalTime >= now+every {
				continue // this is not the last evaluation before the time of the test
			}
			var got, want []string
			for _, active := range alerts[a.Alertname].ActiveAlerts() {
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
	}
	for _, x := range test.ExprTests {
		var want []string
		for _, s := range x.ExpSamples {
			l, err := syntax.ParseMetric(s.Labels)
			if err != nil {
				t.Fatalf("%s: %v", s.Labels, err)
			}
			want = append(want, fmt.Sprint(l, " ", s.Value))
		}
		got := texts(evaluate(t, loader.Queryable(), x.Expr, time.Unix(0, int64(x.EvalTime))))
		compare(t, fmt.Sprintf("%s at %s", x.Expr, x.EvalTime), got, want)
	}
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
