package collector_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
)

// BenchmarkScrape measures a poll, the ledger and the exposition, for a list in which
// nothing changes: backups of each night.
func BenchmarkScrape(b *testing.B) {
	formats := map[string]string{"text": textFormat, "openmetrics": openMetricsFormat, "protobuf": protobufFormat}
	for _, n := range []int{1_000, 10_000, 100_000} {
		tasks, _ := nightly(n/100, 100)
		slices.Reverse(tasks)
		for name, accept := range formats {
			b.Run(fmt.Sprintf("tasks=%d/%s", n, name), func(b *testing.B) {
				h := watch(b, &fakeSource{list: list(tasks...)}).Handler()
				w := &discard{header: http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					w.bytes = 0
					h.ServeHTTP(w, request("Accept", accept))
				}
				b.ReportMetric(float64(w.bytes), "bytes/scrape")
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
	return len(p), nil
}
