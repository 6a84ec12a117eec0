package mirror_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

func TestNewest(t *testing.T) {
	s := plain(crsapi.API30, 950, 10, 5)
	bad := newNode("crs-0", "backupInstance", s.nodes[500].start, crsapi.StatusSucceeded)
	bad.bad = 7
	s.add(bad)
	m := newMirror(s, 100)
	poll(t, m, false)
	second := func(i int) time.Time { return time.Unix(epoch+int64(10*i), 0) }
	for _, test := range []struct {
		name     string
		from, to time.Time
		newest   int
		n        int
	}{
		{"all", time.Time{}, time.Time{}, 949, 950},
		{"from", second(900), time.Time{}, 949, 50},
		{"to", time.Time{}, second(9), 9, 10},
		{"both ends", second(100), second(420), 420, 321},
		{"one second", second(300), second(300), 300, 1},
		{"between tasks", second(300).Add(time.Second), second(301).Add(-time.Second), 0, 0},
		{"before all", time.Time{}, second(-1), 0, 0},
		{"after all", second(950), time.Time{}, 0, 0},
		{"reversed", second(400), second(100), 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := slices.Collect(m.Tasks().Newest(test.from, test.to))
			if len(got) != test.n {
				t.Fatalf("%d tasks, want %d", len(got), test.n)
			}
			for i, task := range got {
				if want := second(test.newest - i); !task.StartTime.Equal(want) {
					t.Fatalf("task %d is of %v, want %v", i, task.StartTime, want)
				}
			}
		})
	}
	for task := range m.Tasks().Newest(time.Time{}, time.Time{}) {
		if !task.StartTime.Equal(second(949)) {
			t.Errorf("the newest is of %v", task.StartTime)
		}
		break
	}
	if got := slices.Collect(mirror.New(mirror.Config{Lister: s}).Tasks().Newest(time.Time{}, time.Time{})); got != nil {
		t.Errorf("an empty copy has %v", got)
	}
}

// TestTasksStay polls a list whose tasks all get other names, again and again, so
// that the table moves its names.
func TestTasksStay(t *testing.T) {
	s := plain(crsapi.API30, 950, 10, 5)
	m := newMirror(s, 100)
	poll(t, m, false)
	for round := range 8 {
		tasks := m.Tasks()
		before := slices.Collect(tasks.Newest(time.Time{}, time.Time{}))
		for i := range s.nodes {
			s.change(i, func(n *node) {
				n.RedisName = fmt.Sprintf("name %d of round %d", i, round)
				n.Status = crsapi.StatusFailed
			})
		}
		poll(t, m, true)
		expect(t, m, s)
		if after := slices.Collect(tasks.Newest(time.Time{}, time.Time{})); !slices.Equal(before, after) {
			t.Fatalf("round %d: the tasks changed", round)
		}
	}
}
