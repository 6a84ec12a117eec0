package crsapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
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

func TestInvalidQuery(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
				t.Error("a request was sent")
				return respond(500, "")
			})
		})
		for name, q := range map[string]crsapi.Query{
			"negative limit":   {Limit: -1},
			"negative offset":  {Offset: -1},
			"task name":        {TaskTypes: []string{"backupInstance"}},
			"unknown type":     {TaskTypes: []string{"task_upgradeArch"}},
			"one of two types": {TaskTypes: []string{"task_importRdb", "task_"}},
		} {
			t.Run(name, func(t *testing.T) {
				if _, err := c.Page(t.Context(), q); err == nil || !strings.HasPrefix(err.Error(), "query: ") {
					t.Errorf("got %v", err)
				}
			})
		}
	})
}
