package year

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// frame is what each Prometheus gets at one step.
type frame struct {
	at    time.Time
	views []view
}

// view is what happens to one Prometheus, and what it scrapes if it runs.
type view struct {
	does    promDoes
	answers []answer // of all targets
}

// answer is what a target answers to a scrape.
type answer struct {
	text  string // empty if the scrape fails
	away  bool   // service discovery does not have the target
	moves int    // of the target to other addresses, up to now
}

// stage is where a scenario is played: the API, its exporters, and what scrapes them.
type stage struct {
	sc       *scenario
	server   *crsapitest.Server
	world    *world
	watchers []*watcher

	ends     map[int]func() // of the incidents that go on, by index
	started  int            // incidents that have begun
	promDoes []promDoes     // of each Prometheus

	flapping []incident // whose effect is there in every other step
	odd      bool
	unflap   []func() // removes the effects of this step
}

// recordScenario plays a scenario in a bubble, until its end or until nobody wants its frames
// any more.
func recordScenario(t *testing.T, sc *scenario, frames chan<- frame, ended <-chan struct{}) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(begin))
		s := &stage{sc: sc, server: crsapitest.NewMemoryServer(), ends: map[int]func(){}, promDoes: make([]promDoes, sc.prometheuses())}
		t.Cleanup(s.server.Close)
		s.world = newWorld(sc, s.server)
		s.world.become(begin)
		for _, r := range regions {
			for _, plan := range r.exporters {
				s.watchers = append(s.watchers, newWatcher(t, s.server, r.name, plan))
			}
		}
		for _, at := range sc.steps() {
			if since := at.Sub(begin); since > 0 && since%(30*day) == 0 {
				t.Logf("%d days are recorded", since/day)
			}
			time.Sleep(time.Until(at))
			select {
			case frames <- s.step(t, at):
			case <-ended:
				return
			}
		}
	})
}

func (s *stage) step(t *testing.T, now time.Time) frame {
	s.world.become(now)
	s.happen(t, now)
	s.flap()
	f := frame{now, make([]view, len(s.promDoes))}
	for n, does := range s.promDoes {
		f.views[n].does = does
		if does == runs {
			f.views[n].answers = s.scrape(t)
		}
	}
	return f
}

// scrape scrapes all targets at the same time, for one Prometheus.
func (s *stage) scrape(t *testing.T) []answer {
	answers := make([]answer, len(s.watchers))
	var wait sync.WaitGroup
	for n, w := range s.watchers {
		answers[n] = answer{away: w.away, moves: w.moves}
		if !w.away && !w.unscraped {
			wait.Go(func() { answers[n].text = w.scrape(t.Context()) })
		}
	}
	wait.Wait()
	return answers
}

// happen begins and ends the incidents of a step.
func (s *stage) happen(t *testing.T, now time.Time) {
	incidents := s.sc.incidents
	for i, end := range s.ends {
		if !now.Before(incidents[i].to) {
			end()
			delete(s.ends, i)
		}
	}
	for s.started < len(incidents) && !incidents[s.started].from.After(now) {
		if i := incidents[s.started]; now.Before(i.to) {
			s.ends[s.started] = s.start(t, i)
		}
		s.started++
	}
}

// start begins an incident and returns what ends it.
func (s *stage) start(t *testing.T, i incident) (end func()) {
	switch {
	case i.promDoes != runs:
		s.promDoes[i.prom] = i.promDoes
		return func() { s.promDoes[i.prom] = runs }
	case i.exporter != "":
		w := s.watchers[slices.IndexFunc(s.watchers, func(w *watcher) bool { return w.address == i.exporter })]
		return w.suffer(t, i)
	case i.rawRow != "":
		s.server.SetRawRows(i.region, i.rawRow)
		return func() { s.server.SetRawRows(i.region) }
	case i.everyOther:
		s.flapping = append(s.flapping, i)
		return func() {
			s.flapping = slices.DeleteFunc(s.flapping, func(f incident) bool { return f.region == i.region })
		}
	default:
		remove := s.server.Inject(crsapitest.Fault{API: i.api, Region: i.region, Rate: i.rate, Do: i.effect})
		return func() {
			remove()
			if i.auto {
				s.goOver(t, i.region)
			}
		}
	}
}

// flap lets the effects that come and go be there in every other step.
func (s *stage) flap() {
	for _, remove := range s.unflap {
		remove()
	}
	s.unflap = nil
	if s.odd = !s.odd; s.odd {
		for _, i := range s.flapping {
			s.unflap = append(s.unflap, s.server.Inject(crsapitest.Fault{Region: i.region, Do: i.effect}))
		}
	}
}

// goOver restarts the exporters of a region, with the flag that lets them read through
// each API.
func (s *stage) goOver(t *testing.T, region string) {
	for _, w := range s.watchers {
		if w.region == region {
			w.apis = []crsapi.API{crsapi.API20, crsapi.API30}
			if w.downs == 0 {
				w.restart(t, w.behind)
			}
		}
	}
}
