package crsapi_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestRequests has what is sent for a query: a form without the token and what is new in each
// request, or the bytes of a body. The simulator verifies the signature, by a permanent and a
// temporary key, and returns the tasks that match. Times are in the zone of the API.
func TestRequests(t *testing.T) {
	const zone = -3*time.Hour - 30*time.Minute
	at := time.Date(2026, 11, 1, 3, 30, 0, 0, time.UTC)
	tasks := make([]crsapi.Task, 2)
	// The second name looks like an upload, which API 2.0 does not sign in a POST.
	for i, name := range []string{"名 a&b=c+d \"<", "@file"} {
		tasks[i] = crsapi.Task{RedisID: "crs-1", RedisName: name, ProjectID: "0", TaskName: "backupInstance", StartTime: at, Status: crsapi.StatusFailed}
	}
	every := crsapi.Query{
		Limit: 100, RedisID: "crs-1", RedisName: tasks[0].RedisName, TaskTypes: []string{"task_backupInstance", "task_resizeInstance"},
		BeginTime: at, EndTime: at.Add(time.Hour).In(time.FixedZone("", 8*60*60)), Statuses: []crsapi.Status{crsapi.StatusFailed},
	}
	upload := crsapi.Query{Limit: 1, RedisName: "@file"}
	statuses := func(s ...crsapi.Status) crsapi.Query { return crsapi.Query{Limit: 1, Offset: 200, Statuses: s} }
	types := func(api crsapi.API) crsapi.Query { return crsapi.Query{Limit: 1, TaskTypes: api.TaskTypes()} }
	const common = "Action=GetRedisTaskList&Region=ap-guangzhou&SecretId=id&SignatureMethod=HmacSHA256"
	for title, test := range map[string]struct {
		api   crsapi.API
		query crsapi.Query
		sent  string
		want  []crsapi.Task
	}{
		"2.0": {two, every, common + "&beginTime=2026-11-01+00%3A00%3A00&endTime=2026-11-01+01%3A00%3A00&limit=100&offset=0&redisId=crs-1" +
			"&redisName=%E5%90%8D+a%26b%3Dc%2Bd+%22%3C&taskStatus.0=3&taskType.0=task_backupInstance&taskType.1=task_resizeInstance", tasks[:1]},
		"2.0, upload":   {two, upload, common + "&limit=1&offset=0&redisName=%40file", tasks[1:]},
		"2.0, statuses": {two, statuses(2, -1), common + "&limit=1&offset=200&taskStatus.0=2&taskStatus.1=-1", nil},
		"2.0, types": {two, types(two), common + "&limit=1&offset=0&taskType.0=task_importRdb&taskType.1=task_exportBackup&taskType.2=task_restoreBackup" +
			"&taskType.3=task_restoreStream&taskType.4=task_backupInstance&taskType.5=task_cleanInstance&taskType.6=task_resizeInstance", tasks[:1]},
		"3.0": {three, every, `{"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-01 01:00:00","InstanceId":"crs-1",` +
			`"InstanceName":"名 a\u0026b=c+d \"\u003c","Limit":100,"Offset":0,"Result":[4],"TaskTypes":["012","017","002"]}`, tasks[:1]},
		"3.0, statuses": {three, statuses(0, 1, 2, 3), `{"Limit":1,"Offset":200,"Result":[0,1,2,4]}`, nil},
		"3.0, types":    {three, types(three), `{"Limit":1,"Offset":0,"TaskTypes":["009","010","012","017","004","002"]}`, tasks[:1]},
		"tce": {tce, every, `{"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-01 01:00:00","Limit":100,"Offset":0,"RedisId":"crs-1",` +
			`"RedisName":"名 a\u0026b=c+d \"\u003c","TaskStatus":3,"TaskTypes":["012","002"]}`, tasks[:1]},
		"tce, status 0": {tce, statuses(0), `{"Limit":1,"Offset":200,"TaskStatus":0}`, nil},
		"tce, types":    {tce, types(tce), `{"Limit":1,"Offset":0,"TaskTypes":["008","009","010","011","012","004","002"]}`, tasks[:1]},
	} {
		send := func(t *testing.T, method string, token credentials.Secret) {
			c, server := serve(t, test.api, tasks, func(cfg *crsapi.Config) {
				cfg.Credentials = credentials.Static{SecretID: "id", SecretKey: canaryKey, Token: token}
				cfg.Method, cfg.UserAgent, cfg.UTCOffset = method, "agent/1", zone
				cfg.Endpoint = strings.Replace(cfg.Endpoint, ".com/", ".com:8443/", 1)
				simulator := cfg.Transport
				cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
					got := read(r).body
					if r.Body = io.NopCloser(strings.NewReader(got)); test.api == two {
						form, _ := url.ParseQuery(r.URL.RawQuery + got)
						for _, name := range []string{"Nonce", "Timestamp", "Signature", "Token"} {
							form.Del(name)
						}
						got = form.Encode()
					} else if language := r.Header.Get("X-TC-Language"); language != "en-US" {
						t.Errorf("error messages in the language %q", language)
					}
					if got != test.sent {
						t.Errorf("got  %s\nwant %s", got, test.sent)
					}
					if r.Method != method || (r.URL.RawQuery == "") == (method == http.MethodGet) || r.UserAgent() != "agent/1" {
						t.Errorf("%s with the query %q and the User-Agent %s", r.Method, r.URL.RawQuery, r.UserAgent())
					}
					return simulator.RoundTrip(r)
				})
			})
			server.SetAccount(crsapitest.Account{SecretID: "id", SecretKey: canaryKey, Token: string(token)})
			server.SetUTCOffset(zone)
			p, err := c.Page(t.Context(), test.query)
			if err != nil {
				t.Fatal(err)
			}
			for i := range p.Tasks {
				p.Tasks[i].TaskID = 0 // of the simulator
			}
			if !slices.Equal(p.Tasks, test.want) {
				t.Errorf("got  %+v\nwant %+v", p.Tasks, test.want)
			}
		}
		for _, method := range methods[test.api] {
			for _, token := range []credentials.Secret{"", canaryToken} {
				t.Run(fmt.Sprint(title, "/", method, "/temporary ", token != ""), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { send(t, method, token) })
				})
			}
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
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want || len(seen) != 0) {
			t.Errorf("got %v after %d requests, want %q", err, len(seen), want)
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
