package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"go.uber.org/goleak"
)

// envBenchURL is set in the child process of BenchmarkScrape.
const envBenchURL = "CRS_EXPORTER_BENCH_URL"

// envMain is set in a child process that is the program itself.
const envMain = "CRS_EXPORTER_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(envMain) != "" {
		main()
		return
	}
	if os.Getenv(envBenchURL) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// lockedBuffer is a bytes.Buffer for the log of a running exporter.
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
	log  *lockedBuffer
	stop context.CancelFunc
	done chan error
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// start runs the exporter on a free port until the test ends.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, log: &lockedBuffer{}, stop: cancel, done: make(chan error, 1)}
	logs, pipe := io.Pipe()
	go func() {
		err := run(ctx, append([]string{"--web.listen-address=127.0.0.1:0"}, args...), io.Discard, io.MultiWriter(r.log, pipe))
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
	t.Fatalf("the exporter never listened: %v\n%s", r.wait(), r.log)
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

// waitForLog waits until the log contains a text.
func (r *running) waitForLog(text string) {
	r.t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(r.log.String(), text) {
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("no %q in the log:\n%s", text, r.log)
		}
	}
}

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
	return r.scrapeWithin("3")
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
		if series, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && !strings.HasPrefix(line, "#") {
			samples[series+"}"] = value
		}
	}
	return samples
}

func want(t *testing.T, samples map[string]string, series map[string]string) {
	t.Helper()
	for name, value := range series {
		if got, ok := samples[name]; !ok || got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

const guangzhou, shanghai = "ap-guangzhou", "ap-shanghai"

// simulate serves tasks, and returns the flags of an exporter that reads them
// through API 2.0.
func simulate(t *testing.T, tasks map[string][]crsapi.Task) (*crsapitest.Server, []string) {
	t.Helper()
	return simulateAPI(t, crsapi.API20, tasks)
}

// simulateAPI is simulate through any API.
func simulateAPI(t *testing.T, api crsapi.API, tasks map[string][]crsapi.Task) (*crsapitest.Server, []string) {
	t.Helper()
	setKey(t)
	return serveTasks(t, api, tasks)
}

func setKey(t *testing.T) {
	t.Helper()
	t.Setenv(credentials.EnvSecretID, crsapitest.SecretID)
	t.Setenv(credentials.EnvSecretKey, crsapitest.SecretKey)
}

// serveTasks is simulateAPI without the key.
func serveTasks(t *testing.T, api crsapi.API, tasks map[string][]crsapi.Task) (*crsapitest.Server, []string) {
	t.Helper()
	server := crsapitest.NewServer()
	t.Cleanup(server.Close)
	args := append(readThrough(server, api), "--crs.rate-limit=0")
	for region, list := range tasks {
		server.SetTasks(region, list)
		args = append(args, "--crs.region="+region)
	}
	return server, args
}

// atOnce runs subtests in parallel, because they mostly wait. t.Parallel cannot
// be used with t.Setenv.
func atOnce(t *testing.T, tests map[string]func(*testing.T)) {
	slots := make(chan struct{}, 6) // more would starve each other of CPU time
	var running sync.WaitGroup
	for name, test := range tests {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(name, test)
		})
	}
	running.Wait()
}

// readThrough returns the flags of an exporter that reads a server through one
// API, and no other.
func readThrough(server *crsapitest.Server, api crsapi.API) []string {
	return append(endpoints(server.URL, server.URL3, api), "--crs.api="+string(api))
}

// endpoints returns the flag with the endpoint of an API.
func endpoints(url, url3 string, api crsapi.API) []string {
	if api == crsapi.API20 {
		return []string{"--crs.endpoint=" + url}
	}
	return []string{"--crs.v3-endpoint=" + url3}
}

// eachAPI runs a test through each API.
func eachAPI(t *testing.T, test func(t *testing.T, api crsapi.API)) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		t.Run("API "+string(api), func(t *testing.T) { test(t, api) })
	}
}

// through returns tasks as an API lists them: API 3.0 has no status error.
func through(api crsapi.API, tasks []crsapi.Task) []crsapi.Task {
	tasks = slices.Clone(tasks)
	for i := range tasks {
		if api == crsapi.API30 && tasks[i].Status == crsapi.StatusError {
			tasks[i].Status = crsapi.StatusFailed
		}
	}
	return tasks
}

func TestDocumentExample(t *testing.T) {
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
			_, args := simulateAPI(t, test.api, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
			samples := start(t, append(args, test.args...)...).scrape()
			series := func(metric, name, status string) string {
				return fmt.Sprintf(`%s{redisId="crs-izbob1wh",region="ap-guangzhou",status=%q,taskName=%q}`, metric, status, name)
			}
			for name, n := range map[string]string{"backupInstance": "6", "restoreBackup": "2", "cleanInstance": "1"} {
				for _, status := range []string{"pending", "executing", "failed", "error"} {
					want(t, samples, map[string]string{
						series("crs_tasks", name, status):                  "0",
						series("crs_task_transitions_total", name, status): "0",
					})
				}
				want(t, samples, map[string]string{
					series("crs_tasks", name, "succeeded"):                  n,
					series("crs_task_transitions_total", name, "succeeded"): "0",
				})
			}
			last := func(s string) string {
				at, err := time.ParseInLocation(time.DateTime, s, time.FixedZone("", 8*60*60))
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("%.9e", float64(at.Unix()))
			}
			for name, at := range map[string]string{
				"backupInstance": "2017-02-10 15:02:36", "restoreBackup": "2017-02-10 16:56:18", "cleanInstance": "2017-02-08 15:38:16",
			} {
				want(t, samples, map[string]string{series("crs_task_last_start_timestamp_seconds", name, "succeeded"): trimmed(last(at))})
			}
			want(t, samples, map[string]string{
				`crs_instance_info{projectId="0",redisId="crs-izbob1wh",redisName="for API test",region="ap-guangzhou"}`: "1",
				`crs_up{region="ap-guangzhou"}`:                                     "1",
				fmt.Sprintf(`crs_api_info{api=%q,region="ap-guangzhou"}`, test.api): "1",
			})
			for name := range samples {
				if strings.Contains(name, `status="unknown"`) || strings.HasPrefix(name, "crs_task_oldest") {
					t.Errorf("%s, but there is no such task", name)
				}
			}
		})
	}
}

// trimmed formats a float as the exposition does.
func trimmed(s string) string {
	mantissa, exponent, _ := strings.Cut(s, "e")
	return strings.TrimRight(mantissa, "0") + "e" + exponent
}

func backup(id string, at time.Time, status crsapi.Status) crsapi.Task {
	return crsapi.Task{
		RedisID: id, RedisName: "n", ProjectID: "0", TaskName: backupInstance,
		StartTime: at.UTC().Truncate(time.Second), Status: status,
	}
}

func transitions(id, status string) string {
	return fmt.Sprintf(`crs_task_transitions_total{redisId=%q,region="ap-guangzhou",status=%q,taskName="backupInstance"}`, id, status)
}

func TestTransitions(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		old, running := backup("crs-1", day.Add(-time.Hour), crsapi.StatusFailed), backup("crs-1", day, crsapi.StatusExecuting)
		server, args := simulateAPI(t, api, map[string][]crsapi.Task{guangzhou: {running, old}})
		exporter := start(t, args...)
		failed := transitions("crs-1", "failed")
		want(t, exporter.scrape(), map[string]string{failed: "0"})
		want(t, exporter.scrape(), map[string]string{failed: "0"})

		// The old failed task leaves the list in the same interval in which the other
		// one fails: one failed task is listed before and after.
		running.Status = crsapi.StatusFailed
		server.SetTasks(guangzhou, []crsapi.Task{running})
		want(t, exporter.scrape(), map[string]string{failed: "1"})

		server.SetTasks(guangzhou, nil)
		exporter.scrape()
		server.SetTasks(guangzhou, []crsapi.Task{running})
		want(t, exporter.scrape(), map[string]string{failed: "1"})

		// The first task of an instance fails. Two scrapes show the 0.
		first := transitions("crs-2", "failed")
		server.Add(guangzhou, backup("crs-2", day.Add(time.Hour), crsapi.StatusFailed))
		want(t, exporter.scrape(), map[string]string{first: "0"})
		want(t, exporter.scrape(), map[string]string{first: "0"})
		want(t, exporter.scrape(), map[string]string{first: "1"})

		restarted := start(t, args...)
		want(t, restarted.scrape(), map[string]string{failed: "0", first: "0"})
		want(t, restarted.scrape(), map[string]string{failed: "0", first: "0"})
	})
}

func TestOneRegionDown(t *testing.T) {
	setKey(t)
	tests := map[string]func(*testing.T){}
	for name, test := range map[string]struct {
		do     crsapitest.Effect
		reason string
	}{
		"failing":  {crsapitest.HTTPStatus(http.StatusBadGateway), "server"},
		"hanging":  {crsapitest.Hang, "timeout"},
		"revoked":  {crsapitest.APIError(4104), "auth"},
		"HTML":     {crsapitest.Body("<html>"), "decode"},
		"totals":   {totalPlus(7), "decode"},
		"denied":   {crsapitest.APIError(4103), "denied"},
		"quota":    {crsapitest.APIError(4400), "throttled"},
		"no route": {crsapitest.HTTPStatus(http.StatusNotFound), "api"},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			tests[fmt.Sprintf("API %s: %s", api, name)] = func(t *testing.T) {
				server, args := serveTasks(t, api, map[string][]crsapi.Task{
					guangzhou: crsapitest.Generate(250, 5, 1), shanghai: crsapitest.Generate(250, 5, 2),
				})
				exporter := start(t, append(args, "--crs.request-timeout=500ms")...)
				whole := exporter.scrape()
				server.Inject(crsapitest.Fault{Region: guangzhou, Do: test.do})
				samples := exporter.scrapeWithin("30") // also on a busy machine the poll ends
				want(t, samples, map[string]string{
					`crs_up{region="ap-guangzhou"}`: "0", `crs_up{region="ap-shanghai"}`: "1",
				})
				if reason := fmt.Sprintf(`crs_api_failures_total{reason=%q,region="ap-guangzhou"}`, test.reason); samples[reason] == "0" {
					t.Errorf("%s is 0", reason)
				}
				list := regexp.MustCompile(`^crs_(tasks|task_(last|oldest)_start_timestamp_seconds|instance_info|task_transitions_total)\{`)
				for series, value := range whole {
					switch got, ok := samples[series]; {
					case !list.MatchString(series):
					case strings.Contains(series, shanghai) && got != value:
						t.Errorf("%s is %q, want %q", series, got, value)
					case strings.Contains(series, guangzhou) && ok != strings.Contains(series, "_total{"):
						t.Errorf("%s of the region that is down: present is %v", series, ok)
					}
				}
				server.ClearFaults()
				exporter.scrape() // may join a poll that began before
				want(t, exporter.scrape(), map[string]string{`crs_up{region="ap-guangzhou"}`: "1"})
			}
		}
	}
	atOnce(t, tests)
}

func TestPaths(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	exporter := start(t, append(args, "--web.telemetry-path=/m")...)
	exporter.get("/m")
	for path, test := range map[string]struct {
		status int
		text   string
	}{
		"/":          {200, `href="./m"`},
		"/tasks":     {200, "backupInstance"},
		"/backups":   {200, "crs-izbob1wh"},
		"/m":         {200, "crs_up"},
		"/-/healthy": {200, "healthy"},
		"/-/ready":   {200, "ready"},
		"/metrics":   {404, ""},
		"/m/":        {404, ""},
	} {
		status, body := exporter.get(path)
		if status != test.status || !strings.Contains(body, test.text) {
			t.Errorf("%s: status %d, want %d with %q: %.300s", path, status, test.status, test.text, body)
		}
	}
	if err := exporter.wait(); err != nil {
		t.Errorf("an exporter that was shut down returns %v", err)
	}
}

func TestNotReadyWhileRegionsHang(t *testing.T) {
	server, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	server.Inject(crsapitest.Fault{Do: crsapitest.Hang})
	exporter := start(t, args...)
	if status, body := exporter.get("/-/ready"); status != 503 || !strings.Contains(body, guangzhou) {
		t.Errorf("status %d: %s", status, body)
	}
	if status, _ := exporter.get("/-/healthy"); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestDrain(t *testing.T) {
	server, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	exporter := start(t, args...)
	exporter.scrape()
	requested := make(chan struct{})
	var once sync.Once
	server.OnRequest(func(crsapitest.Request) { once.Do(func() { close(requested) }) })
	server.Inject(crsapitest.Fault{Do: crsapitest.Latency(300 * time.Millisecond)})
	var samples map[string]string
	var scrape sync.WaitGroup
	scrape.Go(func() { samples = exporter.scrape() })
	<-requested
	err := exporter.wait()
	scrape.Wait()
	if err != nil || samples[`crs_up{region="ap-guangzhou"}`] != "1" {
		t.Errorf("got %v, and crs_up %q in the scrape in flight", err, samples[`crs_up{region="ap-guangzhou"}`])
	}
}

func TestBadSettings(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("[default]\nsecret_id = canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	for _, name := range []string{credentials.EnvToken, envRegion, envCredentialsFile} {
		t.Setenv(name, "")
	}
	none := map[string]string{credentials.EnvSecretID: "", credentials.EnvSecretKey: ""}
	half := map[string]string{credentials.EnvSecretID: ""}
	const gz = "--crs.region=gz"
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"no region":           {nil, nil, "--crs.region or TENCENTCLOUD_REGION must name at least one region"},
		"empty region":        {[]string{"--crs.region="}, nil, "--crs.region or TENCENTCLOUD_REGION must not contain an empty name"},
		"region twice":        {[]string{gz, gz}, nil, `--crs.region or TENCENTCLOUD_REGION must not contain "gz" twice`},
		"no region named":     {nil, map[string]string{envRegion: " ,\n"}, "--crs.region or TENCENTCLOUD_REGION must name at least one region"},
		"regions in one flag": {[]string{"--crs.region=ap-guangzhou,ap-shanghai"}, nil, `--crs.region must have only letters, digits and hyphens in the name of a region, not "ap-guangzhou,ap-shanghai": repeat the flag for each region`},
		"region, blank":       {[]string{gz, "--crs.region=bj "}, map[string]string{envRegion: "sh"}, `--crs.region must have only letters, digits and hyphens in the name of a region, not "bj ": repeat`},
		"region, CR":          {[]string{"--crs.region=bj\r", "--crs.api=3.0"}, nil, `in the name of a region, not "bj\r": repeat`},
		"region in quotes":    {nil, map[string]string{envRegion: `"ap-guangzhou"`}, `TENCENTCLOUD_REGION must have only letters, digits and hyphens in the name of a region, not "\"ap-guangzhou\"": separate regions by commas or blanks, and use no quotes`},
		"region, semicolon":   {[]string{"--crs.api=tce", "--crs.v3-endpoint=https://host/"}, map[string]string{envRegion: "gz;sh"}, `TENCENTCLOUD_REGION must have only letters, digits and hyphens in the name of a region, not "gz;sh"`},
		"region, BOM":         {nil, map[string]string{envRegion: "\ufeffgz"}, `TENCENTCLOUD_REGION must have only letters, digits and hyphens in the name of a region, not "\ufeffgz"`},
		"variable twice":      {nil, map[string]string{envRegion: "gz,gz"}, `--crs.region or TENCENTCLOUD_REGION must not contain "gz" twice`},
		"key":                 {[]string{gz}, map[string]string{credentials.EnvSecretKey: "canary canary"}, "TENCENTCLOUD_SECRET_KEY contains an invalid character"},
		"redis id, list":      {[]string{gz, "--crs.redis-id=crs-a,crs-b"}, nil, `--crs.redis-id must not contain commas, blanks, quotes or control characters, as in "crs-a,crs-b"`},
		"redis id, newline":   {[]string{gz, "--crs.redis-id=crs-a\n"}, nil, `as in "crs-a\n"`},
		"no credentials":      {[]string{gz}, none, "no credentials: set TENCENTCLOUD_SECRET_ID"},
		"half a pair":         {[]string{gz}, half, "TENCENTCLOUD_SECRET_ID is not"},
		"no such file":        {[]string{gz, "--crs.credentials-file=" + dir + "/none"}, none, "there is no file"},
		"broken file":         {[]string{gz, "--crs.credentials-file=" + broken}, none, "no secret_key in section [default]"},
		"unknown flag":        {[]string{"--crs.secret-key=canary"}, nil, "unknown long flag"},
		"argument":            {[]string{gz, "canary"}, nil, "unexpected canary"},
		"endpoint":            {[]string{gz, "--crs.endpoint=https://user:canary@host/"}, nil, "--crs.endpoint must be"},
		"endpoint scheme":     {[]string{gz, "--crs.endpoint=ftp://host/"}, nil, "--crs.endpoint must be"},
		"method":              {[]string{gz, "--crs.method=PUT"}, nil, `--crs.method must be GET or POST, not "PUT"`},
		"page size":           {[]string{gz, "--crs.page-size=0"}, nil, "--crs.page-size must be from 1 to 1000, not 0"},
		"concurrency":         {[]string{gz, "--crs.concurrency=many"}, nil, `--crs.concurrency must be a whole number, not "many"`},
		"rate":                {[]string{gz, "--crs.rate-limit=NaN"}, nil, "--crs.rate-limit must be"},
		"request timeout":     {[]string{gz, "--crs.request-timeout=0s"}, nil, "--crs.request-timeout must be from 1ms to 1h, not 0s"},
		"redis id":            {[]string{gz, "--crs.redis-id="}, nil, "--crs.redis-id must not contain an empty ID"},
		"task type":           {[]string{gz, "--crs.task-type=backupInstance"}, nil, `--crs.task-type must be of ["task_importRdb"`},
		"lookback":            {[]string{gz, "--crs.lookback=-1h"}, nil, "--crs.lookback must be from 0s to 87600h0m0s, not -1h0m0s"},
		"offset out of range": {[]string{gz, "--crs.utc-offset=15h"}, nil, "--crs.utc-offset must be"},
		"offset of seconds":   {[]string{gz, "--crs.utc-offset=8h0m1s"}, nil, "--crs.utc-offset must be"},
		"telemetry path":      {[]string{gz, "--web.telemetry-path=/<b>"}, nil, "--web.telemetry-path must be like /metrics"},
		"telemetry path ..":   {[]string{gz, "--web.telemetry-path=/metrics/.."}, nil, "--web.telemetry-path must be like /metrics"},
		"telemetry path /":    {[]string{gz, "--web.telemetry-path=/"}, nil, "--web.telemetry-path must be like /metrics"},
		"telemetry = tasks":   {[]string{gz, "--web.telemetry-path=/tasks"}, nil, "--web.telemetry-path must be like /metrics"},
		"external URL":        {[]string{gz, "--web.external-url=prometheus.example.com/crs"}, nil, "--web.external-url must be like https://example.com/crs"},
		"external ftp":        {[]string{gz, "--web.external-url=ftp://example.com/"}, nil, "--web.external-url must be like https://example.com/crs"},
		"external query":      {[]string{gz, "--web.external-url=https://example.com/?a=b"}, nil, "--web.external-url must be like https://example.com/crs"},
		"external user":       {[]string{gz, "--web.external-url=https://u:sesame@example.com/"}, nil, "--web.external-url must be like https://example.com/crs, without user"},
		"external path":       {[]string{gz, "--web.external-url=https://example.com/a b"}, nil, "--web.route-prefix, by default the path of --web.external-url, must be like /crs, not \"/a b\""},
		"prefix":              {[]string{gz, "--web.route-prefix=/{x}"}, nil, "--web.route-prefix, by default the path of --web.external-url, must be like /crs, not"},
		"prefix ..":           {[]string{gz, "--web.route-prefix=/a/../b"}, nil, "--web.route-prefix"},
		"prefix of check":     {[]string{"--healthcheck", "--web.route-prefix=/a//b"}, nil, "--web.route-prefix"},
		"telemetry = ready":   {[]string{gz, "--web.telemetry-path=/-/ready"}, nil, "--web.telemetry-path must be like /metrics"},
		"listen address":      {[]string{gz, "--web.listen-address=10991"}, nil, "--web.listen-address"},
		"web config":          {[]string{gz, "--web.config.file=" + dir + "/none"}, nil, "--web.config.file"},
		"API":                 {[]string{gz, "--crs.api=4.0"}, nil, `--crs.api must be one of auto, 2.0, 3.0, tce, not "4.0"`},
		"method of 3.0":       {[]string{gz, "--crs.api=3.0", "--crs.method=GET"}, nil, "--crs.method is for API 2.0 only: remove it, or remove --crs.api=3.0"},
		"path of 3.0":         {[]string{gz, "--crs.api=3.0", "--crs.v3-endpoint=https://host/v2/index.php"}, nil, "--crs.v3-endpoint must have the path / with API 3.0"},
		"path in auto":        {[]string{gz, "--crs.v3-endpoint=https://host/v2/index.php"}, nil, "--crs.v3-endpoint must have the path / with API 3.0"},
		"placeholder":         {[]string{gz, "--crs.v3-endpoint=https://{x}.host/"}, nil, "--crs.v3-endpoint must be an http or https URL"},
		"placeholder in 2.0":  {[]string{gz, "--crs.endpoint=https://{region}.host/"}, nil, "--crs.endpoint must be"},
		"password in 3.0":     {[]string{gz, "--crs.v3-endpoint=https://user:canary@host/"}, nil, "--crs.v3-endpoint must be"},
		"endpoint of 2.0":     {[]string{gz, "--crs.api=3.0", "--crs.endpoint=https://host/v2/index.php"}, nil, "--crs.endpoint is for API 2.0 only: use --crs.v3-endpoint with --crs.api=3.0"},
		"task type of 3.0":    {[]string{gz, "--crs.api=3.0", "--crs.task-type=task_importRdb"}, nil, `--crs.task-type must be of ["task_exportBackup"`},
		"tce, no endpoint":    {[]string{gz, "--crs.api=tce"}, nil, "--crs.api=tce needs --crs.v3-endpoint"},
		"region of 3.0":       {[]string{"--crs.region=host/x", "--crs.api=3.0"}, nil, "--crs.region must have only letters, digits and hyphens"},
		"retire, no demo":     {[]string{gz, "--demo.retire-after=1m"}, nil, "--demo.retire-after needs --demo"},
		"log level":           {[]string{gz, "--log.level=loud"}, nil, "--log.level must be one of debug"},
		"log format":          {[]string{gz, "--log.format=xml"}, nil, "--log.format must be one of logfmt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(credentials.EnvSecretID, "canary")
			t.Setenv(credentials.EnvSecretKey, "canary")
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), test.args, &stdout, &stderr)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if text := err.Error(); strings.Contains(text, "\n") {
				t.Errorf("more than one line: %q", text)
			}
			if stdout.Len()+stderr.Len() > 0 {
				t.Errorf("it printed %q %q", stdout.String(), stderr.String())
			}
			if strings.Contains(err.Error(), "canary") && name != "argument" {
				t.Errorf("the error contains a secret: %v", err)
			}
		})
	}
}

func TestVariablesAreTrimmed(t *testing.T) {
	want := []string{guangzhou, shanghai}
	for _, value := range []string{
		"ap-guangzhou,ap-shanghai", "ap-guangzhou ap-shanghai", "ap-guangzhou,ap-shanghai\n", "ap-guangzhou, ap-shanghai\r\n",
		" ap-guangzhou\tap-shanghai ", ",ap-guangzhou,,ap-shanghai,", "ap-guangzhou\nap-shanghai", "ap-guangzhou\u3000ap-shanghai",
	} {
		t.Setenv(envRegion, value)
		for _, api := range apiChoices() {
			s, err := parseFlags([]string{"--crs.api=" + api, "--crs.v3-endpoint=https://host/"}, io.Discard, io.Discard)
			if err != nil || !slices.Equal(s.collector.Regions, want) {
				t.Errorf("API %s: %q gives %v, %v", api, value, s, err)
			}
		}
	}
	t.Setenv(envRegion, "ap-guangzhou")
	for value, want := range map[string]string{"/a b\r\n": "/a b", ` "/c"`: "/c", "\ufeff\n": ""} {
		t.Setenv(envCredentialsFile, value)
		if s, err := parseFlags(nil, io.Discard, io.Discard); err != nil || s.credentials.File != want {
			t.Errorf("%q gives %v, %v", value, s, err)
		}
		// The shell has taken the quotes off a flag.
		if s, err := parseFlags([]string{"--crs.credentials-file=" + value + "x "}, io.Discard, io.Discard); err != nil || s.credentials.File != value+"x " {
			t.Errorf("as a flag, %q gives %v, %v", value, s, err)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	exporter := start(t, args...)
	address := strings.TrimPrefix(exporter.url, "http://")
	err := run(t.Context(), append(args, "--web.listen-address="+address), io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for flag, text := range map[string]string{"--help": "--crs.region", "--version": "crs_exporter, version"} {
		var stdout, stderr bytes.Buffer
		if err := run(t.Context(), []string{flag}, &stdout, &stderr); err != nil || !strings.Contains(stdout.String(), text) {
			t.Errorf("%s: %v, %q %q", flag, err, stdout.String(), stderr.String())
		}
	}
}

// TestSecretsNeverShow uses a server that returns all that it receives, with all
// kinds of failures, and searches all output for the key pair.
func TestSecretsNeverShow(t *testing.T) {
	setCanary(t)
	tests := map[string]func(*testing.T){}
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
		for name, do := range map[string]crsapitest.Effect{
			"nothing":  nil,
			"refused":  crsapitest.APIError(4100),
			"throttle": crsapitest.APIError(4400),
			"HTML":     crsapitest.HTTPStatus(500),
			"redirect": crsapitest.Redirect("http://127.0.0.1:1/"),
			"hang":     crsapitest.Hang,
			"envelope": crsapitest.Envelope("InternalError", "x"),
			"totals":   totalPlus(3),
			"retired":  crsapitest.RetiredEnvelope,
		} {
			for _, format := range []string{"logfmt", "json"} {
				tests[fmt.Sprintf("API %s: %s in %s", api, name, format)] = func(t *testing.T) { testSecretsNeverShow(t, api, do, format) }
			}
		}
	}
	atOnce(t, tests)
}

func testSecretsNeverShow(t *testing.T, api crsapi.API, do crsapitest.Effect, format string) {
	server, args := serveTasks(t, api, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	echoSecrets(server)
	if do != nil {
		server.Inject(crsapitest.Fault{Do: do})
	}
	state := filepath.Join(t.TempDir(), "state")
	exporter := start(t, append(args, "--log.level=debug", "--log.format="+format, "--state.file="+state)...)
	var pages strings.Builder
	for _, path := range []string{"/metrics", "/", "/tasks", "/backups", "/-/ready", "/-/healthy", "/nowhere"} {
		_, body := exporter.get(path, "X-Prometheus-Scrape-Timeout-Seconds", "1")
		pages.WriteString(html.UnescapeString(body))
	}
	err := exporter.wait()
	kept, readErr := os.ReadFile(state)
	if do == nil && readErr != nil {
		t.Error(readErr)
	}
	var check bytes.Buffer
	checkErr := run(t.Context(), append(args, "--check", "--crs.request-timeout=200ms"), &check, exporter.log)
	text := fmt.Sprint(pages.String(), exporter.log, err, check.String(), checkErr)
	if want := map[bool]string{true: `crs_up{region="ap-guangzhou"} 1`, false: `crs_up{region="ap-guangzhou"} 0`}[do == nil]; !strings.Contains(text, want) {
		t.Errorf("no %s: %s", want, text)
	}
	wantNoSecret(t, text)
	wantNoCanary(t, string(kept))
}

const canaryID, canaryKey, canaryToken = "AKIDcanaryid", "canarykey+/=", "canarytoken+/="

// setCanary gives the exporter a key that is easy to find.
func setCanary(t *testing.T) {
	t.Helper()
	t.Setenv(credentials.EnvSecretID, canaryID)
	t.Setenv(credentials.EnvSecretKey, canaryKey)
	t.Setenv(credentials.EnvToken, canaryToken)
}

// echoSecrets makes the server accept the key of setCanary, and return all that
// it receives.
func echoSecrets(server *crsapitest.Server) {
	server.SetAccount(crsapitest.Account{SecretID: canaryID, SecretKey: canaryKey, Token: canaryToken})
	server.EchoSecrets(true)
}

// signature is one of API 3.0, in hexadecimal. What the server signs contains
// another hash of that form, which is no secret, so it counts only by its name.
var signature = regexp.MustCompile(`(?i)signature( |=|%3D)+[0-9a-f]{8}`)

// wantNoSecret searches all that a program shows for the key of setCanary, and
// for a signature made with it.
func wantNoSecret(t *testing.T, text string) {
	t.Helper()
	wantNoCanary(t, text)
	for _, secret := range append(signature.FindAllString(text, -1), "&Signature=", "Signature=%") {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%q in %q", secret, text[max(0, i-100):min(len(text), i+100)])
		}
	}
}

func wantNoCanary(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"canary", "%2B%2F%3D"} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%q in %q", secret, text[max(0, i-100):min(len(text), i+100)])
		}
	}
}

// TestSecretsNeverShowInReasons has the vendor's reason of a failure contain the
// key, and then has its request refused by a server that returns all it receives.
func TestSecretsNeverShowInReasons(t *testing.T) {
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, do := range map[string]crsapitest.Effect{
		"message": nil,
		"refused": crsapitest.APIError(4103),
		"failed":  crsapitest.APIError(4000),
		"HTML":    crsapitest.HTTPStatus(http.StatusNotFound),
	} {
		t.Run(name, func(t *testing.T) {
			task := backup("crs-1", day, crsapi.StatusExecuting)
			server, args := simulateAPI(t, crsapi.API30, map[string][]crsapi.Task{guangzhou: {task}})
			setCanary(t)
			echoSecrets(server)
			server.SetTaskMessage(guangzhou, 0, "no disk\nfor "+canaryID+" "+canaryKey+" "+url.QueryEscape(canaryToken))
			if do != nil {
				server.Inject(crsapitest.Fault{Action: crsapi.ActionTaskInfo, Do: do})
			}
			exporter := start(t, append(args, "--log.level=debug")...)
			exporter.scrape()
			task.Status = crsapi.StatusFailed
			server.SetTasks(guangzhou, []crsapi.Task{task})
			exporter.scrape()
			exporter.waitForLog("task failed")
			if text := exporter.log.String(); do == nil && !strings.Contains(text, "no disk for [redacted] [redacted] [redacted]") {
				t.Errorf("no reason in %s", text)
			}
			wantNoSecret(t, exporter.log.String())
		})
	}
}

// TestDemo expects every metric at the first scrape.
func TestDemo(t *testing.T) {
	for _, name := range []string{credentials.EnvSecretID, credentials.EnvSecretKey, envRegion} {
		t.Setenv(name, "")
	}
	for name, test := range map[string]struct {
		args []string
		api  crsapi.API
	}{
		"auto": {nil, crsapi.API20},
		"3.0":  {[]string{"--crs.api=3.0"}, crsapi.API30},
		"tce":  {[]string{"--crs.api=tce"}, crsapi.APITCE},
	} {
		t.Run(name, func(t *testing.T) {
			exporter := start(t, append(test.args, "--demo", "--web.external-url=http://localhost:10991")...)
			if !strings.Contains(exporter.log.String(), "/metrics") {
				t.Errorf("the log does not say what to open: %s", exporter.log)
			}
			_, body := exporter.get("/metrics")
			for _, metric := range collector.Metrics() {
				switch metric.Name {
				case "crs_task_oldest_start_timestamp_seconds":
					continue // no task is pending or executing yet
				case "crs_reading_pages", "crs_reading_pages_read":
					continue // the list is short
				case "crs_task_last_duration_seconds":
					if test.api != crsapi.API30 {
						continue
					}
				}
				if !strings.Contains(body, "\n"+metric.Name) {
					t.Errorf("no %s at the first scrape", metric.Name)
				}
			}
			for _, region := range demoRegions() {
				for _, series := range []string{fmt.Sprintf("crs_up{region=%q} 1", region), fmt.Sprintf("crs_api_info{api=%q,region=%q} 1", test.api, region)} {
					if !strings.Contains(body, series) {
						t.Errorf("no %s", series)
					}
				}
			}
		})
	}
}

func TestStateFileSurvivesARestart(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		server, args := simulateAPI(t, api, map[string][]crsapi.Task{guangzhou: {backup("crs-1", day, crsapi.StatusSucceeded)}})
		args = append(args, "--state.file="+filepath.Join(t.TempDir(), "state"))
		failed := transitions("crs-1", "failed")

		exporter := start(t, args...)
		want(t, exporter.scrape(), map[string]string{failed: "0"})
		want(t, exporter.scrape(), map[string]string{failed: "0"})
		server.Add(guangzhou, backup("crs-1", day.Add(time.Hour), crsapi.StatusFailed))
		want(t, exporter.scrape(), map[string]string{failed: "1"})
		if err := run(t.Context(), append(args, "--web.listen-address=127.0.0.1:0"), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("a second process on the same file: %v", err)
		}
		if err := exporter.wait(); err != nil {
			t.Fatal(err)
		}

		server.Add(guangzhou, backup("crs-1", day.Add(2*time.Hour), crsapi.StatusFailed))
		restarted := start(t, args...)
		want(t, restarted.scrape(), map[string]string{failed: "2"})
		want(t, restarted.scrape(), map[string]string{failed: "2"})
	})
}

// TestDrainOfAHungAPI shuts the exporter down while a scrape waits for an API
// that never responds: the scrape is answered without it.
func TestDrainOfAHungAPI(t *testing.T) {
	server, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	exporter := start(t, args...)
	exporter.scrape()
	requested := make(chan struct{})
	var once sync.Once
	server.OnRequest(func(crsapitest.Request) { once.Do(func() { close(requested) }) })
	server.Inject(crsapitest.Fault{Do: crsapitest.Hang})
	var body string
	var scrape sync.WaitGroup
	scrape.Go(func() { _, body = exporter.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60") })
	<-requested
	err := exporter.wait()
	scrape.Wait()
	if err != nil || !strings.Contains(body, `crs_up{region="ap-guangzhou"} 0`) {
		t.Errorf("got %v, and the scrape in flight got: %.200s", err, body)
	}
}
