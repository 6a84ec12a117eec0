package crsapitest_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"pgregory.net/rapid"
)

const zeros = `"0000-00-00 00:00:00"`

// The example of DescribeTaskList in the documents.
func TestDocumentExample3(t *testing.T) {
	srv, a := newServer3(t)
	at := func(second int) time.Time { return time.Date(2019, time.November, 15, 6, 25, second, 0, time.UTC) }
	task := crsapi.Task{
		TaskID: 42372, RedisID: "crs-opcazbrb", RedisName: "multidbccbugfix11153", ProjectID: "0", TaskName: "MODIFYINSTANCEACCOUNT",
		StartTime: at(37), EndTime: at(46), Status: crsapi.StatusSucceeded, Progress: 1,
	}
	older := task
	older.TaskID, older.StartTime, older.EndTime = 42371, at(16), at(25)
	srv.SetTasks(region, []crsapi.Task{task, older})
	want := `{"Response":{"TotalCount":2,"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03","Tasks":[` +
		`{"TaskId":42372,"StartTime":"2019-11-15 14:25:37","EndTime":"2019-11-15 14:25:46","TaskType":"037","InstanceId":"crs-opcazbrb","InstanceName":"multidbccbugfix11153","ProjectId":0,"Progress":1,"Result":2},` +
		`{"TaskId":42371,"StartTime":"2019-11-15 14:25:16","EndTime":"2019-11-15 14:25:25","TaskType":"037","InstanceId":"crs-opcazbrb","InstanceName":"multidbccbugfix11153","ProjectId":0,"Progress":1,"Result":2}]}}`
	if body := string(a.ask3(t, `{"Limit":2}`).body); body != want {
		t.Errorf("%s\nwant\n%s", body, want)
	}
	a.action = "GetRedisTaskList"
	want = `{"Response":{"TotalCount":2,"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03","RedisTaskSets":[` +
		`{"StartTime":"2019-11-15 14:25:37","TaskType":"037","RedisId":"crs-opcazbrb","RedisName":"multidbccbugfix11153","ProjectId":0,"Progress":1,"Status":2,"TaskID":42372}]}}`
	if body := string(a.ask3(t, `{"Limit":1}`).body); body != want {
		t.Errorf("%s\nwant\n%s", body, want)
	}
}

func TestPaging3(t *testing.T) {
	srv, a := newServer3(t)
	srv.SetTasks(region, numbered(25))
	count := func(body string) string {
		page := a.ask3(t, body).documented3(t)
		if len(page.Tasks) == 0 {
			return "0"
		}
		return fmt.Sprintf("%d from %s", len(page.Tasks), *page.Tasks[0].InstanceId)
	}
	for body, want := range map[string]string{
		`{}`:                        "20 from 0",
		`{"Offset":20}`:             "5 from 20",
		`{"Offset":19}`:             "20 from 0",
		`{"Limit":3,"Offset":3}`:    "3 from 3",
		`{"Limit":3,"Offset":5}`:    "3 from 3",
		`{"Limit":100}`:             "25 from 0",
		`{"Limit":5,"Offset":25}`:   "0",
		`{"Limit":10,"Offset":999}`: "0",
	} {
		if got := count(body); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	srv.SetTasks(region, nil)
	if body := string(a.ask3(t, "{}").body); !strings.HasSuffix(body, `"Tasks":[]}}`) || !strings.Contains(body, `"TotalCount":0,`) {
		t.Errorf("empty list: %s", body)
	}
}

func TestFilters3(t *testing.T) {
	srv, a := newServer3(t)
	list := tasks("a", "b", "c", "d", "e", "f", "g")
	at := func(i int) string {
		return list[i].StartTime.In(time.FixedZone("", 8*3600)).Format("2006-01-02 15:04:05")
	}
	list[0].RedisName = "first"
	list[1].Status = crsapi.StatusFailed
	list[2].Status = crsapi.StatusError
	list[3].TaskName = "AUTOBACKUP"
	list[4].TaskName = "037"
	list[5].Status = 9
	list[6].TaskName, list[6].Status = "importRdb", 4
	srv.SetTasks(region, list)
	for _, test := range []struct{ action, body, want string }{
		{"", `{}`, "7: a b c d e f g"},
		{"", `{"InstanceId":"b"}`, "1: b"},
		{"", `{"InstanceId":"B"}`, "0:"},
		{"", `{"InstanceName":"first"}`, "1: a"},
		{"", `{"InstanceName":"fir"}`, "0:"},
		{"", `{"InstanceId":"b","InstanceName":"first"}`, "0:"},
		{"", `{"BeginTime":"` + at(2) + `"}`, "3: a b c"},
		{"", `{"EndTime":"` + at(4) + `"}`, "3: e f g"},
		{"", `{"BeginTime":"` + at(3) + `","EndTime":"` + at(1) + `"}`, "3: b c d"},
		{"", `{"BeginTime":"` + at(3) + `","EndTime":"` + at(3) + `"}`, "1: d"},
		{"", `{"Result":[4]}`, "3: b c g"},
		{"", `{"Result":[2]}`, "3: a d e"},
		{"", `{"Result":[0,1]}`, "0:"},
		{"", `{"TaskTypes":["012"]}`, "4: a b c f"},
		{"", `{"TaskTypes":["017"]}`, "1: d"},
		{"", `{"TaskTypes":["037","017"]}`, "2: d e"},
		{"", `{"TaskTypes":["012"],"Result":[4],"Limit":1,"Offset":1}`, "2: c"},
		{"", `{"ProjectIds":[9],"TaskStatus":[0],"OperatorUin":[1],"OperateUin":["1"]}`, "7: a b c d e f g"},
		{"GetRedisTaskList", `{}`, "7: a b c d e f g"},
		{"GetRedisTaskList", `{"RedisId":"b"}`, "1: b"},
		{"GetRedisTaskList", `{"RedisName":"first"}`, "1: a"},
		{"GetRedisTaskList", `{"TaskStatus":3}`, "1: b"},
		{"GetRedisTaskList", `{"TaskStatus":-1}`, "1: c"},
		{"GetRedisTaskList", `{"TaskTypes":["008"]}`, "1: g"},
		{"GetRedisTaskList", `{"BeginTime":"` + at(2) + `","EndTime":"` + at(1) + `"}`, "2: b c"},
	} {
		a.action = "DescribeTaskList"
		if test.action != "" {
			a.action = test.action
		}
		if got := a.list3(t, test.body); got != test.want {
			t.Errorf("%s %s: %s, want %s", a.action, test.body, got, test.want)
		}
	}
	if got := newAsker(srv).list(t, "taskType.0", "task_backupInstance"); got != "5: a b c d f" {
		t.Errorf("API 2.0: %s", got)
	}
}

// Each task has a TaskID, and keeps it.
func TestTaskIDs(t *testing.T) {
	srv, a := newServer3(t)
	ids := func() map[string]int64 {
		got := make(map[string]int64)
		for _, row := range a.ask3(t, "{}").documented3(t).Tasks {
			key := *row.InstanceId
			for got[key] != 0 {
				key += "'"
			}
			got[key] = *row.TaskId
		}
		return got
	}
	list := tasks("a", "b", "twin", "c")
	list = slices.Insert(list, 3, list[2]) // two tasks that API 2.0 cannot tell apart
	srv.SetTasks(region, list)
	if newAsker(srv).list(t); srv.Tasks(region)[0].TaskID != 0 {
		t.Error("API 2.0 gave an id")
	}
	first := ids()
	seen := map[int64]bool{}
	for _, id := range first {
		if id <= 0 || seen[id] {
			t.Errorf("ids %v", first)
		}
		seen[id] = true
	}
	if len(first) != 5 || first["a"] < first["b"] || first["b"] < first["c"] {
		t.Errorf("ids %v", first)
	}
	expect := func(step string, names ...string) {
		t.Helper()
		got := ids()
		for _, name := range names {
			if got[name] != first[name] {
				t.Errorf("%s: %s had the id %d, now %d", step, name, first[name], got[name])
			}
		}
		unique := map[int64]bool{}
		for _, id := range got {
			unique[id] = true
		}
		if unique[0] || len(unique) != len(got) {
			t.Errorf("%s: ids %v", step, got)
		}
	}
	all := []string{"a", "b", "twin", "twin'", "c"}
	list[1].Status = crsapi.StatusFailed
	srv.SetTasks(region, list)
	expect("status changed", all...)
	srv.Add(region, tasks("new")...)
	expect("added", all...)
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
		list[2].Status = crsapi.StatusPending
		list[3].TaskID, list[4].TaskID = 0, 0
		list[3].RedisName = "renamed"
		return append(tasks("a", "newer"), list...) // a second a, in the same second
	})
	got := ids()
	if got["a'"] != first["a"] || got["a"] == first["a"] || got["twin"] != first["twin"] || got["twin'"] != first["twin'"] {
		t.Errorf("updated: %v, first %v", got, first)
	}
	srv.SetTasks(region, list[4:])
	expect("dropped", "c")
	srv.SetTasks(region, list)
	if again := ids(); again["a"] == first["a"] {
		t.Error("a task that was not listed got its old id")
	}

	other := tasks("given", "not given")
	other[0].TaskID = 1 << 40
	srv.SetTasks("ap-other", other)
	a.region = "ap-other"
	if got := ids(); got["given"] != 1<<40 || got["not given"] != 1<<40+1 {
		t.Errorf("ids %v", got)
	}
	if task := srv.Tasks("ap-other")[1]; task.TaskID != 1<<40+1 {
		t.Errorf("Tasks: %+v", task)
	}
}

// The same tasks must be the same list in all APIs, under the mapping of names
// and statuses that the documents give.
func TestSameTasks(t *testing.T) {
	pairs := []struct{ task, name, code string }{
		{"newInstance", "newInstance", "001"},
		{"resizeInstance", "resizeInstance", "002"},
		{"closeInstance", "closeInstance", "003"},
		{"cleanInstance", "cleanInstance", "004"},
		{"startInstance", "startInstance", "005"},
		{"deleteInstance", "deleteInstance", "006"},
		{"setPassword", "setPassword", "007"},
		{"importRdb", "importRdb", "008"},
		{"exportBackup", "exportBackup", "009"},
		{"restoreBackup", "restoreBackup", "010"},
		{"restoreStream", "restoreStream", "011"},
		{"backupInstance", "backupInstance", "012"},
		{"AUTOBACKUP", "backupInstance", "017"},
		{"BACKUPINSTANCE", "backupInstance", "012"},
		{"MIGRATETASK", "MIGRATETASK", "023"},
		{"UpgradeArch", "UpgradeArch", "041"},
		{"UPDATE_WAN", "UPDATE_WAN", "054"},
		{"MODIFYBACKUPMOD", "MODIFYBACKUPMOD", "070"},
		{"012", "backupInstance", "012"},
		{"017", "backupInstance", "017"},
		{"037", "037", "037"},
		{"065", "065", "065"},
		{"199", "199", "199"},
		{"switchInstanceVip", "switchInstanceVip", "switchInstanceVip"},
		{"", "", ""},
	}
	srv, a2 := newServer(t)
	a3 := newAsker3(srv)
	tce := newAsker3(srv)
	tce.action = "GetRedisTaskList"
	rapid.Check(t, func(r *rapid.T) {
		var list []crsapi.Task
		var names, types []string
		at := time.Date(2024, time.March, 1, 12, 0, 0, 0, time.UTC)
		for i := range rapid.IntRange(0, 50).Draw(r, "tasks") {
			pair := rapid.SampledFrom(pairs).Draw(r, "name")
			names, types = append(names, pair.name), append(types, pair.code)
			at = at.Add(-time.Duration(rapid.IntRange(0, 3).Draw(r, "gap")) * time.Second)
			list = append(list, crsapi.Task{
				RedisID: strconv.Itoa(i), RedisName: "n", ProjectID: strconv.Itoa(i % 3), TaskName: pair.task, StartTime: at,
				Status:   crsapi.Status(rapid.IntRange(-1, 5).Draw(r, "status")),
				Progress: float32(i % 2),
			})
		}
		srv.SetTasks(region, list)
		limit := rapid.IntRange(1, 60).Draw(r, "limit")
		var rows2 []parsedRow
		var rows3, rowsTCE []parsedRow3
		for offset := 0; offset <= len(list); offset += limit {
			page2 := a2.ask(t, "limit", strconv.Itoa(limit), "offset", strconv.Itoa(offset)).documented(t)
			body := fmt.Sprintf(`{"Limit":%d,"Offset":%d}`, limit, offset)
			page3, pageTCE := a3.ask3(t, body).documented3(t), tce.ask3(t, body).documented3(t)
			if page2.TotalCount != len(list) || *page3.TotalCount != len(list) || *pageTCE.TotalCount != len(list) {
				r.Fatalf("totals %d, %d, %d of %d", page2.TotalCount, *page3.TotalCount, *pageTCE.TotalCount, len(list))
			}
			rows2, rows3, rowsTCE = append(rows2, page2.Data.Set...), append(rows3, page3.Tasks...), append(rowsTCE, pageTCE.RedisTaskSets...)
		}
		if len(rows2) != len(list) || len(rows3) != len(list) || len(rowsTCE) != len(list) {
			r.Fatalf("%d, %d, %d rows of %d", len(rows2), len(rows3), len(rowsTCE), len(list))
		}
		seen := map[int64]bool{}
		for i, row2 := range rows2 {
			row3, rowTCE := rows3[i], rowsTCE[i]
			result := row2.Status
			if result == 3 || result == -1 {
				result = 4
			}
			switch {
			case row2.TaskName != names[i] || row3.TaskType != types[i] || rowTCE.TaskType != types[i],
				row2.StartTime != row3.StartTime || row2.StartTime != rowTCE.StartTime,
				row2.RedisID != *row3.InstanceId || row2.RedisID != *rowTCE.RedisId,
				row2.RedisName != *row3.InstanceName || row2.RedisName != *rowTCE.RedisName,
				row2.ProjectID != *row3.ProjectId || row2.ProjectID != *rowTCE.ProjectId,
				float64(row2.Progress) != row3.Progress || row3.Progress != rowTCE.Progress,
				*row3.Result != result || *rowTCE.Status != row2.Status,
				*row3.TaskId != *rowTCE.TaskID || seen[*row3.TaskId],
				*row3.EndTime != strings.Trim(zeros, `"`) || rowTCE.EndTime != nil:
				r.Fatalf("row %d: %+v, %+v, %+v", i, row2, row3, rowTCE)
			}
			seen[*row3.TaskId] = true
		}

		// The same filter, in the words of each API.
		second := at.Add(time.Duration(rapid.IntRange(0, 60).Draw(r, "begin")) * time.Second).In(time.FixedZone("", 8*3600)).Format("2006-01-02 15:04:05")
		status := rapid.IntRange(0, 2).Draw(r, "filtered status")
		name := rapid.SampledFrom([]string{"backupInstance", "cleanInstance", "restoreBackup", "exportBackup", "resizeInstance"}).Draw(r, "filtered name")
		codes := map[string]string{"backupInstance": `"012","017"`, "cleanInstance": `"004"`, "restoreBackup": `"010"`, "exportBackup": `"009"`, "resizeInstance": `"002"`}[name]
		list2 := a2.list(t, "beginTime", second, "taskStatus.0", strconv.Itoa(status), "taskType.0", "task_"+name)
		list3 := a3.list3(t, fmt.Sprintf(`{"BeginTime":%q,"Result":[%d],"TaskTypes":[%s],"Limit":100}`, second, status, codes))
		if list2 != list3 {
			r.Fatalf("from %s, status %d, %s: %s, %s", second, status, name, list2, list3)
		}
	})
}

// While the list changes, each page must show one state of it, in which each
// task has its own TaskID. The race detector checks the locks.
func TestConcurrentChanges3(t *testing.T) {
	srv, _ := newServer(t)
	srv.SetTasks(region, numbered(50))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			a := newAsker3(srv)
			for range 25 {
				page := a.ask3(t, `{"InstanceName":"n","Limit":100}`).documented3(t)
				seen := map[int64]bool{0: true}
				for _, row := range page.Tasks {
					if seen[*row.TaskId] {
						t.Errorf("the id %d is 0 or occurs twice", *row.TaskId)
					}
					seen[*row.TaskId] = true
				}
				if len(page.Tasks) != min(*page.TotalCount, 100) {
					t.Errorf("%d rows of %d", len(page.Tasks), *page.TotalCount)
				}
			}
		})
	}
	for i := range 100 {
		srv.Add(region, tasks(strconv.Itoa(i), "x")...)
		srv.Drop(region, 1)
		srv.Update(region, func(list []crsapi.Task) []crsapi.Task { return append(tasks("first"), list[:len(list)-2]...) })
	}
	wg.Wait()
}

func TestFormat3(t *testing.T) {
	srv, a := newServer3(t)
	list := tasks("a")
	list[0].TaskID, list[0].ProjectID = 7, ""
	srv.SetTasks(region, list)
	const id = `"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"`
	row := func(end string) string {
		return `{"TaskId":7,"StartTime":"2024-03-01 20:00:00",` + end + `"TaskType":"012","InstanceId":"a","InstanceName":"n","Progress":1,"Result":2}`
	}
	page := func(rows string) string {
		return `{"Response":{"TotalCount":1,` + id + `,"Tasks":[` + rows + `]}}`
	}
	for _, test := range []struct {
		name string
		do   crsapitest.Effect
		want string
	}{
		{"default", crsapitest.All(), page(row(`"EndTime":` + zeros + `,`))},
		{"EndTime empty", crsapitest.Format{EndTime: new(`""`)}, page(row(`"EndTime":"",`))},
		{"EndTime null", crsapitest.Format{EndTime: new(`null`)}, page(row(`"EndTime":null,`))},
		{"EndTime absent", crsapitest.Format{EndTime: new("")}, page(row(``))},
		{"all null", crsapitest.Format{Null: []string{"TaskId", "StartTime", "EndTime", "TaskType", "InstanceId", "InstanceName", "Progress", "Result"}}, page(
			`{"TaskId":null,"StartTime":null,"EndTime":null,"TaskType":null,"InstanceId":null,"InstanceName":null,"Progress":null,"Result":null}`)},
		{"response null", crsapitest.Format{Null: []string{"TotalCount", "RequestId", "Tasks"}}, `{"Response":{"TotalCount":null,"RequestId":null,"Tasks":null}}`},
		{"tasks null", crsapitest.Format{TaskSet: new("null")}, `{"Response":{"TotalCount":1,` + id + `,"Tasks":null}}`},
		{"tasks absent", crsapitest.Format{TaskSet: new("")}, `{"Response":{"TotalCount":1,` + id + `}}`},
		{"no response", crsapitest.Format{Response: new("null")}, `{"Response":null}`},
		{"string total", crsapitest.All(crsapitest.Format{StringTotal: true}, crsapitest.Format{TaskSet: new("{}")}), `{"Response":{"TotalCount":"1",` + id + `,"Tasks":{}}}`},
		{"float progress", crsapitest.Format{FloatProgress: true, EndTime: new("")}, page(strings.Replace(row(""), `"Progress":1`, `"Progress":1.0`, 1))},
		{"fields of API 2.0", crsapitest.Format{StringCode: true, Data: new("null"), EndTime: new("")}, page(row(""))},
		{"only for empty pages", crsapitest.All(crsapitest.Format{EmptyOnly: true, TaskSet: new("null")}, crsapitest.Format{EndTime: new("")}), page(row(""))},
		{"total", crsapitest.All(crsapitest.Total(func(n int) int { return n - 2 }), crsapitest.Format{TaskSet: new("")}), `{"Response":{"TotalCount":-1,` + id + `}}`},
	} {
		srv.ClearFaults()
		srv.Inject(crsapitest.Fault{Do: test.do})
		if body := string(a.ask3(t, "{}").body); body != test.want {
			t.Errorf("%s: %s, want %s", test.name, body, test.want)
		}
	}
	srv.ClearFaults()
	srv.Inject(crsapitest.Fault{Do: crsapitest.Format{EmptyOnly: true, TaskSet: new("null")}})
	if body := string(a.ask3(t, `{"Offset":20}`).body); body != `{"Response":{"TotalCount":1,`+id+`,"Tasks":null}}` {
		t.Error(body)
	}
	srv.ClearFaults()
	list[0].ProjectID, list[0].EndTime = "1000", list[0].StartTime.Add(9*time.Second)
	srv.SetTasks(region, list)
	srv.SetRawRows(region, "null")
	if body, want := string(a.ask3(t, "{}").body), `"Tasks":[null,{"TaskId":7,"StartTime":"2024-03-01 20:00:00","EndTime":"2024-03-01 20:00:09","TaskType":"012","InstanceId":"a","InstanceName":"n","ProjectId":1000,`; !strings.Contains(body, want) {
		t.Errorf("%s, want %s", body, want)
	}
}

func TestTaskInfo(t *testing.T) {
	srv, a := newServer3(t)
	list := tasks("a", "b", "c", "d", "e", "f", "g")
	statuses := []crsapi.Status{0, 1, 2, 3, -1, 4, 9}
	for i, status := range statuses {
		list[i].Status = status
	}
	list[3].TaskName = "cleanInstance"
	srv.SetTasks(region, list)
	info := newAsker3(srv)
	info.action = "DescribeTaskInfo"
	ask := func(id int64) string {
		page := info.ask3(t, fmt.Sprintf(`{"TaskId":%d}`, id)).documented3(t)
		return strings.Join([]string{*page.InstanceId, *page.Status, *page.StartTime, *page.TaskType, *page.TaskMessage}, "|")
	}
	if got := info.code3(t, `{"TaskId":1}`); got != "" {
		t.Errorf("before the list was read: %s", got)
	}
	ids := make([]int64, len(list))
	for i, row := range a.ask3(t, "{}").documented3(t).Tasks {
		ids[i] = *row.TaskId
	}
	for i, want := range []string{
		"a|preparing|2024-03-01 20:00:00|redis backupInstance 流程|",
		"b|running|2024-03-01 19:59:00|redis backupInstance 流程|",
		"c|succeed|2024-03-01 19:58:00|redis backupInstance 流程|",
		"d|failed|2024-03-01 19:57:00|redis缓存清空流程|the flow failed",
		"e|error|2024-03-01 19:56:00|redis backupInstance 流程|the flow failed",
		"f|failed|2024-03-01 19:55:00|redis backupInstance 流程|the flow failed",
		"g|unknown|2024-03-01 19:54:00|redis backupInstance 流程|",
	} {
		if got := ask(ids[i]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	srv.SetTaskMessage(region, ids[3], "no space\nleft")
	srv.SetTaskMessage(region, ids[2], "not failed")
	srv.SetTaskMessage(region, 0, "any")
	for i, want := range map[int]string{2: "|", 3: "|no space\nleft", 4: "|any"} {
		if got := ask(ids[i]); !strings.HasSuffix(got, want) {
			t.Errorf("%q, want the end %q", got, want)
		}
	}
	srv.SetTasks("ap-other", nil)
	info.region = "ap-other"
	if got := info.code3(t, fmt.Sprintf(`{"TaskId":%d}`, ids[0])); got != "InvalidParameter.InvalidParameter" {
		t.Errorf("in another region: %q", got)
	}
	info.region = region
	srv.Inject(crsapitest.Fault{Do: crsapitest.Format{Null: []string{"Status", "TaskMessage"}}})
	if page := info.ask3(t, fmt.Sprintf(`{"TaskId":%d}`, ids[3])).documented3(t); page.Status != nil || page.TaskMessage != nil || page.TaskType == nil {
		t.Errorf("nulls: %+v", page)
	}
}
