package pages

import (
	"cmp"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
)

const (
	// maxProblems limits the instances on the status page.
	maxProblems = 200

	// maxRun is how long a backup may take, as in the alert rules without their exceptions.
	maxRun = 3 * time.Hour
)

// statusPage is what only the status page shows.
type statusPage struct {
	Cards          []card
	BackupProblems []instance
	More           int // problems that are not shown
	Instances      int // that need backups
	Source         string
	Expiry         time.Time
}

// card is what the page says of a region. The counts are those of its list.
type card struct {
	list
	Problems                              []collector.Problem
	Listed, Instances, Unfinished, Failed int
}

// instance is an instance of a region with its problem.
type instance struct {
	collector.Instance
	Region  string
	Problem string    // failed, overdue, stuck, or empty
	Since   time.Time // when the problem began
}

// instances yields the instances that are known.
func (l *list) instances(yield func(instance) bool) {
	if l.List == nil {
		return
	}
	for in := range l.List.Instances() {
		problem, since := problemOf(in, l.List.Seen())
		if !yield(instance{in, l.Region, problem, since}) {
			return
		}
	}
}

func (p *pages) status(v *view) (any, error) {
	page := &statusPage{}
	page.Source, page.Expiry = p.Credentials()
	for _, l := range v.Lists {
		c := card{list: l}
		if !l.End.IsZero() {
			c.Problems = l.Problems()
		}
		if l.List != nil {
			counts := l.List.Counts()
			for _, n := range counts {
				c.Listed += n
			}
			c.Unfinished = counts["pending"] + counts["executing"]
			c.Failed = counts["failed"] + counts["error"]
		}
		for in := range l.instances {
			if in.Listed {
				c.Instances++
			}
			if in.Owed {
				page.Instances++
			}
			if in.Problem != "" {
				page.BackupProblems = append(page.BackupProblems, in)
			}
		}
		page.Cards = append(page.Cards, c)
	}
	slices.SortStableFunc(page.BackupProblems, func(a, b instance) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.RedisID, b.RedisID))
	})
	if n := len(page.BackupProblems); n > maxProblems {
		page.BackupProblems, page.More = page.BackupProblems[:maxProblems], n-maxProblems
	}
	return page, nil
}

// problemOf returns the problem that an instance has with its backups, and since when; an
// empty one if they are in order. The conditions are those of the alerts CRSBackupFailed,
// CRSBackupMissing and CRSBackupStuck.
func problemOf(in collector.Instance, seen time.Time) (problem string, since time.Time) {
	switch {
	case !in.Owed:
		return "", time.Time{}
	case in.FailingSince.After(in.LastGood) && in.FailingSince.Before(in.Deadline):
		return "failed", in.FailingSince
	case in.Deadline.Before(seen):
		return "overdue", in.Deadline
	case !in.Unfinished.IsZero() && in.Unfinished.Add(maxRun).Before(seen):
		return "stuck", in.Unfinished
	}
	return "", time.Time{}
}
