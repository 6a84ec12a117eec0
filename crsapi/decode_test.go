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

func rowJSON(fields ...string) string {
	row := map[string]string{
		"startTime": `"2017-02-10 16:56:18"`, "taskName": `"backupInstance"`, "redisName": `"for API test"`,
		"redisId": `"crs-izbob1wh"`, "projectId": `0`, "status": `2`, "progress": `1`,
	}
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			delete(row, fields[i])
		} else {
			row[fields[i]] = fields[i+1]
		}
	}
	var members []string
	for name, value := range row {
		members = append(members, fmt.Sprintf("%q:%s", name, value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func listJSON(total int, rows ...string) string {
	return fmt.Sprintf(`{"code":0,"message":"","codeDesc":"Success","totalCount":%d,"data":{"redisTaskSet":[%s]}}`,
		total, strings.Join(rows, ","))
}

func TestDecodeRow(t *testing.T) {
	want := Task{
		RedisID: "crs-izbob1wh", RedisName: "for API test", ProjectID: "0", TaskName: "backupInstance",
		StartTime: time.Date(2017, 2, 10, 8, 56, 18, 0, time.UTC), Status: StatusSucceeded, Progress: 1,
	}
	with := func(change func(*Task)) *Task {
		task := want
		change(&task)
		return &task
	}
	long := strings.Repeat("x", maxLabel+1)
	for name, test := range map[string]struct {
		row  string
		want *Task // nil if rejected
	}{
		"as documented":             {rowJSON(), &want},
		"unknown member":            {rowJSON("extra", `{"a":[1,{}]}`), &want},
		"status as string":          {rowJSON("status", `"2"`), &want},
		"status 2.0":                {rowJSON("status", `2.0`), &want},
		"status -1":                 {rowJSON("status", `-1`), with(func(t *Task) { t.Status = StatusError })},
		"status unheard of":         {rowJSON("status", `17`), with(func(t *Task) { t.Status = 17 })},
		"status beyond int32":       {rowJSON("status", `4294967298`), with(func(t *Task) { t.Status = unnumbered })},
		"status of half":            {rowJSON("status", `1.5`), with(func(t *Task) { t.Status = unnumbered })},
		"status missing":            {rowJSON("status", ""), nil},
		"status null":               {rowJSON("status", "null"), nil},
		"status a word":             {rowJSON("status", `"done"`), nil},
		"status empty":              {rowJSON("status", `""`), nil},
		"status true":               {rowJSON("status", `true`), nil},
		"status NaN":                {rowJSON("status", `"NaN"`), nil},
		"status object":             {rowJSON("status", `{}`), nil},
		"progress float":            {rowJSON("progress", `0.5`), with(func(t *Task) { t.Progress = 0.5 })},
		"progress null":             {rowJSON("progress", `null`), with(func(t *Task) { t.Progress = 0 })},
		"progress array":            {rowJSON("progress", `[]`), with(func(t *Task) { t.Progress = 0 })},
		"project as string":         {rowJSON("projectId", `"12"`), with(func(t *Task) { t.ProjectID = "12" })},
		"project null":              {rowJSON("projectId", `null`), with(func(t *Task) { t.ProjectID = "" })},
		"project a word":            {rowJSON("projectId", `"x"`), with(func(t *Task) { t.ProjectID = "" })},
		"name of later flow":        {rowJSON("taskName", `"upgradeArch"`), with(func(t *Task) { t.TaskName = "upgradeArch" })},
		"name missing":              {rowJSON("taskName", ""), with(func(t *Task) { t.TaskName = "" })},
		"name object":               {rowJSON("taskName", "{}"), nil},
		"name too long":             {rowJSON("taskName", `"`+long+`"`), nil},
		"name escaped":              {rowJSON("taskName", `"a\"\u4e2d\n"`), with(func(t *Task) { t.TaskName = "a\"中\n" })},
		"name of invalid UTF-8":     {rowJSON("taskName", "\"a\xffb\""), with(func(t *Task) { t.TaskName = "a\ufffdb" })},
		"name of a lone surrogate":  {rowJSON("taskName", `"a\ud800"`), with(func(t *Task) { t.TaskName = "a\ufffd" })},
		"member name escaped":       {strings.Replace(rowJSON(), `"status"`, `"st\u0061tus"`, 1), &want},
		"redisName too long":        {rowJSON("redisName", `"`+strings.Repeat("é", maxLabel)+`"`), with(func(t *Task) { t.RedisName = strings.Repeat("é", maxLabel/2) })},
		"redisName null":            {rowJSON("redisName", "null"), with(func(t *Task) { t.RedisName = "" })},
		"redisId missing":           {rowJSON("redisId", ""), nil},
		"redisId empty":             {rowJSON("redisId", `""`), nil},
		"redisId null":              {rowJSON("redisId", `null`), nil},
		"redisId array":             {rowJSON("redisId", `["crs-1"]`), nil},
		"redisId too long":          {rowJSON("redisId", `"`+long+`"`), nil},
		"startTime missing":         {rowJSON("startTime", ""), nil},
		"startTime empty":           {rowJSON("startTime", `""`), nil},
		"startTime zero":            {rowJSON("startTime", `"0000-00-00 00:00:00"`), nil},
		"startTime 30 February":     {rowJSON("startTime", `"2017-02-30 00:00:00"`), nil},
		"startTime in UNIX seconds": {rowJSON("startTime", `1486716978`), nil},
		"null":                      {`null`, nil},
		"a string":                  {`"row"`, nil},
		"an array":                  {`[[]]`, nil},
		"an empty object":           {`{}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			names := newSymbols()
			// The neighbours show that one bad row blinds no other.
			a, err := decodeAnswer([]byte(listJSON(3, rowJSON(), test.row, rowJSON())), names, beijing)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.rows) != 3 || names.task(a.rows[0]) != want || names.task(a.rows[2]) != want {
				t.Fatalf("the neighbours suffered: %+v", a.rows)
			}
			switch got := a.rows[1]; {
			case test.want == nil && got.readable():
				t.Errorf("got %+v, want it rejected", names.task(got))
			case test.want != nil && !got.readable():
				t.Errorf("rejected, want %+v", *test.want)
			case test.want != nil && names.task(got) != *test.want:
				t.Errorf("got  %+v\nwant %+v", names.task(got), *test.want)
			}
		})
	}
}

func TestDecodeAnswer(t *testing.T) {
	row := rowJSON()
	for name, test := range map[string]struct {
		body  string
		rows  int
		total int
		code  string
	}{
		"documented":            {listJSON(9, row, row), 2, 9, "0"},
		"code as string":        {strings.Replace(listJSON(1, row), `"code":0`, `"code":"0"`, 1), 1, 1, "0"},
		"total as string":       {strings.Replace(listJSON(1, row), `Count":1`, `Count":"1"`, 1), 1, 1, "0"},
		"total as float":        {strings.Replace(listJSON(1, row), `Count":1`, `Count":1.0`, 1), 1, 1, "0"},
		"data null":             {`{"code":0,"totalCount":0,"data":null}`, 0, 0, "0"},
		"data array":            {`{"code":0,"totalCount":0,"data":[]}`, 0, 0, "0"},
		"data missing":          {`{"code":0,"totalCount":0}`, 0, 0, "0"},
		"set null":              {`{"code":0,"totalCount":0,"data":{"redisTaskSet":null}}`, 0, 0, "0"},
		"set an empty object":   {`{"code":0,"totalCount":0,"data":{"redisTaskSet":{}}}`, 0, 0, "0"},
		"set an object of rows": {`{"code":0,"totalCount":1,"data":{"redisTaskSet":{"0":` + row + `}}}`, 1, 1, "0"},
		"data before code":      {`{"data":{"redisTaskSet":[` + row + `]},"totalCount":1,"code":0}`, 1, 1, "0"},
		"error":                 {`{"code":4100,"message":"no","codeDesc":"AuthFailure"}`, 0, 0, "4100"},
		"error as string":       {`{"code":"4100","message":null}`, 0, 0, "4100"},
		"API 3.0 envelope":      {`{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure","Message":"no"},"RequestId":"x"}}`, 0, 0, "AuthFailure.SignatureFailure"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := decodeAnswer([]byte(test.body), newSymbols(), beijing)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.rows) != test.rows || a.total != test.total || a.code != test.code {
				t.Errorf("got %d rows, total %d, code %q; want %d, %d, %q",
					len(a.rows), a.total, a.code, test.rows, test.total, test.code)
			}
		})
	}
	for name, test := range map[string]struct{ body, want string }{
		"empty":              {``, "ends early"},
		"HTML":               {`<html>secret</html>`, "not JSON from byte 0"},
		"an array":           {`[]`, "no JSON object"},
		"null":               {`null`, "no JSON object"},
		"truncated":          {listJSON(1, row)[:200], "ends early"},
		"two values":         {listJSON(0) + `{}`, "more than one JSON value"},
		"no code":            {`{"totalCount":0}`, "no code"},
		"code null":          {`{"code":null,"totalCount":0}`, "no code"},
		"code object":        {`{"code":{},"totalCount":0}`, "no code"},
		"no total":           {`{"code":0}`, "no totalCount"},
		"total null":         {`{"code":0,"totalCount":null}`, "no totalCount"},
		"total negative":     {`{"code":0,"totalCount":-1}`, "totalCount is not"},
		"total of half":      {`{"code":0,"totalCount":1.5}`, "totalCount is not"},
		"total a word":       {`{"code":0,"totalCount":"many"}`, "totalCount is not"},
		"total too large":    {`{"code":0,"totalCount":10000001}`, "totalCount is not"},
		"answer of API 3.0":  {`{"Response":{"RequestId":"x"}}`, "no code"},
		"row that is broken": {`{"code":0,"totalCount":1,"data":{"redisTaskSet":[{"a":]}}`, "not JSON from byte"},
	} {
		t.Run("error/"+name, func(t *testing.T) {
			_, err := decodeAnswer([]byte(test.body), newSymbols(), beijing)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the body: %v", err)
			}
		})
	}
}

// FuzzDecodeAnswer holds the decoder against the standard library: what it
// accepts is JSON, and its texts are fit for labels and logs.
func FuzzDecodeAnswer(f *testing.F) {
	f.Add([]byte(listJSON(2, rowJSON(), rowJSON("redisId", ""))))
	f.Add([]byte(`{"code":"4100","message":"a\u0000","codeDesc":"AuthFailure"}`))
	f.Add([]byte(`{"Response":{"Error":{"Code":"InternalError","Message":"x"}}}`))
	f.Add([]byte(listJSON(1, rowJSON("taskName", "\"a\xff\\ud800\""))))
	f.Fuzz(func(t *testing.T, body []byte) {
		names := newSymbols()
		a, err := decodeAnswer(slices.Clone(body), names, beijing)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatal("accepted what is no JSON")
		}
		for _, r := range a.rows {
			task := names.task(r)
			if r.readable() && task.RedisID == "" {
				t.Fatalf("a task without redisId: %+v", task)
			}
			for _, label := range []string{task.RedisID, task.RedisName, task.TaskName, task.ProjectID} {
				if !utf8.ValidString(label) || len(label) > maxLabel {
					t.Fatalf("label %q", label)
				}
			}
		}
		if e := a.error(); !utf8.ValidString(e.Error()) && a.code != "0" {
			t.Fatalf("error %q", e.Error())
		}
	})
}

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
		if again, ok := parseStatus([]byte(fmt.Sprint(int32(status)))); status != unnumbered && (!ok || again != status) {
			t.Fatalf("%q is %d, which is %d", s, status, again)
		}
	})
}

func benchmarkBody() []byte {
	var rows []string
	for i := range 100 {
		rows = append(rows, rowJSON("redisId", fmt.Sprintf(`"crs-%08d"`, i%30)))
	}
	return []byte(listJSON(100, rows...))
}

func BenchmarkDecode(b *testing.B) {
	body := benchmarkBody()
	b.Run("ours", func(b *testing.B) {
		names := newSymbols()
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeAnswer(body, names, beijing); err != nil {
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

// documented is the answer as one would write it down for encoding/json.
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
