package year

import "time"

// The alerts that a fault is told by. Only this list and the judgement's tables know
// their names.
const (
	backupFailed  = "CRSBackupFailed"
	backupMissing = "CRSBackupMissing"
	backupStuck   = "CRSBackupStuck"
	taskFailed    = "CRSTaskFailed"
	taskStuck     = "CRSTaskStuck"
	statusUnknown = "CRSTaskStatusUnknown"
	pollFailing   = "CRSRegionPollFailing"
	unwatched     = "CRSRegionUnwatched"
	exporterDown  = "CRSExporterDown"
	refused       = "CRSRequestsRefused"
	throttled     = "CRSThrottled"
	clock         = "CRSClock"
	rowsRejected  = "CRSRowsRejected"

	inventoryFailing = "CRSInventoryFailing"
)

// truth is which alerts are right about a kind of fault.
type truth struct {
	right     []string      // alerts that tell it, each of them as good; none if nothing is wrong
	explained []string      // alerts that it explains too, but that do not have to be
	slack     time.Duration // it must be told so long after it can be known
	optional  bool          // it may be told or not
}

// fault is one trouble that a scenario injects, from the user's view.
type fault struct {
	truth
	kind     string
	region   string
	redisID  string // empty if it is the region's or an exporter's
	taskName string // of another task than a backup; else empty
	instance string // address of the exporter whose fault it is; else empty

	known    time.Time // from when it can be known
	cured    time.Time // from when its alerts may end
	until    time.Time // by when its alerts must end
	unlisted time.Time // no row shows it any more; zero if one does
}
