package crsapitest

import (
	"cmp"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-json-experiment/json/jsontext"
)

// The bodies of the responses, with the fields, order and types of the documents'
// examples. The type of a field that a habit changes is any.
type (
	page2 struct {
		Code       int    `json:"code"`
		Message    string `json:"message"`
		CodeDesc   string `json:"codeDesc"`
		TotalCount any    `json:"totalCount,omitzero"`
		Data       data2  `json:"data"`
	}
	data2 struct {
		TotalCount   any `json:"totalCount,omitzero"`
		RedisTaskSet any `json:"redisTaskSet,omitzero"`
	}
	row2 struct {
		StartTime string  `json:"startTime"`
		TaskName  any     `json:"taskName"`
		RedisName string  `json:"redisName"`
		RedisID   string  `json:"redisId"`
		ProjectID any     `json:"projectId,omitzero"`
		Status    int     `json:"status"`
		Progress  float32 `json:"progress"`
	}

	page3 struct {
		Response response3
	}
	response3 struct {
		TotalCount    any
		RequestID     string `json:"RequestId"`
		Tasks         any    `json:",omitzero"`
		RedisTaskSets any    `json:",omitzero"` // of the private cloud
	}
	row3 struct {
		TaskID       int64 `json:"TaskId"`
		StartTime    string
		EndTime      any
		TaskType     any
		InstanceID   string `json:"InstanceId"`
		InstanceName string
		ProjectID    any `json:"ProjectId,omitzero"`
		Progress     float32
		Result       int
	}
	rowTCE struct {
		StartTime string
		TaskType  any
		RedisID   string `json:"RedisId"`
		RedisName string
		ProjectID any `json:"ProjectId,omitzero"`
		Progress  float32
		Status    int
		TaskID    int64
	}

	info3 struct {
		Status, StartTime, TaskType string
		InstanceID                  string `json:"InstanceId"`
		TaskMessage                 string
		RequestID                   string `json:"RequestId"`
	}
)

// noTime is how DescribeInstanceEvents, another action of the API, writes the
// end of an event that has not ended.
const noTime = "0000-00-00 00:00:00"

// null is the JSON value.
var null = jsontext.Value("null")

// page responds with a page of the list.
func (x *exchange) page() *response {
	q := x.query
	if x.request.API != api2 {
		q.limit = min(q.limit, maxLimit3)
		if !x.habits.has(PageNumbers) {
			q.offset -= q.offset % q.limit
		}
	}
	x.habits.changeBounds(&q)
	x.habits.changePage(&q, x.pageCap)
	rows, total := x.list.page(q, x.habits.has(OldestFirst), x.row)
	if x.habits.has(TotalOfPage) {
		total = len(rows)
	}
	if x.total != nil {
		total = x.total(total)
	}
	if x.habits.has(TotalAsText) {
		return x.pageOf(rows, strconv.Itoa(total))
	}
	return x.pageOf(rows, total)
}

// pageOf returns a page in the format of the API.
func (x *exchange) pageOf(rows []any, total any) *response {
	var set any = rows
	switch empty := len(rows) == 0; {
	case empty && x.habits.has(NullRows):
		set = null
	case empty && x.habits.has(NoRows):
		set = nil // omitted
	}
	switch x.request.API {
	case api3:
		return x.json(page3{response3{TotalCount: total, RequestID: requestID, Tasks: set}})
	case apiTCE:
		return x.json(page3{response3{TotalCount: total, RequestID: requestID, RedisTaskSets: set}})
	}
	page := page2{CodeDesc: "Success", TotalCount: total, Data: data2{RedisTaskSet: set}}
	if x.habits.has(TotalInData) {
		page.TotalCount, page.Data.TotalCount = nil, total
	}
	return x.json(page)
}

// row returns a task as a row of the API.
func (x *exchange) row(t *crsapi.Task) any {
	start := x.format(t.StartTime)
	if x.habits.has(ZeroStart) && t.Status == crsapi.StatusPending {
		start = noTime
	}
	kind, project, progress := x.taskType(t.TaskName), projectID(t.ProjectID), t.Progress
	switch x.request.API {
	case api3:
		return row3{t.TaskID, start, x.endTime(t), kind, t.RedisID, t.RedisName, project, progress, int(result3(t.Status))}
	case apiTCE:
		return rowTCE{start, kind, t.RedisID, t.RedisName, project, progress, int(t.Status), t.TaskID}
	}
	return row2{start, kind, t.RedisName, t.RedisID, project, int(t.Status), progress}
}

func (x *exchange) format(at time.Time) string { return at.In(x.zone).Format(timeLayout) }

// endTime returns the EndTime of a task. The documents do not say what it is for a
// task that has not ended.
func (x *exchange) endTime(t *crsapi.Task) any {
	switch {
	case !t.EndTime.IsZero():
		return x.format(t.EndTime)
	case x.habits.has(EmptyEnd):
		return ""
	case x.habits.has(NullEnd):
		return null
	default:
		return noTime
	}
}

// taskType returns the type of a task in the format of the API.
func (x *exchange) taskType(name string) any {
	code, ok := codes[name]
	switch v2 := x.request.API == api2; {
	case ok && x.habits.has(TypeNumber):
		return code
	case ok && x.habits.has(TypeConstant):
		return constant(code)
	case ok && x.habits.has(TypePrefix) && v2:
		return "task_" + taskName(name)
	case ok && x.habits.has(TypePrefix):
		return "FLOW_" + constant(code)
	case v2:
		return taskName(name)
	case ok:
		return codeTexts[code]
	default:
		return name
	}
}

// projectID returns an integer if id is a plain integer, nil if it is empty, and
// id otherwise.
func projectID(id string) any {
	n, err := strconv.ParseInt(id, 10, 64)
	switch {
	case id == "":
		return nil
	case err == nil && strconv.FormatInt(n, 10) == id:
		return n
	default:
		return id
	}
}

// result3Failed is the Result of a task that failed. API 2.0 has two statuses
// for it.
const result3Failed = 4

// result3 returns the Result of a status.
func result3(status crsapi.Status) crsapi.Status {
	if status == crsapi.StatusFailed || status == crsapi.StatusError {
		return result3Failed
	}
	return status
}

// taskInfo responds to DescribeTaskInfo.
func (x *exchange) taskInfo() *response {
	task, ok := x.list.task(x.query.taskID)
	if !ok {
		return envelope("InvalidParameter.InvalidParameter", "the task does not exist")(x)
	}
	message := ""
	if result3(task.Status) == result3Failed {
		message = x.sim.taskMessage(x.request.Region, task.TaskID)
	}
	return x.json(struct{ Response info3 }{info3{
		Status:      cmp.Or(statuses3[task.Status], "unknown"),
		StartTime:   x.format(task.StartTime),
		TaskType:    flowText(task.TaskName),
		InstanceID:  task.RedisID,
		TaskMessage: message,
		RequestID:   requestID,
	}})
}

// statuses3 are the Status of DescribeTaskInfo.
var statuses3 = map[crsapi.Status]string{
	crsapi.StatusPending:   "preparing",
	crsapi.StatusExecuting: "running",
	crsapi.StatusSucceeded: "succeed",
	crsapi.StatusFailed:    "failed",
	result3Failed:          "failed",
	crsapi.StatusError:     "error",
}
