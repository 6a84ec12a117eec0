package crsapi_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// The key pair of the examples in Tencent's documents.
var docKey = credentials.Static{
	SecretID: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA", SecretKey: "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA",
}

// TestRequestOfAPI3 checks a whole request. Its signature was computed
// independently, for this key, body and time.
func TestRequestOfAPI3(t *testing.T) {
	const (
		at        = 1551113065
		signature = "d2ab5e4fe5e870d07b925ad4725caa1db176115756f4bb591b2c1bb8e805731b"
	)
	for name, token := range map[string]credentials.Secret{"no token": "", "token": "temporary token"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sleepUntil(at)
				sent := 0
				c := newTestClient(t, crsapi.API30, func(cfg *crsapi.Config) {
					key := docKey
					key.Token = token
					cfg.Region, cfg.Credentials, cfg.UserAgent = "gz", key, "agent/1"
					cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
						sent++
						if r.Method != http.MethodPost || r.URL.String() != "https://redis.tencentcloudapi.com/" || r.Host != "redis.tencentcloudapi.com" {
							t.Errorf("%s %s of host %s", r.Method, r.URL, r.Host)
						}
						want := http.Header{
							"Content-Type": {"application/json"},
							"Authorization": {"TC3-HMAC-SHA256 Credential=" + docKey.SecretID +
								"/2019-02-25/redis/tc3_request, SignedHeaders=content-type;host, Signature=" + signature},
							"X-Tc-Action":    {"DescribeTaskList"},
							"X-Tc-Version":   {"2018-04-12"},
							"X-Tc-Timestamp": {strconv.Itoa(at)},
							"X-Tc-Region":    {"ap-guangzhou"},
							"X-Tc-Language":  {"en-US"},
							"User-Agent":     {"agent/1"},
						}
						if token != "" {
							want["X-Tc-Token"] = []string{string(token)}
						}
						if !maps.EqualFunc(r.Header, want, slices.Equal[[]string]) {
							t.Errorf("got  %v\nwant %v", r.Header, want)
						}
						length := r.ContentLength
						if body := read(r).body; body != `{"Limit":100,"Offset":0}` || length != int64(len(body)) {
							t.Errorf("body %s, Content-Length %d", body, length)
						}
						return respond(http.StatusOK, listJSON(crsapi.API30, 0))
					})
				})
				if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil || sent != 1 {
					t.Errorf("%d requests, %v", sent, err)
				}
			})
		})
	}
}

func sleepUntil(unix int64) { time.Sleep(time.Until(time.Unix(unix, 0))) }

// TestBodies checks the bytes of the bodies of queries.
func TestBodies(t *testing.T) {
	beijing := time.FixedZone("", 8*60*60)
	all := crsapi.Query{
		Limit: 100, Offset: 200, RedisID: "crs-opcazbrb", TaskTypes: []string{"task_backupInstance"},
		BeginTime: time.Date(2026, 11, 1, 0, 0, 0, 0, beijing), EndTime: time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC),
		Statuses: []crsapi.Status{crsapi.StatusPending, crsapi.StatusExecuting, crsapi.StatusSucceeded, crsapi.StatusFailed},
	}
	one := all
	one.Statuses = []crsapi.Status{crsapi.StatusError}
	for name, test := range map[string]struct {
		api   crsapi.API
		query crsapi.Query
		want  string
	}{
		"R3": {crsapi.API30, all, `{"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-24 00:00:00",` +
			`"InstanceId":"crs-opcazbrb","Limit":100,"Offset":200,"Result":[0,1,2,4],"TaskTypes":["012","017"]}`},
		"name": {crsapi.API30, crsapi.Query{Limit: 1, RedisName: "名 \"<&"}, `{"InstanceName":"名 \"\u003c\u0026","Limit":1,"Offset":0}`},
		"all types": {
			crsapi.API30,
			crsapi.Query{Limit: 1, TaskTypes: crsapi.API30.TaskTypes()},
			`{"Limit":1,"Offset":0,"TaskTypes":["009","010","012","017","004","002"]}`,
		},
		"tce": {crsapi.APITCE, one, `{"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-24 00:00:00",` +
			`"Limit":100,"Offset":200,"RedisId":"crs-opcazbrb","TaskStatus":-1,"TaskTypes":["012"]}`},
		"tce, status 0": {
			crsapi.APITCE,
			crsapi.Query{Limit: 1, Statuses: []crsapi.Status{crsapi.StatusPending}},
			`{"Limit":1,"Offset":0,"TaskStatus":0}`,
		},
		"tce, name": {crsapi.APITCE, crsapi.Query{Limit: 1, RedisName: "n"}, `{"Limit":1,"Offset":0,"RedisName":"n"}`},
		"tce, all types": {
			crsapi.APITCE,
			crsapi.Query{Limit: 1, TaskTypes: crsapi.APITCE.TaskTypes()},
			`{"Limit":1,"Offset":0,"TaskTypes":["008","009","010","011","012","004","002"]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			c := newTestClient(t, test.api, func(cfg *crsapi.Config) {
				cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
					got = read(r).body
					return respond(http.StatusOK, listJSON(test.api, 0))
				})
			})
			if _, err := c.Page(t.Context(), test.query); err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestRegionOfAPI3 checks the header and the host of the region.
func TestRegionOfAPI3(t *testing.T) {
	for name, test := range map[string]struct {
		region, endpoint string
		want, host       string
	}{
		"short":           {"gz", "https://redis.tencentcloudapi.com", "ap-guangzhou", "redis.tencentcloudapi.com"},
		"short, in host":  {"gz", "https://redis.{region}.tencentcloudapi.com", "ap-guangzhou", "redis.ap-guangzhou.tencentcloudapi.com"},
		"long, in host":   {"ap-shanghai-fsi", "https://redis.{region}.tencentcloudapi.com/", "ap-shanghai-fsi", "redis.ap-shanghai-fsi.tencentcloudapi.com"},
		"unknown":         {"xy", "https://{region}", "xy", "xy"},
		"twice":           {"xy", "http://{region}.{region}:8080/", "xy", "xy.xy:8080"},
		"capitals":        {"XY", "https://REDIS.{region}.example/", "XY", "redis.xy.example"},
		"capitals, short": {"GZ", "https://{region}/", "GZ", "gz"},
	} {
		for _, api := range []crsapi.API{crsapi.API30, crsapi.APITCE} {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				c := newTestClient(t, api, func(cfg *crsapi.Config) {
					cfg.Region, cfg.Endpoint = test.region, test.endpoint
					cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
						if got := r.Header.Get("X-TC-Region"); got != test.want || r.Host != test.host || r.URL.Host != test.host || r.URL.Path != "/" {
							t.Errorf("region %q at %s, host %s", got, r.URL, r.Host)
						}
						return respond(http.StatusOK, listJSON(api, 0))
					})
				})
				if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestEachAttemptIsSignedAnew has the simulator accept every attempt, and fail
// it then: it verifies timestamp, nonce and signature.
func TestEachAttemptIsSignedAnew(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var timestamps, signatures []string
			c, server := serve(t, api, crsapitest.DocumentExample(), func(cfg *crsapi.Config) {
				next := cfg.Transport
				cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
					resp, err := next.RoundTrip(r)
					mu.Lock()
					defer mu.Unlock()
					// The body is gone, so only API 2.0's GET can be read. That is enough.
					sent := read(&http.Request{Header: r.Header, URL: r.URL, Body: http.NoBody})
					timestamps, signatures = append(timestamps, sent.timestamp), append(signatures, sent.signature)
					return resp, err
				})
			})
			// The last attempt comes 10 s later, when the first timestamp is too old.
			server.SetWindow(5 * time.Second)
			server.Inject(crsapitest.Fault{Count: 3, Do: crsapitest.All(crsapitest.Latency(3*time.Second), crsapitest.APIError(6000))})
			if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
				t.Fatal(err)
			}
			if got := [2]int{server.Answers(region, 6000), server.Answers(region, 0)}; got != [2]int{3, 1} {
				t.Errorf("%d failures and %d successes, want 3 and 1", got[0], got[1])
			}
			for _, list := range [][]string{timestamps, signatures} {
				if distinct := slices.Compact(slices.Sorted(slices.Values(list))); len(list) != 4 || len(distinct) != 4 || slices.Contains(list, "") {
					t.Errorf("not 4 different values: %s", strings.Join(list, " "))
				}
			}
		})
	})
}

// TestFiltersAtTheSimulator sends each filter to the simulator, which refuses
// what the documents do not have.
func TestFiltersAtTheSimulator(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks := crsapitest.Generate(200, 5, 1)
		end, begin := tasks[20].StartTime, tasks[150].StartTime
		id, name := tasks[0].RedisID, tasks[0].RedisName
		filters := map[string]struct {
			query crsapi.Query
			match func(crsapi.Task) bool
		}{
			"instance": {crsapi.Query{RedisID: id}, func(t crsapi.Task) bool { return t.RedisID == id }},
			"name":     {crsapi.Query{RedisName: name}, func(t crsapi.Task) bool { return t.RedisName == name }},
			"time": {crsapi.Query{BeginTime: begin, EndTime: end}, func(t crsapi.Task) bool {
				return !t.StartTime.Before(begin) && !t.StartTime.After(end)
			}},
		}
		for _, taskType := range api.TaskTypes() {
			filters[taskType] = struct {
				query crsapi.Query
				match func(crsapi.Task) bool
			}{crsapi.Query{TaskTypes: []string{taskType}}, func(t crsapi.Task) bool { return "task_"+t.TaskName == taskType }}
		}
		for status := crsapi.StatusError; status <= crsapi.StatusFailed; status++ {
			if api == crsapi.API30 && status == crsapi.StatusError {
				continue
			}
			filters[fmt.Sprint("status ", status)] = struct {
				query crsapi.Query
				match func(crsapi.Task) bool
			}{crsapi.Query{Statuses: []crsapi.Status{status}}, func(t crsapi.Task) bool { return asListed(api, t).Status == status }}
		}
		for name, filter := range filters {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, _ := serve(t, api, tasks, nil)
					got, err := readAll(t, c, filter.query)
					if err != nil {
						t.Fatal(err)
					}
					var want []crsapi.Task
					for _, task := range tasks {
						if filter.match(task) {
							want = append(want, task)
						}
					}
					if !maps.Equal(bagOf(api, slices.Values(got)), bagOf(api, slices.Values(want))) {
						t.Errorf("%d tasks, want %d", len(got), len(want))
					}
				})
			})
		}
	})
}
