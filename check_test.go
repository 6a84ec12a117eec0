package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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

var spaces = regexp.MustCompile(` {2,}`)

// columnsOf returns the columns of a region and API, without these two.
func columnsOf(t *testing.T, report, region string, api crsapi.API) []string {
	t.Helper()
	for line := range strings.Lines(report) {
		if columns := spaces.Split(strings.TrimSpace(line), -1); len(columns) > 2 && columns[0] == region && columns[1] == string(api) {
			return columns[2:]
		}
	}
	t.Fatalf("no row of %s through API %s in:\n%s", region, api, report)
	return nil
}

// checkCase is what a check says when Shanghai has a fault.
type checkCase struct {
	do     crsapitest.Effect
	args   []string
	result string
	want   string // below the table
}

func TestCheck(t *testing.T) {
	t.Setenv(credentials.EnvSecretID, "")
	t.Setenv(credentials.EnvSecretKey, "")
	for name, test := range map[string]checkCase{
		"whole":              {nil, nil, "ok", ""},
		"SecretId":           {crsapitest.APIError(4104), nil, "auth 4104", "The API does not know the SecretId: compare it"},
		"signature":          {crsapitest.APIError(4100), nil, "auth 4100", "The SecretKey does not belong to the SecretId"},
		"token":              {crsapitest.APIError(4105), nil, "auth 4105", "The token is invalid or expired"},
		"MFA":                {crsapitest.APIError(4106), nil, "auth 4106", "MFA"},
		"expired":            {crsapitest.APIError(4200), nil, "auth 4200", "set this machine's clock with NTP"},
		"replay":             {crsapitest.APIError(4500), nil, "auth 4500", "set this machine's clock with NTP"},
		"envelope":           {crsapitest.Envelope("AuthFailure.SecretIdNotFound", "x"), nil, "auth AuthFailure.SecretIdNotFound", "The API does not know the SecretId: compare it"},
		"retired":            {crsapitest.RetiredForbidden, nil, "retired 4300", "use --crs.api=3.0 (or auto). Attach a CAM policy that allows redis:DescribeTaskList"},
		"retired version":    {crsapitest.RetiredVersion, nil, "retired 6100", "use --crs.api=3.0 (or auto). Attach a CAM policy that allows redis:DescribeTaskList"},
		"retired envelope":   {crsapitest.RetiredEnvelope, nil, "retired ActionOffline", "use --crs.api=3.0 (or auto). Attach a CAM policy that allows redis:DescribeTaskList"},
		"denied":             {crsapitest.APIError(4103), nil, "denied 4103", "Attach a CAM policy that allows redis:GetRedisTaskList"},
		"blocked":            {crsapitest.APIError(4300), nil, "denied 4300", "in arrears"},
		"denied by envelope": {crsapitest.Envelope("UnauthorizedOperation", "x"), nil, "denied UnauthorizedOperation", "Attach a CAM policy"},
		"denied on the way":  {crsapitest.HTTPStatus(http.StatusForbidden), nil, "denied", "check for a proxy or firewall on the path to 127.0.0.1"},
		"quota":              {crsapitest.APIError(4400), nil, "throttled 4400", "lower --crs.rate-limit, scrape less often"},
		"parameter":          {crsapitest.APIError(4000), nil, "api 4000", "The API refused a parameter"},
		"protocol":           {crsapitest.APIError(4600), nil, "api 4600", "The API requires https"},
		"not found":          {crsapitest.APIError(5000), nil, "api 5000", "see --crs.redis-id"},
		"version":            {crsapitest.APIError(6100), nil, "api 6100", "The host does not serve GetRedisTaskList"},
		"at fault":           {crsapitest.APIError(6000), nil, "server 6000", "try again in a few minutes"},
		"proxy":              {crsapitest.HTTPStatus(http.StatusProxyAuthRequired), nil, "network", "Set the credentials of the proxy in HTTPS_PROXY"},
		"gateway":            {crsapitest.HTTPStatus(http.StatusBadGateway), nil, "server", "try again in a few minutes"},
		"elsewhere":          {crsapitest.HTTPStatus(http.StatusNotFound), nil, "api", "see the error above, --crs.endpoint"},
		"HTML":               {crsapitest.Body("<html>"), nil, "decode", "The response is not from the API"},
		"reset":              {crsapitest.ResetBeforeHeaders, nil, "network", "Cannot connect to 127.0.0.1"},
		"hang":               {crsapitest.Hang, []string{"--crs.request-timeout=50ms"}, "timeout", "127.0.0.1"},
	} {
		t.Run("API 2.0: "+name, func(t *testing.T) {
			t.Parallel()
			testCheck(t, crsapi.API20, test)
		})
	}
	code := func(name string) crsapitest.Effect { return crsapitest.Envelope(name, "x") }
	for name, test := range map[string]checkCase{
		"whole":        {nil, nil, "ok", ""},
		"SecretId":     {code("AuthFailure.SecretIdNotFound"), nil, "auth AuthFailure.SecretIdNotFound", "The API does not know the SecretId: compare it"},
		"signature":    {code("AuthFailure.SignatureFailure"), nil, "auth AuthFailure.SignatureFailure", "The SecretKey does not belong to the SecretId"},
		"token":        {code("AuthFailure.TokenFailure"), nil, "auth AuthFailure.TokenFailure", "The token is invalid or expired"},
		"MFA":          {code("AuthFailure.MFAFailure"), nil, "auth AuthFailure.MFAFailure", "MFA"},
		"expired":      {code("AuthFailure.SignatureExpire"), nil, "auth AuthFailure.SignatureExpire", "set this machine's clock with NTP"},
		"retired":      {code("ActionOffline"), nil, "retired ActionOffline", "The vendor has retired API 3.0."},
		"denied":       {code("AuthFailure.UnauthorizedOperation"), nil, "denied AuthFailure.UnauthorizedOperation", "Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource *"},
		"no policy":    {code("UnauthorizedOperation.NoCAMAuthed"), nil, "denied UnauthorizedOperation.NoCAMAuthed", "redis:DescribeTaskList"},
		"on the way":   {crsapitest.HTTPStatus(http.StatusForbidden), nil, "denied", "Something in front of the API refused the request: see --crs.v3-endpoint"},
		"quota":        {code("RequestLimitExceeded.UinLimitExceeded"), nil, "throttled RequestLimitExceeded.UinLimitExceeded", "lower --crs.rate-limit, scrape less often"},
		"no service":   {code("ResourceUnavailable.NoRedisService"), nil, "api ResourceUnavailable.NoRedisService", "There is no Redis in this region: see --crs.region."},
		"region":       {code("UnsupportedRegion"), nil, "api UnsupportedRegion", "There is no Redis in this region: see --crs.region."},
		"action":       {code("InvalidAction"), nil, "api InvalidAction", "The host does not serve API 3.0 of Redis: see --crs.v3-endpoint."},
		"version":      {code("NoSuchVersion"), nil, "api NoSuchVersion", "The host does not serve API 3.0 of Redis: see --crs.v3-endpoint."},
		"parameter":    {code("InvalidParameterValue"), nil, "api InvalidParameterValue", "see the error above, --crs.v3-endpoint and --crs.region"},
		"at fault":     {code("InternalError"), nil, "server InternalError", "try again in a few minutes"},
		"HTML":         {crsapitest.Body("<html>"), nil, "decode", "The response is not from the API: see --crs.v3-endpoint"},
		"list of 2.0":  {crsapitest.Body(`{"code":0,"totalCount":0,"data":{"redisTaskSet":[]}}`), nil, "decode", "The response is not from the API: see --crs.v3-endpoint"},
		"error of 2.0": {crsapitest.Body(`{"code":4104,"message":"x","codeDesc":"AuthFailure"}`), nil, "auth 4104", "The API does not know the SecretId: compare it"},
		"reset":        {crsapitest.ResetBeforeHeaders, nil, "network", "Cannot connect to 127.0.0.1"},
		"hang":         {crsapitest.Hang, []string{"--crs.request-timeout=50ms"}, "timeout", "127.0.0.1"},
	} {
		t.Run("API 3.0: "+name, func(t *testing.T) {
			t.Parallel()
			testCheck(t, crsapi.API30, test)
		})
	}
}

func testCheck(t *testing.T, api crsapi.API, test checkCase) {
	server, args := serveTasks(t, api, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample(), shanghai: crsapitest.DocumentExample()})
	if test.do != nil {
		server.Inject(crsapitest.Fault{Region: shanghai, Do: test.do})
	}
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, credentialsFile(crsapitest.SecretID, crsapitest.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), append(append(args, test.args...), "--check", "--crs.credentials-file="+file), &stdout, &stderr)
	report := stdout.String()
	if want := map[bool]string{true: "check: 1 of 2 regions failed"}[test.do != nil]; fmt.Sprint(err) != want && (err != nil || want != "") {
		t.Errorf("got %v, want %q", err, want)
	}
	if stderr.Len() > 0 {
		t.Errorf("on stderr: %s", &stderr)
	}
	whole := columnsOf(t, report, guangzhou, api)
	if want := []string{"file", "9", "1", "2017-02-10T16:56:18+08:00", "0s"}; strings.Join(whole[:5], " ") != strings.Join(want, " ") || whole[6] != "ok" {
		t.Errorf("%q, want %q", whole, want)
	}
	columns := columnsOf(t, report, shanghai, api)
	if columns[6] != test.result || (test.do != nil) != (columns[1] == "-") {
		t.Errorf("%q, want %s", columns, test.result)
	}
	_, told, _ := strings.Cut(report, "\n\n")
	if !strings.Contains(told, test.want) || strings.HasPrefix(told, shanghai+", API "+string(api)+": page at offset 0: ") != (test.do != nil) || strings.Contains(told, guangzhou) {
		t.Errorf("advice is %q, want %q", told, test.want)
	}
}

func credentialsFile(id, key string) []byte {
	return []byte("[default]\nsecret_id = " + id + "\nsecret_key = " + key + "\n")
}

// TestCheckReport compares a complete report.
func TestCheckReport(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	find := func(status collector.RegionStatus, skew time.Duration, latencies ...time.Duration) *finding {
		status.API = crsapi.API20
		return &finding{cfg: crsapi.DefaultConfig(status.API), RegionStatus: status, skew: skew, hasSkew: len(latencies) > 0, latencies: latencies}
	}
	var regions []checkedRegion
	for _, f := range []*finding{
		find(collector.RegionStatus{Region: "gz", Tasks: 1234, Instances: 2, NewestTask: at}, 0, 9e6, 90e6, 11e6),
		find(collector.RegionStatus{Region: "ap-shanghai", Rejected: 3}, 90*time.Second, 2e6),
		find(collector.RegionStatus{Region: "bj", Err: &crsapi.Error{Reason: crsapi.ReasonAuth, Code: 4500, CodeDesc: "Replay"}}, -time.Hour, 5e9),
		find(collector.RegionStatus{Region: "hk", Err: &crsapi.Error{Reason: crsapi.ReasonAuth, Err: errors.New("credentials: cvm-role: HTTP status 500")}}, 0),
		find(collector.RegionStatus{Region: "ca", Err: &crsapi.Error{Reason: crsapi.ReasonTimeout, Err: context.DeadlineExceeded}}, 0),
		find(collector.RegionStatus{Region: "sg", Err: errors.New("no *crsapi.Error")}, 0),
	} {
		regions = append(regions, checkedRegion{[]crsapi.API{crsapi.API20}, []*finding{f}})
	}
	got := report("demo", regions)
	const want = `REGION       API  CREDENTIALS  TASKS  INSTANCES  NEWEST TASK                CLOCK SKEW  LATENCY  RESULT
gz           2.0  demo         1234   2          2026-01-02T11:04:05+08:00  0s          11ms     ok
ap-shanghai  2.0  demo         0      0          -                          1m30s       2ms      ok
bj           2.0  demo         -      -          -                          -1h0m0s     5s       auth 4500
hk           2.0  demo         -      -          -                          -           -        auth
ca           2.0  demo         -      -          -                          -           -        timeout
sg           2.0  demo         -      -          -                          -           -        failed

ap-shanghai, API 2.0: this machine's clock is 1m30s behind the API's
  Set the clock with NTP: the API refuses requests whose time differs too much from its own.

ap-shanghai, API 2.0: 3 rows of the list could not be read
  Only crs_poll_rejected_rows counts them. If they stay, the API has changed: report it.

bj, API 2.0: API error 4500 (Replay)
  The API considers the request expired: set this machine's clock with NTP.

bj, API 2.0: this machine's clock is 1h0m0s ahead of the API's
  Set the clock with NTP: the API refuses requests whose time differs too much from its own.

hk, API 2.0: credentials: cvm-role: HTTP status 500
  The credentials could not be read from their source: fix the error above.

ca, API 2.0: context deadline exceeded
  Reading the list takes too long: narrow it with --crs.lookback or --crs.redis-id, or raise --crs.rate-limit if the quota allows it.

sg, API 2.0: no *crsapi.Error
  See the error above.
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A region without tasks and an instance without tasks are told, and are no failure.
func TestCheckTellsWhatIsEmpty(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		const (
			noTask = ": the API lists no task in this region\n  A region whose name is wrong looks like this: compare --crs.region or TENCENTCLOUD_REGION"
			noID   = ": the API lists no task of 1 watched instances: crs-none\n  It does not know them in this region"
		)
		for _, do := range []crsapitest.Effect{crsapitest.All(), crsapitest.RefuseUnknown} {
			server, args := simulateAPI(t, api, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample(), shanghai: nil})
			server.Inject(crsapitest.Fault{Do: do})
			for _, test := range []struct {
				args []string
				want map[string][2]bool // by region: no task, no such instance
			}{
				{nil, map[string][2]bool{guangzhou: {false, false}, shanghai: {true, false}}},
				{[]string{"--crs.redis-id=crs-izbob1wh", "--crs.redis-id=crs-none"}, map[string][2]bool{guangzhou: {false, true}}},
				{[]string{"--crs.redis-id=crs-none"}, map[string][2]bool{guangzhou: {true, true}, shanghai: {true, true}}},
			} {
				var stdout bytes.Buffer
				if err := run(t.Context(), append(append(args, "--check"), test.args...), &stdout, io.Discard); err != nil {
					t.Errorf("%q: %v", test.args, err)
				}
				for region, want := range test.want {
					prefix := region + ", API " + string(api)
					if got := strings.Contains(stdout.String(), prefix+noTask); got != want[0] {
						t.Errorf("%q: says that %s has no task: %t\n%s", test.args, region, got, &stdout)
					}
					if got := strings.Count(stdout.String(), prefix+noID) == 1; got != want[1] {
						t.Errorf("%q: names the instance in %s: %t\n%s", test.args, region, got, &stdout)
					}
				}
			}
		}
	})
}

// A check waits longer than a scrape, and says so where it had to.
func TestCheckTellsOfTooManyInstances(t *testing.T) {
	f := &finding{cfg: crsapi.DefaultConfig(crsapi.API20), RegionStatus: collector.RegionStatus{Region: "gz", API: crsapi.API20, Tasks: 3, OutOfTime: true}}
	text := report("demo", []checkedRegion{{[]crsapi.API{crsapi.API20}, []*finding{f}}})
	const want = "\ngz, API 2.0: each instance was asked for, which takes longer than a scrape: crs_up would be 0\n  Allow the key to list the whole region, raise --crs.rate-limit"
	if strings.Count(text, want) != 1 {
		t.Errorf("got %s", text)
	}
}

// TestCheckSendsFewRequests counts the requests of a check.
func TestCheckSendsFewRequests(t *testing.T) {
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	server, args := simulate(t, map[string][]crsapi.Task{guangzhou: {
		backup("crs-1", day, crsapi.StatusFailed), backup("crs-2", day.Add(-time.Hour), crsapi.StatusFailed), backup("crs-3", day.Add(time.Hour), crsapi.StatusFailed),
	}})
	var mu sync.Mutex
	var requested []string
	server.OnRequest(func(r crsapitest.Request) {
		mu.Lock()
		defer mu.Unlock()
		requested = append(requested, r.Region)
	})
	for _, test := range []struct {
		args            []string
		tasks, requests int
	}{
		{nil, 3, 1},
		{[]string{"--crs.redis-id=crs-1", "--crs.redis-id=crs-2", "--crs.redis-id=crs-1"}, 2, 2},
		{[]string{"--crs.lookback=1h"}, 0, 1},
		{[]string{"--crs.task-type=task_restoreBackup"}, 0, 1},
	} {
		requested = nil
		var stdout bytes.Buffer
		if err := run(t.Context(), append(append(args, "--check"), test.args...), &stdout, io.Discard); err != nil {
			t.Fatal(err)
		}
		if columns := columnsOf(t, stdout.String(), guangzhou, crsapi.API20); columns[1] != fmt.Sprint(test.tasks) || len(requested) != test.requests || columns[0] != "environment" {
			t.Errorf("%q: %q after %d requests, want %d tasks and %d requests", test.args, columns, len(requested), test.tasks, test.requests)
		}
	}
}

func TestCheckIsInterrupted(t *testing.T) {
	server, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	ctx, cancel := context.WithCancel(t.Context())
	server.OnRequest(func(crsapitest.Request) { cancel() })
	server.Inject(crsapitest.Fault{Do: crsapitest.Hang})
	var stdout bytes.Buffer
	if err := run(ctx, append(args, "--check"), &stdout, io.Discard); !errors.Is(err, context.Canceled) || stdout.Len() > 0 {
		t.Errorf("got %v, printed %q", err, &stdout)
	}
}

// TestCheckPrintsNoSecret uses a server that returns all that it receives.
func TestCheckPrintsNoSecret(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		setCanary(t)
		tests := map[string]func(*testing.T){}
		for name, do := range map[string]crsapitest.Effect{
			"refused":  crsapitest.APIError(4100),
			"HTML":     crsapitest.HTTPStatus(500),
			"redirect": crsapitest.Redirect("http://127.0.0.1:1/"),
			"envelope": crsapitest.Envelope("InternalError", "x"),
			"reset":    crsapitest.ResetBeforeHeaders,
		} {
			tests[name] = func(t *testing.T) {
				server, args := serveTasks(t, api, map[string][]crsapi.Task{guangzhou: nil})
				echoSecrets(server)
				server.Inject(crsapitest.Fault{Do: do})
				var output bytes.Buffer
				err := run(t.Context(), append(args, "--check", "--log.level=debug"), &output, &output)
				if err == nil {
					t.Fatal("the check did not fail")
				}
				wantNoSecret(t, fmt.Sprint(output.String(), err))
			}
		}
		atOnce(t, tests)
	})
}

// TestCheckTellsOfALongList checks a list that takes longer to read than a check
// stays silent.
func TestCheckTellsOfALongList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := crsapitest.NewMemoryServer()
		defer server.Close()
		server.SetTasks(guangzhou, crsapitest.Generate(3000, 5, 1))
		cfg := crsapi.DefaultConfig(crsapi.API20)
		cfg.Endpoint, cfg.Transport, cfg.Limiter = server.URL, server.Client().Transport, crsapi.NewLimiter(2)
		cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
		exporter, err := collector.New(collector.Config{
			Regions: []string{guangzhou},
			Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
				client, err := newClient(cfg, region, observe)
				return []collector.Source{collector.FromAPI(client)}, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer exporter.Close()
		var told strings.Builder
		pollOnce(t.Context(), exporter, &told)
		line := regexp.MustCompile(`^ap-guangzhou, API 2\.0: the list is still being read, \d+ of about \d\d pages\n`)
		if !line.MatchString(told.String()) || exporter.Status()[0].Tasks != 3000 {
			t.Errorf("told %q of %+v", told.String(), exporter.Status()[0])
		}
	})
}
