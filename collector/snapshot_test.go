package collector_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"pgregory.net/rapid"
)

const (
	tasksSeries  = "crs_tasks{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	lastSeries   = "crs_task_last_start_timestamp_seconds{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	oldestSeries = "crs_task_oldest_start_timestamp_seconds{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	lastedSeries = "crs_task_last_duration_seconds{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	backupSeries = "crs_backup_last_start_timestamp_seconds{outcome=%q,redisId=%q,region=\"ap-guangzhou\"}"
	usualSeries  = "crs_backup_usual_interval_seconds{redisId=%q,region=\"ap-guangzhou\"}"
	aliveSeries  = "crs_instance_alive_since_timestamp_seconds{redisId=%q,region=\"ap-guangzhou\"}"
	firstSeries  = "crs_instance_oldest_start_timestamp_seconds{redisId=%q,region=\"ap-guangzhou\"}"
	goneSeries   = "crs_instance_gone{redisId=%q,region=\"ap-guangzhou\"}"
	infoSeries   = "crs_instance_info{projectId=%q,redisId=%q,redisName=%q,region=\"ap-guangzhou\"}"
)

var documented = []string{"pending", "executing", "succeeded", "failed", "error"}

// described returns the samples that describe a list, computed the slow way.
func described(tasks []crsapi.Task) samples {
	type key struct{ redisID, status, taskName string }
	count, last, oldest := map[key]int{}, map[key]int64{}, map[key]int64{}
	instance := map[string]crsapi.Task{}
	backups := map[string][]int{}
	for _, t := range tasks {
		for _, status := range documented {
			count[key{t.RedisID, status, t.TaskName}] += 0
		}
		k, start := key{t.RedisID, t.Status.String(), t.TaskName}, t.StartTime.Unix()
		if n := count[k]; n == 0 {
			last[k], oldest[k] = start, start
		}
		count[k]++
		last[k], oldest[k] = max(last[k], start), min(oldest[k], start)
		newest, known := instance[t.RedisID]
		if !known || t.StartTime.After(newest.StartTime) || t.StartTime.Equal(newest.StartTime) &&
			(t.RedisName > newest.RedisName || t.RedisName == newest.RedisName && t.ProjectID > newest.ProjectID) {
			instance[t.RedisID] = t
		}
	}
	want := samples{}
	for k, n := range count {
		want[fmt.Sprintf(tasksSeries, k.redisID, k.status, k.taskName)] = strconv.Itoa(n)
	}
	for k, start := range last {
		want[fmt.Sprintf(lastSeries, k.redisID, k.status, k.taskName)] = decimal(float64(start))
	}
	for k, start := range oldest {
		if k.status == "pending" || k.status == "executing" {
			want[fmt.Sprintf(oldestSeries, k.redisID, k.status, k.taskName)] = decimal(float64(start))
		}
	}
	for id, t := range instance {
		want[fmt.Sprintf(infoSeries, t.ProjectID, id, t.RedisName)] = "1"
		want[fmt.Sprintf(goneSeries, id)] = "0"
	}
	for _, t := range tasks {
		series, start := fmt.Sprintf(firstSeries, t.RedisID), float64(t.StartTime.Unix())
		if known, err := strconv.ParseFloat(want[series], 64); err != nil || start < known {
			want[series] = decimal(start)
		}
		finished := t.Status == crsapi.StatusSucceeded || t.Status == crsapi.StatusFailed || t.Status == crsapi.StatusError
		k := key{t.RedisID, t.Status.String(), t.TaskName}
		if finished && t.StartTime.Unix() == last[k] && !t.EndTime.Before(t.StartTime) {
			series, lasted := fmt.Sprintf(lastedSeries, k.redisID, k.status, k.taskName), t.EndTime.Sub(t.StartTime).Seconds()
			if known, err := strconv.ParseFloat(want[series], 64); err != nil || lasted > known {
				want[series] = decimal(lasted)
			}
		}
		if began := t.TaskName == "newInstance" || t.TaskName == "startInstance"; began && t.Status == crsapi.StatusSucceeded {
			series, start := fmt.Sprintf(aliveSeries, t.RedisID), float64(t.StartTime.Unix())
			if known, err := strconv.ParseFloat(want[series], 64); err != nil || start > known {
				want[series] = decimal(start)
			}
		}
		if finished && isBackup(t) {
			backups[t.RedisID] = append(backups[t.RedisID], int(t.StartTime.Unix()))
			outcome := "failed"
			if t.Status == crsapi.StatusSucceeded {
				outcome = "succeeded"
			}
			series, start := fmt.Sprintf(backupSeries, outcome, t.RedisID), float64(t.StartTime.Unix())
			if known, err := strconv.ParseFloat(want[series], 64); err != nil || start > known {
				want[series] = decimal(start)
			}
		}
		if ends(t) && !slices.ContainsFunc(tasks, func(other crsapi.Task) bool {
			return other.RedisID == t.RedisID && other.StartTime.After(t.StartTime) && showsInstance(other)
		}) {
			want[fmt.Sprintf(goneSeries, t.RedisID)] = "1"
		}
	}
	for id, starts := range backups {
		slices.Sort(starts)
		var intervals []int
		for i := range starts[1:] {
			intervals = append(intervals, starts[i+1]-starts[i])
		}
		if slices.Sort(intervals); len(intervals) >= 3 && intervals[len(intervals)-2] > 0 {
			want[fmt.Sprintf(usualSeries, id)] = decimal(float64(intervals[len(intervals)-2]))
		}
	}
	return want
}

func isBackup(t crsapi.Task) bool { return t.TaskName == backup || t.TaskName == "AUTOBACKUP" }

// ends reports whether the instance does not exist after the task.
func ends(t crsapi.Task) bool {
	switch t.TaskName {
	case "closeInstance", "deleteInstance":
		return t.Status == crsapi.StatusSucceeded
	case "newInstance":
		return t.Status == crsapi.StatusFailed || t.Status == crsapi.StatusError
	}
	return false
}

// showsInstance reports whether the task can only be of an instance that exists.
func showsInstance(t crsapi.Task) bool {
	switch t.TaskName {
	case "closeInstance", "deleteInstance":
		return false
	case "startInstance":
		return t.Status == crsapi.StatusSucceeded
	}
	return !ends(t)
}

func TestStatusNamesAreThoseOfTheAPI(t *testing.T) {
	for _, s := range []crsapi.Status{-2, -1, 0, 1, 2, 3, 4, math.MaxInt32, math.MinInt32} {
		got := scrape(t, watch(t, always(list(task("crs-a", backup, "2017-02-10 01:00:00", s)))))
		got.want(t, samples{fmt.Sprintf(tasksSeries, "crs-a", s, backup): "1"})
		if n := len(got.of("crs_tasks").nonzero()); n != 1 {
			t.Errorf("status %d is counted in %d series", s, n)
		}
	}
}

func TestListOfManyKinds(t *testing.T) {
	got := scrape(t, watch(t, always(list(
		task("crs-a", backup, "2017-02-10 04:00:00", crsapi.StatusExecuting),
		task("crs-b", backup, "2017-02-10 04:00:00", crsapi.StatusFailed),
		task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusExecuting),
		task("crs-a", backup, "2017-02-10 05:00:00", crsapi.StatusExecuting),
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusPending),
		task("crs-a", clean, "2017-02-10 02:00:00", crsapi.Status(42)),
		task("crs-a", clean, "2017-02-10 02:00:00", crsapi.Status(43)),
		task("crs-a", clean, "1960-01-01 00:00:00", crsapi.StatusPending),
		task("crs-a", clean, "1969-12-31 00:00:00", crsapi.StatusPending),
	))))
	at := func(text string) string { return decimal(float64(beijing(text).Unix())) }
	wantEqual(t, "the list", got.listed().nonzero(), samples{
		fmt.Sprintf(tasksSeries, "crs-a", "pending", backup):    "1",
		fmt.Sprintf(tasksSeries, "crs-a", "executing", backup):  "3",
		fmt.Sprintf(tasksSeries, "crs-b", "failed", backup):     "1",
		fmt.Sprintf(tasksSeries, "crs-a", "unknown", clean):     "2",
		fmt.Sprintf(tasksSeries, "crs-a", "pending", clean):     "2",
		fmt.Sprintf(lastSeries, "crs-a", "pending", backup):     at("2017-02-10 01:00:00"),
		fmt.Sprintf(lastSeries, "crs-a", "executing", backup):   at("2017-02-10 05:00:00"),
		fmt.Sprintf(lastSeries, "crs-b", "failed", backup):      at("2017-02-10 04:00:00"),
		fmt.Sprintf(lastSeries, "crs-a", "unknown", clean):      at("2017-02-10 02:00:00"),
		fmt.Sprintf(lastSeries, "crs-a", "pending", clean):      at("1969-12-31 00:00:00"),
		fmt.Sprintf(oldestSeries, "crs-a", "pending", backup):   at("2017-02-10 01:00:00"),
		fmt.Sprintf(oldestSeries, "crs-a", "executing", backup): at("2017-02-10 03:00:00"),
		fmt.Sprintf(oldestSeries, "crs-a", "pending", clean):    at("1960-01-01 00:00:00"),
		fmt.Sprintf(infoSeries, "0", "crs-a", "name of crs-a"):  "1",
		fmt.Sprintf(firstSeries, "crs-a"):                       "-3.15648e+08",
		fmt.Sprintf(firstSeries, "crs-b"):                       "1.4866704e+09",
		fmt.Sprintf(infoSeries, "0", "crs-b", "name of crs-b"):  "1",
		fmt.Sprintf(backupSeries, "failed", "crs-b"):            at("2017-02-10 04:00:00"),
	})
	if n := len(got.of("crs_tasks")); n != 5+5+6 {
		t.Errorf("%d series of crs_tasks, want 16", n)
	}
}

func TestInstanceIsDescribedByItsNewestTask(t *testing.T) {
	at := func(taskName, start, redisName, projectID string) crsapi.Task {
		return crsapi.Task{
			RedisID: "crs-a", TaskName: taskName, StartTime: beijing(start),
			RedisName: redisName, ProjectID: projectID,
		}
	}
	var (
		a = at(clean, "2017-02-10 02:00:00", "one", "1")
		b = at(backup, "2017-02-10 02:00:00", "one", "2")
		c = at(backup, "2017-02-10 02:00:00", "two", "0")
		d = at(clean, "2017-02-10 02:00:00", "one", "2")
	)
	renamed, two := fmt.Sprintf(infoSeries, "7", "crs-a", "renamed"), fmt.Sprintf(infoSeries, "0", "crs-a", "two")
	tests := []struct {
		name  string
		tasks []crsapi.Task
		want  string
	}{
		{"newest first", []crsapi.Task{at(clean, "2017-02-10 02:00:00", "renamed", "7"), at(backup, "2017-02-10 01:00:00", "z", "0")}, renamed},
		{"newest last", []crsapi.Task{at(backup, "2017-02-10 01:00:00", "z", "0"), at(clean, "2017-02-10 02:00:00", "renamed", "7")}, renamed},
		{"newest of a series", []crsapi.Task{at(clean, "2017-02-10 01:00:00", "z", "0"), at(clean, "2017-02-10 02:00:00", "renamed", "7")}, renamed},
		{"before 1970", []crsapi.Task{at(clean, "1960-01-01 00:00:00", "z", "0"), at(backup, "1961-01-01 00:00:00", "renamed", "7")}, renamed},
		{"no name, no project", []crsapi.Task{at(clean, "2017-02-10 02:00:00", "", ""), at(backup, "2017-02-10 01:00:00", "z", "0")}, fmt.Sprintf(infoSeries, "", "crs-a", "")},
		{"one second, order 1", []crsapi.Task{a, b, c}, two},
		{"one second, order 2", []crsapi.Task{c, b, a}, two},
		{"one second, order 3", []crsapi.Task{b, c, a}, two},
		{"one second, order 4", []crsapi.Task{a, c, b}, two},
		{"one second and series, order 1", []crsapi.Task{a, d}, fmt.Sprintf(infoSeries, "2", "crs-a", "one")},
		{"one second and series, order 2", []crsapi.Task{d, a}, fmt.Sprintf(infoSeries, "2", "crs-a", "one")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := scrape(t, watch(t, always(list(test.tasks...))))
			wantEqual(t, "instances", got.of("crs_instance_info"), samples{test.want: "1"})
		})
	}
}

// A server that ignores the filter must not make a task count for each instance
// requested.
func TestServerThatIgnoresTheFilter(t *testing.T) {
	e := newExporter(t, collector.Config{RedisIDs: []string{"crs-a", "crs-b"}}, map[string]collector.Source{guangzhou: always(list(
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-b", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-c", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
	))})
	wantEqual(t, "tasks", scrape(t, e).of("crs_tasks", "crs_instance_info").nonzero(), samples{
		fmt.Sprintf(tasksSeries, "crs-a", "succeeded", backup): "1",
		fmt.Sprintf(tasksSeries, "crs-b", "succeeded", backup): "1",
		fmt.Sprintf(infoSeries, "0", "crs-a", "name of crs-a"): "1",
		fmt.Sprintf(infoSeries, "0", "crs-b", "name of crs-b"): "1",
	})
	if status := e.Status()[0]; status.Tasks != 2 || status.Instances != 2 {
		t.Errorf("status %+v, want 2 tasks of 2 instances", status)
	}
}

// 65,535 tasks of one series, second and status are counted. More of them do
// not wrap around.
func TestVeryManyTasksOfOneSecond(t *testing.T) {
	failed := task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
	source := &fakeSource{list: list(failed)}
	e := watch(t, source)
	for range 2 {
		scrape(t, e)
	}
	source.set(list(slices.Repeat([]crsapi.Task{failed}, math.MaxUint16+10)...), nil)
	for range 2 {
		scrape(t, e).want(t, samples{
			transitions("crs-a", backup, "failed"):              strconv.Itoa(math.MaxUint16 - 1),
			fmt.Sprintf(tasksSeries, "crs-a", "failed", backup): strconv.Itoa(math.MaxUint16 + 10),
		})
	}
}

// counterModel is the rules of the counters once more, without any economy. It
// is told whole lists.
type counterModel struct {
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

func newCounterModel() *counterModel {
	return &counterModel{most: map[modelSecond]map[string]int{}, counters: map[string]*modelCounter{}}
}

func (m *counterModel) apply(tasks []crsapi.Task) {
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
			if series := transitions(t.RedisID, t.TaskName, status); m.counters[series] == nil {
				m.counters[series] = &modelCounter{}
			}
		}
	}
	if !m.begun {
		m.horizon = newest - 60*60
	}
	for second, counts := range now {
		known := m.most[second] != nil
		if !known {
			m.most[second] = map[string]int{}
		}
		for status, n := range counts {
			more := n - m.most[second][status]
			if more <= 0 {
				continue
			}
			m.most[second][status] = n
			if m.begun && (known || second.start >= m.horizon) {
				m.counters[transitions(second.redisID, second.taskName, status)].held += more
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

// show is one scrape of the counters.
func (m *counterModel) show() samples {
	want := samples{}
	for series, c := range m.counters {
		want[series] = strconv.Itoa(c.value)
		c.shown++
	}
	return want
}

// TestHistories compares an exporter, which gives its ledger what changed, with
// a model that knows whole lists: tasks of the same second, rows that vanish and
// return, statuses that change in any order, late tasks and history, failures,
// and polls that no scrape sees. It compares the gauges too.
func TestHistories(t *testing.T) {
	statuses := rapid.SampledFrom([]crsapi.Status{-1, 0, 1, 2, 3, 7, 8})
	ages := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 60, 3000, 3599, 3600, 3601, 3602, 7200, 1 << 24, 1 << 31})
	rapid.Check(t, func(r *rapid.T) {
		source := &fakeSource{}
		e, err := collector.New(collector.Config{
			Regions: []string{guangzhou},
			Dial:    func(string, func(crsapi.Attempt)) ([]collector.Source, error) { return only(source), nil },
		})
		if err != nil {
			r.Fatal(err)
		}
		defer e.Close()
		var (
			tasks []crsapi.Task
			away  []crsapi.Task // not listed
			model = newCounterModel()
			clock = 1_500_000_000
		)
		add := func() {
			clock += rapid.SampledFrom([]int{0, 0, 1, 1000, 4000}).Draw(r, "step")
			id := rapid.SampledFrom([]string{"crs-a", "crs-b", "crs-c", ""}).Draw(r, "redisId")
			task := crsapi.Task{
				RedisID: id, TaskName: rapid.SampledFrom([]string{backup, clean, "", "AUTOBACKUP", "newInstance", "deleteInstance"}).Draw(r, "taskName"),
				RedisName: "name" + strconv.Itoa(len(tasks)), ProjectID: strconv.Itoa(len(tasks) % 3),
				StartTime: time.Unix(int64(clock-ages.Draw(r, "age")), 0), Status: statuses.Draw(r, "status"),
			}
			if lasted := rapid.SampledFrom([]int{0, 1, 600, -1}).Draw(r, "lasted"); lasted != 0 {
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
		poll := func(see func() samples, shown bool) {
			if len(tasks) > 1 {
				tasks = rapid.Permutation(tasks).Draw(r, "order")
			}
			source.set(list(slices.Clone(tasks)...), nil)
			got := see()
			model.apply(tasks)
			before := maps.Clone(model.counters)
			want := model.show()
			if !shown {
				for series := range before {
					model.counters[series].shown--
				}
			}
			if got := got.transitions(); !maps.Equal(got, want) {
				r.Fatalf("counters: got %v, want %v", got, want)
			}
			if got, want := got.listed(), described(tasks); !maps.Equal(got, want) {
				r.Fatalf("list: got %v, want %v", got, want)
			}
		}
		for range rapid.IntRange(1, 5).Draw(r, "tasks of the baseline") {
			add()
		}
		poll(func() samples { return scrape(t, e) }, true)
		actions := map[string]func(*rapid.T){
			"add":    func(*rapid.T) { add() },
			"change": func(*rapid.T) { tasks[draw(tasks)].Status = statuses.Draw(r, "status") },
			"twin": func(*rapid.T) {
				twin := tasks[draw(tasks)]
				twin.Status = statuses.Draw(r, "status")
				tasks = append(tasks, twin)
			},
			"leave": func(*rapid.T) {
				i := draw(tasks)
				away = append(away, tasks[i])
				tasks = slices.Delete(tasks, i, i+1)
			},
			"return": func(*rapid.T) {
				i := draw(away)
				tasks = append(tasks, away[i])
				away = slices.Delete(away, i, i+1)
			},
			"scrape": func(*rapid.T) { poll(func() samples { return scrape(t, e) }, true) },
			"poll":   func(*rapid.T) { poll(func() samples { return exposed(t, e.Poll(t.Context())) }, false) },
			"fail": func(*rapid.T) {
				source.set(nil, errors.New("down"))
				got := scrape(t, e)
				if want := model.show(); !maps.Equal(got.transitions(), want) || len(got.listed()) != 0 {
					r.Fatalf("down: got %v, want %v", got, want)
				}
			},
		}
		actions["scrape again"] = actions["scrape"]
		r.Repeat(actions)
	})
}

func TestUsualInterval(t *testing.T) {
	const day = 24
	tests := []struct {
		name    string
		backups []float64 // hours
		want    string
	}{
		{"one backup", []float64{0}, ""},
		{"three backups", []float64{0, day, 2 * day}, ""},
		{"nightly", []float64{0, day, 2 * day, 3 * day}, "86400"},
		{"nightly, one night missing", []float64{0, day, 3 * day, 4 * day}, "86400"},
		{"nightly at other hours", []float64{0, day + 1, 2*day + 0.5, 3 * day}, "84600"},
		{"Monday to Friday", []float64{0, day, 2 * day, 3 * day, 4 * day, 7 * day, 8 * day, 9 * day, 10 * day, 11 * day, 14 * day}, "259200"},
		{"weekly", []float64{0, 7 * day, 14 * day, 21 * day}, "604800"},
		{"every six hours", []float64{0, 6, 12, 18, 24}, "21600"},
		{"all in one second", []float64{0, 0, 0, 0, 0}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := list(
				task("crs-a", backup, "2017-01-01 00:00:00", crsapi.StatusPending),
				task("crs-a", clean, "2017-01-01 00:00:00", crsapi.StatusSucceeded),
				task("crs-b", backup, "2017-01-01 00:00:00", crsapi.StatusSucceeded))
			for i, hours := range test.backups {
				status := []crsapi.Status{crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusError}[i%3]
				b := task("crs-a", []string{backup, "AUTOBACKUP"}[i%2], "2017-02-10 00:00:00", status)
				b.StartTime = b.StartTime.Add(time.Duration(hours * float64(time.Hour)))
				l.tasks = append([]crsapi.Task{b}, l.tasks...)
			}
			scrape(t, watch(t, always(l))).want(t, samples{
				fmt.Sprintf(usualSeries, "crs-a"): test.want,
				fmt.Sprintf(usualSeries, "crs-b"): "",
			})
		})
	}
}

func TestLifeOfAnInstance(t *testing.T) {
	const ok, failed, running = crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusExecuting
	type step struct {
		task   string
		status crsapi.Status
	}
	tests := []struct {
		name  string
		steps []step // one a second
		gone  string
		since string // second in which it was last created or restored
	}{
		{"created", []step{{"newInstance", ok}}, "0", "0"},
		{"creation runs", []step{{"newInstance", running}}, "0", ""},
		{"creation failed", []step{{"newInstance", failed}}, "1", ""},
		{"creation failed, and then it is used", []step{{"newInstance", failed}, {clean, running}}, "0", ""},
		{"isolated", []step{{"newInstance", ok}, {"closeInstance", ok}}, "1", "0"},
		{"isolation failed", []step{{"newInstance", ok}, {"closeInstance", failed}}, "0", "0"},
		{"a restoration runs", []step{{"closeInstance", ok}, {"startInstance", running}}, "1", ""},
		{"a restoration failed", []step{{"closeInstance", ok}, {"startInstance", failed}}, "1", ""},
		{"restored", []step{{"newInstance", ok}, {"closeInstance", ok}, {"startInstance", ok}}, "0", "2"},
		{"alive again without a restoration", []step{{"closeInstance", ok}, {backup, running}}, "0", ""},
		{"isolated and deleted", []step{{"closeInstance", ok}, {"deleteInstance", ok}}, "1", ""},
		{"a row that never ends", []step{{backup, running}, {"deleteInstance", ok}}, "1", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := list()
			for i, s := range test.steps {
				next := task("crs-a", s.task, "1970-01-01 08:00:00", s.status)
				next.StartTime = next.StartTime.Add(time.Duration(i) * time.Second)
				l.tasks = append([]crsapi.Task{next}, l.tasks...)
			}
			scrape(t, watch(t, always(l))).want(t, samples{
				fmt.Sprintf(goneSeries, "crs-a"):  test.gone,
				fmt.Sprintf(aliveSeries, "crs-a"): test.since,
				fmt.Sprintf(firstSeries, "crs-a"): "0",
			})
		})
	}
}
