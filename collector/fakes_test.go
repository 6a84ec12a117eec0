package collector_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	guangzhou = "ap-guangzhou"
	shanghai  = "ap-shanghai"

	backup = "backupInstance"
	clean  = "cleanInstance"
)

// swept is a list that was read.
type swept interface {
	All() iter.Seq[crsapi.Task]
	Len() int
	Rejected() int
	Pages() int
}

// sweeper reads lists.
type sweeper interface {
	Sweep(ctx context.Context, q crsapi.Query) (swept, error)
}

// openSweeps is a collector.List that reads everything at every poll. Of a list
// that changed it tells what changed.
type openSweeps struct {
	sweeper
	query    crsapi.Query
	lookback time.Duration
	last     swept // nil before the first
}

func open(s sweeper, f collector.Filter) collector.List {
	return &openSweeps{
		sweeper: s, lookback: f.Lookback, last: list(),
		query: crsapi.Query{RedisID: f.RedisID, TaskTypes: f.TaskTypes},
	}
}

func (l *openSweeps) Poll(ctx context.Context, full bool) (*mirror.Result, error) {
	q := l.query
	if l.lookback > 0 {
		q.BeginTime = time.Now().Add(-l.lookback)
	}
	now, err := l.Sweep(ctx, q)
	result := &mirror.Result{Changed: map[mirror.Key]struct{}{}}
	if now != nil {
		result.Pages, result.Rejected = now.Pages(), now.Rejected()
	}
	if err != nil {
		return result, err
	}
	if full {
		result.Full = []mirror.Cause{mirror.Due}
	}
	before, after := tasksByKey(l.last), tasksByKey(now)
	for key := range after {
		if !slices.Equal(before[key], after[key]) {
			result.Changed[key] = struct{}{}
		}
	}
	for key := range before {
		if after[key] == nil {
			result.Changed[key] = struct{}{}
		}
	}
	l.last = now
	return result, nil
}

func keyOf(t crsapi.Task) mirror.Key {
	return mirror.Key{RedisID: t.RedisID, TaskName: t.TaskName, Second: t.StartTime.Unix()}
}

func tasksByKey(l swept) map[mirror.Key][]crsapi.Task {
	all := map[mirror.Key][]crsapi.Task{}
	for t := range l.All() {
		all[keyOf(t)] = append(all[keyOf(t)], t)
	}
	return all
}

func (l *openSweeps) At(key mirror.Key) (tasks []crsapi.Task) {
	for t := range l.last.All() {
		if keyOf(t) == key {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

func (l *openSweeps) Verify(context.Context, func(context.Context) error) error { return nil }
func (l *openSweeps) Progress() (read, due int)                                 { return 0, 0 }
func (l *openSweeps) Len() int                                                  { return l.last.Len() }

func (l *openSweeps) All() iter.Seq[crsapi.Task] { return l.last.All() }

func (l *openSweeps) Tasks() collector.Tasks { return sweptTasks{l.last} }

type sweptTasks struct{ swept }

func (l sweptTasks) Newest(from, to time.Time) iter.Seq[crsapi.Task] {
	return func(yield func(crsapi.Task) bool) {
		for _, t := range slices.SortedStableFunc(l.All(), func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) }) {
			if !from.IsZero() && t.StartTime.Before(from) || !to.IsZero() && t.StartTime.After(to) {
				continue
			}
			if !yield(t) {
				return
			}
		}
	}
}

// fakeList holds its tasks as they are.
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
type sourceFunc func(ctx context.Context, q crsapi.Query) (swept, error)

func (f sourceFunc) Sweep(ctx context.Context, q crsapi.Query) (swept, error) {
	return f(ctx, q)
}

func (sourceFunc) API() crsapi.API                          { return crsapi.API20 }
func (sourceFunc) Limiter() *rate.Limiter                   { return nil }
func (f sourceFunc) Open(q collector.Filter) collector.List { return open(f, q) }

func (sourceFunc) Pages(context.Context, collector.Filter) (int, error) { return 1, nil }

func (sourceFunc) TaskMessage(context.Context, int64) (string, error) { return "", nil }

func only(source collector.Source) []collector.Source { return []collector.Source{source} }

func always(l swept) collector.Source {
	return sourceFunc(func(context.Context, crsapi.Query) (swept, error) { return l, nil })
}

// fakeSource answers every sweep with what it was last set to, after a delay.
type fakeSource struct {
	api     crsapi.API // API 2.0 if empty
	message func(ctx context.Context, taskID int64) (string, error)

	mu      sync.Mutex
	list    swept
	err     error
	delay   time.Duration
	calls   int
	queries []crsapi.Query
	ended   []error // the state of each sweep's context at its end
}

func (s *fakeSource) API() crsapi.API                        { return cmp.Or(s.api, crsapi.API20) }
func (s *fakeSource) Limiter() *rate.Limiter                 { return nil }
func (s *fakeSource) Open(q collector.Filter) collector.List { return open(s, q) }

func (s *fakeSource) Pages(context.Context, collector.Filter) (int, error) { return 1, nil }

func (s *fakeSource) TaskMessage(ctx context.Context, taskID int64) (string, error) {
	return s.message(ctx, taskID)
}

func (s *fakeSource) set(list swept, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.err = list, err
}

func (s *fakeSource) setDelay(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = delay
}

func (s *fakeSource) Sweep(ctx context.Context, q crsapi.Query) (swept, error) {
	s.mu.Lock()
	s.calls++
	s.queries = append(s.queries, q)
	delay := s.delay
	s.mu.Unlock()

	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, context.Cause(ctx))
	if context.Cause(ctx) != nil {
		return nil, fmt.Errorf("sweep: %w", context.Cause(ctx))
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

// someTask is a list's content where the content does not matter.
var someTask = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded)

// newExporter returns an Exporter of the given sources, which is closed when
// the test ends.
func newExporter(t testing.TB, cfg collector.Config, sources map[string]collector.Source) *collector.Exporter {
	t.Helper()
	cfg.Regions = slices.Sorted(maps.Keys(sources))
	if cfg.Dial == nil {
		cfg.Dial = func(region string, _ func(crsapi.Attempt)) ([]collector.Source, error) {
			return only(sources[region]), nil
		}
	}
	e, err := collector.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// watch returns an Exporter of one region, ap-guangzhou.
func watch(t testing.TB, source collector.Source) *collector.Exporter {
	t.Helper()
	return newExporter(t, collector.Config{}, map[string]collector.Source{guangzhou: source})
}

const (
	textFormat        = "text/plain;version=0.0.4"
	openMetricsFormat = "application/openmetrics-text;version=1.0.0"
	protobufFormat    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// scrapeAs scrapes e as a Prometheus that accepts the format, with a timeout of
// ten seconds.
func scrapeAs(t testing.TB, e *collector.Exporter, format string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", format)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// samples are the values of a text exposition by series, as the text has them.
type samples map[string]string

func parse(text string) samples {
	all := samples{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			all[line[:i]] = strings.TrimSuffix(line[i+1:], "\n")
		}
	}
	return all
}

func scrape(t testing.TB, e *collector.Exporter) samples {
	t.Helper()
	return parse(scrapeAs(t, e, textFormat))
}

// poll polls like a scrape that waits so long, but whose result nobody sees.
func poll(t testing.TB, e *collector.Exporter, timeout time.Duration) samples {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return exposed(t, e.Poll(ctx))
}

// exposed returns what results expose, checked as a registry checks.
func exposed(t testing.TB, results *collector.Results) samples {
	t.Helper()
	families, err := prometheus.Gatherers{results}.Gather()
	if err != nil {
		t.Error(err)
	}
	var text strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Error(err)
		}
	}
	return parse(text.String())
}

// of returns the samples of some families.
func (s samples) of(families ...string) samples {
	kept := samples{}
	for series, value := range s {
		name, _, _ := strings.Cut(series, "{")
		if slices.Contains(families, name) {
			kept[series] = value
		}
	}
	return kept
}

// in returns the samples of one region.
func (s samples) in(region string) samples {
	kept := samples{}
	for series, value := range s {
		if strings.Contains(series, fmt.Sprintf("region=%q", region)) {
			kept[series] = value
		}
	}
	return kept
}

func (s samples) nonzero() samples {
	kept := maps.Clone(s)
	maps.DeleteFunc(kept, func(_, value string) bool { return value == "0" })
	return kept
}

// listed returns the samples that describe the list.
func (s samples) listed() samples {
	return s.of("crs_tasks", "crs_task_last_start_timestamp_seconds", "crs_task_oldest_start_timestamp_seconds",
		"crs_task_last_duration_seconds", "crs_backup_last_start_timestamp_seconds",
		"crs_backup_usual_interval_seconds", "crs_instance_gone", "crs_instance_alive_since_timestamp_seconds",
		"crs_instance_oldest_start_timestamp_seconds", "crs_instance_info")
}

func (s samples) transitions() samples { return s.of("crs_task_transitions_total") }

func (s samples) up(region string) bool { return s[fmt.Sprintf("crs_up{region=%q}", region)] == "1" }

// transitions names a counter of ap-guangzhou.
func transitions(redisID, taskName, status string) string {
	return transitionsIn(guangzhou, redisID, taskName, status)
}

func transitionsIn(region, redisID, taskName, status string) string {
	return fmt.Sprintf("crs_task_transitions_total{redisId=%q,region=%q,status=%q,taskName=%q}", redisID, region, status, taskName)
}

// want compares some samples. An empty value wants no such series.
func (s samples) want(t testing.TB, wanted samples) {
	t.Helper()
	for _, series := range slices.Sorted(maps.Keys(wanted)) {
		if s[series] != wanted[series] {
			t.Errorf("%s is %q, want %q", series, s[series], wanted[series])
		}
	}
}

func wantEqual(t testing.TB, what string, got, want samples) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// failures returns the failures of a region by reason, without zeros. It closes
// e first, so that the scrape which reads them does not poll.
func failures(t testing.TB, e *collector.Exporter, region string) samples {
	t.Helper()
	e.Close()
	counts := samples{}
	for series, value := range scrape(t, e).of("crs_api_failures_total").in(region).nonzero() {
		_, rest, _ := strings.Cut(series, `reason="`)
		reason, _, _ := strings.Cut(rest, `"`)
		counts[reason] = value
	}
	return counts
}
