package crsapitest

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// maxCached is the number of selections in the cache of a version.
const maxCached = 8

// listVersion is one version of a list.
type listVersion struct {
	number int
	tasks  []crsapi.Task
	raw    []string
	index  *index
}

// current returns the present version. The caller holds l.mu.
func (l *taskList) current() listVersion {
	return listVersion{l.version, l.tasks(), l.raw, l.index}
}

// index is what requests found out about one version of a list. Each version has
// its own, so that nothing in it can be out of date.
type index struct {
	mu      sync.Mutex
	order   listOrder
	matches map[selection][]int32
}

// listOrder is whether a list is sorted, the newest task first.
type listOrder int

const (
	orderUnknown listOrder = iota
	orderNewestFirst
	orderOther
)

// selection is the tasks that a request asks for, and their order.
type selection struct {
	filter filter
	random bool // in a random order
	seed   uint64
}

// newestFirst reports whether the list is sorted. It visits all tasks at most
// once per version, and only if a request has a bound.
func (x *index) newestFirst(tasks []crsapi.Task) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.order == orderUnknown {
		x.order = orderOther
		if newestFirst(tasks) {
			x.order = orderNewestFirst
		}
	}
	return x.order == orderNewestFirst
}

func newestFirst(tasks []crsapi.Task) bool {
	for i := 1; i < len(tasks); i++ {
		if tasks[i].StartTime.Unix() > tasks[i-1].StartTime.Unix() {
			return false
		}
	}
	return true
}

// added returns the index after added were inserted before tasks.
func (x *index) added(added, tasks []crsapi.Task) *index {
	x.mu.Lock()
	defer x.mu.Unlock()
	order := x.order
	if order == orderNewestFirst && len(added) > 0 {
		last := added[len(added)-1].StartTime.Unix()
		if !newestFirst(added) || len(tasks) > 0 && tasks[0].StartTime.Unix() > last {
			order = orderOther
		}
	}
	return &index{order: order}
}

// dropped returns the index after the last tasks were removed. What is left of a
// list that was not sorted may be.
func (x *index) dropped() *index {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.order == orderNewestFirst {
		return &index{order: orderNewestFirst}
	}
	return new(index)
}

// sequence is the tasks that match a request, in the order of its pages.
type sequence struct {
	tasks []crsapi.Task
	some  bool // only the tasks at these indexes
	at    []int32

	oldestFirst bool
}

func (q *sequence) len() int {
	if q.some {
		return len(q.at)
	}
	return len(q.tasks)
}

func (q *sequence) task(i int) *crsapi.Task {
	if q.oldestFirst {
		i = q.len() - 1 - i
	}
	if q.some {
		return &q.tasks[q.at[i]]
	}
	return &q.tasks[i]
}

// read returns the tasks that match. In a sorted list it visits only tasks
// within the bounds, and none if the filter has nothing but bounds.
func (v *listVersion) read(s selection) sequence {
	first, last := 0, len(v.tasks)
	begin, end, rest := s.filter.split()
	bounded := begin != math.MinInt64 || end != math.MaxInt64
	sorted := bounded && v.index.newestFirst(v.tasks)
	if sorted {
		// Sorted newest first, so the end of the bounds comes first.
		first = sort.Search(last, func(i int) bool { return v.tasks[i].StartTime.Unix() <= end })
		last = first + sort.Search(last-first, func(i int) bool { return v.tasks[first+i].StartTime.Unix() < begin })
	}
	if (sorted || !bounded) && rest == anyTask() && !s.random {
		return sequence{tasks: v.tasks[first:last]}
	}
	return sequence{tasks: v.tasks, some: true, at: v.index.find(s, v.tasks, first, last)}
}

// find returns the indexes of the tasks that match, all from first to last. It
// has a cache, because otherwise each page of a filtered list would visit all
// tasks.
func (x *index) find(s selection, tasks []crsapi.Task, first, last int) []int32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	found, ok := x.matches[s]
	if ok {
		return found
	}
	for i := first; i < last; i++ {
		if s.filter.match(&tasks[i]) {
			found = append(found, int32(i))
		}
	}
	if s.random {
		sortRandom(found, tasks, s.seed)
	}
	if x.matches == nil || len(x.matches) >= maxCached {
		x.matches = make(map[selection][]int32)
	}
	x.matches[s] = found
	return found
}

// sortRandom sorts tasks by a hash of what identifies them, so that a task keeps
// its place among the others when the list or the task changes.
func sortRandom(at []int32, tasks []crsapi.Task, seed uint64) {
	type hashed struct {
		hash uint64
		at   int32
	}
	list := make([]hashed, len(at))
	for i, j := range at {
		t := &tasks[j]
		list[i] = hashed{mix(seed, identity(t)), j}
	}
	slices.SortStableFunc(list, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
	for i := range list {
		at[i] = list[i].at
	}
}

// mix returns a number that depends on each bit of the numbers.
func mix(numbers ...uint64) uint64 {
	var sum uint64
	for _, n := range numbers {
		sum += n + 0x9e3779b97f4a7c15
		sum = (sum ^ sum>>30) * 0xbf58476d1ce4e5b9
		sum = (sum ^ sum>>27) * 0x94d049bb133111eb
		sum ^= sum >> 31
	}
	return sum
}

// shuffled returns the positions of the tasks from first to last, after the
// tasks of each second were put in a random order. Only this part of that order
// is visited, and the rest of the seconds at its ends.
func (q *sequence) shuffled(first, last int, seed uint64) []int {
	second := func(i int) int64 { return q.task(i).StartTime.Unix() }
	positions := make([]int, 0, last-first)
	for i := first; i < last; {
		from, to, at := i, i+1, second(i)
		for from > 0 && second(from-1) == at {
			from--
		}
		for to < q.len() && second(to) == at {
			to++
		}
		order := rand.New(rand.NewPCG(mix(seed, uint64(at)), seed)).Perm(to - from)
		for ; i < min(to, last); i++ {
			positions = append(positions, from+order[i-from])
		}
	}
	return positions
}

// pageQuery is what to read of a list for a page.
type pageQuery struct {
	selection
	offset, limit int
	age           time.Duration // of the version to show
	oldestFirst   bool
	ties          bool // shuffle the tasks of a second
	tieSeed       uint64
}

// appendRows appends at most limit rows, starting at offset. It returns the
// number of appended rows, the number of all rows that match, and the number of
// the version of the list.
func (l *taskList) appendRows(b []byte, q pageQuery, e rowEncoder) (rows []byte, n, total, version int) {
	l.mu.RLock()
	defer l.mu.RUnlock()

	v := l.at(q.age)
	list := v.read(q.selection)
	list.oldestFirst = q.oldestFirst
	total = len(v.raw) + list.len()
	first := min(q.offset, total)
	last := min(first+q.limit, total)
	var shuffled []int
	firstTask := max(0, first-len(v.raw))
	if q.ties {
		shuffled = list.shuffled(firstTask, max(0, last-len(v.raw)), q.tieSeed)
	}
	for i := first; i < last; i++ {
		if i > first {
			b = append(b, ',')
		}
		switch at := i - len(v.raw); {
		case at < 0:
			b = append(b, v.raw[i]...)
		case q.ties:
			b = e.append(b, list.task(shuffled[at-firstTask]))
		default:
			b = e.append(b, list.task(at))
		}
	}
	return b, last - first, total, v.number
}

// split returns the bounds on the submission time, and the rest of the filter.
func (f filter) split() (begin, end int64, rest filter) {
	begin, end = f.begin, f.end
	f.begin = math.MinInt64
	if f.endOfTask || f.fractions {
		return begin, math.MaxInt64, f
	}
	f.end = math.MaxInt64
	return begin, end, f
}

func (f *filter) match(t *crsapi.Task) bool {
	if f.redisID != "" && f.redisID != t.RedisID {
		return false
	}
	if f.redisName != "" && f.redisName != t.RedisName {
		return false
	}
	if t.StartTime.Unix() < f.begin || !f.within(t) {
		return false
	}
	if f.statuses != 0 && !f.statuses.has(t.Status) {
		return false
	}
	if f.types != (codeSet{}) {
		code, ok := codes[t.TaskName]
		return ok && f.types.has(code)
	}
	return true
}

// task returns the task with a TaskID, and the number of the version of the list.
func (l *taskList) task(id int64, age time.Duration) (t crsapi.Task, version int, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	v := l.at(age)
	i := slices.IndexFunc(v.tasks, func(t crsapi.Task) bool { return t.TaskID == id })
	if i < 0 {
		return crsapi.Task{}, v.number, false
	}
	return v.tasks[i], v.number, true
}
