package crsapitest

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// encoder writes rows as the document shows them: the same fields, order and
// types. It appends, as a benchmark's server must cost less than its client.
type encoder struct {
	zone          *time.Location
	floatProgress bool
}

func (e encoder) appendTask(b []byte, t *crsapi.Task) []byte {
	b = append(b, `{"startTime":"`...)
	b = t.StartTime.In(e.zone).AppendFormat(b, timeLayout)
	b = append(b, `","taskName":`...)
	b = appendString(b, t.TaskName)
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

func (e encoder) appendProgress(b []byte, progress float32) []byte {
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

// appendProjectID writes a number where id is one, else a string.
func appendProjectID(b []byte, id string) []byte {
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		if at := len(b); string(strconv.AppendInt(b, n, 10)[at:]) == id {
			return append(b, id...)
		}
	}
	return appendString(b, id)
}

// appendString writes a JSON string. Invalid UTF-8 becomes U+FFFD; SetRawRows
// is the way to serve it as it is.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("crsapitest: a string does not marshal: " + err.Error())
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
