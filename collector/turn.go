package collector

import (
	"math"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// Sync says how many of the pages that should not have changed a poll reads, in turn.
type Sync string

// The ways to read. Each of them reads the pages that may have changed at every poll.
const (
	SyncAuto        Sync = "auto"        // all if they fit in half of the scrape's time, else their share
	SyncFull        Sync = "full"        // all
	SyncIncremental Sync = "incremental" // their share, so that each is read within Config.FullSyncInterval
)

// Syncs returns the ways to read.
func Syncs() []Sync { return []Sync{SyncAuto, SyncFull, SyncIncremental} }

// inTurn returns how many pages of a list the next poll reads in turn. scrape is how
// long the scrape waits for the poll, since how long the last poll is ago.
func (r *region) inTurn(l *openList, scrape, since time.Duration) int {
	room := r.room(scrape / 2)
	if r.cfg.Sync == SyncFull || r.cfg.Sync == SyncAuto && r.exporter.pages() <= room {
		return mirror.All
	}
	share := math.Ceil(float64(l.windows) * float64(since) / float64(r.cfg.FullSyncInterval))
	// After a pause, the share may take longer than the scrape can wait.
	return int(min(share, max(1, room/float64(len(r.exporter.regions)))))
}

// room returns how many pages all regions can read within a time.
func (r *region) room(d time.Duration) float64 {
	if limiter := r.source().Limiter(); limiter != nil {
		return float64(limiter.Limit()) * d.Seconds()
	}
	last := r.last.Load()
	if last.Pages == 0 || last.Duration <= 0 {
		return math.Inf(1)
	}
	// Without a limit, regions are read side by side.
	return float64(len(r.exporter.regions)*last.Pages) * d.Seconds() / last.Duration.Seconds()
}

// pages returns how many pages the lists of all regions have.
func (e *Exporter) pages() float64 {
	sum := int64(0)
	for _, r := range e.regions {
		sum += r.pages.Load()
	}
	return float64(sum)
}
