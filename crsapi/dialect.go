package crsapi

import (
	"net/http"
	"slices"
	"time"
)

// API is one of the vendor's interfaces to the task list.
type API string

// The APIs.
const (
	API20  API = "2.0" // GetRedisTaskList of API 2.0, which the vendor retires
	API30  API = "3.0" // DescribeTaskList of API 3.0, its successor
	APITCE API = "tce" // GetRedisTaskList of the vendor's private cloud, with the protocol of API 3.0
)

// dialect is what an API calls things.
type dialect struct {
	action  string
	names   [8]string           // of the members of Query, in their order
	types   map[string][]string // codes of the values of TaskTypes; nil if the API takes the values
	filters []Status            // can be combined; none if the API takes only one
	failed  int                 // number of StatusFailed
	maxPage int
	// Defaults of Config; the rate is in requests per second.
	endpoint, method string
	rate             float64
	v2               bool // the protocol of API 2.0, else 3.0
}

// Source: "GetRedisTaskList" of API 2.0, which lists redisId twice (the second is a
// misprint of redisName, as its example shows); "DescribeTaskList" of redis
// 2018-04-12; models.py of the private cloud's SDK.
var dialects = map[API]*dialect{
	API20: {
		action:  "GetRedisTaskList",
		names:   [8]string{"limit", "offset", "redisId", "redisName", "beginTime", "endTime", "taskStatus", "taskType"},
		filters: []Status{StatusPending, StatusExecuting, StatusSucceeded, StatusFailed, StatusError},
		failed:  3, maxPage: 1000, v2: true, // no maximum is documented; this one is a bound of the client
		endpoint: "https://redis.api.qcloud.com/v2/index.php", method: http.MethodGet,
		rate: 20, // the quota is not documented; most actions of API 3.0 have this one
	},
	API30: {
		action:  "DescribeTaskList",
		names:   [8]string{"Limit", "Offset", "InstanceId", "InstanceName", "BeginTime", "EndTime", "Result", "TaskTypes"},
		filters: []Status{StatusPending, StatusExecuting, StatusSucceeded, StatusFailed},
		types: map[string][]string{ // a backup is by hand, or automatic
			"task_exportBackup": {"009"}, "task_restoreBackup": {"010"}, "task_backupInstance": {"012", "017"},
			"task_cleanInstance": {"004"}, "task_resizeInstance": {"002"},
		},
		failed: resultFailed, maxPage: 100,
		endpoint: "https://redis.tencentcloudapi.com/", method: http.MethodPost,
		rate: 50, // half of the quota
	},
	APITCE: {
		action: "GetRedisTaskList",
		names:  [8]string{"Limit", "Offset", "RedisId", "RedisName", "BeginTime", "EndTime", "TaskStatus", "TaskTypes"},
		types: map[string][]string{
			"task_importRdb": {"008"}, "task_exportBackup": {"009"}, "task_restoreBackup": {"010"}, "task_restoreStream": {"011"},
			"task_backupInstance": {"012"}, "task_cleanInstance": {"004"}, "task_resizeInstance": {"002"},
		},
		failed: 3, maxPage: 100,
		method: http.MethodPost, rate: 50,
	},
}

// resultFailed is the Result of DescribeTaskList for a task that failed. API 2.0
// has two statuses for it, failed and error.
const resultFailed = 4

// TaskTypes returns the valid values of Query.TaskTypes. They are task names of
// API 2.0 with the prefix "task_", which names in responses do not have. API 3.0
// has five of the seven, and the names that only it has cannot be asked for.
func (a API) TaskTypes() []string {
	types := []string{
		"task_importRdb", "task_exportBackup", "task_restoreBackup", "task_restoreStream",
		"task_backupInstance", "task_cleanInstance", "task_resizeInstance",
	}
	if d := dialects[a]; d != nil && d.types != nil {
		types = slices.DeleteFunc(types, func(t string) bool { return d.types[t] == nil })
	}
	return types
}

// MaxPageSize returns the highest Config.PageSize and Query.Limit.
func (a API) MaxPageSize() int { return dialects[a].maxPage }

// params returns the parameters of a list.
func (d *dialect) params(q Query, zone *time.Location) map[string]any {
	p := map[string]any{d.names[0]: q.Limit, d.names[1]: q.Offset}
	for i, value := range []string{q.RedisID, q.RedisName, formatTime(q.BeginTime, zone), formatTime(q.EndTime, zone)} {
		if value != "" {
			p[d.names[2+i]] = value
		}
	}
	var statuses []int
	for _, s := range q.Statuses {
		if s == StatusFailed {
			s = Status(d.failed)
		}
		statuses = append(statuses, int(s))
	}
	switch {
	case len(statuses) == 0:
	case d.filters == nil:
		p[d.names[6]] = statuses[0]
	default:
		p[d.names[6]] = statuses
	}
	var types []string
	for _, t := range q.TaskTypes {
		if d.types == nil {
			types = append(types, t)
		}
		types = append(types, d.types[t]...)
	}
	if len(types) > 0 {
		p[d.names[7]] = types
	}
	return p
}

// formatTime returns "" for no limit.
func formatTime(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return ""
	}
	return t.In(zone).Format(timeLayout)
}

// status returns the Status of a number. Documented numbers of another API are
// unknown in this one.
func (d *dialect) status(n Status) Status {
	switch {
	case n == Status(d.failed):
		return StatusFailed
	case d.failed != int(StatusFailed) && (n == StatusFailed || n == StatusError):
		return statusUnknown
	}
	return n
}
