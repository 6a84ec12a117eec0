package collector

import (
	"fmt"
	"iter"
	"path/filepath"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
)

// turning is an account in which some more tasks have failed at each turn.
type turning struct {
	*account
	changes, turn int
}

func (a *turning) Len() int { return a.tasks + a.changes*a.turn }

func (a *turning) All() iter.Seq[crsapi.Task] {
	return func(yield func(crsapi.Task) bool) {
		for t := range a.account.All() {
			if !yield(t) {
				return
			}
		}
		for n := range a.changes * a.turn {
			if !yield(crsapi.Task{
				RedisID: a.ids[n%a.instances], TaskName: "backupInstance", Status: crsapi.StatusFailed,
				StartTime: time.Unix(a.begin+int64(1_000_000+n), 0),
			}) {
				return
			}
		}
	}
}

// BenchmarkState is what a poll costs that keeps the ledger in a file, without
// the poll itself: what is written, synced and how long that takes.
func BenchmarkState(b *testing.B) {
	for _, n := range sizes {
		for _, changes := range []int{0, 10} {
			b.Run(fmt.Sprintf("tasks=%d/changes=%d", n, changes), func(b *testing.B) {
				files := &countingFS{stateFS: osFS{}}
				s, err := loadState(files, filepath.Join(b.TempDir(), "state"), log.NewNopLogger(), time.Now())
				if err != nil {
					b.Fatal(err)
				}
				defer func() { s.close(time.Now()) }()
				l, a := s.ledger("ap-guangzhou", 0, 0), &turning{account: newAccount(n), changes: changes}
				update := func() {
					snap, runs := takeSnapshot([]asked{{list: a}}, 0)
					l.markShown(l.update(snap, runs, time.Now()))
				}
				update()
				if !s.commit("ap-guangzhou", time.Now()) {
					b.Fatal("not saved")
				}
				snapshot := s.end
				files.bytes = 0
				b.ResetTimer()
				for range b.N {
					b.StopTimer()
					a.turn = min(a.turn+1, 1000)
					update()
					b.StartTimer()
					if !s.commit("ap-guangzhou", time.Now()) {
						b.Fatal("not saved")
					}
				}
				b.ReportMetric(float64(snapshot), "bytes/snapshot")
				b.ReportMetric(float64(files.bytes)/float64(b.N), "bytes/poll")
			})
		}
		b.Run(fmt.Sprintf("tasks=%d/anew", n), func(b *testing.B) {
			s, err := loadState(osFS{}, filepath.Join(b.TempDir(), "state"), log.NewNopLogger(), time.Now())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { s.close(time.Now()) }()
			l := s.ledger("ap-guangzhou", 0, 0)
			snap, runs := takeSnapshot([]asked{{list: newAccount(n)}}, 0)
			l.update(snap, runs, time.Now())
			for b.Loop() {
				if err := s.rewrite(time.Now()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(s.end), "bytes/poll")
		})
	}
}
