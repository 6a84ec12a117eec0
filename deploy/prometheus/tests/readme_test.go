package tests

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
)

const readmeFile = "../../../README.md"

var promqlBlock = regexp.MustCompile("(?s)```promql\n(.*?)```")

// TestReadmeAlerts evaluates the three alerts of the README on facts of two exporters of a
// region.
func TestReadmeAlerts(t *testing.T) {
	query := loaded(t, `
		crs_region_seen_timestamp_seconds{job="crs", instance="a", region="gz"} 0+60x10
		crs_region_seen_timestamp_seconds{job="crs", instance="b", region="gz"} 0+60x10
		crs_backup_last_good_timestamp_seconds{job="crs", instance="a", region="gz", redisId="well"} -3600x10
		crs_backup_last_good_timestamp_seconds{job="crs", instance="b", region="gz", redisId="well"} -3600x10
		crs_backup_last_good_timestamp_seconds{job="crs", instance="a", region="gz", redisId="ill"} -100000x10
		crs_backup_last_good_timestamp_seconds{job="crs", instance="b", region="gz", redisId="ill"} -100000x10
		crs_backup_last_good_timestamp_seconds{job="crs", instance="a", region="gz", redisId="never"} -900000x10
		crs_backup_last_good_timestamp_seconds{job="crs", instance="a", region="gz", redisId="gone"} Inf Inf Inf Inf Inf Inf
		crs_backup_failing_since_timestamp_seconds{job="crs", instance="a", region="gz", redisId="well"} -90000x10
		crs_backup_failing_since_timestamp_seconds{job="crs", instance="b", region="gz", redisId="well"} -90000x10
		crs_backup_failing_since_timestamp_seconds{job="crs", instance="a", region="gz", redisId="ill"} -50000x10
		crs_backup_failing_since_timestamp_seconds{job="crs", instance="b", region="gz", redisId="ill"} -50000x10
		crs_backup_failing_since_timestamp_seconds{job="crs", instance="a", region="gz", redisId="gone"} -100000x10
		crs_backup_deadline_timestamp_seconds{job="crs", instance="a", region="gz", redisId="well"} 90000x10
		crs_backup_deadline_timestamp_seconds{job="crs", instance="b", region="gz", redisId="well"} 90000x10
		crs_backup_deadline_timestamp_seconds{job="crs", instance="a", region="gz", redisId="ill"} -6400x10
		crs_backup_deadline_timestamp_seconds{job="crs", instance="b", region="gz", redisId="ill"} -6400x10
		crs_backup_deadline_timestamp_seconds{job="crs", instance="a", region="gz", redisId="never"} -806400x10
		crs_backup_deadline_timestamp_seconds{job="crs", instance="a", region="gz", redisId="gone"} Inf Inf Inf Inf Inf Inf
		crs_task_finished_before_timestamp_seconds{job="crs", instance="a", region="gz", redisId="ill", taskName="AUTOBACKUP"} -20000x10
		crs_task_finished_before_timestamp_seconds{job="crs", instance="a", region="gz", redisId="well", taskName="backupInstance"} -60x10
		crs_task_finished_before_timestamp_seconds{job="crs", instance="a", region="gz", redisId="well", taskName="importRdb"} -20000x10
		crs_task_finished_before_timestamp_seconds{job="crs", instance="a", region="gz", redisId="gone", taskName="AUTOBACKUP"} Inf Inf Inf Inf Inf Inf`)
	want := [][]string{{"ill"}, {"ill", "never"}, {"ill"}} // failed, missing, stuck
	blocks := promqlBlock.FindAllStringSubmatch(readFile(t, readmeFile), -1)
	if len(blocks) != len(want) {
		t.Fatalf("the README has %d alerts, want %d", len(blocks), len(want))
	}
	for i, block := range blocks {
		if n := strings.Count(block[1], "\n"); n > 2 {
			t.Errorf("%d lines, want at most 2: %s", n, block[1])
		}
		var got []string
		for _, s := range query(block[1], 5*time.Minute) {
			got = append(got, s.Metric.Get("redisId"))
		}
		slices.Sort(got)
		if !slices.Equal(got, want[i]) {
			t.Errorf("got %v, want %v: %s", got, want[i], block[1])
		}
	}
}

// TestReadmeExamples evaluates the PromQL examples of the README on metrics of two exporters
// of a region. One of them knows an old name of the instance.
func TestReadmeExamples(t *testing.T) {
	query := loaded(t, `
		crs_instance_info{job="crs", instance="a", region="gz", redisId="ill", redisName="cart", projectId="0"} 1x200
		crs_instance_info{job="crs", instance="b", region="gz", redisId="ill", redisName="basket", projectId="0"} 1x200
		crs_backup_last_good_timestamp_seconds{job="crs", instance="a", region="gz", redisId="ill"} -96000x200
		crs_backup_last_good_timestamp_seconds{job="crs", instance="b", region="gz", redisId="ill"} -99000x200
		crs_backup_last_good_timestamp_seconds{job="crs", instance="a", region="gz", redisId="gone"} _x198 Inf Inf Inf
		crs_backup_deadline_timestamp_seconds{job="crs", instance="a", region="gz", redisId="ill"} 19200x200
		crs_backup_deadline_timestamp_seconds{job="crs", instance="b", region="gz", redisId="ill"} 16200x200
		crs_backup_deadline_timestamp_seconds{job="crs", instance="a", region="gz", redisId="gone"} _x198 Inf Inf Inf
		crs_task_transitions_total{job="crs", instance="a", region="gz", redisId="ill", taskName="backupInstance", status="succeeded"} 0x100 1x100
		crs_task_transitions_total{job="crs", instance="a", region="gz", redisId="ill", taskName="backupInstance", status="failed"} 0x50 1x150
		crs_task_transitions_total{job="crs", instance="b", region="gz", redisId="ill", taskName="backupInstance", status="failed"} 0x60 1x140
		crs_task_oldest_start_timestamp_seconds{job="crs", instance="a", region="gz", redisId="ill", taskName="importRdb", status="executing"} -20000x200
		crs_task_oldest_start_timestamp_seconds{job="crs", instance="b", region="gz", redisId="ill", taskName="importRdb", status="executing"} -20000x200`)
	want := []string{
		`[{job="crs", redisId="ill", redisName="cart", region="gz"} 30]`,
		`[{job="crs", redisId="ill", region="gz"} 2]`,
		`[{taskName="backupInstance"} 1]`,
		`[{job="crs", redisId="ill", region="gz", taskName="importRdb"} -20000]`,
	}
	_, table, found := strings.Cut(readFile(t, readmeFile), "<!-- examples: evaluated by a test -->\n")
	table, _, ended := strings.Cut(table, "<!-- end of examples -->")
	if !found || !ended {
		t.Fatal("no PromQL examples")
	}
	var got []string
	for line := range strings.Lines(table) {
		cells := strings.SplitN(line, " | ", 2)
		if len(cells) != 2 || !strings.Contains(cells[1], "`") {
			continue // the head of the table
		}
		var samples []string
		for _, s := range query(strings.ReplaceAll(strings.Trim(cells[1], " `|\n"), `\|`, "|"), 200*time.Minute) {
			sample := fmt.Sprint(s.Metric, " ", s.F)
			samples = append(samples, strings.Replace(sample, "basket", "cart", 1)) // either name is right
		}
		got = append(got, fmt.Sprint(samples))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// loaded returns a function that evaluates expressions on series, one a line, with a sample
// each minute.
func loaded(t *testing.T, lines string) func(expr string, at time.Duration) promql.Vector {
	t.Helper()
	e := newEvaluator(&rulefmt.RuleGroups{}, time.Minute)
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		if err := e.load(line, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	return func(expr string, at time.Duration) promql.Vector {
		t.Helper()
		vector, err := e.query(t.Context(), expr, epoch.Add(at))
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		return vector
	}
}
