package crsapitest

import "sync"

// requestCounts counts requests and response codes per region. The key "" is
// the sum of all regions.
type requestCounts struct {
	mu      sync.Mutex
	regions map[string]*regionCounts
}

type regionCounts struct {
	requests    int
	inFlight    int
	maxInFlight int
	codes       map[int]int
}

// of returns the counts of a region. The caller holds c.mu.
func (c *requestCounts) of(region string) *regionCounts {
	n := c.regions[region]
	if n == nil {
		n = &regionCounts{codes: make(map[int]int)}
		if c.regions == nil {
			c.regions = make(map[string]*regionCounts)
		}
		c.regions[region] = n
	}
	return n
}

func (c *requestCounts) begin(region string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of(region)
	n.requests++
	n.inFlight++
	n.maxInFlight = max(n.maxInFlight, n.inFlight)
}

func (c *requestCounts) end(region string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(region).inFlight--
}

func (c *requestCounts) code(region string, code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(region).codes[code]++
}

// Requests returns the number of requests that named an existing region,
// rejected ones included. With "", it returns the number of all requests.
func (s *Simulator) Requests(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).requests
}

// Answers returns the number of responses with an API code, 0 for success, in
// a region, or in all regions with "". It includes errors from verification and
// from faults. It does not include responses without such a code (another HTTP
// status, an API 3.0 envelope) and responses that a fault cut off or replaced.
func (s *Simulator) Answers(region string, code int) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).codes[code]
}

// InFlight returns the number of requests that have no response yet, in a
// region, or in all regions with "".
func (s *Simulator) InFlight(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).inFlight
}

// MaxInFlight returns the highest InFlight so far. It is never higher than the
// client's own number of open requests: a request stops counting just before
// the last byte of its response is written.
func (s *Simulator) MaxInFlight(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).maxInFlight
}

// ResetCounts sets all counts to zero, except InFlight. MaxInFlight restarts at
// InFlight.
func (s *Simulator) ResetCounts() {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	for _, n := range s.counts.regions {
		n.requests, n.maxInFlight = 0, n.inFlight
		clear(n.codes)
	}
}
