package collector

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// statusNames are the values of the label status. An index is a status; the last one
// stands for every number that is not documented.
var statusNames = [ledger.Statuses]string{"pending", "executing", "succeeded", "failed", "error", "unknown"}

const (
	pending   = ledger.Pending
	executing = ledger.Executing
	succeeded = ledger.Succeeded
	failed    = ledger.Failed
	errored   = ledger.Errored
	unknown   = ledger.Rare
)

// StatusNames returns the values of the label status, in the order of a task's life.
func StatusNames() []string { return slices.Clone(statusNames[:]) }

func statusOf(s crsapi.Status) int {
	switch s {
	case crsapi.StatusPending:
		return pending
	case crsapi.StatusExecuting:
		return executing
	case crsapi.StatusSucceeded:
		return succeeded
	case crsapi.StatusFailed:
		return failed
	case crsapi.StatusError:
		return errored
	}
	return unknown
}

func finished(st int) bool { return st == succeeded || st == failed || st == errored }

// isBackup reports whether tasks of a name back up an instance: by hand or automatic,
// which in API 3.0 has a name of its own.
func isBackup(taskName string) bool { return taskName == "backupInstance" || taskName == "AUTOBACKUP" }

// unknownDuration is that of a task whose end is not known.
const unknownDuration = -1

// TaskList is a list that was read whole. It never changes: the metrics and the pages
// read the same.
type TaskList struct {
	Read time.Time // when the poll ended

	tasks     []crsapi.Task // oldest first, those of the same second, instance and name in a row
	series    []*series     // ordered by instance and task name
	instances []*instance   // ordered by redisId; with those of the inventory
	inventory int64         // when the inventory was read, in UNIX seconds; 0 without one
	facts     *ledger.Facts // after this list
}

// series is the listed tasks of one instance and name. Times are UNIX seconds.
type series struct {
	ledger.Series
	count  [ledger.Statuses]int
	newest [ledger.Statuses]int64 // valid where count is not 0
	oldest [ledger.Statuses]int64
	lasted [ledger.Statuses]int64 // seconds, of the newest task

	start int64 // of the newest task
}

// instance is what a list says of an instance.
type instance struct {
	ledger.Listed
	redisName, projectID string
	ended                int64 // when it was last closed or deleted

	backupSucceeded, backupFailed int64 // submission of the newest finished backups
}

// newTaskList makes all aggregates of the inventory, and of tasks that are ordered as those
// of a TaskList.
func newTaskList(tasks []crsapi.Task, inventory *InventoryStatus) *TaskList {
	l := &TaskList{tasks: tasks, inventory: inventory.begun}
	all, instances := map[ledger.Series]*series{}, map[string]*instance{}
	for i := range tasks {
		task := &tasks[i]
		in, ok := instances[task.RedisID]
		if !ok {
			in = &instance{Listed: ledger.Listed{RedisID: task.RedisID, Oldest: task.StartTime.Unix()}}
			instances[task.RedisID] = in
		}
		key := seriesOf(task)
		s, ok := all[key]
		if !ok {
			s = &series{Series: key}
			all[key] = s
		}
		s.add(task)
		in.add(task)
	}
	inventory.merge(instances)
	l.series = slices.SortedFunc(maps.Values(all), func(a, b *series) int { return a.Compare(b.Series) })
	l.instances = slices.SortedFunc(maps.Values(instances), func(a, b *instance) int { return strings.Compare(a.RedisID, b.RedisID) })
	for _, s := range l.series {
		in := instances[s.RedisID]
		in.Tasks = append(in.Tasks, s.listed())
	}
	return l
}

func (s *series) add(task *crsapi.Task) {
	start, st, duration := task.StartTime.Unix(), statusOf(task.Status), int64(unknownDuration)
	if !task.EndTime.Before(task.StartTime) {
		duration = int64(task.EndTime.Sub(task.StartTime) / time.Second)
	}
	if s.count[st] == 0 {
		s.oldest[st] = start
	} else if s.newest[st] == start {
		duration = max(duration, s.lasted[st])
	}
	s.count[st]++
	s.newest[st], s.lasted[st], s.start = start, duration, start
}

func (in *instance) add(task *crsapi.Task) {
	start, st := task.StartTime.Unix(), statusOf(task.Status)
	// The order of tasks of the same second says nothing.
	if name := task.RedisName; start != in.Newest || name > in.redisName || name == in.redisName && task.ProjectID > in.projectID {
		in.redisName, in.projectID, in.Newest = name, task.ProjectID, start
	}
	ended, exists := false, true
	switch task.TaskName {
	case "closeInstance", "deleteInstance":
		ended, exists = st == succeeded, false
	case "newInstance":
		ended = st == failed || st == errored
	case "startInstance":
		exists = st == succeeded // until then, the instance is isolated
	}
	switch {
	case ended:
		in.Gone, in.ended = true, start
	case exists && start > in.ended:
		in.Gone = false
	}
	if st == succeeded && (task.TaskName == "newInstance" || task.TaskName == "startInstance") {
		in.Alive = start
	}
	if !isBackup(task.TaskName) {
		return
	}
	in.Backups = append(in.Backups, ledger.Backup{Start: start, Status: uint8(st)})
	switch st {
	case succeeded:
		in.backupSucceeded = start
	case failed, errored:
		in.backupFailed = start
	}
}

// seconds yields the tasks second by second, for the ledger.
func (l *TaskList) seconds(yield func(ledger.Series, ledger.Second) bool) {
	for i := 0; i < len(l.tasks); {
		series, second := seriesOf(&l.tasks[i]), ledger.Second{Start: l.tasks[i].StartTime.Unix()}
		for ; i < len(l.tasks) && l.tasks[i].StartTime.Unix() == second.Start && seriesOf(&l.tasks[i]) == series; i++ {
			if c := &second.Most[statusOf(l.tasks[i].Status)]; *c < math.MaxUint16 {
				*c++
			}
		}
		if !yield(series, second) {
			return
		}
	}
}

// listed returns what the list says of each instance, for the facts.
func (l *TaskList) listed() []ledger.Listed {
	all := make([]ledger.Listed, len(l.instances))
	for i, in := range l.instances {
		all[i] = in.Listed
	}
	return all
}

// inUse reports whether the tasks of an instance say that it exists.
func (l *TaskList) inUse() bool {
	return l != nil && slices.ContainsFunc(l.instances, func(in *instance) bool { return in.Oldest != 0 && !in.Gone })
}

func (s *series) listed() ledger.Task {
	t := ledger.Task{TaskName: s.TaskName, Succeeded: s.ended(succeeded), Failed: s.ended(failed)}
	if e := s.ended(errored); e.Start > t.Failed.Start {
		t.Failed = e
	}
	for _, st := range []int{pending, executing} {
		if s.count[st] > 0 && (t.Unfinished == 0 || s.oldest[st] < t.Unfinished) {
			t.Unfinished = s.oldest[st]
		}
	}
	return t
}

// ended returns the newest task in a finished status.
func (s *series) ended(st int) (e ledger.Ended) {
	if s.count[st] > 0 {
		e.Start = s.newest[st]
		if s.lasted[st] != unknownDuration {
			e.End = e.Start + s.lasted[st]
		}
	}
	return e
}

func seriesOf(task *crsapi.Task) ledger.Series {
	return ledger.Series{RedisID: task.RedisID, TaskName: task.TaskName}
}

// newest returns when the newest task was submitted; zero without a task.
func (l *TaskList) newest() time.Time {
	if len(l.tasks) == 0 {
		return time.Time{}
	}
	return l.tasks[len(l.tasks)-1].StartTime
}
