package year

import (
	"cmp"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// world makes the simulator's lists what the scenario says they are.
type world struct {
	sc     *scenario
	server *crsapitest.Server
	coming map[string][]time.Time // when the list of a region changes, in order
}

func newWorld(sc *scenario, server *crsapitest.Server) *world {
	w := &world{sc, server, map[string][]time.Time{}}
	for _, r := range regions {
		var all []time.Time
		for _, t := range sc.tasks[r.name] {
			for _, c := range t.changes {
				all = append(all, c.at)
			}
			all = append(all, t.leaves)
		}
		for _, r := range sc.renames {
			all = append(all, r.at)
		}
		slices.SortFunc(all, time.Time.Compare)
		w.coming[r.name] = all
		server.SetTasks(r.name, nil)
	}
	return w
}

// become brings the lists to a time.
func (w *world) become(now time.Time) {
	for _, r := range regions {
		coming := w.coming[r.name]
		past, _ := slices.BinarySearchFunc(coming, now.Add(1), time.Time.Compare)
		w.coming[r.name] = coming[past:]
		if past > 0 {
			w.server.SetTasks(r.name, w.list(r.name, now))
		}
		if w.sc.Inventory {
			w.server.SetInstances(r.name, w.inventory(r.name, now))
		}
	}
}

// names returns the names of the renamed instances.
func (w *world) names(now time.Time) map[string]string {
	names := map[string]string{}
	for _, r := range w.sc.renames {
		if !r.at.After(now) {
			names[r.redisID] = r.name
		}
	}
	return names
}

// list returns the list of a region, the newest task first.
func (w *world) list(region string, now time.Time) (list []crsapi.Task) {
	names := w.names(now)
	for _, t := range slices.Backward(w.sc.tasks[region]) {
		if t.submitted().After(now) || !t.leaves.After(now) {
			continue
		}
		row := crsapi.Task{
			RedisID: t.redisID, RedisName: cmp.Or(names[t.redisID], "name-of-"+t.redisID), ProjectID: "0",
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
