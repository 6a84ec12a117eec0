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
	API30  API = "3.0" // DescribeTaskList of API 3.0, the successor
	APITCE API = "tce" // GetRedisTaskList of the vendor's private cloud, with the protocol of API 3.0
)

// dialect has the names, numbers and limits of one API.
type dialect struct {
	action    string
	names     [8]string           // of the parameters, in the order of the fields of Query
	types     map[string][]string // codes of the values of Query.TaskTypes; nil if the API uses the values
	oneStatus bool                // the status filter is one number, not a list
	failed    int                 // number of StatusFailed
	maxPage   int
	// Defaults of Config. The rate is in requests per second.
	endpoint, method string
	rate             float64
	v2               bool // protocol of API 2.0, otherwise 3.0
}

// Sources: "GetRedisTaskList" of API 2.0, which lists redisId twice (the second one
// is a misprint of redisName, as its example shows); "DescribeTaskList" of redis
// 2018-04-12; models.py of the private cloud's SDK.
var dialects = map[API]*dialect{
	API20: {
		action: "GetRedisTaskList",
		names:  [8]string{"limit", "offset", "redisId", "redisName", "beginTime", "endTime", "taskStatus", "taskType"},
		failed: 3, maxPage: 1000, v2: true, // no maximum is documented; this one is a limit of the client
		endpoint: "https://redis.api.qcloud.com/v2/index.php", method: http.MethodGet,
		rate: 20, // the quota is not documented; most actions of API 3.0 have this one
	},
	API30: {
		action: "DescribeTaskList",
		names:  [8]string{"Limit", "Offset", "InstanceId", "InstanceName", "BeginTime", "EndTime", "Result", "TaskTypes"},
		types: map[string][]string{ // backups are manual or automatic
			"task_exportBackup": {"009"}, "task_restoreBackup": {"010"}, "task_backupInstance": {"012", "017"},
			"task_cleanInstance": {"004"}, "task_resizeInstance": {"002"},
		},
		failed: 4, maxPage: 100,
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
		oneStatus: true, failed: 3, maxPage: 100,
		method: http.MethodPost, rate: 50,
	},
}

// TaskTypes returns the valid values of Query.TaskTypes. They are task names of
// API 2.0 with the prefix "task_", which the names in responses do not have. API 3.0
// has five of the seven. Its other task types cannot be filtered.
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

// MaxPageSize returns the maximum of Config.PageSize and Query.Limit, in tasks. It
// panics if the API is not one of the constants.
func (a API) MaxPageSize() int { return dialects[a].maxPage }

// params returns the parameters of a request for a list. The times are in zone.
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
	if len(statuses) > 0 {
		p[d.names[6]] = statuses
		if d.oneStatus {
			p[d.names[6]] = statuses[0]
		}
	}
	types := q.TaskTypes
	if d.types != nil {
		types = nil
		for _, t := range q.TaskTypes {
			types = append(types, d.types[t]...)
		}
	}
	if len(types) > 0 {
		p[d.names[7]] = types
	}
	return p
}

// formatTime returns "" for the zero time.
func formatTime(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return ""
	}
	return t.In(zone).Format(timeLayout)
}

// status returns the Status for a number of this API. API 3.0 does not use the
// numbers 3 and -1 of the others; there they are unknown.
func (d *dialect) status(n Status) Status {
	switch {
	case n == Status(d.failed):
		return StatusFailed
	case n == StatusFailed, n == StatusError && d.failed != int(StatusFailed):
		return statusUnknown
	}
	return n
}
