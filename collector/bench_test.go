package collector_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// account is the list of a large account, oldest first: each instance has a backup every
// day, and sometimes one of the other tasks.
func account(n int) *mirror.Result {
	instances, others := max(1, n/100), []string{"cleanInstance", "resizeInstance", "setPassword"}
	l := &mirror.Result{Pages: n / 100, Tasks: make([]crsapi.Task, n)}
	for i := range l.Tasks {
		instance, night := i%instances, i/instances
		t := &l.Tasks[i]
		*t = crsapi.Task{
			RedisID: fmt.Sprintf("crs-%08d", instance), RedisName: fmt.Sprintf("cache of service %d", instance), ProjectID: "0",
			TaskName: backup, StartTime: time.Unix(int64(1_700_000_000+night*24*60*60+instance), 0), Status: crsapi.StatusSucceeded,
		}
		if night%10 == 9 {
			t.TaskName = others[(instance+night/10)%len(others)]
		}
	}
	return l
}

var sizes = []int{1_000, 10_000, 100_000}

// BenchmarkPoll measures the aggregates and the ledger, for a list in which nothing
// changes.
func BenchmarkPoll(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("tasks=%d", n), func(b *testing.B) {
			e := watch(b, &fakeSource{list: account(n)})
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
				e := watch(b, &fakeSource{list: account(n)})
				h := e.Handler()
				request := request("Accept", accept)
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
