package collector_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func idsOf(tasks iter.Seq[crsapi.Task]) string {
	var ids []string
	for t := range tasks {
		ids = append(ids, t.RedisID)
	}
	return strings.Join(ids, " ")
}

// TestTaskLists: a list stays when the next poll fails, and does not change when
// the next one succeeds.
func TestTaskLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(
			task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
			task("crs-b", clean, "2017-02-10 03:00:00", crsapi.StatusFailed),
			task("crs-c", backup, "2017-02-10 02:00:00", crsapi.StatusPending),
		)}
		e := watch(t, source)
		if got := e.TaskLists(); len(got) != 1 || got[0] != nil {
			t.Fatalf("before the first poll: %v", got)
		}
		e.Poll(t.Context())
		first := e.TaskLists()[0]
		read := time.Now()
		check := func(when string, l *collector.TaskList, ids string) {
			t.Helper()
			if got := idsOf(l.Newest(time.Time{}, time.Time{})); got != ids {
				t.Errorf("%s: tasks of %q, want %q", when, got, ids)
			}
		}
		check("first", first, "crs-b crs-c crs-a")
		if first.Region != guangzhou || first.API != crsapi.API20 || !first.Read.Equal(read) {
			t.Errorf("the list is %s, API %s, read %v", first.Region, first.API, first.Read)
		}
		if got := fmt.Sprint(first.Counts()); got != "map[error:0 executing:0 failed:1 pending:1 succeeded:1 unknown:0]" {
			t.Error(got)
		}
		if got := idsOf(first.Newest(beijing("2017-02-10 02:00:00"), beijing("2017-02-10 02:59:59"))); got != "crs-c" {
			t.Errorf("from two to three: %q", got)
		}
		source.set(nil, errors.New("down"))
		e.Poll(t.Context())
		if e.TaskLists()[0] != first {
			t.Error("a failed poll changed the list")
		}
		source.set(list(someTask), nil)
		e.Poll(t.Context())
		check("the old one", first, "crs-b crs-c crs-a")
		check("the new one", e.TaskLists()[0], "crs-a")
	})
}

// TestTaskListOfInstances: the list of a region may be several lists, and lists may
// have tasks of others.
func TestTaskListOfInstances(t *testing.T) {
	ignoring := always(list(
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-b", backup, "2017-02-10 03:00:00", crsapi.StatusSucceeded),
		task("crs-c", backup, "2017-02-10 02:00:00", crsapi.StatusSucceeded),
		task("crs-a", backup, "2017-02-10 04:00:00", crsapi.StatusSucceeded),
	))
	e := newExporter(t, collector.Config{RedisIDs: []string{"crs-a", "crs-c"}}, map[string]collector.Source{guangzhou: ignoring})
	e.Poll(t.Context())
	l := e.TaskLists()[0]
	if got := idsOf(l.Newest(time.Time{}, time.Time{})); got != "crs-a crs-c crs-a" {
		t.Errorf("tasks of %q", got)
	}
	for range l.Newest(time.Time{}, time.Time{}) {
		break // must not run on
	}
}

func TestInstances(t *testing.T) {
	e := watch(t, always(list(
		task("crs-b", "deleteInstance", "2017-02-12 03:00:00", crsapi.StatusSucceeded),
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-a", "AUTOBACKUP", "2017-02-11 01:00:00", crsapi.StatusFailed),
		task("crs-a", clean, "2017-02-09 01:00:00", crsapi.StatusSucceeded),
	)))
	e.Poll(t.Context())
	got := slices.Collect(e.TaskLists()[0].Instances())
	if len(got) != 2 {
		t.Fatal(got)
	}
	a, b := got[0], got[1]
	if a.RedisID != "crs-a" || a.RedisName != "name of crs-a" || a.Gone ||
		!a.BackupSucceeded.Equal(beijing("2017-02-10 01:00:00")) || !a.BackupFailed.Equal(beijing("2017-02-11 01:00:00")) ||
		!a.Known.Equal(beijing("2017-02-09 01:00:00")) || a.UsualInterval != 0 {
		t.Errorf("%+v", a)
	}
	if b.RedisID != "crs-b" || !b.Gone || !b.BackupSucceeded.IsZero() || !b.BackupFailed.IsZero() {
		t.Errorf("%+v", b)
	}
	backups := slices.SortedFunc(a.Backups(beijing("2017-02-10 00:00:00")), func(a, b collector.Backup) int { return a.Submitted.Compare(b.Submitted) })
	if len(backups) != 2 || backups[0].Status != "succeeded" || backups[1].Status != "failed" || !backups[1].Submitted.Equal(a.BackupFailed) {
		t.Error(backups)
	}
	if later := slices.Collect(a.Backups(beijing("2017-02-10 01:00:01"))); len(later) != 1 {
		t.Error(later)
	}
}

// TestStatusOfReading checks requests and the next full reading, against a server.
func TestStatusOfReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, e := simulatedWith(t, collector.Config{Sync: collector.SyncIncremental, FullSyncInterval: 10 * time.Minute}, crsapi.API20, 0, 100)
		server.SetTasks(guangzhou, crsapitest.Generate(950, 10, 1))
		e.Poll(t.Context())
		first := e.Status()[0]
		if first.Requests < first.Pages || first.Requests < 10 {
			t.Errorf("%d requests for %d pages", first.Requests, first.Pages)
		}
		if want := time.Now().Add(10 * time.Minute); !first.NextFull.Equal(want) || first.Verifying {
			t.Errorf("the next full reading is due %v, want %v; in progress: %t", first.NextFull, want, first.Verifying)
		}
		time.Sleep(11 * time.Minute)
		e.Poll(t.Context())
		if second := e.Status()[0]; second.Requests >= first.Requests || second.Requests == 0 || !second.Verifying {
			t.Errorf("the second poll: %d requests; a reading is in progress: %t", second.Requests, second.Verifying)
		}
		time.Sleep(time.Minute)
		if s := e.Status()[0]; s.Verifying || time.Until(s.NextFull) < 8*time.Minute {
			t.Errorf("after the reading: in progress: %t; due %v", s.Verifying, s.NextFull)
		}
	})
}
