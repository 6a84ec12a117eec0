package year

import (
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// stage is where a scenario is played: the API, its exporters, and what scrapes them.
type stage struct {
	sc       *scenario
	server   *crsapitest.Server
	world    *world
	watchers []*watcher
	recorder *recorder

	ends     map[int]func() // of the incidents that go on, by index
	started  int            // incidents that have begun
	promDoes []promDoes     // of each Prometheus

	flapping []incident // whose effect is there in every other step
	odd      bool
	unflap   []func() // removes the effects of this step
}

// recordScenario plays a scenario and writes what Prometheus scrapes.
func recordScenario(t *testing.T, sc *scenario, to io.Writer) {
	t.Helper()
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
		var err error
		if s.recorder, err = record(to, header{sc.options}, sc.prometheuses(), len(s.watchers)); err != nil {
			t.Fatal(err)
		}
		for _, at := range sc.steps() {
			if since := at.Sub(begin); since > 0 && since%(30*day) == 0 {
				t.Logf("%d days are recorded", since/day)
			}
			time.Sleep(time.Until(at))
			s.step(t, at)
		}
		if err := s.recorder.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func (s *stage) step(t *testing.T, now time.Time) {
	s.world.become(now)
	s.happen(t, now)
	s.flap()
	f := frame{At: now.Unix(), Views: make([]view, len(s.promDoes))}
	for n, does := range s.promDoes {
		f.Views[n].Does = does
		if does == runs {
			f.Views[n].Targets = s.scrape(t, s.recorder.views[n])
		}
	}
	if err := s.recorder.gob.Encode(f); err != nil {
		t.Fatal(err)
	}
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
		s.recorder.views[i.prom].forget()
		return func() { s.promDoes[i.prom] = runs }
	case i.exporter != "":
		w := s.watchers[slices.IndexFunc(s.watchers, func(w *watcher) bool { return w.address == i.exporter })]
		return s.startOf(t, w, i)
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

func (s *stage) startOf(t *testing.T, w *watcher, i incident) (end func()) {
	switch i.exporterDoes {
	case down:
		w.stop()
		w.downs++
		return func() {
			if w.downs--; w.downs == 0 {
				w.start(t)
			}
		}
	case cut:
		w.cut.Store(true)
		return func() { w.cut.Store(false) }
	case moves:
		stopped := s.startOf(t, w, incident{exporterDoes: down})
		w.away = true
		return func() {
			stopped()
			w.away = false
			w.moves++
		}
	case away:
		w.away = true
		return func() { w.away = false }
	case unscraped:
		w.unscraped = true
		return func() { w.unscraped = false }
	case misread:
		w.restart(t, i.behind)
		return func() { w.restart(t, 0) }
	default:
		panic("nothing happens to " + w.address)
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

// scrape scrapes all targets at the same time, for one Prometheus.
func (s *stage) scrape(t *testing.T, known memories) []scrape {
	scrapes := make([]scrape, len(s.watchers))
	texts := make([]string, len(s.watchers))
	var wait sync.WaitGroup
	for n, w := range s.watchers {
		if !w.away && !w.unscraped {
			wait.Go(func() { texts[n] = w.scrape(t.Context()) })
		}
	}
	wait.Wait()
	for n, w := range s.watchers {
		m := known[n]
		switch {
		case w.away:
			scrapes[n].State = noTarget
			clear(m.values)
		case texts[n] == "":
			scrapes[n].State = unanswered
			clear(m.values)
		default:
			var err error
			if scrapes[n], err = m.difference(texts[n]); err != nil {
				t.Fatal(err)
			}
		}
		scrapes[n].Target, scrapes[n].Moves = n, w.moves
	}
	return scrapes
}
