package crsapitest_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// ids returns the ids in an answer of dialects.
func ids(answer string) []string { return strings.Fields(answer)[1:] }

// tied returns the tasks new, 0 to n-1 of one second, and old.
func tied(n int) []crsapi.Task {
	list := tasks("new", "second", "old")
	at := list[1]
	list = slices.Delete(list, 1, 2)
	for i := range n {
		at.RedisID = strconv.Itoa(i)
		list = slices.Insert(list, i+1, at)
	}
	return list
}

func TestShuffleTies(t *testing.T) {
	const n = 6
	second := tied(1)[1].StartTime
	window := everything()
	window.begin, window.end = second, second
	status := everything()
	status.status = 2
	status.begin = second
	// run asks for the whole list, and page by page, in each of the ways. It
	// returns all answers.
	run := func(seed uint64, fault crsapitest.Fault) (whole, paged [][3]string) {
		srv, _ := newServer(t)
		srv.Seed(seed)
		srv.Inject(fault)
		srv.SetTasks(region, tied(n))
		d := newDialects(srv)
		for _, q := range []question{everything(), window, status} {
			whole = append(whole, d.ask(t, q))
			q.limit = 2
			for range 4 {
				paged = append(paged, d.ask(t, q))
				q.offset += q.limit
			}
		}
		return whole, paged
	}
	whole, paged := run(1, crsapitest.Fault{Do: crsapitest.ShuffleTies})
	orders := map[string]bool{}
	for i, prefix := range []string{"8: new ", "6: ", "7: new "} {
		for _, answer := range whole[i] {
			order, ok := strings.CutPrefix(answer, prefix)
			if !ok {
				t.Errorf("%q does not begin with %q", answer, prefix)
			}
			order, _ = strings.CutSuffix(order, " old")
			orders[order] = true
			if sorted := slices.Sorted(slices.Values(strings.Fields(order))); !slices.Equal(sorted, []string{"0", "1", "2", "3", "4", "5"}) {
				t.Errorf("%q has not each task once", answer)
			}
		}
	}
	if len(orders) < 8 {
		t.Errorf("%d orders in 9 requests", len(orders))
	}
	for i, total := range []string{"8:", "6:", "7:"} {
		for api := range 3 {
			counts := map[string]int{}
			for _, page := range paged[4*i : 4*i+4] {
				if !strings.HasPrefix(page[api], total) {
					t.Errorf("total of %q, want %s", page[api], total)
				}
				for _, id := range ids(page[api]) {
					counts[id]++
				}
			}
			twice, never := 0, 0
			for id := range n {
				switch counts[strconv.Itoa(id)] {
				case 0:
					never++
				case 1:
				default:
					twice++
				}
			}
			if twice == 0 || never == 0 {
				t.Errorf("pages of %s: %d tasks twice, %d never", total, twice, never)
			}
			if counts["new"] > 1 || counts["old"] > 1 {
				t.Errorf("pages of %s: %v", total, counts)
			}
		}
	}

	whole2, paged2 := run(1, crsapitest.Fault{Do: crsapitest.ShuffleTies})
	if !slices.Equal(whole, whole2) || !slices.Equal(paged, paged2) {
		t.Error("the same seed gives other orders")
	}
	if other, _ := run(2, crsapitest.Fault{Do: crsapitest.ShuffleTies}); slices.Equal(whole, other) {
		t.Error("another seed gives the same orders")
	}
	if first, _ := run(1, crsapitest.Fault{API: "tce", Do: crsapitest.ShuffleTies}); first[0][0] != "8: new 0 1 2 3 4 5 old" || first[0][1] != first[0][0] || first[0][2] != whole[0][2] {
		t.Errorf("only for one API: %q", first[0])
	}
}

// A page must be a part of the order that its request gives the whole list.
func TestShuffleTiesPages(t *testing.T) {
	for seed := range uint64(5) {
		first := func(q question) []string {
			srv, a := newServer(t)
			srv.Seed(seed)
			srv.Inject(crsapitest.Fault{Do: crsapitest.ShuffleTies})
			srv.SetTasks(region, tied(10))
			return ids(a.list(t, q.pairs()...))
		}
		whole := first(everything())
		page := everything()
		page.offset, page.limit = 4, 4
		if got := first(page); !slices.Equal(got, whole[4:8]) {
			t.Errorf("seed %d: page %v of %v", seed, got, whole)
		}
	}
}

// Rows that are not tasks have no time.
func TestShuffleTiesAfterRawRows(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks(region, tied(2))
	srv.SetRawRows(region, "1", "2", "3")
	srv.Inject(crsapitest.Fault{Do: crsapitest.ShuffleTies})
	for offset, want := range []string{`[1,2]`, `[2,3]`, `[3,{`} {
		if body := string(a.ask(t, "offset", strconv.Itoa(offset), "limit", "2").body); !strings.Contains(body, `"totalCount":7,"data":{"redisTaskSet":`+want) {
			t.Errorf("offset %d: %s", offset, body)
		}
	}
	if got := a.ask(t, "offset", "9").documented(t); got.TotalCount != 7 || len(got.Data.Set) != 0 {
		t.Errorf("after the end: %+v", got)
	}
}

func TestUnsortedRows(t *testing.T) {
	srv, _ := newServer(t)
	srv.Inject(crsapitest.Fault{Do: crsapitest.UnsortedRows})
	d := newDialects(srv)
	list := numbered(12)
	sorted := "12: 0 1 2 3 4 5 6 7 8 9 10 11"
	srv.SetTasks(region, list)
	all := d.ask(t, everything())
	if all != same(all[0]) || all != d.ask(t, everything()) {
		t.Errorf("not one order: %q", all)
	}
	order := ids(all[0])
	if all[0] == sorted || len(order) != 12 || len(slices.Compact(slices.Sorted(slices.Values(order)))) != 12 {
		t.Errorf("%q", all[0])
	}
	q := everything()
	q.limit = 5
	var paged []string
	for ; q.offset < 12; q.offset += q.limit {
		paged = append(paged, ids(d.ask(t, q)[1])...)
	}
	if !slices.Equal(paged, order) {
		t.Errorf("pages %v, all %v", paged, order)
	}
	q = everything()
	q.begin, q.end, q.status = list[8].StartTime, list[3].StartTime, 2
	want := slices.DeleteFunc(slices.Clone(order), func(id string) bool { return !slices.Contains([]string{"3", "4", "5", "6", "7", "8"}, id) })
	if got := d.ask(t, q); got != same("6: "+strings.Join(want, " ")) {
		t.Errorf("window %q, want %q", got, want)
	}

	srv.Add(region, tasks("added")...)
	srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
		list[2].Status, list[3].RedisName = crsapi.StatusFailed, "renamed"
		return list
	})
	got := ids(d.ask(t, everything())[2])
	if len(got) != 13 || !slices.Equal(slices.DeleteFunc(got, func(id string) bool { return id == "added" }), order) {
		t.Errorf("changed: %v, first %v", got, order)
	}
	srv.SetTasks(region, list)
	srv.Seed(2)
	if other := d.ask(t, everything()); other == all || other[0] == sorted {
		t.Errorf("another seed: %q", other)
	}
	srv.ClearFaults()
	if got := d.ask(t, everything()); got != same(sorted) {
		t.Errorf("without the fault: %q", got)
	}
}

func TestBounds(t *testing.T) {
	srv, _ := newServer(t)
	d := newDialects(srv)
	list := tasks("a", "b", "c", "d", "e")
	list[1].Status = crsapi.StatusPending
	list[2].EndTime = list[0].StartTime
	list[3].EndTime = list[3].StartTime.Add(time.Second)
	srv.SetTasks(region, list)
	q := everything()
	q.begin, q.end, q.status = list[3].StartTime, list[1].StartTime, 2
	for _, test := range []struct {
		name string
		do   crsapitest.Effect
		want string
	}{
		{"none", crsapitest.All(), "2: c d"},
		{"IgnoreBegin", crsapitest.IgnoreBegin, "3: c d e"},
		{"IgnoreEnd", crsapitest.IgnoreEnd, "3: a c d"},
		{"IgnoreStatuses", crsapitest.IgnoreStatuses, "3: b c d"},
		{"ExclusiveBegin", crsapitest.ExclusiveBegin, "1: c"},
		{"ExclusiveEnd, with the task at the end", crsapitest.All(crsapitest.IgnoreStatuses, crsapitest.ExclusiveEnd), "2: c d"},
		{"ExclusiveBegin twice", crsapitest.All(crsapitest.IgnoreStatuses, crsapitest.ExclusiveBegin, crsapitest.ExclusiveBegin), "2: b c"},
		{"EndOfTask", crsapitest.EndOfTask, "2: a d"},
		{"everything is ignored", crsapitest.All(crsapitest.IgnoreBegin, crsapitest.IgnoreEnd, crsapitest.IgnoreStatuses, crsapitest.ExclusiveBegin, crsapitest.ExclusiveEnd, crsapitest.EndOfTask), "5: a b c d e"},
	} {
		remove := srv.Inject(crsapitest.Fault{Do: test.do})
		if got := d.ask(t, q); got != same(test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		if got := d.ask(t, everything()); got != same("5: a b c d e") {
			t.Errorf("%s, without filters: %q", test.name, got)
		}
		remove()
	}

	ended := q
	ended.status, ended.begin, ended.end = -9, time.Time{}, list[3].EndTime
	srv.Inject(crsapitest.Fault{Do: crsapitest.EndOfTask})
	if got := d.ask(t, ended); got != same("4: a b d e") {
		t.Errorf("end of a task, included: %q", got)
	}
	srv.Inject(crsapitest.Fault{API: "3.0", Do: crsapitest.ExclusiveEnd})
	if got := d.ask(t, ended); got != [3]string{"4: a b d e", "3: a b e", "4: a b d e"} {
		t.Errorf("end of a task, excluded by API 3.0: %q", got)
	}
	srv.ClearFaults()

	// A window of one second that is excluded has no task.
	one := everything()
	one.begin, one.end = list[2].StartTime, list[2].StartTime
	srv.Inject(crsapitest.Fault{Skip: 3, Count: 3, Do: crsapitest.All(crsapitest.ExclusiveBegin, crsapitest.ExclusiveEnd)})
	for _, want := range []string{"1: c", "0:", "1: c"} {
		if got := d.ask(t, one); got != same(want) {
			t.Errorf("one second: %q, want %q", got, want)
		}
	}
}

// The replicas lag by the clock of the test's bubble.
func TestReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a2 := newMemoryServer(t)
		const lag = 10 * time.Second
		a3, info := newAsker3(srv), newAsker3(srv)
		info.action = "DescribeTaskInfo"
		srv.SetTasks(region, tasks("a", "b", "c"))
		srv.Inject(crsapitest.Fault{Region: region, Do: crsapitest.All(crsapitest.Replicas(3, lag))})
		var versions []int
		srv.OnResponse(func(r crsapitest.Request) { versions = append(versions, r.Version) })
		expect := func(step string, want ...string) {
			t.Helper()
			got2, got3 := []string{}, []string{}
			for range want {
				got2 = append(got2, a2.list(t))
			}
			for range want {
				got3 = append(got3, a3.list3(t, "{}"))
			}
			if !slices.Equal(got2, want) || !slices.Equal(got3, want) {
				t.Errorf("%s: API 2.0 %q, API 3.0 %q, want %q", step, got2, got3, want)
			}
		}
		const abc = "3: a b c"
		expect("not changed", abc, abc, abc)

		time.Sleep(time.Hour)
		srv.Add(region, tasks("new")...)
		expect("added", "4: new a b c", abc, abc)
		time.Sleep(lag - 1)
		expect("almost one lag later", "4: new a b c", abc, abc)
		time.Sleep(time.Nanosecond)
		expect("one lag later", "4: new a b c", "4: new a b c", abc)
		srv.Drop(region, 1)
		expect("dropped", "3: new a b", "4: new a b c", abc)
		time.Sleep(lag)
		srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
			list[0].RedisID, list[1].Status = "changed", crsapi.StatusFailed // in place
			return list
		})
		expect("updated", "3: changed a b", "3: new a b", "4: new a b c")
		versions = nil
		for i, want := range []string{"1: a", "0:", "0:"} {
			if got := a2.list(t, "taskStatus.0", "3"); got != want {
				t.Errorf("failed at replica %d: %s, want %s", i, got, want)
			}
		}
		minute := stamp(tasks("x")[0].StartTime)
		for i, want := range []string{"2: changed a", "2: new a", "2: new a"} {
			if got := a3.list3(t, fmt.Sprintf(`{"BeginTime":%q,"EndTime":%q}`, minute, minute)); got != want {
				t.Errorf("window at replica %d: %s, want %s", i, got, want)
			}
		}
		if now := srv.Version(region); !slices.Equal(versions[:3], []int{now, now - 1, now - 2}) {
			t.Errorf("versions %v, the current one is %d", versions, now)
		}
	})
}

// A task must be the same task at each replica, also if it is no longer listed
// when API 3.0 first asks.
func TestReplicasTaskIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newMemoryServer(t)
		a, info := newAsker3(srv), newAsker3(srv)
		info.action = "DescribeTaskInfo"
		srv.SetTasks(region, tasks("a", "b"))
		srv.Inject(crsapitest.Fault{Do: crsapitest.Replicas(2, time.Minute)})
		srv.Drop(region, 1)
		srv.Add(region, tasks("c")...)
		srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
			list[1].Progress, list[1].TaskID = 0.5, 0
			return list
		})
		read := func() map[string]int64 {
			ids := map[string]int64{}
			for _, row := range a.ask3(t, "{}").documented3(t).Tasks {
				ids[*row.InstanceId] = *row.TaskId
			}
			return ids
		}
		now, past := read(), read()
		if len(now) != 2 || len(past) != 2 || now["a"] == 0 || now["a"] != past["a"] || past["b"] == 0 || now["c"] == 0 || past["b"] == now["c"] {
			t.Errorf("now %v, a minute ago %v", now, past)
		}
		// The replica that does not list a task does not know it.
		for i, want := range []string{"InvalidParameter.InvalidParameter", ""} {
			if got := info.code3(t, fmt.Sprintf(`{"TaskId":%d}`, past["b"])); got != want {
				t.Errorf("the dropped task at replica %d: %q, want %q", i, got, want)
			}
		}
	})
}

// A fault has one turn for each region, and shows old versions to its last
// request, however late that reads the list.
func TestReplicasTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a := newMemoryServer(t)
		other := newAsker(srv)
		other.region = "ap-other"
		other.nonce.Store(1 << 32)
		srv.Inject(crsapitest.Fault{Count: 4, Do: crsapitest.Replicas(2, time.Minute)})
		srv.Inject(crsapitest.Fault{Skip: 3, Count: 1, Do: crsapitest.Latency(30 * time.Second)})
		for _, name := range []string{region, "ap-other"} {
			srv.SetTasks(name, tasks("a"))
		}
		if first, second := a.list(t), other.list(t); first != "1: a" || second != first {
			t.Errorf("first request of each region: %s, %s", first, second)
		}
		if got := other.list(t); got != "0:" {
			t.Errorf("before the first list: %s", got)
		}
		go func() {
			time.Sleep(20 * time.Second)
			srv.Add(region, tasks("b")...)
		}()
		if got := a.list(t); got != "0:" { // 60 s before 30 s after the start
			t.Errorf("the last request: %s", got)
		}
		if got := a.list(t); got != "2: b a" {
			t.Errorf("after the fault ended: %s", got)
		}
	})
}

func TestReplicasWithoutSense(t *testing.T) {
	for name, replicas := range map[string]func(){
		"no replica": func() { crsapitest.Replicas(0, time.Second) },
		"no lag":     func() { crsapitest.Replicas(2, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			replicas()
		}()
	}
}

// While the list changes, each page must show one state of it, at each replica
// and in each order. The race detector checks the locks.
func TestConcurrentChangesWithEffects(t *testing.T) {
	srv, _ := newServer(t)
	srv.SetTasks(region, numbered(50))
	srv.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.Replicas(3, time.Millisecond), crsapitest.ShuffleTies)})
	srv.Inject(crsapitest.Fault{Rate: 0.3, Do: crsapitest.UnsortedRows})
	srv.OnResponse(func(r crsapitest.Request) {
		if r.Version == 0 {
			t.Error("version 0")
		}
	})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			d := newDialects(srv)
			d.a2.nonce.Store(int64(i) << 32)
			q := everything()
			q.begin = tasks("x")[0].StartTime.Add(-time.Hour)
			for n := range 25 {
				q.status = []int{2, -9}[n%2]
				for _, answer := range d.ask(t, q) {
					if total, _, _ := strings.Cut(answer, ":"); total != strconv.Itoa(len(ids(answer))) {
						t.Errorf("not one state: %s", answer)
					}
				}
			}
		})
	}
	for i := range 100 {
		srv.Add(region, tasks(strconv.Itoa(i), "x")...)
		srv.Drop(region, 1)
		srv.Update(region, func(list []crsapi.Task) []crsapi.Task {
			list[0].Status = crsapi.StatusFailed
			return list[:len(list)-1]
		})
		if i%20 == 0 {
			srv.Inject(crsapitest.Fault{Count: 3, Do: crsapitest.Replicas(2, time.Second)})
		}
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
}

func TestInstanceEffects(t *testing.T) {
	srv, a2 := newServer(t)
	srv.SetTasks(region, tasks("x", "y", "x"))
	a3 := newAsker3(srv)
	get := func(id string) (code int, name, private string) {
		t.Helper()
		pairs, body, tce := []string(nil), "{}", "{}"
		if id != "" {
			pairs = []string{"redisId", id}
			body, tce = fmt.Sprintf(`{"InstanceId":%q}`, id), fmt.Sprintf(`{"RedisId":%q}`, id)
		}
		return a2.code(t, pairs...), a3.code3(t, body), a3.code3(t, tce, "X-TC-Action", "GetRedisTaskList")
	}
	const (
		unknown = "ResourceNotFound.InstanceNotExists"
		denied  = "AuthFailure.UnauthorizedOperation"
	)
	for _, test := range []struct {
		do   crsapitest.Effect
		id   string
		code int
		name string
	}{
		{crsapitest.RefuseUnknown, "", 0, ""},
		{crsapitest.RefuseUnknown, "x", 0, ""},
		{crsapitest.RefuseUnknown, "z", 5000, unknown},
		{crsapitest.DenyUnfiltered, "", 4102, denied},
		{crsapitest.DenyUnfiltered, "x", 0, ""},
		{crsapitest.DenyUnfiltered, "z", 0, ""},
	} {
		remove := srv.Inject(crsapitest.Fault{Do: test.do})
		before := srv.Answers(region, test.code)
		if code, name, private := get(test.id); code != test.code || name != test.name || private != test.name {
			t.Errorf("%v of %q: %d, %q, %q, want %d, %q", test.do, test.id, code, name, private, test.code, test.name)
		}
		if n := srv.Answers(region, test.code) - before; test.code != 0 && n != 3 {
			t.Errorf("%v of %q: %d counted", test.do, test.id, n)
		}
		remove()
	}
	if page := a2.ask(t, "redisId", "z").documented(t); page.Code != 0 || page.TotalCount != 0 {
		t.Errorf("by default an unknown instance gives %+v", page)
	}
	// A request for one task has no list.
	srv.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.DenyUnfiltered, crsapitest.RefuseUnknown)})
	if name := a3.code3(t, `{"TaskId":1}`, "X-TC-Action", "DescribeTaskInfo"); name == denied || name == unknown {
		t.Errorf("DescribeTaskInfo: %s", name)
	}
}
