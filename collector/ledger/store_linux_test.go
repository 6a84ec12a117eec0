package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
)

// Devices fail as disks do: /dev/full has no space left, and /dev/null and
// folders of /proc cannot be synced.
func TestRealDiskReportsErrors(t *testing.T) {
	for _, test := range []struct {
		device string
		want   error
	}{
		{"/dev/full", syscall.ENOSPC}, {"/dev/null", syscall.EINVAL},
	} {
		t.Run(test.device, func(t *testing.T) {
			s := newFileSteps(t, ledger.RealDisk)
			s.failOnce()
			if err := os.Symlink(test.device, s.path+".tmp"); err != nil {
				t.Fatal(err)
			}
			s.change(in(backupA, noon+1, failed))
			if err := s.save(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			s.want("not saved", oneFailed)
			s.mustSave()
			s.kill()
			s.want("saved", "crs-a backup failed 2")
		})
	}
	t.Run("a folder", func(t *testing.T) {
		if err := ledger.RealDisk.Sync(fmt.Sprintf("/proc/%d", os.Getpid())); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a read error", func(t *testing.T) {
		if _, err := ledger.ReadRegular("/proc/self/mem"); !errors.Is(err, syscall.EIO) || !errors.Is(err, ledger.ErrDamaged) {
			t.Errorf("got %v", err)
		}
	})
}
