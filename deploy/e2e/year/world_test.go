package year

import (
	"cmp"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

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
			RedisID: e.id, RedisName: cmp.Or(s.names[e.id], e.id), ProjectID: "0", Created: e.created, Isolated: isolated,
		})
	}
	return list
}
