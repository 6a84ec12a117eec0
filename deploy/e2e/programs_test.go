package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var exporterDir string // for the exporter's binary

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		panic(err)
	}
	exporterDir = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// programs builds the programs that read the shipped files. Each one is built when a
// test needs it for the first time; the go command caches the result. Each program has
// a separate module file, so that the imports of these tests do not change its
// dependencies.
var programs = map[string]func() (string, error){
	"prometheus":   sync.OnceValues(func() (string, error) { return buildTool("prometheus", "prometheus.mod") }),
	"promtool":     sync.OnceValues(func() (string, error) { return buildTool("promtool", "prometheus.mod") }),
	"alertmanager": sync.OnceValues(func() (string, error) { return buildTool("alertmanager", "alertmanager.mod") }),
	"amtool":       sync.OnceValues(func() (string, error) { return buildTool("amtool", "alertmanager.mod") }),
	"helm":         sync.OnceValues(func() (string, error) { return buildTool("helm", "helm.mod") }),
}

// buildTool builds a tool of modfile and returns its path.
func buildTool(name, modfile string) (string, error) {
	goflags, err := exec.Command("go", "env", "GOFLAGS").Output()
	if err != nil {
		return "", fmt.Errorf("build %s: go env: %w", name, err)
	}
	cmd := exec.Command("go", "tool", "-modfile="+modfile, "-n", name)
	// Build without the service discoveries of clouds: no test uses them, and their
	// modules are not available everywhere.
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(string(goflags))+" -tags=remove_all_sd")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// TestPrograms builds all programs, so that make can say that it does.
func TestPrograms(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		t.Run(name, func(t *testing.T) { program(t, name) })
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
		t.Fatal(err)
	}
	return path
}

var buildExporter = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(exporterDir, "crs_exporter")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the exporter: %w\n%s", err, out)
	}
	return path, nil
})

// exporter returns the path of the exporter, built with its own module file.
func exporter(t *testing.T) string {
	t.Helper()
	path, err := buildExporter()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a program until it exits and returns its output. The program must succeed.
func run(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start starts a server program and returns a function that stops it. It also stops at
// the end of the test. If the test failed, start logs the program's output.
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
			t.Logf("output of %s:\n%s", name, output.Bytes())
		}
	})
	t.Cleanup(stop)
	return stop
}

// freeAddress returns a loopback address with a free port.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually calls check until it returns nil, for at most one minute. It waits in real
// time, because a test cannot control the clock of other processes.
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

// get requests url and decodes the JSON response into v. If v is nil, it ignores the body.
func get(t *testing.T, url string, v any) error {
	t.Helper()
	return request(t, http.MethodGet, url, nil, v)
}

// request sends body as JSON, if it is not nil. No connection stays open, which would leak
// a goroutine.
func request(t *testing.T, method, url string, body, v any) error {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
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
