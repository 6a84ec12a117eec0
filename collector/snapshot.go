package collector

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// status is a task's status as an index: the documented five in the order of
// their label values below, and one more for every other number.
type status int

const (
	pending status = iota
	executing
	succeeded
	failed
	errored
	unknown
	statuses // how many there are
)

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

// seriesKey is what the task metrics of a region are broken down by, the
// status aside.
type seriesKey struct{ redisID, taskName string }

func (k seriesKey) compare(other seriesKey) int {
	return cmp.Or(strings.Compare(k.redisID, other.redisID), strings.Compare(k.taskName, other.taskName))
}

// row is a task's submission time and status, packed so that a million of
// them are small and sort fast: by time, then by status.
type row int64

const statusBits = 3

func newRow(start int64, s status) row { return row(start<<statusBits | int64(s)) }

func (r row) start() int64   { return int64(r) >> statusBits }
func (r row) status() status { return status(r & (1<<statusBits - 1)) }

// snapshot says what a region's list shows, and no more than the metrics need.
type snapshot struct {
	series    []listedSeries
	index     map[seriesKey]uint32      // into series
	instances map[string]listedInstance // by redisId
	tasks     int
}

// listedSeries sums up the listed tasks of one seriesKey.
type listedSeries struct {
	seriesKey
	count  [statuses]int
	newest [statuses]int64 // submission time; meaningless where count is 0
	oldest [2]int64        // likewise, of pending and executing

	rows int // all counts together
	// What the newest task of the series says of its instance.
	latest    int64
	redisName string
	projectID string
}

// listedInstance is an instance with the name and project of its newest task.
type listedInstance struct{ redisName, projectID string }

// List is the whole list of one sweep, or, of a failed sweep, what is known of
// it without its tasks.
type List interface {
	All() iter.Seq[crsapi.Task]
	Len() int      // tasks that All yields
	Rejected() int // rows that could not be read and are no task of All
	Pages() int    // pages read, repeated readings included
}

// asked is a list together with the instance that it was asked for.
type asked struct {
	redisID string // empty for all instances
	list    List
}

// takeSnapshot sums up the lists of one poll. The runs it returns beside hold,
// for each series of the snapshot, its rows in ascending order. Room is made for
// as many series as are expected.
func takeSnapshot(lists []asked, expect int) (*snapshot, [][]row) {
	size := 0
	for _, a := range lists {
		size += a.list.Len()
	}
	var (
		snap = snapshot{
			series: make([]listedSeries, 0, expect),
			index:  make(map[seriesKey]uint32, expect),
		}
		rows = make([]row, 0, size)
		of   = make([]uint32, 0, size) // series of each row
	)
	for _, a := range lists {
		for task := range a.list.All() {
			if a.redisID != "" && task.RedisID != a.redisID {
				// A server that ignores the filter gives each of these rows
				// once for every instance asked for.
				continue
			}
			key := seriesKey{task.RedisID, task.TaskName}
			i, ok := snap.index[key]
			if !ok {
				i = uint32(len(snap.series))
				snap.index[key] = i
				snap.series = append(snap.series, listedSeries{seriesKey: key})
			}
			r := newRow(task.StartTime.Unix(), statusOf(task.Status))
			snap.series[i].add(r, &task)
			rows, of = append(rows, r), append(of, i)
		}
	}
	snap.tasks = len(rows)
	snap.instances = instancesOf(snap.series)
	return &snap, distribute(rows, of, snap.series)
}

func (s *listedSeries) add(r row, task *crsapi.Task) {
	start, st := r.start(), r.status()
	if s.count[st] == 0 || start > s.newest[st] {
		s.newest[st] = start
	}
	if st == pending || st == executing {
		if s.count[st] == 0 || start < s.oldest[st] {
			s.oldest[st] = start
		}
	}
	if s.rows == 0 || newer(start, task.RedisName, task.ProjectID, s) {
		s.latest, s.redisName, s.projectID = start, task.RedisName, task.ProjectID
	}
	s.count[st]++
	s.rows++
}

// newer tells whether a task says later than s what its instance is called.
// Tasks of one second go by name and project, so that the order of the rows,
// which the API does not promise, decides nothing.
func newer(start int64, redisName, projectID string, s *listedSeries) bool {
	if start != s.latest {
		return start > s.latest
	}
	if redisName != s.redisName {
		return redisName > s.redisName
	}
	return projectID > s.projectID
}

func instancesOf(series []listedSeries) map[string]listedInstance {
	newest := map[string]*listedSeries{}
	for i := range series {
		s := &series[i]
		if known, ok := newest[s.redisID]; !ok || newer(s.latest, s.redisName, s.projectID, known) {
			newest[s.redisID] = s
		}
	}
	instances := make(map[string]listedInstance, len(newest))
	for id, s := range newest {
		instances[id] = listedInstance{s.redisName, s.projectID}
	}
	return instances
}

// distribute sorts rows into one run for each series; all share one array.
func distribute(rows []row, of []uint32, series []listedSeries) [][]row {
	runs := make([][]row, len(series))
	backing := make([]row, len(rows))
	for i := range series {
		n := series[i].rows
		runs[i], backing = backing[:0:n], backing[n:]
	}
	for i, r := range rows {
		runs[of[i]] = append(runs[of[i]], r)
	}
	for _, run := range runs {
		slices.Sort(run)
	}
	return runs
}
