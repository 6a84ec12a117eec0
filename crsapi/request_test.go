package crsapi_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestParameters(t *testing.T) {
	const api = crsapi.API20
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			var form url.Values
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != method {
					t.Errorf("method %s", r.Method)
				}
				if r.UserAgent() != "agent/1" {
					t.Errorf("User-Agent %q", r.UserAgent())
				}
				if method == http.MethodPost && r.URL.RawQuery != "" {
					t.Errorf("a POST with the query %q", r.URL.RawQuery)
				}
				_ = r.ParseForm()
				form = r.Form
				_, _ = io.WriteString(w, listJSON(api, 0))
			}))
			defer server.Close()
			c := newTestClient(t, api, func(cfg *crsapi.Config) {
				cfg.Endpoint, cfg.Method, cfg.UserAgent = server.URL+"/v2/index.php", method, "agent/1"
			})
			_, err := c.Page(t.Context(), crsapi.Query{
				Limit: 10, Offset: 20, RedisID: "crs-1", RedisName: "for API test",
				BeginTime: time.Date(2016, 12, 27, 16, 3, 52, 0, time.UTC),
				EndTime:   time.Date(2017, 2, 10, 16, 3, 52, 0, time.UTC),
				Statuses:  []crsapi.Status{crsapi.StatusSucceeded, crsapi.StatusError}, TaskTypes: crsapi.API20.TaskTypes()[:2],
			})
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{
				"Action": "GetRedisTaskList", "Region": "ap-guangzhou", "SecretId": canaryID, "Token": canaryToken,
				"SignatureMethod": "HmacSHA256", "limit": "10", "offset": "20", "redisId": "crs-1",
				"redisName": "for API test", "beginTime": "2016-12-28 00:03:52", "endTime": "2017-02-11 00:03:52",
				"taskStatus.0": "2", "taskStatus.1": "-1", "taskType.0": "task_importRdb", "taskType.1": "task_exportBackup",
			} {
				if got := form.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
				form.Del(name)
			}
			for _, name := range []string{"Nonce", "Timestamp", "Signature"} {
				if form.Get(name) == "" {
					t.Errorf("no %s", name)
				}
				form.Del(name)
			}
			if len(form) > 0 {
				t.Errorf("unexpected parameters: %v", form)
			}
		})
	}
}

func TestQueryValidation(t *testing.T) {
	status := func(s ...crsapi.Status) crsapi.Query { return crsapi.Query{Statuses: s} }
	types := func(s ...string) crsapi.Query { return crsapi.Query{TaskTypes: s} }
	two, three, tce := crsapi.API20, crsapi.API30, crsapi.APITCE
	for name, test := range map[string]struct {
		query crsapi.Query
		want  map[crsapi.API]string // errors after "query: "; the query is valid for the other APIs
	}{
		"zero value":     {crsapi.Query{}, nil},
		"negative limit": {crsapi.Query{Limit: -1}, map[crsapi.API]string{two: "invalid Limit: must not be negative", three: "invalid Limit: must not be negative", tce: "invalid Limit: must not be negative"}},
		"negative offset": {crsapi.Query{Offset: -1}, map[crsapi.API]string{
			two: "invalid Offset: must not be negative", three: "invalid Offset: must not be negative", tce: "invalid Offset: must not be negative",
		}},
		"limit 100":  {crsapi.Query{Limit: 100}, nil},
		"limit 101":  {crsapi.Query{Limit: 101}, map[crsapi.API]string{three: "invalid Limit: must not be above 100", tce: "invalid Limit: must not be above 100"}},
		"limit 1000": {crsapi.Query{Limit: 1000}, map[crsapi.API]string{three: "invalid Limit: must not be above 100", tce: "invalid Limit: must not be above 100"}},
		"limit 1001": {crsapi.Query{Limit: 1001}, map[crsapi.API]string{
			two: "invalid Limit: must not be above 1000", three: "invalid Limit: must not be above 100", tce: "invalid Limit: must not be above 100",
		}},
		"pending": {status(crsapi.StatusPending), nil},
		"failed":  {status(crsapi.StatusFailed), nil},
		"error":   {status(crsapi.StatusError), map[crsapi.API]string{three: "API 3.0 cannot filter by status -1"}},
		"two statuses": {status(crsapi.StatusPending, crsapi.StatusFailed), map[crsapi.API]string{
			tce: "the private cloud cannot filter by more than one status",
		}},
		"status 4": {status(4), map[crsapi.API]string{
			two: "API 2.0 cannot filter by status 4", three: "API 3.0 cannot filter by status 4", tce: "API tce cannot filter by status 4",
		}},
		"status -2 after another": {status(crsapi.StatusPending, -2), map[crsapi.API]string{
			two: "API 2.0 cannot filter by status -2", three: "API 3.0 cannot filter by status -2",
			tce: "the private cloud cannot filter by more than one status",
		}},
		"backup": {types("task_backupInstance"), nil},
		"importRdb": {types("task_importRdb"), map[crsapi.API]string{
			three: `API 3.0 has no task type "task_importRdb"`,
		}},
		"restoreStream": {types("task_backupInstance", "task_restoreStream"), map[crsapi.API]string{
			three: `API 3.0 has no task type "task_restoreStream"`,
		}},
		"task name": {types("backupInstance"), map[crsapi.API]string{
			two: `API 2.0 has no task type "backupInstance"`, three: `API 3.0 has no task type "backupInstance"`, tce: `API tce has no task type "backupInstance"`,
		}},
		"code": {types("012"), map[crsapi.API]string{
			two: `API 2.0 has no task type "012"`, three: `API 3.0 has no task type "012"`, tce: `API tce has no task type "012"`,
		}},
		"one of two types": {types("task_backupInstance", "task_"), map[crsapi.API]string{
			two: `API 2.0 has no task type "task_"`, three: `API 3.0 has no task type "task_"`, tce: `API tce has no task type "task_"`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				want, invalid := test.want[api]
				sent := 0
				c := newTestClient(t, api, func(cfg *crsapi.Config) {
					cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
						sent++
						return respond(http.StatusOK, listJSON(api, 0))
					})
				})
				_, err := c.Page(t.Context(), test.query)
				switch {
				case !invalid && (err != nil || sent != 1):
					t.Errorf("got %v with %d requests, want no error", err, sent)
				case invalid && (err == nil || err.Error() != "query: "+want || sent != 0):
					t.Errorf("got %v with %d requests, want query: %s", err, sent, want)
				}
			})
		})
	}
}

// TestTaskTypes checks that no caller can change the types of another.
func TestTaskTypes(t *testing.T) {
	for api, want := range map[crsapi.API]string{
		crsapi.API20:  "task_importRdb task_exportBackup task_restoreBackup task_restoreStream task_backupInstance task_cleanInstance task_resizeInstance",
		crsapi.API30:  "task_exportBackup task_restoreBackup task_backupInstance task_cleanInstance task_resizeInstance",
		crsapi.APITCE: "task_importRdb task_exportBackup task_restoreBackup task_restoreStream task_backupInstance task_cleanInstance task_resizeInstance",
	} {
		clear(api.TaskTypes())
		if got := strings.Join(api.TaskTypes(), " "); got != want {
			t.Errorf("API %s has %s", api, got)
		}
	}
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

// TestSignatureOfAPI2 checks signature2 with vectors, of the documents, of the vendor's
// SDK and computed, and the client with signature2.
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
		"Te1WWg6K0nV83NexWUHvg4By+9Heg9w/8I8/BireGv8=": {key, "GET", "redis.api.qcloud.com", map[string]string{
			"Action": "GetRedisTaskList", "Nonce": "11886", "Region": "ap-guangzhou", "SecretId": id, "SignatureMethod": "HmacSHA256",
			"Timestamp": "1465185768", "beginTime": "2016-12-28 00:03:52", "endTime": "2017-02-11 00:03:52", "limit": "10", "offset": "0",
			"redisId": "crs-izbob1wh", "redisName": "for API test", "taskStatus.0": "2",
			"taskType.0": "task_restoreBackup", "taskType.1": "task_backupInstance", "taskType.2": "task_cleanInstance",
		}},
	} {
		if got := signature2(vector.key, vector.method, vector.host, vector.params); got != want {
			t.Errorf("signature2 is %s, want %s", got, want)
		}
	}
	all := crsapi.API20.TaskTypes()
	for name, q := range map[string]crsapi.Query{
		"plain":          {},
		"everything":     {RedisID: "crs-1", RedisName: "for 测试 a&b=c+d", BeginTime: time.Unix(1e9, 0), EndTime: time.Unix(2e9, 0), Statuses: crsapi.API20.StatusFilters(), TaskTypes: slices.Concat(all, all)},
		"like an upload": {RedisName: "@file"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+"/"+method, func(t *testing.T) {
				c := newTestClient(t, crsapi.API20, func(cfg *crsapi.Config) {
					cfg.Method = method
					cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
						sent := read(r)
						if want := signature2(canaryKey, method, "redis.api.qcloud.com", sent.params); sent.signature != want || r.Method != method {
							t.Errorf("%s with signature %s, want %s", r.Method, sent.signature, want)
						}
						return respond(http.StatusOK, listJSON(crsapi.API20, 0))
					})
				})
				if _, err := c.Page(t.Context(), q); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
