//go:build unix

package main

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// A disk that stalls holds up neither scrapes nor the end of the process.
func TestStateFileOnAStalledDisk(t *testing.T) {
	s := startWithState(t)
	pipe := s.path + ".tmp"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.wantCounted(s.fail(), 1)
	}
	s.wantErrors(false) // a slow disk is not an error yet
	begin := time.Now()
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the end took %s", took)
	}
	s.waitForLog("cannot save the counters before shutdown: the disk stalls")
	s.wantAfterAKill(4)
	// The writer goes on and ends, before the folder is removed.
	file, err := os.OpenFile(pipe, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lock := flock.New(s.path + ".lock")
	if locked, err := lock.TryLockContext(t.Context(), time.Millisecond); !locked {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}
