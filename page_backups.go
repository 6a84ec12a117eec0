package main

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
)

const (
	// instancesPerPage and maxDays keep a page of the calendar below 1 MB. If ids are
	// so long that a cell has more than maxCell bytes, fewer instances are on a page.
	instancesPerPage = 200
	maxDays          = 30
	maxCell          = 150
	cellMarkup       = 90 // bytes of a cell without its link
)

// backupsPage is what the backup calendar shows.
type backupsPage struct {
	Ages    []listAge
	Regions []string
	Filter  map[string]string
	Days    []calendarDay // newest first
	Rows    []calendarRow
	Total   int // instances that match
	Bad     int // of them, without a good backup
	Gone    int // instances that match but do not exist any more
	pager
}

// calendarDay is a day in the API's zone.
type calendarDay struct {
	Date  string // 2006-01-02
	Month string // short name
	Day   int
}

// calendarRow is the backups of an instance.
type calendarRow struct {
	Region, RedisID, RedisName string
	Kind                       string // of trouble; empty if the newest backup is good
	Without                    time.Duration
	Never                      bool // no backup that succeeded is listed
	Link                       string
	Cells                      []calendarCell // of the days

	failed   int // days
	instance collector.Instance
}

// calendarCell is what the backups of a day came to, with the tasks of the day.
type calendarCell struct {
	Kind  string // class of the style sheet: s, f, m, r, n or u
	Sign  string
	Label string
	Link  string
}

func (p *pages) backups() http.Handler {
	return p.handler("Backups", backupsHTML, func(r *http.Request, now time.Time) (any, error) {
		statuses, lists := p.exporter.Status(), p.exporter.TaskLists()
		q, err := parse(r, "region", "redisId", "redisName", "page")
		if err != nil {
			return nil, err
		}
		region, err := q.region(regionNames(statuses))
		if err != nil {
			return nil, err
		}
		number, err := q.number()
		if err != nil {
			return nil, err
		}
		page := &backupsPage{
			Ages: ages(statuses, lists, region, now), Regions: regionNames(statuses),
			Filter: map[string]string{"region": region, "redisId": q.Get("redisId"), "redisName": q.Get("redisName")},
		}
		c := p.newCalendar(now)
		for _, list := range lists {
			if list != nil && (region == "" || list.Region == region) {
				c.take(page, list, q, now)
			}
		}
		slices.SortFunc(page.Rows, worstFirst)
		page.Total = len(page.Rows)
		size := rowsPerPage(page.Rows)
		page.pager = newPager(q, number, page.Total, size)
		from := min((number-1)*size, page.Total)
		page.Rows = page.Rows[from:min(from+size, page.Total)]
		c.finish(page)
		return page, nil
	})
}

// rowsPerPage returns how many of these rows a page has at most.
func rowsPerPage(rows []calendarRow) int {
	longest := maxCell
	for i := range rows {
		longest = max(longest, cellMarkup+len(rows[i].Link))
	}
	return max(1, instancesPerPage*maxCell/longest)
}

// calendar sorts backups into days.
type calendar struct {
	zone   *time.Location
	begins []time.Time // of the days, newest first
	oldest time.Time   // of the listed backups
}

func (p *pages) newCalendar(now time.Time) *calendar {
	c := &calendar{zone: p.zone, oldest: now}
	today := now.In(p.zone)
	for i := range maxDays {
		c.begins = append(c.begins, time.Date(today.Year(), today.Month(), today.Day()-i, 0, 0, 0, 0, p.zone))
	}
	return c
}

// day returns the index of the day of a time. The zone has no daylight saving time.
func (c *calendar) day(at time.Time) int {
	return max(0, int((c.begins[0].Sub(at)+24*time.Hour-1)/(24*time.Hour)))
}

// take adds the instances of a list that match.
func (c *calendar) take(page *backupsPage, list *collector.TaskList, q parameters, now time.Time) {
	id, name := q.Get("redisId"), strings.ToLower(q.Get("redisName"))
	for in := range list.Instances() {
		if id != "" && in.RedisID != id || !strings.Contains(strings.ToLower(in.RedisName), name) {
			continue
		}
		if in.Gone {
			page.Gone++
			continue
		}
		row := calendarRow{Region: list.Region, RedisID: in.RedisID, RedisName: in.RedisName, Link: linkTo(list.Region, in.RedisID), instance: in}
		row.Kind, _ = backupTrouble(in, now)
		if row.Kind != "" {
			page.Bad++
		}
		since := in.BackupSucceeded
		if row.Never = since.IsZero(); row.Never {
			since = in.Known
		}
		row.Without = now.Sub(since)
		for _, day := range c.days(in) {
			if day.failed {
				row.failed++
			}
		}
		page.Rows = append(page.Rows, row)
	}
}

// dayOfBackups is the newest backup of a day, with an empty status for none, and
// whether one has failed.
type dayOfBackups struct {
	collector.Backup
	failed bool
}

// days returns the backups of each day. Of the same second, a success wins, as it
// does in the alerts.
func (c *calendar) days(in collector.Instance) [maxDays]dayOfBackups {
	var days [maxDays]dayOfBackups
	for b := range in.Backups(c.begins[maxDays-1]) {
		if b.Submitted.Before(c.oldest) {
			c.oldest = b.Submitted
		}
		day := &days[c.day(b.Submitted)]
		if order := b.Submitted.Compare(day.Submitted); order > 0 || order == 0 && b.Status == "succeeded" {
			day.Backup = b
		}
		day.failed = day.failed || isFailure(b.Status)
	}
	return days
}

func isFailure(status string) bool { return status == "failed" || status == "error" }

// finish adds the days, and the cells of the rows that are shown.
func (c *calendar) finish(page *backupsPage) {
	days := min(maxDays, c.day(c.oldest)+1)
	for _, begin := range c.begins[:days] {
		page.Days = append(page.Days, calendarDay{begin.Format(time.DateOnly), begin.Format("Jan"), begin.Day()})
	}
	for i := range page.Rows {
		row := &page.Rows[i]
		all := c.days(row.instance)
		for n, b := range all[:days] {
			cell := calendarCell{Sign: signOf(b.Status), Link: row.Link + "&day=" + page.Days[n].Date}
			switch {
			case b.Status == "succeeded" && b.failed:
				cell.Kind, cell.Sign, cell.Label = "m", "✗✓", "failed, then succeeded"
			case b.Status == "":
				cell.Kind, cell.Label = "n", "none"
			case b.Status == "succeeded":
				cell.Kind, cell.Label = "s", b.Status
			case isFailure(b.Status):
				cell.Kind, cell.Label = "f", "failed"
			case b.Status == "pending", b.Status == "executing":
				cell.Kind, cell.Label = "r", "running"
			default:
				cell.Kind, cell.Label = "u", b.Status
			}
			row.Cells = append(row.Cells, cell)
		}
	}
}

// worstFirst orders instances: without a good backup before others, and those
// longest without before others.
func worstFirst(a, b calendarRow) int {
	good := func(r calendarRow) int {
		if r.Kind == "" {
			return 1
		}
		return 0
	}
	byWithout := 0
	if a.Kind != "" && b.Kind != "" {
		byWithout = cmp.Compare(b.Without, a.Without)
	}
	return cmp.Or(cmp.Compare(good(a), good(b)), byWithout, cmp.Compare(b.failed, a.failed),
		cmp.Compare(a.Region, b.Region), cmp.Compare(a.RedisID, b.RedisID))
}
