package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// BenchmarkPages measures pages of a million tasks, and the calendar of 1,000
// instances. It reports the time, the bytes of the page, and by how much a page
// raises the memory in use at its peak.
func BenchmarkPages(b *testing.B) {
	for _, list := range []struct {
		name  string
		tasks []crsapi.Task
		paths map[string]string
	}{
		{"1,000,000 tasks", crsapitest.Generate(1_000_000, 10_000, 1), map[string]string{
			"status": "/", "tasks": "/tasks", "tasks by name": "/tasks?redisName=7&status=failed", "tasks of an instance": "/tasks?redisId=crs-none",
			"last page of tasks": "/tasks?page=10000", "backups": "/backups",
		}},
		{"1,000 instances", fleet(time.Now().Truncate(time.Second), 1_000, 40), map[string]string{"backups": "/backups"}},
	} {
		b.Run(list.name, func(b *testing.B) {
			handler := benchPages(b, list.tasks)
			for name, path := range list.paths {
				b.Run(name, func(b *testing.B) { benchPage(b, handler, path) })
			}
		})
	}
}

func benchPages(b *testing.B, tasks []crsapi.Task) http.Handler {
	b.Helper()
	server := crsapitest.NewMemoryServer()
	b.Cleanup(server.Close)
	s, err := parseFlags([]string{"--crs.region=" + guangzhou, "--crs.rate-limit=0", "--crs.api=2.0", "--crs.page-size=1000"}, io.Discard, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	s.api.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	s.api.Transport = server.Client().Transport
	s.api.Endpoint = server.URL
	server.SetTasks(guangzhou, tasks)
	exporter, err := s.newExporter(s.dialer())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(exporter.Close)
	exporter.Poll(b.Context())
	if status := exporter.Status()[0]; status.Tasks != len(tasks) {
		b.Fatal(status.Tasks, status.Err)
	}
	return newMux("", "/metrics", exporter, s.newPages(exporter, func() credentials.Status { return credentials.Status{} }))
}

func benchPage(b *testing.B, handler http.Handler, path string) {
	b.Helper()
	size, peak := 0, uint64(0)
	for b.Loop() {
		b.StopTimer()
		stop := watchHeap()
		b.StartTimer()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		b.StopTimer()
		peak = max(peak, stop())
		size = w.Body.Len()
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(size), "B/page")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
}

// watchHeap begins to look at the heap. The function that it returns ends that, and
// returns by how much the heap grew at most.
func watchHeap() (stop func() uint64) {
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	runtime.GC()
	before := heap()
	var peak atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			peak.Store(max(peak.Load(), heap()))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-ended
		return max(before, peak.Load(), heap()) - before
	}
}
