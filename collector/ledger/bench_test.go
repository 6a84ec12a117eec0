package ledger_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

// account returns the list of a large account: each instance has a backup a
// day, and sometimes another task.
func account(tasks int) []ledger.Change {
	instances := max(1, tasks/100)
	all := make([]ledger.Change, 0, tasks)
	for n := range tasks {
		i, age := n%instances, n/instances
		s := ledger.Series{RedisID: fmt.Sprintf("crs-%08d", i), TaskName: "backupInstance"}
		if age%10 == 9 {
			s.TaskName = []string{"cleanInstance", "resizeInstance", "setPassword"}[(i+age/10)%3]
		}
		all = append(all, in(s, noon-int64(age)*24*hour+int64(i), succeeded))
	}
	return all
}

// BenchmarkSave encodes, writes and syncs the file.
func BenchmarkSave(b *testing.B) {
	for _, tasks := range []int{3_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("tasks=%d", tasks), func(b *testing.B) {
			store, err := ledger.Open(filepath.Join(b.TempDir(), "state"), log.NewNopLogger())
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			s := newSteps(b)
			s.ledger = store.Ledger(region)
			s.poll(account(tasks)...)
			for b.Loop() {
				if err := save(store); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(store.Status().Size), "bytes/file")
			b.ReportMetric(float64(store.Status().Size)/float64(tasks), "bytes/task")
		})
	}
}

// BenchmarkDecode is a part of every start.
func BenchmarkDecode(b *testing.B) {
	s := newSteps(b)
	s.poll(account(100_000)...)
	file, err := ledger.Encode(map[string]*ledger.Ledger{region: s.ledger})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ledger.Decode(file); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply applies one change to a list of 100,000 tasks.
func BenchmarkApply(b *testing.B) {
	for _, visible := range []bool{false, true} {
		b.Run(fmt.Sprintf("counts=%t", visible), func(b *testing.B) {
			s := newSteps(b)
			list := account(100_000)
			s.poll(list...)
			if visible {
				s.show()
			}
			second := noon + hour
			b.ReportAllocs()
			for b.Loop() {
				second++
				s.now = s.now.Add(time.Second)
				s.change(in(list[0].Series, second, failed))
			}
		})
	}
}
