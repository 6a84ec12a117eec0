package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net"
	"net/http"
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
)

const (
	// envMain is set in a child process that is the program itself.
	envMain = "CRS_EXPORTER_MAIN"

	guangzhou, shanghai = "ap-guangzhou", "ap-shanghai"
	backupInstance      = "backupInstance"
	upSeries            = `crs_up{region="ap-guangzhou"}`
)

// TestMain sets the simulator's key for all tests.
func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		main()
		return
	}
	setVersion()
	for _, name := range []string{credentials.EnvToken, envCredentialsFile, envRegion} {
		os.Unsetenv(name)
	}
	os.Setenv(credentials.EnvSecretID, crsapitest.SecretID)
	os.Setenv(credentials.EnvSecretKey, crsapitest.SecretKey)
	goleak.VerifyTestMain(m)
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
	t        *testing.T
	address  string
	out, log lockedBuffer
	stop     context.CancelFunc
	ended    chan struct{} // closed when run has returned err
	err      error
}

// start runs the exporter on a free port until the test ends.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = run(ctx, append([]string{"--web.listen-address=127.0.0.1:0"}, args...), &r.out, &r.log)
	}()
	t.Cleanup(func() { _ = r.wait() })
	r.waitForLog("Listening on")
	r.address = regexp.MustCompile(`Listening on.*?(127\.0\.0\.1:[0-9]+)`).FindStringSubmatch(r.log.String())[1]
	return r
}

// wait shuts the exporter down and returns the result of run.
func (r *running) wait() error {
	r.stop()
	<-r.ended
	return r.err
}

// waitForLog waits until the log contains a text.
func (r *running) waitForLog(text string) {
	r.t.Helper()
	for !strings.Contains(r.log.String(), text) {
		select {
		case <-time.After(time.Millisecond):
		case <-r.ended:
			r.t.Fatalf("the exporter has ended: %v\n%s", r.err, &r.log)
		}
	}
}

func (r *running) get(path string) (status int, body string) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+r.address+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Close = true // the connection
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "60")
	resp, err := http.DefaultClient.Do(req)
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

// want scrapes, and wants these lines.
func (r *running) want(lines ...string) {
	r.t.Helper()
	status, body := r.get("/metrics")
	for _, line := range lines {
		if status != http.StatusOK || !strings.Contains(body, "\n"+line+"\n") {
			r.t.Errorf("status %d, no %s in %s", status, line, body)
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
	args := []string{"--crs.api=" + string(api), "--crs.v3-endpoint=" + server.URL3, "--crs.rate-limit=0", "--crs.region=" + guangzhou}
	if api == crsapi.API20 {
		args[1] = "--crs.endpoint=" + server.URL
	}
	return server, slices.Clip(args)
}

func backup(at time.Time, status crsapi.Status) crsapi.Task {
	return crsapi.Task{
		RedisID: "crs-1", RedisName: "n", ProjectID: "0", TaskName: backupInstance,
		StartTime: at.UTC().Truncate(time.Second), Status: status,
	}
}

func TestEachAPI(t *testing.T) {
	t.Parallel()
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		t.Run(string(api), func(t *testing.T) {
			t.Parallel()
			server, args := simulate(t, api, crsapitest.DocumentExample()...)
			exporter := start(t, args...)
			exporter.waitForLog("first poll succeeded") // no scrape is necessary
			if status, body := exporter.get(collector.ReadyPath); status != http.StatusOK {
				t.Errorf("not ready after the first poll: %s", body)
			}
			exporter.want(
				upSeries+" 1", fmt.Sprintf(`crs_api_info{api=%q,region="ap-guangzhou"} 1`, api),
				`crs_tasks{redisId="crs-izbob1wh",region="ap-guangzhou",status="succeeded",taskName="backupInstance"} 6`,
				"crs_log_lines_dropped_total 0", "# TYPE crs_credentials_last_load_timestamp_seconds gauge",
			)
			server.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(http.StatusNotFound)})
			exporter.want(upSeries + " 0")
			exporter.waitForLog("poll failed")
			if err := exporter.wait(); err != nil {
				t.Errorf("an exporter that was shut down returns %v", err)
			}
		})
	}
}

// TestStateFile: a restart counts what happened meanwhile. With another UTC offset, the
// first list is a new baseline.
func TestStateFile(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	server, args := simulate(t, crsapi.API20, backup(day, crsapi.StatusSucceeded))
	args = append(args, "--state.file="+filepath.Join(t.TempDir(), "state"))
	const failed = `crs_task_transitions_total{redisId="crs-1",region="ap-guangzhou",status="failed",taskName="backupInstance"}`
	exporter := start(t, args...)
	exporter.want(failed + " 0")
	exporter.want(failed + " 0")
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), append(args, "--check", "--log.level=debug"), &stdout, &stderr)
	if err != nil || !strings.Contains(stdout.String(), "\nap-guangzhou  2.0  environment  1 ") || stderr.Len() > 0 {
		t.Errorf("a check beside it: %v:\n%s%s", err, &stdout, &stderr)
	}
	if err := exporter.wait(); err != nil {
		t.Fatal(err)
	}
	server.Add(guangzhou, backup(day.Add(time.Hour), crsapi.StatusFailed))
	restarted := start(t, args...)
	restarted.want(failed + " 1")
	_ = restarted.wait()
	server.Add(guangzhou, backup(day.Add(2*time.Hour), crsapi.StatusFailed))
	start(t, append(args, "--crs.utc-offset=7h")...).want(failed + " 1")
}

// TestDemo opens the pages that the demo prints. The last one has the metrics.
func TestDemo(t *testing.T) {
	for _, test := range []struct {
		args, base string
		api        crsapi.API
	}{
		{"--demo.retire-after=1ns", "http://127.0.0.1:0", crsapi.API30},
		{"--web.route-prefix=y --crs.api=tce", "http://127.0.0.1:0/y", crsapi.APITCE},
		{"--web.external-url=https://example.com/ops/ --web.telemetry-path=/m", "https://example.com/ops", crsapi.API20},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			exporter := start(t, append([]string{"--demo"}, strings.Fields(test.args)...)...)
			pages := regexp.MustCompile(`http\S+`).FindAllString(exporter.out.String(), -1)
			if len(pages) != 4 {
				t.Fatalf("it prints %q", &exporter.out)
			}
			text := ""
			for _, page := range append(pages, pages[3]) { // API 2.0 may be retired after the first poll
				u, err := url.Parse(page)
				if err != nil || !strings.HasPrefix(page, test.base) {
					t.Fatalf("%s is not below %s: %v", page, test.base, err)
				}
				var status int
				if status, text = exporter.get(u.Path); status != http.StatusOK {
					t.Errorf("status %d of %s", status, page)
				}
			}
			for _, region := range demo.Regions() {
				if !strings.Contains(text, fmt.Sprintf("crs_up{region=%q} 1\n", region)) || !strings.Contains(text, fmt.Sprintf("crs_api_info{api=%q,region=%q} 1\n", test.api, region)) {
					t.Errorf("%s is not up through API %s", region, test.api)
				}
			}
		})
	}
	for _, address := range []string{":10991", "[::]:10991"} { // no browser can open these
		s, err := parseFlags([]string{"--demo", "--web.listen-address=" + address}, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if pages := s.demoPages(); strings.Count(pages, " http://localhost:10991/") != 4 {
			t.Errorf("at %s: %q", address, pages)
		}
	}
}

// TestInvalidSettings: an error names the flag, and has no secret. The packages test what
// they accept themselves.
func TestInvalidSettings(t *testing.T) {
	dir := t.TempDir()
	const gz = "--crs.region=gz"
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"no region":         {nil, map[string]string{envRegion: " ,\n"}, "--crs.region or TENCENTCLOUD_REGION must name at least one region"},
		"region, two names": {nil, map[string]string{envRegion: "gz,ap-guangzhou"}, `--crs.region or TENCENTCLOUD_REGION must not contain one region by two names, "gz" and "ap-guangzhou"`},
		"half a pair":       {[]string{gz}, map[string]string{credentials.EnvSecretID: ""}, "TENCENTCLOUD_SECRET_ID is not"},
		"no credentials":    {[]string{gz}, map[string]string{credentials.EnvSecretID: "", credentials.EnvSecretKey: ""}, "set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, or use --crs.credentials-file"},
		"unknown flag":      {[]string{"--crs.secret-key=canary"}, nil, "unknown long flag"},
		"endpoint":          {[]string{gz, "--crs.endpoint=https://user:canary@host/"}, nil, "--crs.endpoint must be"},
		"v3-endpoint":       {[]string{gz, "--crs.v3-endpoint=https://host/v2/index.php"}, nil, "--crs.v3-endpoint must have the path / with API 3.0"},
		"endpoint of 2.0":   {[]string{gz, "--crs.api=3.0", "--crs.endpoint=https://host/v2/index.php"}, nil, "--crs.endpoint is for API 2.0 only: use --crs.v3-endpoint with --crs.api=3.0"},
		"inventory, no 3.0": {[]string{gz, "--crs.endpoint=https://host/", "--crs.inventory=15m"}, nil, "--crs.inventory needs API 3.0: use --crs.api=auto, and --crs.v3-endpoint if --crs.endpoint is set"},
		"inventory, days":   {[]string{gz, "--crs.inventory=24h"}, nil, "--crs.inventory must be 0s, or from 1m0s to 1h0m0s, not 24h0m0s"},
		"tce, no endpoint":  {[]string{gz, "--crs.api=tce"}, nil, "--crs.api=tce needs --crs.v3-endpoint"},
		"concurrency":       {[]string{gz, "--crs.concurrency=many"}, nil, `--crs.concurrency: `},
		"rate":              {[]string{gz, "--crs.rate-limit=NaN"}, nil, "--crs.rate-limit must be from 0"},
		"retire, no demo":   {[]string{gz, "--demo.retire-after=1m"}, nil, "--demo.retire-after needs --demo"},
		"telemetry path":    {[]string{gz, "--web.telemetry-path=/<b>"}, nil, "--web.telemetry-path must be like /metrics"},
		"telemetry = ready": {[]string{gz, "--web.telemetry-path=/-/ready"}, nil, "--web.telemetry-path must be like /metrics, and none of /-/healthy, /-/ready, /tasks, /backups"},
		"external user":     {[]string{gz, "--web.external-url=https://u:canary@example.com/"}, nil, "--web.external-url must be like https://example.com/crs, without user"},
		"external path":     {[]string{gz, "--web.external-url=https://example.com/a b"}, nil, `--web.route-prefix, by default the path of --web.external-url, must be like /crs, not "/a b"`},
		"prefix of check":   {[]string{"--healthcheck", "--web.route-prefix=/a/../b"}, nil, "--web.route-prefix"},
		"listen address":    {[]string{gz, "--web.listen-address=10991"}, nil, "serve at --web.listen-address: "},
		"web config":        {[]string{gz, "--web.config.file=" + dir + "/none"}, nil, "--web.config.file: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", dir)
			t.Setenv(credentials.EnvSecretID, "canary")
			t.Setenv(credentials.EnvSecretKey, "canary")
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), test.args, &stdout, &stderr)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if text := err.Error() + stdout.String() + stderr.String(); strings.Contains(text, "canary") || strings.Contains(text, "shutting down") {
				t.Errorf("a secret or a shutdown in %q", text)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Setenv(envRegion, " ap-guangzhou,ap-shanghai\r\n")
	t.Setenv(envCredentialsFile, ` "/a b"`+"\r\n")
	s, err := parseFlags([]string{"--crs.lookback=7d", "--scrape.min-interval=1m30s", "--crs.page-size=50", "--crs.redis-id= crs-a\n", "--crs.method=POST"}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.collector.Regions, []string{guangzhou, shanghai}) || s.credentials.File != "/a b" || s.collector.Lookback != 7*24*time.Hour ||
		s.collector.MinInterval != 90*time.Second || s.api.PageSize != 50 || s.api.Concurrency != 8 || s.api.UTCOffset != 8*time.Hour || !slices.Equal(s.collector.RedisIDs, []string{"crs-a"}) || s.api.Method != http.MethodPost {
		t.Errorf("got %+v", s)
	}
	const size, lookback, plain = "--crs.page-size is reduced to 100 with API", "a longer --crs.lookback has no effect", "the endpoint is plain http"
	for _, test := range []struct {
		args, apis string
		want       []string // warnings
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
		if s.credentials.PrivateCloud != (test.apis == "tce ") {
			t.Errorf("%q: private cloud: %t", test.args, s.credentials.PrivateCloud)
		}
		if warnings := s.warnings(configs); apis != test.apis || !slices.EqualFunc(warnings, test.want, strings.Contains) {
			t.Errorf("%q gives APIs %s and %q, want %s and %q", test.args, apis, warnings, test.apis, test.want)
		}
	}
}

// TestPrefix serves the exporter under a path, also behind a proxy. A browser may open the
// status page without the slash at the end of its URL.
func TestPrefix(t *testing.T) {
	t.Parallel()
	_, args := simulate(t, crsapi.API20, crsapitest.DocumentExample()...)
	for name, test := range map[string]struct {
		flags       []string
		prefix, url string
	}{
		"path of external URL":    {[]string{"--web.external-url=https://example.com/ops/crs/"}, "/ops/crs", "https://example.com/ops/crs"},
		"proxy that strips":       {[]string{"--web.external-url=https://example.com/crs", "--web.route-prefix=/"}, "", "https://example.com/crs"},
		"other path of the proxy": {[]string{"--web.external-url=http://example.com:8080/x", "--web.route-prefix=y/"}, "/y", "http://example.com:8080/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exporter := start(t, append(append(args, "--web.telemetry-path=/m"), test.flags...)...)
			_, metrics := exporter.get(test.prefix + "/m")
			if !strings.Contains(metrics, `crs_pages_info{region="ap-guangzhou",url="`+test.url+`"} 1`) {
				t.Errorf("no crs_pages_info of %s", test.url)
			}
			for path, text := range map[string]string{
				"/": `/m">Metrics`, "/tasks": backupInstance, "/backups": "crs-izbob1wh", collector.HealthyPath: "healthy", collector.ReadyPath: "ready",
			} {
				status, body := exporter.get(test.prefix + path)
				if status != http.StatusOK || !strings.Contains(body, text) {
					t.Errorf("%s: status %d, want 200 with %q", path, status, text)
				}
				for _, opened := range []string{test.url + path, test.url + strings.TrimSuffix(path, "/")} {
					wantLinksBelow(t, test.url+"/", opened, body)
				}
			}
			for _, path := range []string{"/metrics", "/debug/pprof/", "/-/quit"} {
				if status, _ := exporter.get(test.prefix + path); status != http.StatusNotFound {
					t.Errorf("%s: status %d", path, status)
				}
			}
			check := append(slices.Clone(test.flags), "--healthcheck", "--web.listen-address="+exporter.address)
			if err := run(t.Context(), check, io.Discard, io.Discard); err != nil {
				t.Error(err)
			}
		})
	}
}

// wantLinksBelow checks the links of a page that a browser has opened at a URL.
func wantLinksBelow(t *testing.T, base, opened, page string) {
	t.Helper()
	from, _ := url.Parse(opened)
	for _, link := range regexp.MustCompile(`(?i)(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if to, err := from.Parse(html.UnescapeString(link[1])); err != nil || !strings.HasPrefix(to.String(), base) && link[1] != "#main" {
			t.Errorf("%s: the link %q leads to %v (%v)", opened, link[1], to, err)
		}
	}
}

// TestShutdown shuts the exporter down during a scrape, which gets its answer.
func TestShutdown(t *testing.T) {
	t.Parallel()
	server, args := simulate(t, crsapi.API20)
	exporter := start(t, args...)
	exporter.waitForLog("first poll succeeded")
	server.OnRequest(func(crsapitest.Request) {
		exporter.stop()
		exporter.waitForLog("shutting down")
	})
	exporter.want(upSeries + " 1")
	if err := exporter.wait(); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(exporter.log.String()) { // of the toolkit too
		if strings.Count(line, " time=20") != 1 || strings.Contains(line, " ts=") {
			t.Errorf("no time, or two: %s", line)
		}
	}
}

// connections is a net.Listener of the connections in it.
type connections chan net.Conn

func (c connections) Accept() (net.Conn, error) {
	if conn, ok := <-c; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (c connections) Close() error   { close(c); return nil }
func (c connections) Addr() net.Addr { return &net.UnixAddr{} }

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
		client, conn := net.Pipe()
		listener := make(connections, 1)
		listener <- conn
		server := &http.Server{Handler: exporter.Handler()}
		go func() { _ = server.Serve(listener) }()
		drained := make(chan error, 1)
		time.AfterFunc(time.Second, func() { drained <- drain(server, exporter) })
		begin := time.Now().Add(time.Second)
		_, _ = io.WriteString(client, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n")
		text, _ := io.ReadAll(client)
		if took := time.Since(begin); took < drainTimeout/2 || took >= drainTimeout || !strings.Contains(string(text), upSeries+" 0\n") {
			t.Errorf("after %s: %s", took, text)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// TestPassword: the web configuration protects the exporter, and requests have a size limit.
func TestPassword(t *testing.T) {
	t.Parallel()
	const users = "basic_auth_users: {prometheus: $2a$04$KdemOwuYu.EQEKwrqjtxM.ianaoL8NFA3bBh9AUnjOwitnVHO22Ve}\n" // sesame
	path := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(path, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	_, args := simulate(t, crsapi.API20, crsapitest.DocumentExample()...)
	exporter := start(t, append(args, "--web.config.file="+path)...)
	address := exporter.address
	for password, want := range map[string]int{"sesame": 200, "wrong": 401} {
		exporter.address = "prometheus:" + password + "@" + address
		if status, _ := exporter.get("/"); status != want {
			t.Errorf("status %d with password %q, want %d", status, password, want)
		}
	}
	if status, _ := exporter.get("/" + strings.Repeat("x", 40<<10)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d of a large request", status)
	}
}

// TestSecretsNeverShow has a server that returns all that it receives, with all kinds of
// failures, and searches all output for the key.
func TestSecretsNeverShow(t *testing.T) {
	const id, key = "AKIDcanaryid", "canarykey+/="
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\nsecret_id = "+id+"\nsecret_key = "+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(credentials.EnvSecretID, "")
	t.Setenv(credentials.EnvSecretKey, "")
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
				server, args := simulate(t, api, backup(time.Now(), crsapi.StatusExecuting))
				server.SetAccount(crsapitest.Account{SecretID: id, SecretKey: key})
				server.EchoSecrets(true)
				server.SetTaskMessage(guangzhou, 0, "no disk for "+id+" "+url.QueryEscape(key))
				state := filepath.Join(t.TempDir(), "state")
				args = append(args, "--crs.credentials-file="+file, "--log.level=debug", "--state.file="+state)
				exporter := start(t, args...)
				exporter.get("/metrics")
				server.SetTasks(guangzhou, []crsapi.Task{backup(time.Now(), crsapi.StatusFailed)})
				server.Inject(crsapitest.Fault{Do: do})
				var output lockedBuffer
				for _, path := range []string{"/metrics", "/metrics", "/", "/tasks", "/backups", "/-/ready", "/nowhere"} {
					_, body := exporter.get(path)
					fmt.Fprintln(&output, html.UnescapeString(body))
				}
				fmt.Fprintln(&output, exporter.wait(), &exporter.log)
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

// program returns the program, in a process of its own, which logs to stderr.
func program(t *testing.T, stderr *os.File, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), envMain+"=1")
	cmd.Stderr = stderr
	return cmd
}

// fullPipe returns a file that blocks its writer.
func fullPipe(t *testing.T) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = r.Close() })
	_ = w.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	_, _ = w.Write(make([]byte, 1<<20)) // until it is full
	return w, nil
}

// TestSignals: a SIGHUP ends nothing, a SIGTERM ends the process, and the last lines of
// the log say so, and what is wrong with a flag. With a log that cannot be written, all is
// the same, and scrapes go on. A second SIGTERM ends the process at once.
func TestSignals(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	for name, open := range map[string]func(t *testing.T) (*os.File, error){
		"file":        func(t *testing.T) (*os.File, error) { return os.Create(filepath.Join(t.TempDir(), "log")) },
		"full pipe":   fullPipe,
		"two signals": fullPipe,
		"closed pipe": func(*testing.T) (*os.File, error) {
			r, w, err := os.Pipe()
			return w, errors.Join(err, r.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stderr, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			if err := program(t, stderr, "--log.level=loud").Run(); fmt.Sprint(err) != "exit status 1" {
				t.Errorf("with a wrong flag, it ended with %v", err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := listener.Addr().String()
			_, args := simulate(t, crsapi.API20)
			cmd := program(t, stderr, append(args, "--web.listen-address="+address)...)
			if err := errors.Join(listener.Close(), cmd.Start()); err != nil {
				t.Fatal(err)
			}
			healthy := func() bool { return collector.CheckHealth(t.Context(), []string{address}, "") == nil }
			for !healthy() {
				time.Sleep(5 * time.Millisecond)
			}
			(&running{t: t, address: address}).want(upSeries + " 1")
			_ = cmd.Process.Signal(syscall.SIGHUP)
			if !healthy() {
				t.Error("not healthy after a SIGHUP")
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			state := "exit status 0"
			if name == "two signals" {
				state = "signal: terminated"
				go func() { // it still waits for the log
					for cmd.Process.Signal(syscall.SIGTERM) == nil {
						time.Sleep(5 * time.Millisecond)
					}
				}()
			}
			_ = cmd.Wait() // see ProcessState
			if got := cmd.ProcessState.String(); got != state {
				t.Errorf("it ended with %q, want %q", got, state)
			}
			lines := regexp.MustCompile(`(?s)^crs_exporter: error: --log\.level: .*msg="shutting down[^\n]*\n$`)
			if text, err := os.ReadFile(stderr.Name()); name == "file" && !lines.Match(text) {
				t.Errorf("%v, logged %s", err, text)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	var stdout bytes.Buffer
	err := run(t.Context(), []string{"--version"}, &stdout, io.Discard)
	if err != nil || version.Version == "" || !strings.HasPrefix(stdout.String(), "crs_exporter, version "+version.Version+" ") {
		t.Errorf("%v, %q: %s", err, version.Version, &stdout)
	}
}

// documents returns the Markdown files of the repository by path.
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

// TestDocumentedNames checks that the metrics, flags, alerts and make targets in the
// documents exist, that the README names all alerts, and the defaults in its table of flags.
func TestDocumentedNames(t *testing.T) {
	all, exist := documents(t), map[string]bool{"crs_exporter": true, "crs_task_transitions_created": true}
	readme := all["README.md"]
	for _, m := range slices.Concat(collector.Metrics(), collector.OptionalMetrics(), collector.RegisteredMetrics()) {
		exist[m.Name] = true
	}
	defaults := map[string]string{}
	for _, f := range newApplication(&settings{}).Model().Flags {
		exist[f.Name] = true
		if defaults[f.Name] = strings.Join(f.Default, ""); f.Envar != "" {
			defaults[f.Name] = "$" + f.Envar
		}
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
			if strings.HasPrefix(m[1], "CRS") && !strings.Contains(readme, m[1]) {
				t.Errorf("README.md does not name the alert %s", m[1])
			}
		}
	}
	for _, names := range []string{
		`\b(crs_[a-z0-9_]+)`,
		`--(?:no-)?((?:crs|web|scrape|state|log|demo)(?:\.[a-z0-9-]+)+)`,
		`\b(CRS[A-Z][A-Za-z]+)`,
		"(?m)(?:^|`)make ([a-z0-9-]+)",
	} {
		for file, text := range all {
			for _, m := range regexp.MustCompile(names).FindAllStringSubmatch(text, -1) {
				if !exist[m[1]] && file != "CHANGELOG.md" { // which names what was removed
					t.Errorf("%s: %s does not exist", file, m[1])
				}
			}
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `--([a-z0-9.-]+)` \\| (.*?) ?\\| ").FindAllStringSubmatch(readme, -1)
	if len(rows) == 0 {
		t.Error("no table of flags")
	}
	for _, row := range rows {
		if want := defaults[row[1]]; strings.Trim(row[2], "`") != want {
			t.Errorf("--%s: default %s, want %q", row[1], row[2], want)
		}
	}
}

// TestLinks checks the relative links of the documents, with their anchors, and that the
// README is short.
func TestLinks(t *testing.T) {
	all, anchors := documents(t), map[string]bool{}
	if size := len(all["README.md"]); size > 12_000 {
		t.Errorf("README.md has %d bytes, want at most 12000: move details to deploy/README.md, collector/METRICS.md or a package's documentation", size)
	}
	for file, text := range all {
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
			anchor := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			anchors[file+"#"+strings.ReplaceAll(anchor, " ", "-")] = true
		}
	}
	for file, text := range all {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, hasAnchor := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			target = path.Join(path.Dir(file), cmp.Or(target, path.Base(file)))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if hasAnchor && !anchors[target+"#"+anchor] {
				t.Errorf("%s: %s has no heading #%s", file, target, anchor)
			}
		}
	}
}
