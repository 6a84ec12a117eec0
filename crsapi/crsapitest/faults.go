package crsapitest

import "slices"

// Fault applies an Effect to some of the requests. Requests that fail
// verification are neither counted nor affected, so a fault cannot hide an
// invalid request.
type Fault struct {
	API    string  // "2.0", "3.0" or "tce"; empty for all
	Action string  // such as DescribeTaskInfo; GetRedisTaskList is in API 2.0 and tce; empty for all
	Region string  // empty for all regions
	Count  int     // number of requests to affect before the fault ends; 0 for no limit
	Rate   float64 // probability that a request is affected, in (0, 1]; 0 means 1
	Do     Effect
}

// injected is a Fault with the number of requests that it has affected. Simulator.mu
// guards it.
type injected struct {
	Fault
	affected int
}

// Inject adds a fault. The returned function removes it. A second call of that
// function does nothing.
func (s *Simulator) Inject(f Fault) (remove func()) {
	switch {
	case !slices.Contains([]string{"", api2, api3, apiTCE}, f.API):
		panic("crsapitest: Inject: API must be 2.0, 3.0, tce or empty")
	case !(f.Rate >= 0 && f.Rate <= 1): // false for NaN
		panic("crsapitest: Inject: Rate must be from 0 to 1")
	}
	added := &injected{Fault: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, added)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(f *injected) bool { return f == added })
	}
}

// ClearFaults removes all faults and turns EchoSecrets off. Requests that
// already hang continue to hang.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.echo = nil, false
}

// effects returns the effects on a request.
func (s *Simulator) effects(x *exchange) (effects []Effect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		switch {
		case f.Region != "" && f.Region != x.request.Region:
		case f.API != "" && f.API != x.request.API:
		case f.Action != "" && f.Action != x.request.Action:
		case f.Count > 0 && f.affected == f.Count:
		case f.Rate > 0 && s.random.Float64() >= f.Rate:
		default:
			effects = append(effects, f.Do)
			f.affected++
		}
	}
	return effects
}
