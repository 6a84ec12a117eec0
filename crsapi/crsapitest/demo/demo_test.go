package demo

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TestAdvance runs two hours of a region.
func TestAdvance(t *testing.T) {
	a := &Account{random: rand.New(rand.NewPCG(1, 2))}
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	tasks := a.history("gz", now)
	statuses, names := map[crsapi.Status]bool{}, map[string]bool{}
	for range 2 * time.Hour / tickInterval {
		now = now.Add(tickInterval)
		tasks = a.advance("gz", tasks, now)
		if len(tasks) > maxListed || !slices.IsSortedFunc(tasks, func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) }) {
			t.Fatalf("%d tasks, or not newest first", len(tasks))
		}
		unfinished := map[string]bool{}
		for _, task := range tasks {
			open := task.Status == crsapi.StatusPending || task.Status == crsapi.StatusExecuting
			if open && unfinished[task.RedisID] || open != task.EndTime.IsZero() || task.EndTime.After(now.Add(4*time.Minute)) {
				t.Fatalf("%+v beside another unfinished task: %t", task, unfinished[task.RedisID])
			}
			unfinished[task.RedisID] = unfinished[task.RedisID] || open
			statuses[task.Status], names[task.TaskName] = true, true
		}
	}
	if len(statuses) != 5 || len(names) < 5 {
		t.Errorf("statuses %v, names %v", statuses, names)
	}
}
