package demo_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest/demo"
)

const (
	hour      = time.Hour
	day       = 24 * hour
	utcOffset = 8 * hour
)

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
