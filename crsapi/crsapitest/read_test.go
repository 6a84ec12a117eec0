package crsapitest_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"pgregory.net/rapid"
)

// stamp is a time as a parameter of the API.
func stamp(at time.Time) string {
	return at.In(time.FixedZone("", 8*3600)).Format("2006-01-02 15:04:05")
}

// question is what a test asks all dialects.
type question struct {
	begin, end    time.Time // zero for none
	id            string
	status        int // -9 for any; not 3 or -1, which API 3.0 does not tell apart
	offset, limit int // offset must be a multiple of limit, because API 3.0 rounds it
}

func (q question) pairs() []string {
	pairs := []string{"offset", strconv.Itoa(q.offset), "limit", strconv.Itoa(q.limit)}
	if !q.begin.IsZero() {
		pairs = append(pairs, "beginTime", stamp(q.begin))
	}
	if !q.end.IsZero() {
		pairs = append(pairs, "endTime", stamp(q.end))
	}
	if q.id != "" {
		pairs = append(pairs, "redisId", q.id)
	}
	if q.status != -9 {
		pairs = append(pairs, "taskStatus.0", strconv.Itoa(q.status))
	}
	return pairs
}

func (q question) body(tce bool) string {
	fields := map[string]any{"Offset": q.offset, "Limit": q.limit}
	if !q.begin.IsZero() {
		fields["BeginTime"] = stamp(q.begin)
	}
	if !q.end.IsZero() {
		fields["EndTime"] = stamp(q.end)
	}
	if q.id != "" {
		fields[map[bool]string{false: "InstanceId", true: "RedisId"}[tce]] = q.id
	}
	if q.status != -9 {
		if tce {
			fields["TaskStatus"] = q.status
		} else {
			fields["Result"] = []int{q.status}
		}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// dialects asks the same question in all APIs that list tasks. The answers have
// the form "total: id id".
type dialects struct {
	a2      *asker
	a3, tce *asker3
}

func newDialects(srv *crsapitest.Server) dialects {
	d := dialects{newAsker(srv), newAsker3(srv), newAsker3(srv)}
	d.tce.action = "GetRedisTaskList"
	return d
}

func (d dialects) ask(t testing.TB, q question) [3]string {
	t.Helper()
	return [3]string{d.a2.list(t, q.pairs()...), d.a3.list3(t, q.body(false)), d.tce.list3(t, q.body(true))}
}

func same(s string) [3]string { return [3]string{s, s, s} }

func everything() question { return question{status: -9, limit: 100} }

// answer is the model of the list: a scan of all tasks.
func answer(list []crsapi.Task, q question, effects []crsapitest.Habit) string {
	has := func(e crsapitest.Habit) bool { return slices.Contains(effects, e) }
	var ids []string
	for _, task := range list {
		begin, end := task.StartTime, task.StartTime
		if has(crsapitest.EndOfTask) || has(crsapitest.EndOfRun) {
			end = task.EndTime
		}
		switch {
		case q.begin.IsZero() || has(crsapitest.IgnoreBegin):
		case begin.Before(q.begin), has(crsapitest.ExclusiveBegin) && begin.Equal(q.begin):
			continue
		}
		switch {
		case q.end.IsZero() || has(crsapitest.IgnoreEnd) || end.IsZero() && !has(crsapitest.EndOfRun):
		case end.IsZero():
			continue
		case end.After(q.end), has(crsapitest.ExclusiveEnd) && end.Equal(q.end):
			continue
		}
		if q.id != "" && q.id != task.RedisID {
			continue
		}
		if q.status != -9 && !has(crsapitest.IgnoreStatuses) && q.status != int(task.Status) {
			continue
		}
		ids = append(ids, task.RedisID)
	}
	if has(crsapitest.OldestFirst) {
		slices.Reverse(ids)
	}
	page := ids[min(q.offset, len(ids)):min(q.offset+q.limit, len(ids))]
	return strings.TrimSuffix(fmt.Sprintf("%d: %s", len(ids), strings.Join(page, " ")), " ")
}

// Whatever happened to the list, sorted or not, each request must get what a
// scan of all tasks finds.
func TestReadsAreScans(t *testing.T) {
	srv, _ := newServer(t)
	d := newDialects(srv)
	start := time.Date(2024, time.March, 1, 12, 0, 0, 0, time.UTC)
	all := []crsapitest.Habit{
		crsapitest.IgnoreBegin, crsapitest.IgnoreEnd, crsapitest.IgnoreStatuses, crsapitest.ExclusiveBegin, crsapitest.ExclusiveEnd, crsapitest.EndOfTask,
		crsapitest.EndOfRun, crsapitest.OldestFirst,
	}
	rapid.Check(t, func(r *rapid.T) {
		const seconds = 12
		at := func(label string) time.Time {
			return start.Add(time.Duration(rapid.IntRange(0, seconds).Draw(r, label)) * time.Second)
		}
		draw := func() []crsapi.Task {
			list := make([]crsapi.Task, rapid.IntRange(0, 8).Draw(r, "tasks"))
			for i := range list {
				list[i] = tasks(strconv.Itoa(rapid.IntRange(0, 3).Draw(r, "id")))[0]
				list[i].StartTime, list[i].Status = at("start"), crsapi.Status(rapid.IntRange(0, 2).Draw(r, "status"))
				if rapid.Bool().Draw(r, "ended") {
					list[i].EndTime = list[i].StartTime.Add(time.Duration(rapid.IntRange(0, 5).Draw(r, "duration")) * time.Second)
				}
			}
			if rapid.IntRange(0, 3).Draw(r, "sort") > 0 {
				slices.SortStableFunc(list, func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) })
			}
			return list
		}
		model := draw()
		srv.SetTasks(region, model)
		for range rapid.IntRange(1, 6).Draw(r, "steps") {
			switch rapid.IntRange(0, 3).Draw(r, "change") {
			case 0:
				added := draw()
				srv.Add(region, added...)
				model = slices.Concat(added, model)
			case 1:
				n := rapid.IntRange(0, 5).Draw(r, "dropped")
				srv.Drop(region, n)
				model = model[:max(0, len(model)-n)]
			case 2:
				changed := draw()
				srv.Update(region, func([]crsapi.Task) []crsapi.Task { return slices.Clone(changed) })
				model = changed
			}
			srv.ClearFaults()
			var effects []crsapitest.Habit
			for _, effect := range all {
				if rapid.IntRange(0, 9).Draw(r, "effect") == 0 {
					effects = append(effects, effect)
					srv.Inject(crsapitest.Fault{Do: effect})
				}
			}
			for range 3 {
				q := everything()
				q.limit = rapid.IntRange(1, 20).Draw(r, "limit")
				q.offset = q.limit * rapid.IntRange(0, 2).Draw(r, "page")
				if rapid.IntRange(0, 3).Draw(r, "begins") > 0 {
					q.begin = at("begin")
				}
				if rapid.IntRange(0, 3).Draw(r, "ends") > 0 {
					q.end = at("end")
				}
				if !q.begin.IsZero() && !q.end.IsZero() && q.begin.After(q.end) {
					q.begin, q.end = q.end, q.begin
				}
				if rapid.IntRange(0, 3).Draw(r, "one instance") == 0 {
					q.id = strconv.Itoa(rapid.IntRange(0, 3).Draw(r, "asked id"))
				}
				if rapid.IntRange(0, 3).Draw(r, "one status") == 0 {
					q.status = rapid.IntRange(0, 2).Draw(r, "asked status")
				}
				if got, want := d.ask(t, q), same(answer(model, q, effects)); got != want {
					r.Fatalf("%+v, effects %v: %q, want %q", q, effects, got, want)
				}
			}
		}
	})
}

// What happens to real lists, and needs no effect.
func TestChangesByTests(t *testing.T) {
	srv, _ := newServer(t)
	d := newDialects(srv)
	list := tasks("a", "b", "c", "d")
	srv.SetTasks(region, list)
	window := everything()
	window.begin, window.end = list[2].StartTime, list[1].StartTime
	failed := everything()
	failed.status = 0
	expect := func(step, wantWindow, wantFailed string) {
		t.Helper()
		if got := d.ask(t, window); got != same(wantWindow) {
			t.Errorf("%s: window %q, want %q", step, got, wantWindow)
		}
		if got := d.ask(t, failed); got != same(wantFailed) {
			t.Errorf("%s: pending %q, want %q", step, got, wantFailed)
		}
	}
	expect("first", "2: b c", "0:")
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
		late := tasks("late")
		late[0].StartTime, late[0].Status = list[1].StartTime.Add(-time.Second), crsapi.StatusPending
		return slices.Insert(list, 2, late...)
	})
	expect("a task appears late below the newest", "3: b late c", "1: late")
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
		list[3].Status = crsapi.StatusPending
		return list
	})
	expect("a finished task changes", "3: b late c", "2: late c")
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
		return slices.DeleteFunc(list, func(t crsapi.Task) bool { return t.RedisID == "late" })
	})
	expect("an instance is deleted", "2: b c", "1: c")
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
		list[1].RedisName = "renamed"
		return list
	})
	if got := d.a3.list3(t, `{"InstanceName":"renamed"}`); got != "1: b" {
		t.Errorf("renamed: %s", got)
	}
	older := tasks("older")
	older[0].StartTime = list[2].StartTime
	srv.Add(region, older...)
	expect("an older task at the head", "3: older b c", "1: c")
	srv.Add(region, tasks("newest")...)
	expect("a newer one before it", "3: older b c", "1: c")
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task { return list[2:] })
	expect("sorted again", "2: b c", "1: c")
	srv.Drop(region, 2)
	expect("dropped", "1: b", "0:")
}

func TestOnResponse(t *testing.T) {
	srv, _ := newServer(t)
	d := newDialects(srv)
	info := newAsker3(srv)
	info.action = "DescribeTaskInfo"
	if got := srv.Version("ap-nowhere"); got != 0 {
		t.Errorf("version %d of an unknown region", got)
	}
	lists := map[int]int{}
	note := func() { lists[srv.Version(region)] = len(srv.Tasks(region)) }
	task := tasks("a")
	task[0].TaskID = 7
	srv.SetTasks(region, task)
	note()
	var seen []string
	srv.OnRequest(func(r crsapitest.Request) {
		if r.Version != 0 {
			t.Errorf("OnRequest: version %d", r.Version)
		}
		srv.Add(region, tasks("x")...) // the response shows it
		note()
	})
	srv.OnResponse(func(r crsapitest.Request) {
		tasks, ok := lists[r.Version]
		seen = append(seen, fmt.Sprintf("%s %s #%d %d %v", r.API, r.Action, r.Seq, tasks, ok))
		srv.Add(region, numbered(1)...) // the response does not show it
		note()
	})
	if got, want := d.ask(t, everything()), [3]string{"2: x a", "4: x 0 x a", "6: x 0 x 0 x a"}; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if code := info.code3(t, `{"TaskId":7}`); code != "" {
		t.Error(code)
	}
	remove := srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(6000)})
	d.a2.ask(t)
	remove()
	d.a2.ask(t, "limit", "0")
	want := []string{"2.0 GetRedisTaskList #1 2 true", "3.0 DescribeTaskList #2 4 true", "tce GetRedisTaskList #3 6 true", "3.0 DescribeTaskInfo #4 8 true"}
	if !slices.Equal(seen, want) {
		t.Errorf("%q, want %q", seen, want)
	}
	before := srv.Version(region)
	srv.Drop(region, 1)
	srv.SetRawRows(region, "null")
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task { return list })
	if got := srv.Version(region); got != before+3 {
		t.Errorf("version %d after three changes of %d", got, before)
	}
	srv.OnResponse(nil)
	if d.a2.ask(t); len(seen) != 4 {
		t.Error("a removed hook was called")
	}
}

// BenchmarkWindow reads windows of 100 rows from a list of a million tasks,
// without a network.
func BenchmarkWindow(b *testing.B) {
	const n = 1_000_000
	list := crsapitest.Generate(n, 1000, 1)
	for _, test := range []struct {
		name   string
		change func(*crsapitest.Simulator)
		pairs  []string
	}{
		{name: "bounds"},
		{name: "bounds and status", pairs: []string{"taskStatus.0", "2"}},
		{name: "bounds, new task each time", change: func(s *crsapitest.Simulator) {
			s.Add(region, list[0])
		}},
		{name: "bounds, update each time", change: func(s *crsapitest.Simulator) {
			s.Update(region, func(list []crsapi.Task) []crsapi.Task { return list })
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			sim := crsapitest.New()
			sim.SetTasks(region, list)
			a := newDirectAsker(sim)
			sim.Add(region, list[0])                        // makes room for more
			a.ask(b, "beginTime", stamp(list[0].StartTime)) // is the list sorted?
			b.ReportAllocs()
			i, size := 0, 0
			for b.Loop() {
				b.StopTimer()
				i = (i + 7919) % (n - 100)
				r := a.request(b, append(test.pairs, "limit", "100", "beginTime", stamp(list[i+99].StartTime), "endTime", stamp(list[i].StartTime))...)
				w := httptest.NewRecorder()
				b.StartTimer()
				if test.change != nil {
					test.change(sim)
				}
				sim.ServeHTTP(w, r)
				size = w.Body.Len()
			}
			if size < 80*100 {
				b.Fatalf("the last response has %d bytes", size)
			}
		})
	}
}

// BenchmarkUpdate changes one of a million tasks.
func BenchmarkUpdate(b *testing.B) {
	sim := crsapitest.New()
	sim.SetTasks(region, crsapitest.Generate(1_000_000, 1000, 1))
	for b.Loop() {
		sim.Update(region, func(list []crsapi.Task) []crsapi.Task {
			list[7].Progress = 0.5
			return list
		})
	}
}
