package collector

import (
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// pollLog logs changes of a region's state. Ongoing conditions are counted in
// metrics and not logged again. Only the poll in progress uses it.
type pollLog struct {
	logger   log.Logger
	seen     bool          // a poll has succeeded before
	down     crsapi.Reason // of the last poll; empty if it succeeded
	rejected bool          // the last successful poll rejected rows
}

func (l *pollLog) failed(reason crsapi.Reason, err error) {
	if reason != l.down {
		level.Error(l.logger).Log("msg", "poll failed", "reason", reason, "err", err)
	}
	l.down = reason
}

func (l *pollLog) succeeded(o *outcome) {
	switch {
	case l.down != "":
		level.Info(l.logger).Log("msg", "poll recovered", "tasks", o.Tasks)
	case !l.seen:
		level.Info(l.logger).Log("msg", "first poll succeeded", "tasks", o.Tasks, "instances", o.Instances)
	}
	l.seen, l.down = true, ""

	rejects := o.Rejected > 0
	switch {
	case rejects && !l.rejected:
		level.Warn(l.logger).Log("msg", "cannot read some rows of the list", "rejected", o.Rejected)
	case !rejects && l.rejected:
		level.Info(l.logger).Log("msg", "all rows of the list can be read again")
	}
	l.rejected = rejects
}
