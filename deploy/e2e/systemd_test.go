package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	unitFile   = "../systemd/crs_exporter.service"
	unitBinary = "/usr/local/bin/crs_exporter"
)

// assignments returns the assignments of a unit or an environment file.
func assignments(t *testing.T, file string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(readFile(t, file), -1) {
		values[m[1]] = m[2]
	}
	return values
}

func TestSystemdUnit(t *testing.T) {
	unit, env := assignments(t, unitFile), assignments(t, "../systemd/crs_exporter.env")
	for name, value := range env {
		if strings.HasPrefix(name, "TENCENTCLOUD_") && (name != "TENCENTCLOUD_REGION" || value == "") {
			t.Errorf("%s=%s: must be a region, since every process can read the file", name, value)
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
	name, _, _ := strings.Cut(unit["LoadCredential"], ":")
	if got, want := flagValue(t, args, "crs.credentials-file"), "${CREDENTIALS_DIRECTORY}/"+name; got != want {
		t.Errorf("the credentials file is %s, systemd loads %s", got, want)
	}
	if got, want := flagValue(t, args, "state.file"), "/var/lib/"+unit["StateDirectory"]+"/state"; got != want {
		t.Errorf("the state file is %s, systemd creates the directory of %s", got, want)
	}
	if unit["MemoryMax"] != "512M" {
		t.Errorf("MemoryMax=%s", unit["MemoryMax"])
	}
	checkProcess(t, args, unit["Environment"], 512<<20)
}
