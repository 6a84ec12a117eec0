package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	unitFile    = "../systemd/crs_exporter.service"
	unitEnvFile = "../systemd/crs_exporter.env"
	unitBinary  = "/usr/local/bin/crs_exporter"
)

// maxExposure is ten times the highest exposure level that `systemd-analyze security` may report.
const maxExposure = "11"

// assignments returns the assignments of a unit or an environment file.
func assignments(t *testing.T, file string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(readFile(t, file)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && !strings.HasPrefix(line, "#") {
			values[name] = value
		}
	}
	return values
}

func TestSystemdMemoryLimit(t *testing.T) {
	unit := assignments(t, unitFile)
	mebibytes, err := strconv.ParseInt(strings.TrimSuffix(unit["MemoryMax"], "M"), 10, 64)
	if err != nil {
		t.Fatalf("MemoryMax=%s: %v", unit["MemoryMax"], err)
	}
	checkMemoryLimit(t, strings.TrimPrefix(unit["Environment"], "GOMEMLIMIT="), mebibytes<<20)
}

func TestSystemdCommand(t *testing.T) {
	unit, env := assignments(t, unitFile), assignments(t, unitEnvFile)
	if env["TENCENTCLOUD_REGION"] == "" {
		t.Error("no region is set")
	}
	for name := range env {
		if strings.HasPrefix(name, "TENCENTCLOUD_") && name != "TENCENTCLOUD_REGION" {
			t.Errorf("%s must not be in a file that every process can read", name)
		}
	}
	command := strings.Fields(unit["ExecStart"])
	if command[0] != unitBinary || !slices.Contains(strings.Fields(unit["ExecPaths"]), unitBinary) {
		t.Errorf("starts %s, may execute %s, want %s", command[0], unit["ExecPaths"], unitBinary)
	}
	args, last := command[1:len(command)-1], command[len(command)-1]
	if _, given := env["CRS_EXPORTER_ARGS"]; last != "$CRS_EXPORTER_ARGS" || !given {
		t.Errorf("the arguments end with %s, the environment file has %v", last, env)
	}
	checkFlags(t, args)
	name, _, _ := strings.Cut(unit["LoadCredential"], ":")
	if got, want := flagValue(t, args, "crs.credentials-file"), "${CREDENTIALS_DIRECTORY}/"+name; got != want {
		t.Errorf("the credentials file is %s, systemd loads %s", got, want)
	}
	if got, want := flagValue(t, args, "state.file"), "/var/lib/"+unit["StateDirectory"]+"/state"; got != want {
		t.Errorf("the state file is %s, systemd creates the directory of %s", got, want)
	}
}

// TestSystemdAnalyze checks the unit with systemd-analyze.
func TestSystemdAnalyze(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// systemd checks that the binary is executable. The exporter is not installed, so use the test binary.
	unit := filepath.Join(t.TempDir(), filepath.Base(unitFile))
	writeFile(t, unit, strings.ReplaceAll(readFile(t, unitFile), unitBinary, self))
	for name, args := range map[string][]string{
		// Without --recursive-errors=yes an unknown key is not an error.
		"verify":   {"verify", "--recursive-errors=yes", "--man=no", unit},
		"security": {"security", "--offline=true", "--no-pager", "--threshold=" + maxExposure, unit},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput(); err != nil {
				t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		})
	}
}
