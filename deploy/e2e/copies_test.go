package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
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
		chartDir + "/README.md":                             withValuesTable(t, readFile(t, chartDir+"/README.md")),
		prometheusRuleFile:                                  prometheusRule(rules),
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

// withValuesTable returns the chart's README with the table of values.yaml.
func withValuesTable(t *testing.T, readme string) string {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(readFile(t, chartDir+"/values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	place := regexp.MustCompile(`(?s)(<!-- values: [^\n]*-->\n).*(<!-- end of values -->)`)
	if !place.MatchString(readme) {
		t.Fatal("the README of the chart has no place for the table of values")
	}
	table := "| value | default | |\n|---|---|---|\n" + valueRows(t, "", document.Content[0])
	return place.ReplaceAllString(readme, "${1}"+strings.ReplaceAll(table, "$", "$$")+"${2}")
}

// valueRows returns a row for each value. An object whose keys have comments has no row.
func valueRows(t *testing.T, prefix string, object *yaml.Node) (rows string) {
	t.Helper()
	for i := 0; i < len(object.Content); i += 2 {
		key, value := object.Content[i], object.Content[i+1]
		name := prefix + key.Value
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && value.Content[0].HeadComment != "" {
			rows += valueRows(t, name+".", value)
			continue
		}
		var content any
		err := value.Decode(&content)
		preset, err2 := json.Marshal(content)
		text := strings.ReplaceAll(strings.ReplaceAll(key.HeadComment, "\n# ", " "), "# ", "")
		if err != nil || err2 != nil || text == "" {
			t.Errorf("values.yaml: %s has no comment, or %v, %v", name, err, err2)
		}
		rows += fmt.Sprintf("| `%s` | `%s` | %s |\n", name, strings.ReplaceAll(string(preset), "|", `\|`), text)
	}
	return rows
}
