package collector

import (
	"iter"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TaskList is the last list of a region that was read completely. It never changes.
// A reader holds no lock, so no poll and no scrape waits for it.
type TaskList struct {
	Region string
	API    crsapi.API // that it was read through
	Read   time.Time  // when the poll ended

	list  *snapshot
	parts []listPart
}

// listPart is the tasks of one of the lists that a region is made of.
type listPart struct {
	tasks    Tasks
	redisIDs map[string]bool // whose tasks are shown; nil for all
}

// TaskLists returns the list of each region, in the order of Config.Regions; nil
// for a region that was never read. It sends no request.
func (e *Exporter) TaskLists() []*TaskList {
	all := make([]*TaskList, len(e.regions))
	for i, r := range e.regions {
		all[i] = r.taskList()
	}
	return all
}

func (r *region) taskList() *TaskList {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown
}

// newTaskList returns the list of a poll that succeeded.
func newTaskList(o *outcome, lists []*openList) *TaskList {
	l := &TaskList{Region: o.Region, API: o.API, Read: o.End, list: o.list}
	for _, part := range lists {
		if !part.unknown {
			l.parts = append(l.parts, listPart{part.Tasks(), part.redisIDs})
		}
	}
	return l
}

// Newest yields the tasks that were submitted from one second to another, both
// included, newest first. A zero time is no bound.
func (l *TaskList) Newest(from, to time.Time) iter.Seq[crsapi.Task] {
	parts := make([]iter.Seq[crsapi.Task], len(l.parts))
	for i, part := range l.parts {
		parts[i] = part.newest(from, to)
	}
	return func(yield func(crsapi.Task) bool) {
		for _, task := range MergeNewest(make([]struct{}, len(parts)), parts) {
			if !yield(task) {
				return
			}
		}
	}
}

func (p *listPart) newest(from, to time.Time) iter.Seq[crsapi.Task] {
	if p.redisIDs == nil {
		return p.tasks.Newest(from, to)
	}
	return func(yield func(crsapi.Task) bool) {
		for task := range p.tasks.Newest(from, to) {
			if p.redisIDs[task.RedisID] && !yield(task) {
				return
			}
		}
	}
}

// MergeNewest yields the tasks of several sequences, each newest first, newest
// first, with the key of their sequence. Of the same second, those of the first
// sequence come first.
func MergeNewest[K any](keys []K, sequences []iter.Seq[crsapi.Task]) iter.Seq2[K, crsapi.Task] {
	return func(yield func(K, crsapi.Task) bool) {
		if len(sequences) == 1 { // without the cost of a pull
			for task := range sequences[0] {
				if !yield(keys[0], task) {
					return
				}
			}
			return
		}
		type head struct {
			key  K
			task crsapi.Task
			next func() (crsapi.Task, bool)
		}
		heads := make([]*head, 0, len(sequences))
		for i, sequence := range sequences {
			next, stop := iter.Pull(sequence)
			defer stop()
			if task, ok := next(); ok {
				heads = append(heads, &head{keys[i], task, next})
			}
		}
		for len(heads) > 0 {
			newest := 0
			for i, h := range heads {
				if h.task.StartTime.After(heads[newest].task.StartTime) {
					newest = i
				}
			}
			h := heads[newest]
			if !yield(h.key, h.task) {
				return
			}
			var ok bool
			if h.task, ok = h.next(); !ok {
				heads = slices.Delete(heads, newest, newest+1)
			}
		}
	}
}

// StatusNames returns the values of the label status, in the order of a task's life.
func StatusNames() []string { return slices.Clone(statusNames[:]) }

// Counts returns the number of tasks by status, as the label status names it.
func (l *TaskList) Counts() map[string]int {
	counts := map[string]int{}
	for _, s := range l.list.series {
		for st, n := range s.count {
			counts[statusNames[st]] += n
		}
	}
	return counts
}

// Instance is what a TaskList says of an instance. A zero time says that no such
// task is listed.
type Instance struct {
	RedisID, RedisName string

	// Submission times of the newest backups that finished so.
	BackupSucceeded, BackupFailed time.Time
	UsualInterval                 time.Duration // between backups; 0 if unknown
	// Known is since when the instance is known to exist: when it was created or
	// restored, else when its oldest listed task was submitted.
	Known time.Time
	Gone  bool // it does not exist

	series []*listedSeries
}

// Backup is a listed backup of an instance, by hand or automatic.
type Backup struct {
	Submitted time.Time
	Status    string // as the label status names it
}

// Instances yields the instances of the list, ordered by redisId.
func (l *TaskList) Instances() iter.Seq[Instance] {
	return func(yield func(Instance) bool) {
		for rest := l.list.series; len(rest) > 0; {
			id, n := rest[0].RedisID, 1
			for n < len(rest) && rest[n].RedisID == id {
				n++
			}
			if !yield(l.list.instances[id].shown(id, rest[:n])) {
				return
			}
			rest = rest[n:]
		}
	}
}

func (in *instance) shown(redisID string, series []*listedSeries) Instance {
	return Instance{
		RedisID: redisID, RedisName: in.redisName,
		BackupSucceeded: timeOf(in.backupSucceeded), BackupFailed: timeOf(in.backupFailed),
		UsualInterval: time.Duration(in.usualInterval) * time.Second,
		Known:         timeOf(max(in.aliveSince, in.oldest)),
		Gone:          in.gone,
		series:        series,
	}
}

func timeOf(second int64) time.Time {
	if second == never {
		return time.Time{}
	}
	return time.Unix(second, 0).UTC()
}

// Backups yields the listed backups of the instance that were submitted from a time
// on, in no particular order.
func (in *Instance) Backups(from time.Time) iter.Seq[Backup] {
	return func(yield func(Backup) bool) {
		for _, s := range in.series {
			if !slices.Contains(backupTasks, s.TaskName) {
				continue
			}
			for _, task := range s.from(from.Unix()) {
				if !yield(Backup{timeOf(task.start()), statusNames[task.status()]}) {
					return
				}
			}
		}
	}
}
