package collector_test

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"
)

// underRace reports whether the race detector is on. It makes tests ten times slower, so
// that they run through one API and with fewer seeds.
var underRace = func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()

func TestMain(m *testing.M) {
	if underRace {
		if err := flag.Set("rapid.checks", "20"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	guangzhou = "ap-guangzhou"
	shanghai  = "ap-shanghai"

	backup = "backupInstance"
	clean  = "cleanInstance"

	day     = 24 * time.Hour
	maxPoll = 5 * time.Minute
)

// Series of ap-guangzhou, for fmt.Sprintf.
const (
	tasksSeries  = "crs_tasks{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	lastSeries   = "crs_task_last_start_timestamp_seconds{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	oldestSeries = "crs_task_oldest_start_timestamp_seconds{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	lastedSeries = "crs_task_last_duration_seconds{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}"
	backupSeries = "crs_backup_last_start_timestamp_seconds{outcome=%q,redisId=%q,region=\"ap-guangzhou\"}"
	infoSeries   = "crs_instance_info{projectId=%q,redisId=%q,redisName=%q,region=\"ap-guangzhou\"}"
)

var documented = []string{"pending", "executing", "succeeded", "failed", "error"}

// list is the result of a poll that read one page with these tasks.
func list(tasks ...crsapi.Task) *mirror.Result { return &mirror.Result{Tasks: tasks, Pages: 1} }

// fakeSource answers every poll with what it was last set to, after a delay.
type fakeSource struct {
	observe func(crsapi.Attempt)                                                  // set by newExporter
	api     crsapi.API                                                            // API 2.0 if empty
	due     int                                                                   // pages of a first reading, half of which are read
	answer  func(ctx context.Context, f collector.Filter) (*mirror.Result, error) // instead of list and err

	mu      sync.Mutex
	list    *mirror.Result
	err     error
	delay   time.Duration
	filters []collector.Filter // of each poll
	ended   []error            // the cause of each poll's context at its end
}

func (s *fakeSource) API() crsapi.API                        { return cmp.Or(s.api, crsapi.API20) }
func (s *fakeSource) Limiter() *rate.Limiter                 { return nil }
func (s *fakeSource) Open(f collector.Filter) collector.List { return &fakeList{source: s, filter: f} }

func (s *fakeSource) TaskMessage(context.Context, int64) (string, error) { return "", nil }

func (s *fakeSource) Instances(context.Context, int) ([]crsapi.Instance, int, error) {
	return nil, 0, nil
}

func (s *fakeSource) set(list *mirror.Result, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.err = list, err
}

func (s *fakeSource) poll(ctx context.Context, f collector.Filter) (*mirror.Result, error) {
	s.mu.Lock()
	s.filters = append(s.filters, f)
	delay := s.delay
	s.mu.Unlock()
	if s.answer != nil {
		return s.answer(ctx, f)
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cause := context.Cause(ctx)
	if s.ended = append(s.ended, cause); cause != nil {
		return &mirror.Result{}, fmt.Errorf("poll: %w", cause)
	}
	return cmp.Or(s.list, &mirror.Result{}), s.err
}

// fakeList reads everything at every poll.
type fakeList struct {
	source *fakeSource
	filter collector.Filter
	tasks  []crsapi.Task
}

func (l *fakeList) Poll(ctx context.Context, _ int) (*mirror.Result, error) {
	begin := time.Now()
	found, err := l.source.poll(ctx, l.filter)
	if err != nil {
		return found, err
	}
	r := *found
	tasks := slices.SortedStableFunc(slices.Values(r.Tasks), func(a, b crsapi.Task) int {
		return cmp.Or(a.StartTime.Compare(b.StartTime), cmp.Compare(a.RedisID, b.RedisID), cmp.Compare(a.TaskName, b.TaskName))
	})
	if !slices.Equal(l.tasks, tasks) { // else it is the same slice, as of a Mirror
		l.tasks = tasks
	}
	r.Tasks, r.FullRead = l.tasks, cmp.Or(r.FullRead, begin)
	return &r, nil
}

func (l *fakeList) Progress() (read, due int) { return l.source.due / 2, l.source.due }

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

// backupOf is a backup that was submitted some time ago.
func backupOf(redisID string, age time.Duration, status crsapi.Status) crsapi.Task {
	return crsapi.Task{
		RedisID: redisID, RedisName: "x", ProjectID: "0", TaskName: backup,
		StartTime: time.Now().Add(-age).Truncate(time.Second).UTC(), Status: status,
	}
}

// someTask is a list's content where the content does not matter.
var someTask = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded)

type sources map[string]*fakeSource

// newExporter returns an Exporter, of these sources if cfg has no Dial. It is closed when
// the test ends.
func newExporter(t testing.TB, cfg collector.Config, sources sources) *collector.Exporter {
	t.Helper()
	if cfg.Regions == nil {
		cfg.Regions = slices.Sorted(maps.Keys(sources))
	}
	if cfg.Dial == nil {
		cfg.Dial = func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
			sources[region].observe = observe
			return []collector.Source{sources[region]}, nil
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
func watch(t testing.TB, source *fakeSource) *collector.Exporter {
	t.Helper()
	return newExporter(t, collector.Config{}, sources{guangzhou: source})
}

// shown returns what a scrape of a list shows.
func shown(t testing.TB, tasks ...crsapi.Task) samples {
	t.Helper()
	return scrape(t, watch(t, &fakeSource{list: list(tasks...)}))
}

// stateful is an Exporter of ap-guangzhou with a state file, which can be restarted.
type stateful struct {
	t                 testing.TB
	cfg               collector.Config
	source, successor *fakeSource // no successor if nil
	log               bytes.Buffer
	e                 *collector.Exporter
}

func newStateful(t testing.TB) *stateful {
	t.Helper()
	s := &stateful{t: t, source: &fakeSource{}}
	s.cfg.Regions, s.cfg.Logger, s.cfg.StateFile = []string{guangzhou}, logTo(&s.log), filepath.Join(t.TempDir(), "state")
	s.cfg.Dial = func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
		if s.successor == nil {
			return []collector.Source{s.source}, nil
		}
		return []collector.Source{s.source, s.successor}, nil
	}
	s.restart()
	return s
}

func (s *stateful) restart() {
	s.t.Helper()
	if s.e != nil {
		s.e.Close()
	}
	s.e = newExporter(s.t, s.cfg, nil)
}

// scrape polls the tasks and returns all samples.
func (s *stateful) scrape(tasks ...crsapi.Task) samples {
	s.t.Helper()
	s.source.set(list(tasks...), nil)
	return scrape(s.t, s.e)
}

// want polls the tasks and compares the counters that are not 0.
func (s *stateful) want(what string, want samples, tasks ...crsapi.Task) {
	s.t.Helper()
	wantEqual(s.t, what, s.scrape(tasks...).transitions().nonzero(), want)
}

// eachAPI runs a test through each API, in a bubble.
func eachAPI(t *testing.T, test func(t *testing.T, api crsapi.API)) {
	apis := []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE}
	if underRace {
		apis = []crsapi.API{crsapi.API30}
	}
	for _, api := range apis {
		t.Run("API "+string(api), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, api) })
		})
	}
}

// simulator is a simulated API, with connections that see a bubble's clock, and how the
// real client reads it.
type simulator struct {
	*crsapitest.Server
	apis     []crsapi.API // in the order of succession
	limiter  *rate.Limiter
	pageSize int
	flights  int // requests at the same time
}

func newSimulator(t testing.TB, apis ...crsapi.API) *simulator {
	s := &simulator{Server: crsapitest.NewMemoryServer(), apis: apis, pageSize: 100, flights: 8}
	t.Cleanup(s.Close)
	return s
}

// limited returns a simulator that is sent so many requests a second.
func limited(t testing.TB, api crsapi.API, perSecond float64) *simulator {
	s := newSimulator(t, api)
	s.limiter = crsapi.NewLimiter(perSecond)
	return s
}

// config returns how the client reads an API.
func (s *simulator) config(api crsapi.API) crsapi.Config {
	cfg := crsapi.DefaultConfig(api)
	cfg.Concurrency = s.flights
	cfg.Limiter, cfg.PageSize, cfg.Endpoint, cfg.Transport = s.limiter, s.pageSize, s.URL, s.Client().Transport
	if api != crsapi.API20 {
		cfg.Endpoint = s.URL3
	}
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	return cfg
}

// watch returns an Exporter of ap-guangzhou, or of other regions.
func (s *simulator) watch(t testing.TB, cfg collector.Config, regions ...string) *collector.Exporter {
	t.Helper()
	if cfg.Regions = regions; len(regions) == 0 {
		cfg.Regions = []string{guangzhou}
	}
	var configs []crsapi.Config
	for _, api := range s.apis {
		configs = append(configs, s.config(api))
	}
	cfg.TimeoutOffset, cfg.Dial = 500*time.Millisecond, collector.DialAPIs(configs...)
	return newExporter(t, cfg, nil)
}

const (
	textFormat        = "text/plain;version=0.0.4"
	openMetricsFormat = "application/openmetrics-text;version=1.0.0"
	protobufFormat    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// request is a GET of the metrics with header fields, given as names and values.
func request(header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// scrapeAs scrapes e as a Prometheus that accepts the format, with a timeout of
// ten seconds.
func scrapeAs(t testing.TB, e *collector.Exporter, format string) string {
	t.Helper()
	w := serve(e.Handler(), request("Accept", format, "X-Prometheus-Scrape-Timeout-Seconds", "10"))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func scrape(t testing.TB, e *collector.Exporter) samples {
	t.Helper()
	return parse(scrapeAs(t, e, textFormat))
}

// poll polls like a scrape with this timeout. The result is not delivered, so that no series
// counts as shown.
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

func (s samples) where(keep func(series, value string) bool) samples {
	kept := maps.Clone(s)
	maps.DeleteFunc(kept, func(series, value string) bool { return !keep(series, value) })
	return kept
}

// of returns the samples of some families.
func (s samples) of(families ...string) samples {
	return s.where(func(series, _ string) bool {
		name, _, _ := strings.Cut(series, "{")
		return slices.Contains(families, name)
	})
}

func (s samples) nonzero() samples {
	return s.where(func(_, value string) bool { return value != "0" })
}

// listed returns the samples that describe the list.
func (s samples) listed() samples {
	return s.of("crs_tasks", "crs_task_last_start_timestamp_seconds", "crs_task_oldest_start_timestamp_seconds",
		"crs_task_last_duration_seconds", "crs_backup_last_start_timestamp_seconds", "crs_instance_info")
}

func (s samples) transitions() samples { return s.of("crs_task_transitions_total") }

func (s samples) up(region string) bool { return s[fmt.Sprintf("crs_up{region=%q}", region)] == "1" }

// wantUp wants ap-guangzhou to be up.
func (s samples) wantUp(t testing.TB) {
	t.Helper()
	s.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"})
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

// transitions names a counter of ap-guangzhou.
func transitions(redisID, taskName, status string) string {
	return fmt.Sprintf("crs_task_transitions_total{redisId=%q,region=\"ap-guangzhou\",status=%q,taskName=%q}", redisID, status, taskName)
}

// failures returns the failures without zeros. It closes e first, so that the scrape
// which reads them does not poll.
func failures(t testing.TB, e *collector.Exporter) samples {
	t.Helper()
	e.Close()
	return scrape(t, e).of("crs_api_failures_total").nonzero()
}

func failuresOf(reason crsapi.Reason) string {
	return fmt.Sprintf("crs_api_failures_total{reason=%q,region=%q}", reason, guangzhou)
}

// decimal writes a number as an exposition does.
func decimal(value float64) string {
	return strconv.FormatFloat(value, 'g', -1, 64)
}

func logTo(w io.Writer) log.Logger { return log.NewLogfmtLogger(log.NewSyncWriter(w)) }
