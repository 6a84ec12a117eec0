package pages

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const tasksPerPage = 100

// tasksPage is what only the page of the tasks shows.
type tasksPage struct {
	pager
	Counts    map[string]int // tasks that match all filters but the one by status
	Rows      []taskRow
	Durations bool // any row has one
}

// taskRow is a task of a region.
type taskRow struct {
	Region string
	crsapi.Task
}

// Duration is empty if the end of the task is not known.
func (r taskRow) Duration() string {
	if r.EndTime.Before(r.StartTime) {
		return ""
	}
	return span(r.EndTime.Sub(r.StartTime))
}

func (p *pages) tasks(v *view) (any, error) {
	q := v.Query
	if day := q.Get("day"); day != "" { // short, for the many links of the calendar
		if q.Has("since") || q.Has("until") {
			return nil, badRequestf("day replaces since and until: give only one of them")
		}
		q.Del("day")
		q.Set("since", day)
		q.Set("until", day)
	}
	from, err := q.moment("since", v.Now, p.zone, 0)
	if err != nil {
		return nil, err
	}
	to, err := q.moment("until", v.Now, p.zone, 24*time.Hour-time.Second)
	if err != nil {
		return nil, err
	}
	page := &tasksPage{Counts: map[string]int{}}
	total, skip := 0, (q.page-1)*tasksPerPage
	matches, taskName := q.instances(), q.Get("taskName")
	for region, task := range newest(v.Lists, from, to) {
		if taskName != "" && task.TaskName != taskName || !matches(task.RedisID, task.RedisName) {
			continue
		}
		if len(page.Counts) == 0 && to.IsZero() {
			// The other pages end at the same task, so new tasks do not move their rows.
			q.Values = maps.Clone(q.Values)
			q.Set("until", task.StartTime.Format(time.RFC3339))
		}
		status := task.Status.String()
		page.Counts[status]++
		if q.Has("status") && !q.Chosen("status", status) {
			continue
		}
		if total++; total > skip && len(page.Rows) < tasksPerPage {
			row := taskRow{region, task}
			page.Rows = append(page.Rows, row)
			page.Durations = page.Durations || row.Duration() != ""
		}
	}
	page.pager = newPager(q, total, tasksPerPage)
	return page, nil
}

// newest yields the tasks of several lists, newest first, with their region.
func newest(lists []list, from, to time.Time) iter.Seq2[string, crsapi.Task] {
	type head struct { // the newest task of a list that was not yielded yet
		region string
		task   crsapi.Task
		next   func() (crsapi.Task, bool)
	}
	return func(yield func(string, crsapi.Task) bool) {
		var heads []head
		for _, l := range lists {
			if l.List == nil {
				continue
			}
			next, stop := iter.Pull(l.List.Newest(from, to))
			defer stop()
			if task, ok := next(); ok {
				heads = append(heads, head{l.Region, task, next})
			}
		}
		for len(heads) > 0 {
			i := 0
			for k := range heads {
				if heads[k].task.StartTime.After(heads[i].task.StartTime) {
					i = k
				}
			}
			if !yield(heads[i].region, heads[i].task) {
				return
			}
			var ok bool
			if heads[i].task, ok = heads[i].next(); !ok {
				heads = slices.Delete(heads, i, i+1)
			}
		}
	}
}
