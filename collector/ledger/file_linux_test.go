package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
)

// Root could rename a device away. The test uses one of its own.
func TestDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3); err != nil { // as /dev/null
		t.Skip(err)
	}
	wantRefused(t, path, path+" is a device, not a regular file: set --state.file to another path")
}

// Devices fail as disks do: /dev/full has no space left, and /dev/null and folders of /proc
// cannot be synced.
func TestRealDiskReportsErrors(t *testing.T) {
	if err := ledger.RealDisk.Write("/dev/full", []byte("data")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full: %v", err)
	}
	if err := ledger.RealDisk.Write("/dev/null", []byte("data")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("sync of a file: %v", err)
	}
	if err := ledger.RealDisk.Sync(fmt.Sprintf("/proc/%d", os.Getpid())); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("sync of a folder: %v", err)
	}
}
