//go:build unix

package main

import (
	"strings"
	"testing"
)

func TestHelpWidth(t *testing.T) {
	for columns, limit := range map[string]int{"": 80, "60": 60, "90": 90, "100": 100, "300": 100} {
		longest := 0
		for line := range strings.Lines(helpAt(t, columns)) {
			// A word that is too long, such as a URL, has its own line.
			if n := len(strings.TrimRight(line, "\n")); n > maxHelpWidth || n > limit && len(strings.Fields(line)) > 1 {
				t.Errorf("COLUMNS=%s: %d columns: %s", columns, n, line)
			} else if n <= limit {
				longest = max(longest, n)
			}
		}
		if longest < limit-5 {
			t.Errorf("COLUMNS=%s: the longest line has %d columns", columns, longest)
		}
	}
}
