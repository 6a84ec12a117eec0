package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector"
)

var update = flag.Bool("update", false, "rewrite the README's tables")

// TestREADMETables compares the README's tables with the code.
func TestREADMETables(t *testing.T) {
	const path = "README.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	for name, table := range map[string]string{"metrics": metricsTable(), "flags": flagsTable()} {
		begin, end := fmt.Sprintf("<!-- %s: checked by a test -->\n", name), fmt.Sprintf("<!-- end of %s -->", name)
		before, rest, found := strings.Cut(readme, begin)
		got, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("no %s table", name)
		}
		if got != table {
			t.Errorf("the %s table differs from the code; go test -run %s -update rewrites it. Want:\n%s", name, t.Name(), table)
		}
		readme = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(path, []byte(readme), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func metricsTable() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range slices.Concat(collector.Metrics(), collector.StateMetrics(), credentialsMetrics(), logMetrics()) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
	return b.String()
}

func flagsTable() string {
	var b strings.Builder
	b.WriteString("| flag | default | |\n|---|---|---|\n")
	for _, f := range newApplication(&settings{}).Model().Flags {
		if f.Name == "help" || f.Name == "version" || strings.HasPrefix(f.Name, "help-") || f.Hidden {
			continue
		}
		preset := ""
		if len(f.Default) > 0 && f.Default[0] != "" {
			preset = "`" + f.Default[0] + "`"
		}
		if f.Envar != "" {
			preset = "`$" + f.Envar + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, preset, f.Help)
	}
	return b.String()
}
