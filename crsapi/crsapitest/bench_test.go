package crsapitest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// BenchmarkPage is one page of 100 out of the middle of the list, verified and
// encoded, without a network.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		sim := crsapitest.New()
		sim.SetTasks(region, crsapitest.Generate(n, 1000, 1))
		a := &asker{url: "http://" + crsapitest.Host + crsapitest.Path, method: http.MethodGet, id: crsapitest.SecretID, key: crsapitest.SecretKey, region: region}
		for _, filter := range []string{"", "taskType.0"} {
			name := fmt.Sprintf("tasks=%d", n)
			pairs := []string{"offset", strconv.Itoa(n / 2)}
			if filter != "" {
				name += "/filtered"
				pairs = append(pairs, filter, "task_backupInstance")
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				var size int
				for b.Loop() {
					b.StopTimer()
					r := a.request(b, pairs...)
					w := httptest.NewRecorder()
					b.StartTimer()
					sim.ServeHTTP(w, r)
					size = w.Body.Len()
				}
				b.ReportMetric(float64(size), "bytes/page")
				if got := sim.Answers(region, 0); got == 0 || size < 100*100 {
					b.Fatalf("%d good answers, the last of %d bytes", got, size)
				}
			})
		}
	}
}
