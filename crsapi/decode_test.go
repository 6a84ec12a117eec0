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

// pageOf returns what Page makes of a response body.
func pageOf(t *testing.T, api crsapi.API, body string) (*crsapi.Page, error) {
	t.Helper()
	c := newTestClient(t, api, func(cfg *crsapi.Config) {
		cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, body) })
	})
	return c.Page(t.Context(), crsapi.Query{})
}

func TestDecodeRow(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
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
		escaped := strings.NewReplacer(`tatus"`, `t\u0061tus"`, `Result"`, `R\u0065sult"`).Replace(rowJSON(api))
		for name, test := range map[string]struct {
			row  string
			want *crsapi.Task // nil if rejected
		}{
			"as documented":             {rowJSON(api), &want},
			"unknown member":            {rowJSON(api, "extra", `{"a":[1,{}]}`), &want},
			"status as string":          {rowJSON(api, "status", `"2"`), &want},
			"status 2.0":                {rowJSON(api, "status", `2.0`), &want},
			"status undocumented":       {rowJSON(api, "status", `17`), with(func(t *crsapi.Task) { t.Status = 17 })},
			"status beyond int32":       {rowJSON(api, "status", `4294967298`), with(func(t *crsapi.Task) { t.Status = math.MinInt32 })},
			"status fraction":           {rowJSON(api, "status", `1.5`), with(func(t *crsapi.Task) { t.Status = math.MinInt32 })},
			"status missing":            {rowJSON(api, "status", ""), nil},
			"status null":               {rowJSON(api, "status", "null"), nil},
			"status word":               {rowJSON(api, "status", `"done"`), nil},
			"status empty":              {rowJSON(api, "status", `""`), nil},
			"status true":               {rowJSON(api, "status", `true`), nil},
			"status NaN":                {rowJSON(api, "status", `"NaN"`), nil},
			"status object":             {rowJSON(api, "status", `{}`), nil},
			"progress float":            {rowJSON(api, "progress", `0.5`), with(func(t *crsapi.Task) { t.Progress = 0.5 })},
			"progress null":             {rowJSON(api, "progress", `null`), with(func(t *crsapi.Task) { t.Progress = 0 })},
			"progress array":            {rowJSON(api, "progress", `[]`), with(func(t *crsapi.Task) { t.Progress = 0 })},
			"project as string":         {rowJSON(api, "projectId", `"12"`), with(func(t *crsapi.Task) { t.ProjectID = "12" })},
			"project null":              {rowJSON(api, "projectId", `null`), with(func(t *crsapi.Task) { t.ProjectID = "" })},
			"project word":              {rowJSON(api, "projectId", `"x"`), with(func(t *crsapi.Task) { t.ProjectID = "" })},
			"name undocumented":         {rowJSON(api, "taskName", `"upgradeArch"`), with(func(t *crsapi.Task) { t.TaskName = "upgradeArch" })},
			"name missing":              {rowJSON(api, "taskName", ""), with(func(t *crsapi.Task) { t.TaskName = "" })},
			"name object":               {rowJSON(api, "taskName", "{}"), nil},
			"name too long":             {rowJSON(api, "taskName", `"`+long+`"`), nil},
			"name escaped":              {rowJSON(api, "taskName", `"a\"\u4e2d\n"`), with(func(t *crsapi.Task) { t.TaskName = "a\"中\n" })},
			"name invalid UTF-8":        {rowJSON(api, "taskName", "\"a\xffb\""), with(func(t *crsapi.Task) { t.TaskName = "a\ufffdb" })},
			"name lone surrogate":       {rowJSON(api, "taskName", `"a\ud800"`), with(func(t *crsapi.Task) { t.TaskName = "a\ufffd" })},
			"member name escaped":       {escaped, &want},
			"redisName too long":        {rowJSON(api, "redisName", `"`+strings.Repeat("é", 256)+`"`), with(func(t *crsapi.Task) { t.RedisName = strings.Repeat("é", 256/2) })},
			"redisName cut":             {rowJSON(api, "redisName", `"x`+strings.Repeat("é", 256)+`"`), with(func(t *crsapi.Task) { t.RedisName = "x" + strings.Repeat("é", 127) })},
			"redisName null":            {rowJSON(api, "redisName", "null"), with(func(t *crsapi.Task) { t.RedisName = "" })},
			"redisId missing":           {rowJSON(api, "redisId", ""), nil},
			"redisId empty":             {rowJSON(api, "redisId", `""`), nil},
			"redisId null":              {rowJSON(api, "redisId", `null`), nil},
			"redisId array":             {rowJSON(api, "redisId", `["crs-1"]`), nil},
			"redisId too long":          {rowJSON(api, "redisId", `"`+long+`"`), nil},
			"startTime missing":         {rowJSON(api, "startTime", ""), nil},
			"startTime empty":           {rowJSON(api, "startTime", `""`), nil},
			"startTime zero":            {rowJSON(api, "startTime", `"0000-00-00 00:00:00"`), nil},
			"startTime 30 February":     {rowJSON(api, "startTime", `"2017-02-30 00:00:00"`), nil},
			"startTime in UNIX seconds": {rowJSON(api, "startTime", `1486716978`), nil},
			"null":                      {`null`, nil},
			"a string":                  {`"row"`, nil},
			"an array":                  {`[[]]`, nil},
			"an empty object":           {`{}`, nil},
		} {
			t.Run(name, func(t *testing.T) {
				// An invalid row must not affect the rows around it.
				p, err := pageOf(t, api, listJSON(api, 3, rowJSON(api), test.row, rowJSON(api)))
				if err != nil {
					t.Fatal(err)
				}
				tasks, rejected := []crsapi.Task{want, want}, 1
				if test.want != nil {
					tasks, rejected = []crsapi.Task{want, *test.want, want}, 0
				}
				if !slices.Equal(p.Tasks, tasks) || len(p.Rejected) != rejected {
					t.Errorf("got  %+v, %d rejected\nwant %+v, %d rejected", p.Tasks, len(p.Rejected), tasks, rejected)
				}
			})
		}
	})
}

// TestRejectedHash: a rejected row is the same row while its task runs.
func TestRejectedHash(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		zero := []string{"startTime", `"0000-00-00 00:00:00"`}
		row := func(more ...string) string { return rowJSON(api, append(zero, more...)...) }
		// A map of members is in another order each time.
		ordered := func(row string) string {
			members := strings.Split(strings.Trim(row, "{}"), ",")
			slices.Sort(members)
			return "{" + strings.Join(members, ",") + "}"
		}
		hashes := func(rows ...string) (all []uint64) {
			for i := range rows {
				rows[i] = ordered(rows[i])
			}
			p, err := pageOf(t, api, listJSON(api, len(rows), rows...))
			if err != nil || len(p.Rejected) != len(rows) {
				t.Fatalf("%+v, %v", p, err)
			}
			for _, r := range p.Rejected {
				all = append(all, r.Hash)
			}
			return all
		}
		same := hashes(row(), row("progress", "0.25"), row("status", "1"), row("progress", ""))
		if api == crsapi.API30 { // the others have no end
			same = append(same, hashes(row("endTime", `"2017-02-10 17:00:00"`))...)
		}
		if len(slices.Compact(same)) != 1 {
			t.Errorf("hashes %v of one task", same)
		}
		others := hashes(
			row(), row("redisId", `"crs-2"`), row("taskName", `"x"`), row("startTime", `""`),
			row("createTime", `"2017-02-10 17:00:00"`), row("createTime", `"2017-02-10 17:00:01"`), "{}",
		)
		slices.Sort(others)
		if len(slices.Compact(others)) != 7 {
			t.Errorf("hashes %v of seven tasks", others)
		}
	})
}

// TestByteOrderMark reads what begins with one, as some gateways write it.
func TestByteOrderMark(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		p, err := pageOf(t, api, "\ufeff"+listJSON(api, 2, rowJSON(api), rowJSON(api, "startTime", "")))
		if err != nil || len(p.Tasks) != 1 || len(p.Rejected) != 1 {
			t.Errorf("got %+v, %v", p, err)
		}
		_, err = pageOf(t, api, "\ufeff"+apiError(4100, "no"))
		var failed *crsapi.Error
		if !errors.As(err, &failed) || failed.Code != 4100 {
			t.Errorf("got %v, want code 4100", err)
		}
	})
}

func TestDecodeResponse(t *testing.T) {
	const api = crsapi.API20
	row := rowJSON(api)
	for name, test := range map[string]struct {
		body  string
		rows  int
		total int
		code  string // of the error, if not 0
	}{
		"documented":            {listJSON(api, 9, row, row), 2, 9, "0"},
		"code as string":        {strings.Replace(listJSON(api, 1, row), `"code":0`, `"code":"0"`, 1), 1, 1, "0"},
		"total as string":       {strings.Replace(listJSON(api, 1, row), `Count":1`, `Count":"1"`, 1), 1, 1, "0"},
		"total as float":        {strings.Replace(listJSON(api, 1, row), `Count":1`, `Count":1.0`, 1), 1, 1, "0"},
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
			p, err := pageOf(t, api, test.body)
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
		"truncated":          {listJSON(api, 1, row)[:200], "unexpected end of JSON"},
		"text after it":      {listJSON(api, 0) + `x`, "invalid JSON at byte"},
		"invalid name":       {`{"code":0,x}`, "invalid JSON at byte"},
		"Response a number":  {`{"Response":1}`, "no code"},
		"two BOMs":           {"\ufeff\ufeff" + listJSON(api, 0), "invalid JSON at byte"},
		"BOM only":           {"\ufeff", "unexpected end of JSON"},
		"two values":         {listJSON(api, 0) + `{}`, "more than one JSON value"},
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
			_, err := pageOf(t, api, test.body)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error contains the body: %v", err)
			}
		})
	}
}
