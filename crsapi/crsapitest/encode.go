package crsapitest

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// rowEncoder writes rows with the fields, order and types of the document's
// example. It appends to a buffer because a benchmark's server must be cheaper
// than its client.
type rowEncoder struct {
	zone          *time.Location
	floatProgress bool

	dialect *dialect // nil for API 2.0
	endTime string   // JSON of an EndTime that is zero; empty to leave it out
	null    []string // fields of API 3.0 to write as null
	habits  habits
}

func (e rowEncoder) append(b []byte, t *crsapi.Task) []byte {
	if e.dialect != nil {
		return e.appendTask3(b, t)
	}
	return e.appendTask(b, t)
}

func (e rowEncoder) appendTask(b []byte, t *crsapi.Task) []byte {
	b = append(b, `{"startTime":`...)
	b = e.appendStart(b, t)
	b = append(b, `,"taskName":`...)
	b = e.appendType(b, t.TaskName)
	b = append(b, `,"redisName":`...)
	b = appendString(b, t.RedisName)
	b = append(b, `,"redisId":`...)
	b = appendString(b, t.RedisID)
	if t.ProjectID != "" {
		b = append(b, `,"projectId":`...)
		b = appendProjectID(b, t.ProjectID)
	}
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(t.Status), 10)
	b = append(b, `,"progress":`...)
	b = e.appendProgress(b, t.Progress)
	return append(b, '}')
}

func (e rowEncoder) appendProgress(b []byte, progress float32) []byte {
	f := float64(progress)
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(b, "null"...)
	case e.floatProgress && f == math.Trunc(f):
		return strconv.AppendFloat(b, f, 'f', 1, 32)
	default:
		return strconv.AppendFloat(b, f, 'f', -1, 32)
	}
}

// appendProjectID writes a JSON number if id is a plain integer, and a string
// otherwise.
func appendProjectID(b []byte, id string) []byte {
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		if at := len(b); string(strconv.AppendInt(b, n, 10)[at:]) == id {
			return append(b, id...)
		}
	}
	return appendString(b, id)
}

// appendString writes a JSON string. Invalid UTF-8 becomes U+FFFD. SetRawRows
// can serve invalid UTF-8 unchanged.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("crsapitest: marshal a string: " + err.Error())
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
