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
	const begin, end = "<!-- metrics: checked by a test -->\n", "<!-- end of metrics -->"
	text, err := os.ReadFile("METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), begin)
	_, after, _ := strings.Cut(rest, end)
	table := "| metric | type | labels | meaning |\n|---|---|---|---|\n"
	for _, m := range slices.Concat(collector.Metrics(), collector.OptionalMetrics(), collector.RegisteredMetrics()) {
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
	wantGolden(t, "../METRICS.md", before+begin+table+end+after)

	var reasons []crsapi.Reason
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` ").FindAllStringSubmatch(string(text), -1) {
		reasons = append(reasons, crsapi.Reason(row[1]))
	}
	if !slices.Equal(reasons, crsapi.Reasons()) {
		t.Errorf("the table of reasons has %v, want %v", reasons, crsapi.Reasons())
	}
}
