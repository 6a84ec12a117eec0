package collector_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// failedTasks are n failed tasks of API 3.0.
func failedTasks(n int) []crsapi.Task {
	tasks := slices.Repeat([]crsapi.Task{failed}, n)
	for i := range tasks {
		tasks[i].RedisID, tasks[i].TaskID = fmt.Sprintf("crs-%03d", i), int64(1000+i)
	}
	return tasks
}

// reasons is a source whose failure reasons are requested.
type reasons struct {
	*testing.T
	source    *fakeSource
	e         *collector.Exporter
	log       lockedBuffer
	requested atomic.Int32
}

// lockedBuffer is a log that a test reads while the exporter may write.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// testReasons runs a test in a bubble, after a first scrape of an empty list.
func testReasons(t *testing.T, api crsapi.API, message func(context.Context) (string, error), test func(r *reasons)) {
	synctest.Test(t, func(t *testing.T) {
		r := &reasons{T: t}
		r.source = &fakeSource{api: api, message: func(ctx context.Context, _ int64) (string, error) {
			r.requested.Add(1)
			return message(ctx)
		}}
		r.e = newExporter(t, collector.Config{FailureReasons: true, Logger: logTo(&r.log)}, sources{guangzhou: r.source})
		r.scrape(failedTasks(1)...) // what failed before the exporter started is no news
		r.want(0, "task failed", 0)
		test(r)
	})
}

// scrape scrapes a list, for which no reason may hold it up.
func (r *reasons) scrape(tasks ...crsapi.Task) {
	r.Helper()
	r.source.set(list(tasks...), nil)
	begin := time.Now()
	scrape(r, r.e).wantUp(r)
	if took := time.Since(begin); took != 0 {
		r.Errorf("the scrape took %s", took)
	}
	synctest.Wait()
}

func (r *reasons) want(requests int32, log string, times int) {
	r.Helper()
	synctest.Wait()
	if n := r.requested.Load(); n != requests || strings.Count(r.log.String(), log) != times {
		r.Errorf("%d requests, want %d; not %d times %q in %s", n, requests, times, log, &r.log)
	}
}

func diskFull(context.Context) (string, error) { return "disk full", nil }

func TestReasonOfANewFailureIsLogged(t *testing.T) {
	testReasons(t, crsapi.API30, diskFull, func(r *reasons) {
		tasks := failedTasks(2)
		tasks[1].Status = crsapi.StatusExecuting
		r.scrape(tasks...)
		for range 3 {
			r.scrape(failedTasks(2)...)
		}
		r.want(1, "task failed", 1)
		r.want(1, "level=warn region=ap-guangzhou redis_id=crs-001 task=backupInstance submitted=2017-02-09T17:00:00Z task_id=1001 "+
			`msg="task failed" reason="disk full"`+"\n", 1)
	})
}

func TestReasonsHoldUpNothing(t *testing.T) {
	hang := func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	testReasons(t, crsapi.API30, hang, func(r *reasons) {
		r.scrape(failedTasks(2)...)
		r.scrape(failedTasks(3)...) // whose reasons do not wait for those before
		r.want(2, "task failed", 0)
		time.Sleep(time.Minute)
		r.want(2, `msg="task failed, and its reason could not be requested" err="context deadline exceeded"`, 2)
		// Close ends a request that is in progress.
		r.scrape(failedTasks(4)...)
		begin := time.Now()
		r.e.Close()
		if time.Since(begin) != 0 {
			t.Errorf("Close took %s", time.Since(begin))
		}
	})
}

func TestReasonsAreLimited(t *testing.T) {
	testReasons(t, crsapi.API30, diskFull, func(r *reasons) {
		r.scrape(failedTasks(51)...)
		r.want(20, `msg="many tasks failed, not all reasons are requested" failed=50 requested=20`, 1)
		time.Sleep(time.Minute)
		r.scrape(failedTasks(101)...)
		r.want(40, "failed=50 requested=20", 2)
	})
}

func TestNoReasonIsRequestedAfterARefusal(t *testing.T) {
	refuse := func(context.Context) (string, error) {
		return "", &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true}
	}
	testReasons(t, crsapi.API30, refuse, func(r *reasons) {
		for n := range 5 {
			r.scrape(failedTasks(1 + 2*n)...)
		}
		r.want(1, "allow redis:DescribeTaskInfo, or set --no-crs.failure-reasons", 1)
	})
}

func TestReasonsAreOfAPI30Only(t *testing.T) {
	testReasons(t, crsapi.APITCE, diskFull, func(r *reasons) {
		r.scrape(failedTasks(2)...)
		r.want(0, "task failed", 0)
	})
}
