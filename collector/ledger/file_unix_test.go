//go:build unix

package ledger_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
)

// Nothing but a regular file is opened, written, renamed or locked.
func TestSpecialFiles(t *testing.T) {
	dir, err := os.MkdirTemp("", "ledger") // a short path, as sockets need
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.Listen("unix", in("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := errors.Join(
		syscall.Mkfifo(in("pipe"), 0o600), os.Mkdir(in("folder"), 0o700), os.WriteFile(in("file"), []byte("precious"), 0o600),
		os.Symlink("loop", in("loop")), os.Symlink("missing", in("link to nothing")), os.Symlink("folder", in("link to a folder")),
		os.Symlink("pipe", in("link to a pipe")),
	); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"pipe":             in("pipe") + " is a pipe, not a regular file: set --state.file to another path",
		"socket":           in("socket") + " is a socket, not a regular file",
		"loop":             "too many links",
		"link to nothing":  in("link to nothing") + " is a symlink, not a regular file",
		"link to a folder": in("folder") + " is a folder, not a regular file",
		"link to a pipe":   in("pipe") + " is a pipe, not a regular file",
	} {
		wantRefused(t, in(name), text)
	}
	for _, suffix := range []string{".lock", ".tmp"} {
		for target, kind := range map[string]string{"": "pipe", "file": "symlink"} {
			path := in("state")
			create := func() error { return os.Symlink(target, path+suffix) }
			if target == "" {
				create = func() error { return syscall.Mkfifo(path+suffix, 0o600) }
			}
			if err := create(); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, path, path+suffix+" is a "+kind+", not a regular file")
			if err := os.Remove(path + suffix); err != nil {
				t.Fatal(err)
			}
		}
	}
	if data, err := os.ReadFile(in("file")); string(data) != "precious" {
		t.Errorf("the target of a symlink is %q, %v", data, err)
	}
}

// What becomes a special file during the run is neither written nor replaced.
func TestSpecialFilesMeanwhile(t *testing.T) {
	for _, suffix := range []string{"", ".tmp"} {
		s := newFileSteps(t, ledger.RealDisk)
		s.failOnce()
		_ = os.Remove(s.path + suffix)
		if err := syscall.Mkfifo(s.path+suffix, 0o600); err != nil {
			t.Fatal(err)
		}
		if s.store.Save() {
			t.Error("saved")
		}
		s.wantLog("error", s.path+suffix+" is a pipe, not a regular file")
		if info, err := os.Lstat(s.path + suffix); err != nil || info.Mode().Type() != os.ModeNamedPipe {
			t.Errorf("it is %v, %v", info, err)
		}
		if err := os.Remove(s.path + suffix); err != nil {
			t.Fatal(err)
		}
		s.mustSave()
		s.kill()
		s.want("restored", oneFailed)
	}
}

// A file without permission is not damaged: it stays where it is.
func TestNoPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may do anything")
	}
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "file"), filepath.Join(dir, "folder")
	if err := errors.Join(os.WriteFile(file, []byte("fault"), 0), os.Mkdir(folder, 0o500), os.WriteFile(file+".lock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, file, "permission denied")
	wantRefused(t, filepath.Join(folder, "state"), "permission denied")
}
