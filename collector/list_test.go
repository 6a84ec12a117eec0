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

// 65,535 tasks of one series, second and status are counted. More of them do
// not wrap around.
func TestVeryManyTasksOfOneSecond(t *testing.T) {
	source := &fakeSource{list: list(failed)}
	e := watch(t, source)
	scrape(t, e)
	scrape(t, e)
	for _, n := range []int{15, 16, 17, math.MaxUint16 + 10} { // small values share their memory
		source.set(list(slices.Repeat([]crsapi.Task{failed}, n)...), nil)
		scrape(t, e).want(t, samples{
			transitions("crs-a", backup, "failed"):              strconv.Itoa(min(n, math.MaxUint16) - 1),
			fmt.Sprintf(tasksSeries, "crs-a", "failed", backup): strconv.Itoa(n),
		})
	}
}

// TestListsAreDescribed compares the gauges with those computed the slow way: tasks of the same
// second, names and ends of all kinds, in any order.
func TestListsAreDescribed(t *testing.T) {
	source := &fakeSource{}
	e := watch(t, source)
	pick := func(r *rapid.T, of ...string) string { return rapid.SampledFrom(of).Draw(r, "text") }
	tasks := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) crsapi.Task {
		task := crsapi.Task{
			RedisID: pick(r, "crs-a", "crs-b", "crs-c", ""), RedisName: pick(r, "", "a", "b"), ProjectID: pick(r, "0", "1", "2"),
			TaskName:  pick(r, backup, clean, "", "AUTOBACKUP"),
			StartTime: time.Unix(1_500_000_000-rapid.SampledFrom([]int64{0, 0, 1, 3600, 1 << 31}).Draw(r, "age"), 0),
			Status:    rapid.SampledFrom([]crsapi.Status{-1, 0, 1, 2, 3, 7, 8}).Draw(r, "status"),
		}
		if lasted := rapid.SampledFrom([]time.Duration{-2, -1, 0, 1, 600}).Draw(r, "lasted"); lasted != -2 { // else it is not known
			task.EndTime = task.StartTime.Add(lasted * time.Second)
		}
		return task
	}), 0, 30)
	rapid.Check(t, func(r *rapid.T) {
		listed := tasks.Draw(r, "tasks")
		source.set(list(listed...), nil)
		if got, want := exposed(t, e.Poll(t.Context())).listed(), described(listed); !maps.Equal(got, want) {
			r.Fatalf("got %v, want %v", got, want)
		}
		source.set(nil, errors.New("down"))
		if got := exposed(t, e.Poll(t.Context())).listed(); len(got) > 0 {
			r.Fatalf("down, and shows %v", got)
		}
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

// A list keeps what was known when it was read. Backups by hand and automatic ones are one
// kind, of which it has the oldest unfinished one.
func TestTaskListNeverChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		automatic := backupOf("crs-a", 2*time.Hour, crsapi.StatusPending)
		automatic.TaskName = "AUTOBACKUP"
		e, begin := watch(t, &fakeSource{list: list(automatic, backupOf("crs-a", time.Hour, crsapi.StatusExecuting))}), time.Now()
		e.Poll(t.Context())
		first := e.TaskLists()[0]
		time.Sleep(time.Minute)
		e.Poll(t.Context())
		if !first.Read.Equal(begin) || !first.Seen().Equal(begin) || !e.TaskLists()[0].Read.Equal(time.Now()) {
			t.Errorf("the first list was read at %s, seen at %s; want %s", first.Read, first.Seen(), begin)
		}
		for in := range first.Instances() {
			if !in.Unfinished.Equal(automatic.StartTime) {
				t.Errorf("unfinished since %s, want %s", in.Unfinished, automatic.StartTime)
			}
		}
	})
}
