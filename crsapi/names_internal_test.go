package crsapi

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the README's table of task names")

// TestREADMETaskNames compares the README's table with the code, row by row.
func TestREADMETaskNames(t *testing.T) {
	const (
		path       = "../README.md"
		begin, end = "<!-- task names: checked by a test -->\n", "<!-- end of task names -->"
		head       = "| code | taskName |\n|---|---|\n"
	)
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(readme), begin)
	table, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("no table of task names")
	}
	if *update {
		table = head
		for _, code := range slices.Sorted(maps.Keys(taskNames)) {
			table += fmt.Sprintf("| `%s` | `%s` |\n", code, taskNames[code])
		}
		if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rows, hasHead := strings.CutPrefix(table, head)
	if !hasHead {
		t.Errorf("the table does not begin with\n%s", head)
	}
	shown := map[string]string{}
	var codes []string
	for line := range strings.Lines(rows) {
		cells := regexp.MustCompile("^\\| `([^`]+)` \\| `([^`]+)` \\|\n$").FindStringSubmatch(line)
		if cells == nil {
			t.Errorf("not a row: %q", line)
			continue
		}
		code, name := cells[1], cells[2]
		if taskNames[code] != name {
			t.Errorf("the README says %s for code %s, the code %q; go test -run %s -update rewrites the table", name, code, taskNames[code], t.Name())
		}
		shown[code] = name
		codes = append(codes, code)
	}
	for code, name := range taskNames {
		if shown[code] != name {
			t.Errorf("the README does not have code %s, %s; go test -run %s -update rewrites the table", code, name, t.Name())
		}
	}
	if !slices.IsSorted(codes) || len(shown) != len(codes) {
		t.Errorf("the codes are not in order, or not unique: %v", codes)
	}
}

// TestTaskNames checks that a name says which code a task had, and that each
// code of a filter is one of its name.
func TestTaskNames(t *testing.T) {
	codes := map[string]string{}
	for code, name := range taskNames {
		if len(code) != 3 || strings.Trim(code, "0123456789") != "" {
			t.Errorf("code %q", code)
		}
		if other, ok := codes[name]; ok {
			t.Errorf("codes %s and %s are both %s", code, other, name)
		}
		codes[name] = code
		if strings.HasPrefix(name, "FLOW_") || name != strings.TrimSpace(name) || name == "" {
			t.Errorf("code %s is %q", code, name)
		}
	}
	if len(taskNames) != 58 {
		t.Errorf("%d codes; the documents have 56, and 2 for private clouds", len(taskNames))
	}
	for api, names := range map[API]names3{API30: describeTaskList, APITCE: privateCloud} {
		types := api.TaskTypes()
		if len(names.taskTypes) != len(types) {
			t.Errorf("API %s: codes of %d types, want %d", api, len(names.taskTypes), len(types))
		}
		for _, taskType := range types {
			name := strings.TrimPrefix(taskType, "task_")
			want := []string{codes[name]}
			if api == API30 && name == "backupInstance" {
				want = append(want, codes["AUTOBACKUP"])
			}
			if !slices.Equal(names.taskTypes[taskType], want) {
				t.Errorf("API %s: %s is %v, want %v", api, taskType, names.taskTypes[taskType], want)
			}
		}
	}
}

// TestLongRegions checks that a long name stays as it is.
func TestLongRegions(t *testing.T) {
	long := map[string]bool{}
	for short, name := range longRegions {
		if longRegion(short) != name || longRegion(name) != name {
			t.Errorf("%s is %s, %s is %s", short, longRegion(short), name, longRegion(name))
		}
		if long[name] || !IsRegionName(name) || !strings.Contains(name, "-") {
			t.Errorf("%s is %q", short, name)
		}
		long[name] = true
	}
	if longRegion("xy") != "xy" || longRegion("") != "" {
		t.Error("an unknown region is not as it was")
	}
}
