package year

import (
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// world makes the simulator's lists what the scenario says they are.
type world struct {
	server  *crsapitest.Server
	renames []rename // that are to come
	names   map[string]string
	lists   []*listed
}

// listed is the list of a region as of the last step.
type listed struct {
	region string
	coming []*task // oldest first
	rows   []*row  // newest first
}

// row is a task that is in the list.
type row struct {
	*task
	next int // index of the change that is to come
}

func newWorld(sc *scenario, server *crsapitest.Server) *world {
	w := &world{server: server, renames: sc.renames, names: map[string]string{}}
	for _, r := range regions {
		w.lists = append(w.lists, &listed{region: r.name, coming: sc.tasks[r.name]})
		server.SetTasks(r.name, nil)
	}
	return w
}

// become brings the lists to a time.
func (w *world) become(now time.Time) {
	renamed := false
	for len(w.renames) > 0 && !w.renames[0].at.After(now) {
		w.names[w.renames[0].redisID] = w.renames[0].name
		w.renames = w.renames[1:]
		renamed = true
	}
	for _, l := range w.lists {
		if l.advance(now) || renamed {
			w.server.SetTasks(l.region, l.tasks(w.names))
		}
	}
}

// advance reports if the list has changed since the last step.
func (l *listed) advance(now time.Time) (changed bool) {
	for len(l.coming) > 0 && !l.coming[0].submitted().After(now) {
		l.rows = slices.Insert(l.rows, 0, &row{l.coming[0], 1})
		l.coming = l.coming[1:]
		changed = true
	}
	for _, r := range l.rows {
		for r.next < len(r.changes) && !r.changes[r.next].at.After(now) {
			r.next++
			changed = true
		}
	}
	before := len(l.rows)
	l.rows = slices.DeleteFunc(l.rows, func(r *row) bool { return !r.leaves.After(now) })
	return changed || len(l.rows) != before
}

func (l *listed) tasks(names map[string]string) []crsapi.Task {
	tasks := make([]crsapi.Task, 0, len(l.rows))
	for _, r := range l.rows {
		now := r.changes[r.next-1]
		t := crsapi.Task{
			RedisID: r.redisID, RedisName: names[r.redisID], ProjectID: "0", TaskName: r.taskName, TaskID: r.id,
			StartTime: r.submitted(), Status: now.status,
		}
		if t.RedisName == "" {
			t.RedisName = "name-of-" + r.redisID
		}
		if now.status != crsapi.StatusPending && now.status != crsapi.StatusExecuting {
			t.EndTime = now.at
		}
		tasks = append(tasks, t)
	}
	return tasks
}
