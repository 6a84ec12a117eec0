package collector_test

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// account is the list of a large account: each instance has a backup every day,
// and sometimes one of the other tasks, newest first. It makes its tasks while it
// is read, so that it needs no memory of its own.
type account struct {
	tasks, instances int
	ids, names       []string
	begin            int64
}

func newAccount(tasks int) *account {
	a := &account{tasks: tasks, instances: max(1, tasks/100), begin: 1_700_000_000}
	for i := range a.instances {
		a.ids = append(a.ids, fmt.Sprintf("crs-%08d", i))
		a.names = append(a.names, fmt.Sprintf("cache of service %d", i))
	}
	return a
}

func (a *account) All() iter.Seq[crsapi.Task] {
	others := []string{"cleanInstance", "resizeInstance", "setPassword"}
	return func(yield func(crsapi.Task) bool) {
		for n := range a.tasks {
			i, day := n%a.instances, n/a.instances
			t := crsapi.Task{
				RedisID: a.ids[i], RedisName: a.names[i], ProjectID: "0",
				TaskName:  "backupInstance",
				StartTime: time.Unix(a.begin-int64(day)*24*60*60+int64(i), 0),
				Status:    crsapi.StatusSucceeded,
			}
			if day%10 == 9 {
				t.TaskName = others[(i+day/10)%len(others)]
			}
			if !yield(t) {
				return
			}
		}
	}
}

func (a *account) Len() int      { return a.tasks }
func (a *account) Rejected() int { return 0 }
func (a *account) Pages() int    { return a.tasks / 100 }

var sizes = []int{1_000, 10_000, 100_000}

// BenchmarkPoll measures the snapshot and the ledger, for a list in which nothing
// changes.
func BenchmarkPoll(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("tasks=%d", n), func(b *testing.B) {
			e := watch(b, always(newAccount(n)))
			e.Poll(b.Context())
			b.ReportAllocs()
			for b.Loop() {
				e.Poll(b.Context())
			}
		})
	}
}

// BenchmarkScrape measures BenchmarkPoll and the exposition.
func BenchmarkScrape(b *testing.B) {
	formats := map[string]string{
		"text":        textFormat,
		"openmetrics": openMetricsFormat,
		"protobuf":    protobufFormat,
	}
	for _, n := range sizes {
		for name, accept := range formats {
			b.Run(fmt.Sprintf("tasks=%d/%s", n, name), func(b *testing.B) {
				e := watch(b, always(newAccount(n)))
				h := e.Handler()
				request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				request.Header.Set("Accept", accept)
				bytes := 0
				b.ReportAllocs()
				for b.Loop() {
					w := &discard{header: http.Header{}}
					h.ServeHTTP(w, request)
					bytes = w.bytes
				}
				b.ReportMetric(float64(bytes), "bytes/scrape")
			})
		}
	}
}

// BenchmarkMillion reports the memory of an exporter with a million tasks, and
// the peak of the process while it polls and serves them.
func BenchmarkMillion(b *testing.B) {
	e := watch(b, always(newAccount(1_000_000)))
	h := e.Handler()
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	var stats runtime.MemStats
	for b.Loop() {
		h.ServeHTTP(&discard{header: http.Header{}}, request)
	}
	runtime.ReadMemStats(&stats)
	b.ReportMetric(float64(stats.Sys)/1e6, "MB-peak")
	runtime.GC()
	runtime.ReadMemStats(&stats)
	b.ReportMetric(float64(stats.HeapAlloc)/1e6, "MB-held")
	runtime.KeepAlive(e)
}

// discard is a ResponseWriter that only counts.
type discard struct {
	header http.Header
	bytes  int
}

func (w *discard) Header() http.Header { return w.header }
func (w *discard) WriteHeader(int)     {}
func (w *discard) Write(p []byte) (int, error) {
	w.bytes += len(p)
	return io.Discard.Write(p)
}
