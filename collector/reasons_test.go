package collector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	var tasks []crsapi.Task
	for i := range n {
		failed := task(fmt.Sprintf("crs-%03d", i), backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
		failed.TaskID = int64(1000 + i)
		tasks = append(tasks, failed)
	}
	return tasks
}

// watchReasons watches a source of API 3.0 inside a synctest bubble.
func watchReasons(t *testing.T, message func(context.Context, int64) (string, error)) (*fakeSource, *collector.Exporter, *bytes.Buffer) {
	t.Helper()
	logged := &bytes.Buffer{}
	source := &fakeSource{api: crsapi.API30, message: message, list: list()}
	e := newExporter(t, collector.Config{FailureReasons: true, Logger: logTo(logged)}, map[string]collector.Source{guangzhou: source})
	return source, e, logged
}

func TestReasonOfANewFailureIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []int64
		source, e, logged := watchReasons(t, func(_ context.Context, id int64) (string, error) {
			asked = append(asked, id)
			return "disk full", nil
		})
		tasks := failedTasks(2)
		running := tasks[1]
		running.Status = crsapi.StatusExecuting
		source.set(list(tasks[0], running), nil)
		scrape(t, e)
		synctest.Wait()
		if len(asked) != 0 {
			t.Errorf("asked for %v, which failed before the exporter started", asked)
		}
		source.set(list(tasks...), nil)
		logged.Reset()
		for range 3 {
			scrape(t, e)
			synctest.Wait()
		}
		want := `level=warn region=ap-guangzhou redis_id=crs-001 task=backupInstance submitted=2017-02-09T17:00:00Z task_id=1001 msg="task failed" reason="disk full"` + "\n"
		if logged.String() != want || len(asked) != 1 {
			t.Errorf("asked for %v, logged %q, want %q", asked, logged.String(), want)
		}
	})
}

func TestReasonsHoldUpNoScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		source, e, logged := watchReasons(t, func(ctx context.Context, _ int64) (string, error) {
			asked.Add(1)
			<-ctx.Done()
			return "", ctx.Err()
		})
		scrape(t, e)
		source.set(list(failedTasks(1)...), nil)
		begin := time.Now()
		if !scrape(t, e).up(guangzhou) || time.Since(begin) != 0 {
			t.Errorf("the scrape took %s", time.Since(begin))
		}
		// The reasons of the next poll do not wait for these.
		source.set(list(failedTasks(2)...), nil)
		scrape(t, e)
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !strings.Contains(logged.String(), `msg="task failed, and its reason could not be requested" err="context deadline exceeded"`) {
			t.Errorf("logged %q", logged.String())
		}
		// Close ends a request that is in progress.
		source.set(list(failedTasks(3)...), nil)
		scrape(t, e)
		begin = time.Now()
		e.Close()
		if time.Since(begin) != 0 {
			t.Errorf("Close took %s", time.Since(begin))
		}
	})
}

func TestReasonsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := 0
		source, e, logged := watchReasons(t, func(context.Context, int64) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return "", nil
		})
		scrape(t, e)
		source.set(list(failedTasks(50)...), nil)
		scrape(t, e)
		synctest.Wait()
		if want := `msg="many tasks failed, not all reasons are requested" failed=50 requested=20`; asked != 20 || !strings.Contains(logged.String(), want) {
			t.Errorf("%d requests, logged %q", asked, logged.String())
		}
		time.Sleep(time.Minute)
		source.set(list(failedTasks(100)...), nil)
		scrape(t, e)
		synctest.Wait()
		if asked != 40 {
			t.Errorf("%d requests after a minute", asked)
		}
	})
}

func TestReasonsAreNotAskedForAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		source, e, logged := watchReasons(t, func(context.Context, int64) (string, error) {
			asked++
			return "", &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true, Err: errors.New("no permission")}
		})
		scrape(t, e)
		for n := range 5 {
			source.set(list(failedTasks(2*n)...), nil)
			if !scrape(t, e).up(guangzhou) {
				t.Error("the region is down")
			}
			synctest.Wait()
		}
		if asked != 1 || strings.Count(logged.String(), "allow redis:DescribeTaskInfo, or set --no-crs.failure-reasons") != 1 {
			t.Errorf("%d requests, logged %q", asked, logged.String())
		}
	})
}

func TestReasonsAreOfAPI30Only(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(), message: func(context.Context, int64) (string, error) {
			t.Error("asked")
			return "", nil
		}}
		e := newExporter(t, collector.Config{FailureReasons: true}, map[string]collector.Source{guangzhou: source})
		scrape(t, e)
		source.set(list(failedTasks(1)...), nil)
		scrape(t, e)
		synctest.Wait()
	})
}
