package crsapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var beijing = time.FixedZone("", 8*60*60)

// documentedBody returns a response with so many tasks of some instances.
func documentedBody(tasks int) []byte {
	var rows []string
	for i := range tasks {
		rows = append(rows, fmt.Sprintf(`{"startTime":"2017-02-10 16:56:18","taskName":"backupInstance","redisName":"for API test",`+
			`"redisId":"crs-%08d","projectId":0,"status":2,"progress":1}`, i%30))
	}
	return fmt.Appendf(nil, `{"code":0,"message":"","codeDesc":"Success","totalCount":%d,"data":{"redisTaskSet":[%s]}}`,
		tasks, strings.Join(rows, ","))
}

// FuzzDecodeResponse checks that an accepted response is JSON for the standard
// library too, and that its texts are valid in labels and logs.
func FuzzDecodeResponse(f *testing.F) {
	f.Add(documentedBody(2))
	f.Add([]byte(`{"code":"4100","message":"a\u0000","codeDesc":"AuthFailure"}`))
	f.Add([]byte(`{"Response":{"Error":{"Code":"InternalError","Message":"x"}}}`))
	f.Add([]byte("{\"code\":0,\"totalCount\":1,\"data\":{\"redisTaskSet\":[{\"taskName\":\"a\xff\\ud800\",\"redisId\":\"i\",\"status\":2,\"startTime\":\"2017-02-10 16:56:18\"},{}]}}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		names := newSymbols()
		r, err := decodeResponse(slices.Clone(body), format2, names, beijing)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatal("accepted a response that is not JSON")
		}
		for _, row := range r.rows {
			task := names.task(row)
			if row.readable() && task.RedisID == "" {
				t.Fatalf("a task without redisId: %+v", task)
			}
			for _, label := range []string{task.RedisID, task.RedisName, task.TaskName, task.ProjectID} {
				if !utf8.ValidString(label) || len(label) > maxLabel {
					t.Fatalf("label %q", label)
				}
			}
		}
		if e := r.error(); !utf8.ValidString(e.Error()) && r.code != "0" {
			t.Fatalf("error %q", e.Error())
		}
	})
}

// FuzzParseStatus checks that the number of a status is parsed as itself again.
func FuzzParseStatus(f *testing.F) {
	for _, s := range []string{"0", "-1", "3", "2.0", "1e3", "x", "", " 2 ", "99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		status, ok := parseStatus([]byte(s))
		if !ok {
			return
		}
		if status.String() == "" {
			t.Fatal("a status without a name")
		}
		if again, ok := parseStatus([]byte(fmt.Sprint(int32(status)))); status != statusUnknown && (!ok || again != status) {
			t.Fatalf("%q is %d, which is %d", s, status, again)
		}
	})
}

// FuzzStartTime checks that an accepted time is formatted as it was written.
func FuzzStartTime(f *testing.F) {
	for _, s := range []string{"2017-02-10 16:56:18", "0000-00-00 00:00:00", "2016-02-29 23:59:59", "2017-02-10T16:56:18Z", "", "2017-2-1 1:2:3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, "\"\\\n") {
			return
		}
		body := `{"code":0,"totalCount":1,"data":{"redisTaskSet":[{"redisId":"i","status":2,"startTime":"` + s + `"}]}}`
		r, err := decodeResponse([]byte(body), format2, newSymbols(), beijing)
		if err != nil || !r.rows[0].readable() {
			return
		}
		whole, _, _ := strings.Cut(strings.ReplaceAll(s, ",", "."), ".") // fractions are ignored
		if got := time.Unix(r.rows[0].start, 0).In(beijing).Format(timeLayout); got != whole && len(whole) == len(got) {
			t.Fatalf("%q is read as %s", s, got)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := documentedBody(100)
	b.Run("crsapi", func(b *testing.B) {
		names := newSymbols()
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeResponse(body, format2, names, beijing); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if err := json.Unmarshal(body, new(documented)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// documented is the documented response as a type for encoding/json.
type documented struct {
	Code       int    `json:"code"`
	Message    string `json:"message"`
	CodeDesc   string `json:"codeDesc"`
	TotalCount int    `json:"totalCount"`
	Data       struct {
		RedisTaskSet []struct {
			StartTime string  `json:"startTime"`
			TaskName  string  `json:"taskName"`
			RedisName string  `json:"redisName"`
			RedisID   string  `json:"redisId"`
			ProjectID int64   `json:"projectId"`
			Status    int     `json:"status"`
			Progress  float64 `json:"progress"`
		} `json:"redisTaskSet"`
	} `json:"data"`
}
