package crsapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
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

// eachAPI runs a test once per API.
func eachAPI(t *testing.T, test func(t *testing.T, api crsapi.API)) {
	t.Helper()
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		t.Run(string(api), func(t *testing.T) { test(t, api) })
	}
}

// dialect is what the documents of an API call things.
type dialect struct {
	action, host string
	total, tasks string
	members      map[string]string // by the names of API 2.0
	failed       int               // the status of a task that failed
}

var dialects = map[crsapi.API]dialect{
	crsapi.API20: {
		action: "GetRedisTaskList", host: "redis.api.qcloud.com", total: "totalCount", tasks: "redisTaskSet", failed: 3,
	},
	crsapi.API30: {
		action: "DescribeTaskList", host: "redis.tencentcloudapi.com", total: "TotalCount", tasks: "Tasks", failed: 4,
		members: map[string]string{
			"startTime": "StartTime", "taskName": "TaskType", "redisName": "InstanceName", "redisId": "InstanceId",
			"projectId": "ProjectId", "status": "Result", "progress": "Progress", "taskId": "TaskId", "endTime": "EndTime",
		},
	},
	crsapi.APITCE: {
		action: "GetRedisTaskList", host: "redis.api3.tce.example", total: "TotalCount", tasks: "RedisTaskSets", failed: 3,
		members: map[string]string{
			"startTime": "StartTime", "taskName": "TaskType", "redisName": "RedisName", "redisId": "RedisId",
			"projectId": "ProjectId", "status": "Status", "progress": "Progress", "taskId": "TaskID", "endTime": "EndTime",
		},
	},
}

// rowJSON returns the task of the documented example as JSON, without a TaskID
// and an EndTime. Fields are pairs of a name of API 2.0 and a JSON value that
// replace members, or remove them if the value is empty.
func rowJSON(api crsapi.API, fields ...string) string {
	row := map[string]string{
		"startTime": `"2017-02-10 16:56:18"`, "taskName": `"backupInstance"`, "redisName": `"for API test"`,
		"redisId": `"crs-izbob1wh"`, "projectId": `0`, "status": `2`, "progress": `1`,
	}
	if api != crsapi.API20 {
		row["taskName"] = `"012"`
	}
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			delete(row, fields[i])
		} else {
			row[fields[i]] = fields[i+1]
		}
	}
	var members []string
	for name, value := range row {
		if own, ok := dialects[api].members[name]; ok {
			name = own
		}
		members = append(members, fmt.Sprintf("%q:%s", name, value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func listJSON(api crsapi.API, total int, rows ...string) string {
	d, set := dialects[api], strings.Join(rows, ",")
	if api == crsapi.API20 {
		return fmt.Sprintf(`{"code":0,"message":"","codeDesc":"Success","totalCount":%d,"data":{"redisTaskSet":[%s]}}`, total, set)
	}
	return fmt.Sprintf(`{"Response":{%q:%d,%q:[%s],"RequestId":"r"}}`, d.total, total, d.tasks, set)
}

// newTestClient returns a client without a rate limit whose key is a canary.
func newTestClient(t testing.TB, api crsapi.API, change func(*crsapi.Config)) *crsapi.Client {
	t.Helper()
	cfg := minimalConfig(api)
	cfg.Region, cfg.Limiter = "ap-guangzhou", nil
	cfg.Credentials = credentials.Static{SecretID: canaryID, SecretKey: canaryKey, Token: canaryToken}
	change(&cfg)
	c, err := crsapi.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// minimalConfig sets the fields that have no default.
func minimalConfig(api crsapi.API) crsapi.Config {
	cfg := crsapi.DefaultConfig(api)
	cfg.Region, cfg.Credentials = "r", credentials.Static{SecretID: "i", SecretKey: "k"}
	if cfg.Endpoint == "" {
		cfg.Endpoint = "https://" + dialects[api].host + "/"
	}
	return cfg
}

// sentRequest is a request as the API reads it.
type sentRequest struct {
	params                         map[string]string // JSON under API 3.0
	secretID, signature, timestamp string
	body, text                     string // text is everything that is sent
}

// param returns a parameter of each API, by its name of API 3.0.
func (s sentRequest) param(name string) string {
	if value, ok := s.params[name]; ok {
		return value
	}
	return s.params[strings.ToLower(name[:1])+name[1:]]
}

func (s sentRequest) int(name string) int {
	n, _ := strconv.Atoi(s.param(name))
	return n
}

// read reads a request.
func read(r *http.Request) sentRequest {
	body, _ := io.ReadAll(r.Body)
	s := sentRequest{params: map[string]string{}, body: string(body)}
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		var object map[string]json.RawMessage
		_ = json.Unmarshal(body, &object)
		for name, value := range object {
			s.params[name] = string(value)
		}
		_, s.signature, _ = strings.Cut(authorization, "Signature=")
		_, credential, _ := strings.Cut(authorization, "Credential=")
		// The canary has a slash, and the scope has three.
		parts := strings.Split(strings.Split(credential, ",")[0], "/")
		s.secretID = strings.Join(parts[:len(parts)-3], "/")
		s.timestamp = r.Header.Get("X-TC-Timestamp")
		s.text = authorization + " " + s.body
		return s
	}
	form := r.URL.Query()
	if len(body) > 0 {
		form, _ = url.ParseQuery(s.body)
	}
	for name := range form {
		s.params[name] = form.Get(name)
	}
	s.secretID, s.signature, s.timestamp = form.Get("SecretId"), form.Get("Signature"), form.Get("Timestamp")
	s.text = form.Encode()
	return s
}

// asListed returns a task of the simulator as an API lists it, without its
// TaskID.
func asListed(api crsapi.API, task crsapi.Task) crsapi.Task {
	task.TaskID = 0
	if api != crsapi.API30 {
		task.EndTime = time.Time{}
	} else if task.Status == crsapi.StatusError {
		task.Status = crsapi.StatusFailed
	}
	return task
}

// readAll reads the tasks of a query page by page, of a list at rest.
func readAll(t *testing.T, c *crsapi.Client, q crsapi.Query) (tasks []crsapi.Task, err error) {
	for {
		p, err := c.Page(t.Context(), q)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, p.Tasks...)
		q.Offset += len(p.Tasks)
		if len(p.Tasks) == 0 || q.Offset >= p.TotalCount {
			return tasks, nil
		}
	}
}

const region = "ap-guangzhou"

// serve returns a client of a simulator that serves tasks.
func serve(t testing.TB, api crsapi.API, tasks []crsapi.Task, change func(*crsapi.Config)) (*crsapi.Client, *crsapitest.Server) {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	server.SetTasks(region, tasks)
	cfg := crsapi.DefaultConfig(api)
	cfg.Region, cfg.Limiter = region, nil
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	cfg.Endpoint, cfg.Transport = server.URL3, server.Client().Transport
	if api == crsapi.API20 {
		cfg.Endpoint = server.URL
	}
	if change != nil {
		change(&cfg)
	}
	client, err := crsapi.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

type bag map[crsapi.Task]int

// bagOf returns tasks as an API lists them, without their TaskIDs.
func bagOf(api crsapi.API, tasks iter.Seq[crsapi.Task]) bag {
	b := bag{}
	for task := range tasks {
		b[asListed(api, task)]++
	}
	return b
}

// TestRateLimitHoldsBehindAFullHouse has requests wait for a slot: what the
// limit let pass meanwhile must not go out at once when slots come free.
func TestRateLimitHoldsBehindAFullHouse(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var at []time.Time
			c, server := serve(t, api, crsapitest.DocumentExample(), func(cfg *crsapi.Config) { cfg.Limiter = crsapi.NewLimiter(20) })
			server.OnRequest(func(crsapitest.Request) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Now())
			})
			server.Inject(crsapitest.Fault{Count: 8, Do: crsapitest.Latency(1500 * time.Millisecond)})
			var pages sync.WaitGroup
			for range 40 {
				pages.Go(func() {
					if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
						t.Error(err)
					}
				})
			}
			pages.Wait()
			for i := range at {
				if j := i + 21; j < len(at) && at[j].Sub(at[i]) < time.Second {
					t.Fatalf("22 requests within %v", at[j].Sub(at[i]))
				}
			}
		})
	})
}
