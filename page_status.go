package main

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

const (
	// maxTroubles limits the instances on the status page.
	maxTroubles = 200

	// The thresholds of the rules for alerts, without their exceptions.
	maxBackupAge   = 26 * time.Hour
	minUsual       = 4 * time.Hour
	usualTolerance = 1.05
	backupMayLast  = 2 * time.Hour
	maxPending     = time.Hour
	maxExecuting   = 3 * time.Hour

	troubleFailed   = "failed"
	troubleMissing  = "missing"
	troubleNeverHad = "never"
)

// statusPage is what the status page shows.
type statusPage struct {
	Regions     []regionCard
	Credentials credentials.Status
	Expires     time.Duration // until the credentials expire
	Troubles    []trouble
	MoreTrouble int // instances that are not shown
	Ages        []listAge
}

// regionCard is what the status page says of a region.
type regionCard struct {
	collector.RegionStatus
	State    string // up, down, or waiting for the first poll
	Problems []problem
	Ended    time.Duration // since the last poll
	List     *listSummary  // nil if it was never read
	NextFull time.Duration // until the next full reading
}

// listSummary is what the last list of a region has.
type listSummary struct {
	Read                                 time.Time
	Age                                  time.Duration
	Tasks, Instances, Unfinished, Failed int
}

// trouble is an instance without a good backup.
type trouble struct {
	Region, RedisID, RedisName string
	Kind                       string    // failed, missing or never
	At                         time.Time // when the failed backup was submitted, or since when one is missing
	LastGood                   time.Time // zero if none is listed
	Allowed                    time.Duration
	Link                       string
}

func (p *pages) status() http.Handler {
	return p.handler("Status", statusHTML, func(_ *http.Request, now time.Time) (any, error) {
		statuses, lists := p.exporter.Status(), p.exporter.TaskLists()
		page := &statusPage{Credentials: p.credentials(), Ages: ages(statuses, lists, "", now)}
		if at := page.Credentials.Expiry; !at.IsZero() {
			page.Expires = at.Sub(now)
		}
		for i, status := range statuses {
			page.Regions = append(page.Regions, p.card(status, lists[i], now))
			if lists[i] != nil {
				page.Troubles = append(page.Troubles, troublesOf(lists[i], now)...)
			}
		}
		slices.SortStableFunc(page.Troubles, func(a, b trouble) int {
			return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.RedisID, b.RedisID))
		})
		if n := len(page.Troubles); n > maxTroubles {
			page.Troubles, page.MoreTrouble = page.Troubles[:maxTroubles], n-maxTroubles
		}
		return page, nil
	})
}

func (p *pages) card(status collector.RegionStatus, list *collector.TaskList, now time.Time) regionCard {
	card := regionCard{RegionStatus: status, State: "up"}
	switch {
	case status.End.IsZero():
		card.State = "waiting for the first poll"
	case status.Err != nil:
		card.State = "down"
	}
	if !status.End.IsZero() {
		card.Ended = now.Sub(status.End)
		card.Problems = p.problems(status)
	}
	if !status.NextFull.IsZero() {
		card.NextFull = status.NextFull.Sub(now)
	}
	if list != nil {
		counts := list.Counts()
		summary := &listSummary{
			Read: list.Read, Age: now.Sub(list.Read),
			Unfinished: counts["pending"] + counts["executing"],
			Failed:     counts["failed"] + counts["error"],
		}
		for _, n := range counts {
			summary.Tasks += n
		}
		for range list.Instances() {
			summary.Instances++
		}
		card.List = summary
	}
	return card
}

// troublesOf returns the instances of a list without a good backup, by the rules
// for alerts without their exceptions.
func troublesOf(list *collector.TaskList, now time.Time) []trouble {
	var all []trouble
	for in := range list.Instances() {
		kind, at := backupTrouble(in, now)
		if kind == "" {
			continue
		}
		all = append(all, trouble{
			Region: list.Region, RedisID: in.RedisID, RedisName: in.RedisName,
			Kind: kind, At: at, LastGood: in.BackupSucceeded, Allowed: allowedAge(in),
			Link: linkTo(list.Region, in.RedisID),
		})
	}
	return all
}

// backupTrouble says what is wrong with the backups of an instance, and since when.
func backupTrouble(in collector.Instance, now time.Time) (kind string, at time.Time) {
	if in.Gone {
		return "", time.Time{}
	}
	if in.BackupFailed.After(in.BackupSucceeded) {
		return troubleFailed, in.BackupFailed
	}
	since := in.BackupSucceeded
	if in.Known.After(since) { // restored after its last backup, or new
		since = in.Known
	}
	if now.Sub(since) <= allowedAge(in) || isUnderWay(in, now) {
		return "", time.Time{}
	}
	if in.BackupSucceeded.IsZero() {
		return troubleNeverHad, since
	}
	return troubleMissing, since
}

// isUnderWay reports whether a backup of the instance runs, and none for too long.
func isUnderWay(in collector.Instance, now time.Time) bool {
	runs := false
	for b := range in.Backups(time.Time{}) {
		limit := maxExecuting
		switch b.Status {
		case "pending":
			limit = maxPending
		case "executing":
		default:
			continue
		}
		if now.Sub(b.Submitted) > limit {
			return false
		}
		runs = true
	}
	return runs
}

// allowedAge is how old the newest good backup of an instance may be.
func allowedAge(in collector.Instance) time.Duration {
	if in.UsualInterval < minUsual {
		return maxBackupAge
	}
	return time.Duration(float64(in.UsualInterval)*usualTolerance) + backupMayLast
}

// problemsOf returns what --check would say of a poll.
func (s *settings) problemsOf(status collector.RegionStatus) []problem {
	f := &finding{RegionStatus: status, cfg: s.configOf(status.API)}
	var both interface{ Unwrap() []error }
	if apis := s.usedAPIs(); f.reason() == crsapi.ReasonRetired && len(apis) > 1 && errors.As(status.Err, &both) {
		// The successor of the retired API failed too, and that can be fixed.
		errs := both.Unwrap()
		f.cfg, f.Err = s.configOf(apis[1]), errs[len(errs)-1]
		f.API = apis[1]
		problems := f.problems()
		problems[0].What = status.Err.Error()
		return problems
	}
	return f.problems()
}
