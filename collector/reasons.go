package collector

import (
	"context"
	"errors"
	"sync"
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

	// known is the failed tasks of the last list; nil before the first. Only the
	// poll in progress uses it.
	known map[int64]bool

	mu      sync.Mutex // held while requests are sent
	refused bool
}

// log requests and logs the reasons of tasks that failed since the last list. The
// first list is only remembered.
func (f *failureReasons) log(source Source, lists []sweptList) {
	if source.API() != crsapi.API30 {
		return
	}
	failed := map[int64]bool{}
	var fresh []crsapi.Task
	for _, l := range lists {
		for task := range l.list.All() {
			if task.Status != crsapi.StatusFailed || failed[task.TaskID] {
				continue
			}
			failed[task.TaskID] = true
			if f.known != nil && !f.known[task.TaskID] {
				fresh = append(fresh, task)
			}
		}
	}
	f.known = failed
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
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(f.ctx, reasonsTimeout)
	defer cancel()
	for _, task := range failed {
		if f.refused {
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
			f.refused = true
			level.Warn(logger).Log("msg", "task failed, and the key may not ask for the reason: allow redis:DescribeTaskInfo, or set --no-crs.failure-reasons", "err", err)
		default:
			level.Warn(logger).Log("msg", "task failed, and its reason could not be requested", "err", err)
		}
	}
}
