package crsapi_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestParameters has the parameters of each API for one query: a form without nonce,
// timestamp and signature, or the bytes of a body.
func TestParameters(t *testing.T) {
	beijing := time.FixedZone("", 8*60*60)
	every := crsapi.Query{
		Limit: 100, Offset: 200, RedisID: "crs-opcazbrb", TaskTypes: []string{"task_backupInstance", "task_resizeInstance"},
		BeginTime: time.Date(2026, 11, 1, 0, 0, 0, 0, beijing), EndTime: time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC),
		Statuses: []crsapi.Status{crsapi.StatusFailed},
	}
	statuses := func(s ...crsapi.Status) crsapi.Query { return crsapi.Query{Limit: 1, Statuses: s} }
	types := func(api crsapi.API) crsapi.Query { return crsapi.Query{Limit: 1, TaskTypes: api.TaskTypes()} }
	name := crsapi.Query{Limit: 1, RedisName: "名 \"<&"}
	const common = "Action=GetRedisTaskList&Region=ap-guangzhou&SecretId=AKIDcanary%2Fid%2B1&SignatureMethod=HmacSHA256&Token=AKIDcanary%2Fid%2B1+token%2B%2F%3D3"
	for title, test := range map[string]struct {
		api   crsapi.API
		query crsapi.Query
		want  string
	}{
		"2.0": {two, every, common + "&beginTime=2026-11-01+00%3A00%3A00&endTime=2026-11-24+00%3A00%3A00&limit=100&offset=200" +
			"&redisId=crs-opcazbrb&taskStatus.0=3&taskType.0=task_backupInstance&taskType.1=task_resizeInstance"},
		"2.0, name":     {two, name, common + "&limit=1&offset=0&redisName=%E5%90%8D+%22%3C%26"},
		"2.0, statuses": {two, statuses(2, -1), common + "&limit=1&offset=0&taskStatus.0=2&taskStatus.1=-1"},
		"2.0, types": {two, types(two), common + "&limit=1&offset=0&taskType.0=task_importRdb&taskType.1=task_exportBackup&taskType.2=task_restoreBackup" +
			"&taskType.3=task_restoreStream&taskType.4=task_backupInstance&taskType.5=task_cleanInstance&taskType.6=task_resizeInstance"},
		"3.0": {three, every, `{"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-24 00:00:00",` +
			`"InstanceId":"crs-opcazbrb","Limit":100,"Offset":200,"Result":[4],"TaskTypes":["012","017","002"]}`},
		"3.0, name":     {three, name, `{"InstanceName":"名 \"\u003c\u0026","Limit":1,"Offset":0}`},
		"3.0, statuses": {three, statuses(0, 1, 2, 3), `{"Limit":1,"Offset":0,"Result":[0,1,2,4]}`},
		"3.0, types":    {three, types(three), `{"Limit":1,"Offset":0,"TaskTypes":["009","010","012","017","004","002"]}`},
		"tce": {tce, every, `{"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-24 00:00:00",` +
			`"Limit":100,"Offset":200,"RedisId":"crs-opcazbrb","TaskStatus":3,"TaskTypes":["012","002"]}`},
		"tce, name":     {tce, name, `{"Limit":1,"Offset":0,"RedisName":"名 \"\u003c\u0026"}`},
		"tce, status 0": {tce, statuses(0), `{"Limit":1,"Offset":0,"TaskStatus":0}`},
		"tce, types":    {tce, types(tce), `{"Limit":1,"Offset":0,"TaskTypes":["008","009","010","011","012","004","002"]}`},
	} {
		for _, method := range methods[test.api] {
			t.Run(title+"/"+method, func(t *testing.T) {
				c := newClient(t, test.api, transportFunc(func(r *http.Request) (*http.Response, error) {
					sent := read(r)
					got := sent.body
					if test.api == two {
						form, _ := url.ParseQuery(r.URL.RawQuery + sent.body)
						for _, name := range []string{"Nonce", "Timestamp", "Signature"} {
							if form.Get(name) == "" {
								t.Errorf("no %s", name)
							}
							form.Del(name)
						}
						got = form.Encode()
					} else if language := r.Header.Get("X-TC-Language"); language != "en-US" {
						t.Errorf("error messages in the language %q", language)
					}
					if got != test.want {
						t.Errorf("got  %s\nwant %s", got, test.want)
					}
					if r.Method != method || (r.URL.RawQuery == "") == (method == http.MethodGet) || r.UserAgent() != "agent/1" {
						t.Errorf("%s with the query %q and the User-Agent %s", r.Method, r.URL.RawQuery, r.UserAgent())
					}
					return respond(http.StatusOK, listJSON(test.api, 0))
				}), func(cfg *crsapi.Config) { cfg.Method, cfg.UserAgent = method, "agent/1" })
				if _, err := c.Page(t.Context(), test.query); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestQueryValidation has the error of each API for a query; API in it is the API.
func TestQueryValidation(t *testing.T) {
	status := func(s ...crsapi.Status) crsapi.Query { return crsapi.Query{Statuses: s} }
	types := func(s ...string) crsapi.Query { return crsapi.Query{TaskTypes: s} }
	type validity struct {
		query crsapi.Query
		apis  []crsapi.API // for which it is invalid
		want  string
	}
	eachCase(t, map[string]validity{
		"zero value":       {query: crsapi.Query{}},
		"negative limit":   {crsapi.Query{Limit: -1}, allAPIs, "invalid Limit: must not be negative"},
		"negative offset":  {crsapi.Query{Offset: -1}, allAPIs, "invalid Offset: must not be negative"},
		"limit 100":        {query: crsapi.Query{Limit: 100}},
		"limit 101":        {crsapi.Query{Limit: 101}, bothOf3, "invalid Limit: must not be above 100"},
		"error":            {status(crsapi.StatusError), []crsapi.API{three}, "API cannot filter by status -1"},
		"two statuses":     {status(crsapi.StatusPending, crsapi.StatusFailed), []crsapi.API{tce}, "API cannot filter by more than one status"},
		"status 4":         {status(4), allAPIs, "API cannot filter by status 4"},
		"importRdb":        {types("task_importRdb"), []crsapi.API{three}, `API has no task type "task_importRdb"`},
		"one of two types": {types("task_backupInstance", "task_"), allAPIs, `API has no task type "task_"`},
	}, func(t *testing.T, api crsapi.API, test validity) {
		want := ""
		if slices.Contains(test.apis, api) {
			want = "query: " + strings.ReplaceAll(test.want, "API", "API "+string(api))
		}
		var seen recorder
		_, err := newClient(t, api, always(listJSON(api, 0)), seen.in).Page(t.Context(), test.query)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want || len(seen.attempts) != 0) {
			t.Errorf("got %v after %d requests, want %q", err, len(seen.attempts), want)
		}
	})
}

// TestSignedRequests sends every parameter to the simulator, with a permanent and a
// temporary key. The simulator verifies the request, and responds with the one task that
// matches it. Times are in the zone of the API.
func TestSignedRequests(t *testing.T) {
	const zone = -3*time.Hour - 30*time.Minute
	at := time.Date(2017, 2, 10, 20, 26, 18, 0, time.UTC)
	// The last name looks like an upload, which API 2.0 does not sign in a POST.
	names := []string{"for 测试 a&b=c+d \"<", "@file"}
	var tasks []crsapi.Task
	for _, name := range names {
		task := crsapi.Task{RedisID: "crs-1", RedisName: name, ProjectID: "0", TaskName: "backupInstance", StartTime: at, Status: crsapi.StatusFailed}
		tasks = append(tasks, task)
	}
	send := func(t *testing.T, api crsapi.API, method, token string) {
		c, server := serve(t, api, tasks, func(cfg *crsapi.Config) {
			cfg.Credentials = credentials.Static{SecretID: "id", SecretKey: "key+/=", Token: credentials.Secret(token)}
			cfg.Method, cfg.UTCOffset = method, zone
			cfg.Endpoint = strings.Replace(cfg.Endpoint, ".com/", ".com:8443/", 1)
		})
		server.SetAccount(crsapitest.Account{SecretID: "id", SecretKey: "key+/=", Token: token})
		server.SetUTCOffset(zone)
		for i, name := range names {
			p, err := c.Page(t.Context(), crsapi.Query{
				RedisID: "crs-1", RedisName: name, BeginTime: at, EndTime: at,
				Statuses: []crsapi.Status{crsapi.StatusFailed}, TaskTypes: slices.Repeat([]string{"task_backupInstance"}, 11),
			})
			if err != nil || len(p.Tasks) != 1 {
				t.Fatalf("%s %q: got %+v, %v", method, name, p, err)
			}
			p.Tasks[0].TaskID = 0 // of the simulator
			if p.Tasks[0] != tasks[i] {
				t.Errorf("got  %+v\nwant %+v", p.Tasks[0], tasks[i])
			}
		}
	}
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, method := range methods[api] {
			send(t, api, method, "")
			send(t, api, method, "token+/=")
		}
	})
}

// TestRegionOfAPI3 checks the header and the host of the region.
func TestRegionOfAPI3(t *testing.T) {
	for _, test := range []struct{ region, endpoint, want, host string }{
		{"gz", "https://redis.{region}.tencentcloudapi.com", "ap-guangzhou", "redis.ap-guangzhou.tencentcloudapi.com"},
		{"xy", "http://{region}.{region}:8080/", "xy", "xy.xy:8080"},
		{"XY", "https://REDIS.{region}.example/", "XY", "redis.xy.example"},
	} {
		for _, api := range bothOf3 {
			c := newClient(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
				if got := r.Header.Get("X-TC-Region"); got != test.want || r.Host != test.host || r.URL.Host != test.host || r.URL.Path != "/" {
					t.Errorf("region %q at %s, host %s", got, r.URL, r.Host)
				}
				return respond(http.StatusOK, listJSON(api, 0))
			}), func(cfg *crsapi.Config) { cfg.Region, cfg.Endpoint = test.region, test.endpoint })
			if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
				t.Error(err)
			}
		}
	}
}
