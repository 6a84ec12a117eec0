package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

// Root could rename a device away. The test uses one of its own.
func TestDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3); err != nil { // as /dev/null
		t.Skip(err)
	}
	wantRefused(t, path, "is not a regular file: set --state.file to another path")
}

// Devices fail as disks do: /dev/full has no space left, and /dev/null cannot be synced.
func TestRealDiskReportsErrors(t *testing.T) {
	for device, want := range map[string]error{"/dev/full": syscall.ENOSPC, "/dev/null": syscall.EINVAL} {
		path := filepath.Join(t.TempDir(), "state")
		store, err := ledger.Open(path, log.NewNopLogger())
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if err := os.Symlink(device, path+".tmp"); err != nil {
			t.Fatal(err)
		}
		if store.Save(); !errors.Is(store.Status().Err, want) {
			t.Errorf("%s: %v", device, store.Status().Err)
		}
	}
}
