package collector_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// buildProgram returns the path of the built exporter: a process of its own, so that CPU
// and memory do not contain those of the simulator.
func buildProgram(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "crs_exporter")
	if out, err := exec.Command("go", "build", "-o", path, "..").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// program is an exporter that runs.
type program struct {
	*testing.B
	url string // of its metrics
	pid int
}

// run starts the exporter, and ends it when the benchmark ends.
func run(b *testing.B, path string, server *crsapitest.Server, flags ...string) *program {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), path, append(flags, "--web.listen-address=127.0.0.1:0", "--crs.region="+guangzhou,
		"--crs.api=2.0", "--crs.endpoint="+server.URL, "--crs.rate-limit=0")...)
	cmd.Env = append(os.Environ(), "TENCENTCLOUD_SECRET_ID="+crsapitest.SecretID, "TENCENTCLOUD_SECRET_KEY="+crsapitest.SecretKey)
	logs, err := cmd.StderrPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Wait() })
	lines := bufio.NewScanner(logs)
	for lines.Scan() && !strings.Contains(lines.Text(), "Listening on") {
	}
	address := regexp.MustCompile(`127\.0\.0\.1:[0-9]+`).FindString(lines.Text())
	go func() { _, _ = io.Copy(io.Discard, logs) }() // until the process ends
	return &program{B: b, url: "http://" + address + "/metrics", pid: cmd.Process.Pid}
}

// scrape returns a scrape's body. The transport compresses it, as Prometheus does.
func (p *program) scrape(format string) string {
	p.Helper()
	req, err := http.NewRequest(http.MethodGet, p.url, nil)
	if err != nil {
		p.Fatal(err)
	}
	req.Header = http.Header{"Accept": {format}, "X-Prometheus-Scrape-Timeout-Seconds": {"250"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Error(err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), `crs_up{region="ap-guangzhou"} 1`) {
		p.Errorf("the region is down, %v", err)
	}
	return string(body)
}

// peakMiB returns the peak memory of the process; 0 where the system is not Linux.
func (p *program) peakMiB() float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	n, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, _ := strconv.ParseFloat(n, 64)
	return kib / 1024
}

// BenchmarkWholeScrape measures a scrape that reads all pages of a list. The CPU time is that
// from the answer before to this one.
func BenchmarkWholeScrape(b *testing.B) {
	path := buildProgram(b)
	cpu := func(body string) float64 {
		seconds, _ := strconv.ParseFloat(parse(body)["process_cpu_seconds_total"], 64)
		return seconds
	}
	for _, tasks := range []int{1_000, 10_000, 100_000, 1_000_000} {
		server := crsapitest.NewServer()
		list := crsapitest.Generate(tasks, min(tasks/10, 500), 1)
		for i := range list {
			list[i].Status = crsapi.StatusSucceeded
		}
		server.SetTasks(guangzhou, list)
		server.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
		b.Run(fmt.Sprintf("%d/full/quiet", tasks), func(b *testing.B) {
			for b.Loop() {
				p := run(b, path, server, "--crs.sync=full")
				before, requests := p.scrape(textFormat), server.Requests(guangzhou)
				after := p.scrape(textFormat)
				b.ReportMetric(float64(server.Requests(guangzhou)-requests), "requests")
				b.ReportMetric(cpu(after)-cpu(before), "cpu-s")
				b.ReportMetric(p.peakMiB(), "peak-MiB")
			}
		})
		server.Close()
	}
}

// BenchmarkMemory measures the peak memory of the exporter, with a state file, while two
// servers of a pair scrape it at the same time. It also reports the size of an answer as text.
func BenchmarkMemory(b *testing.B) {
	path := buildProgram(b)
	for _, instances := range []int{13, 140, 1_420, 2_840} {
		server := crsapitest.NewServer()
		server.SetTasks(guangzhou, crsapitest.Generate(10*instances, instances, 1))
		b.Run(strconv.Itoa(instances), func(b *testing.B) {
			for b.Loop() {
				p := run(b, path, server, "--state.file="+filepath.Join(b.TempDir(), "state"))
				for range 10 {
					var pair sync.WaitGroup
					for range 2 {
						pair.Go(func() { p.scrape(openMetricsFormat) }) // as Prometheus 3 does
					}
					pair.Wait()
				}
				b.ReportMetric(p.peakMiB(), "peak-MiB")
				body := p.scrape(textFormat)
				b.ReportMetric(float64(len(body))/1e6, "MB")
				b.ReportMetric(float64(len(parse(body))), "series")
			}
		})
		server.Close()
	}
}
