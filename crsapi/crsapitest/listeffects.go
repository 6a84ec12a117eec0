package crsapitest

import (
	"math"
	"sync"
	"time"
)

// OrderEffect is an Effect on the order of the rows.
type OrderEffect int

const (
	// ShuffleTies puts tasks that were submitted in the same second in a
	// random order, a new one for each request, as a database that sorts by
	// time alone may do. When such tasks are on two pages, one can come twice
	// and another never, although each total is right. The order depends only
	// on [Simulator.Seed], on [Request.Seq] and on the tasks.
	ShuffleTies OrderEffect = iota
	// UnsortedRows puts the tasks in a random order, the same for all requests,
	// as a server that does not sort. A task keeps its place among the others
	// while the list changes. The order depends on [Simulator.Seed].
	UnsortedRows
)

func (e OrderEffect) apply(x *exchange) {
	x.shuffleTies = x.shuffleTies || e == ShuffleTies
	x.unsorted = x.unsorted || e == UnsortedRows
}

// BoundsEffect is an Effect on what the filters for time and status mean.
type BoundsEffect int

const (
	// IgnoreBegin ignores beginTime.
	IgnoreBegin BoundsEffect = iota
	// IgnoreEnd ignores endTime.
	IgnoreEnd
	// IgnoreStatuses ignores taskStatus, under API 3.0 Result.
	IgnoreStatuses
	// ExclusiveBegin does not list tasks of the second beginTime.
	ExclusiveBegin
	// ExclusiveEnd does not list tasks of the second endTime.
	ExclusiveEnd
	// EndOfTask lets endTime bound the EndTime of a task instead of its
	// submission time. A task without an EndTime has not ended and is listed.
	// The documents of API 2.0 exclude this, but it works there too.
	EndOfTask
)

func (e BoundsEffect) apply(x *exchange) { x.bounds |= 1 << e }

// boundsEffects is a set of them.
type boundsEffects uint8

func (s boundsEffects) has(e BoundsEffect) bool { return s&(1<<e) != 0 }

// change changes what f means.
func (s boundsEffects) change(f *filter) {
	if s.has(IgnoreBegin) {
		f.begin = math.MinInt64
	}
	if s.has(IgnoreEnd) {
		f.end = math.MaxInt64
	}
	if s.has(IgnoreStatuses) {
		f.statuses = 0
	}
	if s.has(ExclusiveBegin) && f.begin != math.MinInt64 {
		f.begin++
	}
	if f.end == math.MaxInt64 {
		return
	}
	if s.has(ExclusiveEnd) {
		f.end--
	}
	f.endOfTask = s.has(EndOfTask)
}

// InstanceEffect is an Effect on requests for one instance, or for all of them.
type InstanceEffect int

const (
	// RefuseUnknown answers 5000 InstanceNotExists, under API 3.0
	// ResourceNotFound.InstanceNotExists, to a request for an instance of which the
	// region has no task. Without it the list is empty. The documents have the code,
	// but do not say which of the two the API does.
	RefuseUnknown InstanceEffect = iota
	// DenyUnfiltered denies a request for the tasks of all instances, with 4102
	// SecretidNotAuthAccessResource, under API 3.0
	// AuthFailure.UnauthorizedOperation. The documents do not say what a policy for
	// single instances does to it.
	DenyUnfiltered
)

func (e InstanceEffect) apply(x *exchange) {
	if x.dialect != nil && !x.dialect.list {
		return
	}
	id := x.query.filter.redisID
	switch {
	case e == DenyUnfiltered && id == "":
		APIError(4102, "SecretidNotAuthAccessResource", "you are not authorized to perform operation (redis)\nresource (*) has no permission").apply(x)
	case e == RefuseUnknown && id != "" && !x.list.hasInstance(id):
		if x.api == api2 {
			APIError(5000, "InstanceNotExists", "the instance does not exist").apply(x)
			return
		}
		refused := renderRefusal3(refuse3("ResourceNotFound.InstanceNotExists", "The instance does not exist."))
		x.render = func(x *exchange, p *reply) {
			refused(x, p)
			p.code = new(5000)
		}
	}
}

// Replicas answers from n replicas of the list in turn: the first request of a
// region from the current one, the next one from the list as it was lag ago, the
// next one from the list as it was 2*lag ago, and so on. A region has one turn
// for all of its requests that the fault affects.
//
// The simulator keeps old versions of the lists only while such a fault is
// injected, so inject it before the list changes. A list has always been as it
// is before the first change that is kept. The versions keep their copy of the
// tasks after each Update, but share them after Add and Drop.
func Replicas(n int, lag time.Duration) Effect {
	if n <= 0 || lag <= 0 {
		panic("crsapitest: Replicas: n and lag must be positive")
	}
	return &replicas{n: n, lag: lag, turns: make(map[string]int)}
}

type replicas struct {
	n   int
	lag time.Duration

	mu    sync.Mutex
	turns map[string]int
}

func (e *replicas) apply(x *exchange) {
	e.mu.Lock()
	defer e.mu.Unlock()
	turn := e.turns[x.regionName]
	e.turns[x.regionName] = (turn + 1) % e.n
	x.age = time.Duration(turn) * e.lag
}

func (e *replicas) keep() time.Duration { return time.Duration(e.n-1) * e.lag }
