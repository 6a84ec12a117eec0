package collector_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TestMetricsFile compares the tables of METRICS.md with the code.
func TestMetricsFile(t *testing.T) {
	const file = "METRICS.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, table, after := cutTable(t, string(text), "metrics")
	want := "| metric | type | labels | meaning |\n|---|---|---|---|\n"
	for _, m := range slices.Concat(collector.Metrics(), collector.StateMetrics(), collector.RegisteredMetrics()) {
		want += fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+want+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != want {
		t.Errorf("the table of metrics differs from the code: run go generate. Want:\n%s", want)
	}

	_, table, _ = cutTable(t, string(text), "reasons")
	var reasons []crsapi.Reason
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` ").FindAllStringSubmatch(table, -1) {
		reasons = append(reasons, crsapi.Reason(row[1]))
	}
	if !slices.Equal(reasons, crsapi.Reasons()) {
		t.Errorf("the table of reasons has %v, want %v", reasons, crsapi.Reasons())
	}
}

// cutTable returns a table of a document, with what is before and after it.
func cutTable(t *testing.T, text, name string) (before, table, after string) {
	t.Helper()
	begin, end := fmt.Sprintf("<!-- %s: checked by a test -->\n", name), fmt.Sprintf("<!-- end of %s -->", name)
	before, rest, found := strings.Cut(text, begin)
	table, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("no table of %s", name)
	}
	return before + begin, table, end + after
}
