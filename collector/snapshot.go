package collector

import (
	"iter"
	"math"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// status is a task's status as an index: the five documented ones in the order
// of their label values, and one for every other number.
type status int

const (
	pending status = iota
	executing
	succeeded
	failed
	errored
	unknown = ledger.Rare
)

const statuses = ledger.Statuses

// backupTasks are the tasks that back up an instance: by hand or automatic, and
// in API 3.0 by a name of its own.
var backupTasks = []string{"backupInstance", "AUTOBACKUP"}

var statusNames = [statuses]string{"pending", "executing", "succeeded", "failed", "error", "unknown"}

func statusOf(s crsapi.Status) status {
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
	default:
		return unknown
	}
}

// packedTask is a task's submission time and status. A million of them are
// small and sort fast: by time, then by status.
type packedTask int64

const statusBits = 3

func pack(start int64, s status) packedTask { return packedTask(start<<statusBits | int64(s)) }

func (t packedTask) start() int64   { return int64(t) >> statusBits }
func (t packedTask) status() status { return status(t & (1<<statusBits - 1)) }

// snapshot is a region's list, reduced to what the metrics need.
type snapshot struct {
	series    []listedSeries            // ordered by series
	instances map[string]listedInstance // by redisId
	tasks     int
}

// listedSeries is the listed tasks of one series.
type listedSeries struct {
	ledger.Series
	tasks  []packedTask // ascending
	count  [statuses]int
	newest [statuses]int64 // submission time; valid where count is not 0
	oldest [2]int64        // the same, of pending and executing
	lasted [statuses]int64 // seconds, of the newest task; unknownDuration if its end is not known

	// The instance, as the newest task of the series has it.
	instance listedInstance
	latest   int64 // submission time of that task
}

const unknownDuration = -1

// listedInstance is an instance with the name and project of its newest task.
type listedInstance struct{ redisName, projectID string }

// List is the complete list of one sweep. Of a failed sweep it has no tasks.
type List interface {
	All() iter.Seq[crsapi.Task]
	Len() int      // number of tasks in All
	Rejected() int // rows that could not be read and are not in All
	Pages() int    // pages read, those read again included
}

// sweptList is a list with the instance that it was requested for.
type sweptList struct {
	redisID string // empty for all instances
	list    List
}

// takeSnapshot makes one snapshot of the lists of one poll. It makes room for
// as many series as expected.
func takeSnapshot(lists []sweptList, expected int) *snapshot {
	size := 0
	for _, l := range lists {
		size += l.list.Len()
	}
	var (
		snap   = &snapshot{series: make([]listedSeries, 0, expected)}
		index  = make(map[ledger.Series]uint32, expected)
		tasks  = make([]packedTask, 0, size)
		series = make([]uint32, 0, size) // of each task
		counts = make([]int, 0, expected)
	)
	for _, l := range lists {
		for task := range l.list.All() {
			if l.redisID != "" && task.RedisID != l.redisID {
				// A server that ignores the filter lists this task once for
				// every instance requested.
				continue
			}
			key := ledger.Series{RedisID: task.RedisID, TaskName: task.TaskName}
			i, known := index[key]
			if !known {
				i = uint32(len(snap.series))
				index[key] = i
				snap.series = append(snap.series, listedSeries{Series: key, latest: math.MinInt64})
				counts = append(counts, 0)
			}
			t := pack(task.StartTime.Unix(), statusOf(task.Status))
			snap.series[i].add(t, durationOf(task), listedInstance{task.RedisName, task.ProjectID})
			tasks, series = append(tasks, t), append(series, i)
			counts[i]++
		}
	}
	snap.tasks = len(tasks)
	backing := make([]packedTask, len(tasks)) // shared by all series
	for i, n := range counts {
		snap.series[i].tasks, backing = backing[:0:n], backing[n:]
	}
	for n, i := range series {
		snap.series[i].tasks = append(snap.series[i].tasks, tasks[n])
	}
	for i := range snap.series {
		slices.Sort(snap.series[i].tasks)
	}
	slices.SortFunc(snap.series, func(a, b listedSeries) int { return a.Compare(b.Series) })
	snap.instances = instancesOf(snap.series)
	return snap
}

// durationOf returns the seconds from submission to end.
func durationOf(task crsapi.Task) int64 {
	if task.EndTime.Before(task.StartTime) { // also if there is none
		return unknownDuration
	}
	return int64(task.EndTime.Sub(task.StartTime) / time.Second)
}

func (s *listedSeries) add(t packedTask, duration int64, in listedInstance) {
	start, st := t.start(), t.status()
	switch {
	case s.count[st] == 0 || start > s.newest[st]:
		s.newest[st], s.lasted[st] = start, duration
	case start == s.newest[st]: // the API does not promise an order of rows
		s.lasted[st] = max(s.lasted[st], duration)
	}
	if st == pending || st == executing {
		if s.count[st] == 0 || start < s.oldest[st] {
			s.oldest[st] = start
		}
	}
	if s.describedLaterBy(start, in) {
		s.latest, s.instance = start, in
	}
	s.count[st]++
}

// describedLaterBy reports whether a task describes the instance later than s
// does. Tasks of the same second are compared by name and project: the API does
// not promise an order of rows.
func (s *listedSeries) describedLaterBy(start int64, in listedInstance) bool {
	if start != s.latest {
		return start > s.latest
	}
	if in.redisName != s.instance.redisName {
		return in.redisName > s.instance.redisName
	}
	return in.projectID > s.instance.projectID
}

func instancesOf(series []listedSeries) map[string]listedInstance {
	newest := map[string]*listedSeries{}
	for i := range series {
		s := &series[i]
		if known, ok := newest[s.RedisID]; !ok || known.describedLaterBy(s.latest, s.instance) {
			newest[s.RedisID] = s
		}
	}
	instances := make(map[string]listedInstance, len(newest))
	for id, s := range newest {
		instances[id] = s.instance
	}
	return instances
}

// lastBackups returns the submission times of the newest finished backups of an
// instance, math.MinInt64 where there is none. Its series are those of the instance.
func lastBackups(series []listedSeries) (succeededAt, failedAt int64) {
	succeededAt, failedAt = math.MinInt64, math.MinInt64
	for i := range series {
		s := &series[i]
		if !slices.Contains(backupTasks, s.TaskName) {
			continue
		}
		succeededAt = max(succeededAt, s.newestIn(succeeded))
		failedAt = max(failedAt, s.newestIn(failed), s.newestIn(errored))
	}
	return succeededAt, failedAt
}

// isGone reports whether the newest task that tells says that the instance does
// not exist. Its series are those of the instance.
func isGone(series []listedSeries) bool {
	ended, alive := int64(math.MinInt64), int64(math.MinInt64)
	for i := range series {
		s := &series[i]
		switch s.TaskName {
		case "closeInstance", "deleteInstance":
			ended = max(ended, s.newestIn(succeeded))
		case "newInstance":
			ended = max(ended, s.newestIn(failed), s.newestIn(errored))
			alive = max(alive, s.newestIn(pending), s.newestIn(executing), s.newestIn(succeeded), s.newestIn(unknown))
		default:
			alive = max(alive, s.latest)
		}
	}
	return ended > math.MinInt64 && ended >= alive
}

// newestIn returns the submission time of the newest task in a status,
// math.MinInt64 if there is none.
func (s *listedSeries) newestIn(st status) int64 {
	if s.count[st] == 0 {
		return math.MinInt64
	}
	return s.newest[st]
}

// size returns the number of series. The snapshot may be nil.
func (s *snapshot) size() int {
	if s == nil {
		return 0
	}
	return len(s.series)
}

// newestTask returns the submission time of the newest task, zero if there is
// no task.
func (s *snapshot) newestTask() time.Time {
	if s.tasks == 0 {
		return time.Time{}
	}
	latest := int64(math.MinInt64)
	for i := range s.series {
		latest = max(latest, s.series[i].latest)
	}
	return time.Unix(latest, 0).UTC()
}

// changesSince returns how s differs from an earlier snapshot, second by
// second. All of s is a change if earlier is nil.
func (s *snapshot) changesSince(earlier *snapshot) []ledger.Change {
	var was []listedSeries
	if earlier != nil {
		was = earlier.series
	}
	var changes []ledger.Change
	now := s.series
	for len(was) > 0 || len(now) > 0 {
		switch order := firstOf(was, now); {
		case order < 0:
			changes = appendChanges(changes, was[0].Series, was[0].tasks, nil)
			was = was[1:]
		case order > 0:
			changes = appendChanges(changes, now[0].Series, nil, now[0].tasks)
			now = now[1:]
		default:
			if !slices.Equal(was[0].tasks, now[0].tasks) {
				changes = appendChanges(changes, now[0].Series, was[0].tasks, now[0].tasks)
			}
			was, now = was[1:], now[1:]
		}
	}
	return changes
}

// firstOf compares the first series of two lists. An empty list comes last.
func firstOf(a, b []listedSeries) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return a[0].Compare(b[0].Series)
	}
}

func appendChanges(changes []ledger.Change, key ledger.Series, was, now []packedTask) []ledger.Change {
	for len(was) > 0 || len(now) > 0 {
		second := int64(math.MaxInt64)
		if len(was) > 0 {
			second = was[0].start()
		}
		if len(now) > 0 {
			second = min(second, now[0].start())
		}
		var before, after [statuses]uint16
		was, before = takeSecond(was, second)
		now, after = takeSecond(now, second)
		if after != before {
			changes = append(changes, ledger.Change{Series: key, Second: second, Tasks: after})
		}
	}
	return changes
}

// takeSecond counts the leading tasks that were submitted in a second, and
// returns the others.
func takeSecond(tasks []packedTask, second int64) (rest []packedTask, counts [statuses]uint16) {
	n := 0
	for n < len(tasks) && tasks[n].start() == second {
		if c := &counts[tasks[n].status()]; *c < math.MaxUint16 {
			*c++
		}
		n++
	}
	return tasks[n:], counts
}
