package e2e

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

const (
	prometheusDir  = "../prometheus"
	prometheusFile = prometheusDir + "/prometheus.yml"
	rulesFile      = prometheusDir + "/rules/crs.yml"
	runbooksFile   = prometheusDir + "/runbooks.md"
	runbooksURL    = "https://github.com/crs-exporter/crs_exporter/blob/main/deploy/prometheus/runbooks.md"
	readmeFile     = "../../README.md"
)

// loadPrometheus loads the shipped configuration with the code of Prometheus.
func loadPrometheus(t *testing.T) *config.Config {
	t.Helper()
	c, err := config.Load(readFile(t, prometheusFile), promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shippedScrape returns the scrape configuration of the exporter.
func shippedScrape(t *testing.T) *config.ScrapeConfig {
	t.Helper()
	jobs := loadPrometheus(t).ScrapeConfigs
	if len(jobs) != 1 {
		t.Fatalf("%s has %d scrape configurations, want only that of the exporter", prometheusFile, len(jobs))
	}
	return jobs[0]
}

// shippedRules returns all rules, in their order.
func shippedRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var rules []rulefmt.Rule
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// alerts returns the alerting rules by name.
func alerts(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	found := map[string]rulefmt.Rule{}
	for _, r := range shippedRules(t) {
		if r.Alert != "" {
			found[r.Alert] = r
		}
	}
	return found
}

func TestPromtool(t *testing.T) {
	promtool := program(t, "promtool")
	run(t, promtool, "check", "config", "--lint=all", "--lint-fatal", prometheusFile, prometheusDir+"/demo.yml")
	run(t, promtool, "check", "rules", "--lint=all", "--lint-fatal", rulesFile)
	files, err := filepath.Glob(prometheusDir + "/tests/*_test.yml")
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

// uncomment removes the comment sign from the lines of an example, from the line that
// contains first to the line that contains last.
func uncomment(t *testing.T, content, first, last string) string {
	t.Helper()
	i := strings.Index(content, first)
	if i < 0 || !strings.Contains(content[i:], last) {
		t.Fatalf("no comment from %q to %q", first, last)
	}
	i = strings.LastIndex(content[:i], "\n") + 1
	end := i + strings.Index(content[i:], last) + len(last)
	return content[:i] + regexp.MustCompile(`(?m)^(\s*)# ?`).ReplaceAllString(content[i:end], "$1") + content[end:]
}

// TestMove checks that an exporter that moves keeps its labels, but for the instance.
func TestMove(t *testing.T) {
	target := labels.FromStrings("job", "crs", "instance", "10.0.0.1:10991", "namespace", "crs-exporter", "account", "a",
		"node", "n", "container", "crs-exporter", "endpoint", "metrics", "service", "crs-exporter", "pod", "crs-exporter-x")
	want := labels.FromStrings("job", "crs", "instance", "10.0.0.1:10991", "namespace", "crs-exporter", "account", "a")
	got := labels.NewBuilder(target)
	if !relabel.ProcessBuilder(got, shippedScrape(t).RelabelConfigs...) || !labels.Equal(got.Labels(), want) {
		t.Errorf("labels %s, want %s", got.Labels(), want)
	}
}

func TestAlertsAreDocumented(t *testing.T) {
	book := readFile(t, runbooksFile)
	sections := map[string]string{}
	for _, s := range strings.Split(book, "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		sections[title] = text
	}
	for name, r := range alerts(t) {
		severity, anchor := r.Labels["severity"], strings.ToLower(name)
		if severity != "critical" && severity != "warning" {
			t.Errorf("%s has the severity %q", name, severity)
		}
		if a := r.Annotations; a["summary"] == "" || a["description"] == "" || a["runbook_url"] != runbooksURL+"#"+anchor {
			t.Errorf("%s has the annotations %v", name, a)
		}
		if row := "| [" + name + "](#" + anchor + ") | " + severity + " | "; !strings.Contains(book, row) {
			t.Errorf("the table in runbooks.md has no row %q", row)
		}
		for _, part := range []string{"**What it means.**", "**How to investigate.**", "**What to do"} {
			if !strings.Contains(sections[name], part) {
				t.Errorf("the runbook of %s has no part %s", name, part)
			}
		}
		delete(sections, name)
	}
	for name := range sections {
		t.Errorf("a runbook for %s, which is no alert", name)
	}
}

// TestBackupNames checks that rules, dashboard and documents mean the same tasks by
// backups.
func TestBackupNames(t *testing.T) {
	const names = "backupInstance|AUTOBACKUP"
	matcher := regexp.MustCompile(`taskName[=!]~\\?"([^"\\]*)\\?"`)
	for _, file := range []string{rulesFile, runbooksFile, readmeFile, dashboardFile} {
		text := readFile(t, file)
		for _, m := range matcher.FindAllStringSubmatch(text, -1) {
			if strings.Contains(strings.ToLower(m[1]), "backup") && m[1] != names && m[1] != "$backup" {
				t.Errorf("%s has %s, want the names %s", file, m[0], names)
			}
		}
		if !strings.Contains(text, names) {
			t.Errorf("%s does not name backups", file)
		}
	}
}

// targetLabels are those that Prometheus and its service discovery add.
var targetLabels = []string{"job", "instance", "namespace", "cluster", "account", "pod"}

// alertLabels are the labels of ALERTS and ALERTS_FOR_STATE.
var alertLabels = []string{"alertname", "alertstate", "severity", "region", "redisId", "taskName", "reason"}

// exposed returns the labels of each metric that Prometheus has of the exporter, and of its
// own ones. The metrics that rules record have all labels.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{"up": {}, "ALERTS": alertLabels, "ALERTS_FOR_STATE": alertLabels}
	everything := slices.Clone(alertLabels)
	for _, m := range slices.Concat(collector.Metrics(), collector.StateMetrics(), collector.RegisteredMetrics()) {
		all[m.Name] = m.Labels
		everything = append(everything, m.Labels...)
		if m.Type == "histogram" {
			all[m.Name+"_sum"], all[m.Name+"_count"] = m.Labels, m.Labels
			all[m.Name+"_bucket"] = append(slices.Clone(m.Labels), "le")
		}
	}
	for _, r := range shippedRules(t) {
		if r.Record != "" {
			all[r.Record] = everything
		}
	}
	return all
}

// possible returns the values that a label may have, or nil for any.
func possible(label string) []string {
	var values []string
	switch label {
	case "outcome":
		values = []string{"succeeded", "failed"}
	case "status":
		for status := crsapi.Status(-1); status <= 4; status++ {
			values = append(values, status.String())
		}
	case "reason":
		for _, r := range crsapi.Reasons() {
			values = append(values, string(r))
		}
	}
	return values
}

// checkNames reports each metric, label and value in an expression that does not exist.
func checkNames(t *testing.T, exposed map[string][]string, text string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Fatalf("Prometheus cannot parse %q: %v", text, err)
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		selector, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		names, ok := exposed[selector.Name]
		if !ok {
			t.Errorf("%s: metric %q is neither exposed nor recorded", expr, selector.Name)
		}
		for _, m := range selector.LabelMatchers {
			if m.Name != labels.MetricName && !slices.Contains(targetLabels, m.Name) && !slices.Contains(names, m.Name) {
				t.Errorf("%s: %s has no label %q", expr, selector.Name, m.Name)
			}
			for value := range strings.SplitSeq(m.Value, "|") {
				if values := possible(m.Name); values != nil && value != ".+" && !slices.Contains(values, value) {
					t.Errorf("%s: label %s never has the value %q", expr, m.Name, value)
				}
			}
		}
		return nil
	})
}

var (
	templateLabel = regexp.MustCompile(`\$labels\.(\w+)`)
	runbookQuery  = regexp.MustCompile(`(?m)^    (\S.*)$`)
)

// TestRulesNames checks that every metric and label in rules and runbooks exists.
func TestRulesNames(t *testing.T) {
	known := exposed(t)
	everywhere := append(slices.Concat(slices.Collect(maps.Values(known))...), targetLabels...)
	for _, r := range shippedRules(t) {
		checkNames(t, known, r.Expr)
		for _, text := range r.Annotations {
			for _, m := range templateLabel.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(everywhere, m[1]) {
					t.Errorf("%s: the annotations use label %q, but no metric has it", r.Alert, m[1])
				}
			}
		}
	}
	for _, m := range runbookQuery.FindAllStringSubmatch(readFile(t, runbooksFile), -1) {
		checkNames(t, known, m[1])
	}
}

// evaluate returns the result of an expression at a time.
func evaluate(t *testing.T, store storage.Queryable, expr string, at time.Time) promql.Vector {
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
