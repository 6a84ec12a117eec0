package ledger

import (
	"cmp"
	"slices"
	"strings"
)

// The statuses, in the order of a task's life. Rare stands for all others.
const (
	Pending = iota
	Executing
	Succeeded
	Failed
	Errored
)

// Times in seconds.
const (
	unusual    = 26 * hour     // between good backups, where no interval is usual
	minUsual   = 4 * hour      // a shorter interval comes from backups by hand
	slack      = 2 * hour      // after a usual interval, and 5 % of it
	maxRun     = 3 * hour      // of a backup that began before the deadline
	troubleFor = 7 * 24 * hour // how long an instance that left the list in trouble stays so
	saveSeen   = 600           // a process that is killed forgets at most so much of Seen
)

// remembered is how many finished backups are known after they have left the list, and
// minIntervals how many intervals between backups make one of them usual.
const (
	remembered   = 5
	minIntervals = 3
)

// Listed is what a list and an inventory say of an instance. Times are UNIX seconds, or 0.
type Listed struct {
	RedisID string
	Gone    bool     // it was closed or deleted, or could not be created
	Oldest  int64    // submission of its oldest task; 0 without a task
	Newest  int64    // the same of its newest
	Alive   int64    // submission of the newest task that created or restored it
	Backups []Backup // oldest first
	Tasks   []Task   // ordered by name

	Exists   bool // the inventory has it
	Created  int64
	Isolated bool // it is closed, as the inventory says
}

// Backup is a listed backup.
type Backup struct {
	Start  int64 // submission
	Status uint8
}

func (b Backup) unfinished() bool { return b.Status == Pending || b.Status == Executing }
func (b Backup) failed() bool     { return b.Status == Failed || b.Status == Errored }
func (b Backup) finished() bool   { return b.Status == Succeeded || b.failed() }

// Task is the tasks of one instance and name: those that are listed, or what is known.
type Task struct {
	TaskName          string
	Unfinished        int64 // submission of the oldest listed one
	Failed, Succeeded Ended // the newest; Failed has those in status Errored too
}

// Ended is the newest task that ended in a way. In a list, End is 0 if it is not known.
type Ended struct{ Start, End int64 }

// Facts are what is known of a region, also of what its list no longer has, and while the
// list cannot be read. They never change: each list makes new ones. Times are UNIX seconds
// by the API's clock, 0 if unknown.
type Facts struct {
	Scope     string  // what the lists are of, through whatever API
	Seen      int64   // the last poll that saw the list
	Instances []Known // ordered by RedisID
}

// Known is what is known of an instance.
type Known struct {
	RedisID      string
	Good         int64 // from then on the next backup is due
	Deadline     int64 // by when it must have succeeded
	FailingSince int64 // not above Good unless backups fail since then
	Tasks        []Task

	Failed   int64   // submission of the first failed backup after Good, or of one before
	Interval int64   // the last usual one
	Finished []int64 // submissions of the last finished backups
	Gone     bool
	Left     int64 // the first poll that did not list it, or when it last existed without a task; 0 while it is listed
	Troubled bool  // it was failing or overdue when it left
	Checked  int64 // the last inventory that had it, or had it no more; 0 if none had it
	Exists   bool  // that inventory had it
}

// Facts returns the facts of a source through whatever API. Without any, Seen is 0.
func (l *Ledger) Facts(source string) *Facts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.facts(source)
}

func (s *state) facts(source string) *Facts {
	_, scope, _ := strings.Cut(source, " ")
	if s.Facts != nil && s.Facts.Scope == scope {
		return s.Facts
	}
	return &Facts{Scope: scope}
}

// see makes the facts of a batch. It reports whether Seen should be saved. All else that
// a restart would lose, the first list after it shows again, or the counters save it.
func (l *Ledger) see(b Batch) (old bool) {
	was := l.state.facts(b.Source)
	l.state.Facts = was.after(b, b.Date.Unix())
	return l.state.Facts.Seen/saveSeen != was.Seen/saveSeen
}

// after returns the facts after a poll. The list is nil if it is the same as in the last
// poll, and not empty. A list without a task is not believed while an instance in use was
// listed.
func (f *Facts) after(b Batch, now int64) *Facts {
	list, hasTasks := b.Instances, func(l Listed) bool { return l.Oldest != 0 }
	if list != nil && !slices.ContainsFunc(list, hasTasks) && slices.ContainsFunc(f.Instances, Known.InUse) {
		return f
	}
	if now < f.Seen && now > f.Seen-hour {
		now = f.Seen // clocks differ a little between responses; facts must not decrease
	}
	next := &Facts{Scope: f.Scope, Seen: now, Instances: f.Instances}
	if list != nil {
		next.Instances = merge(f.Instances, list, Known.compare, func(in Known, l *Listed) Known {
			if in.Gone {
				in.Good = max(in.Good, f.Seen) // nothing was due until then
			}
			if !b.Watched {
				in.Checked, in.Exists = 0, false
			}
			in.check(l, b.Inventory, f.Seen)
			if l == nil || l.Oldest == 0 {
				return in.unlisted(f.Seen, now)
			}
			return in.listed(l, f.Seen, now)
		})
	}
	forgotten := func(in Known) bool { return in.Left != 0 && now-in.Left > retention }
	if slices.ContainsFunc(next.Instances, forgotten) {
		next.Instances = slices.DeleteFunc(slices.Clone(next.Instances), forgotten)
	}
	return next
}

// InUse reports whether the list should have tasks of the instance: it had some, and the
// instance is not closed or deleted. An inventory may have an instance without a task.
func (in Known) InUse() bool { return in.Left == 0 && !in.Gone && !in.Exists }

func (in Known) compare(l *Listed) int { return strings.Compare(in.RedisID, l.RedisID) }

// check applies an inventory that is new to the instance. One that does not have it says
// something only if an earlier one did: a key may see a part of the instances.
func (in *Known) check(l *Listed, inventory, seen int64) {
	exists := l != nil && l.Exists
	if inventory <= in.Checked || !exists && in.Checked == 0 {
		return
	}
	if in.RedisID == "" {
		in.RedisID, in.Good = strings.Clone(l.RedisID), l.Created
		in.deadline(l)
	}
	if in.Exists && in.Left != 0 {
		in.Left = seen // it existed until then
	}
	in.Checked, in.Exists = inventory, exists
	in.Gone = !exists || l.Isolated
}

// unlisted returns what is known of an instance that is not listed now. seen is the last
// poll.
func (in Known) unlisted(seen, now int64) Known {
	if in.Left != 0 {
		return in
	}
	in.Left = now
	in.Troubled = !in.Gone && (in.Failed > in.Good || in.Deadline < seen)
	in.Tasks = slices.Clone(in.Tasks)
	for i := range in.Tasks {
		in.Tasks[i].Unfinished = 0
	}
	return in
}

// listed returns what is known of an instance that is listed now.
func (in Known) listed(l *Listed, seen, now int64) Known {
	if in.RedisID == "" {
		in.RedisID = strings.Clone(l.RedisID)
	}
	if in.Checked == 0 || l.Newest > in.Checked { // else the inventory knows better
		in.Gone = l.Gone
	}
	in.Left = 0
	in.good(l)
	in.failing(l, seen)
	in.deadline(l)
	in.Tasks = merge(in.Tasks, l.Tasks, Task.compare, func(t Task, l *Task) Task {
		return t.listed(cmp.Or(l, &Task{}), seen, now)
	})
	return in
}

// good finds the newest backup that succeeded, or when the instance was created or
// restored. If neither was ever known, the second before its oldest task stands for that:
// the task itself may be a backup that fails.
func (in *Known) good(l *Listed) {
	in.Good = max(in.Good, l.Alive)
	for _, b := range l.Backups {
		if b.Status == Succeeded {
			in.Good = max(in.Good, b.Start)
		}
	}
	if in.Good == 0 {
		in.Good = l.Oldest - 1
	}
}

// failing finds the first backup that failed after Good. Nobody knows when it failed: not
// before the last poll, unless there was none.
func (in *Known) failing(l *Listed, seen int64) {
	if in.Failed > in.Good {
		return
	}
	in.FailingSince = min(in.FailingSince, in.Good)
	for _, b := range l.Backups {
		if b.failed() && b.Start > in.Good {
			in.Failed, in.FailingSince = b.Start, max(b.Start, seen)
			return
		}
	}
}

// deadline finds by when the next backup must have succeeded. One that began in time may
// run a while.
func (in *Known) deadline(l *Listed) {
	in.interval(l)
	due := in.Good + unusual
	if in.Interval >= minUsual {
		due = in.Good + in.Interval + in.Interval/20 + slack
	}
	in.Deadline = due
	for _, b := range l.Backups {
		if b.unfinished() && b.Start <= due {
			in.Deadline = max(due, b.Start+maxRun)
		}
	}
}

// interval finds the usual interval between finished backups: the second longest, since
// one exception does not change it, and backups from Monday to Friday have their weekend
// in it. The last backups count after they have left the list too. Only a new backup
// changes the interval: it does not shrink as the list forgets.
func (in *Known) interval(l *Listed) {
	finished := slices.Clone(in.Finished)
	for _, b := range l.Backups {
		if b.finished() {
			finished = append(finished, b.Start)
		}
	}
	if len(in.Finished) > 0 && slices.Max(finished) == in.Finished[len(in.Finished)-1] {
		return
	}
	slices.Sort(finished)
	finished = slices.Compact(finished)
	var intervals []int64
	for i := 1; i < len(finished); i++ {
		intervals = append(intervals, finished[i]-finished[i-1])
	}
	if slices.Sort(intervals); len(intervals) >= minIntervals {
		in.Interval = intervals[len(intervals)-2]
	}
	in.Finished = slices.Clone(finished[max(0, len(finished)-remembered):])
}

func (t Task) compare(l *Task) int { return strings.Compare(t.TaskName, l.TaskName) }

// listed returns what is known of tasks, of which maybe none is listed now.
func (t Task) listed(l *Task, seen, now int64) Task {
	if t.TaskName == "" {
		t.TaskName = strings.Clone(l.TaskName)
	}
	t.Failed = t.ended(t.Failed, l.Failed, seen, now)
	t.Succeeded = t.ended(t.Succeeded, l.Succeeded, seen, now)
	if t.Failed.End == t.Succeeded.End && t.Failed.Start > t.Succeeded.Start {
		t.Failed.End++ // of tasks that ended in the same second, the one submitted later counts
	}
	t.Unfinished = l.Unfinished
	return t
}

// ended returns the newer of two tasks that ended alike. One without an end ended now,
// unless it may have ended long ago: at the first poll, or if it was submitted long before
// the last poll, which did not show it unfinished.
func (t *Task) ended(known, listed Ended, seen, now int64) Ended {
	if listed.Start <= known.Start {
		return known
	}
	if listed.End == 0 {
		listed.End = max(listed.Start, now)
		wasUnfinished := t.Unfinished != 0 && t.Unfinished <= listed.Start
		if seen == 0 || listed.Start < seen-maxLateness && !wasUnfinished {
			listed.End = listed.Start
		}
	}
	listed.End = max(listed.End, known.End)
	return listed
}

// Owed reports whether a backup of the instance is due, and its tasks may be stuck: not if
// it is gone, or left the list in order, or long ago.
func (f *Facts) Owed(in *Known) bool {
	return !in.Gone && (in.Left == 0 || in.Exists || in.Troubled && f.Seen-in.Left <= troubleFor)
}

// FinishedBefore returns since when tasks may be unfinished: all submitted before have
// ended.
func (f *Facts) FinishedBefore(t *Task) int64 {
	if t.Unfinished != 0 {
		return t.Unfinished
	}
	return f.Seen
}

// merge makes one slice of what is known and what is listed, both in the same order: next
// has the zero value for what is not known yet, and nil for what is not listed.
func merge[K, L any](known []K, list []L, compare func(K, *L) int, next func(K, *L) K) []K {
	all := make([]K, 0, max(len(known), len(list)))
	for len(known) > 0 || len(list) > 0 {
		order := len(list) - len(known) // if one of them is at its end
		if len(known) > 0 && len(list) > 0 {
			order = compare(known[0], &list[0])
		}
		var k K
		var l *L
		if order <= 0 {
			k, known = known[0], known[1:]
		}
		if order >= 0 {
			l, list = &list[0], list[1:]
		}
		all = append(all, next(k, l))
	}
	return all
}
