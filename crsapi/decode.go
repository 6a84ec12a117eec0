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
	maxLabel = 256        // bytes of an ID or a name; Tencent's have about a tenth
	maxTotal = 10_000_000 // tasks of a list
)

// statusUnknown is the Status for a number that is not an int32, or that has another
// meaning in another API. It prints as "unknown".
const statusUnknown Status = math.MinInt32

// response is a decoded response.
type response struct {
	page      Page
	text      string     // of ActionTaskInfo
	instances []Instance // of ActionInstances
	requestID string
}

// answer is the JSON of every response, success or error. The members of the APIs do
// not conflict, and a gateway may respond with an error of the other API.
type answer struct {
	Code       text `json:"code"`
	CodeDesc   text `json:"codeDesc"`
	Message    text `json:"message"`
	TotalCount text `json:"totalCount"`
	Data       data `json:"data"`
	Response   *struct {
		Error         *struct{ Code, Message text }
		TotalCount    text
		Tasks         rows // API 3.0
		RedisTaskSets rows // private cloud
		TaskMessage   text
		InstanceSet   []instanceRow
		RequestID     text `json:"RequestId"`
	}
}

// data is empty if the member is not an object. The document does not define the
// format of an empty list. By its text totalCount is in data, by its example beside it.
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

// row is a row of any API. Most members of the APIs differ only in case.
type row struct {
	RedisID      text `json:"RedisId,case:ignore"`
	InstanceID   text `json:"InstanceId"`
	RedisName    text `json:",case:ignore"`
	InstanceName text
	TaskName     text `json:"taskName"`
	TaskType     text
	ProjectID    text `json:"ProjectId,case:ignore"`
	StartTime    text `json:",case:ignore"`
	EndTime      text
	Status       text `json:",case:ignore"`
	Result       text
	Progress     text `json:",case:ignore"`
	TaskID       text `json:"TaskId"`
	TaskIDOfTCE  text `json:"TaskID"`
}

// rows holds the tasks of a list, with times read as UTC and undecoded numbers of
// statuses. It is empty if the member is neither an array nor an object. PHP writes
// an array with gaps as an object.
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
			if _, err = d.ReadToken(); err != nil { // the name of the member
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

// hashSeed is one for all pages, so that equal rows have equal hashes.
var hashSeed = maphash.MakeSeed()

func (r *row) task() Task {
	id, name := cmp.Or(r.InstanceID, r.RedisID), cmp.Or(r.TaskName, r.TaskType)
	start := r.StartTime.time()
	status, ok := cmp.Or(r.Result, r.Status).status()
	if !ok || start.IsZero() || id == "" || max(len(id), len(name)) > maxLabel {
		r.Result, r.Status, r.Progress, r.EndTime = "", "", "", "" // they change while a task runs
		return Task{StartTime: start, TaskID: int64(maphash.Comparable(hashSeed, *r))}
	}
	t := Task{
		RedisID: string(id), TaskName: taskName(name), RedisName: cmp.Or(r.InstanceName, r.RedisName).name(), ProjectID: r.ProjectID.projectID(),
		StartTime: start, EndTime: r.EndTime.time(), Status: status,
	}
	if progress, err := strconv.ParseFloat(string(r.Progress), 32); err == nil {
		t.Progress = float32(progress)
	}
	if number := cmp.Or(r.TaskID, r.TaskIDOfTCE); number != "" {
		if id, err := strconv.ParseInt(number.integer(), 10, 64); err == nil {
			t.TaskID = id
		}
	}
	return t
}

// text is a string, or a number as it is written. It is empty for any other JSON
// value. Documents and servers disagree which members are strings.
type text string

func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	switch value.Kind() {
	case '"':
		if inner := value[1 : len(value)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
			*t = shared(inner)
			break
		}
		raw, _ := jsontext.AppendUnquote(nil, value) // replaces invalid bytes
		*t = shared(raw)
	case '0':
		*t = shared(value)
	}
	return err
}

// recent is a cache of texts, as most rows have the same IDs, names and numbers.
var recent [1 << 14]atomic.Pointer[text]

// shared returns a text. Equal texts share their memory if they are frequent.
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

// integer returns an integer in its shortest form, for example 7 for 07, 7.0 and 7e0.
// It returns any other text unchanged.
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

// time returns the zero time for an invalid time such as 0000-00-00 00:00:00, and
// for the start of UNIX time, which some servers write for an unknown time.
func (t text) time() time.Time {
	if t == "" { // as in most rows; the error of Parse would cost an allocation
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

// decodeResponse returns an *Error if the response is an error, or is not documented.
// With an error, the response has only the requestID.
func decodeResponse(body []byte, action string, d *dialect, utcOffset time.Duration) (r response, failed *Error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // some servers write a byte order mark, which is not JSON
	var a answer
	if err := json.Unmarshal(body, &a, jsontext.AllowInvalidUTF8(true)); err != nil {
		// The text of err may quote the response, with secrets.
		var syntax *jsontext.SyntacticError
		if !errors.As(err, &syntax) {
			return r, decodeError("decode the response: not the documented JSON")
		}
		failed = decodeError("decode the response: invalid JSON at byte %d", syntax.ByteOffset)
		failed.retry = retryOnce // it may be a temporary fault of a proxy
		return r, failed
	}
	code, total, list := a.Code.integer(), cmp.Or(a.TotalCount, a.Data.TotalCount), a.Data.RedisTaskSet
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
		total, list = a.Response.TotalCount, a.Response.Tasks
		if list == nil {
			list = a.Response.RedisTaskSets
		}
	}
	n, err := strconv.Atoi(total.integer())
	if total == "" {
		return r, decodeError("decode the response: no total")
	}
	if err != nil || n < 0 || n > maxTotal {
		return r, decodeError("decode the response: the total is not a number from 0 to %d", maxTotal)
	}
	if action == ActionInstances {
		for _, row := range a.Response.InstanceSet {
			in := row.instance()
			in.Created = shift(in.Created, utcOffset)
			r.instances = append(r.instances, in)
		}
	}
	for i := range list {
		t := &list[i]
		t.StartTime, t.EndTime = shift(t.StartTime, utcOffset), shift(t.EndTime, utcOffset)
		if t.RedisID != "" {
			t.Status = d.status(t.Status)
		}
	}
	r.page.TotalCount, r.page.Tasks = n, list
	return r, nil
}

// shift converts a time that was read as UTC from the time zone of the API.
func shift(t time.Time, utcOffset time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-utcOffset)
}

// apiError returns the error of a response. The code is a number, or a name as in
// API 3.0.
func apiError(code, desc, message text) *Error {
	n, err := strconv.Atoi(code.integer())
	if err != nil {
		n, desc = 0, code
	}
	return returned(Error{Code: n, CodeDesc: string(desc), Message: string(message)})
}
