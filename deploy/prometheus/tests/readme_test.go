package tests

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
)

const readmeFile = "../../../README.md"

// TestReadmeAlerts evaluates the three alerts of the README on facts of two exporters of a
// region.
func TestReadmeAlerts(t *testing.T) {
	const facts = `
crs_region_seen_timestamp_seconds{} 0+60x10
crs_backup_last_good_timestamp_seconds{redisId="well"} -3600x10
crs_backup_last_good_timestamp_seconds{redisId="ill"} -100000x10
crs_backup_last_good_timestamp_seconds{redisId="never"} -900000x10
crs_backup_last_good_timestamp_seconds{redisId="gone"} Inf Inf Inf Inf Inf Inf
crs_backup_failing_since_timestamp_seconds{redisId="well"} -90000x10
crs_backup_failing_since_timestamp_seconds{redisId="ill"} -50000x10
crs_backup_failing_since_timestamp_seconds{redisId="gone"} -100000x10
crs_backup_deadline_timestamp_seconds{redisId="well"} 90000x10
crs_backup_deadline_timestamp_seconds{redisId="ill"} -6400x10
crs_backup_deadline_timestamp_seconds{redisId="never"} -806400x10
crs_backup_deadline_timestamp_seconds{redisId="gone"} Inf Inf Inf Inf Inf Inf
crs_task_finished_before_timestamp_seconds{redisId="ill", taskName="AUTOBACKUP"} -20000x10
crs_task_finished_before_timestamp_seconds{redisId="well", taskName="backupInstance"} -60x10
crs_task_finished_before_timestamp_seconds{redisId="well", taskName="importRdb"} -20000x10
crs_task_finished_before_timestamp_seconds{redisId="gone", taskName="AUTOBACKUP"} Inf Inf Inf Inf Inf Inf`
	exporters := strings.ReplaceAll(facts, "{", `{instance="a", `) + strings.ReplaceAll(facts, "{", `{instance="b", `)
	want := []string{"ill", "ill never", "ill"} // failed, missing, stuck
	blocks := regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(readFile(t, readmeFile), -1)
	if len(blocks) != len(want) {
		t.Fatalf("the README has %d alerts, want %d", len(blocks), len(want))
	}
	redisID := regexp.MustCompile(`redisId="(\w+)"`)
	for i, block := range blocks {
		if n := strings.Count(block[1], "\n"); n > 2 {
			t.Errorf("%d lines, want at most 2: %s", n, block[1])
		}
		var got []string
		for _, m := range redisID.FindAllStringSubmatch(strings.Join(results(t, exporters, block[1], 5*time.Minute), "\n"), -1) {
			got = append(got, m[1])
		}
		compare(t, block[1], got, strings.Fields(want[i]))
	}
}

// TestReadmeExamples evaluates the PromQL examples of the README on metrics of two exporters
// of a region. One of them knows an old name of the instance.
func TestReadmeExamples(t *testing.T) {
	const metrics = `
crs_instance_info{instance="a", redisId="ill", redisName="cart", projectId="0"} 1x200
crs_instance_info{instance="b", redisId="ill", redisName="basket", projectId="0"} 1x200
crs_backup_last_good_timestamp_seconds{instance="a", redisId="ill"} -96000x200
crs_backup_last_good_timestamp_seconds{instance="b", redisId="ill"} -99000x200
crs_backup_last_good_timestamp_seconds{instance="a", redisId="gone"} _x198 Inf Inf Inf
crs_backup_deadline_timestamp_seconds{instance="a", redisId="ill"} 19200x200
crs_backup_deadline_timestamp_seconds{instance="b", redisId="ill"} 16200x200
crs_backup_deadline_timestamp_seconds{instance="a", redisId="gone"} _x198 Inf Inf Inf
crs_task_transitions_total{instance="a", redisId="ill", taskName="backupInstance", status="succeeded"} 0x100 1x100
crs_task_transitions_total{instance="a", redisId="ill", taskName="backupInstance", status="failed"} 0x50 1x150
crs_task_transitions_total{instance="b", redisId="ill", taskName="backupInstance", status="failed"} 0x60 1x140
crs_task_oldest_start_timestamp_seconds{instance="a", redisId="ill", taskName="importRdb", status="executing"} -20000x200
crs_task_oldest_start_timestamp_seconds{instance="b", redisId="ill", taskName="importRdb", status="executing"} -20000x200`
	want := []string{
		`{job="crs", redisId="ill", redisName="cart", region="gz"} 30`,
		`{job="crs", redisId="ill", region="gz"} 2`,
		`{taskName="backupInstance"} 1`,
		`{job="crs", redisId="ill", region="gz", taskName="importRdb"} -20000`,
	}
	_, table, _ := strings.Cut(readFile(t, readmeFile), "<!-- examples: evaluated by a test -->\n")
	table, _, _ = strings.Cut(table, "<!-- end of examples -->")
	examples := regexp.MustCompile("(?m)\\? \\| `(.*)` \\|$").FindAllStringSubmatch(table, -1)
	if len(examples) != len(want) {
		t.Fatalf("the README has %d examples, want %d", len(examples), len(want))
	}
	for i, example := range examples {
		expr := strings.ReplaceAll(example[1], `\|`, "|")
		got := strings.Join(results(t, metrics, expr, 200*time.Minute), "\n")
		got = strings.Replace(got, "basket", "cart", 1) // either name is right
		compare(t, expr, []string{got}, want[i:i+1])
	}
}

// results returns the samples of an expression on series with a sample each minute.
func results(t *testing.T, series, expr string, at time.Duration) []string {
	t.Helper()
	store := promqltest.LoadedStorage(t, "load 1m"+strings.ReplaceAll(series, "{", `{job="crs", region="gz", `))
	return query(t, promqltest.NewTestEngine(t, false, 0, 100_000), store, expr, epoch.Add(at))
}
