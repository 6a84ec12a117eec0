package collector

import (
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TaskLists returns the last list of each region, in the order of Config.Regions; nil
// for a region that was never read. It sends no request.
func (e *Exporter) TaskLists() []*TaskList {
	all := make([]*TaskList, len(e.regions))
	for i, r := range e.regions {
		all[i] = r.shown.Load()
	}
	return all
}

// Counts returns the number of tasks by status, as the label status names it.
func (l *TaskList) Counts() map[string]int {
	counts := map[string]int{}
	for _, s := range l.series {
		for st, n := range s.count {
			counts[statusNames[st]] += n
		}
	}
	return counts
}

// Newest yields the tasks that were submitted from one second to another, both included,
// newest first. A zero time is no bound.
func (l *TaskList) Newest(from, to time.Time) iter.Seq[crsapi.Task] {
	return func(yield func(crsapi.Task) bool) {
		upTo := len(l.tasks)
		if !to.IsZero() {
			upTo = sort.Search(upTo, func(i int) bool { return l.tasks[i].StartTime.After(to) })
		}
		for _, task := range slices.Backward(l.tasks[:upTo]) {
			if task.StartTime.Before(from) || !yield(task) {
				return
			}
		}
	}
}

// Backup is a listed backup of an instance, by hand or automatic.
type Backup struct {
	Submitted time.Time
	Status    string // as the label status names it
}

// Instances yields the instances of the list, ordered by redisId.
func (l *TaskList) Instances() iter.Seq[Instance] {
	return func(yield func(Instance) bool) {
		for _, in := range l.instances {
			if !yield(*in) {
				return
			}
		}
	}
}

// Backups yields the listed backups that were submitted from a time on, newest first.
func (in *Instance) Backups(from time.Time) iter.Seq[Backup] {
	return func(yield func(Backup) bool) {
		for _, b := range slices.Backward(in.listed) {
			if b.Start < from.Unix() || !yield(Backup{time.Unix(b.Start, 0), statusNames[b.Status]}) {
				return
			}
		}
	}
}
