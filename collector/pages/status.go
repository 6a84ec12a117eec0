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

	// The thresholds of the alert rules, without their exceptions.
	maxBackupAge   = 26 * time.Hour
	minUsual       = 4 * time.Hour
	usualTolerance = 1.05
	backupMayLast  = 2 * time.Hour
	maxPending     = time.Hour
	maxExecuting   = 3 * time.Hour
)

// statusPage is what only the status page shows.
type statusPage struct {
	Cards          []card
	BackupProblems []backupProblem
	More           int // problems that are not shown
	Instances      int // that exist
	Source         string
	Expiry         time.Time
}

// card is what the page says of a region. The counts are those of its list.
type card struct {
	list
	Problems                              []collector.Problem
	Listed, Instances, Unfinished, Failed int
}

// backupProblem is an instance without a good backup.
type backupProblem struct {
	collector.Instance
	Region  string
	Kind    string    // failed, missing, or never if no successful one is listed
	Since   time.Time // submission time of the failed backup, or since when one is missing
	Allowed time.Duration
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
			for in := range l.List.Instances() {
				c.Instances++
				if !in.Gone {
					page.Instances++
				}
				if kind, since := backupProblemOf(in, v.Now); kind != "" {
					page.BackupProblems = append(page.BackupProblems, backupProblem{in, l.Region, kind, since, allowedAge(in)})
				}
			}
		}
		page.Cards = append(page.Cards, c)
	}
	slices.SortStableFunc(page.BackupProblems, func(a, b backupProblem) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.RedisID, b.RedisID))
	})
	if n := len(page.BackupProblems); n > maxProblems {
		page.BackupProblems, page.More = page.BackupProblems[:maxProblems], n-maxProblems
	}
	return page, nil
}

// backupProblemOf returns the kind of problem that an instance has with its backups, and
// since when; an empty kind without one.
func backupProblemOf(in collector.Instance, now time.Time) (kind string, since time.Time) {
	since = in.BackupSucceeded
	if in.Known.After(since) { // restored after its last backup, or new
		since = in.Known
	}
	switch {
	case in.Gone:
		return "", time.Time{}
	case in.BackupFailed.After(in.BackupSucceeded):
		return "failed", in.BackupFailed
	case now.Sub(since) <= allowedAge(in) || isUnderWay(in, now):
		return "", time.Time{}
	case in.BackupSucceeded.IsZero():
		return "never", since
	default:
		return "missing", since
	}
}

// isUnderWay reports whether a backup of the instance is unfinished, and none for too long.
func isUnderWay(in collector.Instance, now time.Time) bool {
	underWay := false
	for b := range in.Backups(time.Time{}) {
		age := now.Sub(b.Submitted)
		switch b.Status {
		case "pending", "executing":
			if b.Status == "pending" && age > maxPending || age > maxExecuting {
				return false
			}
			underWay = true
		}
	}
	return underWay
}

// allowedAge is how old the newest good backup of an instance may be.
func allowedAge(in collector.Instance) time.Duration {
	if in.UsualInterval < minUsual {
		return maxBackupAge
	}
	return time.Duration(float64(in.UsualInterval)*usualTolerance) + backupMayLast
}
