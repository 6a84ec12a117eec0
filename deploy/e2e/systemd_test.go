package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
const maxExposure = "12"

type directive struct{ section, key, value string }

var assignment = regexp.MustCompile(`^([A-Za-z]+)=(.*)$`)

func readUnit(t *testing.T) []directive {
	t.Helper()
	f, err := os.Open(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []directive
	var section string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch m := assignment.FindStringSubmatch(line); {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = strings.Trim(line, "[]")
		case m != nil && section != "":
			out = append(out, directive{section, m[1], m[2]})
		default:
			t.Errorf("%s:%d: not a section and not an assignment: %q", unitFile, n, line)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// unitDirectives are the directives of the unit with their allowed values; nil allows any value. The test is strict,
// because systemd only warns about an unknown key, so a misspelt sandbox option would have no effect.
var unitDirectives = map[string]map[string][]string{
	"Unit": {"Description": nil, "Documentation": nil, "Wants": {"network-online.target"}, "After": {"network-online.target"}, "StartLimitIntervalSec": {"0"}},
	"Service": {
		"Type": {"exec"}, "EnvironmentFile": {"/etc/crs_exporter/crs_exporter.env"},
		"Environment":    {"GOMEMLIMIT=450MiB"},
		"LoadCredential": {"credentials:/etc/crs_exporter/credentials"}, "ExecStart": nil,
		"Restart": {"always"}, "RestartSec": {"5s"}, "TimeoutStopSec": {"20s"}, "MemoryMax": {"512M"}, "TasksMax": {"128"},
		"StateDirectory": {"crs_exporter"}, "StateDirectoryMode": {"0700"},
		"DynamicUser": {"yes"}, "UMask": {"0077"}, "NoNewPrivileges": {"yes"}, "CapabilityBoundingSet": {""}, "AmbientCapabilities": {""},
		"ProtectSystem": {"strict"}, "ProtectHome": {"yes"}, "PrivateTmp": {"yes"}, "PrivateDevices": {"yes"}, "DevicePolicy": {"closed"},
		"PrivateUsers": {"yes"}, "PrivateMounts": {"yes"}, "ProtectProc": {"invisible"}, "ProtectClock": {"yes"}, "ProtectHostname": {"yes"},
		"ProtectKernelLogs": {"yes"}, "ProtectKernelModules": {"yes"}, "ProtectKernelTunables": {"yes"}, "ProtectControlGroups": {"yes"},
		"InaccessiblePaths": nil, "NoExecPaths": {"/"}, "ExecPaths": nil,
		"RestrictAddressFamilies": {"AF_INET AF_INET6 AF_UNIX"}, "SocketBindDeny": {"any"}, "SocketBindAllow": {"tcp:10991"},
		"RestrictNamespaces": {"yes"}, "RestrictRealtime": {"yes"}, "RestrictSUIDSGID": {"yes"}, "LockPersonality": {"yes"},
		"MemoryDenyWriteExecute": {"yes"}, "RemoveIPC": {"yes"}, "KeyringMode": {"private"}, "SystemCallArchitectures": {"native"},
		"SystemCallFilter": {"@system-service", "~@privileged @resources"}, "SystemCallErrorNumber": {"EPERM"},
	},
	"Install": {"WantedBy": {"multi-user.target"}},
}

func TestSystemdDirectives(t *testing.T) {
	seen := map[string]map[string]bool{}
	for _, d := range readUnit(t) {
		values, known := unitDirectives[d.section][d.key]
		switch {
		case !known:
			t.Errorf("[%s] %s= is not in unitDirectives", d.section, d.key)
		case values != nil && !slices.Contains(values, d.value):
			t.Errorf("[%s] %s=%s, want one of %q", d.section, d.key, d.value, values)
		}
		if seen[d.section] == nil {
			seen[d.section] = map[string]bool{}
		}
		if seen[d.section][d.key] && d.key != "SystemCallFilter" {
			t.Errorf("[%s] %s= is set twice", d.section, d.key)
		}
		seen[d.section][d.key] = true
	}
	for section, keys := range unitDirectives {
		for key := range keys {
			if !seen[section][key] {
				t.Errorf("[%s] %s= is not set", section, key)
			}
		}
	}
}

func TestSystemdMemoryLimit(t *testing.T) {
	var goMemLimit string
	var limit int64
	for _, d := range readUnit(t) {
		switch d.key {
		case "Environment":
			goMemLimit = strings.TrimPrefix(d.value, "GOMEMLIMIT=")
		case "MemoryMax":
			mebibytes, err := strconv.ParseInt(strings.TrimSuffix(d.value, "M"), 10, 64)
			if err != nil {
				t.Fatalf("MemoryMax=%s: %v", d.value, err)
			}
			limit = mebibytes << 20
		}
	}
	checkMemoryLimit(t, goMemLimit, limit)
}

func TestSystemdCommand(t *testing.T) {
	env := map[string]string{}
	b, err := os.ReadFile(unitEnvFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Errorf("%s: not an assignment: %q", unitEnvFile, line)
		}
		env[name] = value
	}
	if env["TENCENTCLOUD_REGION"] == "" {
		t.Error("no region is set")
	}
	for name := range env {
		if strings.HasPrefix(name, "TENCENTCLOUD_") && name != "TENCENTCLOUD_REGION" {
			t.Errorf("%s must not be in a file that every process can read", name)
		}
	}
	for _, d := range readUnit(t) {
		switch d.key {
		case "ExecStart":
			args := strings.Fields(d.value)
			if args[0] != unitBinary {
				t.Errorf("starts %s, want %s", args[0], unitBinary)
			}
			if !slices.Contains(args, "--crs.credentials-file=${CREDENTIALS_DIRECTORY}/credentials") {
				t.Errorf("does not use the loaded credential: %v", args)
			}
			i := slices.Index(args, "$CRS_EXPORTER_ARGS")
			if _, given := env["CRS_EXPORTER_ARGS"]; i < 0 || !given {
				t.Fatalf("$CRS_EXPORTER_ARGS must be in ExecStart= %v and in the environment file %v", args, env)
			}
			checkFlags(t, slices.Delete(args, i, i+1)[1:])
		case "ExecPaths":
			if !slices.Contains(strings.Fields(d.value), unitBinary) {
				t.Errorf("ExecPaths= does not allow %s", unitBinary)
			}
		}
	}
}

// TestSystemdAnalyze checks the unit with systemd-analyze, if it is installed.
func TestSystemdAnalyze(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Logf("systemd-analyze is not installed: only the other tests check the unit (%v)", err)
		return
	}
	b, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// systemd checks that the binary is executable. The exporter is not installed, so use the test binary.
	unit := filepath.Join(t.TempDir(), filepath.Base(unitFile))
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(b), unitBinary, self)), 0o600); err != nil {
		t.Fatal(err)
	}
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
