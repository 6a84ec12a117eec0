//go:build unix

package main

import (
	"os"
	"syscall"
	"testing"
	"time"
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
	s.wantErrors(false) // a slow disk is none yet
	begin := time.Now()
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the end took %s", took)
	}
	s.waitForLog("cannot save the counters before shutdown: the disk stalls")
	s.wantAfterAKill(4)
	// Nobody but this test lets the writer go on.
	file, err := os.OpenFile(pipe, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
}
