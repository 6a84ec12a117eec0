package ledger_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

// account returns the list of a large account, spread over the series: each has a backup a
// day.
func account(tasks, series int) []row {
	all := make([]row, 0, tasks)
	for n := range tasks {
		i, age := n%series, n/series
		s := ledger.Series{RedisID: fmt.Sprintf("crs-%08d", i/10), TaskName: "backupInstance"}
		if i%10 > 0 {
			s.TaskName = fmt.Sprint("task", i%10)
		}
		all = append(all, in(s, noon-int64(age)*24*hour+int64(i), succeeded))
	}
	return all
}

var sizes = []struct{ tasks, series int }{{3_000, 300}, {100_000, 10_000}, {1_000_000, 100_000}}

func perSize(b *testing.B, f func(b *testing.B, s *steps)) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("tasks=%d", size.tasks), func(b *testing.B) {
			s := newSteps(b)
			s.poll(account(size.tasks, size.series)...)
			b.ReportAllocs()
			f(b, s)
		})
	}
}

// BenchmarkApply applies the first list, a list with one change, and an unchanged list.
func BenchmarkApply(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		perSize(b, func(b *testing.B, s *steps) {
			batch := ledger.Batch{Source: "2.0", Tasks: tasks(s.list), Time: s.now, Date: s.now}
			for b.Loop() {
				ledger.New().Apply(batch)
			}
		})
	})
	b.Run("one change", func(b *testing.B) {
		perSize(b, func(b *testing.B, s *steps) {
			s.show()
			first := tasks(s.list)
			s.list[identity{backupA, noon}] = in(backupA, noon+hour, failed)
			batches := [2]ledger.Batch{
				{Source: "2.0", Tasks: first, Time: s.now, Date: s.now}, {Source: "2.0", Tasks: tasks(s.list), Time: s.now, Date: s.now},
			}
			n := 0
			for b.Loop() {
				s.ledger.Apply(batches[n%2])
				n++
			}
		})
	})
	b.Run("unchanged", func(b *testing.B) {
		perSize(b, func(b *testing.B, s *steps) {
			s.show()
			for b.Loop() {
				s.now = s.now.Add(15 * time.Second)
				s.ledger.Apply(ledger.Batch{Source: "2.0", Time: s.now, Date: s.now})
			}
		})
	})
}

// BenchmarkSave encodes, writes and syncs the file.
func BenchmarkSave(b *testing.B) {
	perSize(b, func(b *testing.B, s *steps) {
		store, err := ledger.Open(filepath.Join(b.TempDir(), "state"), log.NewNopLogger())
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		s.ledger = store.Ledgers([]string{region})[0]
		s.apply(tasks(s.list))
		for b.Loop() {
			if !store.Save() {
				b.Fatal(store.Status().Err)
			}
		}
		b.ReportMetric(float64(store.Status().Size), "bytes/file")
		b.ReportMetric(float64(store.Status().Size)/float64(len(s.list)), "bytes/task")
	})
}

// BenchmarkDecode is a part of every start.
func BenchmarkDecode(b *testing.B) {
	perSize(b, func(b *testing.B, s *steps) {
		file := ledger.Encode(map[string]*ledger.Ledger{region: s.ledger})
		for b.Loop() {
			if _, err := ledger.Decode(file); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFacts makes the facts of a list with one change, and of an unchanged list.
func BenchmarkFacts(b *testing.B) {
	for _, size := range []struct{ tasks, series int }{{30_000, 10_000}, {1_000_000, 100_000}} {
		list := make([]factRow, 0, size.tasks)
		for _, r := range account(size.tasks, size.series) {
			list = append(list, factRow{redisID: r.RedisID, taskName: strings.Replace(r.TaskName, "backupInstance", "backup", 1), start: r.second, status: succeeded})
		}
		first := listed(list)
		list[0].status = failed
		lists := map[string][2][]ledger.Listed{"one change": {first, listed(list)}, "unchanged": {}}
		for name, lists := range lists {
			b.Run(fmt.Sprintf("%s/tasks=%d", name, size.tasks), func(b *testing.B) {
				l, now := ledger.New(), time.Unix(noon, 0)
				l.Apply(ledger.Batch{Source: "2.0", Instances: first, Time: now, Date: now})
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					now = now.Add(time.Second)
					l.Apply(ledger.Batch{Source: "2.0", Instances: lists[n%2], Time: now, Date: now})
				}
			})
		}
	}
}
