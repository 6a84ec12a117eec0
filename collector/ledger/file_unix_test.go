//go:build unix

package ledger_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
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
	for _, name := range []string{"pipe", "socket", "loop", "link to nothing", "link to a folder", "link to a pipe"} {
		wantRefused(t, in(name), "is not a regular file: set --state.file to another path")
	}
	for _, suffix := range []string{".lock", ".tmp"} {
		path := in("state")
		for _, create := range []func() error{
			func() error { return syscall.Mkfifo(path+suffix, 0o600) },
			func() error { return os.Symlink("file", path+suffix) },
		} {
			if err := create(); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, path, "is not a regular file")
			if err := os.Remove(path + suffix); err != nil {
				t.Fatal(err)
			}
		}
	}
	if data, err := os.ReadFile(in("file")); string(data) != "precious" {
		t.Errorf("the target of a symlink is %q, %v", data, err)
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
