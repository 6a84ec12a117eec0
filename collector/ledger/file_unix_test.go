//go:build unix

package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Nothing but a regular file is opened, written, renamed or locked.
func TestWrongPlaces(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.WriteFile(at("file"), []byte("precious"), 0o600), os.Mkdir(at("folder"), 0o700), syscall.Mkfifo(at("pipe"), 0o600),
		os.Symlink("missing", at("link to nothing")), os.Symlink("pipe", at("link to a pipe")),
		os.Symlink("file", at("1.lock")), os.Symlink("file", at("2.tmp")),
	); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"folder": "folder", "link to nothing": "link to nothing", "link to a pipe": "pipe", "1": "1.lock", "2": "2.tmp",
	} {
		info, err := os.Lstat(at(file))
		if err != nil {
			t.Fatal(err)
		}
		wantRefused(t, at(name), fmt.Sprintf("%s (%s) is not a regular file: set --state.file to another path", at(file), info.Mode()))
	}
	wantRefused(t, at("missing/state"), "no such file")
	wantRefused(t, at("file/state"), "not a directory")
	if data, err := os.ReadFile(at("file")); string(data) != "precious" {
		t.Errorf("the target of a symlink is %q, %v", data, err)
	}
}

// A file that cannot be read is not damaged, and one that cannot be set aside stays where
// it is. The refusal releases the lock.
func TestCannotReadOrSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 250)) // .bad.1 makes the name too long
	if err := errors.Join(os.WriteFile(path, []byte("fault"), 0o600), os.WriteFile(path+".bad", nil, 0o600), os.WriteFile(path+".lock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantRefused(t, path, "not a state file; cannot set it aside: ")
	}
	if os.Getuid() == 0 {
		t.Skip("root may read any file")
	}
	if err := errors.Join(os.Chmod(path, 0), os.Remove(path+".bad")); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, path, "permission denied")
}

func TestFileIsPrivate(t *testing.T) {
	s := newFileSteps(t)
	s.failOnce()
	s.store.Close()
	if got, want := listing(t, s.path), []string{"-rw------- state", "-rw------- state.lock"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
