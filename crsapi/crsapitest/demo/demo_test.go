package demo_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest/demo"
)

// TestBackupsGoOn follows a region for half an hour: backups begin, succeed and fail. A task
// that does not stay as it ended would be counted again.
func TestBackupsGoOn(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last, entered := map[string]crsapi.Status{}, map[crsapi.Status]int{}
	for now := start; now.Before(start.Add(time.Hour / 2)); now = now.Add(3 * time.Second) {
		tasks := demo.Tasks("gz", 0, 8*time.Hour, start, now)
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
