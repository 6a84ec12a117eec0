package crsapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
)

// api3 is the protocol of API 3.0, with the names of one of its actions.
//
// Source: "Common Params" and "Signature Method v3" of Tencent Cloud API 3.0.
type api3 struct {
	names     names3
	endpoint  *url.URL
	userAgent string
	region    string
	zone      *time.Location
}

// names3 is what the actions that list tasks call things.
type names3 struct {
	action    string
	params    func(params3) any
	taskTypes map[string][]string // codes of a value of API.TaskTypes
	status    func(Status) int    // in a query
	format    *format
}

// params3 are the input parameters of a list. Those that are empty are not sent.
type params3 struct {
	instanceID, instanceName string
	limit, offset            int
	taskTypes                []string
	beginTime, endTime       string
	statuses                 []int
}

// describeTaskList is DescribeTaskList of API 3.0. A backup of API 2.0 is one of
// two types there: by hand, or automatic.
//
// Source: "DescribeTaskList" of redis 2018-04-12.
var describeTaskList = names3{
	action: "DescribeTaskList",
	params: func(p params3) any {
		return struct {
			InstanceID   string `json:"InstanceId,omitempty"`
			InstanceName string `json:",omitempty"`
			Limit        int
			Offset       int
			TaskTypes    []string `json:",omitempty"`
			BeginTime    string   `json:",omitempty"`
			EndTime      string   `json:",omitempty"`
			Result       []int    `json:",omitempty"`
		}{p.instanceID, p.instanceName, p.limit, p.offset, p.taskTypes, p.beginTime, p.endTime, p.statuses}
	},
	taskTypes: map[string][]string{
		"task_exportBackup":   {"009"},
		"task_restoreBackup":  {"010"},
		"task_backupInstance": {"012", "017"},
		"task_cleanInstance":  {"004"},
		"task_resizeInstance": {"002"},
	},
	status: func(s Status) int {
		if s == StatusFailed {
			return resultFailed
		}
		return int(s)
	},
	format: &format{
		envelope: "Response",
		total:    "TotalCount",
		tasks:    "Tasks",
		members: map[string]member{
			"TaskId":       memberTaskID,
			"StartTime":    memberStartTime,
			"EndTime":      memberEndTime,
			"TaskType":     memberTaskName,
			"InstanceId":   memberRedisID,
			"InstanceName": memberRedisName,
			"ProjectId":    memberProjectID,
			"Progress":     memberProgress,
			"Result":       memberStatus,
		},
		taskNames: taskNames,
		// The document does not have the numbers of the other two statuses.
		statuses: map[Status]Status{resultFailed: StatusFailed, StatusFailed: statusUnknown, StatusError: statusUnknown},
	},
}

// resultFailed is the Result of DescribeTaskList for a task that failed. API 2.0
// has two statuses for it, failed and error.
const resultFailed = 4

// privateCloud is GetRedisTaskList of the vendor's private cloud (TCE).
//
// Source: models.py of the private cloud's SDK (redis 2018-04-12).
var privateCloud = names3{
	action: "GetRedisTaskList",
	params: func(p params3) any {
		var status *int
		if len(p.statuses) > 0 {
			status = &p.statuses[0]
		}
		return struct {
			RedisID    string `json:"RedisId,omitempty"`
			RedisName  string `json:",omitempty"`
			Limit      int
			Offset     int
			TaskTypes  []string `json:",omitempty"`
			BeginTime  string   `json:",omitempty"`
			EndTime    string   `json:",omitempty"`
			TaskStatus *int     `json:",omitempty"`
		}{p.instanceID, p.instanceName, p.limit, p.offset, p.taskTypes, p.beginTime, p.endTime, status}
	},
	taskTypes: map[string][]string{
		"task_importRdb":      {"008"},
		"task_exportBackup":   {"009"},
		"task_restoreBackup":  {"010"},
		"task_restoreStream":  {"011"},
		"task_backupInstance": {"012"},
		"task_cleanInstance":  {"004"},
		"task_resizeInstance": {"002"},
	},
	status: func(s Status) int { return int(s) },
	format: &format{
		envelope: "Response",
		total:    "TotalCount",
		tasks:    "RedisTaskSets",
		members: map[string]member{
			"TaskID":    memberTaskID,
			"StartTime": memberStartTime,
			"TaskType":  memberTaskName,
			"RedisId":   memberRedisID,
			"RedisName": memberRedisName,
			"ProjectId": memberProjectID,
			"Progress":  memberProgress,
			"Status":    memberStatus,
		},
		taskNames: taskNames,
	},
}

func (a *api3) list(q Query) call {
	p := params3{
		instanceID: q.RedisID, instanceName: q.RedisName, limit: q.Limit, offset: q.Offset,
		beginTime: a.time(q.BeginTime), endTime: a.time(q.EndTime),
	}
	for _, t := range q.TaskTypes {
		p.taskTypes = append(p.taskTypes, a.names.taskTypes[t]...)
	}
	for _, s := range q.Statuses {
		p.statuses = append(p.statuses, a.names.status(s))
	}
	return a.call(a.names.action, a.names.format, a.names.params(p))
}

// ActionTaskInfo is the action of Client.TaskMessage.
const ActionTaskInfo = "DescribeTaskInfo"

// taskInfo returns the request for the details of one task.
//
// Source: "DescribeTaskInfo" of redis 2018-04-12.
func (a *api3) taskInfo(id int64) call {
	params := struct {
		TaskID int64 `json:"TaskId"`
	}{id}
	return a.call(ActionTaskInfo, &format{envelope: "Response", text: "TaskMessage"}, params)
}

// time returns a parameter, which is empty for no limit.
func (a *api3) time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(a.zone).Format(timeLayout)
}

func (a *api3) call(action string, format *format, params any) call {
	// Numbers and strings always have a JSON form.
	body, _ := json.Marshal(params)
	return call{
		action: action,
		format: format,
		sign: func(ctx context.Context, key credentials.Key) (*http.Request, string) {
			return a.request(ctx, action, body, key)
		},
	}
}

// request returns a request with a body, and its signature.
func (a *api3) request(ctx context.Context, action string, body []byte, key credentials.Key) (*http.Request, string) {
	const contentType = "application/json"
	now := time.Now()
	authorization, signature := tc3.Sign(tc3.Request{
		Service: "redis", Host: a.endpoint.Host, ContentType: contentType, Payload: body, Time: now,
	}, key.SecretID, string(key.SecretKey))

	header := newHeader(a.userAgent)
	header.Set("Content-Type", contentType)
	header.Set("Authorization", authorization)
	header.Set("X-TC-Action", action)
	header.Set("X-TC-Version", "2018-04-12")
	header.Set("X-TC-Timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("X-TC-Region", a.region)
	header.Set("X-TC-Language", "en-US") // of error messages
	if key.Token != "" {
		header.Set("X-TC-Token", string(key.Token))
	}
	return newRequest(ctx, http.MethodPost, a.endpoint, header, body), signature
}
