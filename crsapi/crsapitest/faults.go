package crsapitest

import "slices"

// Fault is an Effect and the requests that it befalls. Only requests that pass
// verification count and are harmed, so that no fault hides a bad request.
type Fault struct {
	Region string  // empty for all
	Skip   int     // requests let through at first
	Count  int     // requests harmed, after which the fault is over; 0 for no end
	Rate   float64 // probability that a request is harmed, in (0, 1]; 0 means 1
	Do     Effect
}

// Effect changes how one request is answered. Effects are made by this
// package's functions; several on one request work together, and where they
// contradict each other the one injected last decides.
type Effect func(*exchange)

// All joins effects.
func All(effects ...Effect) Effect {
	return func(x *exchange) {
		for _, effect := range effects {
			effect(x)
		}
	}
}

// injected is a Fault and how far it has got, under Simulator.mu.
type injected struct {
	Fault
	skipped, harmed int
}

// Inject adds a fault. The function that it returns takes it away again and may
// be called more than once.
func (s *Simulator) Inject(f Fault) (remove func()) {
	switch {
	case f.Do == nil:
		panic("crsapitest: Inject: Do is nil")
	case f.Skip < 0 || f.Count < 0:
		panic("crsapitest: Inject: Skip or Count is negative")
	case !(f.Rate >= 0 && f.Rate <= 1):
		panic("crsapitest: Inject: Rate is not in [0, 1]")
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

// Heal takes all faults away and ends EchoSecrets. Requests that hang already
// go on hanging.
func (s *Simulator) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	s.echo = false
}

// effects returns what befalls the next request of region.
func (s *Simulator) effects(region string) []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	var effects []Effect
	over := false
	for _, f := range s.faults {
		switch {
		case f.Region != "" && f.Region != region:
		case f.skipped < f.Skip:
			f.skipped++
		case f.Rate > 0 && s.random.Float64() >= f.Rate:
		default:
			effects = append(effects, f.Do)
			f.harmed++
			over = over || f.harmed == f.Count
		}
	}
	if over {
		s.faults = slices.DeleteFunc(s.faults, func(f *injected) bool {
			return f.Count > 0 && f.harmed == f.Count
		})
	}
	return effects
}

// intn returns a random number in [0, n).
func (s *Simulator) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}
