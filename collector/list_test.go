package collector_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"pgregory.net/rapid"
)

// described returns the samples that describe a list, computed the slow way.
func described(tasks []crsapi.Task) samples {
	values, newest := map[string]float64{}, map[string]crsapi.Task{}
	keep := func(better func(a, b float64) float64, value float64, format string, labels ...any) {
		series := fmt.Sprintf(format, labels...)
		if known, ok := values[series]; ok {
			value = better(value, known)
		}
		values[series] = value
	}
	for _, t := range tasks {
		id, status, name, start := t.RedisID, t.Status.String(), t.TaskName, float64(t.StartTime.Unix())
		for _, st := range documented {
			values[fmt.Sprintf(tasksSeries, id, st, name)] += 0
		}
		values[fmt.Sprintf(tasksSeries, id, status, name)]++
		keep(math.Max, start, lastSeries, id, status, name)
		if status == "pending" || status == "executing" {
			keep(math.Min, start, oldestSeries, id, status, name)
		}
		if finished(t) && (name == backup || name == "AUTOBACKUP") {
			outcome := map[bool]string{true: "succeeded", false: "failed"}[status == "succeeded"]
			keep(math.Max, start, backupSeries, outcome, id)
		}
		if n, known := newest[id]; !known || t.StartTime.After(n.StartTime) ||
			t.StartTime.Equal(n.StartTime) && t.RedisName+"\x00"+t.ProjectID > n.RedisName+"\x00"+n.ProjectID {
			newest[id] = t
		}
	}
	for _, t := range tasks {
		id, status, name, start := t.RedisID, t.Status.String(), t.TaskName, float64(t.StartTime.Unix())
		if finished(t) && !t.EndTime.Before(t.StartTime) && values[fmt.Sprintf(lastSeries, id, status, name)] == start {
			keep(math.Max, t.EndTime.Sub(t.StartTime).Seconds(), lastedSeries, id, status, name)
		}
	}
	for id, t := range newest {
		values[fmt.Sprintf(infoSeries, t.ProjectID, id, t.RedisName)] = 1
	}
	want := samples{}
	for series, value := range values {
		want[series] = decimal(value)
	}
	return want
}

func finished(t crsapi.Task) bool {
	return t.Status == crsapi.StatusSucceeded || t.Status == crsapi.StatusFailed || t.Status == crsapi.StatusError
}

// The duration is that of the newest task, the longest of those of one second.
func TestLastDuration(t *testing.T) {
	lasted := func(start string, seconds time.Duration) crsapi.Task {
		task := task("crs-a", backup, start, crsapi.StatusSucceeded)
		task.EndTime = task.StartTime.Add(seconds * time.Second)
		return task
	}
	tasks := []crsapi.Task{lasted("2017-02-10 01:00:00", 90), lasted("2017-02-10 02:00:00", 60), lasted("2017-02-10 02:00:00", 30)}
	for range 2 {
		shown(t, tasks...).want(t, samples{fmt.Sprintf(lastedSeries, "crs-a", "succeeded", backup): "60"})
		slices.Reverse(tasks)
	}
}

// 65,535 tasks of one series, second and status are counted. More of them do
// not wrap around.
func TestVeryManyTasksOfOneSecond(t *testing.T) {
	source := &fakeSource{list: list(failed)}
	e := watch(t, source)
	for range 2 {
		scrape(t, e)
	}
	for _, n := range []int{15, 16, 17, math.MaxUint16 + 10} { // small values share their memory
		source.set(list(slices.Repeat([]crsapi.Task{failed}, n)...), nil)
		scrape(t, e).want(t, samples{
			transitions("crs-a", backup, "failed"):              strconv.Itoa(min(n, math.MaxUint16) - 1),
			fmt.Sprintf(tasksSeries, "crs-a", "failed", backup): strconv.Itoa(n),
		})
	}
}

// counterModel is the rules of the counters of a region once more, without any economy.
type counterModel struct {
	region   string
	most     map[modelSecond]map[string]int // largest number of tasks at once, by status
	counters map[string]*modelCounter       // by series
	begun    bool
	horizon  int64 // unknown tasks before it are history
}

type modelSecond struct {
	redisID, taskName string
	start             int64
}

type modelCounter struct{ value, held, shown int }

func newCounterModel(region string) *counterModel {
	return &counterModel{region: region, most: map[modelSecond]map[string]int{}, counters: map[string]*modelCounter{}}
}

// apply counts a whole list, unless it is absorbed.
func (m *counterModel) apply(tasks []crsapi.Task, absorbed bool) {
	now := map[modelSecond]map[string]int{}
	newest := int64(math.MinInt64)
	for _, t := range tasks {
		second := modelSecond{t.RedisID, t.TaskName, t.StartTime.Unix()}
		if now[second] == nil {
			now[second] = map[string]int{}
		}
		now[second][t.Status.String()]++
		newest = max(newest, second.start)
		for _, status := range append([]string{t.Status.String()}, documented...) {
			if series := transitionsIn(m.region, t.RedisID, t.TaskName, status); m.counters[series] == nil {
				m.counters[series] = &modelCounter{}
			}
		}
	}
	if !m.begun {
		m.horizon = newest - 60*60
	}
	for second, counts := range now {
		counted := m.begun && !absorbed && (m.most[second] != nil || second.start >= m.horizon)
		if m.most[second] == nil {
			m.most[second] = map[string]int{}
		}
		for status, n := range counts {
			more := max(0, n-m.most[second][status])
			m.most[second][status] += more
			if counted {
				m.counters[transitionsIn(m.region, second.redisID, second.taskName, status)].held += more
			}
		}
	}
	m.begun = true
	for _, c := range m.counters {
		if c.shown >= 2 {
			c.value, c.held = c.value+c.held, 0
		}
	}
}

// show returns the counters. They are shown to a scraper or not.
func (m *counterModel) show(scraped bool) samples {
	want := samples{}
	for series, c := range m.counters {
		want[series] = strconv.Itoa(c.value)
		if scraped {
			c.shown++
		}
	}
	return want
}

// TestHistories compares an exporter with a model: tasks of the same second, rows that
// vanish and return, statuses that change in any order, late tasks and history, failures,
// and polls that no scrape sees. It compares the gauges too.
func TestHistories(t *testing.T) {
	statuses := rapid.SampledFrom([]crsapi.Status{-1, 0, 1, 2, 3, 7, 8})
	ages := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 60, 3000, 3599, 3600, 3601, 3602, 7200, 1 << 24, 1 << 31})
	rapid.Check(t, func(r *rapid.T) {
		source := &fakeSource{}
		e := watch(t, source)
		defer e.Close()
		var tasks, away []crsapi.Task // listed, and not
		model, clock := newCounterModel(guangzhou), 1_500_000_000
		add := func(r *rapid.T) {
			clock += rapid.SampledFrom([]int{0, 0, 1, 1000, 4000}).Draw(r, "step")
			task := crsapi.Task{
				RedisID:   rapid.SampledFrom([]string{"crs-a", "crs-b", "crs-c", ""}).Draw(r, "redisId"),
				TaskName:  rapid.SampledFrom([]string{backup, clean, "", "AUTOBACKUP"}).Draw(r, "taskName"),
				RedisName: rapid.SampledFrom([]string{"", "a", "b"}).Draw(r, "redisName"), ProjectID: strconv.Itoa(len(tasks) % 3),
				StartTime: time.Unix(int64(clock-ages.Draw(r, "age")), 0), Status: statuses.Draw(r, "status"),
			}
			const unknown = -2
			if lasted := rapid.SampledFrom([]int{unknown, 0, 1, 600, -1}).Draw(r, "lasted"); lasted != unknown {
				task.EndTime = task.StartTime.Add(time.Duration(lasted) * time.Second)
			}
			tasks = append(tasks, task)
		}
		draw := func(all []crsapi.Task) int {
			if len(all) == 0 {
				r.Skip("no task")
			}
			return rapid.IntRange(0, len(all)-1).Draw(r, "task")
		}
		move := func(from, to *[]crsapi.Task) {
			i := draw(*from)
			*to = append(*to, (*from)[i])
			*from = slices.Delete(*from, i, i+1)
		}
		check := func(got samples, scraped bool, listed samples) {
			if want := model.show(scraped); !maps.Equal(got.transitions(), want) {
				r.Fatalf("counters: got %v, want %v", got.transitions(), want)
			}
			got = got.listed()
			if !maps.Equal(got, listed) {
				r.Fatalf("list: got %v, want %v", got, listed)
			}
		}
		see := func(scraped bool) {
			if len(tasks) > 1 {
				tasks = rapid.Permutation(tasks).Draw(r, "order")
			}
			source.set(list(slices.Clone(tasks)...), nil)
			model.apply(tasks, false)
			if scraped {
				check(scrape(t, e), true, described(tasks))
			} else {
				check(exposed(t, e.Poll(t.Context())), false, described(tasks))
			}
		}
		for range rapid.IntRange(1, 5).Draw(r, "tasks of the baseline") {
			add(r)
		}
		see(true)
		r.Repeat(map[string]func(*rapid.T){
			"add":    add,
			"change": func(*rapid.T) { tasks[draw(tasks)].Status = statuses.Draw(r, "status") },
			"twin": func(*rapid.T) {
				twin := tasks[draw(tasks)]
				twin.Status = statuses.Draw(r, "status")
				tasks = append(tasks, twin)
			},
			"leave":        func(*rapid.T) { move(&tasks, &away) },
			"return":       func(*rapid.T) { move(&away, &tasks) },
			"scrape":       func(*rapid.T) { see(true) },
			"scrape again": func(*rapid.T) { see(true) },
			"poll":         func(*rapid.T) { see(false) },
			"fail": func(*rapid.T) {
				source.set(nil, errors.New("down"))
				check(scrape(t, e), true, samples{})
			},
		})
	})
}

func TestLifeOfAnInstance(t *testing.T) {
	const ok, failed, running, gone = crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusExecuting, "+Inf"
	type step struct {
		task   string
		status crsapi.Status
		second int
	}
	for _, test := range []struct {
		name  string
		steps []step
		good  string // second from which on a backup is due; -1 is before the first task
	}{
		{"created", []step{{"newInstance", ok, 0}}, "0"},
		{"creation runs", []step{{"newInstance", running, 0}}, "-1"},
		{"creation ended with an error", []step{{"newInstance", crsapi.StatusError, 0}}, gone},
		{"creation failed, and then it is used", []step{{"newInstance", failed, 0}, {clean, running, 1}}, "-1"},
		{"isolated", []step{{"newInstance", ok, 0}, {"closeInstance", ok, 1}}, gone},
		{"isolation failed", []step{{"newInstance", ok, 0}, {"closeInstance", failed, 1}}, "0"},
		{"a restoration runs", []step{{"closeInstance", ok, 0}, {"startInstance", running, 1}}, gone},
		{"restored", []step{{"newInstance", ok, 0}, {"closeInstance", ok, 1}, {"startInstance", ok, 2}}, "2"},
		{"alive again without a restoration", []step{{"closeInstance", ok, 0}, {backup, running, 1}}, "-1"},
		{"a row that never ends", []step{{backup, running, 0}, {"deleteInstance", ok, 1}}, gone},
		// The order of tasks of one second says nothing.
		{"deleted in the second of a backup", []step{{backup, ok, 0}, {"deleteInstance", ok, 0}}, gone},
		{"deleted in the second of an export", []step{{"deleteInstance", ok, 0}, {"exportBackup", ok, 0}}, gone},
	} {
		t.Run(test.name, func(t *testing.T) {
			begin := beijing("2017-02-10 01:00:00")
			var tasks []crsapi.Task
			for _, s := range test.steps {
				tasks = append(tasks, task("crs-a", s.task, fmt.Sprintf("2017-02-10 01:00:%02d", s.second), s.status))
			}
			want := test.good
			if second, err := strconv.ParseInt(test.good, 10, 64); err == nil {
				want = decimal(float64(begin.Unix() + second))
			}
			shown(t, tasks...).want(t, samples{fmt.Sprintf(goodSeries, "crs-a"): want})
		})
	}
}

func idsOf(tasks iter.Seq[crsapi.Task]) string {
	var ids []string
	for t := range tasks {
		ids = append(ids, t.RedisID)
	}
	return strings.Join(ids, " ")
}

// A list stays when the next poll fails, and does not change when the next one succeeds.
func TestTaskLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(
			task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
			task("crs-b", clean, "2017-02-10 03:00:00", crsapi.StatusFailed),
			task("crs-c", backup, "2017-02-10 02:00:00", crsapi.StatusPending),
		)}
		e := watch(t, source)
		if got := e.TaskLists(); len(got) != 1 || got[0] != nil {
			t.Fatalf("before the first poll: %v", got)
		}
		e.Poll(t.Context())
		first, from := e.TaskLists()[0], beijing("2017-02-10 02:00:00")
		source.set(nil, errors.New("down"))
		e.Poll(t.Context())
		if e.TaskLists()[0] != first {
			t.Error("a failed poll changed the list")
		}
		source.set(list(someTask), nil)
		time.Sleep(time.Minute)
		e.Poll(t.Context())
		if age := time.Since(first.Read); age != time.Minute || !e.TaskLists()[0].Read.Equal(time.Now()) {
			t.Errorf("the list was read %s ago", age)
		}
		if got := fmt.Sprint(first.Counts()); got != "map[error:0 executing:0 failed:1 pending:1 succeeded:1 unknown:0]" {
			t.Error(got)
		}
		for want, got := range map[string]iter.Seq[crsapi.Task]{
			"crs-b crs-c crs-a": first.Newest(time.Time{}, time.Time{}),
			"crs-c":             first.Newest(from, from.Add(time.Hour-time.Second)),
			"crs-c crs-a":       first.Newest(from.Add(-time.Hour), from),
			"crs-b":             first.Newest(from.Add(time.Second), time.Time{}),
		} {
			if got := idsOf(got); got != want {
				t.Errorf("tasks of %q, want %q", got, want)
			}
		}
	})
}

// A server may ignore the filter. Each task counts once then, those of other instances
// do not, and the newest is first.
func TestServerThatIgnoresTheFilter(t *testing.T) {
	e := newExporter(t, collector.Config{RedisIDs: []string{"crs-a", "crs-c"}}, sources{guangzhou: &fakeSource{list: list(
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-b", backup, "2017-02-10 03:00:00", crsapi.StatusSucceeded),
		task("crs-c", backup, "2017-02-10 02:00:00", crsapi.StatusSucceeded),
		task("crs-a", backup, "2017-02-10 04:00:00", crsapi.StatusSucceeded),
	)}})
	wantEqual(t, "tasks", scrape(t, e).of("crs_tasks").nonzero(), samples{
		fmt.Sprintf(tasksSeries, "crs-a", "succeeded", backup): "2",
		fmt.Sprintf(tasksSeries, "crs-c", "succeeded", backup): "1",
	})
	if got := idsOf(e.TaskLists()[0].Newest(time.Time{}, time.Time{})); got != "crs-a crs-c crs-a" {
		t.Errorf("tasks of %q", got)
	}
}

// Instances come from the list and from the facts of the same poll.
func TestInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deletion := backupOf("crs-d", time.Hour, crsapi.StatusSucceeded)
		deletion.TaskName = "deleteInstance"
		automatic := backupOf("crs-a", 2*time.Hour, crsapi.StatusPending)
		automatic.TaskName = "AUTOBACKUP"
		source := &fakeSource{list: list(
			backupOf("crs-a", 9*time.Hour, crsapi.StatusSucceeded), backupOf("crs-a", 8*time.Hour, crsapi.StatusFailed),
			automatic, backupOf("crs-a", time.Hour, crsapi.StatusExecuting),
			backupOf("crs-c", time.Hour, crsapi.StatusSucceeded),
			deletion,
		)}
		e := watch(t, source)
		e.Poll(t.Context())
		first, begin := e.TaskLists()[0], time.Now()
		describe := func(l *collector.TaskList) (all []string) {
			after := func(t time.Time) time.Duration { return t.Sub(begin) }
			for in := range l.Instances() {
				text := fmt.Sprintf("%s %q listed %t owed %t", in.RedisID, in.RedisName, in.Listed, in.Owed)
				if in.Owed {
					text += fmt.Sprint(" good ", after(in.LastGood), " until ", after(in.Deadline))
				}
				if in.FailingSince.After(in.LastGood) {
					text += fmt.Sprint(" fails since ", after(in.FailingSince))
				}
				if !in.Unfinished.IsZero() {
					text += fmt.Sprint(" unfinished ", after(in.Unfinished))
				}
				for b := range in.Backups(begin.Add(-8 * time.Hour)) {
					text += fmt.Sprint(", ", b.Status, " ", after(b.Submitted))
				}
				all = append(all, text)
			}
			return all
		}
		check := func(when string, l *collector.TaskList, seen time.Duration, believed bool, want []string) {
			t.Helper()
			if got := describe(l); !slices.Equal(got, want) {
				t.Errorf("%s: got\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if l.Seen().Sub(begin) != seen || l.Believed() != believed {
				t.Errorf("%s: seen %s, believed %t", when, l.Seen().Sub(begin), l.Believed())
			}
		}
		time.Sleep(time.Minute)
		source.set(list(), nil)
		e.Poll(t.Context())
		check("an empty list", e.TaskLists()[0], 0, false, []string{
			`crs-a "" listed false owed true good -9h0m0s until 17h0m0s fails since -8h0m0s unfinished -2h0m0s`,
			`crs-c "" listed false owed true good -1h0m0s until 25h0m0s`,
			`crs-d "" listed false owed false`,
		})
		source.set(list(backupOf("crs-e", time.Minute, crsapi.StatusSucceeded)), nil)
		e.Poll(t.Context())
		check("others left", e.TaskLists()[0], time.Minute, true, []string{
			`crs-a "" listed false owed true good -9h0m0s until 17h0m0s fails since -8h0m0s`,
			`crs-c "" listed false owed false`,
			`crs-d "" listed false owed false`,
			`crs-e "x" listed true owed true good 0s until 26h0m0s, succeeded 0s`,
		})
		check("the first", first, 0, true, []string{
			`crs-a "x" listed true owed true good -9h0m0s until 17h0m0s fails since -8h0m0s unfinished -2h0m0s, executing -1h0m0s, pending -2h0m0s, failed -8h0m0s`,
			`crs-c "x" listed true owed true good -1h0m0s until 25h0m0s, succeeded -1h0m0s`,
			`crs-d "x" listed true owed false`,
		})
	})
}
