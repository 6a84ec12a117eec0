package pages_test

import (
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
	instances []crsapi.Instance // of the inventory
	err       error             // of polls
	takes     time.Duration     // a poll
	read, due int               // progress
	observe   func(crsapi.Attempt)
}

func (*region) API() crsapi.API                                    { return crsapi.API30 }
func (*region) Limiter() *rate.Limiter                             { return nil }
func (r *region) Open(collector.Filter) collector.List             { return r }
func (*region) TaskMessage(context.Context, int64) (string, error) { return "", nil }

func (r *region) Instances(context.Context, int) ([]crsapi.Instance, int, error) {
	return r.instances, len(r.instances), nil
}

func (r *region) Progress() (read, due int) { return r.read, r.due }

func (r *region) Poll(context.Context, int) (*mirror.Result, error) {
	time.Sleep(r.takes)
	r.observe(crsapi.Attempt{})
	if r.err != nil {
		return &mirror.Result{}, r.err
	}
	slices.SortStableFunc(r.tasks, func(a, b crsapi.Task) int { return a.StartTime.Compare(b.StartTime) })
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

// newSite returns the pages of these tasks. The exporter has not polled yet. If there is an
// inventory, it is that of each region.
func newSite(t testing.TB, tasks map[string][]crsapi.Task, inventory ...crsapi.Instance) *site {
	t.Helper()
	s := &site{TB: t, regions: map[string]*region{}, credentials: func() string { return "cvm-role" }}
	every := time.Minute
	if len(inventory) == 0 {
		every = 0
	}
	var err error
	s.exporter, err = collector.New(collector.Config{
		Regions: []string{guangzhou, shanghai}, Inventory: every,
		Dial: func(name string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
			s.regions[name] = &region{tasks: slices.Clone(tasks[name]), instances: inventory, observe: observe}
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

func (s *site) send(path, encoding string) *response {
	w := &response{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept-Encoding", encoding)
	s.handler.ServeHTTP(w, r)
	return w
}

func (s *site) get(path string) *response { return s.send(path, "") }

// page returns a page that must exist.
func (s *site) page(path string) string {
	s.Helper()
	w := s.get(path)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		s.Fatalf("%s: status %d, %s: %.300s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	return w.Body.String()
}

// task returns a task that was submitted this long before the bubble began.
func task(redisID, redisName, taskName string, age time.Duration, status crsapi.Status) crsapi.Task {
	t := crsapi.Task{
		RedisID: redisID, RedisName: redisName, ProjectID: "0", TaskName: taskName, Status: status,
		StartTime: bubbleStart.Add(-age),
	}
	switch status {
	case crsapi.StatusPending:
	case crsapi.StatusExecuting:
		t.Progress = 0.256
	default:
		t.Progress, t.EndTime = 1, t.StartTime.Add(95*time.Second)
	}
	return t
}

// backup returns a backup of an instance without a name.
func backup(redisID string, age time.Duration, status crsapi.Status) crsapi.Task {
	return task(redisID, "", "backupInstance", age, status)
}

// some are tasks of two regions: with every status, failed and missing backups, a
// deleted instance, and several backups in a day.
func some() map[string][]crsapi.Task {
	const ok, bad, running, pending = crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusExecuting, crsapi.StatusPending
	// Midnight in the API's zone is 16:00 of the day before in UTC.
	at := func(daysAgo time.Duration, clock time.Duration) time.Duration {
		return 8*time.Hour + daysAgo*24*time.Hour - clock
	}
	var gz []crsapi.Task
	for days := time.Duration(6); days >= 0; days-- {
		gz = append(gz, task("crs-good", "sessions", "backupInstance", at(days, time.Hour), ok))
	}
	gz = append(gz,
		task("crs-good", "sessions", "resizeInstance", at(0, 450*time.Minute), running),
		task("crs-failed", "carts", "backupInstance", at(2, time.Hour), ok),
		task("crs-failed", "carts", "backupInstance", at(1, time.Hour), crsapi.StatusError),
		task("crs-failed", "carts", "backupInstance", at(1, 70*time.Minute), ok),
		task("crs-failed", "carts", "backupInstance", at(0, time.Hour), bad),
		task("crs-missing", "Ranking", "backupInstance", at(3, 2*time.Hour), ok),
		task("crs-stuck", "mail", "backupInstance", at(0, time.Hour), ok),
		task("crs-stuck", "mail", "backupInstance", at(0, 3*time.Hour), running),
		task("crs-stuck", "mail", "backupInstance", at(0, 470*time.Minute), pending),
		task("crs-under-way", "mail", "backupInstance", at(1, 4*time.Hour), ok),
		task("crs-under-way", "mail", "backupInstance", at(0, 350*time.Minute), pending),
		task("crs-deleted", "old", "backupInstance", at(5, time.Hour), bad),
		task("crs-deleted", "old", "deleteInstance", at(4, time.Hour), ok),
		task("crs-never", "", "setPassword", at(4, 9*time.Hour), ok),
	)
	return map[string][]crsapi.Task{
		guangzhou: gz,
		shanghai:  {task("crs-other", "search", "AUTOBACKUP", at(0, 3*time.Hour), ok), task("crs-other", "search", "AUTOBACKUP", at(1, 3*time.Hour), bad)},
	}
}

// fleet returns a backup of each instance for each day, the last one an hour ago or earlier.
func fleet(earlier time.Duration, instances, days int) (tasks []crsapi.Task) {
	for n := range days * instances {
		day, i := n/instances, n%instances
		status := crsapi.StatusSucceeded
		if (day+i)%17 == 0 {
			status = crsapi.StatusFailed
		}
		age := earlier + time.Hour + time.Duration(day)*24*time.Hour + time.Duration(i)*time.Second
		tasks = append(tasks, task(fmt.Sprintf("crs-%08d", i), fmt.Sprintf("%056d", i), "backupInstance", age, status))
	}
	return tasks
}
