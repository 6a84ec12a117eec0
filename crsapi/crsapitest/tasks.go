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
	tasks  []crsapi.Task
	sorted bool // newest first
	raw    []jsontext.Value

	instances []crsapi.Instance
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
		l = &taskList{sorted: true}
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
	s.Update(region, func(list []crsapi.Task) []crsapi.Task { return slices.Concat(tasks, list) })
}

// Update replaces the list of a region by the result of change, atomically: a
// page shows the list before or after it. change may modify its argument and
// return it. The caller must not use the result afterwards. change must not call
// methods of the Simulator.
func (s *Simulator) Update(region string, change func(tasks []crsapi.Task) []crsapi.Task) {
	l := s.create(region)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks = change(l.tasks)
	l.sorted = slices.IsSortedFunc(l.tasks, func(a, b crsapi.Task) int {
		return cmp.Compare(b.StartTime.Unix(), a.StartTime.Unix())
	})
	assignIDs(l.tasks)
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

// assignIDs assigns a TaskID to each task that has none. A number makes it unique if
// another task has the same hash.
func assignIDs(tasks []crsapi.Task) {
	used := make(map[int64]bool, len(tasks))
	for i := range tasks {
		used[tasks[i].TaskID] = true
	}
	for i := range tasks {
		t := &tasks[i]
		for n := 0; t.TaskID == 0; n++ {
			const bits = 53 // JavaScript can represent them
			if id := int64(hash(t, n)>>(64-bits)) + 1; !used[id] {
				t.TaskID, used[id] = id, true
			}
		}
	}
}

// page returns the rows of a page, newest first, and the number of all rows. row makes
// a row of a task.
func (l *taskList) page(q query, oldestFirst bool, row func(*crsapi.Task) any) (rows []any, total int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := l.find(q)
	total = len(l.raw) + len(found)
	rows = []any{} // not null
	for i := q.offset; i < min(q.offset+q.limit, total); i++ {
		switch at := i - len(l.raw); {
		case at < 0:
			rows = append(rows, l.raw[i])
		case oldestFirst:
			rows = append(rows, row(&found[len(found)-1-at]))
		default:
			rows = append(rows, row(&found[at]))
		}
	}
	return rows, total
}

// find returns the tasks that match. In a sorted list it visits only tasks within the
// bounds, and if the query has nothing but bounds, it visits none.
func (l *taskList) find(q query) []crsapi.Task {
	tasks := l.tasks
	if l.sorted {
		first := sort.Search(len(tasks), func(i int) bool { return tasks[i].StartTime.Unix() <= q.end })
		last := sort.Search(len(tasks), func(i int) bool { return tasks[i].StartTime.Unix() < q.begin })
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
