package collector_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
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

// Tasks of one life are some seconds apart, or in the same second where a comma joins them.
func TestLifeOfAnInstance(t *testing.T) {
	statuses := map[string]crsapi.Status{
		"executing": crsapi.StatusExecuting, "succeeded": crsapi.StatusSucceeded, "failed": crsapi.StatusFailed, "error": crsapi.StatusError,
	}
	const before, gone = -1, math.MaxInt
	for life, good := range map[string]int{ // the second from which on a backup is due
		"newInstance:succeeded":                                                 0,
		"newInstance:executing":                                                 before,
		"newInstance:error":                                                     gone,
		"newInstance:failed cleanInstance:executing":                            before, // it is used
		"newInstance:succeeded closeInstance:succeeded":                         gone,
		"newInstance:succeeded closeInstance:failed":                            0,
		"closeInstance:succeeded startInstance:executing":                       gone,
		"newInstance:succeeded closeInstance:succeeded startInstance:succeeded": 2,
		"closeInstance:succeeded backupInstance:executing":                      before, // it is used
		"backupInstance:executing deleteInstance:succeeded":                     gone,
		// The order of tasks of one second says nothing.
		"backupInstance:succeeded,deleteInstance:succeeded": gone,
		"deleteInstance:succeeded,exportBackup:succeeded":   gone,
	} {
		var tasks []crsapi.Task
		for second, names := range strings.Fields(life) {
			for text := range strings.SplitSeq(names, ",") {
				name, status, _ := strings.Cut(text, ":")
				tasks = append(tasks, task("crs-a", name, fmt.Sprintf("2017-02-10 01:00:%02d", second), statuses[status]))
			}
		}
		want := "+Inf"
		if good != gone {
			want = decimal(float64(beijing("2017-02-10 01:00:00").Unix() + int64(good)))
		}
		if got := shown(t, tasks...)[fmt.Sprintf(goodSeries, "crs-a")]; got != want {
			t.Errorf("%s: got %s, want %s", life, got, want)
		}
	}
}

// A server may ignore the filter. Each task counts once then, those of other instances
// do not, and the newest is last.
func TestServerThatIgnoresTheFilter(t *testing.T) {
	ended := func(redisID, hour string) crsapi.Task {
		return task(redisID, backup, "2017-02-10 "+hour+":00:00", crsapi.StatusSucceeded)
	}
	e := newExporter(t, collector.Config{RedisIDs: []string{"crs-a", "crs-c"}}, sources{
		guangzhou: &fakeSource{list: list(ended("crs-a", "01"), ended("crs-b", "03"), ended("crs-c", "02"), ended("crs-a", "04"))},
	})
	wantEqual(t, "tasks", scrape(t, e).of("crs_tasks").nonzero(), samples{
		fmt.Sprintf(tasksSeries, "crs-a", "succeeded", backup): "2",
		fmt.Sprintf(tasksSeries, "crs-c", "succeeded", backup): "1",
	})
	if newest := e.Status()[0].NewestTask; !newest.Equal(beijing("2017-02-10 04:00:00")) {
		t.Errorf("the newest task is of %s", newest)
	}
}
