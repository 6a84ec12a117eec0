package crsapi_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// The key pair of the examples in Tencent's documents.
var docKey = credentials.Static{
	SecretID: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA", SecretKey: "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA",
}

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
	const common = "Action=GetRedisTaskList&Region=ap-guangzhou&SecretId=AKIDcanary%2Fid%2B1&SignatureMethod=HmacSHA256&Token=canary+token%2B%2F%3D3"
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
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if test.api != two && method == http.MethodGet {
				continue
			}
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

// signature2 computes the parameter Signature of API 2.0 independently of the client.
func signature2(key, method, host string, params map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(params)) { // taskType.1 before taskType.10
		if value := params[name]; name != "Signature" && (method != http.MethodPost || !strings.HasPrefix(value, "@")) {
			pairs = append(pairs, name+"="+value)
		}
	}
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(mac, method+host+"/v2/index.php?"+strings.Join(pairs, "&"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestSignatureOfAPI2 checks signature2 with vectors of the documents and of the vendor's
// SDK, and the client with signature2.
func TestSignatureOfAPI2(t *testing.T) {
	id, key := docKey.SecretID, string(docKey.SecretKey)
	for want, vector := range map[string]struct {
		key, method, host string
		params            map[string]string
	}{
		"0EEm/HtGRr/VJXTAD9tYMth1Bzm3lLHz5RCDv1GdM8s=": {key, "GET", "cvm.api.qcloud.com", map[string]string{
			"Action": "DescribeInstances", "InstanceIds.0": "ins-09dx96dg", "Nonce": "11886", "Region": "ap-guangzhou",
			"SecretId": id, "SignatureMethod": "HmacSHA256", "Timestamp": "1465185768",
		}},
		"B2T37FRSP6Fk0/q/cdfrTE0p3zX5ooB/2BPWZUFpsj4=": {"secretKeyBar", "POST", "cvm.api.qcloud.com", map[string]string{
			"Action": "DescribeInstances", "Nonce": "1290303896666895346", "Region": "ap-guangzhou", "SecretId": "secretIdFoo",
			"SignatureMethod": "HmacSHA256", "Timestamp": "1512393162", "Version": "2017-03-12", "upload": "@file",
		}},
	} {
		if got := signature2(vector.key, vector.method, vector.host, vector.params); got != want {
			t.Errorf("signature2 is %s, want %s", got, want)
		}
	}
	all := two.TaskTypes()
	for name, q := range map[string]crsapi.Query{
		"plain":          {},
		"everything":     {RedisID: "crs-1", RedisName: "for 测试 a&b=c+d", BeginTime: time.Unix(1e9, 0), EndTime: time.Unix(2e9, 0), Statuses: []crsapi.Status{0, 1, 2, 3, -1}, TaskTypes: slices.Concat(all, all)},
		"like an upload": {RedisName: "@file"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+"/"+method, func(t *testing.T) {
				c := newClient(t, two, transportFunc(func(r *http.Request) (*http.Response, error) {
					sent := read(r)
					if want := signature2(canaryKey, method, "redis.api.qcloud.com", sent.params); sent.signature != want {
						t.Errorf("signature %s, want %s", sent.signature, want)
					}
					return respond(http.StatusOK, listJSON(two, 0))
				}), func(cfg *crsapi.Config) {
					cfg.Method, cfg.Endpoint = method, "https://redis.api.qcloud.com:8443/v2/index.php"
				})
				if _, err := c.Page(t.Context(), q); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestRequestOfAPI3 checks a whole request. Its signature was computed independently,
// for this key, body and time.
func TestRequestOfAPI3(t *testing.T) {
	const at, signature = 1551113065, "d2ab5e4fe5e870d07b925ad4725caa1db176115756f4bb591b2c1bb8e805731b"
	for name, token := range map[string]credentials.Secret{"no token": "", "token": "temporary token"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Unix(at, 0)))
				c := newClient(t, three, transportFunc(func(r *http.Request) (*http.Response, error) {
					if r.Method != http.MethodPost || r.URL.String() != "https://redis.tencentcloudapi.com/" || r.Host != "redis.tencentcloudapi.com" {
						t.Errorf("%s %s of host %s", r.Method, r.URL, r.Host)
					}
					want := http.Header{
						"Content-Type": {"application/json"},
						"Authorization": {"TC3-HMAC-SHA256 Credential=" + docKey.SecretID +
							"/2019-02-25/redis/tc3_request, SignedHeaders=content-type;host, Signature=" + signature},
						"X-Tc-Action": {"DescribeTaskList"}, "X-Tc-Version": {"2018-04-12"}, "X-Tc-Timestamp": {strconv.Itoa(at)},
						"X-Tc-Region": {"ap-guangzhou"}, "X-Tc-Language": {"en-US"}, "User-Agent": {"agent/1"},
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
					return respond(http.StatusOK, listJSON(three, 0))
				}), func(cfg *crsapi.Config) {
					key := docKey
					key.Token = token
					cfg.Region, cfg.Credentials, cfg.UserAgent = "gz", key, "agent/1"
				})
				if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestRegionOfAPI3 checks the header and the host of the region.
func TestRegionOfAPI3(t *testing.T) {
	for name, test := range map[string]struct {
		region, endpoint string
		want, host       string
	}{
		"short, in host": {"gz", "https://redis.{region}.tencentcloudapi.com", "ap-guangzhou", "redis.ap-guangzhou.tencentcloudapi.com"},
		"unknown, twice": {"xy", "http://{region}.{region}:8080/", "xy", "xy.xy:8080"},
		"capitals":       {"XY", "https://REDIS.{region}.example/", "XY", "redis.xy.example"},
	} {
		for _, api := range bothOf3 {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				c := newClient(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
					if got := r.Header.Get("X-TC-Region"); got != test.want || r.Host != test.host || r.URL.Host != test.host || r.URL.Path != "/" {
						t.Errorf("region %q at %s, host %s", got, r.URL, r.Host)
					}
					return respond(http.StatusOK, listJSON(api, 0))
				}), func(cfg *crsapi.Config) { cfg.Region, cfg.Endpoint = test.region, test.endpoint })
				if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestUTCOffset: times of requests and responses are in the zone of the API.
func TestUTCOffset(t *testing.T) {
	at := time.Date(2017, 2, 10, 20, 26, 18, 0, time.UTC)
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		c := newClient(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
			if sent, _ := url.QueryUnescape(read(r).text); !strings.Contains(sent, "2017-02-10 16:56:18") {
				t.Errorf("sent %s", sent)
			}
			return respond(http.StatusOK, listJSON(api, 1, rowJSON(api, "endTime", `"2017-02-10 16:56:18"`)))
		}), func(cfg *crsapi.Config) { cfg.UTCOffset = -3*time.Hour - 30*time.Minute })
		p, err := c.Page(t.Context(), crsapi.Query{BeginTime: at})
		if err != nil || !p.Tasks[0].StartTime.Equal(at) || api == three && !p.Tasks[0].EndTime.Equal(at) {
			t.Errorf("%+v, %v", p, err)
		}
	})
}
