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

// TestCommentExamples checks that the examples in comments work.
func TestCommentExamples(t *testing.T) {
	promtool := program(t, "promtool")
	t.Run("a pair of Prometheus servers", func(t *testing.T) {
		dir := t.TempDir()
		config := uncomment(t, readFile(t, prometheusFile), "# external_labels:", "replica: a")
		config = uncomment(t, config, "# alert_relabel_configs:", "regex: replica")
		writeFile(t, filepath.Join(dir, "prometheus.yml"), config)
		writeFile(t, filepath.Join(dir, "rules/crs.yml"), readFile(t, rulesFile))
		run(t, promtool, "check", "config", "--lint=all", "--lint-fatal", filepath.Join(dir, "prometheus.yml"))
	})
	t.Run("exceptions for thresholds", func(t *testing.T) {
		dir := t.TempDir()
		rules := readFile(t, rulesFile)
		for _, record := range []string{"crs:backup_max_age_seconds", "crs:task_max_age_seconds"} {
			rules = moveExceptions(t, rules, record)
		}
		writeFile(t, filepath.Join(dir, "crs.yml"), rules)
		writeFile(t, filepath.Join(dir, "exceptions_test.yml"), readFile(t, "testdata/exceptions_test.yml"))
		run(t, promtool, "test", "rules", filepath.Join(dir, "exceptions_test.yml"))
	})
	t.Run("regions and exporters that are forgotten", func(t *testing.T) {
		dir := t.TempDir()
		rules := readFile(t, rulesFile)
		for _, name := range []struct{ shipped, tested string }{
			{`{region=~"none"}`, `{region=~"sh|other"}`},
			{`{instance=~"none"}`, `{instance=~"b:10991"}`},
		} {
			if strings.Count(rules, name.shipped) != 1 {
				t.Fatalf("%s must contain %s exactly once", rulesFile, name.shipped)
			}
			rules = strings.Replace(rules, name.shipped, name.tested, 1)
		}
		writeFile(t, filepath.Join(dir, "crs.yml"), rules)
		writeFile(t, filepath.Join(dir, "forgotten_test.yml"), readFile(t, "testdata/forgotten_test.yml"))
		run(t, promtool, "test", "rules", filepath.Join(dir, "forgotten_test.yml"))
	})
}

var exception = regexp.MustCompile(`(?m)^ *# +(\S.* or)$`)

// moveExceptions inserts the exceptions from the comment above a threshold into its
// expression, where the comment says.
func moveExceptions(t *testing.T, rules, record string) string {
	t.Helper()
	head, rule, found := strings.Cut(rules, "- record: "+record+"\n        expr: |\n")
	if !found {
		t.Fatalf("no rule %s", record)
	}
	comment := head[strings.LastIndex(head, "\n\n")+1:]
	examples := exception.FindAllStringSubmatch(comment, -1)
	if len(examples) == 0 {
		t.Fatalf("the comment of %s has no example of an exception", record)
	}
	var b strings.Builder
	for _, e := range examples {
		b.WriteString("          " + e[1] + "\n")
	}
	return head + "- record: " + record + "\n        expr: |\n" + b.String() + rule
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
	recorded := map[string][]string{"up": {"job", "instance"}}
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
	for range 3 { // a rule can read its own result and those of later rules
		for _, g := range groups {
			for _, r := range g.Rules {
				if r.Record != "" {
					_, recorded[r.Record] = inputs(t, r)
				}
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

var promqlBlock = regexp.MustCompile("(?s)```promql\n(.*?)```")

// TestReadmeAlerts evaluates the three alerts of the README on the metrics of the exporter.
func TestReadmeAlerts(t *testing.T) {
	const metrics = `load 1m
  crs_instance_gone{job="crs",instance="a",region="gz",redisId="well"} 0x10
  crs_instance_gone{job="crs",instance="b",region="gz",redisId="well"} 0x10
  crs_instance_gone{job="crs",instance="a",region="gz",redisId="ill"} 0x10
  crs_instance_gone{job="crs",instance="b",region="gz",redisId="ill"} 0x10
  crs_instance_gone{job="crs",instance="a",region="gz",redisId="new"} 0x10
  crs_instance_gone{job="crs",instance="a",region="gz",redisId="never"} 0x10
  crs_instance_gone{job="crs",instance="a",region="gz",redisId="restored"} 0x10
  crs_instance_gone{job="crs",instance="a",region="gz",redisId="gone"} 1x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="well",outcome="succeeded"} -3600x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="b",region="gz",redisId="well",outcome="succeeded"} -3600x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="well",outcome="failed"} -90000x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="b",region="gz",redisId="well",outcome="failed"} -90000x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="ill",outcome="succeeded"} -100000x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="ill",outcome="failed"} -3600x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="b",region="gz",redisId="ill",outcome="failed"} -3600x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="restored",outcome="succeeded"} -500000x10
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="gone",outcome="failed"} -100000x10
  crs_instance_alive_since_timestamp_seconds{job="crs",instance="a",region="gz",redisId="restored"} -3600x10
  crs_instance_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="ill"} -900000x10
  crs_instance_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="restored"} -900000x10
  crs_instance_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="new"} -3600x10
  crs_instance_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="never"} -900000x10
  crs_instance_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="gone"} -900000x10
  crs_task_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="ill",taskName="AUTOBACKUP",status="executing"} -20000x10
  crs_task_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="well",taskName="backupInstance",status="executing"} -60x10
  crs_task_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="well",taskName="importRdb",status="executing"} -20000x10
  crs_task_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="gone",taskName="AUTOBACKUP",status="executing"} -20000x10
`
	want := [][]string{{"ill"}, {"ill", "never"}, {"ill"}} // failed, missing, stuck
	blocks := promqlBlock.FindAllStringSubmatch(readFile(t, readmeFile), -1)
	if len(blocks) != len(want) {
		t.Fatalf("the README has %d alerts, want %d", len(blocks), len(want))
	}
	store := promqltest.LoadedStorage(t, metrics)
	for i, block := range blocks {
		if n := strings.Count(block[1], "\n"); n > 2 {
			t.Errorf("%d lines, want at most 2: %s", n, block[1])
		}
		var got []string
		for _, s := range ask(t, store, block[1], time.Unix(300, 0)) {
			if id := s.Metric.Get("redisId"); !slices.Contains(got, id) {
				got = append(got, id)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want[i]) {
			t.Errorf("got %v, want %v: %s", got, want[i], block[1])
		}
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

// TestReadmeExamples evaluates the PromQL examples of the README on the metrics of the
// exporter. Each of them has a result.
func TestReadmeExamples(t *testing.T) {
	store := promqltest.LoadedStorage(t, `load 1m
  crs_up{job="crs",instance="a",region="gz"} 1x200
  crs_api_requests_total{job="crs",instance="a",region="gz"} 0+2x200
  crs_instance_info{job="crs",instance="a",region="gz",redisId="ill",redisName="cart",projectId="0"} 1x200
  crs_instance_info{job="crs",instance="a",region="gz",redisId="never",redisName="new",projectId="0"} 1x200
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="ill",outcome="succeeded"} -100000x200
  crs_backup_last_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="ill",outcome="failed"} -3600x200
  crs_task_oldest_start_timestamp_seconds{job="crs",instance="a",region="gz",redisId="ill",taskName="importRdb",status="executing"} -20000x200
  crs_task_transitions_total{job="crs",instance="a",region="gz",redisId="ill",taskName="backupInstance",status="succeeded"} 0x100 1x100
  crs_task_transitions_total{job="crs",instance="a",region="gz",redisId="ill",taskName="backupInstance",status="failed"} 0x50 1x150
`)
	_, table, found := strings.Cut(readFile(t, readmeFile), "<!-- examples: evaluated by a test -->\n")
	table, _, ended := strings.Cut(table, "<!-- end of examples -->")
	if !found || !ended {
		t.Fatal("no PromQL examples")
	}
	for line := range strings.Lines(table) {
		cells := strings.SplitN(line, " | ", 2)
		if len(cells) != 2 || !strings.Contains(cells[1], "`") {
			continue // the head of the table
		}
		expr := strings.ReplaceAll(strings.Trim(cells[1], " `|\n"), `\|`, "|")
		if vector := ask(t, store, expr, time.Unix(200*60, 0)); len(vector) == 0 {
			t.Errorf("no result: %s", expr)
		}
	}
}
