package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	prometheusDir  = "../prometheus"
	prometheusFile = prometheusDir + "/prometheus.yml"
	rulesFile      = prometheusDir + "/rules/crs.yml"
	runbooksFile   = prometheusDir + "/runbooks.md"
	runbooksURL    = "https://github.com/crs-exporter/crs_exporter/blob/main/deploy/prometheus/runbooks.md"
)

var syntax = parser.NewParser(parser.Options{})

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
	groups, errs := rulefmt.Parse([]byte(text), false, model.UTF8Validation, syntax, promslog.NewNopLogger())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// severities returns the severity of each alert.
func severities(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
		if r.Alert != "" {
			found[r.Alert] = r.Labels["severity"]
		}
	}
	return found
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
	before, example, found := strings.Cut(content, first)
	example, after, ended := strings.Cut(example, last)
	if !found || !ended {
		t.Fatalf("no comment from %q to %q", first, last)
	}
	return before + regexp.MustCompile(`(?m)^(\s*)# ?`).ReplaceAllString(strings.TrimPrefix(first, "# ")+example+last, "$1") + after
}

// TestMove checks that an exporter that moves keeps its labels, but for the instance.
func TestMove(t *testing.T) {
	want := labels.FromStrings("job", "crs", "instance", "10.0.0.1:10991", "namespace", "crs-exporter", "account", "a")
	got := labels.NewBuilder(want)
	for _, label := range []string{"node", "container", "endpoint", "service", "pod"} {
		got.Set(label, "x")
	}
	scrape := loadPrometheus(t, readFile(t, prometheusFile)).ScrapeConfigs[0]
	if !relabel.ProcessBuilder(got, scrape.RelabelConfigs...) || !labels.Equal(got.Labels(), want) {
		t.Errorf("labels %s, want %s", got.Labels(), want)
	}
}

// TestAlertsAreDocumented checks that each alert has a row and a runbook. The rule tests
// check its labels and annotations.
func TestAlertsAreDocumented(t *testing.T) {
	book, shipped := readFile(t, runbooksFile), severities(t)
	sections := strings.Split(book, "\n## ")[1:]
	if len(sections) != len(shipped) {
		t.Errorf("%d runbooks for %d alerts", len(sections), len(shipped))
	}
	parts := regexp.MustCompile(`(?s)\*\*What it means\.\*\*.*\*\*How to investigate\.\*\*.*\*\*What to do`)
	for _, section := range sections {
		name, text, _ := strings.Cut(section, "\n")
		row := "| [" + name + "](#" + strings.ToLower(name) + ") | " + shipped[name] + " | "
		if !strings.Contains(book, row) || !parts.MatchString(text) {
			t.Errorf("no row %q in the table, or no %s in its section", row, parts)
		}
	}
}
