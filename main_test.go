package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest/demo"
	"github.com/prometheus/common/version"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
)

const (
	// envMain is set in a child process that is the program itself.
	envMain = "CRS_EXPORTER_MAIN"

	guangzhou, shanghai = "ap-guangzhou", "ap-shanghai"
	backupInstance      = "backupInstance"
)

// TestMain sets a credentials file with the simulator's key for all tests.
func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		main()
		return
	}
	for _, name := range []string{credentials.EnvSecretID, credentials.EnvSecretKey, credentials.EnvToken, envRegion} {
		os.Unsetenv(name)
	}
	dir, err := os.MkdirTemp("", "crs_exporter")
	if err != nil {
		panic(err)
	}
	path := filepath.Join(dir, "credentials")
	if err := os.WriteFile(path, credentialsFile(crsapitest.SecretID, crsapitest.SecretKey), 0o600); err != nil {
		panic(err)
	}
	os.Setenv(envCredentialsFile, path)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func credentialsFile(id, key string) []byte {
	return []byte("[default]\nsecret_id = " + id + "\nsecret_key = " + key + "\n")
}

// lockedBuffer is a bytes.Buffer for what a running exporter writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// running is an exporter under test, started as a user starts it.
type running struct {
	t    *testing.T
	url  string
	out  *lockedBuffer
	log  *lockedBuffer
	stop context.CancelFunc
	done chan error
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// start runs the exporter on a free port until the test ends.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, out: &lockedBuffer{}, log: &lockedBuffer{}, stop: cancel, done: make(chan error, 1)}
	logs, pipe := io.Pipe()
	go func() {
		err := run(ctx, append([]string{"--web.listen-address=127.0.0.1:0"}, args...), r.out, io.MultiWriter(r.log, pipe))
		_ = pipe.CloseWithError(io.EOF)
		r.done <- err
	}()
	t.Cleanup(func() { r.wait() })
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Listening on") {
			r.url = "http://" + loopback.FindString(lines.Text())
			go func() { _, _ = io.Copy(io.Discard, logs) }()
			return r
		}
	}
	t.Fatalf("the exporter does not listen: %v\n%s", r.wait(), r.log)
	return nil
}

// wait shuts the exporter down and returns the result of run.
func (r *running) wait() error {
	r.stop()
	err, ok := <-r.done
	if ok {
		close(r.done)
	}
	return err
}

func (r *running) address() string { return strings.TrimPrefix(r.url, "http://") }

func (r *running) get(path string, header ...string) (status int, body string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// scrape returns the samples of one scrape by series, as text.
func (r *running) scrape() map[string]string {
	r.t.Helper()
	return r.scrapeWithin("60")
}

// scrapeWithin scrapes with a timeout in seconds.
func (r *running) scrapeWithin(timeout string) map[string]string {
	r.t.Helper()
	status, body := r.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds", timeout)
	if status != http.StatusOK {
		r.t.Fatalf("HTTP status %d", status)
	}
	samples := map[string]string{}
	for line := range strings.Lines(body) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			samples[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return samples
}

func want(t *testing.T, samples, series map[string]string) {
	t.Helper()
	for name, value := range series {
		if got, ok := samples[name]; !ok || got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

// simulate serves tasks of Guangzhou, and returns the flags of an exporter that reads
// them through one API, and no other.
func simulate(t *testing.T, api crsapi.API, tasks ...crsapi.Task) (*crsapitest.Server, []string) {
	t.Helper()
	server := crsapitest.NewServer()
	t.Cleanup(server.Close)
	server.SetTasks(guangzhou, tasks)
	return server, slices.Clip(append(readThrough(server, api), "--crs.rate-limit=0", "--crs.region="+guangzhou))
}

// readThrough returns the flags of an exporter that reads a server through one API.
func readThrough(server *crsapitest.Server, api crsapi.API) []string {
	if api == crsapi.API20 {
		return []string{"--crs.api=2.0", "--crs.endpoint=" + server.URL}
	}
	return []string{"--crs.api=" + string(api), "--crs.v3-endpoint=" + server.URL3}
}

func backup(id string, at time.Time, status crsapi.Status) crsapi.Task {
	return crsapi.Task{
		RedisID: id, RedisName: "n", ProjectID: "0", TaskName: backupInstance,
		StartTime: at.UTC().Truncate(time.Second), Status: status,
	}
}

const upSeries = `crs_up{region="ap-guangzhou"}`

func TestEachAPI(t *testing.T) {
	for name, test := range map[string]struct {
		api  crsapi.API
		args []string
	}{
		"GET":  {crsapi.API20, []string{"--crs.method=GET"}},
		"POST": {crsapi.API20, []string{"--crs.method=POST"}},
		"3.0":  {crsapi.API30, nil},
		"tce":  {crsapi.APITCE, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, args := simulate(t, test.api, crsapitest.DocumentExample()...)
			exporter := start(t, append(args, test.args...)...)
			exporter.waitForLog("first poll succeeded") // no scrape is necessary
			if status, body := exporter.get(collector.ReadyPath); status != http.StatusOK {
				t.Errorf("not ready after the first poll: %s", body)
			}
			samples := exporter.scrape()
			want(t, samples, map[string]string{
				upSeries: "1", fmt.Sprintf(`crs_api_info{api=%q,region="ap-guangzhou"}`, test.api): "1",
				`crs_tasks{redisId="crs-izbob1wh",region="ap-guangzhou",status="succeeded",taskName="backupInstance"}`: "6",
				"crs_log_lines_dropped_total": "0", "promhttp_metric_handler_requests_in_flight": "1",
			})
			if samples["crs_credentials_last_load_timestamp_seconds"] == "" || samples["go_goroutines"] == "" {
				t.Error("a registered metric is missing")
			}
			server.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(http.StatusNotFound)})
			want(t, exporter.scrape(), map[string]string{upSeries: "0"})
			exporter.waitForLog("poll failed")
			if err := exporter.wait(); err != nil {
				t.Errorf("an exporter that was shut down returns %v", err)
			}
		})
	}
}

// requestsOf counts the requests of a server by API.
func requestsOf(server *crsapitest.Server) func(api crsapi.API) int {
	var mu sync.Mutex
	counts := map[string]int{}
	server.OnRequest(func(r crsapitest.Request) {
		mu.Lock()
		defer mu.Unlock()
		counts[r.API]++
	})
	return func(api crsapi.API) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[string(api)]
	}
}

// TestRetiredAPI retires API 2.0. Only with auto, the region switches to API 3.0. A
// restart does not forget that.
func TestRetiredAPI(t *testing.T) {
	for args, switches := range map[string]bool{
		"--crs.endpoint=URL2 --crs.v3-endpoint=URL3":               true,
		"--crs.endpoint=URL2 --crs.v3-endpoint=URL3 --crs.api=2.0": false,
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			server, _ := simulate(t, crsapi.API20, crsapitest.DocumentExample()...)
			args := strings.Fields(strings.NewReplacer("URL2", server.URL, "URL3", server.URL3).Replace(args))
			args = append(args, "--crs.rate-limit=0", "--crs.region="+guangzhou, "--state.file="+filepath.Join(t.TempDir(), "state"))
			requests := requestsOf(server)
			exporter := start(t, args...)
			want(t, exporter.scrape(), map[string]string{upSeries: "1", `crs_api_info{api="2.0",region="ap-guangzhou"}`: "1"})
			if n := requests(crsapi.API30); n != 0 {
				t.Errorf("%d requests to API 3.0 though API 2.0 works", n)
			}
			server.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
			exporter.scrape()
			samples := exporter.scrape()
			if !switches {
				want(t, samples, map[string]string{upSeries: "0", `crs_api_info{api="2.0",region="ap-guangzhou"}`: "1"})
				if n := requests(crsapi.API30); n != 0 {
					t.Errorf("%d requests to API 3.0", n)
				}
				return
			}
			want(t, samples, map[string]string{upSeries: "1", `crs_api_info{api="3.0",region="ap-guangzhou"}`: "1"})
			_ = exporter.wait()
			before := requests(crsapi.API20)
			want(t, start(t, args...).scrape(), map[string]string{`crs_api_info{api="3.0",region="ap-guangzhou"}`: "1"})
			if n := requests(crsapi.API20) - before; n != 0 {
				t.Errorf("%d requests to API 2.0 after the restart", n)
			}
		})
	}
}

// TestStateFile: a restart counts what happened meanwhile. With another UTC offset, the
// first list is a new baseline.
func TestStateFile(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	server, args := simulate(t, crsapi.API20, backup("crs-1", day, crsapi.StatusSucceeded))
	args = append(args, "--state.file="+filepath.Join(t.TempDir(), "state"))
	failed := `crs_task_transitions_total{redisId="crs-1",region="ap-guangzhou",status="failed",taskName="backupInstance"}`
	exporter := start(t, args...)
	want(t, exporter.scrape(), map[string]string{failed: "0"})
	want(t, exporter.scrape(), map[string]string{failed: "0"})
	if err := run(t.Context(), append(args, "--web.listen-address=127.0.0.1:0"), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second process with the same file: %v", err)
	}
	if err := run(t.Context(), append(args, "--check"), io.Discard, io.Discard); err != nil {
		t.Errorf("a check beside it: %v", err)
	}
	if err := exporter.wait(); err != nil {
		t.Fatal(err)
	}
	server.Add(guangzhou, backup("crs-1", day.Add(time.Hour), crsapi.StatusFailed))
	restarted := start(t, args...)
	want(t, restarted.scrape(), map[string]string{failed: "1"})
	_ = restarted.wait()
	server.Add(guangzhou, backup("crs-1", day.Add(2*time.Hour), crsapi.StatusFailed))
	want(t, start(t, append(args, "--crs.utc-offset=7h")...).scrape(), map[string]string{failed: "1"})
}

// TestPrivateCloud checks it with a key in its variables.
func TestPrivateCloud(t *testing.T) {
	_, args := simulate(t, crsapi.APITCE, crsapitest.DocumentExample()...)
	t.Setenv(envCredentialsFile, "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv(credentials.EnvPrivateSecretID, crsapitest.SecretID)
	t.Setenv(credentials.EnvPrivateSecretKey, crsapitest.SecretKey)
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), append(args, "--check", "--log.level=debug"), &stdout, &stderr)
	if err != nil || !strings.HasPrefix(stdout.String(), "REGION ") || !strings.Contains(stdout.String(), "\nap-guangzhou  tce  environment  9 ") || stderr.Len() > 0 {
		t.Errorf("%v:\n%s%s", err, &stdout, &stderr)
	}
}

func TestDemo(t *testing.T) {
	for name, test := range map[string]struct {
		arg string
		api crsapi.API
	}{
		"auto":    {"--crs.api=auto", crsapi.API20},
		"3.0":     {"--crs.api=3.0", crsapi.API30},
		"tce":     {"--crs.api=tce", crsapi.APITCE},
		"retired": {"--demo.retire-after=1ns", crsapi.API30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exporter := start(t, "--demo", test.arg)
			exporter.scrape() // may join a poll that began before API 2.0 was retired
			samples := exporter.scrape()
			for i, region := range demo.Regions() {
				want(t, samples, map[string]string{
					fmt.Sprintf("crs_up{region=%q}", region): "1", fmt.Sprintf("crs_api_info{api=%q,region=%q}", test.api, region): "1",
					fmt.Sprintf(`crs_instance_info{projectId="0",redisId="crs-%s0001",redisName="sessions",region=%q}`, []string{"zhou", "ghai"}[i], region): "1",
				})
			}
		})
	}
}

// TestDemoPrintsItsPages opens what the demo says.
func TestDemoPrintsItsPages(t *testing.T) {
	for args, base := range map[string]string{
		"":                     "http://127.0.0.1:0",
		"--web.route-prefix=y": "http://127.0.0.1:0/y",
		"--web.external-url=https://example.com/ops/ --web.telemetry-path=/m": "https://example.com/ops",
	} {
		exporter := start(t, append([]string{"--demo"}, strings.Fields(args)...)...)
		pages := regexp.MustCompile(`http\S+`).FindAllString(exporter.out.String(), -1)
		if len(pages) != 4 {
			t.Errorf("%q prints %q", args, exporter.out)
		}
		for _, page := range pages {
			u, err := url.Parse(page)
			if err != nil || !strings.HasPrefix(page, base+"/") {
				t.Errorf("%q prints %q, want pages at %s: %v", args, page, base, err)
			} else if status, _ := exporter.get(u.Path); status != http.StatusOK {
				t.Errorf("%q: status %d of %s", args, status, page)
			}
		}
	}
}

// TestDemoIsAtLocalhost listens at addresses that no browser can open.
func TestDemoIsAtLocalhost(t *testing.T) {
	for _, address := range []string{":10991", "0.0.0.0:10991", "[::]:10991"} {
		s, err := parseFlags([]string{"--demo", "--web.listen-address=" + address}, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if pages := s.demoPages(); strings.Count(pages, " http://localhost:10991/") != 4 {
			t.Errorf("at %s: %q", address, pages)
		}
	}
}

func TestInvalidSettings(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("[default]\nsecret_id = canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const gz = "--crs.region=gz"
	none := map[string]string{credentials.EnvSecretID: "", credentials.EnvSecretKey: ""}
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"no region":         {nil, map[string]string{envRegion: " ,\n"}, "--crs.region or TENCENTCLOUD_REGION must name at least one region"},
		"region twice":      {[]string{gz, gz}, nil, `--crs.region or TENCENTCLOUD_REGION must not contain "gz" twice`},
		"region, two names": {nil, map[string]string{envRegion: "gz,ap-guangzhou"}, `must not contain one region by two names, "gz" and "ap-guangzhou"`},
		"region in quotes":  {nil, map[string]string{envRegion: `"ap-guangzhou"`}, `--crs.region or TENCENTCLOUD_REGION must have only letters, digits and hyphens in each name, not "\"ap-guangzhou\""`},
		"half a pair":       {[]string{gz}, map[string]string{credentials.EnvSecretID: ""}, "TENCENTCLOUD_SECRET_ID is not"},
		"no credentials":    {[]string{gz}, none, "set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, or use --crs.credentials-file"},
		"broken file":       {[]string{gz, "--crs.credentials-file=" + broken}, none, "no secret_key"},
		"task type":         {[]string{gz, "--crs.task-type=backupInstance"}, nil, `--crs.task-type must be of ["task_importRdb"`},
		"unknown flag":      {[]string{"--crs.secret-key=canary"}, nil, "unknown long flag"},
		"endpoint":          {[]string{gz, "--crs.endpoint=https://user:canary@host/"}, nil, "--crs.endpoint must be"},
		"v3-endpoint":       {[]string{gz, "--crs.v3-endpoint=https://host/v2/index.php"}, nil, "--crs.v3-endpoint must have the path / with API 3.0"},
		"endpoint of 2.0":   {[]string{gz, "--crs.api=3.0", "--crs.endpoint=https://host/v2/index.php"}, nil, "--crs.endpoint is for API 2.0 only: use --crs.v3-endpoint with --crs.api=3.0"},
		"tce, no endpoint":  {[]string{gz, "--crs.api=tce"}, nil, "--crs.api=tce needs --crs.v3-endpoint"},
		"API":               {[]string{gz, "--crs.api=4.0"}, nil, `--crs.api: enum value must be one of auto,2.0,3.0,tce, got '4.0'`},
		"method":            {[]string{gz, "--crs.method=PUT"}, nil, `--crs.method must be GET or POST, not "PUT"`},
		"page size":         {[]string{gz, "--crs.page-size=0"}, nil, "--crs.page-size must be from 1 to 1000, not 0"},
		"concurrency":       {[]string{gz, "--crs.concurrency=many"}, nil, `--crs.concurrency: `},
		"rate":              {[]string{gz, "--crs.rate-limit=NaN"}, nil, "--crs.rate-limit must be from 0"},
		"lookback":          {[]string{gz, "--crs.lookback=-1h"}, nil, "--crs.lookback must be from 0s to 87600h0m0s, not -1h0m0s"},
		"min interval":      {[]string{gz, "--scrape.min-interval=1x"}, nil, `--scrape.min-interval: time: unknown unit "x"`},
		"retire, no demo":   {[]string{gz, "--demo.retire-after=1m"}, nil, "--demo.retire-after needs --demo"},
		"log level":         {[]string{gz, "--log.level=loud"}, nil, "--log.level: "},
		"telemetry path":    {[]string{gz, "--web.telemetry-path=/<b>"}, nil, "--web.telemetry-path must be like /metrics"},
		"telemetry = ready": {[]string{gz, "--web.telemetry-path=/-/ready"}, nil, "--web.telemetry-path must be like /metrics, and none of /-/healthy, /-/ready, /tasks, /backups"},
		"external URL":      {[]string{gz, "--web.external-url=prometheus.example.com/crs"}, nil, "--web.external-url must be like https://example.com/crs"},
		"external user":     {[]string{gz, "--web.external-url=https://u:canary@example.com/"}, nil, "--web.external-url must be like https://example.com/crs, without user"},
		"external path":     {[]string{gz, "--web.external-url=https://example.com/a b"}, nil, `--web.route-prefix, by default the path of --web.external-url, must be like /crs, not "/a b"`},
		"prefix of check":   {[]string{"--healthcheck", "--web.route-prefix=/a/../b"}, nil, "--web.route-prefix"},
		"listen address":    {[]string{gz, "--web.listen-address=10991"}, nil, "serve at --web.listen-address: "},
		"web config":        {[]string{gz, "--web.config.file=" + dir + "/none"}, nil, "--web.config.file: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", dir)
			t.Setenv(envCredentialsFile, "")
			t.Setenv(credentials.EnvSecretID, "canary")
			t.Setenv(credentials.EnvSecretKey, "canary")
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			var stdout, stderr lockedBuffer
			err := run(t.Context(), test.args, &stdout, &stderr)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if text := err.Error() + stdout.String() + stderr.String(); strings.Contains(text, "canary") {
				t.Errorf("a secret in %q", text)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Setenv(envRegion, " ap-guangzhou,ap-shanghai\r\n")
	t.Setenv(envCredentialsFile, ` "/a b"`+"\r\n")
	s, err := parseFlags([]string{"--crs.lookback=7d", "--scrape.min-interval=1m30s", "--crs.page-size=50", "--crs.redis-id= crs-a\n"}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.collector.Regions, []string{guangzhou, shanghai}) || s.credentials.File != "/a b" || s.collector.Lookback != 7*24*time.Hour ||
		s.collector.MinInterval != 90*time.Second || s.api.PageSize != 50 || s.api.Concurrency != 8 || s.api.UTCOffset != 8*time.Hour || !slices.Equal(s.collector.RedisIDs, []string{"crs-a"}) {
		t.Errorf("got %+v", s)
	}
	const size, lookback, plain = "--crs.page-size is reduced to 100 with API", "a longer --crs.lookback has no effect", "the endpoint is plain http"
	for _, test := range []struct {
		args string
		apis string
		want []string // warnings
	}{
		{"", "2.0 3.0 ", nil},
		{"--crs.page-size=500 --crs.lookback=31d", "2.0 3.0 ", []string{size, lookback}},
		{"--crs.page-size=500 --crs.lookback=31d --crs.api=2.0", "2.0 ", nil},
		{"--crs.page-size=500 --crs.api=tce --crs.v3-endpoint=https://host/", "tce ", []string{size}},
		{"--crs.page-size=100 --crs.lookback=30d --crs.v3-endpoint=http://host/", "2.0 3.0 ", []string{plain}},
		{"--crs.endpoint=https://host/", "2.0 ", nil}, // the public endpoint of API 3.0 is never used
		{"--demo --crs.endpoint=http://host/", "2.0 3.0 ", nil},
	} {
		s, err := parseFlags(strings.Fields(test.args), io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		configs, apis := s.configs(), ""
		for _, cfg := range configs {
			apis += string(cfg.API) + " "
		}
		if warnings := s.warnings(configs); apis != test.apis || !slices.EqualFunc(warnings, test.want, strings.Contains) {
			t.Errorf("%q gives APIs %s and %q, want %s and %q", test.args, apis, warnings, test.apis, test.want)
		}
	}
}

var absoluteLink = regexp.MustCompile(`(?i)(href|src|action)="?(/|https?:)[^" >]*`)

func TestPrefix(t *testing.T) {
	_, args := simulate(t, crsapi.API20, crsapitest.DocumentExample()...)
	for name, test := range map[string]struct {
		flags       []string
		prefix, url string
	}{
		"none":                    {nil, "", ""},
		"external URL":            {[]string{"--web.external-url=https://example.com/"}, "", "https://example.com"},
		"path of external URL":    {[]string{"--web.external-url=https://example.com/ops/crs/"}, "/ops/crs", "https://example.com/ops/crs"},
		"proxy that strips":       {[]string{"--web.external-url=https://example.com/crs", "--web.route-prefix=/"}, "", "https://example.com/crs"},
		"other path of the proxy": {[]string{"--web.external-url=http://example.com:8080/x", "--web.route-prefix=y/"}, "/y", "http://example.com:8080/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exporter := start(t, append(append(args, "--web.telemetry-path=/m"), test.flags...)...)
			_, metrics := exporter.get(test.prefix + "/m")
			if got := strings.Contains(metrics, `crs_pages_info{region="ap-guangzhou",url="`+test.url+`"} 1`); got != (test.url != "") {
				t.Errorf("crs_pages_info of %q: %t", test.url, got)
			}
			for path, text := range map[string]string{
				"/": `href="./m"`, "/tasks": backupInstance, "/backups": "crs-izbob1wh", collector.HealthyPath: "healthy", collector.ReadyPath: "ready",
			} {
				status, body := exporter.get(test.prefix + path)
				if status != http.StatusOK || !strings.Contains(body, text) {
					t.Errorf("%s: status %d, want 200 with %q", path, status, text)
				}
				if link := absoluteLink.FindString(body); link != "" {
					t.Errorf("%s: %s does not work behind a proxy", path, link)
				}
			}
			for _, path := range []string{"/metrics", "/debug/pprof/", "/-/quit", "//m", "/m/"} {
				if status, _ := exporter.get(test.prefix + path); status != http.StatusNotFound {
					t.Errorf("%s: status %d", path, status)
				}
			}
			for _, address := range []string{exporter.address(), strings.TrimPrefix(exporter.address(), "127.0.0.1")} {
				check := slices.Concat(test.flags, []string{"--healthcheck", "--web.listen-address=vsock://:1", "--web.listen-address=" + address})
				if err := run(t.Context(), check, io.Discard, io.Discard); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestShutdownWaitsForScrapes shuts the exporter down during a scrape.
func TestShutdownWaitsForScrapes(t *testing.T) {
	t.Parallel()
	server, args := simulate(t, crsapi.API20, crsapitest.DocumentExample()...)
	exporter := start(t, args...)
	exporter.scrape()
	requested, respond := make(chan struct{}), make(chan struct{})
	var once sync.Once
	server.OnRequest(func(crsapitest.Request) {
		once.Do(func() { close(requested) })
		<-respond
	})
	var samples map[string]string
	var scrape sync.WaitGroup
	scrape.Go(func() { samples = exporter.scrape() })
	<-requested
	exporter.stop()
	exporter.waitForLog("shutting down")
	close(respond)
	err := exporter.wait()
	scrape.Wait()
	if err != nil || samples[upSeries] != "1" {
		t.Errorf("got %v, and crs_up %q in the scrape in flight", err, samples[upSeries])
	}
}

// waitForLog waits until the log contains a text.
func (r *running) waitForLog(text string) {
	r.t.Helper()
	for !strings.Contains(r.log.String(), text) {
		select {
		case <-r.t.Context().Done():
			r.t.Fatal(r.t.Context().Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// pipeListener accepts one connection.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (l pipeListener) Close() error   { close(l.conns); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// TestDrain ends a scrape that waits for an API without a response.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := crsapitest.NewMemoryServer()
		defer api.Close()
		api.SetTasks(guangzhou, nil)
		api.Inject(crsapitest.Fault{Do: crsapitest.Hang})
		cfg := crsapi.DefaultConfig(crsapi.API20)
		cfg.Endpoint, cfg.Transport, cfg.RequestTimeout = api.URL, api.Client().Transport, time.Minute
		cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
		exporter, err := collector.New(collector.Config{Regions: []string{guangzhou}, Dial: collector.DialAPIs(cfg)})
		if err != nil {
			t.Fatal(err)
		}
		listener := pipeListener{make(chan net.Conn, 1)}
		client, conn := net.Pipe()
		listener.conns <- conn
		server := &http.Server{Handler: exporter.Handler()}
		go func() { _ = server.Serve(listener) }()
		go func() {
			_, _ = io.WriteString(client, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n")
		}()
		response := make(chan string)
		go func() {
			text, _ := io.ReadAll(client)
			response <- string(text)
		}()
		synctest.Wait()
		begin := time.Now()
		drained := make(chan error)
		go func() { drained <- drain(server, exporter) }()
		text := <-response
		if took := time.Since(begin); took < drainTimeout/2 || took >= drainTimeout || !strings.Contains(text, upSeries+" 0\n") {
			t.Errorf("after %s: %s", took, text)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// TestWebConfig serves with TLS and a password.
func TestWebConfig(t *testing.T) {
	t.Parallel()
	issuer := httptest.NewTLSServer(nil)
	cert := issuer.TLS.Certificates[0]
	issuer.Close()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		"yml": []byte("tls_server_config: {cert_file: crt, key_file: key}\nbasic_auth_users: {prometheus: " + string(hash) + "}\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, args := simulate(t, crsapi.API20, crsapitest.DocumentExample()...)
	exporter := start(t, append(args, "--web.config.file="+filepath.Join(dir, "yml"))...)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for _, path := range []string{"/metrics", "/", "/tasks", "/backups", collector.ReadyPath} {
		for password, want := range map[string]int{"sesame": 200, "wrong": 401} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+exporter.address()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("prometheus", password)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s with password %q: %d, want %d", path, password, resp.StatusCode, want)
			}
		}
	}
	if err := run(t.Context(), []string{"--healthcheck", "--web.listen-address=" + exporter.address()}, io.Discard, io.Discard); err != nil {
		t.Error(err)
	}
	if strings.Contains(exporter.log.String(), "sesame") {
		t.Errorf("the log contains the password: %s", exporter.log)
	}
}

// TestHostileScrapers keeps connections open that send half a request or read nothing,
// while another client scrapes.
func TestHostileScrapers(t *testing.T) {
	t.Parallel()
	_, args := simulate(t, crsapi.API20, crsapitest.Generate(1000, 100, 1)...)
	exporter := start(t, args...)
	dial := func(text string) net.Conn {
		conn, err := net.Dial("tcp", exporter.address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, text)
		return conn
	}
	for range 30 {
		dial("GET /metrics HTT")
		dial("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 1e9\r\n\r\n")
	}
	want(t, exporter.scrape(), map[string]string{upSeries: "1"})
	line, err := bufio.NewReader(dial("GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")).ReadString('\n')
	if !strings.Contains(line, "431") && err == nil {
		t.Errorf("a header that is too large returns %q", line)
	}
}

// TestSecretsNeverShow has a server that returns all that it receives, with all kinds of
// failures, and searches all output for the key.
func TestSecretsNeverShow(t *testing.T) {
	const id, key = "AKIDcanaryid", "canarykey+/="
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, credentialsFile(id, key), 0o600); err != nil {
		t.Fatal(err)
	}
	// signature is one of API 3.0. What the server signs has another hash of that form,
	// which is no secret.
	signature := regexp.MustCompile(`(?i)signature( |=|%3D)+[0-9a-f]{8}`)
	for name, do := range map[string]crsapitest.Effect{
		"nothing":  crsapitest.All(),
		"refused":  crsapitest.APIError(4100),
		"HTML":     crsapitest.HTTPStatus(http.StatusNotFound),
		"redirect": crsapitest.Redirect("http://127.0.0.1:1/"),
		"envelope": crsapitest.Envelope("InvalidParameter", "x"),
		"retired":  crsapitest.RetiredEnvelope,
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			t.Run(fmt.Sprintf("API %s: %s", api, name), func(t *testing.T) {
				t.Parallel()
				server, args := simulate(t, api, backup("crs-1", time.Now(), crsapi.StatusExecuting))
				server.SetAccount(crsapitest.Account{SecretID: id, SecretKey: key})
				server.EchoSecrets(true)
				server.SetTaskMessage(guangzhou, 0, "no disk for "+id+" "+url.QueryEscape(key))
				state := filepath.Join(t.TempDir(), "state")
				args = append(args, "--crs.credentials-file="+file, "--log.level=debug", "--state.file="+state)
				exporter := start(t, args...)
				exporter.scrape()
				server.SetTasks(guangzhou, []crsapi.Task{backup("crs-1", time.Now(), crsapi.StatusFailed)})
				server.Inject(crsapitest.Fault{Do: do})
				var output lockedBuffer
				for _, path := range []string{"/metrics", "/metrics", "/", "/tasks", "/backups", "/-/ready", "/nowhere"} {
					_, body := exporter.get(path)
					fmt.Fprintln(&output, html.UnescapeString(body))
				}
				fmt.Fprintln(&output, exporter.wait(), exporter.log)
				fmt.Fprintln(&output, run(t.Context(), append(args, "--check"), &output, &output))
				kept, err := os.ReadFile(state)
				fmt.Fprintln(&output, string(kept), err)
				text := output.String()
				if up := strings.Contains(text, upSeries+" 1\n"); up != (name == "nothing") || !strings.Contains(text, "RESULT") {
					t.Errorf("up is %t, or no check", up)
				}
				for _, secret := range append(signature.FindAllString(text, -1), "canary", "%2B%2F%3D", "&Signature=", "Signature=%") {
					if i := strings.Index(text, secret); i >= 0 {
						t.Errorf("%q in %q", secret, text[max(0, i-100):min(len(text), i+100)])
					}
				}
			})
		}
	}
}

// process is the program in its own process.
type process struct {
	running
	cmd   *exec.Cmd
	ended chan struct{}
}

// startProcess starts the program, which logs to stderr.
func startProcess(t *testing.T, stderr *os.File, args ...string) *process {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := &process{running: running{t: t, url: "http://" + address}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0], append([]string{"--web.listen-address=" + address}, args...)...)
	p.cmd.Env = append(os.Environ(), envMain+"=1")
	p.cmd.Stderr = stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // see ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// repeat calls done until it returns true or the process has ended.
func (p *process) repeat(done func() bool) {
	p.t.Helper()
	for !done() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.ended:
			p.t.Fatalf("the process has ended: %s", p.cmd.ProcessState)
		}
	}
}

func (p *process) healthy() bool {
	return collector.CheckHealth(p.t.Context(), []string{p.address()}, "") == nil
}

func (p *process) wantEnd(state string) {
	p.t.Helper()
	<-p.ended
	if got := p.cmd.ProcessState.String(); got != state {
		p.t.Errorf("it ended with %q, want %q", got, state)
	}
}

// unwritable are files that block or refuse writes.
var unwritable = map[string]func(t *testing.T) (*os.File, error){
	"full pipe": func(t *testing.T) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
		for err == nil {
			if err = w.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				return nil, err
			}
			_, err = w.Write(make([]byte, 512))
		}
		return w, nil
	},
	"closed pipe": func(*testing.T) (*os.File, error) {
		r, w, err := os.Pipe()
		return w, errors.Join(err, r.Close())
	},
	"full disk": func(*testing.T) (*os.File, error) { return os.OpenFile("/dev/full", os.O_WRONLY, 0) },
}

// TestUnwritableStderr: with a log that cannot be written, scrapes go on, a SIGHUP ends
// nothing, a SIGTERM ends the process, and so does an invalid flag.
func TestUnwritableStderr(t *testing.T) {
	for name, open := range unwritable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stderr, err := open(t)
			if err != nil {
				t.Skip(err)
			}
			defer stderr.Close()
			invalid := startProcess(t, stderr, "--log.level=loud")
			server, args := simulate(t, crsapi.API20)
			for i := range 300 { // one line of each region fills the queue within a few scrapes
				args = append(args, fmt.Sprintf("--crs.region=ap-%d", i))
				server.SetTasks(fmt.Sprintf("ap-%d", i), nil)
			}
			p := startProcess(t, stderr, args...)
			p.repeat(p.healthy)
			for scrape := 0; p.scrape()["crs_log_lines_dropped_total"] == "0"; scrape++ {
				if server.ClearFaults(); scrape%2 == 0 {
					server.Inject(crsapitest.Fault{Do: crsapitest.APIError(4103)})
				}
			}
			_ = p.cmd.Process.Signal(syscall.SIGHUP)
			if !p.healthy() {
				t.Error("not healthy after a SIGHUP")
			}
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			p.wantEnd("exit status 0")
			invalid.wantEnd("exit status 1")
		})
	}
}

// TestSignals: the last lines of a shutdown and of an error are in the log; a second
// signal ends a shutdown that waits; a closed stdout ends --help.
func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	t.Parallel()
	server, args := simulate(t, crsapi.API20)
	open := func() *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	wantLast := func(f *os.File, text string) {
		t.Helper()
		data, err := os.ReadFile(f.Name())
		if lines := strings.Split(strings.TrimSpace(string(data)), "\n"); err != nil || !strings.Contains(lines[len(lines)-1], text) {
			t.Errorf("%v, the last of %q has no %q", err, lines, text)
		}
	}
	log := open()
	p := startProcess(t, log, args...)
	p.repeat(p.healthy)
	p.scrape() // the first poll has ended
	inUse := open()
	startProcess(t, inUse, append(args, "--web.listen-address="+p.address())...).wantEnd("exit status 1")
	wantLast(inUse, "crs_exporter: error: serve at --web.listen-address: ")
	_ = p.cmd.Process.Signal(os.Interrupt)
	p.wantEnd("exit status 0")
	wantLast(log, "shutting down")

	server.Inject(crsapitest.Fault{Do: crsapitest.Hang})
	p = startProcess(t, nil, append(args, "--crs.request-timeout=1m")...)
	p.repeat(p.healthy)
	go func() {
		conn, err := net.Dial("tcp", p.address())
		if err == nil {
			_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n")
			<-p.ended
			_ = conn.Close()
		}
	}()
	p.repeat(func() bool {
		return p.scrapeWithin("0.6")["promhttp_metric_handler_requests_in_flight"] == "2"
	})
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.repeat(func() bool { return !p.healthy() })
	for ended := false; !ended; {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // again: the first one may still be at work
		select {
		case <-p.ended:
			ended = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	p.wantEnd("signal: terminated")

	closed, err := unwritable["closed pipe"](t)
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	log = open()
	help := exec.CommandContext(t.Context(), os.Args[0], "--help")
	help.Env = append(os.Environ(), envMain+"=1")
	help.Stdout, help.Stderr = closed, log
	_ = help.Run()
	if got := help.ProcessState.String(); got != "signal: broken pipe" {
		t.Errorf("--help with a closed stdout ended with %q", got)
	}
	wantLast(log, "")
}

func TestHelpAndVersion(t *testing.T) {
	if version.Version == "" {
		t.Error("no version though the build information has one")
	}
	for flag, want := range map[string]string{
		"--version": "crs_exporter, version " + version.Version + " ",
		"--help":    "--crs.region=REGION ...",
	} {
		var stdout, stderr bytes.Buffer
		if err := run(t.Context(), []string{flag}, &stdout, &stderr); err != nil || !strings.Contains(stdout.String(), want) || stderr.Len() > 0 {
			t.Errorf("%s: %v, %s %s", flag, err, &stdout, &stderr)
		}
	}
}

// documents returns the Markdown files of the repository by path. A test that checks names
// leaves out CHANGELOG.md, which names what was removed.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		all[filepath.ToSlash(path)] = string(text)
		return err
	})
	if err != nil || all["README.md"] == "" {
		t.Fatalf("no README.md: %v", err)
	}
	return all
}

func TestREADMEIsShort(t *testing.T) {
	if size := len(documents(t)["README.md"]); size > 12_000 {
		t.Errorf("README.md has %d bytes, want at most 12000: move details to deploy/README.md, collector/METRICS.md or a package's documentation", size)
	}
}

var (
	metricName = regexp.MustCompile(`\bcrs_[a-z0-9_]+`)
	flagName   = regexp.MustCompile(`--(?:no-)?((?:crs|web|scrape|state|log|demo)(?:\.[a-z0-9-]+)+)`)
	alertName  = regexp.MustCompile(`\bCRS[A-Z][A-Za-z]+`)
	makeTarget = regexp.MustCompile("(?m)(?:^|`)make ([a-z0-9-]+)")
)

// TestDocumentedNames checks that the metrics, flags, alerts and make targets in the
// documents exist, and that the README names all alerts.
func TestDocumentedNames(t *testing.T) {
	all, exist := documents(t), map[string]bool{"crs_exporter": true, "crs_task_transitions_created": true}
	for _, m := range slices.Concat(collector.Metrics(), collector.StateMetrics(), collector.RegisteredMetrics()) {
		exist[m.Name] = true
	}
	for _, f := range newApplication(&settings{}).Model().Flags {
		exist[f.Name] = true
	}
	for file, definition := range map[string]string{
		"deploy/prometheus/rules/crs.yml": `- alert: (\w+)`,
		"Makefile":                        `(?m)^([a-z0-9-]+):`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(definition).FindAllStringSubmatch(string(text), -1) {
			exist[m[1]] = true
			if alertName.MatchString(m[1]) && !strings.Contains(all["README.md"], m[1]) {
				t.Errorf("README.md does not name the alert %s", m[1])
			}
		}
	}
	for file, text := range all {
		if file == "CHANGELOG.md" {
			continue
		}
		for _, names := range []*regexp.Regexp{metricName, flagName, alertName, makeTarget} {
			for _, m := range names.FindAllStringSubmatch(text, -1) {
				if name := m[len(m)-1]; !exist[name] {
					t.Errorf("%s: %s does not exist", file, name)
				}
			}
		}
	}
}

// TestREADMEFlags compares the defaults in the README's table of flags with the program.
func TestREADMEFlags(t *testing.T) {
	_, rest, found := strings.Cut(documents(t)["README.md"], "<!-- flags: checked by a test -->\n")
	table, _, ended := strings.Cut(rest, "<!-- end of flags -->")
	rows := regexp.MustCompile("(?m)^\\| `--([a-z0-9.-]+)` \\| (.*?) ?\\| ").FindAllStringSubmatch(table, -1)
	if !found || !ended || len(rows) == 0 {
		t.Fatal("no table of flags")
	}
	defaults := map[string]string{}
	for _, f := range newApplication(&settings{}).Model().Flags {
		preset := strings.Join(f.Default, "")
		if f.Envar != "" {
			preset = "$" + f.Envar
		}
		defaults[f.Name] = preset
	}
	for _, row := range rows {
		if want, exists := defaults[row[1]]; !exists || strings.Trim(row[2], "`") != want {
			t.Errorf("--%s: default %s, want %q", row[1], row[2], want)
		}
	}
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeBlock    = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	heading      = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor  = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// TestLinks checks the relative links of the documents, with their anchors.
func TestLinks(t *testing.T) {
	all, anchors := documents(t), map[string]bool{}
	for file, text := range all {
		for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
			anchor := notInAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
			anchors[file+"#"+strings.ReplaceAll(anchor, " ", "-")] = true
		}
	}
	for file, text := range all {
		for _, m := range markdownLink.FindAllStringSubmatch(text, -1) {
			target, anchor, hasAnchor := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			target = cmp.Or(target, path.Base(file))
			target = path.Join(path.Dir(file), target)
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if hasAnchor && !anchors[target+"#"+anchor] {
				t.Errorf("%s: %s has no heading #%s", file, target, anchor)
			}
		}
	}
}
