package collector_test

import (
	"flag"
	"fmt"
	"slices"
	"sort"
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
	server := limited(t, crsapi.API20, 20)
	e := server.watch(t, collector.Config{Sync: sync})
	midnight := time.Now()    // the bubble begins then
	var backups []crsapi.Task // of the next night and 30 before, newest first
	for night := range 31 {
		for i := range instances { // within an hour
			after := time.Duration(instances-1-i)*time.Hour/time.Duration(instances) - time.Duration(night)*day
			backups = append(backups, backupOf(fmt.Sprintf("crs-%05d", instances-i), -after, crsapi.StatusSucceeded))
		}
	}
	server.SetTasks(guangzhou, backups[instances:])
	for range 3 {
		scrape(t, e)
		time.Sleep(time.Minute)
	}
	// until returns the index of the newest task that was submitted until then.
	until := func(at time.Time) int {
		return sort.Search(len(backups), func(i int) bool { return !backups[i].StartTime.After(at) })
	}
	before, down := server.Requests(guangzhou), 0
	for minute := range 24 * 60 {
		now := midnight.Add(time.Duration(minute) * time.Minute)
		tasks := slices.Clone(backups[until(now):until(now.Add(-30*day-1))])
		for i := range until(now.Add(-3*time.Minute-1)) - until(now) {
			tasks[i].Status = crsapi.StatusExecuting
		}
		server.SetTasks(guangzhou, tasks)
		if !scrape(t, e).up(guangzhou) {
			down++
		}
		time.Sleep(time.Until(now.Add(4 * time.Minute)))
	}
	requests := server.Requests(guangzhou) - before
	t.Logf("%d instances, %d tasks, %s: %d requests a day, %d scrapes down", instances, 30*instances, sync, requests, down)
}
