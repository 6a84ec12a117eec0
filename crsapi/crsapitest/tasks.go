package crsapitest

import (
	"cmp"
	"slices"
	"sort"
	"sync"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-json-experiment/json/jsontext"
)

// taskList is the list of one region.
type taskList struct {
	mu     sync.RWMutex
	tasks  []crsapi.Task // in the reverse order of the API, so that Add appends
	sorted bool          // oldest first
	ids    map[int64]bool
	raw    []jsontext.Value
}

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
		l = &taskList{sorted: true, ids: make(map[int64]bool)}
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
// API 3.0 serves a TaskID. A task with TaskID 0 gets one, which depends on its
// RedisID, TaskName and StartTime, and on the number of tasks that have the same.
// A TaskID that is not 0 must be unique.
func (s *Simulator) SetTasks(region string, tasks []crsapi.Task) {
	s.Update(region, func([]crsapi.Task) []crsapi.Task { return slices.Clone(tasks) })
}

// Add inserts tasks at the start of the list of a region, where the newest tasks
// are, and keeps their order. The tasks may be older than those of the list; the
// API then lists them first nevertheless. To insert a task elsewhere, use Update.
func (s *Simulator) Add(region string, tasks ...crsapi.Task) {
	l := s.create(region)
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.tasks)
	for _, t := range slices.Backward(tasks) {
		l.tasks = append(l.tasks, t)
	}
	l.sorted = l.sorted && oldestFirst(l.tasks[max(0, before-1):])
	l.assignIDs(l.tasks[before:])
}

// Update replaces the list of a region by the result of change, atomically: a
// page shows the list before or after it. change may modify its argument and
// return it. The caller must not use the result afterwards. change must not call
// methods of the Simulator.
func (s *Simulator) Update(region string, change func(tasks []crsapi.Task) []crsapi.Task) {
	l := s.create(region)
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Reverse(l.tasks)
	l.tasks = change(l.tasks)
	slices.Reverse(l.tasks)
	l.sorted = oldestFirst(l.tasks)
	clear(l.ids)
	l.assignIDs(l.tasks)
}

// Tasks returns a copy of the list of a region.
func (s *Simulator) Tasks(region string) []crsapi.Task {
	l := s.list(region)
	if l == nil {
		return nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	tasks := slices.Clone(l.tasks)
	slices.Reverse(tasks)
	return tasks
}

// SetRawRows sets rows that come before the tasks of a region. Each is a JSON
// value, and need not be a task. Paging and totalCount include these rows, and
// every filter matches them.
func (s *Simulator) SetRawRows(region string, rows ...string) {
	l := s.create(region)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raw = nil
	for _, row := range rows {
		if !jsontext.Value(row).IsValid() {
			panic("crsapitest: SetRawRows: not JSON: " + row)
		}
		l.raw = append(l.raw, jsontext.Value(row))
	}
}

func oldestFirst(tasks []crsapi.Task) bool {
	return slices.IsSortedFunc(tasks, func(a, b crsapi.Task) int {
		return cmp.Compare(a.StartTime.Unix(), b.StartTime.Unix())
	})
}

// assignIDs assigns a TaskID to each task that has none. A number makes it unique if
// another task has the same hash.
func (l *taskList) assignIDs(tasks []crsapi.Task) {
	for i := range tasks {
		if id := tasks[i].TaskID; id != 0 {
			l.ids[id] = true
		}
	}
	for i := range tasks {
		t := &tasks[i]
		for n := 0; t.TaskID == 0; n++ {
			const bits = 53 // JavaScript can represent them
			if id := int64(hash(t, n)>>(64-bits)) + 1; !l.ids[id] {
				t.TaskID, l.ids[id] = id, true
			}
		}
	}
}

// page returns the rows of a page, newest first, and the number of all rows.
func (l *taskList) page(q query, oldestFirst bool) (raw []jsontext.Value, tasks []crsapi.Task, total int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := l.find(q)
	raws, n := len(l.raw), len(found)
	first := min(q.offset, raws+n)
	last := min(first+q.limit, raws+n)
	raw = l.raw[min(first, raws):min(last, raws)]
	from, to := max(0, first-raws), max(0, last-raws)
	if oldestFirst {
		return raw, slices.Clone(found[from:to]), raws + n
	}
	tasks = slices.Clone(found[n-to : n-from])
	slices.Reverse(tasks)
	return raw, tasks, raws + n
}

// find returns the tasks that match, in the order of l.tasks. In a sorted list it
// visits only tasks within the bounds, and none if the query has nothing else.
func (l *taskList) find(q query) []crsapi.Task {
	tasks := l.tasks
	if l.sorted {
		first := sort.Search(len(tasks), func(i int) bool { return tasks[i].StartTime.Unix() >= q.begin })
		last := sort.Search(len(tasks), func(i int) bool { return tasks[i].StartTime.Unix() > q.end })
		tasks = tasks[first:max(first, last)]
		if q.onlyBounds() {
			return tasks
		}
	}
	var found []crsapi.Task
	for i := range tasks {
		if q.match(&tasks[i]) {
			found = append(found, tasks[i])
		}
	}
	return found
}

// hasInstance reports whether a task belongs to the instance.
func (l *taskList) hasInstance(redisID string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.ContainsFunc(l.tasks, func(t crsapi.Task) bool { return t.RedisID == redisID })
}

// task returns the task with a TaskID.
func (l *taskList) task(id int64) (t crsapi.Task, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := slices.IndexFunc(l.tasks, func(t crsapi.Task) bool { return t.TaskID == id })
	if i < 0 {
		return crsapi.Task{}, false
	}
	return l.tasks[i], true
}
