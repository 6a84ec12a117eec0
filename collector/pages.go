package collector

import (
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
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

// Instance is what is known of an instance, from its list and the facts.
type Instance struct {
	RedisID   string
	RedisName string // empty if the instance is not listed
	Listed    bool
	Owed      bool // it is in use, or left the list while its backups were not in order

	LastGood     time.Time // from then on the next backup is due
	Deadline     time.Time // by when it must have succeeded
	FailingSince time.Time // not after LastGood unless backups fail since then
	Unfinished   time.Time // submission of the oldest unfinished backup; zero without one
	// Never is true if the inventory has the instance, and no backup of it that succeeded is
	// known.
	Never bool

	backups []ledger.Backup // oldest first
}

// Seen returns when a poll last saw the list, by the API's clock. Facts are as of then.
func (l *TaskList) Seen() time.Time { return time.Unix(l.facts.Seen, 0) }

// Believed reports whether the facts are of this list: not if it is empty, and was not
// before.
func (l *TaskList) Believed() bool {
	return len(l.tasks) > 0 || !slices.ContainsFunc(l.facts.Instances, ledger.Known.InUse)
}

// Instances yields the instances that are known, ordered by redisId. The list may have
// some of them no more.
func (l *TaskList) Instances() iter.Seq[Instance] {
	return func(yield func(Instance) bool) {
		rest := l.instances
		for i := range l.facts.Instances {
			known := &l.facts.Instances[i]
			in := Instance{
				RedisID: known.RedisID, Owed: l.facts.Owed(known),
				LastGood: time.Unix(known.Good, 0), Deadline: time.Unix(known.Deadline, 0), FailingSince: time.Unix(known.FailingSince, 0),
			}
			for len(rest) > 0 && rest[0].RedisID < in.RedisID {
				rest = rest[1:] // of a list that is not believed
			}
			if len(rest) > 0 && rest[0].RedisID == in.RedisID {
				in.Listed, in.RedisName, in.backups = true, rest[0].redisName, rest[0].Backups
				in.Never = known.Exists
				rest = rest[1:]
			}
			for _, t := range known.Tasks {
				in.Never = in.Never && (!isBackup(t.TaskName) || t.Succeeded.Start == 0)
				if at := time.Unix(t.Unfinished, 0); isBackup(t.TaskName) && t.Unfinished != 0 && (in.Unfinished.IsZero() || at.Before(in.Unfinished)) {
					in.Unfinished = at
				}
			}
			if !yield(in) {
				return
			}
		}
	}
}

// Backups yields the listed backups that were submitted from a time on, newest first.
func (in *Instance) Backups(from time.Time) iter.Seq[Backup] {
	return func(yield func(Backup) bool) {
		for _, b := range slices.Backward(in.backups) {
			if b.Start < from.Unix() || !yield(Backup{time.Unix(b.Start, 0), statusNames[b.Status]}) {
				return
			}
		}
	}
}
