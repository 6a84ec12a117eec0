package crsapitest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// tasks returns tasks with the given ids, a minute apart, newest first.
func tasks(ids ...string) []crsapi.Task {
	var list []crsapi.Task
	at := time.Date(2024, time.March, 1, 12, 0, 0, 0, time.UTC)
	for i, id := range ids {
		list = append(list, crsapi.Task{
			RedisID: id, RedisName: "n", ProjectID: "0", TaskName: "backupInstance",
			StartTime: at.Add(-time.Duration(i) * time.Minute), Status: crsapi.StatusSucceeded, Progress: 1,
		})
	}
	return list
}

// names returns "total: 0 1 2 …" and tasks with these ids.
func numbered(n int) []crsapi.Task {
	var ids []string
	for i := range n {
		ids = append(ids, strconv.Itoa(i))
	}
	return tasks(ids...)
}

func TestDocumentExample(t *testing.T) {
	want, err := os.ReadFile("testdata/example.json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, want); err != nil {
		t.Fatal(err)
	}
	srv, a := newServer(t)
	noise := tasks("crs-other")
	failed := crsapitest.DocumentExample()[0]
	failed.Status = crsapi.StatusFailed
	noise = append(noise, failed)
	srv.SetTasks(region, append(noise, crsapitest.DocumentExample()...))
	res := a.ask(t, "limit", "10", "beginTime", "2016-12-28 00:03:52", "endTime", "2017-02-11 00:03:52",
		"redisId", "crs-izbob1wh", "redisName", "for API test", "taskStatus.0", "2",
		"taskType.0", "task_restoreBackup", "taskType.1", "task_backupInstance", "taskType.2", "task_cleanInstance")
	if res.err != nil || !bytes.Equal(res.body, compact.Bytes()) {
		t.Errorf("error %v, body\n%s\nwant\n%s", res.err, res.body, compact.Bytes())
	}
	if kind := res.Header.Get("Content-Type"); kind != "application/json; charset=utf-8" {
		t.Errorf("Content-Type %q", kind)
	}
	if length := res.ContentLength; length != int64(compact.Len()) {
		t.Errorf("Content-Length %d, want %d", length, compact.Len())
	}
}

func TestPaging(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks(region, numbered(5))
	tests := []struct{ offset, limit, want string }{
		{"0", "2", "5: 0 1"},
		{"2", "2", "5: 2 3"},
		{"4", "2", "5: 4"},
		{"3", "2", "5: 3 4"},
		{"5", "2", "5:"},
		{"2147483647", "2147483647", "5:"},
		{"0", "2147483647", "5: 0 1 2 3 4"},
	}
	for _, test := range tests {
		if got := a.list(t, "offset", test.offset, "limit", test.limit); got != test.want {
			t.Errorf("offset %s limit %s: %s, want %s", test.offset, test.limit, got, test.want)
		}
	}
	srv.SetTasks(region, nil)
	if body := string(a.ask(t).body); body != `{"code":0,"message":"","codeDesc":"Success","totalCount":0,"data":{"redisTaskSet":[]}}` {
		t.Errorf("empty list: %s", body)
	}
}

func TestFilters(t *testing.T) {
	srv, a := newServer(t)
	list := tasks("a", "b", "c", "d", "e", "f")
	at := func(i int) string {
		return list[i].StartTime.In(time.FixedZone("", 8*3600)).Format("2006-01-02 15:04:05")
	}
	list[0].RedisName = "first"
	list[1].Status = crsapi.StatusFailed
	list[2].Status = crsapi.StatusError
	list[3].TaskName = "cleanInstance"
	list[4].TaskName = "newInstance"
	list[5].Status = 9
	srv.SetTasks(region, list)
	tests := []struct {
		name  string
		pairs []string
		want  string
	}{
		{"none", nil, "6: a b c d e f"},
		{"redisId", []string{"redisId", "b"}, "1: b"},
		{"redisId is exact", []string{"redisId", "B"}, "0:"},
		{"redisName", []string{"redisName", "first"}, "1: a"},
		{"redisName is whole", []string{"redisName", "fir"}, "0:"},
		{"both", []string{"redisId", "b", "redisName", "first"}, "0:"},
		{"from", []string{"beginTime", at(2)}, "3: a b c"},
		{"to", []string{"endTime", at(2)}, "4: c d e f"},
		{"from and to, both included", []string{"beginTime", at(3), "endTime", at(1)}, "3: b c d"},
		{"an instant", []string{"beginTime", at(3), "endTime", at(3)}, "1: d"},
		{"status", []string{"taskStatus.0", "3"}, "1: b"},
		{"statuses", []string{"taskStatus.0", "3", "taskStatus.1", "-1"}, "2: b c"},
		{"type", []string{"taskType.0", "task_cleanInstance"}, "1: d"},
		{"types", []string{"taskType.0", "task_cleanInstance", "taskType.1", "task_backupInstance"}, "5: a b c d f"},
		{"all", []string{"taskType.0", "task_backupInstance", "taskStatus.0", "2", "beginTime", at(4)}, "1: a"},
		{"page of the filtered", []string{"taskType.0", "task_backupInstance", "offset", "1", "limit", "2"}, "4: b c"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the second out of the cache
				if got := a.list(t, test.pairs...); got != test.want {
					t.Errorf("%s, want %s", got, test.want)
				}
			}
		})
	}

	t.Run("after a change", func(t *testing.T) {
		filter := []string{"taskStatus.0", "3"}
		if got := a.list(t, filter...); got != "1: b" {
			t.Fatal(got)
		}
		srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
			list[0].Status = crsapi.StatusFailed
			return list
		})
		if got := a.list(t, filter...); got != "2: a b" {
			t.Errorf("updated: %s", got)
		}
		srv.Drop(region, 5)
		if got := a.list(t, filter...); got != "1: a" {
			t.Errorf("dropped: %s", got)
		}
		added := tasks("new")
		added[0].Status = crsapi.StatusFailed
		srv.Add(region, added...)
		if got := a.list(t, filter...); got != "2: new a" {
			t.Errorf("added: %s", got)
		}
	})

	t.Run("zone", func(t *testing.T) {
		srv.SetUTCOffset(-90 * time.Minute)
		srv.SetTasks(region, tasks("z"))
		d := a.ask(t, "beginTime", "2024-03-01 10:30:00", "endTime", "2024-03-01 10:30:00").documented(t)
		if d.TotalCount != 1 || d.Data.Set[0].StartTime != "2024-03-01 10:30:00" {
			t.Errorf("%+v", d)
		}
	})
}

func TestListMoves(t *testing.T) {
	srv, a := newServer(t)
	expect := func(want string) {
		t.Helper()
		if got := a.list(t); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	given := tasks("a", "b", "c")
	srv.SetTasks(region, given)
	given[0].RedisID = "changed"
	expect("3: a b c")
	srv.Add(region, tasks("x", "y")...)
	expect("5: x y a b c")
	srv.Add(region, tasks("w")...)
	srv.Add(region)
	expect("6: w x y a b c")
	srv.Drop(region, 2)
	srv.Drop(region, 0)
	expect("4: w x y a")
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
		return slices.DeleteFunc(list, func(t crsapi.Task) bool { return t.RedisID == "x" })
	})
	expect("3: w y a")
	copied := srv.Tasks(region)
	copied[0].RedisID = "changed"
	expect("3: w y a")
	srv.Drop(region, 99)
	expect("0:")
	srv.Add(region, tasks("again")...)
	expect("1: again")

	if got := srv.Tasks("ap-nowhere"); got != nil {
		t.Errorf("tasks of no region: %v", got)
	}
	srv.Add("ap-new", tasks("n")...)
	a.region = "ap-new"
	expect("1: n")
	srv.RemoveRegion("ap-new")
	if code := a.code(t); code != 4000 {
		t.Errorf("region removed: code %d", code)
	}
}

// The list as a slide of many small steps must be what a plain slice would be.
func TestListSlides(t *testing.T) {
	sim := crsapitest.New()
	var want []string
	for i := range 3000 {
		id := strconv.Itoa(i)
		sim.Add(region, tasks(id)...)
		want = append([]string{id}, want...)
		if i%3 == 0 {
			sim.Drop(region, 2)
			want = want[:max(0, len(want)-2)]
		}
	}
	var got []string
	for _, task := range sim.Tasks(region) {
		got = append(got, task.RedisID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d tasks %.60v, want %d %.60v", len(got), got, len(want), want)
	}
}

func TestRawRows(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks(region, tasks("a", "b"))
	srv.SetRawRows(region, `{"redisId":"\xff"}`, "{\"redisId\":\"\xff\"}", `null`)
	want := `{"code":0,"message":"","codeDesc":"Success","totalCount":5,"data":{"redisTaskSet":[` +
		"{\"redisId\":\"\xff\"},null,{" +
		`"startTime":"2024-03-01 20:00:00","taskName":"backupInstance","redisName":"n","redisId":"a","projectId":0,"status":2,"progress":1}]}}`
	if body := string(a.ask(t, "offset", "1", "limit", "3").body); body != want {
		t.Errorf("%q, want %q", body, want)
	}
	if body := string(a.ask(t, "redisId", "b").body); strings.Count(body, "redisId") != 3 || !strings.Contains(body, `"totalCount":4`) {
		t.Errorf("filtered: %q", body)
	}
	srv.SetRawRows(region)
	if got := a.list(t); got != "2: a b" {
		t.Errorf("without: %s", got)
	}
}

func TestRowsBeyondTheDocument(t *testing.T) {
	srv, a := newServer(t)
	list := tasks("a")
	list[0].ProjectID = ""
	list[0].RedisName = "\"\\ä\xff"
	list[0].Status = -7
	list[0].Progress = 0.5
	list[0].TaskName = "switchInstanceVip"
	srv.SetTasks(region, list)
	want := `[{"startTime":"2024-03-01 20:00:00","taskName":"switchInstanceVip","redisName":"\"\\ä` + `\ufffd` + `","redisId":"a","status":-7,"progress":0.5}]}}`
	if body := string(a.ask(t).body); !strings.HasSuffix(body, want) {
		t.Errorf("%s, want %s", body, want)
	}
	list[0].ProjectID = "012"
	srv.SetTasks(region, list)
	if body := string(a.ask(t).body); !strings.Contains(body, `"projectId":"012"`) {
		t.Errorf("project that is no number: %s", body)
	}
}

func TestHookMovesTheList(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks(region, numbered(6))
	srv.SetTasks("ap-other", nil)
	var seen []string
	srv.OnRequest(func(r crsapitest.Request) {
		seen = append(seen, fmt.Sprintf("%s %s %d+%d #%d %s", r.Region, r.Method, r.Offset, r.Limit, r.Seq, r.Param("redisName")))
		if r.Seq == 2 {
			srv.Add(r.Region, tasks("new")...)
			srv.Drop(r.Region, 2)
			srv.Update(r.Region, func(list []crsapi.Task) []crsapi.Task { return list })
			srv.Inject(crsapitest.Fault{Skip: 1, Do: crsapitest.APIError(5100)})
		}
	})
	for i, want := range []string{"6: 0 1 2", "5: 2 3"} {
		if got := a.list(t, "offset", strconv.Itoa(i*3), "limit", "3"); got != want {
			t.Errorf("page %d: %s, want %s", i, got, want)
		}
	}
	a.region = "ap-other"
	if code := a.code(t, "redisName", "n"); code != 5100 {
		t.Errorf("after the hook's fault: code %d", code)
	}
	want := []string{"ap-guangzhou GET 0+3 #1 ", "ap-guangzhou GET 3+3 #2 ", "ap-other GET 0+100 #1 n"}
	if !slices.Equal(seen, want) {
		t.Errorf("hook saw %q, want %q", seen, want)
	}
	srv.OnRequest(nil)
	a.ask(t)
	if len(seen) != 3 {
		t.Error("the hook goes on")
	}
}

// Pages read while the list moves must each be of one state of it: under the
// race detector, also a proof of the locks.
func TestListMovesUnderReaders(t *testing.T) {
	srv, _ := newServer(t)
	srv.SetTasks(region, numbered(50))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			a := newAsker(srv)
			a.nonce.Store(int64(i) << 32)
			for range 25 {
				d := a.ask(t, "redisName", "n", "limit", "1000").documented(t)
				if len(d.Data.Set) != d.TotalCount {
					t.Errorf("%d rows of %d", len(d.Data.Set), d.TotalCount)
				}
			}
		})
	}
	for i := range 100 {
		srv.Add(region, tasks(strconv.Itoa(i), "x")...)
		srv.Drop(region, 1)
		srv.Update(region, func(list []crsapi.Task) []crsapi.Task { return list[:len(list)-1] })
	}
	wg.Wait()
}

func TestGenerate(t *testing.T) {
	list := crsapitest.Generate(5000, 20, 7)
	again := crsapitest.Generate(5000, 20, 7)
	if !slices.Equal(list, again) {
		t.Error("the same seed gives another list")
	}
	if slices.Equal(list, crsapitest.Generate(5000, 20, 8)) {
		t.Error("another seed gives the same list")
	}
	if len(list) != 5000 || !slices.IsSortedFunc(list, func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) }) {
		t.Errorf("%d tasks, or not newest first", len(list))
	}
	ids, taskNames, statuses := map[string]int{}, map[string]int{}, map[crsapi.Status]int{}
	for _, task := range list {
		ids[task.RedisID]++
		taskNames[task.TaskName]++
		statuses[task.Status]++
	}
	if len(ids) != 20 || len(taskNames) < 5 || len(statuses) != 5 || statuses[crsapi.StatusSucceeded] < 4500 {
		t.Errorf("%d instances, names %v, statuses %v", len(ids), taskNames, statuses)
	}
}
