package e2e

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"
)

// Helm and kustomize read only files in their own folder, so the rules and the dashboard have copies.
//
//go:generate go test -run TestCopies . -update
var update = flag.Bool("update", false, "write the files that are made from others")

// TestCopies checks the files that are made from others.
func TestCopies(t *testing.T) {
	rules := readFile(t, rulesFile)
	for file, want := range map[string]string{
		chartDir + "/files/" + filepath.Base(rulesFile):     rules,
		chartDir + "/files/" + filepath.Base(dashboardFile): readFile(t, dashboardFile),
		prometheusRuleFile: prometheusRule(rules),
	} {
		if *update {
			writeFile(t, file, want)
		}
		if readFile(t, file) != want {
			t.Errorf("%s is out of date: run go generate in deploy/e2e", file)
		}
	}
}

// prometheusRule returns the rules, with their comments, as a PrometheusRule.
func prometheusRule(rules string) string {
	spec := strings.ReplaceAll("\n"+strings.TrimSuffix(rules, "\n"), "\n", "\n  ")
	return `# A copy of deploy/prometheus/rules/crs.yml. Edit that file, and run go generate in deploy/e2e.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: crs-exporter
spec:` + strings.ReplaceAll(spec, "\n  \n", "\n\n") + "\n"
}
