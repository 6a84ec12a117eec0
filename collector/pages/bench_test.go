package pages_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// BenchmarkPages measures pages of a million tasks, and the calendar of 1,000 instances.
func BenchmarkPages(b *testing.B) {
	now := time.Now().Truncate(time.Second)
	for _, list := range []struct {
		name  string
		tasks []crsapi.Task
		paths []string
	}{
		{"1,000,000 tasks", fleet(now, 10_000, 100), []string{
			"/", "/tasks", "/tasks?redisName=7&status=failed", "/tasks?redisId=crs-none", "/tasks?page=10000", "/backups",
		}},
		{"1,000 instances", fleet(now, 1_000, 40), []string{"/backups"}},
	} {
		s := polled(b, map[string][]crsapi.Task{guangzhou: list.tasks})
		for _, path := range list.paths {
			b.Run(list.name+path, func(b *testing.B) {
				b.ReportAllocs()
				var w *response
				for b.Loop() {
					if w = s.send(http.MethodGet, path, "gzip"); w.Code != http.StatusOK {
						b.Fatal(w.Code, w.Body)
					}
				}
				b.ReportMetric(float64(w.Body.Len()), "B/page")
			})
		}
	}
}
