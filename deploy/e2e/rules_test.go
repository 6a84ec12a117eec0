package e2e

import (
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
)

// loadPrometheus loads a configuration with the code of Prometheus.
func loadPrometheus(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Load(text, promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// parseRules parses groups of rules as Prometheus does, and returns the rules in their order.
func parseRules(t *testing.T, text string) (rules []rulefmt.Rule) {
	t.Helper()
	syntax := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.Parse([]byte(text), false, model.UTF8Validation, syntax, promslog.NewNopLogger())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// alerts returns the alerting rules by name.
func alerts(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	found := map[string]rulefmt.Rule{}
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
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
	run(t, promtool, append([]string{"test", "rules"}, files...)...)
}

// TestPairOfPrometheus checks that the commented configuration for a pair of Prometheus
// servers takes the label that it adds off the alerts.
func TestPairOfPrometheus(t *testing.T) {
	text := uncomment(t, readFile(t, prometheusFile), "# external_labels:", "replica: a")
	c := loadPrometheus(t, uncomment(t, text, "# alert_relabel_configs:", "regex: replica"))
	external := c.GlobalConfig.ExternalLabels
	got := labels.NewBuilder(external)
	if !relabel.ProcessBuilder(got, c.AlertingConfig.AlertRelabelConfigs...) || external.Len() != 1 || !got.Labels().IsEmpty() {
		t.Errorf("external labels %s, of which alerts have %s", external, got.Labels())
	}
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
	got, scrape := labels.NewBuilder(target), loadPrometheus(t, readFile(t, prometheusFile)).ScrapeConfigs[0]
	if !relabel.ProcessBuilder(got, scrape.RelabelConfigs...) || !labels.Equal(got.Labels(), want) {
		t.Errorf("labels %s, want %s", got.Labels(), want)
	}
}

// TestAlertsAreDocumented checks that each alert has a row and a runbook. The rule tests
// check its labels and annotations.
func TestAlertsAreDocumented(t *testing.T) {
	book, shipped := readFile(t, runbooksFile), alerts(t)
	sections := strings.Split(book, "\n## ")[1:]
	if len(sections) != len(shipped) {
		t.Errorf("%d runbooks for %d alerts", len(sections), len(shipped))
	}
	for _, section := range sections {
		name, text, _ := strings.Cut(section, "\n")
		row := "| [" + name + "](#" + strings.ToLower(name) + ") | " + shipped[name].Labels["severity"] + " | "
		if !strings.Contains(book, row) {
			t.Errorf("the table in runbooks.md has no row %q", row)
		}
		for _, part := range []string{"**What it means.**", "**How to investigate.**", "**What to do"} {
			if !strings.Contains(text, part) {
				t.Errorf("the runbook of %s has no part %s", name, part)
			}
		}
	}
}

// TestBackupNames checks that rules, dashboard and documents mean the same tasks by
// backups.
func TestBackupNames(t *testing.T) {
	const names = "backupInstance|AUTOBACKUP"
	matcher := regexp.MustCompile(`taskName[=!]~\\?"([^"\\]*)\\?"`)
	for _, file := range []string{rulesFile, runbooksFile, "../../README.md", dashboardFile} {
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
var targetLabels = []string{"__name__", "job", "instance", "namespace", "cluster", "account", "pod"}

// exposed returns the labels of each metric that Prometheus has of the exporter, and of its
// own ones. The metrics that rules record have all labels.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	all, everything := map[string][]string{"up": {}}, []string{"alertname", "alertstate", "severity"}
	for _, m := range slices.Concat(collector.Metrics(), collector.OptionalMetrics(), collector.RegisteredMetrics()) {
		all[m.Name] = m.Labels
		all[m.Name+"_bucket"] = append(slices.Clone(m.Labels), "le")
		everything = append(everything, m.Labels...)
	}
	all["ALERTS"], all["ALERTS_FOR_STATE"] = everything, everything
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
		all[r.Record] = everything
	}
	return all
}

// selectors returns the parts of an expression that select series. It reports each metric,
// label and value in them that does not exist.
func selectors(t *testing.T, exposed map[string][]string, text string) (found []*parser.VectorSelector) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Fatalf("Prometheus cannot parse %q: %v", text, err)
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if selector, ok := n.(*parser.VectorSelector); ok {
			found = append(found, selector)
		}
		return nil
	})
	possible := map[string][]string{"status": {".+"}, "reason": {".+"}} // other labels may have any value
	for status := crsapi.Status(-1); status <= 4; status++ {
		possible["status"] = append(possible["status"], status.String())
	}
	for _, r := range crsapi.Reasons() {
		possible["reason"] = append(possible["reason"], string(r))
	}
	for _, selector := range found {
		names, ok := exposed[selector.Name]
		if !ok {
			t.Errorf("%s: metric %q is neither exposed nor recorded", text, selector.Name)
		}
		for _, m := range selector.LabelMatchers {
			if !slices.Contains(targetLabels, m.Name) && !slices.Contains(names, m.Name) {
				t.Errorf("%s: %s has no label %q", text, selector.Name, m.Name)
			}
			for value := range strings.SplitSeq(m.Value, "|") {
				if values, ok := possible[m.Name]; ok && !slices.Contains(values, value) {
					t.Errorf("%s: label %s never has the value %q", text, m.Name, value)
				}
			}
		}
	}
	return found
}

// TestRulesNames checks that every metric and label in rules and runbooks exists.
func TestRulesNames(t *testing.T) {
	known := exposed(t)
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
		selectors(t, known, r.Expr)
	}
	for _, m := range regexp.MustCompile(`(?m)^    (\S.*)$`).FindAllStringSubmatch(readFile(t, runbooksFile), -1) {
		selectors(t, known, m[1])
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
