package crsapitest

import (
	"slices"
	"sync"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// taskList is the list of one region, newest first. The API returns it in this
// order.
type taskList struct {
	ids *taskIDs // of the Simulator
	seq int      // of the last verified request; Simulator.mu guards it

	mu      sync.RWMutex
	buf     []crsapi.Task // the list is buf[head:]; the space before head is for Add
	head    int
	raw     []string
	hasIDs  bool // every task has a TaskID
	version int  // number of changes
	index   *index
	past    []pastVersion // oldest first; only while a fault needs them
}

func (l *taskList) tasks() []crsapi.Task { return l.buf[l.head:] }

func (s *Simulator) list(name string) *taskList {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.regions[name]
}

// create returns the list of a region. It creates the region if necessary.
func (s *Simulator) create(name string) *taskList {
	if name == "" {
		panic("crsapitest: the name of a region is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.regions[name]
	if l == nil {
		l = &taskList{ids: &s.ids, index: new(index)}
		s.regions[name] = l
	}
	return l
}

// SetTasks sets the list of a region, newest first, and creates the region if
// necessary. Requests for a region that does not exist get an error.
//
// TaskName is a name of API 2.0, a constant of the vendor's SDKs without FLOW_
// such as AUTOBACKUP, a code such as 037, or any other text. Each API serves
// its own name for it, or the text unchanged. Nobody knows what API 2.0 calls
// an AUTOBACKUP; the simulator says backupInstance there.
//
// API 3.0 serves a TaskID. Tasks with TaskID 0 get one when API 3.0 first reads
// the list, or [Replicas] first keeps a version of it, and from then on when
// they are added. A task keeps it while it is listed: a task that SetTasks or
// Update passes with TaskID 0 has the TaskID of the task in the old list with
// the same RedisID, TaskName and StartTime. A TaskID that is not 0 must be
// unique.
func (s *Simulator) SetTasks(region string, tasks []crsapi.Task) {
	own := slices.Clone(tasks)
	s.Update(region, func([]crsapi.Task) []crsapi.Task { return own })
}

// Add inserts tasks at the start of the list of a region, where the newest tasks
// are, and keeps their order. The tasks may be older than those of the list; the
// API then lists them first nevertheless. To insert a task elsewhere, use Update.
func (s *Simulator) Add(region string, tasks ...crsapi.Task) {
	l := s.create(region)
	l.change(s.keep(region))
	defer l.mu.Unlock()
	l.index = l.index.added(tasks, l.tasks())
	if l.head < len(tasks) {
		old := l.tasks()
		room := len(tasks) + len(old)/2
		buf := make([]crsapi.Task, room+len(old))
		copy(buf[room:], old)
		l.buf, l.head = buf, room
	}
	l.head -= len(tasks)
	copy(l.buf[l.head:], tasks)
	if l.hasIDs {
		l.ids.assign(l.buf[l.head:l.head+len(tasks)], nil)
	}
}

// Drop removes the last n tasks of the list of a region, the oldest ones, or all
// if there are fewer.
func (s *Simulator) Drop(region string, n int) {
	if n < 0 {
		panic("crsapitest: Drop: n is negative")
	}
	l := s.create(region)
	l.change(s.keep(region))
	defer l.mu.Unlock()
	l.index = l.index.dropped()
	keep := len(l.buf) - min(n, len(l.tasks()))
	if len(l.past) == 0 {
		clear(l.buf[keep:])
	}
	l.buf = l.buf[:keep]
}

// Update replaces the list of a region by the result of change, atomically: a
// page shows the list before or after it. change may modify its argument and
// return it. The caller must not use the result afterwards. change must not call
// methods of the Simulator.
func (s *Simulator) Update(region string, change func(tasks []crsapi.Task) []crsapi.Task) {
	l := s.create(region)
	l.change(s.keep(region))
	defer l.mu.Unlock()
	l.index = new(index)
	list := l.tasks()
	var old []crsapi.Task
	if l.hasIDs || len(l.past) > 0 { // change may modify the list
		old, list = list, slices.Clone(list)
	}
	l.buf, l.head = change(list), 0
	if l.hasIDs {
		l.ids.assign(l.buf, old)
	}
}

// Tasks returns a copy of the list of a region.
func (s *Simulator) Tasks(region string) []crsapi.Task {
	l := s.list(region)
	if l == nil {
		return nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.tasks())
}

// SetRawRows sets rows that come before the tasks of a region. redisTaskSet
// contains each row unchanged, so that a test can send invalid JSON, invalid
// UTF-8 or rows that are not tasks. Paging and totalCount include these rows, and
// every filter matches them.
func (s *Simulator) SetRawRows(region string, rows ...string) {
	l := s.create(region)
	l.change(s.keep(region))
	defer l.mu.Unlock()
	l.raw = slices.Clone(rows)
}

// Version returns the number of changes of the list of a region so far, or 0 if
// the region does not exist. See [Request.Version].
func (s *Simulator) Version(region string) int {
	l := s.list(region)
	if l == nil {
		return 0
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.version
}

// giveIDs gives a TaskID to each task that has none, once for the list.
func (l *taskList) giveIDs() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.needIDs()
}

// needIDs is giveIDs for a caller that holds l.mu.
func (l *taskList) needIDs() {
	if !l.hasIDs {
		l.hasIDs = true
		l.ids.assign(l.tasks(), nil)
	}
}

// hasInstance reports whether a task belongs to the instance.
func (l *taskList) hasInstance(redisID string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.ContainsFunc(l.tasks(), func(t crsapi.Task) bool { return t.RedisID == redisID })
}

// taskIDs makes the TaskIDs of all lists.
type taskIDs struct {
	mu   sync.Mutex
	last int64
}

// assign gives a TaskID to each task that has none: that of a task in old with
// the same identity that is no longer listed, or a new one. It begins at the
// end, so that older tasks have smaller ones.
func (ids *taskIDs) assign(tasks, old []crsapi.Task) {
	missing := false
	ids.mu.Lock()
	defer ids.mu.Unlock()
	for i := range tasks {
		missing = missing || tasks[i].TaskID == 0
		ids.last = max(ids.last, tasks[i].TaskID)
	}
	if !missing {
		return
	}
	left := leftIDs(tasks, old)
	for i := len(tasks) - 1; i >= 0; i-- {
		t := &tasks[i]
		if t.TaskID != 0 {
			continue
		}
		if same := left[taskKeyOf(t)]; len(same) > 0 {
			t.TaskID = same[0]
			left[taskKeyOf(t)] = same[1:]
			continue
		}
		ids.last++
		t.TaskID = ids.last
	}
}

// taskKey identifies a task as far as API 2.0 can.
type taskKey struct {
	redisID, taskName string
	start             int64
}

func taskKeyOf(t *crsapi.Task) taskKey {
	return taskKey{t.RedisID, t.TaskName, t.StartTime.Unix()}
}

// leftIDs returns the TaskIDs in old that are not in tasks, the last first.
func leftIDs(tasks, old []crsapi.Task) map[taskKey][]int64 {
	if len(old) == 0 {
		return nil
	}
	listed := make(map[int64]bool, len(tasks))
	for i := range tasks {
		listed[tasks[i].TaskID] = true
	}
	left := make(map[taskKey][]int64)
	for i := len(old) - 1; i >= 0; i-- {
		if t := &old[i]; !listed[t.TaskID] {
			left[taskKeyOf(t)] = append(left[taskKeyOf(t)], t.TaskID)
		}
	}
	return left
}
