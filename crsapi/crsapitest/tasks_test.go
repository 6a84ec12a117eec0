package crsapitest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestDocumentExamples compares whole responses with the documents.
func TestDocumentExamples(t *testing.T) {
	indented, err := os.ReadFile("testdata/example.json")
	if err != nil {
		t.Fatal(err)
	}
	var example2 bytes.Buffer
	_ = json.Compact(&example2, indented)
	at := func(second int) time.Time { return time.Date(2019, time.November, 15, 6, 25, second, 0, time.UTC) }
	task := crsapi.Task{
		TaskID: 42372, RedisID: "crs-opcazbrb", RedisName: "multidbccbugfix11153", ProjectID: "0", TaskName: "MODIFYINSTANCEACCOUNT",
		StartTime: at(37), EndTime: at(46), Status: crsapi.StatusSucceeded, Progress: 1,
	}
	const head3 = `{"Response":{"TotalCount":1,"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03",`
	for api, test := range map[string]struct {
		tasks []crsapi.Task
		want  string
	}{
		"2.0": {crsapitest.DocumentExample(), example2.String()},
		"3.0": {[]crsapi.Task{task}, head3 + `"Tasks":[{"TaskId":42372,"StartTime":"2019-11-15 14:25:37","EndTime":"2019-11-15 14:25:46",` +
			`"TaskType":"037","InstanceId":"crs-opcazbrb","InstanceName":"multidbccbugfix11153","ProjectId":0,"Progress":1,"Result":2}]}}`},
		"tce": {[]crsapi.Task{task}, head3 + `"RedisTaskSets":[{"StartTime":"2019-11-15 14:25:37","TaskType":"037",` +
			`"RedisId":"crs-opcazbrb","RedisName":"multidbccbugfix11153","ProjectId":0,"Progress":1,"Status":2,"TaskID":42372}]}}`},
	} {
		srv, c := simulate(t, api)
		srv.SetTasks(region, test.tasks)
		res := c.do(c.request(query{}))
		if res.body != test.want || res.ContentLength != int64(len(test.want)) {
			t.Errorf("API %s: %s\nwant\n%s", api, res.body, test.want)
		}
	}
}

// TestFilters also has a list with the oldest task first, which only a scan can search.
func TestFilters(t *testing.T) {
	list := tasks("a", "b", "c", "d", "e", "f")
	list[0].RedisName = "first"
	list[1].Status = crsapi.StatusExecuting
	list[2].Status = crsapi.StatusFailed
	list[3].TaskName = "cleanInstance"
	list[4].TaskName = "newInstance"
	list[5].Status = 9
	eachAPI(t, func(t *testing.T, srv *crsapitest.Server, c *client) {
		srv.SetTasks(region, list)
		srv.SetTasks("ap-other", tasks("x"))
		within := query{"beginTime": stamp(list[4].StartTime), "endTime": stamp(list[1].StartTime)}
		for _, test := range []struct {
			query
			want string
		}{
			{query{"redisName": "fir"}, "0:"}, // the name is exact
			{query{"taskStatus.0": 3}, "1: c"},
			{query{"taskType.0": "task_cleanInstance"}, "1: d"},
			{query{"taskType.0": "task_backupInstance", "taskStatus.0": 2, "beginTime": stamp(list[4].StartTime)}, "1: a"},
			{query{"taskType.0": "task_backupInstance", "offset": 2, "limit": 2}, "4: c f"}, // filters come before paging
			{query{"offset": 8, "limit": 4}, "6:"},
			{query{"redisId": "c"}, "1: c"},
			{within, "4: b c d e"},
		} {
			if got := c.send(t, test.query).list; got != test.want {
				t.Errorf("%v: %s, want %s", test.query, got, test.want)
			}
		}
		srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
			slices.Reverse(list)
			return list
		})
		if got := c.send(t, within).list; got != "4: e d c b" {
			t.Errorf("oldest first: %s", got)
		}
	})
}

// TestLists3: API 3.0 rounds the offset down to a multiple of the limit, which is 20 by
// default and at most 100. It has one Result for both statuses of a failure.
func TestLists3(t *testing.T) {
	srv, c := simulate(t, "3.0")
	list := numbered(300)
	list[7].Status, list[9].Status = crsapi.StatusFailed, crsapi.StatusError
	srv.SetTasks(region, list)
	for body, want := range map[string]string{
		`{}`:                         "20 from 0",
		`{"Offset":39}`:              "20 from 20",
		`{"Limit":3,"Offset":5}`:     "3 from 3",
		`{"Limit":150,"Offset":150}`: "100 from 100",
		`{"Result":[4]}`:             "2 from 7",
	} {
		page := strings.Fields(c.do(c.request3(body)).result(t).list)
		if got := fmt.Sprintf("%d from %s", len(page)-1, page[1]); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

// TestRows: each API has its own names for the types and statuses of tasks.
func TestRows(t *testing.T) {
	for _, test := range []struct {
		name                           string
		status                         crsapi.Status
		want2, want3, wantTCE, project string // type and status, projectId
	}{
		{"backupInstance", 0, `"backupInstance" 0`, `"012" 0`, `"012" 0`, "0"},
		{"BACKUPINSTANCE", 1, `"backupInstance" 1`, `"012" 1`, `"012" 1`, "0"},
		{"012", 2, `"backupInstance" 2`, `"012" 2`, `"012" 2`, "1000123"},
		{"AUTOBACKUP", 3, `"backupInstance" 3`, `"017" 4`, `"017" 3`, "0"},
		{"importRdb", -1, `"importRdb" -1`, `"008" 4`, `"008" -1`, `"007"`},
		{"OPEN_WAN", 9, `"OPEN_WAN" 9`, `"052" 9`, `"052" 9`, `"p"`},
		{"something new", 4, `"something new" 4`, `"something new" 4`, `"something new" 4`, ""},
	} {
		eachAPI(t, func(t *testing.T, srv *crsapitest.Server, c *client) {
			list := tasks("a")
			list[0].TaskName, list[0].Status, list[0].ProjectID = test.name, test.status, strings.Trim(test.project, `"`)
			srv.SetTasks(region, list)
			res := c.do(c.request(query{}))
			want := map[string]string{"2.0": test.want2, "3.0": test.want3, "tce": test.wantTCE}[c.api]
			if got := res.field("taskName|TaskType") + " " + res.field("status|Result|Status"); got != want || res.field("projectId|ProjectId") != test.project {
				t.Errorf("%+v: %s", test, res.body)
			}
		})
	}
}

func TestTaskIDs(t *testing.T) {
	srv, c := simulate(t, "3.0")
	list := tasks("a", "a", "b", "c")
	list[0].StartTime = list[1].StartTime
	list[3].TaskID = 7
	srv.SetTasks(region, list)
	ids := func() []string { return c.do(c.request(query{})).fields("TaskId") }
	first := ids()
	if different := slices.Compact(slices.Sorted(slices.Values(first))); len(different) != 4 || first[3] != "7" {
		t.Fatalf("TaskIDs %s", first)
	}
	srv.SetTasks(region, list)
	if again := ids(); !slices.Equal(again, first) {
		t.Errorf("set again: %s, want %s", again, first)
	}
	// A task keeps its TaskID though its twin leaves, and another twin gets another one.
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task { return slices.Delete(list, 1, 2) })
	srv.Add(region, list[0])
	if got := ids(); got[0] == first[0] || !slices.Equal(got[1:], []string{first[0], first[2], first[3]}) {
		t.Errorf("%s, first %s", got, first)
	}
}

func TestTaskInfo(t *testing.T) {
	srv, c := simulate(t, "3.0")
	c.action = "DescribeTaskInfo"
	list := tasks("a", "b", "c", "d", "e")
	for i, status := range []crsapi.Status{0, 2, 3, -1, 9} {
		list[i].Status, list[i].TaskID = status, int64(i+1)
	}
	list[2].TaskName = "cleanInstance"
	srv.SetTasks(region, list)
	srv.SetTaskMessage(region, 2, "not failed")
	srv.SetTaskMessage(region, 0, "any other")
	srv.SetTaskMessage(region, 3, "no space\nleft")
	for i, want := range []string{
		`"Status":"preparing","StartTime":"2024-03-01 20:00:00","TaskType":"redis backupInstance 流程","InstanceId":"a","TaskMessage":""`,
		`"Status":"succeed","StartTime":"2024-03-01 19:59:00","TaskType":"redis backupInstance 流程","InstanceId":"b","TaskMessage":""`,
		`"Status":"failed","StartTime":"2024-03-01 19:58:00","TaskType":"redis缓存清空流程","InstanceId":"c","TaskMessage":"no space\nleft"`,
		`"Status":"error","StartTime":"2024-03-01 19:57:00","TaskType":"redis backupInstance 流程","InstanceId":"d","TaskMessage":"any other"`,
		`"Status":"unknown","StartTime":"2024-03-01 19:56:00","TaskType":"redis backupInstance 流程","InstanceId":"e","TaskMessage":""`,
	} {
		if body := c.do(c.request3(fmt.Sprintf(`{"TaskId":%d}`, i+1))).body; !strings.HasPrefix(body, `{"Response":{`+want+`,"RequestId":"`) {
			t.Errorf("%s, want %s", body, want)
		}
	}
}

func TestRawRows(t *testing.T) {
	eachAPI(t, func(t *testing.T, srv *crsapitest.Server, c *client) {
		srv.SetTasks(region, tasks("a", "b", "c"))
		srv.SetRawRows(region, `{"redisId":"x"}`, "null")
		for offset, want := range map[int]string{0: `[{"redisId":"x"},null]`, 1: `"b"`} {
			body := c.do(c.request(query{"offset": 2 * offset, "limit": 2, "redisId": "b"})).body
			if !strings.Contains(body, want) || !strings.Contains(strings.ToLower(body), `"totalcount":3,`) {
				t.Errorf("offset %d: %s, want %s", offset, body, want)
			}
		}
	})
}
