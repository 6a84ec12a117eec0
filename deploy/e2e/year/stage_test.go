package year

import (
	"cmp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
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
		return s.server.Inject(crsapitest.Fault{
			API: i.api, Action: i.action, Region: i.region, Rate: i.rate, Do: i.effect,
		})
	}
}

// list makes the simulator list what the scenario says for a time.
func (s *stage) list(now time.Time) {
	for _, r := range s.sc.renames {
		if !r.at.After(now) {
			s.names[r.redisID] = r.name
		}
	}
	for _, r := range regions {
		s.server.SetTasks(r.name, s.tasks(r.name, now))
		if s.sc.Inventory {
			s.server.SetInstances(r.name, s.instances(r.name, now))
		}
	}
}

// tasks returns the list of a region, the newest task first.
func (s *stage) tasks(region string, now time.Time) (list []crsapi.Task) {
	for _, t := range slices.Backward(s.sc.tasks[region]) {
		if t.submitted().After(now) || !t.leaves.After(now) {
			continue
		}
		row := crsapi.Task{
			RedisID: t.redisID, RedisName: cmp.Or(s.names[t.redisID], t.redisID), ProjectID: "0",
			TaskName: t.taskName, TaskID: t.id, StartTime: t.submitted(),
		}
		for _, c := range t.changes {
			if c.at.After(now) {
				break
			}
			row.Status = c.status
			row.EndTime = time.Time{}
			if c.status != pending && c.status != executing {
				row.EndTime = c.at
			}
		}
		list = append(list, row)
	}
	return list
}

// instances returns the inventory of a region.
func (s *stage) instances(region string, now time.Time) (list []crsapi.Instance) {
	for _, e := range s.sc.instances[region] {
		if e.created.After(now) || !e.gone.IsZero() && !e.gone.After(now) {
			continue
		}
		isolated := slices.ContainsFunc(e.isolated, func(s span) bool { return s.contains(now) })
		list = append(list, crsapi.Instance{
			RedisID: e.id, RedisName: cmp.Or(s.names[e.id], e.id), ProjectID: "0",
			Created: e.created, Isolated: isolated,
		})
	}
	return list
}
