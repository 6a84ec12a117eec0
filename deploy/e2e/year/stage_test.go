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
	promDoes []promDoes     // of each Prometheus
	odd      bool           // the number of the step
}

// recordScenario plays a scenario in a bubble, until its end or until the test has failed.
func recordScenario(t *testing.T, sc *scenario, frames chan<- frame, failed func() bool) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(begin))
		s := &stage{sc: sc, server: crsapitest.NewMemoryServer(), ends: map[int]func(){}, promDoes: make([]promDoes, sc.prometheuses)}
		t.Cleanup(s.server.Close)
		s.world = newWorld(sc, s.server)
		s.world.become(begin)
		for _, r := range regions {
			for _, plan := range r.exporters {
				s.watchers = append(s.watchers, newWatcher(t, sc, s.server, r.name, plan))
			}
		}
		for _, at := range sc.steps() {
			if since := at.Sub(begin); since > 0 && since%(30*day) == 0 {
				t.Logf("%d days are recorded", since/day)
			}
			time.Sleep(time.Until(at))
			if failed() {
				return
			}
			frames <- s.step(t, at)
		}
	})
}

func (s *stage) step(t *testing.T, now time.Time) frame {
	s.world.become(now)
	s.odd = !s.odd
	for n := range s.sc.incidents {
		i, end := &s.sc.incidents[n], s.ends[n]
		switch on := i.contains(now); {
		case on && i.everyOther:
			if s.odd {
				defer s.server.Inject(crsapitest.Fault{Region: i.region, Do: i.effect})()
			}
		case on && end == nil:
			s.ends[n] = s.start(t, *i)
		case !on && end != nil:
			end()
			delete(s.ends, n)
		}
	}
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
		answers[n] = answer{away: w.hidden == away, moves: w.moves}
		if w.hidden == nothing {
			wait.Go(func() { answers[n].text = w.scrape(t.Context()) })
		}
	}
	wait.Wait()
	return answers
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
	default:
		remove := s.server.Inject(crsapitest.Fault{API: i.api, Action: i.action, Region: i.region, Rate: i.rate, Do: i.effect})
		return func() {
			remove()
			for _, w := range s.watchers {
				if i.auto && w.region == i.region {
					w.apis = []crsapi.API{crsapi.API20, crsapi.API30}
					if w.downs == 0 {
						w.restart(t, w.behind)
					}
				}
			}
		}
	}
}
