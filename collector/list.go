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
	Region string
	API    crsapi.API // that it was read through
	Read   time.Time  // when the poll ended

	tasks     []crsapi.Task // oldest first, those of the same second, instance and name in a row
	series    []*series     // ordered by instance and task name
	instances []*Instance   // ordered by redisId
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

// Instance is what a list says of an instance. Times are submission times, zero if no such
// task is listed.
type Instance struct {
	RedisID, RedisName, ProjectID string

	BackupSucceeded, BackupFailed time.Time     // the newest finished backups
	UsualInterval                 time.Duration // between backups; 0 if unknown
	Gone                          bool          // it does not exist
	// Known is since when the instance is known to exist: when it was created or restored,
	// else when its oldest listed task was submitted.
	Known time.Time

	aliveSince, oldest  time.Time
	described           time.Time // when the task with its name was submitted
	ended, alive        time.Time
	lastBackup          time.Time
	backups             int // finished
	longest, nextLonger time.Duration
	listed              []ledger.Backup // oldest first
}

// minIntervals is how many intervals between backups must be listed before one of them
// is called usual.
const minIntervals = 3

// newTaskList makes all aggregates of tasks, which are ordered as those of a TaskList.
func newTaskList(tasks []crsapi.Task) *TaskList {
	l := &TaskList{tasks: tasks}
	all, instances := map[ledger.Series]*series{}, map[string]*Instance{}
	for i := range tasks {
		task := &tasks[i]
		in, ok := instances[task.RedisID]
		if !ok {
			in = &Instance{RedisID: task.RedisID, oldest: task.StartTime}
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
	l.series = slices.SortedFunc(maps.Values(all), func(a, b *series) int { return a.Compare(b.Series) })
	l.instances = slices.SortedFunc(maps.Values(instances), func(a, b *Instance) int { return strings.Compare(a.RedisID, b.RedisID) })
	for _, in := range l.instances {
		in.Gone = !in.ended.IsZero() && !in.alive.After(in.ended)
		if in.Known = in.oldest; in.aliveSince.After(in.oldest) {
			in.Known = in.aliveSince
		}
		if in.backups > minIntervals {
			in.UsualInterval = in.nextLonger
		}
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

func (in *Instance) add(task *crsapi.Task) {
	start, st := task.StartTime, statusOf(task.Status)
	// The order of tasks of the same second says nothing.
	if name := task.RedisName; !start.Equal(in.described) || name > in.RedisName || name == in.RedisName && task.ProjectID > in.ProjectID {
		in.RedisName, in.ProjectID, in.described = name, task.ProjectID, start
	}
	switch task.TaskName {
	case "closeInstance", "deleteInstance":
		if st == succeeded {
			in.ended = start
		}
	case "newInstance":
		if st == failed || st == errored {
			in.ended = start
		} else {
			in.alive = start
		}
		if st == succeeded {
			in.aliveSince = start
		}
	case "startInstance": // until it has succeeded, the instance is isolated
		if st == succeeded {
			in.alive, in.aliveSince = start, start
		}
	default:
		in.alive = start
	}
	if isBackup(task.TaskName) {
		in.listed = append(in.listed, ledger.Backup{Start: start.Unix(), Status: uint8(st)})
		if finished(st) {
			in.addBackup(start, st)
		}
	}
}

// addBackup keeps the second longest interval: one exception does not change it, and
// backups from Monday to Friday have their weekend in it.
func (in *Instance) addBackup(start time.Time, st int) {
	if st == succeeded {
		in.BackupSucceeded = start
	} else {
		in.BackupFailed = start
	}
	if in.backups > 0 {
		switch interval := start.Sub(in.lastBackup); {
		case interval > in.longest:
			in.longest, in.nextLonger = interval, in.longest
		case interval > in.nextLonger:
			in.nextLonger = interval
		}
	}
	in.backups++
	in.lastBackup = start
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
	all, rest := make([]ledger.Listed, len(l.instances)), l.series
	for i, in := range l.instances {
		all[i] = ledger.Listed{RedisID: in.RedisID, Gone: in.Gone, Oldest: in.oldest.Unix(), Backups: in.listed}
		if !in.aliveSince.IsZero() {
			all[i].Alive = in.aliveSince.Unix()
		}
		for ; len(rest) > 0 && rest[0].RedisID == in.RedisID; rest = rest[1:] {
			all[i].Tasks = append(all[i].Tasks, rest[0].listed())
		}
	}
	return all
}

func (s *series) listed() ledger.ListedTask {
	t := ledger.ListedTask{TaskName: s.TaskName, Succeeded: s.ended(succeeded), Failed: s.ended(failed)}
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
