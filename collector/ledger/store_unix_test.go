//go:build unix

package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

func TestWrongPlacesOnUnix(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a pipe": pipe, "a symlink to itself": loop} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the first releases the lock
				store, err := ledger.Open(path, log.NewNopLogger())
				if err == nil {
					store.Close()
					t.Fatal("it was opened")
				}
				if !strings.HasPrefix(err.Error(), "state file "+path+": ") || strings.Contains(err.Error(), "in use") {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	t.Run("no permission", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may do anything")
		}
		closed := filepath.Join(dir, "closed")
		if err := os.WriteFile(closed, []byte("damaged"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Open(closed, log.NewNopLogger()); !errors.Is(err, os.ErrPermission) {
			t.Errorf("a file without permission: %v", err)
		}
		folder := filepath.Join(dir, "folder")
		if err := os.Mkdir(folder, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Open(filepath.Join(folder, "state"), log.NewNopLogger()); !errors.Is(err, os.ErrPermission) {
			t.Errorf("a folder without permission: %v", err)
		}
	})
}

// Files that exist, but cannot be opened at the moment, are not damaged.
func TestTooManyOpenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
	none := limit
	none.Cur = 3 // in use by stdin, stdout and stderr
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Skip(err)
	}
	_, err := ledger.ReadRegular(path)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) || errors.Is(err, ledger.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}
