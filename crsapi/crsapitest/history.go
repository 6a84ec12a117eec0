package crsapitest

import (
	"maps"
	"slices"
	"time"
)

// pastVersion is a version of a list that a Replicas fault may still show.
type pastVersion struct {
	listVersion
	until time.Time // when the next version replaced it
}

// change begins a change of the list: it locks l.mu for the caller. It keeps the
// present version if a fault shows versions up to this age. Such a version is
// never written again: a change of its tasks must copy them.
func (l *taskList) change(keep time.Duration) {
	l.mu.Lock()
	now := time.Now()
	if keep > 0 {
		l.needIDs() // later, the tasks that are no longer listed would get none
		l.past = append(l.past, pastVersion{l.current(), now})
	}
	l.trim(now, keep)
	l.version++
}

// trim removes the versions that were replaced at least keep ago. The caller
// holds l.mu.
func (l *taskList) trim(now time.Time, keep time.Duration) {
	if keep == 0 {
		l.past = nil
		return
	}
	oldest := now.Add(-keep)
	n := slices.IndexFunc(l.past, func(v pastVersion) bool { return v.until.After(oldest) })
	if n < 0 {
		n = len(l.past)
	}
	l.past = slices.Delete(l.past, 0, n)
}

// at returns the version of some time ago, or the oldest one that is left. The
// caller holds l.mu.
func (l *taskList) at(age time.Duration) listVersion {
	if age > 0 {
		then := time.Now().Add(-age)
		for _, v := range l.past {
			if v.until.After(then) {
				return v.listVersion
			}
		}
	}
	return l.current()
}

// keeper is an Effect that needs versions of the list up to an age.
type keeper interface{ keep() time.Duration }

// keepOf returns the age of the versions that an Effect needs, or 0.
func keepOf(e Effect) time.Duration {
	if k, ok := e.(keeper); ok {
		return k.keep()
	}
	return 0
}

// keep returns the age of the versions of a list that faults need, or 0.
func (s *Simulator) keep(region string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var age time.Duration
	for _, f := range s.faults {
		if f.Region == "" || f.Region == region {
			age = max(age, keepOf(f.Do))
		}
	}
	for x, held := range s.holds {
		if x.regionName == region {
			age = max(age, held)
		}
	}
	return age
}

// forget removes the versions that no fault needs any longer.
func (s *Simulator) forget() {
	s.mu.Lock()
	regions := maps.Clone(s.regions)
	s.mu.Unlock()
	for name, l := range regions {
		keep := s.keep(name)
		l.mu.Lock()
		l.trim(time.Now(), keep)
		l.mu.Unlock()
	}
}

// release ends what effects did to keep versions for the exchange.
func (s *Simulator) release(x *exchange) {
	s.mu.Lock()
	_, held := s.holds[x]
	delete(s.holds, x)
	s.mu.Unlock()
	if held {
		s.forget()
	}
}
