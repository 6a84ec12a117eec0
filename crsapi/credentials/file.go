package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"gopkg.in/ini.v1"
)

const (
	// maxFile is the size limit of a credentials file, in bytes.
	maxFile = 64 << 10
	// filePause is the interval between checks of a credentials file. A changed
	// file must also be unchanged for this long before it is read: a file that
	// is still being written may look complete with its last bytes missing.
	filePause = time.Second
)

// fileSource reads a credentials file again after it was replaced or rewritten.
type fileSource struct {
	path   string
	read   fs.FileInfo // when the file was last read
	seen   fs.FileInfo // when the file was last checked
	seenAt time.Time   // first check that found it as in seen
}

// newFile returns a Renewer for a file that can be read now, or an error that
// wraps ErrNotFound if the file does not exist.
func newFile(path string) (*Renewer, error) {
	key, info, err := readFile(path)
	if err != nil {
		return nil, err
	}
	r := newRenewer("file", &fileSource{path: path, read: info, seen: info, seenAt: time.Now()}, filePause)
	r.lease.key, r.lastLoad = key, time.Now()
	return r, nil
}

func (s *fileSource) load(_ context.Context, refused bool) (lease, error) {
	if !s.read.Mode().IsRegular() {
		return lease{}, errUnchanged // a pipe can be read only once
	}
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		return lease{}, err
	case !info.Mode().IsRegular():
		return lease{}, errors.New(s.path + " is no longer a regular file")
	case sameFile(info, s.read) && !refused:
		return lease{}, errUnchanged
	}
	if !sameFile(info, s.seen) {
		s.seen, s.seenAt = info, time.Now()
	}
	// Either clock may show that the file is complete: ours, or the one that
	// wrote the modification time, which may be ahead of ours.
	if time.Since(s.seenAt) < filePause && time.Since(info.ModTime()) < filePause {
		return lease{}, errUnchanged
	}
	key, read, err := readFile(s.path)
	switch {
	case err != nil:
		return lease{}, err
	case !sameFile(info, read):
		return lease{}, errUnchanged // replaced after the check: wait again
	}
	s.read = read
	return lease{key: key}, nil
}

// sameFile reports whether the file system shows no write between a and b.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// readFile returns the key in a file, and the state of the file that it read.
func readFile(path string) (Key, fs.FileInfo, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, nil, fmt.Errorf("%w: there is no file %s", ErrNotFound, path)
	}
	if err != nil {
		return Key{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return Key{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Key{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	after, err := f.Stat()
	if err != nil {
		return Key{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	if before.Mode().IsRegular() && !sameFile(before, after) {
		return Key{}, nil, fmt.Errorf("credentials file %s changed while being read", path)
	}
	key, err := parseFile(text)
	if err != nil {
		return Key{}, nil, fmt.Errorf("credentials file %s: %w", path, err)
	}
	return key, before, nil
}

// parseFile reads the section [default] of an INI file, as Tencent's SDKs do.
func parseFile(text []byte) (Key, error) {
	if len(text) > maxFile {
		return Key{}, fmt.Errorf("larger than %d bytes", maxFile)
	}
	file, err := ini.LoadSources(ini.LoadOptions{Loose: false, IgnoreInlineComment: true}, text)
	if err != nil {
		// The error of the library quotes the line, which may contain the key.
		return Key{}, errors.New("not in INI format")
	}
	section, err := file.GetSection("default")
	if err != nil {
		return Key{}, errors.New("no section [default]")
	}
	value := func(name string) string { return section.Key(name).String() }
	names := [...]string{"secret_id", "secret_key", "token"}
	key, err := newKey(names, value(names[0]), value(names[1]), value(names[2]))
	if err != nil {
		return Key{}, err
	}
	switch {
	case key.SecretID == "":
		return Key{}, errors.New("no secret_id in section [default]")
	case key.SecretKey == "":
		return Key{}, errors.New("no secret_key in section [default]")
	}
	return key, nil
}
