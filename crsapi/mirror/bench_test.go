package mirror_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// quick is a list that costs next to nothing to read: one task every ten seconds.
// The first rows of each page are in a second of their own.
type quick struct {
	n      int
	ids    []string
	status atomic.Int32 // of the newest task
}

func newQuick(n int) *quick {
	q := &quick{n: n, ids: make([]string, 1000)}
	for i := range q.ids {
		q.ids[i] = fmt.Sprintf("crs-%d", i)
	}
	q.status.Store(int32(crsapi.StatusSucceeded))
	return q
}

func (l *quick) API() crsapi.API { return crsapi.API30 }

func (l *quick) Page(_ context.Context, q crsapi.Query) (*crsapi.Page, error) {
	n := l.n // up to EndTime
	if !q.EndTime.IsZero() {
		n = min(n, 1+int(q.EndTime.Unix()-epoch)/10)
	}
	p := &crsapi.Page{TotalCount: n, Date: newNode("", "", epoch+int64(l.n)*10+100, 0).StartTime}
	for i := n - 1 - q.Offset; i >= 0 && len(p.Tasks) < q.Limit; i-- {
		task := newNode(l.ids[i%1000], "backupInstance", epoch+int64(i)*10, crsapi.StatusSucceeded).Task
		task.TaskID = int64(i)
		if i == l.n-1 {
			task.Status = crsapi.Status(l.status.Load())
		}
		p.Tasks = append(p.Tasks, task)
	}
	return p, nil
}

// BenchmarkPoll reads a list for the first time, in full, when it is quiet, and
// after a change. It reports the memory that stays and the most that was in use.
func BenchmarkPoll(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		l := newQuick(n)
		var m *mirror.Mirror
		for _, run := range []struct {
			name   string
			inTurn int
			before func()
		}{
			{"first", 0, func() { m = mirror.New(mirror.Config{Lister: l, PageSize: 100, Concurrency: 8}) }},
			{"full", mirror.All, func() {}},
			{"quiet", 0, func() {}},
			{"changed", 0, func() { l.status.Store(l.status.Load() ^ 1) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", run.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					run.before()
					r, err := m.Poll(b.Context(), run.inTurn)
					if err != nil || len(r.Tasks) != n {
						b.Fatal(err)
					}
				}
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				b.ReportMetric(float64(stats.HeapSys-stats.HeapReleased)/1e6, "heap-MB")
				runtime.GC()
				runtime.ReadMemStats(&stats)
				b.ReportMetric(float64(stats.HeapAlloc)/1e6, "live-MB")
				runtime.KeepAlive(m)
			})
		}
	}
}
