//go:build unix

package collector_test

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/gofrs/flock"
)

// newStalled returns a stateful Exporter whose next write does not end, and what it
// has saved. To open the pipe for reading lets the write go on.
func newStalled(t *testing.T) (s *stateful, saved samples, pipe string) {
	t.Helper()
	s = newStateful(t)
	s.scrape(running)
	saved = s.scrape(running).transitions()
	pipe = s.cfg.StateFile + ".tmp"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	return s, saved, pipe
}

// A write that does not end: scrapes wait a second for it, each shows its own
// list with the counters last saved, and polls go on.
func TestStalledDisk(t *testing.T) {
	s, saved, pipe := newStalled(t)
	begin := time.Now()
	s.wantUnsaved("the disk stalls", saved)
	if took := time.Since(begin); took < time.Second {
		t.Errorf("the scrape took %s, want 1s", took)
	}
	// Scrapes with less time get their own list, too.
	for _, tasks := range [][]crsapi.Task{{failed}, {failed, later}, {failed, later, other}} {
		calls := s.source.count()
		s.source.set(list(tasks...), nil)
		got := poll(t, s.e, 800*time.Millisecond)
		if !got.up(guangzhou) || s.source.count() != calls+1 {
			t.Errorf("up: %t, %d polls", got.up(guangzhou), s.source.count()-calls)
		}
		got.want(t, samples{fmt.Sprintf(tasksSeries, "crs-a", "failed", backup): strconv.Itoa(min(len(tasks), 2))})
		wantEqual(t, "counters", got.transitions(), saved)
	}
	// A failed poll shows them, too.
	s.source.set(nil, errRetired)
	wantEqual(t, "the poll fails", scrape(t, s.e).transitions(), saved)
	// The write goes on, and fails, because a pipe cannot be synced.
	file, err := os.OpenFile(pipe, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 3 {
		s.scrape(failed, later, other)
	}
	want := samples{transitions("crs-a", backup, "failed"): "2", transitions("crs-b", clean, "failed"): "1"}
	s.want("the disk works again", want, failed, later, other)
	s.restart()
	s.want("after a restart", want, failed, later, other)
}

// Close leaves only the writer behind.
func TestCloseWithAStalledDisk(t *testing.T) {
	s, saved, pipe := newStalled(t)
	s.wantUnsaved("the disk stalls", saved)
	begin := time.Now()
	s.e.Close()
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("Close took %s, want 5s", took)
	}
	wantEqual(t, "after Close", poll(t, s.e, time.Minute).transitions(), saved)
	// The writer goes on, and the next process has all.
	file, err := os.OpenFile(pipe, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lock := flock.New(s.cfg.StateFile + ".lock")
	if locked, err := lock.TryLockContext(t.Context(), time.Millisecond); !locked {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.want("after a restart", failedTwice, failed, later, other)
}
