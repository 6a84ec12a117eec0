//go:build unix

package collector_test

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// A write that does not end: polls wait a second for it and go on.
func TestStalledDisk(t *testing.T) {
	s := newStateful(t)
	s.scrape(running)
	saved := s.scrape(running).transitions()
	pipe := s.cfg.StateFile + ".tmp"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.wantUnsaved("the disk stalls", saved)
	if took := time.Since(begin); took < time.Second || took > 3*time.Second {
		t.Errorf("the poll took %s, want 1s", took)
	}
	// To open the pipe lets the write go on. It fails, because a pipe cannot be
	// synced.
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
