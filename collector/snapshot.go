package collector

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
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

// snapshot is a region's list, reduced to what the metrics need. It never changes;
// the next one shares what is equal.
type snapshot struct {
	series    []*listedSeries      // ordered by series
	instances map[string]*instance // by redisId
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

// takeSnapshot makes one snapshot of the lists of one poll. It makes room for
// as many series as expected.
func takeSnapshot(lists []*openList, expected int) *snapshot {
	size := 0
	for _, l := range lists {
		if l.redisIDs == nil { // else it may be a small part
			size += l.Len()
		}
	}
	var (
		snap   = &snapshot{series: make([]*listedSeries, 0, expected)}
		index  = make(map[ledger.Series]uint32, expected)
		tasks  = make([]packedTask, 0, size)
		series = make([]uint32, 0, size) // of each task
		counts = make([]int, 0, expected)
	)
	for _, l := range lists {
		for task := range l.All() {
			if !l.has(task.RedisID) {
				continue
			}
			key := ledger.Series{RedisID: task.RedisID, TaskName: task.TaskName}
			i, known := index[key]
			if !known {
				i = uint32(len(snap.series))
				index[key] = i
				snap.series = append(snap.series, &listedSeries{Series: key, latest: math.MinInt64})
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
	slices.SortFunc(snap.series, func(a, b *listedSeries) int { return a.Compare(b.Series) })
	snap.instances = instancesOf(snap.series)
	return snap
}

// durationOf returns the seconds from submission to end.
func durationOf(task crsapi.Task) int64 {
	if task.EndTime.Before(task.StartTime) { // also without an end
		return unknownDuration
	}
	return int64(task.EndTime.Sub(task.StartTime) / time.Second)
}

// add takes a task into account, except in tasks.
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

// newestIn returns the submission time of the newest task in a status,
// math.MinInt64 without one.
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
	for _, series := range s.series {
		latest = max(latest, series.latest)
	}
	return time.Unix(latest, 0).UTC()
}

// next returns the snapshot of lists that were polled after s, which may be nil,
// and what differs, second by second. All of it is a change if s is nil.
func (s *snapshot) next(lists []*openList) (*snapshot, iter.Seq[ledger.Change]) {
	whole := s == nil
	for _, l := range lists {
		whole = whole || l.whole
	}
	var (
		list    *snapshot
		changes iter.Seq[ledger.Change]
	)
	if whole {
		list = takeSnapshot(lists, s.size())
		changes = list.changesSince(s)
	} else {
		var some []ledger.Change
		list, some = s.with(lists)
		changes = slices.Values(some)
	}
	for _, l := range lists {
		l.whole, l.changed = false, nil
	}
	return list, changes
}

// change is a second of a list that may have changed.
type change struct {
	mirror.Key
	list *openList
}

func (c change) series() ledger.Series {
	return ledger.Series{RedisID: c.RedisID, TaskName: c.TaskName}
}

// with returns the snapshot after the changes of lists.
func (s *snapshot) with(lists []*openList) (*snapshot, []ledger.Change) {
	var all []change
	for _, l := range lists {
		for key := range l.changed {
			if l.has(key.RedisID) {
				all = append(all, change{key, l})
			}
		}
	}
	if len(all) == 0 {
		return s, nil
	}
	slices.SortFunc(all, func(a, b change) int {
		return cmp.Or(a.series().Compare(b.series()), cmp.Compare(a.Second, b.Second))
	})
	list := &snapshot{series: make([]*listedSeries, 0, len(s.series)), instances: maps.Clone(s.instances), tasks: s.tasks}
	changes := make([]ledger.Change, 0, len(all))
	rest := s.series
	for len(all) > 0 {
		key, n := all[0].series(), 1
		for n < len(all) && all[n].series() == key {
			n++
		}
		at, known := slices.BinarySearchFunc(rest, key, func(s *listedSeries, key ledger.Series) int { return s.Compare(key) })
		list.series = append(list.series, rest[:at]...)
		rest = rest[at:]
		was := &listedSeries{Series: key, latest: math.MinInt64}
		if known {
			was, rest = rest[0], rest[1:]
		}
		now := was.with(all[:n])
		list.tasks += len(now.tasks) - len(was.tasks)
		if len(now.tasks) > 0 {
			list.series = append(list.series, now)
		}
		for _, c := range all[:n] {
			_, counts := takeSecond(now.from(c.Second), c.Second)
			changes = append(changes, ledger.Change{Series: now.Series, Second: c.Second, Tasks: counts})
		}
		all = all[n:]
	}
	list.series = append(list.series, rest...)
	list.describe(changes)
	return list, changes
}

// describe updates the instances of changed series.
func (s *snapshot) describe(changes []ledger.Change) {
	last := ""
	for i, c := range changes {
		if i > 0 && c.RedisID == last {
			continue
		}
		last = c.RedisID
		from, _ := slices.BinarySearchFunc(s.series, ledger.Series{RedisID: last}, func(s *listedSeries, key ledger.Series) int { return s.Compare(key) })
		to := from
		for to < len(s.series) && s.series[to].RedisID == last {
			to++
		}
		delete(s.instances, last)
		maps.Copy(s.instances, instancesOf(s.series[from:to]))
	}
}

// with returns the series after changes of its seconds, in order.
func (s *listedSeries) with(changes []change) *listedSeries {
	now := &listedSeries{Series: s.Series, latest: math.MinInt64}
	now.tasks = make([]packedTask, 0, len(s.tasks)+len(changes))
	rest := s.tasks
	for _, c := range changes {
		at, _ := slices.BinarySearch(rest, pack(c.Second, 0))
		now.tasks = append(now.tasks, rest[:at]...)
		rest, _ = takeSecond(rest[at:], c.Second)
		for _, task := range c.list.At(c.Key) {
			now.tasks = append(now.tasks, pack(c.Second, statusOf(task.Status)))
		}
	}
	now.tasks = append(now.tasks, rest...)
	slices.Sort(now.tasks)
	for _, t := range now.tasks {
		now.add(t, unknownDuration, listedInstance{})
	}
	now.detail(changes[0].list)
	return now
}

// detail reads what the tasks in memory do not tell: the instance, and how long
// tasks lasted.
func (s *listedSeries) detail(list *openList) {
	seconds := map[int64]bool{}
	for st := succeeded; st <= errored; st++ {
		if s.count[st] > 0 {
			seconds[s.newest[st]] = true
		}
	}
	if len(s.tasks) > 0 {
		seconds[s.latest] = true
	}
	described := int64(math.MinInt64)
	for second := range seconds {
		for _, task := range list.At(mirror.Key{RedisID: s.RedisID, TaskName: s.TaskName, Second: second}) {
			st := statusOf(task.Status)
			if s.count[st] > 0 && s.newest[st] == second {
				s.lasted[st] = max(s.lasted[st], durationOf(task))
			}
			in := listedInstance{task.RedisName, task.ProjectID}
			if second == s.latest && (described != second || s.describedLaterBy(second, in)) {
				s.instance, described = in, second
			}
		}
	}
}

// from returns the tasks from a second on.
func (s *listedSeries) from(second int64) []packedTask {
	at, _ := slices.BinarySearch(s.tasks, pack(second, 0))
	return s.tasks[at:]
}

// changesSince yields how s differs from an earlier snapshot, second by second. All
// of s is a change if earlier is nil.
func (s *snapshot) changesSince(earlier *snapshot) iter.Seq[ledger.Change] {
	return func(yield func(ledger.Change) bool) {
		var was []*listedSeries
		if earlier != nil {
			was = earlier.series
		}
		now := s.series
		for more := true; more && (len(was) > 0 || len(now) > 0); {
			switch order := firstOf(was, now); {
			case order < 0:
				more = yieldChanges(was[0].Series, was[0].tasks, nil, yield)
				was = was[1:]
			case order > 0:
				more = yieldChanges(now[0].Series, nil, now[0].tasks, yield)
				now = now[1:]
			default:
				if !slices.Equal(was[0].tasks, now[0].tasks) {
					more = yieldChanges(now[0].Series, was[0].tasks, now[0].tasks, yield)
				}
				was, now = was[1:], now[1:]
			}
		}
	}
}

// firstOf compares the first series of two lists. An empty list comes last.
func firstOf(a, b []*listedSeries) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return a[0].Compare(b[0].Series)
	}
}

// yieldChanges reports whether yield wants more.
func yieldChanges(key ledger.Series, was, now []packedTask, yield func(ledger.Change) bool) bool {
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
		if after != before && !yield(ledger.Change{Series: key, Second: second, Tasks: after}) {
			return false
		}
	}
	return true
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
