package main

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/crs-exporter/crs_exporter"

// allowedImports is who may import whom within the module. Every package must
// be in it.
var allowedImports = map[string][]string{
	"":                      {"collector", "crsapi", "crsapi/credentials", "crsapi/crsapitest"},
	"collector":             {"collector/ledger", "crsapi", "crsapi/mirror"},
	"crsapi/mirror":         {"crsapi"},
	"collector/ledger":      nil,
	"crsapi":                {"crsapi/credentials", "crsapi/internal/tc3", "crsapi/internal/trace"},
	"crsapi/credentials":    {"crsapi/internal/tc3", "crsapi/internal/trace"},
	"crsapi/internal/tc3":   nil,
	"crsapi/internal/trace": nil,
	"crsapi/crsapitest":     {"crsapi"},
}

// foreignImports is which packages may import these modules.
var foreignImports = map[string][]string{
	"github.com/prometheus/":         {"", "collector"},
	"github.com/alecthomas/kingpin/": {""},
	"github.com/go-kit/log":          {"", "collector", "collector/ledger"},
	"golang.org/x/time/rate":         {"collector", "crsapi"},
	"github.com/cenkalti/backoff/":   {"crsapi"},
	"github.com/go-json-experiment/": {"crsapi"},
	"github.com/gofrs/flock":         {"collector/ledger"},
	"net/http":                       {"", "collector", "crsapi", "crsapi/credentials", "crsapi/crsapitest", "crsapi/internal/trace"},
	"net/http/httptest":              nil,
	"testing":                        nil,
}

func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := inModule(fields[0])
		allowed, known := allowedImports[from]
		if !known {
			t.Errorf("package %q is not in the design", from)
		}
		seen++
		for _, path := range fields[1:] {
			if strings.HasPrefix(path, module) {
				if to := inModule(path); !slices.Contains(allowed, to) {
					t.Errorf("package %q must not import %q", from, to)
				}
				continue
			}
			for prefix, importers := range foreignImports {
				matches := path == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix)
				if matches && !slices.Contains(importers, from) {
					t.Errorf("package %q must not import %s", from, path)
				}
			}
		}
	}
	if seen != len(allowedImports) {
		t.Errorf("%d packages, want %d", seen, len(allowedImports))
	}
}

func inModule(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

// TestOnlyTheDemoImportsTheSimulator keeps the simulator out of everything that
// serves real metrics.
func TestOnlyTheDemoImportsTheSimulator(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var importers []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if path, err := strconv.Unquote(spec.Path.Value); err == nil && path == module+"/crsapi/crsapitest" {
				importers = append(importers, name)
			}
		}
	}
	if !slices.Equal(importers, []string{"demo.go"}) {
		t.Errorf("%q import crsapitest, want only demo.go", importers)
	}
}
