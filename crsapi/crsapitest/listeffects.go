package crsapitest

import (
	"sync"
	"time"
)

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
