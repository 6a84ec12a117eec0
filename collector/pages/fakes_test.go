package pages_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/collector/pages"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"golang.org/x/time/rate"
)

const (
	guangzhou = "ap-guangzhou"
	shanghai  = "ap-shanghai"
)

// bubbleStart is the time at which a bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// region is the task list of a region. It is a collector.Source and a collector.List.
type region struct {
	tasks     []crsapi.Task
	err       error         // of polls
	wait      chan struct{} // if not nil, polls wait for it
	read, due int           // progress
	polls     int
	observe   func(crsapi.Attempt)
}

func (*region) API() crsapi.API                                    { return crsapi.API30 }
func (*region) Limiter() *rate.Limiter                             { return nil }
func (r *region) Open(collector.Filter) collector.List             { return r }
func (*region) TaskMessage(context.Context, int64) (string, error) { return "", nil }
func (r *region) Progress() (read, due int)                        { return r.read, r.due }

func (r *region) Poll(context.Context, int) (*mirror.Result, error) {
	r.polls++
	if r.wait != nil {
		<-r.wait
	}
	r.observe(crsapi.Attempt{})
	if r.err != nil {
		return &mirror.Result{}, r.err
	}
	slices.SortStableFunc(r.tasks, func(a, b crsapi.Task) int {
		return cmp.Or(a.StartTime.Compare(b.StartTime), cmp.Compare(a.RedisID, b.RedisID), cmp.Compare(a.TaskName, b.TaskName))
	})
	return &mirror.Result{Tasks: slices.Clone(r.tasks), Pages: 1, FullRead: time.Now()}, nil
}

// site is the pages of two regions.
type site struct {
	testing.TB
	regions     map[string]*region
	exporter    *collector.Exporter
	credentials func() string
	handler     http.Handler
}

// newSite returns the pages of these tasks. The exporter has not polled yet.
func newSite(t testing.TB, tasks map[string][]crsapi.Task) *site {
	t.Helper()
	s := &site{TB: t, regions: map[string]*region{}, credentials: func() string { return "cvm-role" }}
	var err error
	s.exporter, err = collector.New(collector.Config{
		Regions: []string{guangzhou, shanghai},
		Dial: func(name string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
			s.regions[name] = &region{tasks: slices.Clone(tasks[name]), observe: observe}
			return []collector.Source{s.regions[name]}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.exporter.Close)
	s.handler = pages.New(pages.Config{
		Exporter: s.exporter, MetricsPath: "/metrics", UTCOffset: 8 * time.Hour,
		Credentials: func() (string, time.Time) { return s.credentials(), bubbleStart.Add(6 * time.Hour) },
	})
	return s
}

// polled returns the pages of these tasks after a poll.
func polled(t testing.TB, tasks map[string][]crsapi.Task) *site {
	t.Helper()
	s := newSite(t, tasks)
	s.exporter.Poll(t.Context())
	return s
}

// response is a response, and until when it may be read.
type response struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (r *response) SetWriteDeadline(at time.Time) error {
	r.deadline = at
	return nil
}

func (s *site) send(method, path, encoding string) *response {
	w := &response{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("Accept-Encoding", encoding)
	s.handler.ServeHTTP(w, r)
	return w
}

func (s *site) get(path string) *response { return s.send(http.MethodGet, path, "") }

// page returns a page that must exist.
func (s *site) page(path string) string {
	s.Helper()
	w := s.get(path)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		s.Fatalf("%s: status %d, %s: %.300s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	return w.Body.String()
}

// some are tasks of two regions: with every status, failed and missing backups, a
// deleted instance, and several backups in a day.
func some() map[string][]crsapi.Task {
	task := func(instance, name, what string, days int, clock string, status crsapi.Status) crsapi.Task {
		ofDay, err := time.ParseDuration(clock)
		if err != nil {
			panic(err)
		}
		t := crsapi.Task{
			RedisID: instance, RedisName: name, ProjectID: "0", TaskName: what, Status: status, Progress: 1,
			// Midnight in the API's zone is 16:00 of the day before in UTC.
			StartTime: bubbleStart.Add(-8*time.Hour - time.Duration(days)*24*time.Hour + ofDay),
		}
		switch status {
		case crsapi.StatusPending:
			t.Progress = 0
		case crsapi.StatusExecuting:
			t.Progress = 0.25
		default:
			t.EndTime = t.StartTime.Add(95 * time.Second)
		}
		return t
	}
	const ok, bad, running, pending = crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusExecuting, crsapi.StatusPending
	var gz []crsapi.Task
	for days := 6; days > 0; days-- {
		gz = append(gz, task("crs-good", "sessions", "backupInstance", days, "1h", ok))
	}
	gz = append(gz,
		task("crs-good", "sessions", "backupInstance", 0, "1h", ok),
		task("crs-good", "sessions", "resizeInstance", 0, "7h30m", running),
		task("crs-failed", "carts", "backupInstance", 2, "1h", ok),
		task("crs-failed", "carts", "backupInstance", 1, "1h", bad),
		task("crs-failed", "carts", "backupInstance", 1, "1h10m", ok),
		task("crs-failed", "carts", "backupInstance", 0, "1h", bad),
		task("crs-missing", "ranking", "backupInstance", 3, "2h", ok),
		task("crs-stuck", "mail", "backupInstance", 0, "1h", ok),
		task("crs-stuck", "mail", "backupInstance", 0, "3h", running),
		task("crs-stuck", "mail", "backupInstance", 0, "7h50m", pending),
		task("crs-under-way", "mail", "backupInstance", 1, "4h", ok),
		task("crs-under-way", "mail", "backupInstance", 0, "5h50m", pending),
		task("crs-deleted", "old", "backupInstance", 5, "1h", bad),
		task("crs-deleted", "old", "deleteInstance", 4, "1h", ok),
		task("crs-never", "", "setPassword", 4, "9h", ok),
	)
	return map[string][]crsapi.Task{
		guangzhou: gz,
		shanghai:  {task("crs-other", "search", "AUTOBACKUP", 0, "3h", ok), task("crs-other", "search", "AUTOBACKUP", 1, "3h", bad)},
	}
}

// fleet returns a backup of each instance for each day.
func fleet(now time.Time, instances, days int) []crsapi.Task {
	var tasks []crsapi.Task
	for day := range days {
		for i := range instances {
			status := crsapi.StatusSucceeded
			if (day+i)%17 == 0 {
				status = crsapi.StatusFailed
			}
			tasks = append(tasks, crsapi.Task{
				RedisID: fmt.Sprintf("crs-%08d", i), RedisName: fmt.Sprintf("%056d", i), ProjectID: "0", TaskName: "backupInstance",
				StartTime: now.Add(-time.Hour - time.Duration(day)*24*time.Hour - time.Duration(i)*time.Second), Status: status, Progress: 1,
			})
		}
	}
	return tasks
}
