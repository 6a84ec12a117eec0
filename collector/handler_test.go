package collector

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	textFormat        = "text/plain;version=0.0.4"
	openMetricsFormat = "application/openmetrics-text;version=1.0.0"
	protobufFormat    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// scrapeAs scrapes e as a Prometheus that accepts the format, and wants a 200.
func scrapeAs(t *testing.T, e *Exporter, format string) string {
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

func scrape(t *testing.T, e *Exporter) string {
	t.Helper()
	return scrapeAs(t, e, textFormat)
}

// ofTheExporter leaves out the families that differ from run to run: those of
// the Go runtime, the process, the build and the HTTP handler.
func ofTheExporter(body string) string {
	var kept strings.Builder
	keep := true
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(line, "# HELP "); ok {
			keep = strings.HasPrefix(name, "crs_") && !strings.HasPrefix(name, buildInfoMetric.Name)
		}
		if keep || line == "# EOF\n" {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func wantGolden(t *testing.T, name, body string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	got := ofTheExporter(body)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update writes it anew. Got:\n%s", path, got)
	}
}

// wantSample compares one sample of a body in text format; an empty value
// wants the series not to be there.
func wantSample(t *testing.T, body, series, value string) {
	t.Helper()
	got := ""
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			got = strings.TrimSuffix(v, "\n")
		}
	}
	if got != value {
		t.Errorf("%s is %q, want %q", series, got, value)
	}
}

func TestExpositionOfTheDocumentsExample(t *testing.T) {
	row := func(start, taskName string) crsapi.Task {
		return crsapi.Task{
			RedisID: "crs-izbob1wh", RedisName: "for API test", ProjectID: "0",
			TaskName: taskName, StartTime: beijing(start), Status: crsapi.StatusSucceeded, Progress: 1,
		}
	}
	document := list(
		row("2017-02-10 16:56:18", "restoreBackup"),
		row("2017-02-10 15:02:36", backup),
		row("2017-02-10 14:59:29", backup),
		row("2017-02-09 19:00:24", backup),
		row("2017-02-08 19:09:26", backup),
		row("2017-02-08 17:21:32", "restoreBackup"),
		row("2017-02-08 16:46:34", backup),
		row("2017-02-08 15:38:16", clean),
		row("2017-02-08 15:35:25", backup),
	)
	synctest.Test(t, func(t *testing.T) {
		e := newTestExporter(t, Config{}, map[string]Source{
			guangzhou: &fakeSource{list: document, delay: 150 * time.Millisecond},
		})
		wantGolden(t, "document.prom", scrape(t, e))
	})
}

// odd is a task name that tries the exposition's escaping.
const odd = "back\\up \"now\"\nétat 🧨 {a=\"b\"} # 1"

// everything returns an Exporter that has been scraped once, and whose next
// scrape has something in every family: every status, twins, odd names, an
// instance of which nothing is listed any more, counts of all kinds.
func everything(t *testing.T) *Exporter {
	source := &fakeSource{delay: 250 * time.Millisecond}
	var observe func(crsapi.Attempt)
	e := newTestExporter(t, Config{
		Dial: func(_ string, o func(crsapi.Attempt)) (Source, error) {
			observe = o
			return source, nil
		},
	}, map[string]Source{guangzhou: nil})

	running := task("crs-a", backup, "2017-02-10 04:00:00", crsapi.StatusExecuting)
	twin := task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusExecuting)
	nameless := crsapi.Task{RedisID: "crs-b", StartTime: beijing("2017-02-10 02:00:00"), Status: crsapi.StatusPending}
	oddly := task("crs-c", odd, "2017-02-10 01:00:00", crsapi.StatusPending)
	oddly.RedisName = odd
	other := task("crs-c", clean, "2017-02-09 01:00:00", crsapi.StatusSucceeded)
	gone := task("crs-d", clean, "2017-02-09 01:00:00", crsapi.StatusFailed)
	source.set(&fakeList{tasks: []crsapi.Task{running, twin, twin, nameless, oddly, other, gone}, pages: 1}, nil)
	observe(crsapi.Attempt{Duration: 40 * time.Millisecond, HasClockSkew: true, ClockSkew: 2 * time.Second})
	scrape(t, e)

	time.Sleep(time.Minute)
	running.Status = crsapi.StatusFailed
	ended := twin
	ended.Status = crsapi.StatusSucceeded
	twin.Status = crsapi.StatusError
	nameless.Status = crsapi.Status(9)
	later := task("crs-a", backup, "2017-02-10 05:00:00", crsapi.StatusPending)
	later.RedisName, later.ProjectID = "renamed", "1234"
	brandNew := task("crs-a", clean, "2017-02-10 05:00:00", crsapi.StatusFailed)
	source.set(&fakeList{tasks: []crsapi.Task{later, later, brandNew, running, ended, twin, nameless, oddly, other}, pages: 2, rejected: 1}, nil)
	observe(crsapi.Attempt{Duration: 90 * time.Millisecond, HasClockSkew: true, ClockSkew: -time.Second})
	observe(crsapi.Attempt{Duration: 5 * time.Second, Reason: crsapi.ReasonTimeout})
	return e
}

func TestExpositionOfEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wantGolden(t, "everything.prom", scrape(t, everything(t)))
	})
	synctest.Test(t, func(t *testing.T) {
		wantGolden(t, "everything.openmetrics", scrapeAs(t, everything(t), openMetricsFormat))
	})
}

func TestExpositionOfRegionsThatAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			sources = map[string]*fakeSource{
				"ap-beijing": {err: &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true}},
				guangzhou:    {list: &fakeList{tasks: []crsapi.Task{someTask}, pages: 1, rejected: 1}},
				"ap-hangs":   {delay: time.Hour},
				shanghai:     {list: list(someTask)},
			}
			observe = map[string]func(crsapi.Attempt){}
			cfg     = Config{
				TimeoutOffset: 500 * time.Millisecond,
				Dial: func(region string, o func(crsapi.Attempt)) (Source, error) {
					observe[region] = o
					return sources[region], nil
				},
			}
		)
		e := newTestExporter(t, cfg, map[string]Source{"ap-beijing": nil, guangzhou: nil, "ap-hangs": nil, shanghai: nil})
		begin := time.Now()
		scrape(t, e)
		if took := time.Since(begin); took > 9500*time.Millisecond {
			t.Errorf("the scrape took %s of its 10s", took)
		}
		// What was up goes down, with rows that came before it did.
		observe["ap-beijing"](crsapi.Attempt{Duration: time.Millisecond, Reason: crsapi.ReasonDenied})
		observe[guangzhou](crsapi.Attempt{Duration: time.Millisecond, Reason: crsapi.ReasonAuth})
		sources[guangzhou].set(&fakeList{pages: 3, rejected: 2}, &crsapi.Error{Reason: crsapi.ReasonAuth, Requested: true})
		wantGolden(t, "down.prom", scrape(t, e))
	})
}

func TestNothingButEmptyLists(t *testing.T) {
	e := newTestExporter(t, Config{}, map[string]Source{guangzhou: &fakeSource{list: list()}})
	body := scrape(t, e)
	wantSample(t, body, `crs_up{region="ap-guangzhou"}`, "1")
	for _, m := range []Metric{tasksMetric, transitionsMetric, lastStartMetric, oldestStartMetric, instanceInfoMetric} {
		if strings.Contains(body, m.Name) {
			t.Errorf("%s is exposed though nothing is listed", m.Name)
		}
	}
}

// The sequences that DESIGN promises of the counter, as a Prometheus sees them.
func TestTransitionsFromScrapeToScrape(t *testing.T) {
	const failedBackups = `crs_task_transitions_total{redisId="crs-a",region="ap-guangzhou",status="failed",taskName="backupInstance"}`
	at := func(start string, status crsapi.Status) crsapi.Task { return task("crs-a", backup, start, status) }
	var (
		running  = at("2017-02-10 03:00:00", crsapi.StatusExecuting)
		failed   = at("2017-02-10 03:00:00", crsapi.StatusFailed)
		older    = at("2017-02-09 03:00:00", crsapi.StatusFailed)
		listed   = list
		nothing  = listed()
		unrelate = task("crs-a", clean, "2017-02-08 03:00:00", crsapi.StatusSucceeded)
	)
	tests := []struct {
		name  string
		lists []*fakeList
		want  []string
	}{
		{"fails as an older failed one drops off", []*fakeList{listed(running, older), listed(failed)}, []string{"0", "1"}},
		{"vanishes and comes back", []*fakeList{listed(running), listed(failed), nothing, listed(failed)}, []string{"0", "1", "1", "1"}},
		{"a restart counts nothing of the past", []*fakeList{listed(failed, older), listed(failed, older)}, []string{"0", "0"}},
		{"first failure of a new task name", []*fakeList{listed(unrelate), listed(unrelate, failed), listed(unrelate, failed)}, []string{"", "0", "1"}},
		{"first failure of a new instance", []*fakeList{nothing, listed(failed), nothing}, []string{"", "0", "1"}},
		{"fails while the region is down", []*fakeList{listed(running), nil, listed(failed)}, []string{"0", "0", "1"}},
		{"the region is down at first", []*fakeList{nil, listed(failed), listed(failed)}, []string{"", "0", "0"}},
		{"comes and goes while the region is down", []*fakeList{listed(running), nil, nothing}, []string{"0", "0", "0"}},
		{"a birth that is shown while the region is down", []*fakeList{listed(unrelate), listed(unrelate, failed), nil, listed(failed)}, []string{"", "0", "0", "1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := &fakeSource{}
			e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
			for i, list := range test.lists {
				if list == nil {
					source.set(nil, errors.New("down"))
				} else {
					source.set(list, nil)
				}
				body := scrape(t, e)
				t.Logf("scrape %d", i)
				wantSample(t, body, failedBackups, test.want[i])
			}
		})
	}
}

// A poll that no scrape was answered from, like the one at start, must not
// count as one that showed a series' first 0.
func TestOnlyAnAnswerThatArrivesShowsASeries(t *testing.T) {
	const failedBackups = `crs_task_transitions_total{redisId="crs-a",region="ap-guangzhou",status="failed",taskName="backupInstance"}`
	request := func(method, target string) *http.Request {
		return httptest.NewRequest(method, target, nil)
	}
	tests := []struct {
		name  string
		visit func(t *testing.T, e *Exporter)
		want  string
	}{
		{"a poll alone", func(t *testing.T, e *Exporter) { e.Poll(t.Context()) }, "0"},
		{"a scrape", func(t *testing.T, e *Exporter) { scrape(t, e) }, "1"},
		{"a scrape of the counter alone", func(_ *testing.T, e *Exporter) {
			e.Handler().ServeHTTP(httptest.NewRecorder(), request(http.MethodGet, "/metrics?name[]=crs_task_transitions_total"))
		}, "1"},
		{"a scrape of another metric", func(_ *testing.T, e *Exporter) {
			e.Handler().ServeHTTP(httptest.NewRecorder(), request(http.MethodGet, "/metrics?name[]=crs_up"))
		}, "0"},
		{"a request for the header", func(_ *testing.T, e *Exporter) {
			e.Handler().ServeHTTP(httptest.NewRecorder(), request(http.MethodHead, "/metrics"))
		}, "0"},
		{"a scraper that leaves in mid-answer", func(_ *testing.T, e *Exporter) {
			ctx, leave := context.WithCancel(context.Background())
			e.Handler().ServeHTTP(&leaver{httptest.NewRecorder(), leave}, request(http.MethodGet, "/metrics").WithContext(ctx))
		}, "0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := &fakeSource{list: list()}
			e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
			e.Poll(t.Context())
			source.set(list(task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)), nil)
			test.visit(t, e)
			wantSample(t, scrape(t, e), failedBackups, test.want)
		})
	}
}

// leaver is a scraper whose connection breaks at the first byte.
type leaver struct {
	http.ResponseWriter
	leave func()
}

func (w *leaver) Write([]byte) (int, error) {
	w.leave()
	return 0, io.ErrClosedPipe
}

// gatherAll returns all families of a scrape, checked as a registry checks.
func gatherAll(t *testing.T, e *Exporter) []*dto.MetricFamily {
	t.Helper()
	families, err := prometheus.Gatherers{e.Poll(t.Context()), e.registry}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestMetricsAreAsDescribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		described := map[string]Metric{}
		for _, m := range Metrics() {
			slices.Sort(m.Labels)
			described[m.Name] = m
		}
		e := everything(t)
		families := gatherAll(t, e)
		names := make([]string, 0, len(families))
		for _, f := range families {
			names = append(names, f.GetName())
			m, ok := described[f.GetName()]
			if !ok {
				if strings.HasPrefix(f.GetName(), "crs_") {
					t.Errorf("%s is exposed, but not described", f.GetName())
				}
				continue
			}
			delete(described, m.Name)
			if got := strings.ToLower(f.GetType().String()); got != m.Type || f.GetHelp() != m.Help {
				t.Errorf("%s is a %s, %q; described as a %s, %q", m.Name, got, f.GetHelp(), m.Type, m.Help)
			}
			for _, metric := range f.Metric {
				var labels []string
				for _, l := range metric.Label {
					labels = append(labels, l.GetName())
				}
				if !slices.Equal(labels, m.Labels) {
					t.Errorf("%s has labels %v, described as %v", m.Name, labels, m.Labels)
				}
			}
		}
		for name := range described {
			t.Errorf("%s is described, but not exposed", name)
		}
		if !slices.IsSorted(names) {
			t.Errorf("families are out of order: %v", names)
		}
		for _, name := range []string{
			"go_goroutines", "process_cpu_seconds_total", "promhttp_metric_handler_errors_total",
			"promhttp_metric_handler_requests_in_flight", "promhttp_metric_handler_requests_total",
		} {
			if !slices.Contains(names, name) {
				t.Errorf("%s is not exposed", name)
			}
		}
		if own, _ := e.Poll(t.Context()).Gather(); !slices.IsSortedFunc(own, func(a, b *dto.MetricFamily) int {
			return strings.Compare(a.GetName(), b.GetName())
		}) {
			t.Error("the families of the results are out of order")
		}
	})
}

func TestMetricsReturnsACopy(t *testing.T) {
	Metrics()[0].Labels[0] = "changed"
	if taskLabels[0] != "region" {
		t.Error("a caller changed the labels")
	}
}

// The labels have the API's own names, which are camelCase; nothing else may
// be wrong.
func TestMetricsLint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const camelCase = "label names should be written in 'snake_case' not 'camelCase'"
		families := gatherAll(t, everything(t))
		problems, err := testutil.GatherAndLint(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			return families, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		complained := map[string]bool{}
		for _, p := range problems {
			if p.Text != camelCase {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
			complained[p.Metric] = true
		}
		for _, m := range Metrics() {
			camel := slices.Contains(m.Labels, "redisId")
			if complained[m.Name] != camel {
				t.Errorf("%s: camelCase labels are expected %t, found %t", m.Name, camel, complained[m.Name])
			}
		}
	})
}

func TestExpositionParsesInEveryFormat(t *testing.T) {
	t.Run("text", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			parser := expfmt.NewTextParser(model.UTF8Validation)
			families, err := parser.TextToMetricFamilies(strings.NewReader(scrape(t, everything(t))))
			if err != nil {
				t.Fatal(err)
			}
			wantOddName(t, families)
		})
	})
	t.Run("protobuf", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			decoder := expfmt.NewDecoder(strings.NewReader(scrapeAs(t, everything(t), protobufFormat)), expfmt.NewFormat(expfmt.TypeProtoDelim))
			families := map[string]*dto.MetricFamily{}
			for {
				f := &dto.MetricFamily{}
				if err := decoder.Decode(f); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				families[f.GetName()] = f
			}
			wantOddName(t, families)
			h := families[apiDurationMetric.Name].Metric[0].Histogram
			if len(h.PositiveSpan) == 0 || len(h.Bucket) == 0 {
				t.Errorf("%d native spans and %d classic buckets, want both", len(h.PositiveSpan), len(h.Bucket))
			}
			for _, m := range families[transitionsMetric.Name].Metric {
				if m.Counter.CreatedTimestamp == nil {
					t.Errorf("%v has no created timestamp", m.Label)
				}
			}
		})
	})
}

func wantOddName(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	found := false
	for name, f := range families {
		for _, m := range f.Metric {
			if m.TimestampMs != nil {
				t.Errorf("%s carries a timestamp", name)
			}
			found = found || name == tasksMetric.Name &&
				slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "taskName" && l.GetValue() == odd })
		}
	}
	if !found {
		t.Error("the odd task name did not come through")
	}
}

func TestScrapeTimeout(t *testing.T) {
	tests := []struct {
		header string
		want   time.Duration
	}{
		{"", 10 * time.Second},
		{"soon", 10 * time.Second},
		{"10s", 10 * time.Second},
		{"0", 10 * time.Second},
		{"-0", 10 * time.Second},
		{"-5", 10 * time.Second},
		{"NaN", 10 * time.Second},
		{"Inf", 10 * time.Second},
		{"-Inf", 10 * time.Second},
		{"1e999", 10 * time.Second},
		{"1e-12", 10 * time.Second},
		{"3", 3 * time.Second},
		{"2.5", 2500 * time.Millisecond},
		{"1e-3", time.Millisecond},
		{"300", 5 * time.Minute},
		{"301", 5 * time.Minute},
		{"1e300", 5 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.header, func(t *testing.T) {
			if got := scrapeTimeout(test.header); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	tests := []struct {
		name                  string
		timeout, offset, want time.Duration
	}{
		{"as usual", 10 * time.Second, 500 * time.Millisecond, 9500 * time.Millisecond},
		{"no offset", 10 * time.Second, 0, 10 * time.Second},
		{"short", 600 * time.Millisecond, 500 * time.Millisecond, 100 * time.Millisecond},
		{"all eaten", 500 * time.Millisecond, 500 * time.Millisecond, 250 * time.Millisecond},
		{"more than all", time.Second, time.Minute, 500 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := budget(test.timeout, test.offset); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func FuzzScrapeTimeout(f *testing.F) {
	for _, header := range []string{"", "10", "2.5", "-1", "NaN", "1e300", "0x1p-2", "١٠"} {
		f.Add(header, int64(500*time.Millisecond))
	}
	f.Fuzz(func(t *testing.T, header string, offset int64) {
		if offset < 0 {
			offset = -(offset + 1)
		}
		timeout := scrapeTimeout(header)
		if timeout <= 0 || timeout > maxPoll {
			t.Errorf("header %q gives %s", header, timeout)
		}
		if got := budget(timeout, time.Duration(offset)); got < 0 || got > timeout || got == 0 && timeout > 1 {
			t.Errorf("%s less %s gives %s", timeout, time.Duration(offset), got)
		}
	})
}

func TestScrapeAnswersBeforeItsTimeout(t *testing.T) {
	tests := []struct {
		header         string
		atMost, atLast time.Duration
	}{
		{"3", 2500 * time.Millisecond, 2400 * time.Millisecond},
		{"", 9500 * time.Millisecond, 9400 * time.Millisecond},
		{"120", 119500 * time.Millisecond, 119400 * time.Millisecond},
		{"0.2", 100 * time.Millisecond, 90 * time.Millisecond},
		{"nonsense", 9500 * time.Millisecond, 9400 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newTestExporter(t, Config{TimeoutOffset: 500 * time.Millisecond}, map[string]Source{
					guangzhou: &fakeSource{delay: time.Hour},
				})
				r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
				if test.header != "" {
					r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", test.header)
				}
				w := httptest.NewRecorder()
				begin := time.Now()
				e.Handler().ServeHTTP(w, r)
				if took := time.Since(begin); took > test.atMost || took < test.atLast {
					t.Errorf("answered after %s, want between %s and %s", took, test.atLast, test.atMost)
				}
				if w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
				wantSample(t, w.Body.String(), `crs_up{region="ap-guangzhou"}`, "0")
				wantSample(t, w.Body.String(), `crs_api_failures_total{reason="timeout",region="ap-guangzhou"}`, "1")
			})
		})
	}
}

// Over a real connection: a client that hangs up ends its poll.
func TestScraperThatHangsUpEndsItsPoll(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	e := newTestExporter(t, Config{}, map[string]Source{
		guangzhou: sourceFunc(func(ctx context.Context, _ crsapi.Query) (List, error) {
			close(began)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil, ctx.Err()
		}),
	})
	server := httptest.NewServer(e.Handler())
	defer server.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		<-began
		hangUp()
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if response, err := client.Do(r); err == nil {
		response.Body.Close()
		t.Error("the request was answered")
	}
	if cause := <-ended; !errors.Is(cause, context.Canceled) {
		t.Errorf("the sweep was ended for %v", cause)
	}
	e.Close()
	wantFailures(t, e, guangzhou, nil)
}

func TestHealthyAndReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestExporter(t, Config{}, map[string]Source{
			guangzhou: &fakeSource{list: list(), delay: time.Second},
			shanghai:  &fakeSource{err: errors.New("strange"), delay: 2 * time.Second},
		})
		get := func(h http.Handler) string {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			return fmt.Sprint(w.Code, " ", w.Body)
		}
		want := func(when, healthy, ready string) {
			t.Helper()
			if got := get(e.Healthy()); got != healthy+"\n" {
				t.Errorf("%s: healthy says %q, want %q", when, got, healthy)
			}
			if got := get(e.Ready()); got != ready+"\n" {
				t.Errorf("%s: ready says %q, want %q", when, got, ready)
			}
		}
		want("before", "200 healthy", "503 waiting for the first poll of ap-guangzhou, ap-shanghai")
		go e.Poll(t.Context())
		time.Sleep(1500 * time.Millisecond)
		want("one has succeeded", "200 healthy", "503 waiting for the first poll of ap-shanghai")
		time.Sleep(time.Second)
		want("the other has failed", "200 healthy", "200 ready")
	})
}

func TestSmallAndGreatNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tasks []crsapi.Task
		for range 1234 {
			tasks = append(tasks, task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusPending))
		}
		for range len(builder{}.counts) {
			tasks = append(tasks, task("crs-a", clean, "2017-02-10 03:00:00", crsapi.StatusPending))
		}
		tasks = append(tasks, task("crs-a", clean, "1960-01-01 00:00:00", crsapi.StatusFailed))
		e := newTestExporter(t, Config{}, map[string]Source{guangzhou: &fakeSource{list: list(tasks...)}})
		body := scrape(t, e)
		const series = `{redisId="crs-a",region="ap-guangzhou",status=%q,taskName=%q}`
		wantSample(t, body, "crs_tasks"+fmt.Sprintf(series, "pending", backup), "1234")
		wantSample(t, body, "crs_tasks"+fmt.Sprintf(series, "pending", clean), fmt.Sprint(len(builder{}.counts)))
		wantSample(t, body, "crs_tasks"+fmt.Sprintf(series, "failed", clean), "1")
		wantSample(t, body, "crs_task_last_start_timestamp_seconds"+fmt.Sprintf(series, "failed", clean), "-3.15648e+08")
	})
}

// Results never change, so that a slow reader of one scrape and a quick one of
// the next each get what is theirs.
func TestResultsNeverChange(t *testing.T) {
	source := &fakeSource{list: list(task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusExecuting))}
	e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
	scrape(t, e)
	results := e.Poll(t.Context())
	before, _ := results.Gather()
	source.set(list(task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)), nil)
	e.Poll(t.Context())
	after, _ := results.Gather()
	if !reflect.DeepEqual(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}
