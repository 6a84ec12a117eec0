package crsapitest

import (
	"slices"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// noTime is how DescribeInstanceEvents, another action of the API, writes the
// end of an event that has not ended.
const noTime = `"0000-00-00 00:00:00"`

// object writes the fields of a JSON object.
type object struct {
	b     []byte
	null  []string // fields to write as null
	begun bool
}

// field writes a name, and reports whether its value must follow.
func (o *object) field(name string) bool {
	if o.begun {
		o.b = append(o.b, ',')
	}
	o.begun = true
	o.b = append(o.b, '"')
	o.b = append(o.b, name...)
	o.b = append(o.b, `":`...)
	if slices.Contains(o.null, name) {
		o.b = append(o.b, "null"...)
		return false
	}
	return true
}

func (o *object) string(name, value string) {
	if o.field(name) {
		o.b = appendString(o.b, value)
	}
}

func (o *object) int(name string, value int64) {
	if o.field(name) {
		o.b = strconv.AppendInt(o.b, value, 10)
	}
}

func (o *object) time(name string, at time.Time, zone *time.Location) {
	if o.field(name) {
		o.b = append(o.b, '"')
		o.b = at.In(zone).AppendFormat(o.b, timeLayout)
		o.b = append(o.b, '"')
	}
}

// appendTask3 appends a row of API 3.0, with the order of the documents.
func (e rowEncoder) appendTask3(b []byte, t *crsapi.Task) []byte {
	o := object{b: append(b, '{'), null: e.null}
	tce := e.dialect.api == apiTCE
	if !tce {
		o.int(e.dialect.taskID, t.TaskID)
	}
	if o.field("StartTime") {
		o.b = e.appendStart(o.b, t)
	}
	switch {
	case tce:
	case !t.EndTime.IsZero():
		o.time("EndTime", t.EndTime, e.zone)
	case e.endTime != "" && o.field("EndTime"):
		o.b = append(o.b, e.endTime...)
	}
	if o.field("TaskType") {
		o.b = e.appendType(o.b, t.TaskName)
	}
	o.string(e.dialect.instanceID, t.RedisID)
	o.string(e.dialect.instanceName, t.RedisName)
	if t.ProjectID != "" && o.field("ProjectId") {
		o.b = appendProjectID(o.b, t.ProjectID)
	}
	if o.field("Progress") {
		o.b = e.appendProgress(o.b, t.Progress)
	}
	if tce {
		o.int(e.dialect.status, int64(t.Status))
		o.int(e.dialect.taskID, t.TaskID)
	} else {
		o.int(e.dialect.status, int64(result3(t.Status)))
	}
	return append(o.b, '}')
}

// appendEnvelope appends an error of API 3.0.
func appendEnvelope(b []byte, code, message string) []byte {
	b = append(b, `{"Response":{"Error":{"Code":`...)
	b = appendString(b, code)
	b = append(b, `,"Message":`...)
	b = appendString(b, message)
	return append(b, `},"RequestId":"`+requestID3+`"}}`...)
}

func renderRefusal3(e *refusal3) render {
	return func(x *exchange, p *reply) {
		p.setJSON()
		p.name = &e.code
		p.body = appendEnvelope(p.body, e.code, e.message+x.secrets())
	}
}

// renderPage3 writes a page of API 3.0, with the faults of the exchange.
func renderPage3(x *exchange, p *reply) {
	buf := x.sim.buffer()
	defer x.sim.buffers.Put(buf)
	rows, format, total := x.page((*buf)[:0])
	*buf = rows

	p.setJSON()
	p.code, p.name = new(int), new(string)
	p.body = append(p.body, `{"Response":`...)
	if format.Response != nil {
		p.body = append(p.body, *format.Response...)
	} else {
		o := object{b: append(p.body, '{'), null: format.Null}
		if o.field("TotalCount") {
			o.b = appendInt(o.b, total, format.StringTotal)
		}
		o.string("RequestId", requestID3)
		switch set := format.TaskSet; {
		case set == nil:
			if o.field(x.dialect.tasks) {
				o.b = append(o.b, '[')
				o.b = append(o.b, rows...)
				o.b = append(o.b, ']')
			}
		case *set != "":
			if o.field(x.dialect.tasks) {
				o.b = append(o.b, *set...)
			}
		}
		o.b = append(o.b, '}')
		p.body = o.b
	}
	p.body = append(p.body, '}')
}

// renderInfo3 writes the response of DescribeTaskInfo.
func renderInfo3(x *exchange, p *reply) {
	x.list.giveIDs()
	task, version, ok := x.list.task(x.query.taskID, x.age)
	x.sawList(version)
	if !ok {
		renderRefusal3(refuse3("InvalidParameter.InvalidParameter", "the task does not exist"))(x, p)
		return
	}
	message := ""
	if result3(task.Status) == result3Failed {
		message = x.sim.taskMessage(x.regionName, task.TaskID)
	}

	p.setJSON()
	p.code, p.name = new(int), new(string)
	o := object{b: append(p.body, `{"Response":{`...), null: x.format.Null}
	o.string("Status", statusText3(task.Status))
	o.time("StartTime", task.StartTime, x.zone)
	o.string("TaskType", flowText(task.TaskName))
	o.string("InstanceId", task.RedisID)
	o.string("TaskMessage", message)
	o.string("RequestId", requestID3)
	o.b = append(o.b, `}}`...)
	p.body = o.b
}

// statusText3 returns the Status of DescribeTaskInfo.
func statusText3(status crsapi.Status) string {
	switch status {
	case crsapi.StatusPending:
		return "preparing"
	case crsapi.StatusExecuting:
		return "running"
	case crsapi.StatusSucceeded:
		return "succeed"
	case crsapi.StatusFailed, result3Failed:
		return "failed"
	case crsapi.StatusError:
		return "error"
	default:
		return "unknown"
	}
}
