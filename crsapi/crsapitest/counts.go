package crsapitest

import "sync"

// counts holds what was asked and answered, by region and, under "", in all.
type counts struct {
	mu      sync.Mutex
	regions map[string]*count
}

type count struct {
	requests    int
	inFlight    int
	maxInFlight int
	answers     map[int]int
}

// of returns the count of region. The caller holds c.mu.
func (c *counts) of(region string) *count {
	n := c.regions[region]
	if n == nil {
		n = &count{answers: make(map[int]int)}
		if c.regions == nil {
			c.regions = make(map[string]*count)
		}
		c.regions[region] = n
	}
	return n
}

func (c *counts) arrive(region string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of(region)
	n.requests++
	n.inFlight++
	n.maxInFlight = max(n.maxInFlight, n.inFlight)
}

func (c *counts) leave(region string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(region).inFlight--
}

func (c *counts) answer(region string, code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(region).answers[code]++
}

// Requests returns how many requests came for a region that exists, refused
// ones included; with "", how many came at all.
func (s *Simulator) Requests(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).requests
}

// Answers returns how many requests of a region, or with "" of all, were
// answered with code, 0 for success, whether verification or a fault gave it.
// An answer without a code (another HTTP status, an API 3.0 envelope) or one
// that a fault cut short or replaced on the wire is not counted.
func (s *Simulator) Answers(region string, code int) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).answers[code]
}

// InFlight returns how many requests of a region, or with "" of all, have come
// and not been answered yet.
func (s *Simulator) InFlight(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).inFlight
}

// MaxInFlight returns the greatest InFlight seen. It never exceeds what the
// client really had under way: a request leaves the count just before the last
// of its answer is written.
func (s *Simulator) MaxInFlight(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).maxInFlight
}

// ResetCounts begins to count anew. Requests in flight stay in flight.
func (s *Simulator) ResetCounts() {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	for _, n := range s.counts.regions {
		n.requests, n.maxInFlight = 0, n.inFlight
		clear(n.answers)
	}
}
