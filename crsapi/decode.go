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
	// maxLabel bounds redisId, taskName and redisName, in bytes. The vendor's
	// are a tenth of it.
	maxLabel = 256
	// maxTotal bounds totalCount: beyond it is a broken server, not a list.
	maxTotal = 10_000_000

	timeLayout = "2006-01-02 15:04:05"
)

// answer is one response of the API, whether it tells of tasks or of an error.
type answer struct {
	code     string // in decimal, or a name where the API has names
	codeDesc string
	message  string
	total    int
	rows     []row // rejected ones in their places
}

// decoder reads one response. The API's documents leave open what an empty
// list looks like and how numbers are written, so it reads all that was seen
// or is likely; what bears on a count it reads strictly.
type decoder struct {
	json  *jsontext.Decoder
	body  []byte
	names *symbols
	zone  *time.Location
	text  []byte // of the last scalar read, if that had escapes

	answer
	hasTotal bool
}

// hashSeed is fixed for a process, so that equal rows hash equal in a sweep.
var hashSeed = maphash.MakeSeed()

func decodeAnswer(body []byte, names *symbols, zone *time.Location) (answer, error) {
	d := decoder{
		json: jsontext.NewDecoder(bytes.NewBuffer(body),
			jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)),
		body:  body,
		names: names,
		zone:  zone,
	}
	if err := d.document(); err != nil {
		return answer{}, withoutText(err)
	}
	switch {
	case d.code == "":
		return answer{}, errors.New("no code in the answer")
	case d.code == "0" && !d.hasTotal:
		return answer{}, errors.New("no totalCount in the answer")
	}
	return d.answer, nil
}

// withoutText keeps a server's bytes out of a syntax error: they may be
// anything, and an HTML page is no use in a log.
func withoutText(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON ends early")
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not JSON from byte %d on", syntax.ByteOffset)
	}
	return err
}

func (d *decoder) document() error {
	if d.json.PeekKind() != '{' {
		if _, err := d.json.ReadToken(); err != nil {
			return err
		}
		return errors.New("the answer is no JSON object")
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
			return d.envelope3()
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
	return errors.New("more than one JSON value in the answer")
}

func (d *decoder) totalCount() error {
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

func (d *decoder) data() error {
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

// taskSet reads an array of rows, or an object whose values are rows, which
// is how PHP writes an array with gaps.
func (d *decoder) taskSet() error {
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

func (d *decoder) row() error {
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

// task reads a row that is an object; false where redisId, startTime or
// status are missing or unreadable, or an identifying name is too long.
func (d *decoder) task() (r row, ok bool, err error) {
	ok = true
	var hasStart, hasStatus bool
	err = d.members(func(name []byte) error {
		// Reading the value overwrites the name.
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

// required tells whether a row without a readable value of it counts nowhere.
func (m member) required() bool {
	return m == memberRedisID || m == memberTaskName || m == memberStartTime || m == memberStatus
}

// envelope3 reads the error envelope of API 3.0.
func (d *decoder) envelope3() error {
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

// members reads an object and calls read at each member's value, which read
// must consume. The name is valid until then.
func (d *decoder) members(read func(name []byte) error) error {
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

// scalar reads the next value: a string without its quotes and escapes, and
// as valid UTF-8; a number, true, false or null as it stands; of an object or
// array nothing. The text is valid until the next call.
func (d *decoder) scalar() (text []byte, kind jsontext.Kind, err error) {
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
	// The error only says that bytes were replaced, which is what is wanted.
	d.text, _ = jsontext.AppendUnquote(d.text[:0], value)
	return d.text, kind, nil
}

// number returns the shortest decimal of an integer however it is written
// ("07", 7.0, 7e0), and any other text as it is.
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

// unnumbered is the status of a number that fits no Status: unknown.
const unnumbered Status = math.MinInt32

func parseStatus(text []byte) (Status, bool) {
	s := number(text)
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return Status(n), true
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return unnumbered, true
	}
	return 0, false
}

// truncate cuts a text to maxLabel bytes, at the end of a character.
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
