package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
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
	const begin, end = "<!-- values: go generate in deploy/e2e makes them of values.yaml -->\n", "<!-- end of values -->\n"
	before, rest, ok := strings.Cut(readme, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the README of the chart has no %q or no %q", begin, end)
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(readFile(t, chartDir+"/values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| value | default | |\n|---|---|---|\n")
	writeValues(t, &table, "", document.Content[0])
	return before + begin + table.String() + end + after
}

// writeValues writes a row for each value that has a comment. An object whose keys have comments has no row.
func writeValues(t *testing.T, table *strings.Builder, prefix string, object *yaml.Node) {
	t.Helper()
	for i := 0; i < len(object.Content); i += 2 {
		key, value := object.Content[i], object.Content[i+1]
		name := prefix + key.Value
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && value.Content[0].HeadComment != "" {
			writeValues(t, table, name+".", value)
			continue
		}
		var content any
		if err := value.Decode(&content); err != nil {
			t.Fatal(err)
		}
		preset, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(strings.ReplaceAll(key.HeadComment, "\n# ", " "), "# ", "")
		if text == "" {
			t.Errorf("values.yaml: %s has no comment", name)
		}
		fmt.Fprintf(table, "| `%s` | `%s` | %s |\n", name, strings.ReplaceAll(string(preset), "|", `\|`), text)
	}
}
