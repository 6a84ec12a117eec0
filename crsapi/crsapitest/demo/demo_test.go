package demo_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest/demo"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	hour      = time.Hour
	day       = 24 * hour
	utcOffset = 8 * hour
)

// TestEachAlertHasItsExample compares what an exporter shows of the demo with the
// conditions of the alerts, whatever the time of day when the demo starts, and two hours
// later. With an inventory, the instance without a task has one too.
func TestEachAlertHasItsExample(t *testing.T) {
	always := []string{
		"CRSBackupFailed crs-zhou0006", "CRSBackupFailed crs-zhou0008", "CRSBackupMissing crs-zhou0006", "CRSBackupMissing crs-zhou0009",
		"CRSBackupStuck crs-zhou0007", "CRSTaskFailed crs-zhou0010", "CRSTaskStatusUnknown crs-zhou0012", "CRSTaskStuck crs-zhou0011",
	}
	for _, apis := range [][]crsapi.API{{crsapi.API20}, {crsapi.API30}, {crsapi.API20, crsapi.API30}} {
		want, instances, inventory := slices.Clone(always), 21, time.Duration(0)
		if len(apis) == 2 {
			want, instances, inventory = append(want, "CRSBackupMissing crs-zhou0014"), 22, time.Minute
		}
		slices.Sort(want)
		for h := 0; h < 24; h += 3 {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Duration(h)*hour + 17*time.Minute)
				server := crsapitest.NewMemoryServer()
				defer server.Close()
				var configs []crsapi.Config
				for _, api := range apis {
					cfg := crsapi.DefaultConfig(api)
					cfg.Endpoint = map[crsapi.API]string{crsapi.API20: server.URL, crsapi.API30: server.URL3}[api]
					cfg.Transport = server.Client().Transport
					cfg.Credentials = credentials.Static{SecretID: demo.SecretID, SecretKey: demo.SecretKey}
					configs = append(configs, cfg)
				}
				e, err := collector.New(collector.Config{Regions: demo.Regions(), Dial: collector.DialAPIs(configs...), Inventory: inventory})
				if err != nil {
					t.Fatal(err)
				}
				defer e.Close()
				start := time.Now()
				for range 2 {
					for n, region := range demo.Regions() {
						server.SetInstances(region, demo.Instances(region, n, start))
						server.SetTasks(region, demo.Tasks(region, n, utcOffset, start, time.Now()))
					}
					gather(t, e)
					synctest.Wait() // for the inventory
					shown := gather(t, e)
					if got := alerts(shown, float64(time.Now().Unix())); !slices.Equal(got, want) {
						t.Errorf("%v, start at %d, after %s: alerts %q, want %q", apis, h, time.Since(start), got, want)
					}
					if n := len(shown["crs_instance_info"]); n != instances {
						t.Errorf("%d instances", n) // two of three are in order
					}
					time.Sleep(2*hour + 10*time.Minute) // no backup by hand has just failed
				}
			})
		}
	}
}

// series are the values of a metric by redisId, taskName and status, with blanks between.
type series map[string]float64

func gather(t *testing.T, e *collector.Exporter) map[string]series {
	t.Helper()
	families, err := prometheus.Gatherers{e.Poll(t.Context())}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]series{}
	for _, f := range families {
		all[f.GetName()] = series{}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			key := strings.TrimSpace(labels["redisId"] + " " + labels["taskName"] + " " + labels["status"])
			all[f.GetName()][key] = m.GetGauge().GetValue()
		}
	}
	return all
}

// alerts returns the alerts of which the conditions hold, each with its redisId.
func alerts(shown map[string]series, now float64) (all []string) {
	add := func(when bool, alert, key string) {
		if id, _, _ := strings.Cut(key, " "); when {
			all = append(all, alert+" "+id)
		}
	}
	isBackup := func(key string) bool {
		return strings.Contains(key, "backupInstance") || strings.Contains(key, "AUTOBACKUP")
	}
	good, deadline := shown["crs_backup_last_good_timestamp_seconds"], shown["crs_backup_deadline_timestamp_seconds"]
	for id, since := range shown["crs_backup_failing_since_timestamp_seconds"] {
		add(since > good[id] && since < deadline[id], "CRSBackupFailed", id)
	}
	for id, by := range deadline {
		add(by < now, "CRSBackupMissing", id)
	}
	for key, before := range shown["crs_task_finished_before_timestamp_seconds"] {
		late := before+(3*hour).Seconds() < now
		add(late && isBackup(key), "CRSBackupStuck", key)
		add(late && !isBackup(key), "CRSTaskStuck", key)
	}
	for key, at := range shown["crs_task_last_failure_timestamp_seconds"] {
		success := shown["crs_task_last_success_timestamp_seconds"][key]
		add(!isBackup(key) && at > now-day.Seconds() && at > success, "CRSTaskFailed", key)
	}
	starts := shown["crs_task_last_start_timestamp_seconds"]
	for key, at := range starts {
		task, unknown := strings.CutSuffix(key, " unknown")
		add(unknown && at >= starts[task+" succeeded"], "CRSTaskStatusUnknown", key)
	}
	slices.Sort(all)
	return all
}

// TestBackupsGoOn follows a region for half an hour: backups begin, succeed and fail. A task
// that does not stay as it ended would be counted again.
func TestBackupsGoOn(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last, entered := map[string]crsapi.Status{}, map[crsapi.Status]int{}
	for now := start; now.Before(start.Add(hour / 2)); now = now.Add(3 * time.Second) {
		tasks := demo.Tasks("gz", 0, utcOffset, start, now)
		if !slices.IsSortedFunc(tasks, func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) }) {
			t.Fatal("not newest first")
		}
		for _, task := range tasks {
			key := fmt.Sprint(task.RedisID, task.TaskName, task.StartTime)
			if was, known := last[key]; now != start && (!known || task.Status != was) {
				entered[task.Status]++
			}
			last[key] = task.Status
		}
	}
	if got := fmt.Sprint(entered); got != "map[pending:14 executing:15 succeeded:13 failed:2]" {
		t.Errorf("tasks entered %s", got)
	}
}

// TestMonthLater follows the account for 40 days: each night has its backups, and the list
// has those of 30 days.
func TestMonthLater(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := start.Add(40 * day)
	nights := map[string]int{}
	for _, task := range demo.Tasks("gz", 1, utcOffset, start, now) {
		if now.Sub(task.StartTime) > 30*day {
			t.Errorf("%+v is still listed", task)
		}
		if task.TaskName == "AUTOBACKUP" && task.Status == crsapi.StatusSucceeded {
			nights[task.RedisName]++
		}
	}
	if nights["profiles"] != 30 || nights["coupons"] != 30 || nights["analytics"] != 5 {
		t.Errorf("backups by schedule: %v", nights)
	}
}
