package collector

import (
	"math"
	"slices"
)

// backupTasks are the tasks that back up an instance: by hand or automatic, and
// in API 3.0 by a name of its own.
var backupTasks = []string{"backupInstance", "AUTOBACKUP"}

// minIntervals is how many intervals between backups must be listed before one of
// them is called usual.
const minIntervals = 3

// never is a submission time before all others.
const never = math.MinInt64

// instance is what the listed tasks say of an instance. It never changes. Times are
// submission times, never if no such task is listed.
type instance struct {
	listedInstance
	backupSucceeded, backupFailed int64 // of the newest finished backups
	usualInterval                 int64 // seconds between backups; 0 if unknown
	gone                          bool  // it does not exist
	aliveSince                    int64 // when it was created or restored
	oldest                        int64 // of all tasks
}

// instancesOf returns the instances that have series, which are ordered.
func instancesOf(series []*listedSeries) map[string]*instance {
	instances := map[string]*instance{}
	for len(series) > 0 {
		id, n := series[0].RedisID, 1
		for n < len(series) && series[n].RedisID == id {
			n++
		}
		instances[id] = newInstance(series[:n])
		series = series[n:]
	}
	return instances
}

// newInstance returns the instance with these series.
func newInstance(series []*listedSeries) *instance {
	in := &instance{backupSucceeded: never, backupFailed: never, aliveSince: never}
	newest, oldest := series[0], int64(math.MaxInt64)
	ended, alive := int64(never), int64(never)
	for _, s := range series {
		oldest = min(oldest, s.tasks[0].start())
		if newest.describedLaterBy(s.latest, s.instance) {
			newest = s
		}
		switch s.TaskName {
		case "closeInstance", "deleteInstance":
			ended = max(ended, s.newestIn(succeeded))
		case "newInstance":
			ended = max(ended, s.newestIn(failed), s.newestIn(errored))
			alive = max(alive, s.newestIn(pending), s.newestIn(executing), s.newestIn(succeeded), s.newestIn(unknown))
			in.aliveSince = max(in.aliveSince, s.newestIn(succeeded))
		case "startInstance": // until it has succeeded, the instance is isolated
			alive = max(alive, s.newestIn(succeeded))
			in.aliveSince = max(in.aliveSince, s.newestIn(succeeded))
		default:
			alive = max(alive, s.latest)
		}
		if slices.Contains(backupTasks, s.TaskName) {
			in.backupSucceeded = max(in.backupSucceeded, s.newestIn(succeeded))
			in.backupFailed = max(in.backupFailed, s.newestIn(failed), s.newestIn(errored))
		}
	}
	in.listedInstance, in.oldest = newest.instance, oldest
	in.gone = ended > never && ended >= alive
	in.usualInterval = usualInterval(series)
	return in
}

// usualInterval returns the second longest time between finished backups, whatever
// their outcome, 0 if there are too few. So one exception does not change it, and
// backups from Monday to Friday have their weekend in it.
func usualInterval(series []*listedSeries) int64 {
	var starts []int64
	for _, s := range series {
		if !slices.Contains(backupTasks, s.TaskName) {
			continue
		}
		for _, task := range s.tasks {
			switch task.status() {
			case succeeded, failed, errored:
				starts = append(starts, task.start())
			}
		}
	}
	if len(starts) <= minIntervals {
		return 0
	}
	slices.Sort(starts)
	var longest, second int64
	for i := range starts[1:] {
		switch interval := starts[i+1] - starts[i]; {
		case interval > longest:
			longest, second = interval, longest
		case interval > second:
			second = interval
		}
	}
	return second
}
