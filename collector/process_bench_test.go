//go:build unix

package collector_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"golang.org/x/sync/errgroup"
)

// Latency of the simulator, and the maximum number of instances.
const (
	benchLatency   = 20 * time.Millisecond
	benchInstances = 500
)

const (
	envBenchURL  = "CRS_EXPORTER_BENCH_URL"
	envBenchMode = "CRS_EXPORTER_BENCH_MODE"
)

// measurement is what a child process measured.
type measurement struct {
	Wall, CPU time.Duration
	Requests  int
	Allocs    uint64
	Bytes     uint64
	PeakKiB   int64 // of the process so far
}

// The modes of a child process.
const (
	benchFirst       = "first"       // the first reading
	benchFull        = "full"        // in full, with a copy of the list
	benchIncremental = "incremental" // what may have changed
	benchDecode      = "decode"      // decode all pages with encoding/json
)

// BenchmarkWholeScrape measures a complete scrape in a child process, so that CPU and
// memory do not contain those of the simulator. It also reports the minimum wall
// time that pages, concurrency and latency allow, and the CPU time for decoding
// the same pages with encoding/json. While a busy list is read, a task is
// submitted at every tenth request.
func BenchmarkWholeScrape(b *testing.B) {
	defaults := crsapi.DefaultConfig(crsapi.API20)
	for _, tasks := range []int{1_000, 10_000, 100_000, 1_000_000} {
		server := crsapitest.NewServer()
		list := crsapitest.Generate(tasks, min(tasks/10, benchInstances), 1)
		for i := range list {
			list[i].Status = crsapi.StatusSucceeded
		}
		server.Inject(crsapitest.Fault{Do: crsapitest.Latency(benchLatency)})
		var decode measurement
		for _, mode := range []string{benchFirst, benchFull, benchIncremental} {
			for _, busy := range []bool{false, true} {
				server.SetTasks(guangzhou, list)
				server.OnRequest(nil)
				name := fmt.Sprintf("%d/%s/%s", tasks, mode, map[bool]string{false: "quiet", true: "busy"}[busy])
				b.Run(name, func(b *testing.B) {
					if decode.CPU == 0 {
						decode = measureApart(b, benchDecode, server.URL)
					}
					if busy {
						server.OnRequest(submitSometimes(server, list[0].StartTime))
					}
					for b.Loop() {
						m := measureApart(b, mode, server.URL)
						ideal := time.Duration(tasks/defaults.PageSize) * benchLatency / time.Duration(defaults.Concurrency)
						b.ReportMetric(0, "ns/op")
						b.ReportMetric(float64(m.Requests), "requests")
						b.ReportMetric(m.Wall.Seconds(), "wall-s")
						b.ReportMetric(ideal.Seconds(), "ideal-s")
						b.ReportMetric(m.CPU.Seconds(), "cpu-s")
						b.ReportMetric(decode.CPU.Seconds(), "stdlib-decode-cpu-s")
						b.ReportMetric(float64(m.Allocs), "allocs")
						b.ReportMetric(float64(m.PeakKiB)/1024, "peak-MiB")
					}
				})
			}
		}
		server.Close()
	}
}

// submitSometimes submits a task at every tenth request, a second after the last.
func submitSometimes(server *crsapitest.Server, newest time.Time) func(crsapitest.Request) {
	var requests atomic.Int64
	return func(crsapitest.Request) {
		if n := requests.Add(1); n%10 == 0 {
			task := crsapi.Task{
				RedisID: "crs-busy", RedisName: "busy", ProjectID: "0", TaskName: backup,
				StartTime: newest.Add(time.Duration(n/10) * time.Second), Status: crsapi.StatusSucceeded,
			}
			server.Add(guangzhou, task)
		}
	}
}

func measureApart(b *testing.B, mode, url string) measurement {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMeasured$")
	cmd.Env = append(os.Environ(), envBenchURL+"="+url, envBenchMode+"="+mode)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	var m measurement
	if err := json.Unmarshal(line, &m); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return m
}

// TestMeasured is the child process of BenchmarkWholeScrape.
func TestMeasured(t *testing.T) {
	url := os.Getenv(envBenchURL)
	if url == "" {
		return
	}
	var m measurement
	var err error
	if mode := os.Getenv(envBenchMode); mode == benchDecode {
		m, err = measureDecode(url)
	} else {
		m, err = measureScrape(url, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		t.Fatal(err)
	}
	os.Exit(0) // before the check for leaks: the connections are kept
}

func measure(work func() error) (m measurement, err error) {
	var before, after runtime.MemStats
	var used syscall.Rusage
	runtime.ReadMemStats(&before)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return m, err
	}
	cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	begin := time.Now()
	if err := work(); err != nil {
		return m, err
	}
	m.Wall = time.Since(begin)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return m, err
	}
	runtime.ReadMemStats(&after)
	m.CPU = time.Duration(used.Utime.Nano()+used.Stime.Nano()) - cpu
	m.Allocs, m.Bytes, m.PeakKiB = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc, peakKiB("self", used)
	return m, nil
}

// peakKiB returns the peak memory of a process. The figure of getrusage contains
// the parent of the process, so Linux's own is better.
func peakKiB(pid string, used syscall.Rusage) int64 {
	status, _ := os.ReadFile("/proc/" + pid + "/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if fields := strings.Fields(rest); len(fields) > 0 {
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			return n
		}
	}
	return used.Maxrss
}

func benchClient(url string, transport http.RoundTripper, observe func(crsapi.Attempt)) (*crsapi.Client, error) {
	cfg := crsapi.DefaultConfig(crsapi.API20)
	cfg.Region, cfg.Endpoint, cfg.Limiter = guangzhou, url, nil
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	cfg.Observe, cfg.Transport = observe, transport
	return crsapi.NewClient(cfg)
}

func measureScrape(url, mode string) (m measurement, err error) {
	cfg := collector.Config{Regions: []string{guangzhou}, Sync: collector.SyncFull}
	scrapes := 2
	switch mode {
	case benchFirst:
		scrapes = 1
	case benchIncremental:
		cfg.Sync = collector.SyncIncremental
	}
	var requests atomic.Int64
	cfg.Dial = func(_ string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
		client, err := benchClient(url, nil, func(a crsapi.Attempt) {
			requests.Add(1)
			observe(a)
		})
		return []collector.Source{collector.FromAPI(client)}, err
	}
	exporter, err := collector.New(cfg)
	if err != nil {
		return m, err
	}
	defer exporter.Close()
	handler := exporter.Handler()
	for range scrapes { // the last one is measured
		requests.Store(0)
		m, err = measure(func() error {
			req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "250")
			w := &shownUp{header: http.Header{}}
			handler.ServeHTTP(w, req)
			if !w.up {
				return fmt.Errorf("the scrape failed: %w", exporter.Status()[0].Err)
			}
			return nil
		})
		if err != nil {
			return m, err
		}
		m.Requests = int(requests.Load())
	}
	return m, nil
}

// What Prometheus 3 asks for by default, and with scrape_protocols: [PrometheusText0.0.4].
const (
	acceptOpenMetrics = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
	acceptText        = "text/plain;version=0.0.4"
)

// BenchmarkMemory measures the peak memory of the built exporter, with a state file,
// while two servers of a pair scrape it at the same time. It also reports the sizes of
// an answer.
func BenchmarkMemory(b *testing.B) {
	program := filepath.Join(b.TempDir(), "crs_exporter")
	if out, err := exec.Command("go", "build", "-o", program, "..").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	for _, instances := range []int{13, 140, 1_420, 2_840} {
		server := crsapitest.NewServer()
		server.SetTasks(guangzhou, crsapitest.Generate(10*instances, instances, 1))
		b.Run(strconv.Itoa(instances), func(b *testing.B) {
			for b.Loop() {
				measureMemory(b, program, server.URL)
			}
		})
		server.Close()
	}
}

func measureMemory(b *testing.B, program, url string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program, "--web.listen-address=127.0.0.1:0", "--crs.region="+guangzhou,
		"--crs.api=2.0", "--crs.endpoint="+url, "--crs.rate-limit=0", "--state.file="+filepath.Join(b.TempDir(), "state"))
	cmd.Env = append(os.Environ(), "TENCENTCLOUD_SECRET_ID="+crsapitest.SecretID, "TENCENTCLOUD_SECRET_KEY="+crsapitest.SecretKey)
	logs, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	var address string
	lines := bufio.NewScanner(logs)
	for address == "" && lines.Scan() {
		if strings.Contains(lines.Text(), "Listening on") {
			address = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`).FindString(lines.Text())
		}
	}
	go func() { _, _ = io.Copy(io.Discard, logs) }() // until the process ends
	for range 10 {
		var pair errgroup.Group
		for range 2 {
			pair.Go(func() error {
				_, err := scrapeProgram(address, acceptOpenMetrics)
				return err
			})
		}
		if err := pair.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	peak := peakKiB(strconv.Itoa(cmd.Process.Pid), syscall.Rusage{})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(peak)/1024, "peak-MiB")
	for name, accept := range map[string]string{"openmetrics": acceptOpenMetrics, "text": acceptText} {
		body, err := scrapeProgram(address, accept)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(body))/1e6, name+"-MB")
		b.ReportMetric(float64(len(regexp.MustCompile(`(?m)^[^#]`).FindAll(body, -1))), name+"-series")
	}
}

// scrapeProgram returns the body of a scrape. The transport compresses it, as Prometheus does.
func scrapeProgram(address, accept string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "250")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(body, []byte(`crs_up{region="ap-guangzhou"} 1`)) {
		err = errors.New("the scrape failed")
	}
	return body, err
}

// shownUp is a response of which only crs_up is read.
type shownUp struct {
	header http.Header
	up     bool
	last   []byte // of the write before: a line may be in two
}

func (d *shownUp) Header() http.Header { return d.header }
func (d *shownUp) WriteHeader(int)     {}
func (d *shownUp) Write(p []byte) (int, error) {
	const line = `crs_up{region="ap-guangzhou"} 1`
	d.last = append(d.last, p...)
	d.up = d.up || bytes.Contains(d.last, []byte(line))
	d.last = append(d.last[:0], d.last[max(0, len(d.last)-len(line)):]...)
	return len(p), nil
}

// measureDecode decodes the body of every page once with encoding/json.
func measureDecode(url string) (m measurement, err error) {
	transport := &keepBodies{RoundTripper: http.DefaultTransport}
	client, err := benchClient(url, transport, nil)
	if err != nil {
		return m, err
	}
	for q := (crsapi.Query{}); ; {
		p, err := client.Page(context.Background(), q)
		if err != nil {
			return m, err
		}
		if q.Offset += len(p.Tasks); q.Offset >= p.TotalCount {
			break
		}
	}
	return measure(func() error {
		for _, body := range transport.bodies {
			var page struct {
				Code       int    `json:"code"`
				Message    string `json:"message"`
				CodeDesc   string `json:"codeDesc"`
				TotalCount int    `json:"totalCount"`
				Data       struct {
					RedisTaskSet []struct {
						StartTime string  `json:"startTime"`
						TaskName  string  `json:"taskName"`
						RedisName string  `json:"redisName"`
						RedisID   string  `json:"redisId"`
						ProjectID int64   `json:"projectId"`
						Status    int     `json:"status"`
						Progress  float64 `json:"progress"`
					} `json:"redisTaskSet"`
				} `json:"data"`
			}
			if err := json.Unmarshal(body, &page); err != nil {
				return err
			}
		}
		return nil
	})
}

type keepBodies struct {
	http.RoundTripper
	mu     sync.Mutex
	bodies [][]byte
}

func (k *keepBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := k.RoundTripper.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	k.mu.Lock()
	k.bodies = append(k.bodies, body)
	k.mu.Unlock()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}
