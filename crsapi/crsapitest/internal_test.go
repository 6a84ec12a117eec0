package crsapitest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestNonces(t *testing.T) {
	const window = time.Minute
	start := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)
	var n nonces
	for i := range int64(1000) {
		now := start.Add(time.Duration(i) * 10 * time.Second)
		if !n.use(nonce{"a", i}, now, window) {
			t.Fatalf("nonce %d is rejected at its first use", i)
		}
		if !n.use(nonce{"b", i}, now, window) {
			t.Fatalf("nonce %d is rejected because another key used it", i)
		}
		// With a Timestamp one window ahead, a Nonce is valid for two windows.
		if past := i - 12; past >= 0 && n.use(nonce{"a", past}, now, window) {
			t.Fatalf("nonce %d is accepted twice within two windows", past)
		}
		// One Nonce per key each 10 s: 24 per key in four windows.
		if held := len(n.young) + len(n.old); held > 2*24 {
			t.Fatalf("%d nonces stored", held)
		}
	}
	if !n.use(nonce{"a", 999}, start.Add(24*time.Hour), window) || len(n.young)+len(n.old) != 1 {
		t.Error("nonces are still stored after a day without requests")
	}
}

func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "a=1&b=2", "a=1&a=2", "a", "=1", "a=", "&", "a=%", "a=%zz", "a=%ff", "%ff=1",
		"taskStatus.0=2&taskStatus.1=-1", "a=1;b=2", "a=b=c", "a=+", "a_b=1", "A=\x00", "a=@f",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, refused := parseParams(raw)
		values, err := url.ParseQuery(raw)
		if refused != nil {
			if !utf8.ValidString(refused.message) || len(refused.message) > 200 {
				t.Fatalf("message %q", refused.message)
			}
			return
		}
		// parseParams may reject more than net/url, but what it accepts must
		// have the same meaning. net/url rejects semicolons; parseParams accepts
		// them.
		if err != nil {
			if !strings.Contains(raw, ";") {
				t.Fatalf("accepted, but net/url returns %v", err)
			}
			return
		}
		if len(values) != len(p) {
			t.Fatalf("%d parameters, want %d", len(p), len(values))
		}
		for i, e := range p {
			if i > 0 && p[i-1].name >= e.name {
				t.Fatalf("%q after %q", e.name, p[i-1].name)
			}
			if got, ok := p.get(e.name); !ok || got != e.value || values.Get(e.name) != e.value {
				t.Fatalf("%q = %q, want %q", e.name, got, values.Get(e.name))
			}
		}
		_, _ = parseQuery(p, time.UTC)
		_ = source("POST", "h", Path, p)
	})
}

// The vectors that the documents print are for another service, so no request
// can show them.
func TestDocumentVectors3(t *testing.T) {
	const body = `{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}`
	if got := hexSHA256([]byte(body)); got != "35e9c5b0e3ae67532d3c9f17ead6c90222632e5b1ff7f6e89887f1398934f064" {
		t.Fatalf("body %s", got)
	}
	for _, test := range []struct {
		id, key             string
		signed              []string
		canonical, expected string
	}{
		{
			"T1", "Gu5t9xGARNpq86cd98joQYCN3*******",
			[]string{"content-type", "host"},
			"5ffe6a04c0664d6b969fab9a13bdab201d63ee709638e2749d62a09ca18d7031",
			"2230eefd229f582d8b1b891af7107b91597240707d778ab3738f756258d7652c",
		},
		{
			"T2", strings.Repeat("*", 32),
			[]string{"content-type", "host", "x-tc-action"},
			"7019a55be8395899b900fb5564e4200d984910f34794a27cb3fb7d10ff6a1e84",
			"10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f",
		},
	} {
		r, err := http.NewRequest(http.MethodPost, "https://cvm.tencentcloudapi.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		r.Header.Set("X-TC-Action", "DescribeInstances")
		canonical, ok := canonical3(r, test.signed, []byte(body))
		if !ok || hexSHA256([]byte(canonical)) != test.canonical {
			t.Errorf("%s: canonical request %q", test.id, canonical)
		}
		const timestamp = 1551113065
		if got := sign3(test.key, date3(timestamp), "cvm", source3(canonical, strconv.Itoa(timestamp), date3(timestamp), "cvm")); got != test.expected {
			t.Errorf("%s: signature %s", test.id, got)
		}
	}
}

// parseBody3 may reject more than encoding/json, but what it accepts must have
// the same meaning, and the checks must not panic.
func FuzzParseBody3(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "[]", "null", `{"Limit":1}`, `{"Limit":1,"Limit":2}`, `{"Result":[0,4],"TaskTypes":["012"]}`, `{"TaskStatus":-1}`,
		`{"InstanceId":"\ud800"}`, "{\"a\":\"\xff\"}", `{"TaskId":1} x`, `{"Limit":1`, `{"BeginTime":"2021-12-30 00:00:00"}`, `{"":{}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		p, refused := parseBody3([]byte(body))
		if refused != nil {
			if !utf8.ValidString(refused.message) || len(refused.message) > 200 {
				t.Fatalf("message %q", refused.message)
			}
			return
		}
		var values map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &values); err != nil || len(values) != len(p) {
			t.Fatalf("%d fields, want %d, error %v", len(p), len(values), err)
		}
		for _, e := range p {
			if e.value != string(values[e.name]) {
				t.Fatalf("%q = %q, want %q", e.name, e.value, values[e.name])
			}
			_ = plainValue(e.value)
		}
		for _, action := range []string{"DescribeTaskList", "DescribeTaskInfo", "GetRedisTaskList"} {
			_, refused := dialectOf(action).parseQuery(p, time.UTC)
			if refused != nil && !utf8.ValidString(refused.message) {
				t.Fatalf("message %q", refused.message)
			}
		}
	})
}

func TestFlows(t *testing.T) {
	seen := make(map[string]bool)
	public, private := 0, 0
	for code, f := range flows {
		for _, name := range []string{f.constant, f.name} {
			if name == "" {
				continue
			}
			if seen[name] {
				t.Errorf("%s occurs twice", name)
			}
			seen[name] = true
			if taskType(name) != codeTexts[code] {
				t.Errorf("%s has the code %s, want %d", name, taskType(name), code)
			}
		}
		if f.constant != "" {
			public++
		}
		if f.name != "" {
			private++
		}
	}
	if public != 56 || private != 12 {
		t.Errorf("%d task types of the public cloud, %d of API 2.0", public, private)
	}
}

// A window of a sorted list must not visit the tasks outside it, in each version
// that is known to be sorted. The tests change a task outside of the window so
// that only a scan of all tasks would find it.
func TestWindowsAreNotScans(t *testing.T) {
	sim := New()
	list := Generate(1000, 10, 1)
	for i := range list {
		list[i].StartTime = time.Unix(int64(5000-i), 0)
	}
	sim.SetTasks("r", list)
	l := sim.list("r")
	window := anyTask()
	window.begin, window.end = 4500, 4509
	status := window
	status.statuses.add(2)
	status.statuses.add(3)
	check := func(step string, want listOrder) {
		t.Helper()
		v := l.current()
		if v.index.order != want {
			t.Errorf("%s: order %d, want %d", step, v.index.order, want)
		}
		found := v.read(selection{filter: window})
		if found.some || found.len() != 10 || found.task(0).StartTime.Unix() != 4509 {
			t.Errorf("%s: %d tasks, scanned %v", step, found.len(), found.some)
		}
		last := &v.tasks[len(v.tasks)-1]
		was := *last
		last.StartTime, last.Status = time.Unix(4505, 0), 2
		found = v.read(selection{filter: status})
		if found.len() == 0 || found.len() > 10 || slices.Contains(found.at, int32(len(v.tasks)-1)) {
			t.Errorf("%s: the scan left the window: %d", step, found.at)
		}
		*last = was
	}
	check("set", orderUnknown)
	newest := list[0]
	newest.StartTime = time.Unix(5000, 0)
	sim.Add("r", newest)
	check("added a task as new as the newest", orderNewestFirst)
	newest.StartTime = time.Unix(5001, 0)
	sim.Add("r", newest, newest)
	check("added newer tasks", orderNewestFirst)
	sim.Add("r")
	check("added nothing", orderNewestFirst)
	sim.Drop("r", 100)
	check("dropped", orderNewestFirst)
	sim.SetRawRows("r", "null")
	check("raw rows", orderNewestFirst)
	sim.Update("r", func(tasks []crsapi.Task) []crsapi.Task { return tasks[1:] })
	check("updated", orderUnknown)

	older := newest
	older.StartTime = time.Unix(10, 0)
	for name, added := range map[string][]crsapi.Task{
		"older than the head": {older},
		"the last is older":   {newest, older},
		"not in order":        {older, newest},
	} {
		sim.SetTasks("r", list)
		sorted := l.current()
		sorted.read(selection{filter: window})
		sim.Add("r", added...)
		v := l.current()
		if found := v.read(selection{filter: window}); !found.some || found.len() != 10 || v.index.order != orderOther {
			t.Errorf("%s: %d tasks, order %d", name, found.len(), v.index.order)
		}
		sim.Drop("r", 1)
		if v := l.current(); v.index.order != orderUnknown {
			t.Errorf("%s, dropped: order %d", name, v.index.order)
		}
	}
}

// Old versions must be kept as long as a fault needs them, and no longer, and
// only Update may copy the tasks.
func TestPastVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := New()
		sim.SetTasks("r", Generate(100, 10, 1))
		sim.SetTasks("other", nil)
		l := sim.list("r")
		expect := func(step string, want int) {
			t.Helper()
			if got := len(l.past); got != want {
				t.Errorf("%s: %d versions, want %d", step, got, want)
			}
		}
		add := func() { sim.Add("r", DocumentExample()[0]) }
		add()
		add()
		expect("no fault", 0)
		sim.Inject(Fault{Region: "other", Do: Replicas(2, time.Second)})
		add()
		expect("fault of another region", 0)
		sim.Inject(Fault{Do: Replicas(1, time.Second)})
		add()
		expect("only the current version", 0)

		remove := sim.Inject(Fault{Do: All(Latency(0), All(Replicas(3, 5*time.Second)))})
		for range 100 {
			add()
			sim.Drop("r", 1)
			time.Sleep(time.Second)
		}
		add()
		expect("two changes each second, for 10 s", 2*9+1)
		if &l.past[0].tasks[50] != &l.past[1].tasks[51] && &l.past[1].tasks[50] != &l.past[2].tasks[51] {
			t.Error("Add and Drop copy the tasks")
		}
		before := l.past[len(l.past)-1].tasks[0]
		sim.Update("r", func(tasks []crsapi.Task) []crsapi.Task {
			clear(tasks)
			return tasks
		})
		if l.past[len(l.past)-2].tasks[0] != before || l.past[0].tasks[0].RedisID == "" {
			t.Error("Update changed an old version")
		}
		time.Sleep(time.Hour)
		add()
		expect("an hour later", 1)
		remove()
		expect("removed", 0)
		add()
		expect("after it", 0)

		sim.Inject(Fault{Do: Replicas(2, time.Second)})
		add()
		expect("another", 1)
		sim.ClearFaults()
		expect("cleared", 0)

		sim.Inject(Fault{Count: 1, Do: Replicas(2, time.Second)})
		add()
		x := &exchange{sim: sim, regionName: "r"}
		if len(sim.effects(x)) != 1 {
			t.Fatal("no effect")
		}
		add()
		expect("the last request is running", 2)
		x.end()
		expect("it ended", 0)
		if len(sim.holds) != 0 {
			t.Error("a request is still held")
		}
	})
}
