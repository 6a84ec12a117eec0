package pages

import (
	"cmp"
	"slices"
	"time"
)

const (
	// instancesPerPage and maxDays keep a page of the calendar below 1 MB. If ids are so
	// long that a cell has more than maxCell bytes, a page has fewer instances.
	instancesPerPage = 200
	maxDays          = 30
	maxCell          = 150
	cellMarkup       = 90 // bytes of a cell without its link

	day = 24 * time.Hour // the API's zone has no daylight saving time
)

// backupsPage is what only the backup calendar shows.
type backupsPage struct {
	pager             // of the instances that match
	Days  []time.Time // their begins, newest first
	Rows  []calendarRow
	Bad   int // instances with a problem
	Gone  int // listed instances that match, but do not exist any more
}

// calendarRow is the backups of an instance.
type calendarRow struct {
	instance
	Link     string
	Without  time.Duration  // a good backup
	Cells    [maxDays]*cell // newest first
	failures int            // days with one
}

// cell is how the page shows the backups of a day.
type cell struct{ Class, Sign, Label string }

var (
	none      = &cell{"n", "·", "none"}
	succeeded = &cell{"s", "✓", "succeeded"}
	failed    = &cell{"f", "✗", "failed"}
	retried   = &cell{"m", "✗✓", "failed, then succeeded"}
	running   = &cell{"r", "…", "running"}
	unknown   = &cell{"u", "?", "unknown"}
)

func cellOf(status string) *cell {
	switch status {
	case "succeeded":
		return succeeded
	case "failed", "error":
		return failed
	case "pending", "executing":
		return running
	}
	return unknown
}

func (p *pages) backups(v *view) (any, error) {
	page := &backupsPage{}
	year, month, today := v.Now.In(p.zone).Date()
	midnight := time.Date(year, month, today, 0, 0, 0, 0, p.zone)
	matches := v.Query.instances()
	for _, l := range v.Lists {
		for in := range l.instances {
			switch {
			case !matches(in.RedisID, in.RedisName):
			case in.Owed:
				page.Rows = append(page.Rows, newCalendarRow(in, v.Now, midnight))
			case in.Listed:
				page.Gone++
			}
		}
	}
	slices.SortFunc(page.Rows, worstFirst)
	longest, days := maxCell, 1 // days up to the oldest backup
	for _, row := range page.Rows {
		longest = max(longest, cellMarkup+len(row.Link))
		if row.Problem != "" {
			page.Bad++
		}
		for i, c := range row.Cells {
			if c != none {
				days = max(days, i+1)
			}
		}
	}
	for i := range days {
		page.Days = append(page.Days, midnight.AddDate(0, 0, -i))
	}
	page.pager = newPager(v.Query, len(page.Rows), max(1, instancesPerPage*maxCell/longest))
	page.Rows = page.Rows[min(page.First-1, page.Last):page.Last]
	return page, nil
}

// newCalendarRow returns the row of an instance. midnight is the begin of today.
func newCalendarRow(in instance, now, midnight time.Time) calendarRow {
	row := calendarRow{instance: in, Link: linkTo(in.Region, in.RedisID), Without: now.Sub(in.LastGood)}
	for i := range row.Cells {
		row.Cells[i] = none
	}
	var last time.Time // submission of the last backup of a day
	for b := range in.Backups(midnight.AddDate(0, 0, 1-maxDays)) {
		shown := &row.Cells[max(0, midnight.Add(day-1).Sub(b.Submitted)/day)]
		switch c := cellOf(b.Status); {
		case *shown == none:
			*shown, last = c, b.Submitted
		case *shown == succeeded && c == failed:
			*shown = retried
		case *shown == failed && c == succeeded && b.Submitted.Equal(last):
			*shown = retried // of the same second, a success wins, as in the alerts
		}
	}
	for _, c := range row.Cells {
		if c == failed || c == retried {
			row.failures++
		}
	}
	return row
}

// worstFirst orders instances: first those with a problem, longest without a good backup
// first, then those with the most days of failures.
func worstFirst(a, b calendarRow) int {
	urgency := func(r calendarRow) time.Duration {
		if r.Problem == "" {
			return -1
		}
		return max(0, r.Without)
	}
	return cmp.Or(cmp.Compare(urgency(b), urgency(a)), cmp.Compare(b.failures, a.failures),
		cmp.Compare(a.Region, b.Region), cmp.Compare(a.RedisID, b.RedisID))
}
