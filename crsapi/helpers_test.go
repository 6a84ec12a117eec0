package crsapi_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const two, three, tce = crsapi.API20, crsapi.API30, crsapi.APITCE

var allAPIs, bothOf3 = []crsapi.API{two, three, tce}, []crsapi.API{three, tce}

// methods are the valid Config.Method of each API.
var methods = map[crsapi.API][]string{two: {http.MethodGet, http.MethodPost}, three: {http.MethodPost}, tce: {http.MethodPost}}

// eachAPI runs a test once per API, with a fake clock.
func eachAPI(t *testing.T, test func(t *testing.T, api crsapi.API)) {
	t.Helper()
	for _, api := range allAPIs {
		t.Run(string(api), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, api) })
		})
	}
}

// eachCase runs a test once per case and API, with a fake clock.
func eachCase[C any](t *testing.T, cases map[string]C, test func(t *testing.T, api crsapi.API, c C)) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) { test(t, api, c) })
		})
	}
}

// dialect has the names in the documents of an API.
type dialect struct {
	action, host string
	total, tasks string
	members      map[string]string // by the names of API 2.0
}

var dialects = map[crsapi.API]dialect{
	two: {action: "GetRedisTaskList", host: "redis.api.qcloud.com", total: "totalCount", tasks: "redisTaskSet"},
	three: {
		action: "DescribeTaskList", host: "redis.tencentcloudapi.com", total: "TotalCount", tasks: "Tasks",
		members: map[string]string{
			"startTime": "StartTime", "taskName": "TaskType", "redisName": "InstanceName", "redisId": "InstanceId",
			"projectId": "ProjectId", "status": "Result", "progress": "Progress", "taskId": "TaskId", "endTime": "EndTime",
		},
	},
	tce: {
		action: "GetRedisTaskList", host: "redis.api3.tce.example", total: "TotalCount", tasks: "RedisTaskSets",
		members: map[string]string{
			"startTime": "StartTime", "taskName": "TaskType", "redisName": "RedisName", "redisId": "RedisId",
			"projectId": "ProjectId", "status": "Status", "progress": "Progress", "taskId": "TaskID", "endTime": "EndTime",
		},
	},
}

// rowJSON returns the task of the documented example as JSON, without a TaskID and an
// EndTime. Fields are pairs of a name of API 2.0 and a JSON value, which replace
// members, or remove them if the value is empty.
func rowJSON(api crsapi.API, fields ...string) string {
	row := map[string]string{
		"startTime": `"2017-02-10 16:56:18"`, "taskName": `"backupInstance"`, "redisName": `"for API test"`,
		"redisId": `"crs-izbob1wh"`, "projectId": `0`, "status": `2`, "progress": `1`,
	}
	if api != two {
		row["taskName"] = `"012"`
	}
	for i := 0; i < len(fields); i += 2 {
		row[fields[i]] = fields[i+1]
	}
	var members []string
	for name, value := range row {
		if own, ok := dialects[api].members[name]; ok {
			name = own
		}
		if value != "" {
			members = append(members, fmt.Sprintf("%q:%s", name, value))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func listJSON(api crsapi.API, total int, rows ...string) string {
	d, set := dialects[api], strings.Join(rows, ",")
	if api == two {
		return fmt.Sprintf(`{"code":0,"message":"","codeDesc":"Success","totalCount":%d,"data":{"redisTaskSet":[%s]}}`, total, set)
	}
	return fmt.Sprintf(`{"Response":{%q:%d,%q:[%s],"RequestId":"r"}}`, d.total, total, d.tasks, set)
}

// errorOf and errorJSON are errors of API 2.0, and envelope is one of API 3.0.
func errorOf(code any, desc, message string) string {
	return fmt.Sprintf(`{"code":%v,"message":%q,"codeDesc":%q}`, code, message, desc)
}

func errorJSON(code any) string { return errorOf(code, "Desc", "no") }

func envelope(code string) string {
	return fmt.Sprintf(`{"Response":{"Error":{"Code":%q,"Message":"m"},"RequestId":"r"}}`, code)
}

// transportFunc responds to requests without a network.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// always responds with the same body.
func always(body string) transportFunc {
	return func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, body) }
}

// A secret may contain another one, and characters that URLs escape.
const (
	canaryID    = "AKIDcanary/id+1"
	canaryKey   = "canary-key+/=2"
	canaryToken = canaryID + " token+/=3"
)

// minimalConfig sets the fields that have no default.
func minimalConfig(api crsapi.API) crsapi.Config {
	cfg := crsapi.DefaultConfig(api)
	cfg.Region, cfg.Credentials = "r", credentials.Static{SecretID: "i", SecretKey: "k"}
	if cfg.Endpoint == "" {
		cfg.Endpoint = "https://" + dialects[api].host + "/"
	}
	return cfg
}

// newClient returns a client without a rate limit, whose key is a canary.
func newClient(t testing.TB, api crsapi.API, transport http.RoundTripper, changes ...func(*crsapi.Config)) *crsapi.Client {
	t.Helper()
	cfg := minimalConfig(api)
	cfg.Region, cfg.Limiter, cfg.Transport = region, nil, transport
	cfg.Credentials = credentials.Static{SecretID: canaryID, SecretKey: canaryKey, Token: canaryToken}
	for _, change := range changes {
		change(&cfg)
	}
	c, err := crsapi.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

const region = "ap-guangzhou"

// serve returns a client of a simulator with tasks.
func serve(t testing.TB, api crsapi.API, tasks []crsapi.Task, change func(*crsapi.Config)) (*crsapi.Client, *crsapitest.Server) {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	server.SetTasks(region, tasks)
	connect := func(cfg *crsapi.Config) {
		cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
		if cfg.Endpoint = server.URL3; api == two {
			cfg.Endpoint = server.URL
		}
	}
	return newClient(t, api, server.Client().Transport, connect, change), server
}

// recorder collects the attempts of a client that sends one request at a time.
type recorder []crsapi.Attempt

func (r *recorder) in(cfg *crsapi.Config) {
	cfg.Observe = func(a crsapi.Attempt) { *r = append(*r, a) }
}

// reasons returns the reasons of the attempts, separated by spaces; ok for none.
func (r recorder) reasons() string {
	var reasons []string
	for _, a := range r {
		reasons = append(reasons, string(cmp.Or(a.Reason, "ok")))
	}
	return strings.Join(reasons, " ")
}

// repeat returns n times a reason, as recorder.reasons does.
func repeat(reason crsapi.Reason, n int) string {
	return strings.TrimSpace(strings.Repeat(string(reason)+" ", n))
}

// wantError requires an *Error with a reason.
func wantError(t *testing.T, err error, reason crsapi.Reason) *crsapi.Error {
	t.Helper()
	var failed *crsapi.Error
	if !errors.As(err, &failed) || failed.Reason != reason {
		t.Fatalf("got %v, want an *Error with reason %s", err, reason)
	}
	return failed
}

// sentRequest is a request, as the API reads it. The text is all that is sent. A secretID
// with a slash is cut.
type sentRequest struct{ secretID, signature, timestamp, body, text string }

func read(r *http.Request) sentRequest {
	body, _ := io.ReadAll(r.Body)
	authorization := r.Header.Get("Authorization")
	s := sentRequest{body: string(body), text: authorization + " " + r.URL.String() + " " + string(body)}
	if authorization == "" {
		form, _ := url.ParseQuery(r.URL.RawQuery + s.body)
		s.secretID, s.signature, s.timestamp = form.Get("SecretId"), form.Get("Signature"), form.Get("Timestamp")
		return s
	}
	_, s.signature, _ = strings.Cut(authorization, "Signature=")
	_, credential, _ := strings.Cut(authorization, "Credential=")
	s.secretID, _, _ = strings.Cut(credential, "/")
	s.timestamp = r.Header.Get("X-TC-Timestamp")
	return s
}
