package crsapitest

import (
	"slices"
	"strings"
	"sync"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// maxCached bounds how many filters' matches a region remembers.
const maxCached = 8

// region holds one region's list, newest first, which is the order it is
// served in.
type region struct {
	seq int // under Simulator.mu

	mu      sync.RWMutex
	buf     []crsapi.Task // the list is buf[head:], so that Add has room in front
	head    int
	raw     []string
	version uint64

	cache struct {
		sync.Mutex
		version uint64
		matches map[filter][]int32
	}
}

func (r *region) tasks() []crsapi.Task { return r.buf[r.head:] }

func (s *Simulator) region(name string) *region {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.regions[name]
}

// create returns the region of that name, a new and empty one if need be.
func (s *Simulator) create(name string) *region {
	if name == "" {
		panic("crsapitest: a region's name is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.regions[name]
	if r == nil {
		r = &region{}
		s.regions[name] = r
	}
	return r
}

// SetTasks sets a region's list, newest first. The region exists from then on;
// one that was never given tasks is answered with an error.
func (s *Simulator) SetTasks(region string, tasks []crsapi.Task) {
	own := slices.Clone(tasks)
	s.Update(region, func([]crsapi.Task) []crsapi.Task { return own })
}

// Add puts tasks at the head of a region's list, where the newest are, in the
// order given.
func (s *Simulator) Add(region string, tasks ...crsapi.Task) {
	r := s.create(region)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	if r.head < len(tasks) {
		old := r.tasks()
		room := len(tasks) + len(old)/2
		buf := make([]crsapi.Task, room+len(old))
		copy(buf[room:], old)
		r.buf, r.head = buf, room
	}
	r.head -= len(tasks)
	copy(r.buf[r.head:], tasks)
}

// Drop takes n tasks, or all if there are fewer, off the tail of a region's
// list, where the oldest are.
func (s *Simulator) Drop(region string, n int) {
	if n < 0 {
		panic("crsapitest: Drop: negative")
	}
	r := s.create(region)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	keep := len(r.buf) - min(n, len(r.tasks()))
	clear(r.buf[keep:])
	r.buf = r.buf[:keep]
}

// Update replaces a region's list by what change makes of it, in one step that
// no answer falls into. change may edit the list in place and return it; what
// it returns belongs to the Simulator. It must not call the Simulator.
func (s *Simulator) Update(region string, change func(tasks []crsapi.Task) []crsapi.Task) {
	r := s.create(region)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	r.buf, r.head = change(r.tasks()), 0
}

// Tasks returns a copy of a region's list.
func (s *Simulator) Tasks(region string) []crsapi.Task {
	r := s.region(region)
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.tasks())
}

// SetRawRows puts rows before a region's tasks, each written into redisTaskSet
// byte by byte: not JSON, not UTF-8, not a task, whatever the test needs. They
// are paged and counted in totalCount like tasks, and match every filter.
func (s *Simulator) SetRawRows(region string, rows ...string) {
	r := s.create(region)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = slices.Clone(rows)
}

// RemoveRegion makes a region unknown. What was counted of it stays.
func (s *Simulator) RemoveRegion(region string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.regions, region)
}

// appendRows appends the n rows from offset on, at most limit of them, and tells
// the length of the whole list. Only these rows are touched, unless a filter is
// seen for the first time.
func (r *region) appendRows(b []byte, f filter, offset, limit int, e encoder) (rows []byte, n, total int) {
	r.mu.RLock()
	defer r.mu.RUnlock()

	tasks := r.tasks()
	var matches []int32
	listed := len(tasks)
	filtered := f != anyTask()
	if filtered {
		matches = r.matches(f)
		listed = len(matches)
	}

	total = len(r.raw) + listed
	first := min(offset, total)
	last := min(first+limit, total)
	for i := first; i < last; i++ {
		if i > first {
			b = append(b, ',')
		}
		switch at := i - len(r.raw); {
		case at < 0:
			b = append(b, r.raw[i]...)
		case filtered:
			b = e.appendTask(b, &tasks[matches[at]])
		default:
			b = e.appendTask(b, &tasks[at])
		}
	}
	return b, last - first, total
}

// matches returns the indexes of the tasks that f lets through, from a cache
// where it can: or each page of a filtered sweep would cost the whole list.
// The caller holds r.mu.
func (r *region) matches(f filter) []int32 {
	c := &r.cache
	c.Lock()
	defer c.Unlock()
	if c.matches == nil || c.version != r.version || len(c.matches) >= maxCached {
		c.matches, c.version = make(map[filter][]int32), r.version
	}
	found, ok := c.matches[f]
	if !ok {
		tasks := r.tasks()
		types := crsapi.TaskTypes()
		for i := range tasks {
			if f.match(&tasks[i], types) {
				found = append(found, int32(i))
			}
		}
		c.matches[f] = found
	}
	return found
}

func (f *filter) match(t *crsapi.Task, types []string) bool {
	if f.redisID != "" && f.redisID != t.RedisID {
		return false
	}
	if f.redisName != "" && f.redisName != t.RedisName {
		return false
	}
	if at := t.StartTime.Unix(); at < f.begin || at > f.end {
		return false
	}
	if f.statuses != 0 {
		i := slices.Index(documentedStatuses(), t.Status)
		if i < 0 || f.statuses&(1<<i) == 0 {
			return false
		}
	}
	if f.types != 0 {
		i := slices.IndexFunc(types, func(taskType string) bool {
			name, _ := strings.CutPrefix(taskType, "task_")
			return name == t.TaskName
		})
		if i < 0 || f.types&(1<<i) == 0 {
			return false
		}
	}
	return true
}
