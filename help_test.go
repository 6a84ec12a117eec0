package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// socketHelp is in the help on Linux only.
const socketHelp = `  --web.systemd-socket
      Use systemd socket activation listeners instead of port listeners (Linux
      only).
`

// helpAt returns the help for a terminal with that many columns; empty for none.
func helpAt(t *testing.T, columns string) string {
	t.Helper()
	t.Setenv("COLUMNS", columns)
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &stdout, &stderr); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v, %s", err, stderr.String())
	}
	return stdout.String()
}

// TestHelp compares the help with the golden file. With -update, it writes the file.
func TestHelp(t *testing.T) {
	path := filepath.Join("testdata", "help.txt")
	got := helpAt(t, "")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(want, []byte(socketHelp)) {
		t.Errorf("%s does not contain:\n%s", path, socketHelp)
	}
	if runtime.GOOS != "linux" {
		want = bytes.Replace(want, []byte(socketHelp), nil, 1)
	}
	if got != string(want) {
		t.Errorf("the help differs from %s; go test -run %s -update writes it. Got:\n%s", path, t.Name(), got)
	}
}

// TestHelpHasEveryFlag expects each flag that is not hidden in one group.
func TestHelpHasEveryFlag(t *testing.T) {
	flags := newApplication(&settings{}).Model().FlagGroupModel
	found := map[string]int{}
	for _, group := range groupFlags(flags) {
		for _, f := range group.Flags {
			found[f.Name]++
		}
	}
	for _, f := range flags.Flags {
		if n := found[f.Name]; n > 1 || n == 0 && !f.Hidden {
			t.Errorf("--%s is in %d groups of the help", f.Name, n)
		}
	}
}

func TestCompletion(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"--completion-script-bash", "complete -F _crs_exporter_bash_autocomplete -o default crs_exporter"},
		{"--completion-script-zsh", "#compdef crs_exporter"},
		{"--completion-bash --crs.re", "--crs.region"},
	} {
		cmd := exec.CommandContext(t.Context(), program, strings.Fields(c.args)...)
		cmd.Env = append(os.Environ(), envMain+"=1")
		out, err := cmd.Output()
		if err != nil || !slices.Contains(strings.Split(string(out), "\n"), c.want) {
			t.Errorf("%s: %v, no line %q:\n%s", c.args, err, c.want, out)
		}
	}
}
