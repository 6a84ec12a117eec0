package crsapi_test

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// rowJSON returns the task of the documented example as JSON. Fields are pairs of
// a name and a JSON value that replace members, or remove them if the value is
// empty.
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

// pageOf returns what Page makes of a response body.
func pageOf(t *testing.T, body string) (*crsapi.Page, error) {
	t.Helper()
	c := newTestClient(t, func(cfg *crsapi.Config) {
		cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, body) })
	})
	return c.Page(t.Context(), crsapi.Query{})
}

func TestDecodeRow(t *testing.T) {
	want := crsapi.Task{
		RedisID: "crs-izbob1wh", RedisName: "for API test", ProjectID: "0", TaskName: "backupInstance",
		StartTime: time.Date(2017, 2, 10, 8, 56, 18, 0, time.UTC), Status: crsapi.StatusSucceeded, Progress: 1,
	}
	with := func(change func(*crsapi.Task)) *crsapi.Task {
		task := want
		change(&task)
		return &task
	}
	long := strings.Repeat("x", 256+1)
	for name, test := range map[string]struct {
		row  string
		want *crsapi.Task // nil if rejected
	}{
		"as documented":             {rowJSON(), &want},
		"unknown member":            {rowJSON("extra", `{"a":[1,{}]}`), &want},
		"status as string":          {rowJSON("status", `"2"`), &want},
		"status 2.0":                {rowJSON("status", `2.0`), &want},
		"status -1":                 {rowJSON("status", `-1`), with(func(t *crsapi.Task) { t.Status = crsapi.StatusError })},
		"status undocumented":       {rowJSON("status", `17`), with(func(t *crsapi.Task) { t.Status = 17 })},
		"status beyond int32":       {rowJSON("status", `4294967298`), with(func(t *crsapi.Task) { t.Status = math.MinInt32 })},
		"status fraction":           {rowJSON("status", `1.5`), with(func(t *crsapi.Task) { t.Status = math.MinInt32 })},
		"status missing":            {rowJSON("status", ""), nil},
		"status null":               {rowJSON("status", "null"), nil},
		"status word":               {rowJSON("status", `"done"`), nil},
		"status empty":              {rowJSON("status", `""`), nil},
		"status true":               {rowJSON("status", `true`), nil},
		"status NaN":                {rowJSON("status", `"NaN"`), nil},
		"status object":             {rowJSON("status", `{}`), nil},
		"progress float":            {rowJSON("progress", `0.5`), with(func(t *crsapi.Task) { t.Progress = 0.5 })},
		"progress null":             {rowJSON("progress", `null`), with(func(t *crsapi.Task) { t.Progress = 0 })},
		"progress array":            {rowJSON("progress", `[]`), with(func(t *crsapi.Task) { t.Progress = 0 })},
		"project as string":         {rowJSON("projectId", `"12"`), with(func(t *crsapi.Task) { t.ProjectID = "12" })},
		"project null":              {rowJSON("projectId", `null`), with(func(t *crsapi.Task) { t.ProjectID = "" })},
		"project word":              {rowJSON("projectId", `"x"`), with(func(t *crsapi.Task) { t.ProjectID = "" })},
		"name undocumented":         {rowJSON("taskName", `"upgradeArch"`), with(func(t *crsapi.Task) { t.TaskName = "upgradeArch" })},
		"name missing":              {rowJSON("taskName", ""), with(func(t *crsapi.Task) { t.TaskName = "" })},
		"name object":               {rowJSON("taskName", "{}"), nil},
		"name too long":             {rowJSON("taskName", `"`+long+`"`), nil},
		"name escaped":              {rowJSON("taskName", `"a\"\u4e2d\n"`), with(func(t *crsapi.Task) { t.TaskName = "a\"中\n" })},
		"name invalid UTF-8":        {rowJSON("taskName", "\"a\xffb\""), with(func(t *crsapi.Task) { t.TaskName = "a\ufffdb" })},
		"name lone surrogate":       {rowJSON("taskName", `"a\ud800"`), with(func(t *crsapi.Task) { t.TaskName = "a\ufffd" })},
		"member name escaped":       {strings.Replace(rowJSON(), `"status"`, `"st\u0061tus"`, 1), &want},
		"redisName too long":        {rowJSON("redisName", `"`+strings.Repeat("é", 256)+`"`), with(func(t *crsapi.Task) { t.RedisName = strings.Repeat("é", 256/2) })},
		"redisName cut":             {rowJSON("redisName", `"x`+strings.Repeat("é", 256)+`"`), with(func(t *crsapi.Task) { t.RedisName = "x" + strings.Repeat("é", 127) })},
		"redisName null":            {rowJSON("redisName", "null"), with(func(t *crsapi.Task) { t.RedisName = "" })},
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
			// An invalid row must not affect the rows around it.
			p, err := pageOf(t, listJSON(3, rowJSON(), test.row, rowJSON()))
			if err != nil {
				t.Fatal(err)
			}
			tasks, rejected := []crsapi.Task{want, want}, 1
			if test.want != nil {
				tasks, rejected = []crsapi.Task{want, *test.want, want}, 0
			}
			if !slices.Equal(p.Tasks, tasks) || p.Rejected != rejected {
				t.Errorf("got  %+v, %d rejected\nwant %+v, %d rejected", p.Tasks, p.Rejected, tasks, rejected)
			}
		})
	}
}

func TestDecodeResponse(t *testing.T) {
	row := rowJSON()
	for name, test := range map[string]struct {
		body  string
		rows  int
		total int
		code  string // of the error, if not 0
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
		"unknown members":       {`{"extra":[1],"code":0,"totalCount":0,"data":{"more":1,"redisTaskSet":[]}}`, 0, 0, "0"},
		"unknown error member":  {`{"Response":{"Error":{"Code":"InvalidParameter","More":[]},"RequestId":"x"}}`, 0, 0, "InvalidParameter"},
		"API 3.0 envelope":      {`{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure","Message":"no"},"RequestId":"x"}}`, 0, 0, "AuthFailure.SignatureFailure"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := pageOf(t, test.body)
			if test.code != "0" {
				var failed *crsapi.Error
				if !errors.As(err, &failed) || fmt.Sprint(failed.Code) != test.code && failed.CodeDesc != test.code {
					t.Errorf("got %v, want code %s", err, test.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Tasks) != test.rows || p.TotalCount != test.total {
				t.Errorf("got %d tasks of %d, want %d of %d", len(p.Tasks), p.TotalCount, test.rows, test.total)
			}
		})
	}
	for name, test := range map[string]struct{ body, want string }{
		"empty":              {``, "unexpected end of JSON"},
		"HTML":               {`<html>secret</html>`, "invalid JSON at byte 0"},
		"an array":           {`[]`, "not a JSON object"},
		"null":               {`null`, "not a JSON object"},
		"truncated":          {listJSON(1, row)[:200], "unexpected end of JSON"},
		"text after it":      {listJSON(0) + `x`, "invalid JSON at byte"},
		"invalid name":       {`{"code":0,x}`, "invalid JSON at byte"},
		"Response a number":  {`{"Response":1}`, "no code"},
		"two values":         {listJSON(0) + `{}`, "more than one JSON value"},
		"no code":            {`{"totalCount":0}`, "no code"},
		"code null":          {`{"code":null,"totalCount":0}`, "no code"},
		"code object":        {`{"code":{},"totalCount":0}`, "no code"},
		"no total":           {`{"code":0}`, "no totalCount"},
		"total null":         {`{"code":0,"totalCount":null}`, "no totalCount"},
		"total negative":     {`{"code":0,"totalCount":-1}`, "totalCount is not"},
		"total fraction":     {`{"code":0,"totalCount":1.5}`, "totalCount is not"},
		"total word":         {`{"code":0,"totalCount":"many"}`, "totalCount is not"},
		"total too large":    {`{"code":0,"totalCount":10000001}`, "totalCount is not"},
		"success of API 3.0": {`{"Response":{"RequestId":"x"}}`, "no code"},
		"broken row":         {`{"code":0,"totalCount":1,"data":{"redisTaskSet":[{"a":]}}`, "invalid JSON at byte"},
	} {
		t.Run("error/"+name, func(t *testing.T) {
			_, err := pageOf(t, test.body)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error contains the body: %v", err)
			}
		})
	}
}
