package mirror_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// quick is a list at rest that costs next to nothing to read: page i is made of
// the tasks i*interval seconds apart.
type quick struct {
	tasks []crsapi.Task // newest first, interval seconds apart
	first int64         // second of the oldest
}

const quickInterval = 7

func newQuick(n int) *quick {
	q := &quick{tasks: make([]crsapi.Task, n), first: epoch}
	s := make([]string, 1000)
	for i := range s {
		s[i] = fmt.Sprintf("crs-%d", i)
	}
	for i := range q.tasks {
		t := newNode(s[i%1000], "backupInstance", q.second(i), crsapi.StatusSucceeded).Task
		t.TaskID = int64(n - i)
		q.tasks[i] = t
	}
	return q
}

func (l *quick) second(i int) int64 { return l.first + int64(len(l.tasks)-1-i)*quickInterval }

// index returns how many tasks are newer than a second.
func (l *quick) index(second int64) int {
	return min(len(l.tasks), max(0, len(l.tasks)-1-int((second-l.first)/quickInterval)))
}

func (l *quick) API() crsapi.API { return crsapi.API30 }

func (l *quick) Page(_ context.Context, q crsapi.Query) (*crsapi.Page, error) {
	lo, hi := 0, len(l.tasks)
	if !q.EndTime.IsZero() {
		lo = l.index(q.EndTime.Unix())
	}
	if !q.BeginTime.IsZero() && q.BeginTime.Unix() > l.first {
		hi = l.index(q.BeginTime.Unix() - 1)
	}
	match := l.tasks[lo:max(lo, hi)]
	if len(q.Statuses) > 0 {
		match = nil // all have succeeded
	}
	p := &crsapi.Page{TotalCount: len(match), Date: l.tasks[0].StartTime.Add(1e11)}
	match = match[min(q.Offset, len(match)):]
	p.Tasks = match[:min(q.Limit, len(match))]
	return p, nil
}

func benchmarkFull(b *testing.B, n, workers int) {
	l := newQuick(n)
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	b.ReportAllocs()
	var m *mirror.Mirror
	for b.Loop() {
		m = mirror.New(mirror.Config{Lister: l, PageSize: 100, Concurrency: workers})
		if _, err := m.Poll(b.Context(), false); err != nil || m.Len() != n {
			b.Fatal(m.Len(), err)
		}
	}
	b.ReportMetric(float64(heap()-before)/float64(n), "B/task")
	runtime.KeepAlive(m)
	runtime.KeepAlive(l)
}

func BenchmarkFirst(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for _, workers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%d tasks, %d workers", n, workers), func(b *testing.B) { benchmarkFull(b, n, workers) })
		}
	}
}

func BenchmarkAgain(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("%d tasks", n), func(b *testing.B) {
			m := mirror.New(mirror.Config{Lister: newQuick(n), PageSize: 100, Concurrency: 8})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Poll(b.Context(), true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkQuiet(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("%d tasks", n), func(b *testing.B) {
			l := newQuick(n)
			m := mirror.New(mirror.Config{Lister: l, PageSize: 100, Concurrency: 8})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Poll(b.Context(), false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen polls while a task of every page but the newest is unfinished.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{100_000} {
		b.Run(fmt.Sprintf("%d tasks", n), func(b *testing.B) {
			s := plain(crsapi.API30, n, quickInterval, 1000)
			for i := 150; i < n; i += 1000 {
				s.nodes[i].Status = crsapi.StatusExecuting
			}
			m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: 8})
			b.ReportAllocs()
			for b.Loop() {
				s.reset()
				s.log = nil
				if _, err := m.Poll(b.Context(), false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
