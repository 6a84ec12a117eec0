package collector

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeList is a List that holds its tasks as they are.
type fakeList struct {
	tasks           []crsapi.Task
	rejected, pages int
}

func (l *fakeList) All() iter.Seq[crsapi.Task] { return slices.Values(l.tasks) }
func (l *fakeList) Len() int                   { return len(l.tasks) }
func (l *fakeList) Rejected() int              { return l.rejected }
func (l *fakeList) Pages() int                 { return l.pages }

func list(tasks ...crsapi.Task) *fakeList { return &fakeList{tasks: tasks, pages: 1} }

// sourceFunc makes a function a Source.
type sourceFunc func(ctx context.Context, q crsapi.Query) (List, error)

func (f sourceFunc) Sweep(ctx context.Context, q crsapi.Query) (List, error) { return f(ctx, q) }

// fakeSource answers every sweep with what it was last set to, after delay.
type fakeSource struct {
	mu      sync.Mutex
	list    List
	err     error
	delay   time.Duration
	calls   int
	queries []crsapi.Query
	ended   []error // cause of each sweep's context at its end
}

func (s *fakeSource) set(list List, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.err = list, err
}

func (s *fakeSource) take(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = delay
}

func (s *fakeSource) Sweep(ctx context.Context, q crsapi.Query) (List, error) {
	s.mu.Lock()
	s.calls++
	s.queries = append(s.queries, q)
	delay := s.delay
	s.mu.Unlock()

	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, context.Cause(ctx))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("sweep: %w", ctx.Err())
	}
	return s.list, s.err
}

func (s *fakeSource) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// beijing is a time as the API writes it.
func beijing(text string) time.Time {
	t, err := time.ParseInLocation(time.DateTime, text, time.FixedZone("UTC+8", 8*60*60))
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

func task(redisID, taskName, start string, status crsapi.Status) crsapi.Task {
	return crsapi.Task{
		RedisID: redisID, RedisName: "name of " + redisID, ProjectID: "0",
		TaskName: taskName, StartTime: beijing(start), Status: status,
	}
}

// newTestExporter returns an Exporter of the given sources, which is closed
// when the test ends.
func newTestExporter(t testing.TB, cfg Config, sources map[string]Source) *Exporter {
	t.Helper()
	for name := range sources {
		cfg.Regions = append(cfg.Regions, name)
	}
	slices.Sort(cfg.Regions)
	if cfg.Dial == nil {
		cfg.Dial = func(region string, _ func(crsapi.Attempt)) (Source, error) { return sources[region], nil }
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}
