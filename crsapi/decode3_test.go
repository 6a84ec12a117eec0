package crsapi_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// onlyTask returns the task of a list with one row, or nil if the row is
// rejected.
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
	const unknown, rejected = "unknown", "rejected"
	for api, statuses := range map[crsapi.API]map[string]string{
		crsapi.API20: {
			"0": "pending", "1": "executing", "2": "succeeded", "3": "failed", "-1": "error",
			"4": unknown, "5": unknown, "-2": unknown,
		},
		crsapi.API30: {
			"0": "pending", "1": "executing", "2": "succeeded", "4": "failed", `"4"`: "failed", "4.0": "failed",
			"3": unknown, `"3"`: unknown, "-1": unknown, "5": unknown, "-2": unknown, "-4": unknown, "99": unknown,
			"4294967300": unknown, "1.5": unknown, "null": rejected, "": rejected, `"done"`: rejected, "{}": rejected, "true": rejected,
		},
		crsapi.APITCE: {
			"0": "pending", "1": "executing", "2": "succeeded", "3": "failed", "-1": "error", `"-1"`: "error", "3.0": "failed",
			"4": unknown, "5": unknown, "-2": unknown, "null": rejected, "": rejected,
		},
	} {
		for value, want := range statuses {
			t.Run(string(api)+"/"+value, func(t *testing.T) {
				got := rejected
				if task := onlyTask(t, api, rowJSON(api, "status", value)); task != nil {
					got = task.Status.String()
				}
				if got != want {
					t.Errorf("%s is %s, want %s", value, got, want)
				}
			})
		}
	}
	// A status that is unknown keeps its number, if no other status has it.
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		if task := onlyTask(t, api, rowJSON(api, "status", "17")); task.Status != 17 {
			t.Errorf("status 17 is %d", task.Status)
		}
	})
}

func TestDecodeTaskName(t *testing.T) {
	for api, names := range map[crsapi.API]map[string]string{
		crsapi.API20: {"backupInstance": "backupInstance", "012": "012", "AUTOBACKUP": "AUTOBACKUP"},
		crsapi.API30: {
			"012": "backupInstance", "017": "AUTOBACKUP", "001": "newInstance", "070": "MODIFYBACKUPMOD", "008": "importRdb",
			"015": "015", "071": "071", "12": "12", "0012": "0012", "": "", "backupInstance": "backupInstance", "新": "新",
		},
		crsapi.APITCE: {"012": "backupInstance", "008": "importRdb", "011": "restoreStream", "999": "999"},
	} {
		for value, want := range names {
			t.Run(string(api)+"/"+value, func(t *testing.T) {
				if task := onlyTask(t, api, rowJSON(api, "taskName", `"`+value+`"`)); task.TaskName != want {
					t.Errorf("%q is %q, want %q", value, task.TaskName, want)
				}
			})
		}
	}
	if task := onlyTask(t, crsapi.API30, rowJSON(crsapi.API30, "taskName", `"\u00301\u0037"`)); task.TaskName != "AUTOBACKUP" {
		t.Errorf("an escaped 017 is %q", task.TaskName)
	}
	// A number is not the code: 012 would be no JSON, and 12 has lost its zero.
	if task := onlyTask(t, crsapi.API30, rowJSON(crsapi.API30, "taskName", `12`)); task.TaskName != "12" {
		t.Errorf("the number 12 is %q", task.TaskName)
	}
	if task := onlyTask(t, crsapi.API30, rowJSON(crsapi.API30, "taskName", `null`)); task.TaskName != "" {
		t.Errorf("null is %q", task.TaskName)
	}
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
	if task := onlyTask(t, crsapi.API20, rowJSON(crsapi.API20, "taskId", "7", "TaskId", "7")); task.TaskID != 0 {
		t.Errorf("API 2.0 with TaskID %d", task.TaskID)
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
	// The private cloud and API 2.0 have none.
	for _, api := range []crsapi.API{crsapi.API20, crsapi.APITCE} {
		if task := onlyTask(t, api, rowJSON(api, "endTime", `"2017-02-10 17:00:00"`)); !task.EndTime.IsZero() {
			t.Errorf("API %s with EndTime %v", api, task.EndTime)
		}
	}
}

// TestDecodeResponseOfAPI3 has the forms that a response may take. NAME stands
// for what the API calls the list.
func TestDecodeResponseOfAPI3(t *testing.T) {
	for _, api := range []crsapi.API{crsapi.API30, crsapi.APITCE} {
		row := rowJSON(api)
		fill := func(body string) string {
			return strings.NewReplacer("NAME", dialects[api].tasks, "ROW", row).Replace(body)
		}
		for name, test := range map[string]struct {
			body        string
			rows, total int
		}{
			"documented":            {`{"Response":{"TotalCount":9,"NAME":[ROW,ROW],"RequestId":"r"}}`, 2, 9},
			"rows before the total": {`{"Response":{"NAME":[ROW],"RequestId":"r","TotalCount":1}}`, 1, 1},
			"total as string":       {`{"Response":{"TotalCount":"1","NAME":[ROW]}}`, 1, 1},
			"total as float":        {`{"Response":{"TotalCount":1.0,"NAME":[ROW]}}`, 1, 1},
			"list null":             {`{"Response":{"TotalCount":0,"NAME":null,"RequestId":null}}`, 0, 0},
			"list missing":          {`{"Response":{"TotalCount":0}}`, 0, 0},
			"list an object":        {`{"Response":{"TotalCount":1,"NAME":{"0":ROW}}}`, 1, 1},
			"list a string":         {`{"Response":{"TotalCount":0,"NAME":"none"}}`, 0, 0},
			"list of another name":  {`{"Response":{"TotalCount":0,"redisTaskSet":[ROW],"Rows":[ROW]}}`, 0, 0},
			"error null":            {`{"Response":{"Error":null,"TotalCount":1,"NAME":[ROW]}}`, 1, 1},
			"unknown members":       {`{"a":{"TotalCount":7},"Response":{"b":[{"TotalCount":8}],"TotalCount":1,"NAME":[ROW]},"data":{"NAME":[ROW]},"TotalCount":9}`, 1, 1},
			"code 0 beside it":      {`{"code":0,"message":"","Response":{"TotalCount":1,"NAME":[ROW]}}`, 1, 1},
		} {
			t.Run(string(api)+"/"+name, func(t *testing.T) {
				p, err := pageOf(t, api, fill(test.body))
				if err != nil {
					t.Fatal(err)
				}
				if len(p.Tasks) != test.rows || p.TotalCount != test.total || len(p.Rejected) != 0 {
					t.Errorf("%d tasks of %d, %d rejected, want %d of %d", len(p.Tasks), p.TotalCount, len(p.Rejected), test.rows, test.total)
				}
			})
		}
		for name, test := range map[string]struct{ body, want string }{
			"empty":                  {``, "unexpected end of JSON"},
			"HTML":                   {`<html>secret</html>`, "invalid JSON at byte 0"},
			"truncated":              {`{"Response":{"TotalCount":1,"NAME":[`, "unexpected end of JSON"},
			"two values":             {`{"Response":{"TotalCount":0}}{}`, "more than one JSON value"},
			"an empty object":        {`{}`, "no Response"},
			"Response null":          {`{"Response":null}`, "no Response"},
			"Response a number":      {`{"Response":1}`, "no Response"},
			"Response an array":      {`{"Response":[{"TotalCount":0}]}`, "no Response"},
			"Response empty":         {`{"Response":{}}`, "no "},
			"lower case":             {`{"response":{"TotalCount":0}}`, "no Response"},
			"success of API 2.0":     {`{"code":0,"totalCount":0,"data":{"redisTaskSet":[]}}`, "no Response"},
			"no total":               {`{"Response":{"NAME":[],"RequestId":"secret"}}`, "no TotalCount"},
			"total null":             {`{"Response":{"NAME":[],"TotalCount":null}}`, "no TotalCount"},
			"total outside":          {`{"TotalCount":0,"Response":{"NAME":[]}}`, "no TotalCount"},
			"total negative":         {`{"Response":{"TotalCount":-1}}`, "TotalCount is not"},
			"total fraction":         {`{"Response":{"TotalCount":0.5}}`, "TotalCount is not"},
			"total word":             {`{"Response":{"TotalCount":"secret"}}`, "TotalCount is not"},
			"total object":           {`{"Response":{"TotalCount":{}}}`, "TotalCount is not"},
			"total too large":        {`{"Response":{"TotalCount":10000001}}`, "TotalCount is not"},
			"broken row":             {`{"Response":{"TotalCount":1,"NAME":[{"a":]}}`, "invalid JSON at byte"},
			"error without a code":   {`{"Response":{"Error":{"Message":"secret"},"TotalCount":0}}`, "error without a code"},
			"error empty":            {`{"Response":{"Error":{},"TotalCount":0}}`, "error without a code"},
			"error code empty":       {`{"Response":{"Error":{"Code":""},"TotalCount":0}}`, "error without a code"},
			"error code null":        {`{"Response":{"Error":{"Code":null},"TotalCount":0}}`, "error without a code"},
			"error code 0":           {`{"Response":{"Error":{"Code":0},"TotalCount":0}}`, "error without a code"},
			"error code 00":          {`{"Response":{"Error":{"Code":"00"},"TotalCount":0}}`, "error without a code"},
			"error empty, then null": {`{"Response":{"Error":{},"Error":null,"TotalCount":0}}`, "error without a code"},
			"error a string":         {`{"Response":{"Error":"secret","TotalCount":0}}`, "error without a code"},
		} {
			t.Run(string(api)+"/error/"+name, func(t *testing.T) {
				_, err := pageOf(t, api, fill(test.body))
				var failed *crsapi.Error
				if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonDecode || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want decode with %q", err, test.want)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error contains the body: %v", err)
				}
			})
		}
		// An error is the answer, whatever else is there.
		for name, body := range map[string]string{
			"documented":      `{"Response":{"Error":{"Code":"InternalError","Message":"m"},"RequestId":"r"}}`,
			"members turned":  `{"Response":{"RequestId":"r","Error":{"Message":"m","Code":"InternalError"}}}`,
			"with tasks":      `{"Response":{"TotalCount":1,"NAME":[ROW],"Error":{"Code":"InternalError","Message":"m"}}}`,
			"more members":    `{"Response":{"Error":{"Code":"InternalError","Message":"m","More":{"Code":"x"}}}}`,
			"the first one":   `{"Response":{"Error":{"Code":"InternalError","Message":"m"},"Error":{"Code":"Other","Message":"n"}}}`,
			"null after it":   `{"Response":{"Error":{"Code":"InternalError","Message":"m"},"Error":null}}`,
			"beside a code 0": `{"code":0,"message":"","codeDesc":"Success","Response":{"Error":{"Code":"InternalError","Message":"m"}}}`,
		} {
			t.Run(string(api)+"/answer/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					failed, reasons, _ := failWith(t, api, fill(body), nil)
					if failed.Reason != crsapi.ReasonServer || failed.CodeDesc != "InternalError" || failed.Message != "m" || failed.Code != 0 {
						t.Errorf("got %+v", failed)
					}
					if len(reasons) != 4 {
						t.Errorf("%d attempts, want 4", len(reasons))
					}
				})
			})
		}
	}
}
