package main

import (
	"bytes"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/prometheus/common/version"
)

func TestVersionOf(t *testing.T) {
	for module, want := range map[string]string{
		"v1.2.3": "1.2.3",
		"v0.0.0-20261125201244-aae78cf2f63a+dirty": "0.0.0-20261125201244-aae78cf2f63a+dirty",
		"(devel)": "devel",
		"":        "",
	} {
		if got := versionOf(&debug.BuildInfo{Main: debug.Module{Version: module}}); got != want {
			t.Errorf("%q gives %q, want %q", module, got, want)
		}
	}
}

// setVersion sets the version, as -ldflags do, until the test ends.
func setVersion(t *testing.T, text string) {
	t.Helper()
	before := version.Version
	t.Cleanup(func() { version.Version = before })
	version.Version = text
}

// TestVersionOfABuildWithoutLDFlags expects the version of the test program, whatever
// go test has written into it.
func TestVersionOfABuildWithoutLDFlags(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok || versionOf(info) == "" {
		t.Fatalf("the test program has no version: %v", info)
	}
	setVersion(t, "")
	stampVersion()

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	printed := exec.CommandContext(t.Context(), program, "--version")
	printed.Env = append(os.Environ(), envMain+"=1")
	text, err := printed.Output()
	if err != nil {
		t.Fatal(err)
	}
	exporter := start(t, "--demo")
	_, page := exporter.get("/")
	_, metrics := exporter.get("/metrics")
	for where, c := range map[string]struct{ text, want string }{
		"--version":       {string(text), "version " + versionOf(info) + " "},
		"the status page": {page, "<footer>crs_exporter " + versionOf(info) + " "},
		"the metric":      {metrics, `version="` + versionOf(info) + `"} 1`},
		"the log":         {exporter.log.String(), "(version=" + versionOf(info) + ","},
	} {
		if !strings.Contains(c.text, c.want) {
			t.Errorf("%s does not contain %q:\n%s", where, c.want, c.text)
		}
	}
}

func TestVersionOfLDFlags(t *testing.T) {
	setVersion(t, "1.2.3")
	stampVersion()
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"--version"}, &stdout, &stdout); err != nil || !strings.Contains(stdout.String(), "version 1.2.3 ") {
		t.Errorf("%v, %s", err, stdout.String())
	}
}
