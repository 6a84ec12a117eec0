package collector_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

var update = flag.Bool("update", false, "write the golden files")

// withoutRuntime drops the families that differ from run to run: those of the
// Go runtime, the process, the build and the HTTP handler.
func withoutRuntime(body string) string {
	var kept strings.Builder
	keep := true
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(line, "# HELP "); ok {
			keep = strings.HasPrefix(name, "crs_") && !strings.HasPrefix(name, "crs_exporter_build_info")
		}
		if keep || line == "# EOF\n" {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func wantGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		_ = os.WriteFile(path, []byte(got), 0o644) // else it differs
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it). Got:\n%s", path, got)
	}
}

// odd is a task name that tests the escaping of the exposition.
const odd = "back\\up \"now\"\nétat 🧨 {a=\"b\"} # 1"

// everything returns an Exporter whose next scrape has something in every
// family: every status, tasks of the same second, odd names, an instance that
// is not listed any more, counters of all kinds.
func everything(t *testing.T) *collector.Exporter {
	source := &fakeSource{delay: 250 * time.Millisecond}
	e := newExporter(t, collector.Config{PagesURL: "https://prometheus.example.com/crs"}, sources{guangzhou: source})

	running := task("crs-a", backup, "2017-02-10 04:00:00", crsapi.StatusExecuting)
	twin := task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusExecuting)
	nameless := crsapi.Task{RedisID: "crs-b", StartTime: beijing("2017-02-10 02:00:00"), Status: crsapi.StatusPending}
	oddly := task("crs-c", odd, "2017-02-10 01:00:00", crsapi.StatusPending)
	oddly.RedisName = odd
	other := task("crs-c", clean, "2017-02-09 01:00:00", crsapi.StatusSucceeded)
	gone := task("crs-d", clean, "2017-02-09 01:00:00", crsapi.StatusFailed)
	deleted := task("crs-e", "deleteInstance", "2017-02-09 02:00:00", crsapi.StatusSucceeded)
	old := []crsapi.Task{
		task("crs-f", backup, "2017-01-05 03:00:00", crsapi.StatusSucceeded),
		task("crs-f", backup, "2017-01-04 03:00:30", crsapi.StatusSucceeded),
		task("crs-f", backup, "2017-01-03 03:00:00", crsapi.StatusFailed),
		task("crs-f", backup, "2017-01-02 03:00:00", crsapi.StatusSucceeded),
		task("crs-f", "newInstance", "2017-01-01 00:00:00", crsapi.StatusSucceeded),
		// Of one name, the newest failure is an error; the oldest unfinished task counts.
		task("crs-g", clean, "2017-02-08 01:00:00", crsapi.StatusFailed),
		task("crs-g", clean, "2017-02-08 02:00:00", crsapi.StatusError),
		task("crs-g", clean, "2017-02-08 03:00:00", crsapi.StatusSucceeded),
		task("crs-g", "AUTOBACKUP", "2017-02-08 04:00:00", crsapi.StatusFailed),
		task("crs-g", "AUTOBACKUP", "2017-02-08 05:00:00", crsapi.StatusExecuting),
		task("crs-g", "AUTOBACKUP", "2017-02-08 06:00:00", crsapi.StatusPending),
		task("crs-e", backup, "2017-02-09 01:00:00", crsapi.StatusFailed), // before it was deleted
	}
	old[7].EndTime = old[7].StartTime.Add(time.Hour)
	source.set(&mirror.Result{Tasks: append([]crsapi.Task{running, twin, twin, nameless, oddly, other, gone, deleted}, old...), Pages: 1}, nil)
	source.observe(crsapi.Attempt{Duration: 40 * time.Millisecond, HasClockSkew: true, ClockSkew: 2 * time.Second})
	scrape(t, e)
	scrape(t, e) // the second that shows the first 0 of the counters

	time.Sleep(time.Minute - 250*time.Millisecond)
	running.Status, running.EndTime = crsapi.StatusFailed, running.StartTime.Add(90*time.Second)
	ended := twin
	ended.Status = crsapi.StatusSucceeded
	twin.Status = crsapi.StatusError
	nameless.Status = crsapi.Status(9)
	later := task("crs-a", backup, "2017-02-10 05:00:00", crsapi.StatusPending)
	later.RedisName, later.ProjectID = "renamed", "1234"
	brandNew := task("crs-a", clean, "2017-02-10 05:00:00", crsapi.StatusFailed)
	source.set(&mirror.Result{Tasks: append([]crsapi.Task{later, later, brandNew, running, ended, twin, nameless, oddly, other, deleted}, old...), Pages: 2, Rejected: 1}, nil)
	source.observe(crsapi.Attempt{Duration: 90 * time.Millisecond, HasClockSkew: true, ClockSkew: -time.Second})
	source.observe(crsapi.Attempt{Duration: 5 * time.Second, Reason: crsapi.ReasonTimeout})
	source.observe(crsapi.Attempt{Action: crsapi.ActionTaskInfo, Reason: crsapi.ReasonDenied}) // harms no list
	registerCredentials(t, e, keyLoaded, keyLoaded.Add(time.Hour))
	return e
}

var keyLoaded = time.Unix(1_700_000_000, 500_000_000)

func registerCredentials(t *testing.T, e *collector.Exporter, lastLoad, expiry time.Time) {
	t.Helper()
	if err := e.Register(collector.NewCredentialsCollector(func() (time.Time, time.Time) { return lastLoad, expiry })); err != nil {
		t.Fatal(err)
	}
}

func TestExpositionOfEverything(t *testing.T) {
	for file, format := range map[string]string{"everything.prom": textFormat, "everything.openmetrics": openMetricsFormat} {
		synctest.Test(t, func(t *testing.T) {
			text := scrapeAs(t, everything(t), format)
			wantGolden(t, file, withoutRuntime(text))
			// OpenMetrics names families without _total, which must not make two of one name.
			families := regexp.MustCompile(`(?m)^# TYPE \S+`).FindAllString(text, -1)
			slices.Sort(families)
			if n := len(families); len(slices.Compact(families)) < n {
				t.Error("a family is exposed twice")
			}
		})
	}
}

func TestExpositionOfRegionsThatAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &fakeSource{list: &mirror.Result{Tasks: []crsapi.Task{someTask}, Pages: 1, Rejected: 1}}
		denied := &fakeSource{err: &crsapi.Error{Reason: crsapi.ReasonDenied, Requested: true}}
		e := newExporter(t, collector.Config{TimeoutOffset: 500 * time.Millisecond}, sources{
			"ap-beijing": denied,
			guangzhou:    down,
			"ap-hangs":   &fakeSource{delay: time.Hour},
			shanghai:     &fakeSource{list: list(someTask)},
		})
		registerCredentials(t, e, keyLoaded, time.Time{}) // a key that does not expire
		scrape(t, e)
		// What was up goes down after it has rejected rows.
		denied.observe(crsapi.Attempt{Duration: time.Millisecond, Reason: crsapi.ReasonDenied})
		down.observe(crsapi.Attempt{Duration: time.Millisecond, Reason: crsapi.ReasonAuth})
		down.set(&mirror.Result{Pages: 3, Rejected: 2}, &crsapi.Error{Reason: crsapi.ReasonAuth, Requested: true})
		wantGolden(t, "down.prom", withoutRuntime(scrapeAs(t, e, textFormat)))
	})
}

// families returns all families of a scrape by name, as Prometheus gets them.
func families(t *testing.T, e *collector.Exporter) map[string]*dto.MetricFamily {
	t.Helper()
	decoder := expfmt.NewDecoder(strings.NewReader(scrapeAs(t, e, protobufFormat)), expfmt.NewFormat(expfmt.TypeProtoDelim))
	all := map[string]*dto.MetricFamily{}
	for {
		f := &dto.MetricFamily{}
		if err := decoder.Decode(f); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[f.GetName()] = f
	}
}

// The metrics are those of the tables. Nothing is wrong with them but that the labels have
// the API's own names, which are camelCase.
func TestMetricsAreAsDescribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		found := families(t, everything(t))
		// A full reading that goes on across scrapes has a test of its own.
		described := slices.DeleteFunc(collector.Metrics(), func(m collector.Metric) bool { return strings.HasPrefix(m.Name, "crs_reading_pages") })
		wantDescribed(t, found, described)
		if found["go_goroutines"] == nil || found["process_cpu_seconds_total"] == nil || found["promhttp_metric_handler_requests_total"] == nil {
			t.Error("families of the runtime, the process or the HTTP handler are not exposed")
		}
		// What only the format of protobuf has.
		if h := found["crs_api_request_duration_seconds"].Metric[0].Histogram; len(h.PositiveSpan) == 0 || len(h.Bucket) == 0 {
			t.Errorf("%d native spans and %d classic buckets, want both", len(h.PositiveSpan), len(h.Bucket))
		}
		gatherer := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return slices.Collect(maps.Values(found)), nil })
		problems, err := testutil.GatherAndLint(gatherer)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if p.Text != "label names should be written in 'snake_case' not 'camelCase'" {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
		all := slices.Concat(collector.Metrics(), collector.RegisteredMetrics())
		for name := range found {
			if strings.HasPrefix(name, "crs_") && !slices.ContainsFunc(all, func(m collector.Metric) bool { return m.Name == name }) {
				t.Errorf("%s is exposed, but not described", name)
			}
		}
	})
}

func wantDescribed(t *testing.T, found map[string]*dto.MetricFamily, described []collector.Metric) {
	t.Helper()
	for _, m := range described {
		f := found[m.Name]
		if f == nil {
			t.Errorf("%s is described, but not exposed", m.Name)
			continue
		}
		if got := strings.ToLower(f.GetType().String()); got != m.Type || f.GetHelp() != m.Help {
			t.Errorf("%s is a %s, %q; described as a %s, %q", m.Name, got, f.GetHelp(), m.Type, m.Help)
		}
		described := slices.Sorted(slices.Values(m.Labels))
		for _, metric := range f.Metric {
			if !slices.EqualFunc(metric.Label, described, func(l *dto.LabelPair, name string) bool { return l.GetName() == name }) {
				t.Errorf("%s has labels %v, described as %v", m.Name, metric.Label, described)
			}
		}
	}
}

// A slow reader of one scrape and a fast one of the next each get their own.
func TestResultsNeverChange(t *testing.T) {
	source := &fakeSource{list: list(running)}
	e := watch(t, source)
	scrape(t, e)
	scrape(t, e)
	results := e.Poll(t.Context())
	before := exposed(t, results)
	source.set(list(failed), nil)
	wantEqual(t, "counters", poll(t, e, time.Minute).transitions().nonzero(), failedOnce)
	wantEqual(t, "the results before", exposed(t, results), before)
}

// TestMetricsFile compares the tables of METRICS.md with the code.
func TestMetricsFile(t *testing.T) {
	const begin, end = "<!-- metrics: checked by a test -->\n", "<!-- end of metrics -->"
	text, err := os.ReadFile("METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), begin)
	_, after, _ := strings.Cut(rest, end)
	table := "| metric | type | labels | meaning |\n|---|---|---|---|\n"
	for _, m := range slices.Concat(collector.Metrics(), collector.OptionalMetrics(), collector.RegisteredMetrics()) {
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
	wantGolden(t, "../METRICS.md", before+begin+table+end+after)

	var reasons []crsapi.Reason
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` ").FindAllStringSubmatch(string(text), -1) {
		reasons = append(reasons, crsapi.Reason(row[1]))
	}
	if !slices.Equal(reasons, crsapi.Reasons()) {
		t.Errorf("the table of reasons has %v, want %v", reasons, crsapi.Reasons())
	}
}
