package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// simulateBoth is simulate with the flags of both APIs.
func simulateBoth(t *testing.T, tasks map[string][]crsapi.Task) (*crsapitest.Server, []string) {
	t.Helper()
	server, args := simulateAPI(t, crsapi.API20, tasks)
	return server, append(args[2:], "--crs.endpoint="+server.URL, "--crs.v3-endpoint="+server.URL3)
}

// retire retires API 2.0.
func retire(server *crsapitest.Server, how crsapitest.RetiredEffect) {
	server.Inject(crsapitest.Fault{API: string(crsapi.API20), Do: how})
}

// asked counts the requests of a server by API and action.
type asked struct {
	mu sync.Mutex
	n  map[string]int
}

func countRequests(server *crsapitest.Server) *asked {
	a := &asked{n: map[string]int{}}
	server.OnRequest(func(r crsapitest.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.n[r.API]++
		a.n[r.Action]++
	})
	return a
}

func (a *asked) of(api string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n[api]
}

// wantAPI checks through which API a scrape says that Guangzhou is read.
func wantAPI(t *testing.T, samples map[string]string, api crsapi.API) {
	t.Helper()
	for _, other := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		series := fmt.Sprintf(`crs_api_info{api=%q,region="ap-guangzhou"}`, other)
		if got, want := samples[series], map[bool]string{true: "1"}[other == api]; got != want {
			t.Errorf("%s is %q, want %q", series, got, want)
		}
	}
}

const wentOver = "API 2.0 is retired: the list is read through API 3.0 from now on"

func TestAutoOutlivesAPI20(t *testing.T) {
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	failed := transitions("crs-1", "failed")
	for name, how := range map[string]crsapitest.RetiredEffect{
		"forbidden": crsapitest.RetiredForbidden, "version": crsapitest.RetiredVersion, "envelope": crsapitest.RetiredEnvelope,
	} {
		t.Run(name, func(t *testing.T) {
			server, args := simulateBoth(t, map[string][]crsapi.Task{guangzhou: {backup("crs-1", day, crsapi.StatusFailed)}})
			args = append(args, "--state.file="+filepath.Join(t.TempDir(), "state"))
			requests := countRequests(server)
			exporter := start(t, args...)
			for range 2 {
				samples := exporter.scrape()
				wantAPI(t, samples, crsapi.API20)
				want(t, samples, map[string]string{failed: "0"})
			}
			if n := requests.of("3.0"); n != 0 {
				t.Errorf("%d requests to API 3.0 though API 2.0 works", n)
			}

			retire(server, how)
			for range 2 {
				samples := exporter.scrape()
				wantAPI(t, samples, crsapi.API30)
				want(t, samples, map[string]string{
					`crs_up{region="ap-guangzhou"}`: "1", failed: "0",
					`crs_api_failures_total{reason="retired",region="ap-guangzhou"}`: "1",
				})
			}
			if n := strings.Count(exporter.log.String(), wentOver); n != 1 {
				t.Errorf("the log says %d times that API 2.0 is retired: %s", n, exporter.log)
			}
			if err := exporter.wait(); err != nil {
				t.Fatal(err)
			}

			// A restart neither forgets the change-over nor repeats it.
			before := requests.of("2.0")
			server.Add(guangzhou, backup("crs-1", day.Add(time.Hour), crsapi.StatusFailed))
			restarted := start(t, args...)
			samples := restarted.scrape()
			wantAPI(t, samples, crsapi.API30)
			want(t, samples, map[string]string{failed: "1"})
			if n := requests.of("2.0") - before; n != 0 || strings.Contains(restarted.log.String(), wentOver) {
				t.Errorf("%d requests to API 2.0 after the restart: %s", n, restarted.log)
			}
		})
	}
}

// TestRetiredStaysRetired is about settings that never go over to API 3.0.
func TestRetiredStaysRetired(t *testing.T) {
	tasks := map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()}
	for name, flags := range map[string]func(*crsapitest.Server) []string{
		"chosen": func(s *crsapitest.Server) []string {
			return []string{"--crs.api=2.0", "--crs.endpoint=" + s.URL, "--crs.v3-endpoint=" + s.URL3}
		},
		"own endpoint": func(s *crsapitest.Server) []string { return []string{"--crs.endpoint=" + s.URL} },
		"own, auto":    func(s *crsapitest.Server) []string { return []string{"--crs.api=auto", "--crs.endpoint=" + s.URL} },
		"only other types": func(s *crsapitest.Server) []string {
			return []string{"--crs.endpoint=" + s.URL, "--crs.v3-endpoint=" + s.URL3, "--crs.task-type=task_importRdb"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, args := simulate(t, tasks)
			retire(server, crsapitest.RetiredForbidden)
			requests := countRequests(server)
			exporter := start(t, append(args[2:], flags(server)...)...)
			samples := exporter.scrape()
			wantDown(t, samples, nil, guangzhou, crsapi.ReasonRetired)
			wantAPI(t, samples, crsapi.API20)
			if log := exporter.log.String(); requests.of("3.0") != 0 || strings.Count(log, `msg="poll failed" reason=retired`) != 1 {
				t.Errorf("%d requests to API 3.0, log: %s", requests.of("3.0"), log)
			}
		})
	}
}

func TestNoOtherFaultLeadsToAPI30(t *testing.T) {
	for name, do := range map[string]crsapitest.Effect{
		"key": crsapitest.APIError(4104), "denied": crsapitest.APIError(4300), "version": crsapitest.APIError(6100), "quota": crsapitest.APIError(4400),
		"server": crsapitest.HTTPStatus(503), "not found": crsapitest.HTTPStatus(404), "network": crsapitest.ResetBeforeHeaders,
	} {
		t.Run(name, func(t *testing.T) {
			server, args := simulateBoth(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
			server.Inject(crsapitest.Fault{API: "2.0", Do: do})
			requests := countRequests(server)
			samples := start(t, args...).scrape()
			wantAPI(t, samples, crsapi.API20)
			if up(samples, guangzhou) || requests.of("3.0") != 0 {
				t.Errorf("up, or %d requests to API 3.0", requests.of("3.0"))
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	const (
		size     = "--crs.page-size is cut to 100 with API"
		lookback = "a longer --crs.lookback has no effect there"
		plain    = "the endpoint is plain http"
	)
	none := func(*crsapitest.Server) []string { return nil }
	both := func(s *crsapitest.Server) []string {
		return []string{"--crs.endpoint=" + s.URL, "--crs.v3-endpoint=" + s.URL3}
	}
	only := func(api crsapi.API) func(s *crsapitest.Server) []string {
		return func(s *crsapitest.Server) []string { return readThrough(s, api) }
	}
	for name, test := range map[string]struct {
		endpoints func(*crsapitest.Server) []string
		args      []string
		want      []string
	}{
		"page size, 2.0": {only(crsapi.API20), []string{"--crs.page-size=500"}, []string{plain}},
		"page size":      {both, []string{"--crs.page-size=500"}, []string{size, plain}},
		"page size, 3.0": {only(crsapi.API30), []string{"--crs.page-size=500"}, []string{size, plain}},
		"page size, tce": {only(crsapi.APITCE), []string{"--crs.page-size=500"}, []string{size, plain}},
		"lookback, 2.0":  {only(crsapi.API20), []string{"--crs.lookback=90d"}, []string{plain}},
		"lookback":       {both, []string{"--crs.lookback=90d"}, []string{lookback, plain}},
		"lookback, 3.0":  {only(crsapi.API30), []string{"--crs.lookback=90d"}, []string{lookback, plain}},
		"no longer":      {both, []string{"--crs.page-size=100", "--crs.lookback=30d"}, []string{plain}},
		"demo":           {none, []string{"--demo", "--crs.page-size=500"}, []string{size}},
	} {
		t.Run(name, func(t *testing.T) {
			server, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.Generate(250, 5, 1)})
			exporter := start(t, append(append(args[2:], test.endpoints(server)...), test.args...)...)
			samples := exporter.scrape()
			if !up(samples, guangzhou) {
				t.Errorf("%s is not up", guangzhou)
			}
			log := exporter.log.String()
			for _, text := range []string{size, lookback, plain} {
				n := 0
				for _, wanted := range test.want {
					if wanted == text {
						n = 1
					}
				}
				if strings.Count(log, text) != n {
					t.Errorf("the log does not say %d times %q: %s", n, text, log)
				}
			}
		})
	}
}

// TestPrivateCloud uses a key in the variables of the private cloud.
func TestPrivateCloud(t *testing.T) {
	server, args := simulateAPI(t, crsapi.APITCE, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{credentials.EnvSecretID, credentials.EnvSecretKey, credentials.EnvToken, envCredentialsFile} {
		t.Setenv(name, "")
	}
	t.Setenv("TCECLOUD_SECRET_ID", crsapitest.SecretID)
	t.Setenv("TCECLOUD_SECRET_KEY", crsapitest.SecretKey)
	requests := countRequests(server)
	samples := start(t, args...).scrape()
	want(t, samples, map[string]string{`crs_up{region="ap-guangzhou"}`: "1"})
	wantAPI(t, samples, crsapi.APITCE)
	if requests.of("tce") == 0 || requests.of("2.0")+requests.of("3.0") != 0 {
		t.Errorf("requests: %v", requests.n)
	}
	var stdout bytes.Buffer
	if err := run(t.Context(), append(args, "--check"), &stdout, io.Discard); err != nil || columnsOf(t, stdout.String(), guangzhou, crsapi.APITCE)[6] != "ok" {
		t.Errorf("got %v: %s", err, &stdout)
	}
	if requests.of("2.0")+requests.of("3.0") != 0 {
		t.Errorf("the check asked another API: %v", requests.n)
	}
}

// inMemory returns the settings of an exporter whose requests go to a server in
// memory, and what it logs. It is for a bubble.
func inMemory(t *testing.T, args ...string) (*crsapitest.Server, *settings, *lockedBuffer) {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	s, err := parseFlags(append(args, "--crs.region="+guangzhou, "--crs.region="+shanghai), io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s.api.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	s.api.Transport = server.Client().Transport
	log := &lockedBuffer{}
	s.collector.Logger = s.newLogger(log)
	for _, region := range []string{guangzhou, shanghai} {
		server.SetTasks(region, crsapitest.DocumentExample())
	}
	return server, s, log
}

// TestLimiterPerHost has a rate limit of one request per second. The regions of
// one host share it.
func TestLimiterPerHost(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		took time.Duration
	}{
		"2.0":             {[]string{"--crs.api=2.0", "--crs.endpoint=http://host/v2/index.php"}, time.Second},
		"one host":        {[]string{"--crs.api=3.0", "--crs.v3-endpoint=http://host/"}, time.Second},
		"host per region": {[]string{"--crs.api=3.0", "--crs.v3-endpoint=http://{region}.host/"}, 0},
		"tce per region":  {[]string{"--crs.api=tce", "--crs.v3-endpoint=http://redis.{region}.host/"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, s, _ := inMemory(t, append(test.args, "--crs.rate-limit=1")...)
				exporter, err := s.newExporter(s.dialer())
				if err != nil {
					t.Fatal(err)
				}
				defer exporter.Close()
				begin := time.Now()
				exporter.Poll(t.Context())
				took := time.Since(begin)
				if took != test.took || server.Requests("") != 2 {
					t.Errorf("%d requests took %v, want 2 in %v", server.Requests(""), took, test.took)
				}
				for _, status := range exporter.Status() {
					if status.Err != nil {
						t.Error(status.Err)
					}
				}
			})
		})
	}
}

func TestFailureReasons(t *testing.T) {
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		args []string
		n    int
	}{
		"3.0": {[]string{"--crs.api=3.0", "--crs.v3-endpoint=http://host/"}, 1},
		"off": {[]string{"--crs.api=3.0", "--crs.v3-endpoint=http://host/", "--no-crs.failure-reasons"}, 0},
		"2.0": {[]string{"--crs.api=2.0", "--crs.endpoint=http://host/v2/index.php"}, 0},
		"tce": {[]string{"--crs.api=tce", "--crs.v3-endpoint=http://host/"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, s, log := inMemory(t, test.args...)
				requests := countRequests(server)
				exporter, err := s.newExporter(s.dialer())
				if err != nil {
					t.Fatal(err)
				}
				defer exporter.Close()
				poll := func(tasks ...crsapi.Task) {
					server.SetTasks(guangzhou, tasks)
					exporter.Poll(t.Context())
					synctest.Wait() // until the reasons have been logged
				}
				old, task := backup("crs-1", day, crsapi.StatusFailed), backup("crs-1", day.Add(time.Hour), crsapi.StatusExecuting)
				server.SetTaskMessage(guangzhou, 0, "no space left")
				poll(task, old)
				task.Status = crsapi.StatusFailed
				poll(task, old)
				poll(task, old)

				reason := regexp.MustCompile(`level=warn .*redis_id=crs-1 task=backupInstance submitted=2026-01-02T01:00:00Z task_id=[0-9]+ msg="task failed" reason="no space left"\n`)
				if n := len(reason.FindAllString(log.String(), -1)); n != test.n || strings.Count(log.String(), "task failed") != n || requests.of(crsapi.ActionTaskInfo) != n {
					t.Errorf("%d reasons after %d requests, want %d: %s", n, requests.of(crsapi.ActionTaskInfo), test.n, log)
				}
				w := httptest.NewRecorder()
				exporter.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				if text := w.Body.String(); !strings.Contains(text, `crs_up{region="ap-guangzhou"} 1`) || strings.Contains(text, "no space") {
					t.Errorf("a scrape has the reason, or nothing: %s", text)
				}
			})
		})
	}
}

// TestDemoRetires watches a change-over as it happens.
func TestDemoRetires(t *testing.T) {
	exporter := start(t, "--demo", "--demo.retire-after=50ms", "--crs.region="+guangzhou)
	series := `crs_api_info{api="3.0",region="ap-guangzhou"}`
	samples := exporter.scrape()
	for deadline := time.Now().Add(10 * time.Second); samples[series] != "1" && time.Now().Before(deadline); {
		samples = exporter.scrape()
	}
	wantAPI(t, samples, crsapi.API30)
	if !strings.Contains(exporter.log.String(), wentOver) {
		t.Errorf("the log does not say so: %s", exporter.log)
	}
}

// TestCheckAsksBoth checks one region through both APIs.
func TestCheckAsksBoth(t *testing.T) {
	denied := crsapitest.Envelope("AuthFailure.UnauthorizedOperation", "no policy")
	const failed = "check: 1 of 1 regions failed"
	for name, test := range map[string]struct {
		do20, do30   crsapitest.Effect
		args         []string
		err, verdict string
		advice       string
		without      string
	}{
		"both": {verdict: "the exporter uses API 2.0. API 3.0 works too."},
		"3.0 denied": {
			do30: denied, verdict: "the exporter uses API 2.0. What API 3.0 needs is below.",
			advice: "Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource *",
		},
		"2.0 retired": {
			do20: crsapitest.RetiredForbidden, verdict: "the exporter uses API 3.0: API 2.0 is retired.",
			without: "4300 (RequestForbidden)",
		},
		"2.0 retired, 3.0 denied": {
			do20: crsapitest.RetiredForbidden, do30: denied, err: failed, verdict: "no API can read this region.",
			advice: "Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource *",
		},
		"both denied": {
			do20: crsapitest.APIError(4103), do30: denied, err: failed, verdict: "no API can read this region.",
			advice: "Attach a CAM policy that allows redis:GetRedisTaskList",
		},
		"2.0 denied": {
			do20: crsapitest.APIError(4103), err: failed, verdict: "only API 3.0 can read this region: set --crs.api=3.0.",
			advice: "Attach a CAM policy that allows redis:GetRedisTaskList",
		},
		"2.0 chosen and retired": {
			do20: crsapitest.RetiredForbidden, args: []string{"--crs.api=2.0"}, err: failed, verdict: "only API 3.0 can read this region: set --crs.api=3.0.",
			advice: "use --crs.api=3.0 (or auto). Attach a CAM policy that allows redis:DescribeTaskList",
		},
		"3.0 chosen": {
			args: []string{"--crs.api=3.0"}, verdict: "the exporter uses API 3.0. API 2.0 works too.",
		},
		"3.0 chosen and denied": {
			do30: denied, args: []string{"--crs.api=3.0"}, err: failed, verdict: "only API 2.0 can read this region: remove --crs.api=3.0.",
			advice: "redis:DescribeTaskList",
		},
		"3.0 chosen, 2.0 retired": {
			do20: crsapitest.RetiredVersion, args: []string{"--crs.api=3.0"}, verdict: "the exporter uses API 3.0: API 2.0 is retired.",
		},
		"types of 2.0 only": {
			args: []string{"--crs.task-type=task_importRdb"}, verdict: "the exporter uses API 2.0. What API 3.0 needs is below.",
			advice: `API 3.0 has none of the task types ["task_importRdb"]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, args := simulateBoth(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
			if test.do20 != nil {
				server.Inject(crsapitest.Fault{API: "2.0", Do: test.do20})
			}
			if test.do30 != nil {
				server.Inject(crsapitest.Fault{API: "3.0", Do: test.do30})
			}
			var stdout bytes.Buffer
			err := run(t.Context(), append(append(args, test.args...), "--check"), &stdout, io.Discard)
			report := stdout.String()
			if got := fmt.Sprint(err); got != cmp.Or(test.err, "<nil>") {
				t.Errorf("got %s, want %q", got, test.err)
			}
			if !strings.Contains(report, "\n"+guangzhou+": "+test.verdict+"\n") || !strings.Contains(report, test.advice) {
				t.Errorf("want %q and %q:\n%s", test.verdict, test.advice, report)
			}
			if test.without != "" && strings.Contains(report, test.without) {
				t.Errorf("%q in\n%s", test.without, report)
			}
		})
	}
}

// TestCheckAsksNoStranger counts the requests of a check that has the endpoint of
// one API only.
func TestCheckAsksNoStranger(t *testing.T) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		for _, auto := range []bool{false, true} {
			if auto && api != crsapi.API20 {
				continue
			}
			t.Run(fmt.Sprintf("API %s, auto %t", api, auto), func(t *testing.T) {
				server, args := simulateAPI(t, api, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
				if auto {
					args = append(args[2:], "--crs.endpoint="+server.URL)
				}
				requests := countRequests(server)
				var stdout bytes.Buffer
				if err := run(t.Context(), append(args, "--check"), &stdout, io.Discard); err != nil {
					t.Error(err)
				}
				if lines := strings.Count(stdout.String(), "\n"); lines != 2 || requests.of(string(api)) != 1 || server.Requests("") != 1 {
					t.Errorf("%v requests:\n%s", requests.n, &stdout)
				}
			})
		}
	}
}

// TestCheckReportOfBoth compares a complete report of both APIs.
func TestCheckReportOfBoth(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	apis := []crsapi.API{crsapi.API20, crsapi.API30}
	find := func(region string, api crsapi.API, err error) *finding {
		f := &finding{cfg: crsapi.DefaultConfig(api), RegionStatus: collector.RegionStatus{Region: region, API: api, Err: err}, hasSkew: true, latencies: []time.Duration{9e6}}
		if err == nil {
			f.Tasks, f.Instances, f.NewestTask = 7, 2, at
		}
		return f
	}
	retired := &crsapi.Error{Reason: crsapi.ReasonRetired, Code: 4300, CodeDesc: "RequestForbidden"}
	denied := &crsapi.Error{Reason: crsapi.ReasonDenied, CodeDesc: "AuthFailure.UnauthorizedOperation"}
	var regions []checkedRegion
	for _, r := range []struct {
		name       string
		err2, err3 error
	}{
		{"gz", nil, nil}, {"sh", retired, nil}, {"bj", nil, denied}, {"hk", retired, denied},
	} {
		regions = append(regions, checkedRegion{apis, []*finding{find(r.name, crsapi.API20, r.err2), find(r.name, crsapi.API30, r.err3)}})
	}
	const want = `REGION  API  CREDENTIALS  TASKS  INSTANCES  NEWEST TASK                CLOCK SKEW  LATENCY  RESULT
gz      2.0  environment  7      2          2026-01-02T11:04:05+08:00  0s          9ms      ok
gz      3.0  environment  7      2          2026-01-02T11:04:05+08:00  0s          9ms      ok
sh      2.0  environment  -      -          -                          0s          9ms      retired 4300
sh      3.0  environment  7      2          2026-01-02T11:04:05+08:00  0s          9ms      ok
bj      2.0  environment  7      2          2026-01-02T11:04:05+08:00  0s          9ms      ok
bj      3.0  environment  -      -          -                          0s          9ms      denied AuthFailure.UnauthorizedOperation
hk      2.0  environment  -      -          -                          0s          9ms      retired 4300
hk      3.0  environment  -      -          -                          0s          9ms      denied AuthFailure.UnauthorizedOperation

gz: the exporter uses API 2.0. API 3.0 works too.

sh: the exporter uses API 3.0: API 2.0 is retired.

bj: the exporter uses API 2.0. What API 3.0 needs is below.

bj, API 3.0: API error (AuthFailure.UnauthorizedOperation)
  Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource * to the user or role of the key.

hk: no API can read this region.

hk, API 2.0: API error 4300 (RequestForbidden)
  The vendor has retired API 2.0, for all or for this account: use --crs.api=3.0 (or auto). Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource * to the user or role of the key.

hk, API 3.0: API error (AuthFailure.UnauthorizedOperation)
  Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource * to the user or role of the key.
`
	if got := report("environment", regions); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestCheckOfANameThatDoesNotResolve uses a label of 64 letters, which the
// resolver refuses without a DNS request.
func TestCheckOfANameThatDoesNotResolve(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	host := strings.Repeat("x", 64) + ".invalid"
	for api, advice := range map[crsapi.API]string{
		crsapi.API20: "The name " + host + " does not resolve: check DNS and the proxy of the environment. If the vendor has switched API 2.0 off, use --crs.api=3.0.",
		crsapi.API30: "Cannot connect to " + host + ": check DNS",
	} {
		var stdout bytes.Buffer
		err := run(t.Context(), append(append(args[2:], "--check", "--crs.api="+string(api)), endpoints("http://"+host+crsapitest.Path, "http://"+host+"/", api)...), &stdout, io.Discard)
		if err == nil || !strings.Contains(stdout.String(), advice) {
			t.Errorf("API %s: got %v, want %q:\n%s", api, err, advice, &stdout)
		}
	}
}
