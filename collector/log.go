package collector

import (
	"errors"
	"fmt"
	"strings"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// pollLog logs changes of a region's state. Ongoing conditions are counted in
// metrics and not logged again. Only the poll in progress uses it.
type pollLog struct {
	logger   log.Logger
	seen     bool   // a poll has succeeded before
	down     string // reasons of the last poll; empty if it succeeded
	rejected bool   // the last successful poll rejected rows
	tasks    int    // of the last successful poll
	emptied  bool   // a list of many tasks has become empty

	unlisted map[string]bool // watched instances of which no task is listed
}

const (
	// manyTasks is how many tasks do not leave a list all at once, but by mistake.
	manyTasks = 10
	// maxNamed limits the instances that a line names.
	maxNamed = 20
)

func (l *pollLog) failed(err error) {
	reason := reasonsOf(err)
	if reason != l.down {
		level.Error(l.logger).Log("msg", "poll failed", "reason", reason, "err", err)
	}
	l.down = reason
}

// reasonsOf returns the reason of a failed poll, or the reasons of both APIs.
func reasonsOf(err error) string {
	reason, _ := reasonOf(err)
	var both *bothFailed
	if errors.As(err, &both) {
		successor, _ := reasonOf(both.successorErr)
		return fmt.Sprintf("%s, API %s: %s", reason, both.successor, successor)
	}
	return string(reason)
}

func (l *pollLog) wentOver(from, to crsapi.API, err error, without []string) {
	level.Warn(l.logger).Log("msg", fmt.Sprintf("API %s is retired: the list is read through API %s from now on, and tasks that finished in between are not counted", from, to), "err", err)
	if len(without) > 0 {
		level.Warn(l.logger).Log("msg", fmt.Sprintf("API %s does not have all task types of the settings", to), "without", strings.Join(without, ","))
	}
}

func (l *pollLog) corrected(results []*mirror.Result) {
	n := 0
	for _, result := range results {
		n += result.Corrections
	}
	if n > 0 {
		level.Warn(l.logger).Log("msg", "a full reading corrected the list", "corrections", n)
	}
}

func (l *pollLog) succeeded(o *outcome) {
	switch {
	case l.down != "":
		level.Info(l.logger).Log("msg", "poll recovered", "tasks", o.Tasks)
	case !l.seen:
		level.Info(l.logger).Log("msg", "first poll succeeded", "api", o.API, "tasks", o.Tasks, "instances", o.Instances)
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

	l.listed(o)
}

// listed logs what of the list is gone though the API says success.
func (l *pollLog) listed(o *outcome) {
	switch {
	case o.Tasks == 0 && l.tasks >= manyTasks && o.Rejected == 0:
		l.emptied = true
		level.Warn(l.logger).Log("msg", "the list has become empty though the API reports success", "tasks_before", l.tasks)
	case o.Tasks > 0 && l.emptied:
		l.emptied = false
		level.Info(l.logger).Log("msg", "the list has tasks again", "tasks", o.Tasks)
	}
	l.tasks = o.Tasks

	var fresh []string
	unlisted := make(map[string]bool, len(o.Unlisted))
	for _, id := range o.Unlisted {
		unlisted[id] = true
		if !l.unlisted[id] {
			fresh = append(fresh, id)
		}
	}
	l.unlisted = unlisted
	if len(fresh) > 0 && !l.emptied { // else the list is to blame
		level.Warn(l.logger).Log("msg", "the API lists no task of some watched instances: it does not know them in this region, or they have none",
			"instances", len(fresh), "redis_ids", named(fresh))
	}
}

// named returns a text with the first of some instances.
func named(ids []string) string {
	if len(ids) > maxNamed {
		return strings.Join(ids[:maxNamed], ",") + ",..."
	}
	return strings.Join(ids, ",")
}
