package crsapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// pageOf returns what Page makes of a response body.
func pageOf(t testing.TB, api crsapi.API, body string) (*crsapi.Page, error) {
	t.Helper()
	c := newTestClient(t, api, func(cfg *crsapi.Config) {
		cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, body) })
	})
	// There is no time for a retry.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	return c.Page(ctx, crsapi.Query{})
}

// onlyTask returns the task of a list with one row, or nil if the row is rejected.
func onlyTask(t *testing.T, api crsapi.API, row string) *crsapi.Task {
	t.Helper()
	p, err := pageOf(t, api, listJSON(api, 1, row))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Tasks)+len(p.Rejected) != 1 {
		t.Fatalf("%d tasks, %d rejected", len(p.Tasks), len(p.Rejected))
	}
	if len(p.Rejected) == 1 {
		return nil
	}
	return &p.Tasks[0]
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
		failed := fmt.Sprint(dialects[api].failed)
		long := strings.Repeat("x", 256+1)
		escaped := strings.NewReplacer(`tatus"`, `t\u0061tus"`, `Result"`, `R\u0065sult"`).Replace(rowJSON(api))
		for name, test := range map[string]struct {
			row  string
			want *crsapi.Task // nil if rejected
		}{
			"as documented":  {rowJSON(api), &want},
			"unknown member": {rowJSON(api, "extra", `{"a":[1,{}]}`), &want},
			"numbers as text": {
				rowJSON(api, "status", `"`+failed+`"`, "progress", `"0.5"`, "projectId", `"12"`),
				with(func(t *crsapi.Task) { t.Status, t.Progress, t.ProjectID = crsapi.StatusFailed, 0.5, "12" }),
			},
			"numbers as floats":         {rowJSON(api, "status", `2.0`, "progress", `1.0`, "projectId", `0.0`), &want},
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
			"project null":              {rowJSON(api, "projectId", `null`), with(func(t *crsapi.Task) { t.ProjectID = "" })},
			"project word":              {rowJSON(api, "projectId", `"x"`), with(func(t *crsapi.Task) { t.ProjectID = "" })},
			"name missing":              {rowJSON(api, "taskName", ""), with(func(t *crsapi.Task) { t.TaskName = "" })},
			"name object":               {rowJSON(api, "taskName", "{}"), with(func(t *crsapi.Task) { t.TaskName = "" })},
			"name too long":             {rowJSON(api, "taskName", `"`+long+`"`), nil},
			"name with escapes":         {rowJSON(api, "taskName", `"a\"\u4e2d\n"`), with(func(t *crsapi.Task) { t.TaskName = "a\"中\n" })},
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
			"startTime 0 of UNIX":       {rowJSON(api, "startTime", `"1970-01-01 08:00:00"`), nil},
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
				if !slices.Equal(p.Tasks, tasks) || len(p.Rejected) != rejected || rejected == 1 && p.Rejected[0].Index != 1 {
					t.Errorf("got  %+v, rejected %+v\nwant %+v, %d rejected", p.Tasks, p.Rejected, tasks, rejected)
				}
			})
		}
	})
}

// TestDecodeTheDocumentsExampleOfAPI3 reads the example of DescribeTaskList.
func TestDecodeTheDocumentsExampleOfAPI3(t *testing.T) {
	const example = `{"Response":{"TotalCount":2,"RequestId":"19a7fb07-8e21-4827-88dd-fee57f38e8cd","Tasks":[
 {"TaskId":42372,"StartTime":"2019-11-15 14:25:37","EndTime":"2019-11-15 14:25:46","TaskType":"037","InstanceId":"crs-opcazbrb","InstanceName":"multidbccbugfix11153","ProjectId":0,"Progress":1,"Result":2},
 {"TaskId":42371,"StartTime":"2019-11-15 14:25:16","EndTime":"2019-11-15 14:25:25","TaskType":"037","InstanceId":"crs-opcazbrb","InstanceName":"multidbccbugfix11153","ProjectId":0,"Progress":1,"Result":2}]}}`
	p, err := pageOf(t, crsapi.API30, example)
	if err != nil {
		t.Fatal(err)
	}
	task := func(id int64, begin, end int) crsapi.Task {
		return crsapi.Task{
			RedisID: "crs-opcazbrb", RedisName: "multidbccbugfix11153", ProjectID: "0", TaskName: "MODIFYINSTANCEACCOUNT",
			StartTime: time.Date(2019, 11, 15, 6, 25, begin, 0, time.UTC), EndTime: time.Date(2019, 11, 15, 6, 25, end, 0, time.UTC),
			Status: crsapi.StatusSucceeded, Progress: 1, TaskID: id,
		}
	}
	want := []crsapi.Task{task(42372, 37, 46), task(42371, 16, 25)}
	if !slices.Equal(p.Tasks, want) || p.TotalCount != 2 || len(p.Rejected) != 0 {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestDecodeStatus(t *testing.T) {
	const unknown = "unknown"
	both2 := map[string]string{
		"0": "pending", "1": "executing", "2": "succeeded", "3": "failed", "-1": "error", `"-1"`: "error", "3.0": "failed",
		"4": unknown, "5": unknown, "-2": unknown,
	}
	for api, statuses := range map[crsapi.API]map[string]string{
		crsapi.API20: both2, crsapi.APITCE: both2,
		crsapi.API30: {
			"0": "pending", "1": "executing", "2": "succeeded", "4": "failed", `"4"`: "failed", "4.0": "failed",
			"3": unknown, `"3"`: unknown, "-1": unknown, "5": unknown, "-2": unknown, "-4": unknown, "99": unknown,
			"4294967300": unknown, "1.5": unknown,
		},
	} {
		for value, want := range statuses {
			t.Run(string(api)+"/"+value, func(t *testing.T) {
				if task := onlyTask(t, api, rowJSON(api, "status", value)); task == nil || task.Status.String() != want {
					t.Errorf("%s is %+v, want %s", value, task, want)
				}
			})
		}
	}
}

// TestDecodeTaskName: a task type has one name, however a server writes it.
func TestDecodeTaskName(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for want, forms := range map[string][]string{
			"backupInstance": {
				`"backupInstance"`, `"task_backupInstance"`, `"FLOW_BACKUPINSTANCE"`, `"BACKUPINSTANCE"`, `"backupinstance"`, `"flow_backupinstance"`,
				`"012"`, `"12"`, `"0012"`, `12`, `"FLOW_012"`, `"\u0030\u00312"`,
			},
			"AUTOBACKUP":         {`"AUTOBACKUP"`, `"FLOW_AUTOBACKUP"`, `"autoBackup"`, `"task_autoBackup"`, `"017"`, `17`, `"\u00301\u0037"`},
			"newInstance":        {`"newInstance"`, `"CREATE"`, `"FLOW_CREATE"`, `"001"`, `1`, `"1"`, `"task_newInstance"`},
			"resizeInstance":     {`"RESIZE"`, `"task_resizeInstance"`, `"002"`},
			"closeInstance":      {`"CLOSE"`, `"003"`},
			"cleanInstance":      {`"CLEAN"`, `"004"`, `"task_cleanInstance"`},
			"startInstance":      {`"FLOW_STARTUP"`, `"005"`},
			"deleteInstance":     {`"DELETE"`, `"006"`},
			"setPassword":        {`"SETPWD"`, `"007"`, `"SetPassword"`},
			"importRdb":          {`"task_importRdb"`, `"008"`, `"IMPORTRDB"`},
			"exportBackup":       {`"EXPORTBACKUP"`, `"009"`, `"task_exportBackup"`},
			"restoreBackup":      {`"FLOW_RESTOREBACKUP"`, `"010"`, `10`},
			"restoreStream":      {`"task_restoreStream"`, `"011"`},
			"UpgradeArch":        {`"FLOW_UpgradeArch"`, `"041"`, `"UPGRADEARCH"`},
			"MODIFYBACKUPMOD":    {`"070"`, `70`, `"FLOW_MODIFYBACKUPMOD"`},
			"015":                {`"015"`},
			"71":                 {`71`, `"71"`},
			"000":                {`"000"`},
			"FLOW_SOMETHING_NEW": {`"FLOW_SOMETHING_NEW"`},
			"task_":              {`"task_"`},
			"backupInstance2":    {`"backupInstance2"`},
			"新":                  {`"新"`},
			"":                   {`""`, `null`, ``},
		} {
			for _, form := range forms {
				if task := onlyTask(t, api, rowJSON(api, "taskName", form)); task == nil || task.TaskName != want {
					t.Errorf("%s is %+v, want %q", form, task, want)
				}
			}
		}
	})
}

func TestDecodeTaskID(t *testing.T) {
	for value, want := range map[string]int64{
		"42372": 42372, `"42372"`: 42372, "42372.0": 42372, "9007199254740993": 9007199254740993,
		"9223372036854775807": math.MaxInt64, "9223372036854775808": 0, "18446744073709551616": 0, "-9223372036854775809": 0,
		"1e30": 0, "1.5": 0, `"x"`: 0, `""`: 0, "null": 0, "": 0, "0": 0, "{}": 0, "[1]": 0, "true": 0,
	} {
		for _, api := range []crsapi.API{crsapi.API30, crsapi.APITCE} {
			t.Run(string(api)+"/"+value, func(t *testing.T) {
				if task := onlyTask(t, api, rowJSON(api, "taskId", value)); task == nil || task.TaskID != want {
					t.Errorf("got %+v, want %d", task, want)
				}
			})
		}
	}
}

func TestDecodeEndTime(t *testing.T) {
	at := time.Date(2017, 2, 10, 9, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Time{
		`"2017-02-10 17:00:00"`: at,
		`"0000-00-00 00:00:00"`: {}, `""`: {}, "null": {}, "": {}, `"-"`: {}, "0": {}, "{}": {}, "[]": {}, "false": {},
		`"2017-02-30 00:00:00"`: {}, `"0000-00-00"`: {}, `"1970-01-01 08:00:00"`: {},
	} {
		t.Run(value, func(t *testing.T) {
			task := onlyTask(t, crsapi.API30, rowJSON(crsapi.API30, "endTime", value))
			if task == nil || !task.EndTime.Equal(want) || task.EndTime.Location() != time.UTC {
				t.Errorf("got %+v, want %v", task, want)
			}
		})
	}
}

// TestRejectedHash: a rejected row is the same row while its task runs.
func TestRejectedHash(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		row := func(more ...string) string {
			return rowJSON(api, append([]string{"startTime", `"0000-00-00 00:00:00"`}, more...)...)
		}
		hashes := func(rows ...string) (all []uint64) {
			p, err := pageOf(t, api, listJSON(api, len(rows), rows...))
			if err != nil || len(p.Rejected) != len(rows) {
				t.Fatalf("%+v, %v", p, err)
			}
			for _, r := range p.Rejected {
				all = append(all, r.Hash)
			}
			return all
		}
		same := hashes(row(), row("progress", "0.25"), row("status", "1"), row("progress", ""), row("endTime", `"2017-02-10 17:00:00"`))
		if len(slices.Compact(same)) != 1 {
			t.Errorf("hashes %v of one task", same)
		}
		others := hashes(row(), row("redisId", `"crs-2"`), row("taskName", `"x"`), row("startTime", `""`), "{}")
		slices.Sort(others)
		if len(slices.Compact(others)) != 5 {
			t.Errorf("hashes %v of five tasks", others)
		}
	})
}

// forms fills the forms of a response with the names of an API: TOTAL, LIST and ROW are
// the total, the list and a row, and OPEN and CLOSE are around both.
func fill(api crsapi.API, form string) string {
	d := dialects[api]
	names := []string{"ROW", rowJSON(api), "TOTAL", fmt.Sprintf("%q", d.total), "LIST", fmt.Sprintf("%q", d.tasks)}
	if api == crsapi.API20 {
		names = append(names, "OPEN", `"code":0,"data":{`, "CLOSE", "}")
	} else {
		names = append(names, "OPEN", `"Response":{`, "CLOSE", "}")
	}
	return strings.NewReplacer(names...).Replace(form)
}

// TestDecodeList has the forms that a list may take, as far as the documents leave
// them open.
func TestDecodeList(t *testing.T) {
	two, three := []crsapi.API{crsapi.API20}, []crsapi.API{crsapi.API30, crsapi.APITCE}
	all := append(two, three...)
	for name, test := range map[string]struct {
		apis        []crsapi.API
		body        string
		rows, total int
	}{
		"rows, then the total":      {three, `{OPEN LIST:[ROW,ROW],"RequestId":"r",TOTAL:9 CLOSE}`, 2, 9},
		"total as text":             {three, `{OPEN TOTAL:"9",LIST:[ROW] CLOSE}`, 1, 9},
		"total as float":            {three, `{OPEN TOTAL:9.0,LIST:[ROW] CLOSE}`, 1, 9},
		"error null":                {three, `{"Response":{"Error":null,TOTAL:1,LIST:[ROW]}}`, 1, 1},
		"code 0 beside it":          {three, `{"code":0,"message":"",OPEN TOTAL:1,LIST:[ROW] CLOSE}`, 1, 1},
		"unknown members":           {three, `{"a":{"TotalCount":7},OPEN "b":[{"TotalCount":8}],TOTAL:1,LIST:[ROW] CLOSE,"data":{LIST:[ROW]},"TotalCount":9}`, 1, 1},
		"list of another name":      {three, `{OPEN TOTAL:0,"redisTaskSet":[ROW],"Rows":[ROW] CLOSE}`, 0, 0},
		"list null, RequestId null": {three, `{OPEN TOTAL:0,LIST:null,"RequestId":null CLOSE}`, 0, 0},

		"total within data":        {all, `{OPEN TOTAL:9,LIST:[ROW] CLOSE}`, 1, 9},
		"total within data, text":  {two, `{OPEN TOTAL:"9",LIST:[ROW] CLOSE}`, 1, 9},
		"total null at the top":    {two, `{TOTAL:null,OPEN TOTAL:9,LIST:[ROW] CLOSE}`, 1, 9},
		"total at the top":         {two, `{TOTAL:9,OPEN LIST:[ROW] CLOSE}`, 1, 9},
		"total at the top, text":   {two, `{TOTAL:"9",OPEN LIST:[ROW] CLOSE}`, 1, 9},
		"total at the top, float":  {two, `{TOTAL:9.0,OPEN LIST:[ROW] CLOSE}`, 1, 9},
		"code as text":             {two, `{"code":"0",TOTAL:1,"data":{LIST:[ROW]}}`, 1, 1},
		"data before code":         {two, `{"data":{LIST:[ROW]},TOTAL:1,"code":0}`, 1, 1},
		"data null":                {two, `{"code":0,TOTAL:0,"data":null}`, 0, 0},
		"data an array":            {two, `{"code":0,TOTAL:0,"data":[]}`, 0, 0},
		"data missing":             {two, `{"code":0,TOTAL:0}`, 0, 0},
		"more unknown members":     {two, `{"extra":[1],"code":0,TOTAL:0,"data":{"more":1,LIST:[]}}`, 0, 0},
		"list null":                {all, `{OPEN TOTAL:0,LIST:null CLOSE}`, 0, 0},
		"list missing":             {all, `{OPEN TOTAL:0 CLOSE}`, 0, 0},
		"list empty":               {all, `{OPEN TOTAL:0,LIST:[] CLOSE}`, 0, 0},
		"list a string":            {all, `{OPEN TOTAL:0,LIST:"none" CLOSE}`, 0, 0},
		"list an object":           {all, `{OPEN TOTAL:0,LIST:{} CLOSE}`, 0, 0},
		"list an object of rows":   {all, `{OPEN TOTAL:2,LIST:{"0":ROW,"2":ROW} CLOSE}`, 2, 2},
		"byte order mark":          {all, "\ufeff" + `{OPEN TOTAL:1,LIST:[ROW] CLOSE}`, 1, 1},
		"white space":              {all, " {\n\tOPEN TOTAL : 2 , LIST : [ ROW , ROW ] CLOSE }\r\n", 2, 2},
		"a list of more than page": {all, `{OPEN TOTAL:3,LIST:[` + strings.Repeat("ROW,", 150) + `ROW] CLOSE}`, 151, 3},
	} {
		for _, api := range test.apis {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				p, err := pageOf(t, api, fill(api, test.body))
				if err != nil {
					t.Fatal(err)
				}
				if len(p.Tasks) != test.rows || p.TotalCount != test.total || len(p.Rejected) != 0 {
					t.Errorf("%d tasks of %d, %d rejected, want %d of %d", len(p.Tasks), p.TotalCount, len(p.Rejected), test.rows, test.total)
				}
			})
		}
	}
}

// TestDecodeNoList has bodies that are not a list, and must not be quoted.
func TestDecodeNoList(t *testing.T) {
	two, three := []crsapi.API{crsapi.API20}, []crsapi.API{crsapi.API30, crsapi.APITCE}
	all := append(two, three...)
	const syntax, other, total, code = "invalid JSON at byte", "not the documented JSON", "the total is not a number", "an error without a code"
	for name, test := range map[string]struct {
		apis       []crsapi.API
		body, want string
	}{
		"empty":                 {all, ``, syntax},
		"byte order mark only":  {all, "\ufeff", syntax},
		"two byte order marks":  {all, "\ufeff\ufeff{OPEN TOTAL:0 CLOSE}", syntax},
		"HTML":                  {all, `<html>secret</html>`, syntax + " 0"},
		"truncated":             {all, `{OPEN TOTAL:1,LIST:[`, syntax},
		"text after it":         {all, `{OPEN TOTAL:0 CLOSE}x`, syntax},
		"two values":            {all, `{OPEN TOTAL:0 CLOSE}{}`, syntax},
		"name without quotes":   {all, `{OPEN TOTAL:0 CLOSE,x}`, syntax},
		"broken row":            {all, `{OPEN TOTAL:1,LIST:[{"a":] CLOSE}`, syntax},
		"the same member twice": {all, `{OPEN TOTAL:1,TOTAL:2,LIST:[ROW] CLOSE}`, syntax},
		"error, then none":      {all, `{"Response":{"Error":{"Code":"secret"},"Error":null,TOTAL:0}}`, syntax},
		"an array":              {all, `[]`, other},
		"a string":              {all, `"secret"`, other},
		"Response a number":     {all, `{"Response":1}`, other},
		"Response an array":     {all, `{"Response":[{"TotalCount":0}]}`, other},
		"error a string":        {all, `{"Response":{"Error":"secret",TOTAL:0}}`, other},
		"no total":              {all, `{OPEN LIST:[ROW] CLOSE}`, "no total"},
		"total null":            {all, `{OPEN TOTAL:null,LIST:[ROW] CLOSE}`, "no total"},
		"total an object":       {all, `{OPEN TOTAL:{"a":0} CLOSE}`, "no total"},
		"total negative":        {all, `{OPEN TOTAL:-1 CLOSE}`, total},
		"total a fraction":      {all, `{OPEN TOTAL:0.5 CLOSE}`, total},
		"total a word":          {all, `{OPEN TOTAL:"secret" CLOSE}`, total},
		"total too large":       {all, `{OPEN TOTAL:10000001 CLOSE}`, total},
		"error without a code":  {all, `{"code":0,"Response":{"Error":{"Message":"secret"},TOTAL:0}}`, code},
		"error empty":           {all, `{"Response":{"Error":{},TOTAL:0}}`, code},
		"error code empty":      {all, `{"Response":{"Error":{"Code":""},TOTAL:0}}`, code},
		"error code null":       {all, `{"Response":{"Error":{"Code":null},TOTAL:0}}`, code},
		"error code 0":          {all, `{"Response":{"Error":{"Code":0},TOTAL:0}}`, code},
		"error code 00":         {all, `{"Response":{"Error":{"Code":"00"},TOTAL:0}}`, code},

		"null":                  {two, `null`, "no code"},
		"no code":               {two, `{TOTAL:0}`, "no code"},
		"code null":             {two, `{"code":null,TOTAL:0}`, "no code"},
		"code an object":        {two, `{"code":{},TOTAL:0}`, "no code"},
		"success of API 3.0":    {two, `{"Response":{"TotalCount":0,"RequestId":"x"}}`, "no code"},
		"null, 3.0":             {three, `null`, "no Response"},
		"an empty object":       {three, `{}`, "no Response"},
		"Response null":         {three, `{"Response":null}`, "no Response"},
		"lower case":            {three, `{"response":{"TotalCount":0}}`, "no Response"},
		"success of API 2.0":    {three, `{"code":0,"totalCount":0,"data":{"redisTaskSet":[]}}`, "no Response"},
		"Response empty":        {three, `{"Response":{}}`, "no total"},
		"total beside Response": {three, `{"TotalCount":0,"Response":{LIST:[]}}`, "no total"},
	} {
		for _, api := range test.apis {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				_, err := pageOf(t, api, fill(api, test.body))
				var failed *crsapi.Error
				if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonDecode || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want decode with %q", err, test.want)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error contains the body: %v", err)
				}
			})
		}
	}
}

// TestErrorIsTheAnswer: an error counts, whatever else the response has, and in the
// format of either API.
func TestErrorIsTheAnswer(t *testing.T) {
	for name, body := range map[string]string{
		"documented":          `{"Response":{"Error":{"Code":"InternalError","Message":"m"},"RequestId":"r-1"}}`,
		"members turned":      `{"Response":{"RequestId":"r-1","Error":{"Message":"m","Code":"InternalError"}}}`,
		"with tasks":          `{"Response":{TOTAL:1,LIST:[ROW],"Error":{"Code":"InternalError","Message":"m"},"RequestId":"r-1"}}`,
		"more members":        `{"Response":{"Error":{"Code":"InternalError","Message":"m","More":{"Code":"x"}},"RequestId":"r-1"}}`,
		"beside a code 0":     `{"code":0,"message":"","codeDesc":"Success","Response":{"Error":{"Code":"InternalError","Message":"m"},"RequestId":"r-1"}}`,
		"as 2.0, code a name": `{"code":"InternalError","message":"m","Response":{"RequestId":"r-1"}}`,
		"byte order mark":     "\ufeff" + `{"Response":{"Error":{"Code":"InternalError","Message":"m"},"RequestId":"r-1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				synctest.Test(t, func(t *testing.T) {
					failed, reasons, _ := failWith(t, api, fill(api, body), nil)
					if failed.Reason != crsapi.ReasonServer || failed.CodeDesc != "InternalError" || failed.Message != "m" || failed.Code != 0 || failed.RequestID != "r-1" {
						t.Errorf("got %+v", failed)
					}
					if len(reasons) != 4 {
						t.Errorf("%d attempts, want 4", len(reasons))
					}
				})
			})
		})
	}
	for name, body := range map[string]string{
		"documented": `{"code":4100,"message":"no","codeDesc":"AuthFailure"}`, "code as text": `{"code":"4100","message":"no","codeDesc":"AuthFailure"}`,
	} {
		t.Run("2.0/"+name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				failed, _, _ := failWith(t, api, body, nil)
				if failed.Reason != crsapi.ReasonAuth || failed.Code != 4100 || failed.CodeDesc != "AuthFailure" || failed.Message != "no" {
					t.Errorf("got %+v", failed)
				}
			})
		})
	}
}

// TestRequestIDIsInTheText of each error that has one.
func TestRequestIDIsInTheText(t *testing.T) {
	for name, body := range map[string]string{
		"error":    `{"Response":{"Error":{"Code":"LimitExceeded","Message":"m"},"RequestId":"r-1"}}`,
		"no total": `{"Response":{"RequestId":"r-1"}}`,
	} {
		failed, _, _ := failWith(t, crsapi.API30, body, nil)
		if failed.RequestID != "r-1" || !strings.HasSuffix(failed.Error(), " (RequestId r-1)") {
			t.Errorf("%s: %v", name, failed)
		}
	}
	if failed, _, _ := failWith(t, crsapi.API30, envelope("LimitExceeded")[:20], nil); strings.Contains(failed.Error(), "RequestId") {
		t.Errorf("without one: %v", failed)
	}
}

// TestREADMETaskNames compares the README's table of task names with what the client
// makes of each code.
func TestREADMETaskNames(t *testing.T) {
	const begin, end, head = "<!-- task names: checked by a test -->\n", "<!-- end of task names -->", "| code | taskName |\n|---|---|\n"
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), begin)
	table, _, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("no table of task names")
	}
	var rows []string
	for code := range 1000 {
		rows = append(rows, rowJSON(crsapi.API30, "taskName", fmt.Sprintf(`"%03d"`, code)))
	}
	p, err := pageOf(t, crsapi.API30, listJSON(crsapi.API30, len(rows), rows...))
	if err != nil || len(p.Tasks) != len(rows) {
		t.Fatal(err)
	}
	want, names := head, map[string]bool{}
	for code, task := range p.Tasks {
		if code := fmt.Sprintf("%03d", code); task.TaskName != code {
			want += fmt.Sprintf("| `%s` | `%s` |\n", code, task.TaskName)
			names[task.TaskName] = true
		}
	}
	if table != want {
		t.Errorf("the README has\n%s\nwant\n%s", table, want)
	}
	if len(names) != 58 {
		t.Errorf("%d names; the documents have 56 types, and 2 of private clouds", len(names))
	}
}

// FuzzDecodeResponse checks that an accepted response is JSON for the standard
// library too, and that its texts are valid in labels and logs.
func FuzzDecodeResponse(f *testing.F) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		f.Add([]byte(listJSON(api, 2, rowJSON(api), rowJSON(api, "startTime", `"0000-00-00 00:00:00"`))))
		f.Add([]byte("\ufeff" + listJSON(api, 1, rowJSON(api, "taskName", "\"a\xff\\ud800\""))))
		f.Add([]byte(fill(api, `{OPEN TOTAL:"2",LIST:{"0" : {"a":1},"1":null,"2":ROW} CLOSE}`)))
	}
	f.Add([]byte(`{"code":"4100","message":"a\u0000","codeDesc":"AuthFailure"}`))
	f.Add([]byte(`{"Response":{"Error":{"Code":"InternalError","Message":"x"},"RequestId":"\u0000"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
			p, err := pageOf(t, api, string(body))
			var failed *crsapi.Error
			if errors.As(err, &failed) {
				text := failed.Error() + crsapi.Advice(err, api)
				if p != nil || failed.Reason == "" || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\x00") {
					t.Fatalf("%+v with %+v", failed, p)
				}
				continue
			}
			if !json.Valid(bytes.TrimPrefix(body, []byte("\ufeff"))) {
				t.Fatal("accepted a response that is not JSON")
			}
			if p.TotalCount < 0 || p.TotalCount > 10_000_000 {
				t.Fatalf("total %d", p.TotalCount)
			}
			for _, task := range p.Tasks {
				if task.RedisID == "" || task.StartTime.IsZero() || task.Status.String() == "" || api == crsapi.API30 && (task.Status == crsapi.StatusError || task.Status == 4) {
					t.Fatalf("%s: %+v", api, task)
				}
				for _, label := range []string{task.RedisID, task.RedisName, task.TaskName, task.ProjectID} {
					if !utf8.ValidString(label) || len(label) > 256 {
						t.Fatalf("label %q", label)
					}
				}
			}
		}
	})
}

// FuzzStartTime checks that an accepted time is formatted as it was written.
func FuzzStartTime(f *testing.F) {
	for _, s := range []string{"2017-02-10 16:56:18", "0000-00-00 00:00:00", "2016-02-29 23:59:59", "2017-02-10T16:56:18Z", "", "2017-2-1 1:2:3", "2017-02-10 24:00:00"} {
		f.Add(s)
	}
	written := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, "\"\\") || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
			return
		}
		task := onlyTask(t, crsapi.API20, rowJSON(crsapi.API20, "startTime", `"`+s+`"`))
		if task == nil || !written.MatchString(s) { // package time reads one digit of an hour
			return
		}
		if got := task.StartTime.In(time.FixedZone("", 8*60*60)).Format("2006-01-02 15:04:05"); got != s[:len(got)] {
			t.Fatalf("%q is read as %s", s, got)
		}
	})
}

// BenchmarkPage reads a page of 100 tasks of 30 instances, without a network.
func BenchmarkPage(b *testing.B) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
		b.Run(string(api), func(b *testing.B) {
			var rows []string
			for i := range 100 {
				fields := []string{"redisId", fmt.Sprintf(`"crs-%08d"`, i%30)}
				if api == crsapi.API30 {
					fields = append(fields, "endTime", `"2017-02-10 16:56:38"`, "taskId", fmt.Sprint(1000+i))
				}
				rows = append(rows, rowJSON(api, fields...))
			}
			body := listJSON(api, 100, rows...)
			c := newTestClient(b, api, func(cfg *crsapi.Config) {
				cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, body) })
			})
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Page(b.Context(), crsapi.Query{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
