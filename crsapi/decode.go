package crsapi

import (
	"bytes"
	"cmp"
	"errors"
	"hash/maphash"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxLabel = 256        // bytes of an ID or a name; those of Tencent are about a tenth of it
	maxTotal = 10_000_000 // a higher total shows a broken server
)

// answer is the response of any action, success or error: the members of the APIs do
// not clash, and a gateway may answer a request of one API with an error of the other.
type answer struct {
	Code       text `json:"code"`
	CodeDesc   text `json:"codeDesc"`
	Message    text `json:"message"`
	TotalCount text `json:"totalCount"`
	Data       data `json:"data"`
	Response   *struct {
		Error         *struct{ Code, Message text }
		TotalCount    text
		Tasks         rows // of API 3.0
		RedisTaskSets rows // of the private cloud
		TaskMessage   text
		RequestID     text `json:"RequestId"`
	}
}

// data is empty where it is not an object. The document does not say how an empty list
// is written, and leaves open whether totalCount is within data or beside it.
type data struct {
	TotalCount   text `json:"totalCount"`
	RedisTaskSet rows `json:"redisTaskSet"`
}

func (to *data) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return d.SkipValue()
	}
	type plain data
	return json.UnmarshalDecode(d, (*plain)(to))
}

// row is a row of any list.
type row struct {
	row2
	row3
}

type row2 struct {
	RedisID   text `json:"redisId"`
	RedisName text `json:"redisName"`
	TaskName  text `json:"taskName"`
	ProjectID text `json:"projectId"`
	StartTime text `json:"startTime"`
	Status    text `json:"status"`
	Progress  text `json:"progress"`
}

// row3 has two members for what the private cloud calls by another name.
type row3 struct {
	InstanceID text `json:"InstanceId"`
	RedisID    text `json:"RedisId"`

	InstanceName, RedisName text

	TaskType  text
	ProjectID text `json:"ProjectId"`
	StartTime text
	EndTime   text

	Result, Status text

	Progress text
	TaskID   text `json:"TaskId"`
	OtherID  text `json:"TaskID"`
}

// rows are the tasks of a list, with times as if they were in UTC and statuses as they
// are written. A task without a RedisID is a row that could not be read; its
// TaskID is equal for equal rows, apart from the status, the progress and the end,
// which change while a task runs. Rows are empty where there is no array. An object
// holds rows too: PHP writes an array with gaps like that.
type rows []Task

func (to *rows) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	kind := d.PeekKind()
	if kind != '[' && kind != '{' {
		return d.SkipValue()
	}
	list, r := make([]Task, 0, 100), new(row)
	_, err := d.ReadToken()
	for err == nil && d.PeekKind() != ']' && d.PeekKind() != '}' {
		if kind == '{' {
			if _, err = d.ReadToken(); err != nil {
				break
			}
		}
		*r = row{}
		if d.PeekKind() == '{' {
			err = json.UnmarshalDecode(d, r)
		} else {
			err = d.SkipValue()
		}
		list = append(list, r.task())
	}
	if err == nil {
		_, err = d.ReadToken()
	}
	*to = list
	return err
}

// hashSeed makes equal rows have equal hashes in all pages.
var hashSeed = maphash.MakeSeed()

func (r *row) task() Task {
	v2, v3 := &r.row2, &r.row3
	id, name := cmp.Or(v2.RedisID, v3.InstanceID, v3.RedisID), cmp.Or(v2.TaskName, v3.TaskType)
	start := cmp.Or(v2.StartTime, v3.StartTime).time()
	status, ok := cmp.Or(v2.Status, v3.Result, v3.Status).status()
	if !ok || start.IsZero() || id == "" || max(len(id), len(name)) > maxLabel {
		v2.Status, v2.Progress, v3.Result, v3.Status, v3.Progress, v3.EndTime = "", "", "", "", "", ""
		return Task{StartTime: start, TaskID: int64(maphash.Comparable(hashSeed, *r))}
	}
	t := Task{
		RedisID: string(id), TaskName: taskName(name), RedisName: string(cmp.Or(v2.RedisName, v3.InstanceName, v3.RedisName)),
		StartTime: start, EndTime: v3.EndTime.time(), Status: status,
	}
	if len(t.RedisName) > maxLabel {
		t.RedisName = strings.ToValidUTF8(t.RedisName[:maxLabel], "") // a character may be cut
	}
	if project, err := strconv.ParseInt(cmp.Or(v2.ProjectID, v3.ProjectID).integer(), 10, 64); err == nil {
		t.ProjectID = string(shared(strconv.AppendInt(nil, project, 10)))
	}
	if progress, err := strconv.ParseFloat(string(cmp.Or(v2.Progress, v3.Progress)), 32); err == nil {
		t.Progress = float32(progress)
	}
	if number := cmp.Or(v3.TaskID, v3.OtherID); number != "" {
		if id, err := strconv.ParseInt(number.integer(), 10, 64); err == nil {
			t.TaskID = id
		}
	}
	return t
}

// text is a string or a number as it is written, and empty for any other value: the
// documents and the servers do not agree on which of them a member is.
type text string

func (to *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	switch value.Kind() {
	case '"':
		if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
			*to = shared(inner)
			break
		}
		raw, _ := jsontext.AppendUnquote(nil, value) // invalid bytes are replaced
		*to = shared(raw)
	case '0':
		*to = shared(value)
	}
	return err
}

// recent holds texts that were read lately: most rows have them in common.
var recent [1 << 14]atomic.Pointer[text]

// shared returns a text that equal ones share, if they come often.
func shared(b []byte) text {
	slot := &recent[maphash.Bytes(hashSeed, b)%uint64(len(recent))]
	if known := slot.Load(); known != nil && string(*known) == string(b) {
		return *known
	}
	t := text(b)
	if len(b) <= maxLabel {
		slot.Store(&t)
	}
	return t
}

// integer returns a whole number in its shortest form, for example 7 for 07, 7.0
// and 7e0, and any other text as it is.
func (t text) integer() string {
	s := strings.TrimSpace(string(t))
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.FormatInt(int64(f), 10)
	}
	return s
}

// time returns the zero time for what is not a time, such as 0000-00-00 00:00:00, and
// for the begin of UNIX time, which some servers write for a time that is not known.
func (t text) time() time.Time {
	if t == "" {
		return time.Time{}
	}
	at, err := time.Parse(timeLayout, string(t))
	if err != nil || at.Year() <= 1970 {
		return time.Time{}
	}
	return at
}

func (t text) status() (s Status, ok bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(string(t)), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, false
	}
	if s = Status(f); float64(s) != f {
		return statusUnknown, true
	}
	return s, true
}

// statusUnknown is the Status of a number that is not an int32, or that is a Status
// with a meaning that the number does not have in this API. It prints as
// "unknown".
const statusUnknown Status = math.MinInt32

// response is a decoded response.
type response struct {
	page      Page
	text      string // of ActionTaskInfo
	requestID string
}

// decodeResponse returns an *Error if the response is one, or if it is not what is
// documented. The requestID is set with an error, too.
func decodeResponse(body []byte, action string, d *dialect, utcOffset time.Duration) (r response, failed *Error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // a byte order mark is not JSON, but some servers write it
	var a answer
	if err := json.Unmarshal(body, &a, jsontext.AllowInvalidUTF8(true)); err != nil {
		// The text of err may quote the response, with secrets.
		var syntax *jsontext.SyntacticError
		if !errors.As(err, &syntax) {
			return r, decodeError("decode the response: not the documented JSON")
		}
		e := decodeError("decode the response: invalid JSON at byte %d", syntax.ByteOffset)
		e.retry = retryOnce // a proxy may do that for a moment
		return r, e
	}
	total, list, code := cmp.Or(a.TotalCount, a.Data.TotalCount), a.Data.RedisTaskSet, a.Code.integer()
	if a.Response != nil {
		r.requestID = string(a.Response.RequestID)
	}
	switch {
	case a.Response != nil && a.Response.Error != nil:
		e := a.Response.Error
		if code := e.Code.integer(); code == "" || code == "0" {
			return r, decodeError("decode the response: an error without a code")
		}
		return r, apiError(e.Code, "", e.Message)
	case code != "" && code != "0":
		return r, apiError(a.Code, a.CodeDesc, a.Message)
	case d.v2 && code == "":
		return r, decodeError("decode the response: no code")
	case !d.v2 && a.Response == nil:
		return r, decodeError("decode the response: no Response")
	case action == ActionTaskInfo:
		r.text = string(a.Response.TaskMessage)
		return r, nil
	case !d.v2:
		total, list = a.Response.TotalCount, append(a.Response.Tasks, a.Response.RedisTaskSets...)
	}
	n, err := strconv.Atoi(total.integer())
	if total == "" {
		return r, decodeError("decode the response: no total")
	}
	if err != nil || n < 0 || n > maxTotal {
		return r, decodeError("decode the response: the total is not a number from 0 to %d", maxTotal)
	}
	r.page.TotalCount, r.page.Tasks = n, list[:0]
	for i, t := range list {
		t.StartTime, t.EndTime = shift(t.StartTime, utcOffset), shift(t.EndTime, utcOffset)
		if t.RedisID == "" {
			r.page.Rejected = append(r.page.Rejected, RejectedRow{i, t.StartTime, uint64(t.TaskID)})
			continue
		}
		t.Status = d.status(t.Status)
		r.page.Tasks = append(r.page.Tasks, t)
	}
	return r, nil
}

// shift returns the time at which a clock of the zone shows t.
func shift(t time.Time, utcOffset time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-utcOffset)
}

// apiError returns the error that a response is. Its code is a number, or a name as in
// API 3.0.
func apiError(code, desc, message text) *Error {
	n, err := strconv.Atoi(code.integer())
	if err != nil {
		n, desc = 0, code
	}
	return returned(Error{Code: n, CodeDesc: string(desc), Message: string(message)})
}
