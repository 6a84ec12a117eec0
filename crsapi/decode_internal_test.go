package crsapi

import (
	"bytes"
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
	f.Add(append([]byte("\ufeff"), documentedBody(1)...))
	f.Add([]byte(`{"code":0,"totalCount":1,"data":{"redisTaskSet":{"0" : {"a":1,"startTime":"0000-00-00 00:00:00"}}}}`))
	f.Add([]byte(`{"code":"4100","message":"a\u0000","codeDesc":"AuthFailure"}`))
	f.Add([]byte(`{"Response":{"Error":{"Code":"InternalError","Message":"x"}}}`))
	f.Add([]byte("{\"code\":0,\"totalCount\":1,\"data\":{\"redisTaskSet\":[{\"taskName\":\"a\xff\\ud800\",\"redisId\":\"i\",\"status\":2,\"startTime\":\"2017-02-10 16:56:18\"},{}]}}"))
	f.Fuzz(func(t *testing.T, body []byte) { checkDecoding(t, body, format2) })
}

// FuzzDecodeResponseOfAPI3 is FuzzDecodeResponse for the actions of API 3.0 and
// of the private cloud.
func FuzzDecodeResponseOfAPI3(f *testing.F) {
	const (
		list  = `{"Response":{"TotalCount":1,"RequestId":"r","Tasks":[{"TaskId":42372,"StartTime":"2019-11-15 14:25:37","EndTime":"2019-11-15 14:25:46","TaskType":"037","InstanceId":"crs-opcazbrb","InstanceName":"n","ProjectId":0,"Progress":1,"Result":2}]}}`
		nulls = `{"Response":{"TotalCount":"2","Tasks":{"0":{"TaskId":null,"StartTime":"2019-11-15 14:25:37","EndTime":"0000-00-00 00:00:00","TaskType":null,"InstanceId":"i","Result":4.0},"1":null},"Error":null}}`
		tce   = `{"Response":{"TotalCount":1,"RedisTaskSets":[{"StartTime":"2019-11-15 14:25:37","TaskType":"012","RedisName":"n","RedisId":"i","ProjectId":1,"Status":-1,"Progress":0.5,"TaskID":7}]}}`
		info  = `{"Response":{"Status":"failed","TaskMessage":"disk\u0000 \ud800full","RequestId":"r"}}`
	)
	for action, bodies := range [][]string{
		{list, nulls, `{"Response":{"Error":{"Code":"InternalError","Message":"x"}}}`, `{"Response":{"Error":{}}}`, `{"code":4300,"codeDesc":"RequestForbidden"}`},
		{tce},
		{info},
	} {
		for _, body := range bodies {
			f.Add(uint8(action), []byte(body))
		}
	}
	formats := []*format{describeTaskList.format, privateCloud.format, (&api3{}).taskInfo(1).format}
	f.Fuzz(func(t *testing.T, action uint8, body []byte) {
		checkDecoding(t, body, formats[int(action)%len(formats)])
	})
}

// checkDecoding checks what both fuzz targets say of a body.
func checkDecoding(t *testing.T, body []byte, format *format) {
	r, err := decodeResponse(slices.Clone(body), format, &interner{}, beijing)
	if err != nil {
		if r.tasks != nil || r.rejected != nil || r.text != "" || r.total != 0 {
			t.Fatalf("an error with a result: %+v", r)
		}
		return
	}
	if !json.Valid(bytes.TrimPrefix(body, []byte("\ufeff"))) {
		t.Fatal("accepted a response that is not JSON")
	}
	for _, task := range r.tasks {
		if task.RedisID == "" {
			t.Fatalf("a task without redisId: %+v", task)
		}
		if _, code := format.taskNames[task.TaskName]; code {
			t.Fatalf("a code as the name: %+v", task)
		}
		if format == describeTaskList.format && (task.Status == StatusError || task.Status == resultFailed) {
			t.Fatalf("a status that API 3.0 does not have: %+v", task)
		}
		for _, label := range []string{task.RedisID, task.RedisName, task.TaskName, task.ProjectID} {
			if !utf8.ValidString(label) || len(label) > maxLabel {
				t.Fatalf("label %q", label)
			}
		}
	}
	if !utf8.ValidString(r.text) {
		t.Fatalf("text %q", r.text)
	}
	if r.total < 0 || r.total > maxTotal {
		t.Fatalf("total %d", r.total)
	}
	if r.failed() {
		if e := r.error(); !utf8.ValidString(e.Error()) || e.Reason == "" || e.Code == 0 && e.CodeDesc == "" {
			t.Fatalf("error %+v", e)
		}
	}
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
		if strings.ContainsAny(s, "\"\\\n") || strings.Contains(s, "  ") { // package time skips spaces
			return
		}
		body := `{"code":0,"totalCount":1,"data":{"redisTaskSet":[{"redisId":"i","status":2,"startTime":"` + s + `"}]}}`
		r, err := decodeResponse([]byte(body), format2, &interner{}, beijing)
		if err != nil || len(r.tasks) == 0 {
			return
		}
		whole, _, _ := strings.Cut(strings.ReplaceAll(s, ",", "."), ".") // fractions are ignored
		if got := r.tasks[0].StartTime.In(beijing).Format(timeLayout); got != whole && len(whole) == len(got) {
			t.Fatalf("%q is read as %s", s, got)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := documentedBody(100)
	b.Run("crsapi", func(b *testing.B) {
		names := &interner{}
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

// FuzzTimesOfADay checks that a time after another of the same day is read as it is
// alone.
func FuzzTimesOfADay(f *testing.F) {
	for _, clock := range []string{"16:56:18", "00:00:00", "23:59:59", "24:00:00", "12:60:00", "12:00:60", "1:02:003", "aa:bb:cc", " 1:02:03"} {
		f.Add("2017-02-10 " + clock)
	}
	f.Fuzz(func(t *testing.T, s string) {
		alone := responseDecoder{zone: beijing}
		after := responseDecoder{zone: beijing}
		if len(s) >= len(dateLayout) {
			after.time([]byte(s[:len(dateLayout)] + " 11:22:33"))
		}
		if a, b := alone.time([]byte(s)), after.time([]byte(s)); !a.Equal(b) {
			t.Fatalf("%q is %s, and %s after another time of the day", s, a, b)
		}
	})
}
