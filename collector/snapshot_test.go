package collector

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestStatusNamesAreThoseOfTheAPI(t *testing.T) {
	for _, s := range []crsapi.Status{-2, -1, 0, 1, 2, 3, 4, math.MaxInt32, math.MinInt32} {
		if got := statusNames[statusOf(s)]; got != s.String() {
			t.Errorf("status %d is %s, want %s", s, got, s)
		}
	}
}

func TestRowKeepsTimeAndStatus(t *testing.T) {
	var last row
	for _, start := range []int64{math.MinInt64 >> statusBits, -1, 0, 1, 1_700_000_000, math.MaxInt64 >> statusBits} {
		for st := range statuses {
			r := newRow(start, st)
			if r.start() != start || r.status() != st {
				t.Errorf("row of %d and %d gives %d and %d", start, st, r.start(), r.status())
			}
			if start > math.MinInt64>>statusBits && r <= last {
				t.Errorf("row of %d and %d is out of order", start, st)
			}
			last = r
		}
	}
}

func TestSnapshotSumsUp(t *testing.T) {
	snap, runs := takeSnapshot([]asked{{list: list(
		task("crs-a", backup, "2017-02-10 04:00:00", crsapi.StatusExecuting),
		task("crs-b", backup, "2017-02-10 04:00:00", crsapi.StatusFailed),
		task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusExecuting),
		task("crs-a", backup, "2017-02-10 05:00:00", crsapi.StatusExecuting),
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusPending),
		task("crs-a", clean, "2017-02-10 02:00:00", crsapi.Status(42)),
		task("crs-a", clean, "2017-02-10 02:00:00", crsapi.Status(43)),
	)}}, 0)
	unix := func(text string) int64 { return beijing(text).Unix() }
	want := map[seriesKey]listedSeries{
		{"crs-a", backup}: {
			count:  [statuses]int{pending: 1, executing: 3},
			newest: [statuses]int64{pending: unix("2017-02-10 01:00:00"), executing: unix("2017-02-10 05:00:00")},
			oldest: [2]int64{pending: unix("2017-02-10 01:00:00"), executing: unix("2017-02-10 03:00:00")},
			rows:   4, latest: unix("2017-02-10 05:00:00"), redisName: "name of crs-a", projectID: "0",
		},
		{"crs-b", backup}: {
			count:  [statuses]int{failed: 1},
			newest: [statuses]int64{failed: unix("2017-02-10 04:00:00")},
			rows:   1, latest: unix("2017-02-10 04:00:00"), redisName: "name of crs-b", projectID: "0",
		},
		{"crs-a", clean}: {
			count:  [statuses]int{unknown: 2},
			newest: [statuses]int64{unknown: unix("2017-02-10 02:00:00")},
			rows:   2, latest: unix("2017-02-10 02:00:00"), redisName: "name of crs-a", projectID: "0",
		},
	}
	if len(snap.series) != len(want) || snap.tasks != 7 {
		t.Errorf("%d series of %d tasks, want %d of 7", len(snap.series), snap.tasks, len(want))
	}
	for i, got := range snap.series {
		if snap.index[got.seriesKey] != uint32(i) {
			t.Errorf("%v has index %d, want %d", got.seriesKey, snap.index[got.seriesKey], i)
		}
		if len(runs[i]) != got.rows || !slices.IsSorted(runs[i]) {
			t.Errorf("%v has rows %v, want %d in order", got.seriesKey, runs[i], got.rows)
		}
		key := got.seriesKey
		got.seriesKey = seriesKey{}
		if got != want[key] {
			t.Errorf("%v: got %+v, want %+v", key, got, want[key])
		}
	}
}

func TestSnapshotTakesInstanceFromNewestTask(t *testing.T) {
	at := func(taskName, start, redisName, projectID string) crsapi.Task {
		return crsapi.Task{
			RedisID: "crs-a", TaskName: taskName, StartTime: beijing(start),
			RedisName: redisName, ProjectID: projectID,
		}
	}
	tests := []struct {
		name  string
		tasks []crsapi.Task
		want  listedInstance
	}{
		{"newest first", []crsapi.Task{
			at(clean, "2017-02-10 02:00:00", "renamed", "7"), at(backup, "2017-02-10 01:00:00", "old", "0"),
		}, listedInstance{"renamed", "7"}},
		{"newest last", []crsapi.Task{
			at(backup, "2017-02-10 01:00:00", "old", "0"), at(clean, "2017-02-10 02:00:00", "renamed", "7"),
		}, listedInstance{"renamed", "7"}},
		{"newest within a series", []crsapi.Task{
			at(clean, "2017-02-10 01:00:00", "old", "0"), at(clean, "2017-02-10 02:00:00", "renamed", "7"),
		}, listedInstance{"renamed", "7"}},
		{"before 1970", []crsapi.Task{
			at(clean, "1960-01-01 00:00:00", "old", "0"), at(backup, "1961-01-01 00:00:00", "renamed", "7"),
		}, listedInstance{"renamed", "7"}},
		{"no name, no project", []crsapi.Task{
			at(clean, "2017-02-10 02:00:00", "", ""), at(backup, "2017-02-10 01:00:00", "old", "0"),
		}, listedInstance{"", ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			snap, _ := takeSnapshot([]asked{{list: list(test.tasks...)}}, 0)
			if want := (map[string]listedInstance{"crs-a": test.want}); !maps.Equal(snap.instances, want) {
				t.Errorf("got %v, want %v", snap.instances, want)
			}
		})
	}
	t.Run("the order of rows of one second decides nothing", func(t *testing.T) {
		a := at(clean, "2017-02-10 02:00:00", "one", "1")
		b := at(backup, "2017-02-10 02:00:00", "one", "2")
		c := at(backup, "2017-02-10 02:00:00", "two", "0")
		for _, order := range [][]crsapi.Task{{a, b, c}, {c, b, a}, {b, c, a}, {a, c, b}} {
			snap, _ := takeSnapshot([]asked{{list: list(order...)}}, 0)
			if got := snap.instances["crs-a"]; got != (listedInstance{"two", "0"}) {
				t.Errorf("got %v", got)
			}
		}
	})
}

func TestSnapshotOfAServerThatIgnoresTheFilter(t *testing.T) {
	all := list(
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-b", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-c", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
	)
	snap, runs := takeSnapshot([]asked{{"crs-a", all}, {"crs-b", all}}, 0)
	if snap.tasks != 2 || len(snap.series) != 2 || len(snap.instances) != 2 || len(runs) != 2 {
		t.Errorf("%d tasks, %d series, %d instances; want 2 of each", snap.tasks, len(snap.series), len(snap.instances))
	}
	for _, s := range snap.series {
		if s.redisID == "crs-c" || s.count[succeeded] != 1 {
			t.Errorf("%v counts %v", s.seriesKey, s.count)
		}
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	snap, runs := takeSnapshot([]asked{{list: list()}}, 0)
	if snap.tasks != 0 || len(snap.series) != 0 || len(snap.instances) != 0 || len(runs) != 0 {
		t.Errorf("got %+v and %v", snap, runs)
	}
	if s := newLedger().update(snap, runs, time.Now()); len(s.counters) != 0 {
		t.Errorf("got counters %v", s.counters)
	}
}
