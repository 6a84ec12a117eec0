package crsapi

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxLabel is the size limit of redisId, taskName and redisName, in bytes.
	// Those of Tencent are about a tenth of it.
	maxLabel = 256
	// maxTotal limits totalCount. A higher number shows a broken server.
	maxTotal = 10_000_000
	// usualRows is the number of rows to make room for.
	usualRows = 100
)

// format is what the JSON of one action looks like.
type format struct {
	envelope  string // name of the object that holds the result; empty if the top level does
	total     string // name of the number of tasks; empty if the result is no list
	tasks     string // name of the rows; at the top level they are in "data"
	text      string // name of a text, if the result is one
	members   map[string]member
	taskNames map[string]string // replaces values of memberTaskName
	statuses  map[Status]Status // replaces values of memberStatus
}

// response is a decoded response, with a result or an error.
type response struct {
	code     string // a decimal number, or a name as in API 3.0; "0" or empty for success
	codeDesc string
	message  string
	total    int
	tasks    []Task
	rejected []RejectedRow
	text     string
	date     time.Time
}

// failed reports whether the response is an error.
func (r response) failed() bool { return r.code != "" && r.code != "0" }

// responseDecoder reads one response. The documents do not say what an empty
// list looks like or how numbers are written, so it accepts every form that was
// seen or is likely. Fields that affect counts are parsed strictly.
//
// A gateway may answer a request of one API with an error of the other, so it
// reads the errors of both.
type responseDecoder struct {
	json   *jsontext.Decoder
	body   []byte
	format *format
	names  *interner
	zone   *time.Location
	buffer []byte // for a string with escapes
	last   [memberCount]string

	date     string    // of the last time
	midnight time.Time // that begins it

	response
	hasResult bool // the envelope is there
	hasError  bool // an error of API 3.0 is there
	hasTotal  bool
}

// hashSeed makes equal rows have equal hashes in all pages.
var hashSeed = maphash.MakeSeed()

func decodeResponse(body []byte, f *format, names *interner, zone *time.Location) (response, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // a byte order mark is not JSON, but some servers write it
	d := responseDecoder{
		json: jsontext.NewDecoder(bytes.NewBuffer(body),
			jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)),
		body:   body,
		format: f,
		names:  names,
		zone:   zone,
	}
	if err := d.document(); err != nil {
		return response{}, withoutText(err)
	}
	switch {
	case d.failed():
	case d.hasError:
		return response{}, errors.New("the response has an error without a code")
	case f.envelope == "" && d.code == "":
		return response{}, errors.New("the response has no code")
	case f.envelope != "" && !d.hasResult:
		return response{}, fmt.Errorf("the response has no %s", f.envelope)
	case f.total != "" && !d.hasTotal:
		return response{}, fmt.Errorf("the response has no %s", f.total)
	}
	return d.response, nil
}

// error returns the error of a response that failed.
func (r response) error() *Error {
	e := &Error{CodeDesc: r.codeDesc, Message: r.message}
	if code, err := strconv.Atoi(r.code); err == nil {
		e.Code = code
		e.class = classOfCode(code, r.codeDesc, r.message)
	} else {
		e.CodeDesc = r.code
		e.class = classOfName(r.code)
	}
	e.Reason = e.class.reason
	return e
}

// withoutText returns syntax errors without the text of the response, which may
// be an HTML page or contain secrets.
func withoutText(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return notJSON("unexpected end of JSON")
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return notJSON(fmt.Sprintf("invalid JSON at byte %d", syntax.ByteOffset))
	}
	return err
}

// notJSON is the error of a response that is cut or is not JSON.
type notJSON string

// Error implements error.
func (e notJSON) Error() string { return string(e) }

func (d *responseDecoder) document() error {
	if d.json.PeekKind() != '{' {
		if _, err := d.json.ReadToken(); err != nil {
			return err
		}
		return errors.New("the response is not a JSON object")
	}
	err := d.members(func(name []byte) error {
		switch string(name) {
		case "code":
			text, kind, err := d.scalar()
			if err == nil && (kind == '"' || kind == '0') && !d.failed() {
				d.code = number(text)
			}
			return err
		case "message":
			return d.string(&d.message)
		case "codeDesc":
			return d.string(&d.codeDesc)
		case "Response":
			return d.object(d.resultOfAPI3)
		case "data":
			if d.format.envelope == "" {
				return d.object(d.result)
			}
			return d.json.SkipValue()
		}
		if d.format.envelope == "" && string(name) == d.format.total {
			return d.totalCount()
		}
		return d.json.SkipValue()
	})
	if err != nil {
		return err
	}
	switch _, err := d.json.ReadToken(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errors.New("the response has more than one JSON value")
}

func (d *responseDecoder) totalCount() error {
	text, kind, err := d.scalar()
	if err != nil || kind == 'n' {
		return err
	}
	total, err := strconv.Atoi(number(text))
	if err != nil || total < 0 || total > maxTotal {
		return fmt.Errorf("%s is not a number from 0 to %d", d.format.total, maxTotal)
	}
	d.total, d.hasTotal = total, true
	return nil
}

// resultOfAPI3 reads a member of Response: an error of API 3.0, or a part of the
// result if the format has this envelope.
func (d *responseDecoder) resultOfAPI3(name []byte) error {
	d.hasResult = true
	switch {
	case string(name) == "Error":
		d.hasError = d.hasError || d.json.PeekKind() != 'n'
		return d.errorOfAPI3()
	case d.format.envelope == "":
		return d.json.SkipValue()
	default:
		return d.result(name)
	}
}

func (d *responseDecoder) result(name []byte) error {
	switch string(name) {
	case "":
	case d.format.tasks:
		return d.taskSet()
	case d.format.text:
		return d.string(&d.text)
	case d.format.total:
		if d.format.envelope != "" {
			return d.totalCount()
		}
	}
	return d.json.SkipValue()
}

// taskSet reads an array of rows, or an object whose values are rows: PHP
// writes arrays with gaps like that.
func (d *responseDecoder) taskSet() error {
	switch d.json.PeekKind() {
	case '{':
		return d.members(func([]byte) error { return d.row() })
	case '[':
		if _, err := d.json.ReadToken(); err != nil {
			return err
		}
		for d.json.PeekKind() != ']' {
			if err := d.row(); err != nil {
				return err
			}
		}
		_, err := d.json.ReadToken()
		return err
	}
	return d.json.SkipValue()
}

func (d *responseDecoder) row() error {
	begin := d.json.InputOffset()
	isObject := d.json.PeekKind() == '{'
	t, ok := Task{}, false
	var err error
	if isObject {
		t, ok, err = d.task()
	} else {
		err = d.json.SkipValue()
	}
	switch {
	case err != nil:
		return err
	case ok:
		if d.tasks == nil {
			d.tasks = make([]Task, 0, usualRows)
		}
		d.tasks = append(d.tasks, t)
	default:
		text := bytes.TrimLeft(d.body[begin:d.json.InputOffset()], ", :\t\r\n")
		if isObject {
			text = d.lasting(text)
		}
		d.rejected = append(d.rejected, RejectedRow{
			Index: len(d.tasks) + len(d.rejected), StartTime: t.StartTime, Hash: maphash.Bytes(hashSeed, text),
		})
	}
	return nil
}

// lasting returns the members of a row that stay while its task runs.
func (d *responseDecoder) lasting(row []byte) []byte {
	again := responseDecoder{json: jsontext.NewDecoder(bytes.NewReader(row),
		jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))}
	all := make([]byte, 0, len(row))
	// The row has been read before, so there is no error.
	_ = again.members(func(name []byte) error {
		member, before := d.format.members[string(name)], len(all)
		all = append(all, name...)
		value, err := again.json.ReadValue()
		if member.moves() {
			all = all[:before]
		} else {
			all = append(all, value...)
		}
		return err
	})
	return all
}

// task reads a row that is an object. ok is false if redisId, startTime or
// status is missing or invalid, or if redisId or taskName is too long.
func (d *responseDecoder) task() (t Task, ok bool, err error) {
	ok = true
	var hasStatus bool
	err = d.members(func(name []byte) error {
		// Look at the name first: reading the value overwrites it.
		member := d.format.members[string(name)]
		if member == memberOther {
			return d.json.SkipValue()
		}
		text, kind, err := d.scalar()
		if err != nil || kind == 'n' {
			return err
		}
		if kind != '"' && kind != '0' {
			ok = ok && !member.required()
			return nil
		}
		switch member {
		case memberRedisID, memberTaskName:
			if len(text) > maxLabel {
				ok = false
				return nil
			}
			switch name, ok := d.format.taskNames[string(text)]; {
			case member == memberRedisID:
				t.RedisID = d.shared(member, text)
			case ok:
				t.TaskName = name
			default:
				t.TaskName = d.shared(member, text)
			}
		case memberRedisName:
			t.RedisName = d.shared(member, truncate(text))
		case memberProjectID:
			if id, err := strconv.ParseInt(number(text), 10, 64); err == nil {
				t.ProjectID = d.shared(member, strconv.AppendInt(d.buffer[:0], id, 10))
			}
		case memberStartTime:
			t.StartTime = d.time(text)
		case memberStatus:
			t.Status, hasStatus = parseStatus(text)
			if same, ok := d.format.statuses[t.Status]; ok {
				t.Status = same
			}
		case memberProgress:
			if p, err := strconv.ParseFloat(string(text), 32); err == nil {
				t.Progress = float32(p)
			}
		case memberEndTime:
			// A task that has not ended has no end, or one of zeros.
			if end := d.time(text); end.Unix() != 0 {
				t.EndTime = end
			}
		case memberTaskID:
			// ParseInt returns the nearest int64 for a number out of range.
			if id, err := strconv.ParseInt(number(text), 10, 64); err == nil {
				t.TaskID = id
			}
		}
		return nil
	})
	return t, ok && hasStatus && !t.StartTime.IsZero() && t.RedisID != "", err
}

// shared returns a string that equal texts share. Most rows have the value of the
// row before.
func (d *responseDecoder) shared(m member, text []byte) string {
	if last := &d.last[m]; *last != string(text) {
		*last = d.names.string(text)
	}
	return d.last[m]
}

// time returns the zero time for a text that is no time. Most rows of a page are of
// the same day, so only their clock times are parsed.
func (d *responseDecoder) time(text []byte) time.Time {
	if len(text) == len(timeLayout) && string(text[:len(dateLayout)]) == d.date {
		if clock, ok := parseClock(text[len(dateLayout):]); ok {
			return d.midnight.Add(clock)
		}
	}
	t, err := time.ParseInLocation(timeLayout, string(text), d.zone)
	if err != nil {
		return time.Time{}
	}
	if len(text) == len(timeLayout) {
		year, month, day := t.Date()
		d.date, d.midnight = string(text[:len(dateLayout)]), time.Date(year, month, day, 0, 0, 0, 0, d.zone).UTC()
	}
	return t.UTC()
}

const dateLayout = "2006-01-02"

// parseClock parses a text such as " 16:56:18".
func parseClock(text []byte) (clock time.Duration, ok bool) {
	const layout = " 00:00:00"
	limits := [...]time.Duration{24, 60, 60}
	for i, want := range []byte(layout) {
		if got := text[i]; want != '0' && got != want || want == '0' && (got < '0' || got > '9') {
			return 0, false
		}
	}
	for i, limit := range limits {
		n := time.Duration(text[1+3*i]-'0')*10 + time.Duration(text[2+3*i]-'0')
		if n >= limit {
			return 0, false
		}
		clock = clock*60 + n
	}
	return clock * time.Second, true
}

type member uint8

const (
	memberOther member = iota
	memberRedisID
	memberTaskName
	memberRedisName
	memberProjectID
	memberStartTime
	memberStatus
	memberProgress
	memberEndTime
	memberTaskID
	memberCount
)

// required reports whether a row is rejected if the value is not a scalar.
func (m member) required() bool {
	return m == memberRedisID || m == memberTaskName || m == memberStartTime || m == memberStatus
}

// moves reports whether the value changes while a task runs.
func (m member) moves() bool {
	return m == memberStatus || m == memberProgress || m == memberEndTime
}

// errorOfAPI3 reads the error of a response. The first error counts.
func (d *responseDecoder) errorOfAPI3() error {
	var code, message string
	err := d.object(func(name []byte) error {
		switch string(name) {
		case "Code":
			return d.string(&code)
		case "Message":
			return d.string(&message)
		}
		return d.json.SkipValue()
	})
	if err == nil && code != "" && !d.failed() {
		d.code, d.codeDesc, d.message = number([]byte(code)), "", message
	}
	return err
}

// object reads the members of an object, and skips any other value.
func (d *responseDecoder) object(read func(name []byte) error) error {
	if d.json.PeekKind() != '{' {
		return d.json.SkipValue()
	}
	return d.members(read)
}

// string reads a scalar. null does not change the text.
func (d *responseDecoder) string(to *string) error {
	text, kind, err := d.scalar()
	if err == nil && kind != 'n' {
		*to = string(text)
	}
	return err
}

// members reads an object. It calls read before the value of each member, and
// read must read the value. The name is valid until read does so.
func (d *responseDecoder) members(read func(name []byte) error) error {
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	for d.json.PeekKind() != '}' {
		name, _, err := d.scalar()
		if err != nil {
			return err
		}
		if err := read(name); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken()
	return err
}

// scalar reads the next value. It returns a string unquoted and as valid UTF-8,
// and a number, true, false or null as written. It skips objects and arrays.
// The text is valid until the next call.
func (d *responseDecoder) scalar() (text []byte, kind jsontext.Kind, err error) {
	value, err := d.json.ReadValue()
	if err != nil {
		return nil, 0, err
	}
	kind = value.Kind()
	if kind == '{' || kind == '[' {
		return nil, kind, nil
	}
	if kind != '"' {
		return value, kind, nil
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner, kind, nil
	}
	// The error only says that invalid bytes were replaced, as intended.
	d.buffer, _ = jsontext.AppendUnquote(d.buffer[:0], value)
	return d.buffer, kind, nil
}

// number returns an integer in its shortest form, for example 7 for 07, 7.0 and
// 7e0, and any other text as it is.
func number(text []byte) string {
	s := string(bytes.TrimSpace(text))
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.FormatInt(int64(f), 10)
	}
	return s
}

// statusUnknown stands for a number that is not an int32, or that is a Status
// with a meaning that the number does not have in this API. It prints as
// "unknown".
const statusUnknown Status = math.MinInt32

func parseStatus(text []byte) (Status, bool) {
	s := number(text)
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return Status(n), true
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return statusUnknown, true
	}
	return 0, false
}

// truncate returns at most maxLabel bytes of text, without cutting a character.
func truncate(text []byte) []byte {
	if len(text) <= maxLabel {
		return text
	}
	end := maxLabel
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
