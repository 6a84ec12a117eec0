package crsapitest_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	modulePath = "github.com/crs-exporter/crs_exporter"
	apiPath    = modulePath + "/crsapi"
)

// If the simulator used code of the client, both could have the same mistake.
// So it may use only types and typed constants of crsapi, and no other package
// of the module.
func TestSimulatorUsesOnlyTypesOfCrsapi(t *testing.T) {
	exports := exportData(t)
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if got := forbiddenUses(t, fset, files, exports); len(got) > 0 {
		t.Errorf("the simulator uses %q", got)
	}

	// The check itself must find violations.
	const bad = `package crsapitest
import api "` + apiPath + `"
func _(s api.Status) (api.Task, string, any) { return api.Task{Status: api.StatusFailed}, s.String(), api.NewClient }
`
	file, err := parser.ParseFile(fset, "bad.go", bad, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := forbiddenUses(t, fset, append(files, file), exports), []string{"bad.go: NewClient", "bad.go: String"}; !slices.Equal(got, want) {
		t.Errorf("uses in bad.go: %q, want %q", got, want)
	}
}

// forbiddenUses returns the objects of crsapi that files use and that are
// neither types, fields nor typed constants, and the other packages of the
// module that files import.
func forbiddenUses(t *testing.T, fset *token.FileSet, files []*ast.File, exports map[string]string) []string {
	t.Helper()
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	if _, err := config.Check("crsapitest", fset, files, info); err != nil {
		t.Fatal(err)
	}
	var uses []string
	for ident, object := range info.Uses {
		if object.Pkg() == nil || object.Pkg().Path() != apiPath {
			continue
		}
		switch object := object.(type) {
		case *types.TypeName:
			continue
		case *types.Var:
			if object.IsField() {
				continue
			}
		case *types.Const:
			if named, ok := object.Type().(*types.Named); ok && named.Obj().Pkg() == object.Pkg() {
				continue
			}
		}
		uses = append(uses, fmt.Sprintf("%s: %s", fset.Position(ident.Pos()).Filename, object.Name()))
	}
	for _, file := range files {
		for _, spec := range file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if strings.HasPrefix(path, modulePath) && path != apiPath {
				uses = append(uses, "import "+path)
			}
		}
	}
	slices.Sort(uses)
	return slices.Compact(uses)
}

// exportData returns the files with the export data of the packages that
// crsapitest imports.
func exportData(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		exports[path] = file
	}
	return exports
}
