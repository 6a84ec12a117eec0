package collector

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// pollLog logs changes of a region's state. What goes on is counted in metrics and not
// logged again.
type pollLog struct {
	logger   log.Logger
	down     string // reasons of the last poll; empty if it succeeded
	last     *outcome
	emptied  bool     // a list of many tasks has become empty
	byOffset string   // of the last poll
	noted    []string // of the last poll
}

// manyTasks do not leave a list all at once, but by mistake.
const manyTasks = 10

// maxNamed limits the instances that a line names.
const maxNamed = 20

func (l *pollLog) failed(o *outcome) {
	reason := reasonsOf(o.Err)
	l.log(reason != l.down, level.Error, "poll failed", "reason", reason, "err", o.Err, "advice", o.Problems()[0].Advice)
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

func (l *pollLog) switched(from, to crsapi.API, err error, without []string) {
	level.Warn(l.logger).Log("msg", fmt.Sprintf("API %s is retired, switched to API %s; tasks that finished in between are not counted", from, to), "err", err)
	if len(without) > 0 {
		level.Warn(l.logger).Log("msg", fmt.Sprintf("API %s does not have all task types of the settings", to), "without", strings.Join(without, ","))
	}
}

func (l *pollLog) succeeded(o *outcome) {
	last := l.last
	if last == nil {
		last = &outcome{}
	}
	l.log(l.down != "", level.Info, "poll recovered", "tasks", o.Tasks)
	l.log(l.down == "" && l.last == nil, level.Info, "first poll succeeded", "api", o.API, "tasks", o.Tasks, "instances", o.Instances)
	l.log(o.corrections > 0, level.Warn, "old pages had changed: the list was corrected", "corrections", o.corrections)
	l.log(o.Rejected > 0 && last.Rejected == 0, level.Warn, "cannot read some rows of the list", "rejected", o.Rejected)
	l.log(o.Rejected == 0 && last.Rejected > 0, level.Info, "all rows of the list can be read again")
	emptied := o.Tasks == 0 && last.Tasks >= manyTasks && o.Rejected == 0
	l.log(emptied, level.Warn, "the list has become empty though the API reports success", "tasks_before", last.Tasks)
	l.log(o.Tasks > 0 && l.emptied, level.Info, "the list has tasks again", "tasks", o.Tasks)
	l.emptied = emptied || l.emptied && o.Tasks == 0
	fresh := slices.DeleteFunc(slices.Clone(o.Unlisted), func(id string) bool { return slices.Contains(last.Unlisted, id) })
	l.log(len(fresh) > 0 && !l.emptied, level.Warn, "the API lists no task of some watched instances: it does not know them in this region, or they have none",
		"instances", len(fresh), "redis_ids", named(fresh))
	l.down, l.last = "", &outcome{RegionStatus: o.RegionStatus}
}

// notes logs how the API answers, when that changes.
func (l *pollLog) notes(o *outcome) {
	l.log(o.ByOffset != "" && l.byOffset == "", level.Warn, "the list is read by limit and offset only, which costs more requests", "because", o.ByOffset)
	l.log(o.ByOffset == "" && l.byOffset != "", level.Info, "the list is read by beginTime and endTime again")
	for _, note := range o.Notes {
		l.log(!slices.Contains(l.noted, note), level.Warn, note)
	}
	l.byOffset, l.noted = o.ByOffset, o.Notes
}

func (l *pollLog) log(when bool, at func(log.Logger) log.Logger, msg string, keyvals ...any) {
	if when {
		_ = at(l.logger).Log(append([]any{"msg", msg}, keyvals...)...)
	}
}

// named returns a text with the first of some instances.
func named(ids []string) string {
	if len(ids) > maxNamed {
		return strings.Join(ids[:maxNamed], ",") + ",..."
	}
	return strings.Join(ids, ",")
}
