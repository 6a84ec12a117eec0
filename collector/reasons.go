package collector

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/time/rate"
)

const (
	// maxReasons limits how many reasons are requested a minute, for all regions
	// together.
	maxReasons = 20
	// maxKnown limits the failed tasks that are remembered.
	maxKnown = 100_000
	// reasonsTimeout limits the requests for the reasons of one poll.
	reasonsTimeout = 30 * time.Second
)

// failureReasons logs why the tasks of one region failed, in the vendor's words.
// It sends its requests after the poll, and no scrape waits for them.
type failureReasons struct {
	limit   *rate.Limiter // shared by all regions
	logger  log.Logger
	ctx     context.Context
	running *sync.WaitGroup

	// known is the failed tasks that were seen; nil before the first list. Only the
	// poll in progress uses it.
	known map[int64]bool

	refused atomic.Bool // the key may not ask for reasons
}

// log requests and logs the reasons of tasks that are newly seen failed. The first
// list is only remembered. The changes of the lists are still there.
func (f *failureReasons) log(source Source, lists []*openList) {
	if source.API() != crsapi.API30 {
		return
	}
	first := f.known == nil
	if first || len(f.known) > maxKnown {
		f.known = map[int64]bool{}
	}
	var fresh []crsapi.Task
	see := func(task crsapi.Task) {
		if task.Status == crsapi.StatusFailed && !f.known[task.TaskID] {
			f.known[task.TaskID] = true
			fresh = append(fresh, task)
		}
	}
	for _, l := range lists {
		if l.whole {
			for task := range l.All() {
				if l.has(task.RedisID) {
					see(task)
				}
			}
			continue
		}
		for key := range l.changed {
			if !l.has(key.RedisID) {
				continue
			}
			for _, task := range l.At(key) {
				see(task)
			}
		}
	}
	if first {
		return
	}
	allowed := 0
	for allowed < len(fresh) && f.limit.Allow() {
		allowed++
	}
	if allowed < len(fresh) {
		level.Warn(f.logger).Log("msg", "many tasks failed, not all reasons are requested", "failed", len(fresh), "requested", allowed)
	}
	if allowed > 0 {
		f.running.Go(func() { f.request(source, fresh[:allowed]) })
	}
}

func (f *failureReasons) request(source Source, failed []crsapi.Task) {
	ctx, cancel := context.WithTimeout(f.ctx, reasonsTimeout)
	defer cancel()
	for _, task := range failed {
		if f.refused.Load() {
			return
		}
		message, err := source.TaskMessage(ctx, task.TaskID)
		if f.ctx.Err() != nil {
			return
		}
		logger := log.With(f.logger, "redis_id", task.RedisID, "task", task.TaskName,
			"submitted", task.StartTime.Format(time.RFC3339), "task_id", task.TaskID)
		var refused *crsapi.Error
		switch {
		case err == nil:
			level.Warn(logger).Log("msg", "task failed", "reason", message)
		case errors.As(err, &refused) && refused.Reason == crsapi.ReasonDenied:
			if f.refused.Swap(true) {
				return
			}
			level.Warn(logger).Log("msg", "task failed, and the key may not ask for the reason: allow redis:DescribeTaskInfo, or set --no-crs.failure-reasons", "err", err)
		default:
			level.Warn(logger).Log("msg", "task failed, and its reason could not be requested", "err", err)
		}
	}
}
