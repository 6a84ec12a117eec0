package mirror_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func compareTasks(a, b crsapi.Task) int {
	return cmp.Or(
		a.StartTime.Compare(b.StartTime), cmp.Compare(a.RedisID, b.RedisID), cmp.Compare(a.TaskName, b.TaskName),
		cmp.Compare(a.TaskID, b.TaskID), cmp.Compare(a.Status, b.Status), cmp.Compare(a.Progress, b.Progress),
	)
}

// differ says how a copy differs from a list.
func differ(tasks []crsapi.Task, nodes []*node) string {
	var want []crsapi.Task
	for _, n := range nodes {
		if n.bad == 0 {
			want = append(want, n.Task)
		}
	}
	slices.SortFunc(tasks, compareTasks)
	slices.SortFunc(want, compareTasks)
	for i := range min(len(tasks), len(want)) {
		if tasks[i] != want[i] {
			return fmt.Sprintf("%d tasks, want %d; number %d is %+v, want %+v", len(tasks), len(want), i, tasks[i], want[i])
		}
	}
	if len(tasks) != len(want) {
		return fmt.Sprintf("%d tasks, want %d", len(tasks), len(want))
	}
	return ""
}

func noWait(ctx context.Context) error { return ctx.Err() }

// inBubbles runs a subtest in a bubble, where no time passes but by waiting.
func inBubbles(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
