package crsapitest

import "sync"

// requestCounts counts requests and response codes per region. The key "" is
// the sum of all regions.
type requestCounts struct {
	mu      sync.Mutex
	regions map[string]*regionCounts
}

type regionCounts struct {
	requests int
	inFlight int
	codes    map[int]int
	names    map[string]int
}

// of returns the counts of a region. The caller holds c.mu.
func (c *requestCounts) of(region string) *regionCounts {
	n := c.regions[region]
	if n == nil {
		n = &regionCounts{codes: make(map[int]int), names: make(map[string]int)}
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
}

func (c *requestCounts) end(region string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(region).inFlight--
}

func (c *requestCounts) code(region string, p *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.code != nil {
		c.of(region).codes[*p.code]++
	}
	if p.name != nil {
		c.of(region).names[*p.name]++
	}
}

// Requests returns the number of requests of all APIs that named an existing
// region, rejected ones included. With "", it returns the number of all requests.
func (s *Simulator) Requests(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).requests
}

// Answers returns the number of responses with an API code, 0 for success, in
// a region, or in all regions with "". It includes errors from verification and
// from faults. It does not include responses without such a code (another HTTP
// status, an API 3.0 envelope) and responses that a fault cut off or replaced.
// Of the responses of API 3.0, which have no numbers, it includes those that
// succeeded and those of [APIError].
func (s *Simulator) Answers(region string, code int) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).codes[code]
}

// NamedAnswers is Answers for responses of API 3.0 and for API 3.0 envelopes
// under API 2.0. The code is a word such as AuthFailure.SignatureFailure, or ""
// for success.
func (s *Simulator) NamedAnswers(region, code string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).names[code]
}

// InFlight returns the number of requests that have no response yet, in a
// region, or in all regions with "".
func (s *Simulator) InFlight(region string) int {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.of(region).inFlight
}
