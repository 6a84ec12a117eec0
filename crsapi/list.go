package crsapi

import (
	"slices"
	"sync"
	"time"
)

// symbol stands for a string of a symbols table.
type symbol uint32

// symbols holds every distinct string of a sweep once. Its methods may be
// called from several goroutines at once.
type symbols struct {
	mu     sync.Mutex
	ids    map[string]symbol
	values []string
}

func newSymbols() *symbols {
	return &symbols{ids: map[string]symbol{"": 0}, values: []string{""}}
}

func (s *symbols) intern(text []byte) symbol {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.ids[string(text)]; ok {
		return id
	}
	id, value := symbol(len(s.values)), string(text)
	s.ids[value] = id
	s.values = append(s.values, value)
	return id
}

// row is a task in 48 bytes that hold no pointer, so that a million tasks are
// small and nothing for the garbage collector to walk through.
type row struct {
	identity
	redisName symbol
	projectID symbol
	status    Status
	progress  float32
	end       int64 // UNIX seconds; 0 if unknown
}

// identity is all that tells one task from another. Of a rejected row, start
// is a hash of its text instead, so that it still has a place and a likeness.
type identity struct {
	start    int64 // UNIX seconds
	taskID   int64 // 0 if unknown
	redisID  symbol
	taskName symbol
}

// rejected is the redisID of a row that could not be read; a row that could
// be has one that is not empty.
const rejected symbol = 0

func (r row) readable() bool { return r.redisID != rejected }

func (s *symbols) task(r row) Task {
	t := Task{
		RedisID:   s.values[r.redisID],
		RedisName: s.values[r.redisName],
		ProjectID: s.values[r.projectID],
		TaskName:  s.values[r.taskName],
		StartTime: time.Unix(r.start, 0).UTC(),
		Status:    r.status,
		Progress:  r.progress,
		TaskID:    r.taskID,
	}
	if r.end != 0 {
		t.EndTime = time.Unix(r.end, 0).UTC()
	}
	return t
}

func countRejected(rows []row) int {
	n := 0
	for _, r := range rows {
		if !r.readable() {
			n++
		}
	}
	return n
}

// sameTasks tells whether two readings of a page show the same tasks in the
// same order, whatever became of them in between.
func sameTasks(a, b []row) bool {
	return slices.EqualFunc(a, b, func(x, y row) bool { return x.identity == y.identity })
}
