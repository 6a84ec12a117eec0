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
)

// response is a decoded response, with a list of tasks or an error.
type response struct {
	code     string // a decimal number, or a name as in API 3.0
	codeDesc string
	message  string
	total    int
	rows     []row // includes rejected rows, in their places
}

// responseDecoder reads one response. The documents do not say what an empty
// list looks like or how numbers are written, so it accepts every form that was
// seen or is likely. Fields that affect counts are parsed strictly.
type responseDecoder struct {
	json  *jsontext.Decoder
	body  []byte
	names *symbols
	zone  *time.Location
	text  []byte // buffer for a string with escapes

	response
	hasTotal bool
}

// hashSeed makes equal rows have equal hashes in all pages.
var hashSeed = maphash.MakeSeed()

func decodeResponse(body []byte, names *symbols, zone *time.Location) (response, error) {
	d := responseDecoder{
		json: jsontext.NewDecoder(bytes.NewBuffer(body),
			jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)),
		body:  body,
		names: names,
		zone:  zone,
	}
	if err := d.document(); err != nil {
		return response{}, withoutText(err)
	}
	switch {
	case d.code == "":
		return response{}, errors.New("the response has no code")
	case d.code == "0" && !d.hasTotal:
		return response{}, errors.New("the response has no totalCount")
	}
	return d.response, nil
}

// error returns the error that a code other than 0 means.
func (r response) error() *Error {
	e := &Error{CodeDesc: r.codeDesc, Message: r.message}
	class := classOfName(r.code)
	if code, err := strconv.Atoi(r.code); err == nil {
		e.Code, class = code, classOfCode(code)
	} else {
		e.CodeDesc = r.code
	}
	e.Reason, e.retry = class.reason, class.retry
	return e
}

// withoutText returns syntax errors without the text of the response, which may
// be an HTML page or contain secrets.
func withoutText(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("unexpected end of JSON")
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return fmt.Errorf("invalid JSON at byte %d", syntax.ByteOffset)
	}
	return err
}

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
			if err == nil && (kind == '"' || kind == '0') {
				d.code = number(text)
			}
			return err
		case "message":
			text, _, err := d.scalar()
			d.message = string(text)
			return err
		case "codeDesc":
			text, _, err := d.scalar()
			d.codeDesc = string(text)
			return err
		case "totalCount":
			return d.totalCount()
		case "data":
			return d.data()
		case "Response":
			return d.errorOfAPI3()
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
		return fmt.Errorf("totalCount is not a number from 0 to %d", maxTotal)
	}
	d.total, d.hasTotal = total, true
	return nil
}

func (d *responseDecoder) data() error {
	if d.json.PeekKind() != '{' {
		return d.json.SkipValue()
	}
	return d.members(func(name []byte) error {
		if string(name) == "redisTaskSet" {
			return d.taskSet()
		}
		return d.json.SkipValue()
	})
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
	r, ok := row{}, false
	var err error
	if d.json.PeekKind() == '{' {
		r, ok, err = d.task()
	} else {
		err = d.json.SkipValue()
	}
	if err != nil {
		return err
	}
	if !ok {
		text := bytes.TrimLeft(d.body[begin:d.json.InputOffset()], ", \t\r\n")
		r = row{identity: identity{start: int64(maphash.Bytes(hashSeed, text)), redisID: rejected}}
	}
	d.rows = append(d.rows, r)
	return nil
}

// task reads a row that is an object. ok is false if redisId, startTime or
// status is missing or invalid, or if redisId or taskName is too long.
func (d *responseDecoder) task() (r row, ok bool, err error) {
	ok = true
	var hasStart, hasStatus bool
	err = d.members(func(name []byte) error {
		// Look at the name first: reading the value overwrites it.
		member := memberOf(name)
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
			if member == memberRedisID {
				r.redisID = d.names.intern(text)
			} else {
				r.taskName = d.names.intern(text)
			}
		case memberRedisName:
			r.redisName = d.names.intern(truncate(text))
		case memberProjectID:
			if id, err := strconv.ParseInt(number(text), 10, 64); err == nil {
				r.projectID = d.names.intern(strconv.AppendInt(nil, id, 10))
			}
		case memberStartTime:
			t, err := time.ParseInLocation(timeLayout, string(text), d.zone)
			r.start, hasStart = t.Unix(), err == nil
		case memberStatus:
			r.status, hasStatus = parseStatus(text)
		case memberProgress:
			if p, err := strconv.ParseFloat(string(text), 32); err == nil {
				r.progress = float32(p)
			}
		}
		return nil
	})
	return r, ok && hasStart && hasStatus && r.redisID != rejected, err
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
)

func memberOf(name []byte) member {
	switch string(name) {
	case "redisId":
		return memberRedisID
	case "taskName":
		return memberTaskName
	case "redisName":
		return memberRedisName
	case "projectId":
		return memberProjectID
	case "startTime":
		return memberStartTime
	case "status":
		return memberStatus
	case "progress":
		return memberProgress
	}
	return memberOther
}

// required reports whether a row is rejected if the value is not a scalar.
func (m member) required() bool {
	return m == memberRedisID || m == memberTaskName || m == memberStartTime || m == memberStatus
}

// errorOfAPI3 reads the member Response, which holds an error of API 3.0.
func (d *responseDecoder) errorOfAPI3() error {
	if d.json.PeekKind() != '{' {
		return d.json.SkipValue()
	}
	return d.members(func(name []byte) error {
		if string(name) != "Error" || d.json.PeekKind() != '{' {
			return d.json.SkipValue()
		}
		return d.members(func(name []byte) error {
			switch string(name) {
			case "Code":
				text, _, err := d.scalar()
				d.code = string(text)
				return err
			case "Message":
				text, _, err := d.scalar()
				d.message = string(text)
				return err
			}
			return d.json.SkipValue()
		})
	})
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
	kind = d.json.PeekKind()
	if kind == '{' || kind == '[' {
		return nil, kind, d.json.SkipValue()
	}
	value, err := d.json.ReadValue()
	if err != nil {
		return nil, kind, err
	}
	if kind != '"' {
		return value, kind, nil
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner, kind, nil
	}
	// The error only says that invalid bytes were replaced, as intended.
	d.text, _ = jsontext.AppendUnquote(d.text[:0], value)
	return d.text, kind, nil
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

// statusOutOfRange stands for a number that is not an int32. It prints as
// "unknown".
const statusOutOfRange Status = math.MinInt32

func parseStatus(text []byte) (Status, bool) {
	s := number(text)
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return Status(n), true
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return statusOutOfRange, true
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
