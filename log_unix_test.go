//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// endLimit is how long the process may take to end after a SIGTERM.
const endLimit = 20 * time.Second

// process is the program in a process of its own.
type process struct {
	running
	cmd   *exec.Cmd
	ended chan struct{}
}

// startProcess starts the program, which logs to stderr. Nobody reads from there
// where it listens, so the test chooses the address.
func startProcess(t *testing.T, stderr *os.File, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := &process{running: running{t: t, url: "http://" + address}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(t.Context(), exe, append([]string{"--web.listen-address=" + address}, args...)...)
	p.cmd.Env = append(os.Environ(), envMain+"=1")
	p.cmd.Stderr = stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // ProcessState tells
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// waitUntilHealthy waits until the process serves.
func (p *process) waitUntilHealthy() {
	p.t.Helper()
	p.repeat(func() bool { return checkHealth(p.t.Context(), "", strings.TrimPrefix(p.url, "http://")) == nil })
}

// repeat calls done until it returns true or the process has ended.
func (p *process) repeat(done func() bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-p.ended:
			p.t.Fatalf("the process has ended: %s", p.cmd.ProcessState)
		case <-ctx.Done():
			p.t.Fatal(ctx.Err())
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wantEnd waits for the end of the process.
func (p *process) wantEnd(state string) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(endLimit):
		p.t.Fatalf("it still runs after %s", endLimit)
	}
	if got := p.cmd.ProcessState.String(); got != state {
		p.t.Errorf("it ended with %q, want %q", got, state)
	}
}

var droppedLines = regexp.MustCompile(`(?m)^crs_log_lines_dropped_total (\S+)$`)

// dropped scrapes, and returns the number of dropped lines as text.
func (p *process) dropped(up int) string {
	p.t.Helper()
	began := time.Now()
	status, body := p.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
	if ups := strings.Count(body, "\ncrs_up{"); status != http.StatusOK || ups == 0 || strings.Count(body, fmt.Sprintf("\"} %d\n", up)) < ups {
		p.t.Fatalf("status %d, crs_up is not %d everywhere: %.300s", status, up, body)
	}
	if took := time.Since(began); took > 20*time.Second {
		p.t.Errorf("a scrape took %s", took)
	}
	match := droppedLines.FindStringSubmatch(body)
	if match == nil {
		p.t.Fatal("no crs_log_lines_dropped_total")
	}
	return match[1]
}

// fullPipe returns a pipe that has no room left.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var full error
	if err := raw.Write(func(fd uintptr) bool {
		for full == nil {
			_, full = syscall.Write(int(fd), bytes.Repeat([]byte{'\n'}, 512))
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(full, syscall.EAGAIN) {
		t.Fatal(full)
	}
	return r, w
}

// brokenLogs are logs that cannot be written.
var brokenLogs = map[string]func(t *testing.T) *os.File{
	"full pipe": func(t *testing.T) *os.File {
		_, w := fullPipe(t)
		return w
	},
	"reader gone": func(t *testing.T) *os.File {
		r, w := fullPipe(t)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		return w
	},
	"full disk": func(t *testing.T) *os.File {
		const path = "/dev/full"
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			t.Skipf("no %s here", path)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	},
}

// TestBrokenLog has a log that cannot be written, and many lines for it. Scrapes go
// on, a SIGHUP ends nothing, and a SIGTERM ends the process.
func TestBrokenLog(t *testing.T) {
	setKey(t)
	tests := map[string]func(*testing.T){}
	for name, open := range brokenLogs {
		tests[name] = func(t *testing.T) {
			regions := 1
			if name == "full pipe" {
				regions = 300 // the queue is filled within a few scrapes
			}
			lists := map[string][]crsapi.Task{}
			for i := range regions {
				lists[fmt.Sprintf("ap-%d", i)] = nil
			}
			server, args := serveTasks(t, crsapi.API20, lists)
			p := startProcess(t, open(t), args...)
			p.waitUntilHealthy()
			p.dropped(1)
			rounds := 0
			// Each scrape logs a line of each region.
			for up := 0; p.dropped(1-up) == "0"; up = 1 - up {
				if rounds++; rounds > 10 {
					t.Fatal("no line was dropped")
				}
				if server.ClearFaults(); up == 0 {
					server.Inject(crsapitest.Fault{Do: crsapitest.APIError(4103)})
				}
			}
			p.signal(syscall.SIGHUP)
			p.get("/metrics")
			began := time.Now()
			p.signal(syscall.SIGTERM)
			p.wantEnd("exit status 0")
			if took := time.Since(began); name == "full pipe" && took < flushTimeout {
				t.Errorf("it ended after %s, so a late reader misses the last lines", took)
			}
		}
	}
	atOnce(t, tests)
}

// TestBrokenLogOfAnError ends the process with an error that nobody can read.
func TestBrokenLogOfAnError(t *testing.T) {
	tests := map[string]func(*testing.T){}
	for name, open := range brokenLogs {
		tests[name] = func(t *testing.T) {
			startProcess(t, open(t), "--log.level=loud").wantEnd("exit status 1")
		}
	}
	atOnce(t, tests)
}

// TestLastLines reads a log to its end: the last lines of a shutdown, and of an error
// after the start, are in it.
func TestLastLines(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	run := func(t *testing.T, args ...string) (p *process, text func() string) {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p = startProcess(t, w, args...)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var log []byte
		var reading sync.WaitGroup
		reading.Go(func() { log, err = io.ReadAll(r) })
		return p, func() string {
			reading.Wait()
			if err != nil {
				t.Error(err)
			}
			return string(log)
		}
	}
	p, text := run(t, args...)
	p.waitUntilHealthy()
	p.get("/metrics") // the first poll has ended, and is in the log
	p.signal(os.Interrupt)
	p.wantEnd("exit status 0")
	if lines := strings.Split(strings.TrimSpace(text()), "\n"); !strings.Contains(lines[len(lines)-1], "shutting down") {
		t.Errorf("the last lines of a shutdown are %q", lines)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p, text = run(t, append(args, "--web.listen-address="+taken.Addr().String())...)
	p.wantEnd("exit status 1")
	log := text()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if !strings.Contains(log, "starting crs_exporter") || !strings.HasPrefix(lines[len(lines)-1], "crs_exporter: error: serve: ") {
		t.Errorf("the lines of an error are %q", lines)
	}
}

// TestSecondSignal has a scrape wait for an API that never responds. The first
// signal waits for it, and the second does not.
func TestSecondSignal(t *testing.T) {
	for _, second := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(second.String(), func(t *testing.T) {
			server, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
			server.Inject(crsapitest.Fault{Do: crsapitest.Hang})
			p := startProcess(t, nil, append(args, "--crs.request-timeout=1m")...)
			p.waitUntilHealthy()
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprint(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			p.repeat(func() bool {
				_, body := p.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "0.6")
				return strings.Contains(body, "promhttp_metric_handler_requests_in_flight 2\n")
			})
			p.signal(syscall.SIGTERM)
			p.repeat(func() bool { return checkHealth(t.Context(), "", strings.TrimPrefix(p.url, "http://")) != nil })
			began := time.Now()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ended := false; !ended; {
				_ = p.cmd.Process.Signal(second) // again, because the first one may still be at work
				select {
				case <-tick.C:
				case <-p.ended:
					ended = true
				}
			}
			p.wantEnd("signal: " + second.String())
			if took := time.Since(began); took > drainTimeout/4 {
				t.Errorf("it took %s", took)
			}
		})
	}
}
