package collector_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// failedTasks are n failed tasks of one second.
func failedTasks(n int) []crsapi.Task {
	tasks := slices.Repeat([]crsapi.Task{failed}, n)
	for i := range tasks {
		tasks[i].RedisID, tasks[i].TaskID = fmt.Sprintf("crs-%03d", i), int64(1000+i)
	}
	return tasks
}

// reasons is a simulator whose failure reasons are requested.
type reasons struct {
	*testing.T
	server    *simulator
	e         *collector.Exporter
	log       strings.Builder // read while nothing runs
	requested atomic.Int32
}

// testReasons runs a test in a bubble, after a first scrape.
func testReasons(t *testing.T, api crsapi.API, answer crsapitest.Effect, test func(r *reasons)) {
	synctest.Test(t, func(t *testing.T) {
		r := &reasons{T: t, server: newSimulator(t, api)}
		r.server.SetTaskMessage(guangzhou, 0, "disk full")
		r.server.Inject(crsapitest.Fault{Action: crsapi.ActionTaskInfo, Do: answer})
		r.server.OnRequest(func(request crsapitest.Request) {
			if request.Action == crsapi.ActionTaskInfo {
				r.requested.Add(1)
			}
		})
		r.e = r.server.watch(t, collector.Config{FailureReasons: true, Logger: logTo(&r.log)})
		r.scrape(failedTasks(1)...) // what failed before the exporter started is no news
		r.want(0, "task failed", 0)
		test(r)
	})
}

// scrape scrapes a list, for which no reason may hold it up.
func (r *reasons) scrape(tasks ...crsapi.Task) {
	r.Helper()
	r.server.SetTasks(guangzhou, tasks)
	begin := time.Now()
	scrape(r, r.e).wantUp(r)
	if took := time.Since(begin); took != 0 {
		r.Errorf("the scrape took %s", took)
	}
	synctest.Wait()
}

func (r *reasons) want(requests int32, log string, times int) {
	r.Helper()
	if n := r.requested.Load(); n != requests || strings.Count(r.log.String(), log) != times {
		r.Errorf("%d requests, want %d; not %d times %q in %s", n, requests, times, log, &r.log)
	}
}

func TestReasonOfANewFailureIsLogged(t *testing.T) {
	testReasons(t, crsapi.API30, crsapitest.All(), func(r *reasons) {
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
	testReasons(t, crsapi.API30, crsapitest.Hang, func(r *reasons) {
		r.scrape(failedTasks(11)...)
		r.scrape(failedTasks(12)...) // whose reason does not wait for those before
		if n := r.requested.Load(); n != 2 {
			t.Errorf("%d requests at once, want 2", n)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		r.want(r.requested.Load(), `msg="task failed, and its reason could not be requested"`, 11)
		// Close ends a request that is in progress.
		r.scrape(failedTasks(13)...)
		begin := time.Now()
		r.e.Close()
		if time.Since(begin) != 0 {
			t.Errorf("Close took %s", time.Since(begin))
		}
	})
}

func TestReasonsAreLimited(t *testing.T) {
	testReasons(t, crsapi.API30, crsapitest.All(), func(r *reasons) {
		r.scrape(failedTasks(51)...)
		r.want(20, `msg="many tasks failed, not all reasons are requested" failed=50 requested=20`, 1)
		time.Sleep(time.Minute)
		r.scrape(failedTasks(101)...)
		r.want(40, "failed=50 requested=20", 2)
	})
}

func TestNoReasonIsRequestedAfterARefusal(t *testing.T) {
	testReasons(t, crsapi.API30, crsapitest.APIError(4102), func(r *reasons) {
		for n := range 5 {
			r.scrape(failedTasks(1 + 2*n)...)
		}
		r.want(1, "allow redis:DescribeTaskInfo, or set --no-crs.failure-reasons", 1)
	})
}

func TestReasonsAreOfAPI30Only(t *testing.T) {
	testReasons(t, crsapi.APITCE, crsapitest.All(), func(r *reasons) {
		r.scrape(failedTasks(2)...)
		r.want(0, "task failed", 0)
	})
}
