package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// The programs that read what is shipped, each built when a test first asks for
// it. The go command keeps what it has built; a program has a module file of its
// own, so that what the tests here import cannot change what it is built of.
var programs = map[string]func() (string, error){
	"prometheus":   sync.OnceValues(func() (string, error) { return buildTool("prometheus", "prometheus.mod") }),
	"promtool":     sync.OnceValues(func() (string, error) { return buildTool("promtool", "prometheus.mod") }),
	"alertmanager": sync.OnceValues(func() (string, error) { return buildTool("alertmanager", "alertmanager.mod") }),
	"amtool":       sync.OnceValues(func() (string, error) { return buildTool("amtool", "alertmanager.mod") }),
}

// buildTool builds a tool of modfile and returns where it is.
func buildTool(name, modfile string) (string, error) {
	goflags, err := exec.Command("go", "env", "GOFLAGS").Output()
	if err != nil {
		return "", fmt.Errorf("build %s: go env: %w", name, err)
	}
	cmd := exec.Command("go", "tool", "-modfile="+modfile, "-n", name)
	// The service discoveries of the clouds are left out: nothing here uses them,
	// and their modules cannot be had everywhere.
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(string(goflags))+" -tags=remove_all_sd")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := programs[name]()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildExporter builds the exporter as its own module says.
func buildExporter(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crs_exporter")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the exporter: %v\n%s", err, out)
	}
	return path
}

// run runs a program to its end, which has to be a good one, and returns what it printed.
func run(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start starts a program that serves, and returns what ends it. It ends with the
// test at the latest; what it wrote is logged if the test failed.
func start(t *testing.T, env []string, path string, args ...string) (stop func()) {
	t.Helper()
	name := filepath.Base(path)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	cmd.Dir = t.TempDir()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, output.Bytes())
		}
	})
	t.Cleanup(stop)
	return stop
}

// freeAddress returns a loopback address that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually looks until check is content, for a minute at most. Real processes
// have no clock that a test could turn.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-ticker.C:
		}
	}
}
