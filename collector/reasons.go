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

// maxReasons limits how many reasons are requested a minute, for all regions together.
const maxReasons = 20

// reasonsTimeout limits the requests for the reasons of one poll.
const reasonsTimeout = 30 * time.Second

// failureReasons logs why tasks of a region failed, in the vendor's words, after the
// poll: no scrape waits for it.
type failureReasons struct {
	limit   *rate.Limiter
	logger  log.Logger
	running *sync.WaitGroup
	known   map[int64]bool // failed tasks; nil before the first list
	refused atomic.Bool    // the key may not ask for reasons
}

// log requests and logs the reasons of the tasks that failed since the last list.
func (f *failureReasons) log(ctx context.Context, source Source, list *TaskList) {
	if source.API() != crsapi.API30 {
		return
	}
	known := map[int64]bool{}
	var fresh []crsapi.Task
	left := 0
	for _, task := range list.tasks {
		if task.Status != crsapi.StatusFailed {
			continue
		}
		known[task.TaskID] = true
		if f.known == nil || f.known[task.TaskID] {
			continue
		}
		if f.limit.Allow() {
			fresh = append(fresh, task)
		} else {
			left++
		}
	}
	f.known = known
	if left > 0 {
		level.Warn(f.logger).Log("msg", "many tasks failed, not all reasons are requested", "failed", len(fresh)+left, "requested", len(fresh))
	}
	if len(fresh) > 0 {
		f.running.Go(func() { f.request(ctx, source, fresh) })
	}
}

func (f *failureReasons) request(parent context.Context, source Source, failed []crsapi.Task) {
	ctx, cancel := context.WithTimeout(parent, reasonsTimeout)
	defer cancel()
	for _, task := range failed {
		if f.refused.Load() {
			return
		}
		message, err := source.TaskMessage(ctx, task.TaskID)
		logger := level.Warn(log.With(f.logger, "redis_id", task.RedisID, "task", task.TaskName,
			"submitted", task.StartTime.Format(time.RFC3339), "task_id", task.TaskID))
		var refused *crsapi.Error
		switch {
		case parent.Err() != nil:
			return
		case err == nil:
			logger.Log("msg", "task failed", "reason", message)
		case errors.As(err, &refused) && refused.Reason == crsapi.ReasonDenied:
			f.refused.Store(true)
			logger.Log("msg", "task failed, and the key may not ask for the reason: allow redis:DescribeTaskInfo, or set --no-crs.failure-reasons", "err", err)
			return
		default:
			logger.Log("msg", "task failed, and its reason could not be requested", "err", err)
		}
	}
}
