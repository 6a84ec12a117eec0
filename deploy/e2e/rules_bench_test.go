package e2e

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/teststorage"
)

var benchRules = flag.String("bench-rules", rulesFile, "the rules file of BenchmarkRules, to compare two versions")

// How BenchmarkRules fills the storage: as long as the longest ranges that the rules read
// for each region, and for each instance.
const (
	benchRegionHistory = 14 * 24 * time.Hour
	benchHistory       = 2 * time.Hour
	benchInterval      = 30 * time.Second
)

// BenchmarkRules measures one evaluation of all rules, with the engine, the storage and
// the rule groups of Prometheus: the rules, the alerts and their annotations, and the
// samples that they write. 10,000 instances need about 2 GB of memory.
//
//	go test -run '^$' -bench Rules -benchtime 5x .
func BenchmarkRules(b *testing.B) {
	for _, instances := range []int{40, 1000, 10_000} {
		for _, failed := range []bool{false, true} {
			name := fmt.Sprintf("instances=%d/quiet", instances)
			if failed {
				name = fmt.Sprintf("instances=%d/every backup failed", instances)
			}
			b.Run(name, func(b *testing.B) { benchmarkRules(b, instances, failed) })
		}
	}
}

func benchmarkRules(b *testing.B, instances int, failed bool) {
	now := time.Unix(1_800_000_000, 0)
	begin := now.Add(-benchHistory)
	store := teststorage.New(b, func(o *tsdb.Options) { o.WALSegmentSize = -1 })
	store.DisableCompactions() // none during the measurement; one runs before it

	regions := regionSeries()
	for at := now.Add(-benchRegionHistory); at.Before(begin); at = at.Add(benchInterval) {
		appendAt(b, store, regions, at)
	}
	series := append(regions, instanceSeries(instances, failed, float64(begin.Unix()))...)
	for at := begin; !at.After(now); at = at.Add(benchInterval) {
		appendAt(b, store, series, at)
	}

	engine := promqltest.NewTestEngineWithOpts(b, promql.EngineOpts{MaxSamples: 50_000_000, Timeout: 2 * time.Minute})
	query := rules.EngineQueryFunc(engine, store)
	manager := rules.NewManager(&rules.ManagerOptions{
		ExternalURL:  &url.URL{},
		QueryFunc:    query,
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Context:      b.Context(),
		AppendableV2: store,
		Queryable:    store,
		Logger:       slog.New(slog.DiscardHandler),
	})
	groups, errs := manager.LoadGroups(benchInterval, labels.EmptyLabels(), "", nil, false, *benchRules)
	if len(errs) > 0 {
		b.Fatal(errs)
	}
	evaluate := func(at time.Time) {
		for _, g := range groups {
			g.Eval(b.Context(), at)
			for _, r := range g.Rules() {
				if err := r.LastError(); err != nil {
					b.Fatalf("%s: %v", r.Name(), err)
				}
			}
		}
	}

	// What the rules record at the beginning, they have recorded since then.
	evaluate(begin)
	for _, g := range groups {
		g.RestoreForState(begin) // only then it writes ALERTS
	}
	vector, err := query(b.Context(), `{__name__=~"crs:.+"}`, begin)
	if err != nil {
		b.Fatal(err)
	}
	recorded := make([]benchSeries, len(vector))
	for i, s := range vector {
		recorded[i] = benchSeries{labels: s.Metric, value: s.F, isTime: s.F == float64(begin.Unix())}
	}
	for at := begin.Add(benchInterval); at.Before(now); at = at.Add(benchInterval) {
		appendAt(b, store, recorded, at)
	}
	if err := store.Compact(b.Context()); err != nil {
		b.Fatal(err)
	}
	evaluate(now) // from here on, ALERTS_FOR_STATE has a fresh sample

	want := 0
	if failed {
		want = instances
	}
	i := 0
	begun := cpuTime(b)
	for b.Loop() {
		i++
		evaluate(now.Add(time.Duration(i) * time.Millisecond)) // one storage for any number of evaluations
	}
	b.ReportMetric(float64((cpuTime(b)-begun).Milliseconds())/float64(i), "cpu-ms/op")
	b.ReportMetric(float64(len(recorded)), "recorded")
	vector, err = query(b.Context(), `count(ALERTS{alertstate="firing", alertname="CRSBackupFailed"}) or vector(0)`, now.Add(time.Duration(i)*time.Millisecond))
	if err != nil || len(vector) != 1 || vector[0].F != float64(want) {
		b.Fatalf("%v, %v, want %d alerts", vector, err, want)
	}
}

// cpuTime returns the processor time of this process. Other processes do not change it,
// as they do the time of a benchmark.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

type benchSeries struct {
	labels labels.Labels
	value  float64
	isTime bool // the value is the time of the sample
	ref    storage.SeriesRef
}

// appendAt appends a sample of each series.
func appendAt(b *testing.B, store *teststorage.TestStorage, series []benchSeries, at time.Time) {
	b.Helper()
	app := store.Appender(b.Context())
	for i := range series {
		s := &series[i]
		if s.isTime {
			s.value = float64(at.Unix())
		}
		ref, err := app.Append(s.ref, s.labels, at.UnixMilli(), s.value)
		if err != nil {
			b.Fatalf("%s: %v", s.labels, err)
		}
		s.ref = ref
	}
	if err := app.Commit(); err != nil {
		b.Fatal(err)
	}
}

// exported returns a series as the exporter's target has it.
func exported(value float64, name string, pairs ...string) benchSeries {
	pairs = append([]string{labels.MetricName, name, "job", "crs", "instance", "exporter:10991"}, pairs...)
	return benchSeries{labels: labels.FromStrings(pairs...), value: value}
}

// regionSeries returns what the exporter exports of itself and two regions, as far as
// rules read it.
func regionSeries() []benchSeries {
	series := []benchSeries{exported(1, "up")}
	for _, region := range []string{"ap-guangzhou", "ap-shanghai"} {
		seen := exported(0, "crs_region_seen_timestamp_seconds", "region", region)
		seen.isTime = true
		series = append(series, seen,
			exported(1, "crs_up", "region", region),
			exported(1, "crs_api_requests_total", "region", region),
			exported(0, "crs_api_clock_skew_seconds", "region", region),
			exported(30, "crs_task_first_seen_delay_seconds", "region", region),
			exported(0, "crs_poll_rejected_rows", "region", region))
		for _, reason := range closedSets["reason"] {
			series = append(series, exported(0, "crs_api_failures_total", "region", region, "reason", reason))
		}
	}
	return series
}

// instanceSeries returns what the exporter exports for instances of two regions that are
// backed up nightly, as far as rules read it, with the values at time now.
func instanceSeries(instances int, failed bool, now float64) []benchSeries {
	var series []benchSeries
	add := func(value float64, name string, pairs ...string) {
		series = append(series, exported(value, name, pairs...))
	}
	lastGood := now - 20*3600
	for i := range instances {
		region := "ap-guangzhou"
		if i%2 == 1 {
			region = "ap-shanghai"
		}
		of := func(pairs ...string) []string {
			return append([]string{"region", region, "redisId", fmt.Sprintf("crs-%08d", i)}, pairs...)
		}
		add(1, "crs_instance_info", of("redisName", fmt.Sprintf("name of %d", i), "projectId", "0")...)
		add(lastGood, "crs_backup_last_good_timestamp_seconds", of()...)
		add(lastGood+86400*1.05+2*3600, "crs_backup_deadline_timestamp_seconds", of()...)
		add(lastGood, "crs_backup_last_start_timestamp_seconds", of("outcome", "succeeded")...)
		if failed {
			add(now-3600, "crs_backup_failing_since_timestamp_seconds", of()...)
			add(now-3600, "crs_backup_last_start_timestamp_seconds", of("outcome", "failed")...)
			add(now-3600, "crs_task_last_start_timestamp_seconds", of("taskName", "backupInstance", "status", "failed")...)
			add(now-3600, "crs_task_last_failure_timestamp_seconds", of("taskName", "backupInstance")...)
			add(lastGood, "crs_task_last_success_timestamp_seconds", of("taskName", "backupInstance")...)
		}
		for _, task := range []string{"backupInstance", "newInstance", "resizeInstance", "setPassword"} {
			finished := exported(now, "crs_task_finished_before_timestamp_seconds", of("taskName", task)...)
			finished.isTime = true
			series = append(series, finished)
			add(lastGood, "crs_task_last_start_timestamp_seconds", of("taskName", task, "status", "succeeded")...)
			for _, status := range []string{"failed", "error"} {
				add(0, "crs_task_transitions_total", of("taskName", task, "status", status)...)
			}
		}
	}
	return series
}
