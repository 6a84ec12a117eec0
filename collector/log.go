package collector

import (
	"sync"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// stateLog logs a region's polls where something changed. What merely goes on
// is counted in metrics and not said again.
type stateLog struct {
	logger log.Logger

	mu       sync.Mutex
	seen     bool          // a poll has succeeded before
	down     crsapi.Reason // of the failure under way; empty if there is none
	rejected bool          // the last successful poll rejected rows
}

func (l *stateLog) failed(reason crsapi.Reason, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reason != l.down {
		level.Error(l.logger).Log("msg", "poll failed", "reason", reason, "err", err)
	}
	l.down = reason
}

func (l *stateLog) succeeded(o *outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.down != "":
		level.Info(l.logger).Log("msg", "poll succeeds again", "tasks", o.list.tasks)
	case !l.seen:
		level.Info(l.logger).Log("msg", "first poll succeeded", "tasks", o.list.tasks, "instances", len(o.list.instances))
	}
	l.seen, l.down = true, ""

	switch rejects := o.rejected > 0; {
	case rejects && !l.rejected:
		level.Warn(l.logger).Log("msg", "rows of the list could not be read", "rejected", o.rejected)
		l.rejected = true
	case !rejects && l.rejected:
		level.Info(l.logger).Log("msg", "all rows of the list could be read again")
		l.rejected = false
	}
}
