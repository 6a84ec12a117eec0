package collector_test

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

var wholeDay = flag.Bool("day", false, "measure the requests of a day, for deploy/README.md")

// TestRequestsOfADay simulates a day of scrapes of a region whose instances are
// backed up every night, and whose tasks are listed for 30 days.
func TestRequestsOfADay(t *testing.T) {
	if !*wholeDay {
		t.Skip("-day measures it")
	}
	for _, instances := range []int{10, 100, 300, 1000, 3000} {
		for _, sync := range []collector.Sync{collector.SyncFull, collector.SyncIncremental, collector.SyncAuto} {
			if sync == collector.SyncFull && instances > 300 {
				continue // a poll takes longer than a scrape
			}
			synctest.Test(t, func(t *testing.T) { measureDay(t, instances, sync) })
		}
	}
}

func measureDay(t *testing.T, instances int, sync collector.Sync) {
	const listed = 30 * day
	server := limited(t, crsapi.API20, 20)
	e := server.watch(t, collector.Config{Sync: sync})
	night := time.Now().Truncate(24 * time.Hour) // the bubble begins at midnight
	backupsOf := func(night time.Time) (tasks []crsapi.Task) {
		for i := range instances { // within an hour, newest first
			after := time.Duration(instances-1-i) * time.Hour / time.Duration(instances)
			tasks = append(tasks, backupOf(fmt.Sprintf("crs-%05d", instances-i), time.Since(night.Add(after)), crsapi.StatusSucceeded))
		}
		return tasks
	}
	var history []crsapi.Task
	for n := range 30 {
		history = append(history, backupsOf(night.Add(-time.Duration(n+1)*day))...)
	}
	server.SetTasks(guangzhou, history)
	for range 3 {
		scrape(t, e)
		time.Sleep(time.Minute)
	}
	tonight := backupsOf(night)
	before, down := server.Requests(guangzhou), 0
	for minute := range 24 * 60 {
		now := night.Add(time.Duration(minute) * time.Minute)
		server.Update(guangzhou, func(tasks []crsapi.Task) []crsapi.Task {
			for len(tonight) > 0 && !tonight[len(tonight)-1].StartTime.After(now) {
				started := tonight[len(tonight)-1]
				started.Status = crsapi.StatusExecuting
				tasks = append([]crsapi.Task{started}, tasks...)
				tonight = tonight[:len(tonight)-1]
			}
			for i := 0; i < len(tasks) && now.Sub(tasks[i].StartTime) < 2*time.Hour; i++ {
				if now.Sub(tasks[i].StartTime) > 3*time.Minute {
					tasks[i].Status = crsapi.StatusSucceeded
				}
			}
			for len(tasks) > 0 && now.Sub(tasks[len(tasks)-1].StartTime) > listed {
				tasks = tasks[:len(tasks)-1]
			}
			return tasks
		})
		if !scrape(t, e).up(guangzhou) {
			down++
		}
		time.Sleep(time.Until(now.Add(4 * time.Minute)))
	}
	requests := server.Requests(guangzhou) - before
	t.Logf("%d instances, %d tasks, %s: %d requests a day, %d scrapes down", instances, 30*instances, sync, requests, down)
}
