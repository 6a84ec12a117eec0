package crsapitest_test

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

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
		{"redisName is not a prefix", []string{"redisName", "fir"}, "0:"},
		{"both", []string{"redisId", "b", "redisName", "first"}, "0:"},
		{"from", []string{"beginTime", at(2)}, "3: a b c"},
		{"to", []string{"endTime", at(2)}, "4: c d e f"},
		{"from and to, both included", []string{"beginTime", at(3), "endTime", at(1)}, "3: b c d"},
		{"one second", []string{"beginTime", at(3), "endTime", at(3)}, "1: d"},
		{"status", []string{"taskStatus.0", "3"}, "1: b"},
		{"statuses", []string{"taskStatus.0", "3", "taskStatus.1", "-1"}, "2: b c"},
		{"type", []string{"taskType.0", "task_cleanInstance"}, "1: d"},
		{"types", []string{"taskType.0", "task_cleanInstance", "taskType.1", "task_backupInstance"}, "5: a b c d f"},
		{"all", []string{"taskType.0", "task_backupInstance", "taskStatus.0", "2", "beginTime", at(4)}, "1: a"},
		{"page of a filtered list", []string{"taskType.0", "task_backupInstance", "offset", "1", "limit", "2"}, "4: b c"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the second time from the cache
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

func TestListChanges(t *testing.T) {
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
		t.Errorf("tasks of an unknown region: %v", got)
	}
	srv.Add("ap-new", tasks("n")...)
	a.region = "ap-new"
	expect("1: n")
}

// After many small steps, the list must equal a plain slice with the same steps.
func TestManySmallChanges(t *testing.T) {
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
		t.Errorf("rows removed: %s", got)
	}
}

func TestUndocumentedRows(t *testing.T) {
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
		t.Errorf("project that is not a number: %s", body)
	}
}

// While the list changes, each page must show one state of it. The race detector
// checks the locks.
func TestConcurrentChanges(t *testing.T) {
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

// otherName matches codes and constants of tasks, for which API 2.0 has names.
var otherName = regexp.MustCompile(`^[0-9]{3}$|^[A-Z_]+$`)

func FuzzTask(f *testing.F) {
	f.Add("crs-1", "a code", "0", "001", int32(2), float32(4.5))
	f.Add("crs-izbob1wh", "for API test", "0", "backupInstance", int32(2), float32(1))
	f.Add("\x00\xff\"\\", "你好\u2028</script>", "007", "", int32(-7), float32(0.5))
	f.Add("\x00", "\xff", "", "\u007f", int32(0), float32(math.Inf(1)))
	f.Fuzz(func(t *testing.T, id, name, project, taskName string, status int32, progress float32) {
		sim := crsapitest.New()
		sim.SetTasks(region, []crsapi.Task{{
			RedisID: id, RedisName: name, ProjectID: project, TaskName: taskName,
			Status: crsapi.Status(status), Progress: progress,
		}})
		sim.Inject(crsapitest.Fault{Do: crsapitest.Format{FloatProgress: status%2 == 0}})
		body := newDirectAsker(sim).ask(t).body
		var page struct {
			Data struct {
				RedisTaskSet []struct {
					RedisID, RedisName, TaskName string
					Status                       int32
					Progress                     *float32
					ProjectID                    json.RawMessage
				}
			}
		}
		if err := json.Unmarshal(body, &page); err != nil || len(page.Data.RedisTaskSet) != 1 {
			t.Fatalf("error %v in %q", err, body)
		}
		got := page.Data.RedisTaskSet[0]
		valid := func(s string) string { return string([]rune(s)) }
		sameTask := got.TaskName == valid(taskName) || otherName.MatchString(taskName)
		if got.RedisID != valid(id) || got.RedisName != valid(name) || !sameTask || got.Status != status {
			t.Fatalf("%+v from %q", got, body)
		}
		if got.Progress != nil && *got.Progress != progress {
			t.Fatalf("progress %v, want %v", *got.Progress, progress)
		}
	})
}
