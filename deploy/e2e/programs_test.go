package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs builds the programs that read the shipped files. Each one is built when a
// test needs it for the first time; the go command caches the result. Each program has
// a separate module file, so that the imports of these tests do not change its
// dependencies.
var programs = map[string]func() (path string, err error){
	"prometheus":   goCommand("tool", "-modfile=prometheus.mod", "-n", "prometheus"),
	"promtool":     goCommand("tool", "-modfile=prometheus.mod", "-n", "promtool"),
	"alertmanager": goCommand("tool", "-modfile=alertmanager.mod", "-n", "alertmanager"),
	"helm":         goCommand("tool", "-modfile=helm.mod", "-n", "helm"),
}

// goCommand returns a function that runs the go command once, and returns its output.
func goCommand(args ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		cmd := exec.Command("go", args...)
		// Build without the service discoveries of clouds: no test uses them, and their
		// modules are not available everywhere.
		cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -tags=remove_all_sd")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	})
}

// TestPrograms builds all programs, so that make can say that it does.
func TestPrograms(t *testing.T) {
	for name := range programs {
		program(t, name)
	}
}

// program returns the path of a program. With -short, it skips the test instead.
func program(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skipf("-short leaves out what needs %s", name)
	}
	path, err := programs[name]()
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return path
}

var exporter string // the path of the exporter

// TestMain builds the exporter, with its own module file.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	exporter = filepath.Join(dir, "crs_exporter")
	if _, err := goCommand("build", "-C", "../..", "-o", exporter, ".")(); err != nil {
		panic(err)
	}
	m.Run()
}

// run runs a program until it exits. The program must succeed.
func run(t *testing.T, path string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
}

// start starts a server program and returns a function that stops it. It also stops at
// the end of the test. If the test failed, start logs the program's output.
func start(t *testing.T, env []string, path string, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	cmd.Dir = t.TempDir()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
		if t.Failed() {
			t.Logf("output of %s:\n%s", path, output.Bytes())
		}
	})
	t.Cleanup(stop)
	return stop
}

// freeAddress returns a loopback address with a free port.
func freeAddress() string {
	server := httptest.NewServer(nil)
	defer server.Close()
	return server.Listener.Addr().String()
}

// eventually calls check until it returns nil, for at most one minute. It waits in real
// time, because a test cannot control the clock of other processes.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

var client = http.Client{Timeout: 10 * time.Second}

// get gets a URL and decodes the JSON response into v, if that is not nil.
func get(url string, v any) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	if v == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
