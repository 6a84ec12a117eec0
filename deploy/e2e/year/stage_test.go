package year

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// stage is where a scenario is played: the API, its exporters, and what scrapes them.
type stage struct {
	sc       *scenario
	server   *crsapitest.Server
	watchers []*watcher
	names    map[string]string // of the renamed instances

	ends     map[int]func() // of the incidents that go on, by index
	promDoes promDoes
}

func newStage(t *testing.T, sc *scenario) *stage {
	s := &stage{sc: sc, server: crsapitest.NewMemoryServer(), names: map[string]string{}, ends: map[int]func(){}}
	t.Cleanup(s.server.Close)
	s.list(begin)
	for _, r := range regions {
		for _, plan := range r.exporters {
			s.watchers = append(s.watchers, newWatcher(t, sc, s.server, r.name, plan))
		}
	}
	return s
}

// step returns what happens to Prometheus, and what it scrapes if it runs.
func (s *stage) step(t *testing.T, now time.Time) (promDoes, []answer) {
	s.list(now)
	for n := range s.sc.incidents {
		i, end := &s.sc.incidents[n], s.ends[n]
		switch on := i.contains(now); {
		case on && end == nil:
			s.ends[n] = s.start(t, *i)
		case !on && end != nil:
			end()
			delete(s.ends, n)
		}
	}
	if s.promDoes != runs {
		return s.promDoes, nil
	}
	answers := make([]answer, len(s.watchers))
	var wait sync.WaitGroup
	for n, w := range s.watchers {
		wait.Go(func() { answers[n] = w.scrape(t.Context()) })
	}
	wait.Wait()
	return runs, answers
}

// start begins an incident and returns what ends it.
func (s *stage) start(t *testing.T, i incident) (end func()) {
	switch {
	case i.promDoes != runs:
		s.promDoes = i.promDoes
		return func() { s.promDoes = runs }
	case i.exporter != "":
		w := s.watchers[slices.IndexFunc(s.watchers, func(w *watcher) bool { return w.address == i.exporter })]
		return w.suffer(t, i.exporterDoes)
	case i.rawRow != "":
		s.server.SetRawRows(i.region, i.rawRow)
		return func() { s.server.SetRawRows(i.region) }
	default:
		return s.server.Inject(crsapitest.Fault{API: i.api, Action: i.action, Region: i.region, Rate: i.rate, Do: i.effect})
	}
}
