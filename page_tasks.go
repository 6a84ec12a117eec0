package main

import (
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// tasksPerPage is the number of rows of a page of tasks.
const tasksPerPage = 100

// taskFilter says which tasks are shown.
type taskFilter struct {
	parameters
	region, redisID, redisName, taskName string
	statuses                             []string
	from, to                             time.Time
	number                               int
	names                                map[string]bool // whether a name of an instance contains redisName
}

// tasksPage is what the page of the tasks shows.
type tasksPage struct {
	Ages     []listAge
	Regions  []string
	Filter   map[string]string
	Statuses []statusChoice
	All      string // link without a filter by status
	Rows     []taskRow
	Duration bool // a task has one
	Total    int
	pager
}

// statusChoice is a status with the number of tasks that match the other filters.
type statusChoice struct {
	Name    string
	Count   int
	Chosen  bool
	Link    string
	Current bool // it alone is chosen
}

type taskRow struct {
	crsapi.Task
	Region, Status string
	Duration       time.Duration
	HasDuration    bool
	Link           string // to all tasks of the instance
}

// pager says which part of all rows a page has.
type pager struct {
	Number, Pages, First, Last   int
	Newest, Newer, Older, Eldest string // links; empty if there is no such page
}

// newPager returns the pager of page number n, for so many rows of which each page
// has size.
func newPager(q parameters, n, rows, size int) pager {
	p := pager{Number: n, Pages: max(1, (rows+size-1)/size), First: (n-1)*size + 1, Last: min(n*size, rows)}
	link := func(n int) string { return q.with("page", strconv.Itoa(n)) }
	if n > 1 {
		p.Newest, p.Newer = link(1), link(min(n-1, p.Pages))
	}
	if n < p.Pages {
		p.Older, p.Eldest = link(n+1), link(p.Pages)
	}
	return p
}

func (p *pages) tasks() http.Handler {
	return p.handler("Tasks", tasksHTML, func(r *http.Request, now time.Time) (any, error) {
		statuses, lists := p.exporter.Status(), p.exporter.TaskLists()
		f, err := p.taskFilter(r, regionNames(statuses), now)
		if err != nil {
			return nil, err
		}
		page := &tasksPage{Ages: ages(statuses, lists, f.region, now), Regions: regionNames(statuses), Filter: map[string]string{}}
		for _, name := range []string{"region", "redisId", "redisName", "taskName", "since", "until"} {
			page.Filter[name] = f.Get(name)
		}
		f.fill(r, page, lists)
		return page, r.Context().Err()
	})
}

// taskFilter reads the parameters of a request.
func (p *pages) taskFilter(r *http.Request, regions []string, now time.Time) (*taskFilter, error) {
	q, err := parse(r, "region", "redisId", "redisName", "taskName", "status", "since", "until", "day", "page")
	if err != nil {
		return nil, err
	}
	if day := q.Get("day"); day != "" { // short, for the many links of the calendar
		if q.Get("since")+q.Get("until") != "" {
			return nil, badRequest("day replaces since and until: give only one of them")
		}
		q.Del("day")
		q.Set("since", day)
		q.Set("until", day)
	}
	f := &taskFilter{
		parameters: q, redisID: q.Get("redisId"), redisName: strings.ToLower(q.Get("redisName")), taskName: q.Get("taskName"),
		statuses: q.Values["status"], names: map[string]bool{},
	}
	if f.region, err = q.region(regions); err != nil {
		return nil, err
	}
	for _, status := range f.statuses {
		if !slices.Contains(collector.StatusNames(), status) {
			return nil, badRequest("status must be one of %s, not %.50q", strings.Join(collector.StatusNames(), ", "), status)
		}
	}
	if f.number, err = q.number(); err != nil {
		return nil, err
	}
	if f.from, err = p.moment(q, "since", now, 0); err != nil {
		return nil, err
	}
	f.to, err = p.moment(q, "until", now, 24*time.Hour-time.Second)
	return f, err
}

// moment reads a time: a duration before now, a time, or a day in the API's zone,
// of which the time is so long after its begin.
func (p *pages) moment(q parameters, name string, now time.Time, ofDay time.Duration) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := duration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, p.zone); err == nil {
		return day.Add(ofDay), nil
	}
	return time.Time{}, badRequest("%s must be a duration such as 24h or 7d, a day such as 2026-01-31, or a time such as 2026-01-31T08:00:00Z, not %.50q", name, text)
}

// matches reports whether a task matches the filters, that by status and those by
// time aside.
func (f *taskFilter) matches(task *crsapi.Task) bool {
	if f.redisID != "" && task.RedisID != f.redisID || f.taskName != "" && task.TaskName != f.taskName {
		return false
	}
	if f.redisName == "" {
		return true
	}
	contains, known := f.names[task.RedisName]
	if !known { // a list has few names and many tasks
		contains = strings.Contains(strings.ToLower(task.RedisName), f.redisName)
		f.names[task.RedisName] = contains
	}
	return contains
}

// fill counts the tasks that match, and takes the rows of the page.
func (f *taskFilter) fill(r *http.Request, page *tasksPage, lists []*collector.TaskList) {
	counts := map[crsapi.Status]int{}
	var newest time.Time
	skip := (f.number - 1) * tasksPerPage
	for region, task := range f.matching(r, lists) {
		status := task.Status
		counts[status]++
		if newest.IsZero() {
			newest = task.StartTime
		}
		if len(f.statuses) > 0 && !slices.Contains(f.statuses, status.String()) {
			continue
		}
		page.Total++
		if page.Total > skip && len(page.Rows) < tasksPerPage {
			page.Rows = append(page.Rows, newTaskRow(region, task))
		}
	}
	for _, row := range page.Rows {
		page.Duration = page.Duration || row.HasDuration
	}
	f.choices(page, counts)
	q := f.parameters
	if f.to.IsZero() && !newest.IsZero() {
		// So that a task that is submitted meanwhile does not move those of the next page.
		q.Values = maps.Clone(q.Values)
		q.Set("until", newest.Format(time.RFC3339))
	}
	page.pager = newPager(q, f.number, page.Total, tasksPerPage)
}

// choices adds the statuses with their numbers of tasks.
func (f *taskFilter) choices(page *tasksPage, counts map[crsapi.Status]int) {
	byName := map[string]int{}
	for status, n := range counts {
		byName[status.String()] += n
	}
	for _, name := range collector.StatusNames() {
		chosen := slices.Contains(f.statuses, name)
		page.Statuses = append(page.Statuses, statusChoice{
			Name: name, Count: byName[name], Chosen: chosen,
			Link: f.with("status", name), Current: chosen && len(f.statuses) == 1,
		})
	}
	page.All = f.with("status")
}

// matching yields the tasks of all lists that match, newest first, with their
// region. It ends when the reader of the page has left.
func (f *taskFilter) matching(r *http.Request, lists []*collector.TaskList) iter.Seq2[string, crsapi.Task] {
	var regions []string
	var sequences []iter.Seq[crsapi.Task]
	for _, list := range lists {
		if list == nil || f.region != "" && list.Region != f.region {
			continue
		}
		all := until(r.Context(), list.Newest(f.from, f.to))
		regions = append(regions, list.Region)
		sequences = append(sequences, func(yield func(crsapi.Task) bool) {
			for task := range all {
				if f.matches(&task) && !yield(task) {
					return
				}
			}
		})
	}
	return collector.MergeNewest(regions, sequences)
}

func newTaskRow(region string, task crsapi.Task) taskRow {
	row := taskRow{Task: task, Region: region, Status: task.Status.String(), Link: linkTo(region, task.RedisID)}
	if row.Status == "unknown" {
		row.Status = fmt.Sprintf("unknown (%d)", task.Status)
	}
	if !task.EndTime.IsZero() && !task.EndTime.Before(task.StartTime) {
		row.Duration, row.HasDuration = task.EndTime.Sub(task.StartTime), true
	}
	return row
}
