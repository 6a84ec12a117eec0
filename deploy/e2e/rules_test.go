package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

const (
	prometheusDir    = "../prometheus"
	alertmanagerFile = "../alertmanager/alertmanager.yml"
	readmeFile       = "../../README.md"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// uncomment removes the comment sign from some lines of content, so that tests can use
// examples in comments. The lines start at the line that contains first and end at the
// line that contains last.
func uncomment(t *testing.T, content, first, last string) string {
	t.Helper()
	sign := regexp.MustCompile(`^(\s*)# ?`)
	var b strings.Builder
	inside, done := false, false
	for line := range strings.Lines(content) {
		inside = inside || !done && strings.Contains(line, first)
		if inside {
			line = sign.ReplaceAllString(line, "$1")
			done = strings.Contains(line, last)
			inside = !done
		}
		b.WriteString(line)
	}
	if !done {
		t.Fatalf("no comment from %q to %q", first, last)
	}
	return b.String()
}

func TestPromtool(t *testing.T) {
	promtool := program(t, "promtool")
	t.Run("check config", func(t *testing.T) {
		run(t, promtool, "check", "config", "--lint=all", "--lint-fatal", prometheusFile, filepath.Join(prometheusDir, "demo.yml"))
	})
	t.Run("check rules", func(t *testing.T) {
		run(t, promtool, "check", "rules", "--lint=all", "--lint-fatal", rulesFile)
	})
	files, err := filepath.Glob(filepath.Join(prometheusDir, "tests", "*_test.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no rule tests found: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { run(t, promtool, "test", "rules", file) })
	}
}

// TestPairOfPrometheus checks the commented configuration for a pair of Prometheus servers.
func TestPairOfPrometheus(t *testing.T) {
	promtool := program(t, "promtool")
	dir := t.TempDir()
	config := uncomment(t, readFile(t, prometheusFile), "# external_labels:", "replica: a")
	config = uncomment(t, config, "# alert_relabel_configs:", "regex: replica")
	writeFile(t, filepath.Join(dir, "prometheus.yml"), config)
	writeFile(t, filepath.Join(dir, "rules/crs.yml"), readFile(t, rulesFile))
	run(t, promtool, "check", "config", "--lint=all", "--lint-fatal", filepath.Join(dir, "prometheus.yml"))
}

// alerts returns the shipped alerting rules by name.
func alerts(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	found := map[string]rulefmt.Rule{}
	for _, g := range shippedRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if _, twice := found[r.Alert]; twice {
				t.Errorf("two alerts have the name %s", r.Alert)
			}
			found[r.Alert] = r
		}
	}
	return found
}

func TestAlertsAreDocumented(t *testing.T) {
	book := readFile(t, runbooksFile)
	sections := map[string]string{}
	for _, s := range strings.Split(book, "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		sections[title] = text
	}
	for name, r := range alerts(t) {
		t.Run(name, func(t *testing.T) {
			severity := r.Labels["severity"]
			if severity != "critical" && severity != "warning" {
				t.Errorf("unexpected severity %q", severity)
			}
			for _, a := range []string{"summary", "description"} {
				if r.Annotations[a] == "" {
					t.Errorf("no %s", a)
				}
			}
			anchor := strings.ToLower(name)
			if want := runbooksURL + "#" + anchor; r.Annotations["runbook_url"] != want {
				t.Errorf("runbook_url %s, want %s", r.Annotations["runbook_url"], want)
			}
			if row := "| [" + name + "](#" + anchor + ") | " + severity + " | "; !strings.Contains(book, row) {
				t.Errorf("the table in runbooks.md has no row %q", row)
			}
			for _, part := range []string{"**What it means.**", "**How to investigate.**", "**What to do"} {
				if !strings.Contains(sections[name], part) {
					t.Errorf("the runbook has no part %s", part)
				}
			}
		})
	}
	if got, want := slices.Sorted(maps.Keys(sections)), slices.Sorted(maps.Keys(alerts(t))); !slices.Equal(got, want) {
		t.Errorf("runbooks for %v, want one for each alert: %v", got, want)
	}
}

var promqlBlock = regexp.MustCompile("(?s)```promql\n(.*?)```")

// TestBackupNames checks that all rules, queries and examples mean the same tasks by
// backups.
func TestBackupNames(t *testing.T) {
	const names = "backupInstance|AUTOBACKUP"
	var readme strings.Builder
	for _, block := range promqlBlock.FindAllStringSubmatch(readFile(t, readmeFile), -1) {
		readme.WriteString(block[1])
	}
	matcher := regexp.MustCompile(`taskName(?:=~|!~|!=|=)"([^"]*)"`)
	anyName := regexp.MustCompile(names)
	for file, text := range map[string]string{
		rulesFile: readFile(t, rulesFile), runbooksFile: readFile(t, runbooksFile), readmeFile: readme.String(),
	} {
		found := false
		for _, m := range matcher.FindAllStringSubmatch(text, -1) {
			if !anyName.MatchString(m[1]) {
				continue
			}
			found = true
			if m[1] != names {
				t.Errorf("%s has %s, want the names %s", file, m[0], names)
			}
		}
		if !found {
			t.Errorf("%s does not name backups", file)
		}
	}
	// The variable has each of the two names once.
	if n := len(anyName.FindAllString(readFile(t, dashboardFile), -1)); n != 2 {
		t.Errorf("%s names backups %d times, want twice: in the variable backup", dashboardFile, n)
	}
	if v := loadDashboard(t).variables()["backup"]; v.Type != "constant" || v.query(t) != names {
		t.Errorf("variable backup: %s %s, want the constant %s", v.Type, v.Query, names)
	}
}

var (
	templateLabel = regexp.MustCompile(`\$labels\.(\w+)`)
	runbookQuery  = regexp.MustCompile(`(?m)^    (\S.*)$`)
)

// TestRulesNames checks that every metric and label in rules and runbooks exists: the
// exporter exposes it or a rule records it.
func TestRulesNames(t *testing.T) {
	// Assume that the result of a rule has all labels of its inputs. checkNames then
	// finds names that do not exist at all.
	recorded := map[string][]string{
		"up":               {"job", "instance"},
		"ALERTS_FOR_STATE": {"alertname", "severity", "job", "instance", "region", "redisId", "taskName"},
	}
	inputs := func(t *testing.T, r rulefmt.Rule) (expr parser.Expr, names []string) {
		t.Helper()
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range parser.ExtractSelectors(expr) {
			for _, m := range s {
				if m.Name != labels.MetricName {
					continue
				}
				for _, name := range append(m.SetMatches(), m.Value) {
					for _, l := range append(slices.Clone(exposed[name]), recorded[name]...) {
						if !slices.Contains(names, l) {
							names = append(names, l)
						}
					}
				}
			}
		}
		return expr, names
	}
	groups := shippedRules(t).Groups
	for _, g := range groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				_, recorded[r.Record] = inputs(t, r)
			}
		}
	}
	for _, g := range groups {
		for _, r := range g.Rules {
			t.Run(r.Record+r.Alert, func(t *testing.T) {
				expr, names := inputs(t, r)
				checkNames(t, recorded, expr)
				for _, text := range r.Annotations {
					for _, m := range templateLabel.FindAllStringSubmatch(text, -1) {
						if m[1] != "instance" && !slices.Contains(names, m[1]) {
							t.Errorf("the annotations use label %q, but the alert does not have it", m[1])
						}
					}
				}
			})
		}
	}
	for _, m := range runbookQuery.FindAllStringSubmatch(readFile(t, runbooksFile), -1) {
		t.Run("runbook: "+m[1], func(t *testing.T) {
			expr, err := parser.NewParser(parser.Options{}).ParseExpr(m[1])
			if err != nil {
				t.Fatal(err)
			}
			checkNames(t, recorded, expr)
		})
	}
}

// ask evaluates an expression at a time.
func ask(t *testing.T, store storage.Queryable, expr string, at time.Time) promql.Vector {
	t.Helper()
	q, err := promqltest.NewTestEngine(t, false, 0, 100_000).NewInstantQuery(t.Context(), store, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	vector, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(vector)
}
