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

// filePause lies between two looks at a credentials file. It is also how long
// a file must have been at rest: a pair read while it is being written may
// look whole and lack its end.
const filePause = time.Second

// fileSource reads a credentials file whenever it was replaced or rewritten.
type fileSource struct {
	path   string
	read   fs.FileInfo // of the file as it was read last
	seen   fs.FileInfo // at the last look
	seenAt time.Time   // since when it has been so
}

// newFileCredentials returns the credentials of a file that can be read now.
func newFileCredentials(path string) (*RenewingCredentials, error) {
	c, info, err := readCredentialsFile(path)
	if err != nil {
		return nil, err
	}
	r := newRenewingCredentials(SourceFile, &fileSource{path: path, read: info, seen: info, seenAt: time.Now()}, filePause)
	r.lease.Credentials, r.lastLoad = c, time.Now()
	return r, nil
}

func (s *fileSource) load(_ context.Context, refused bool) (lease, error) {
	if !s.read.Mode().IsRegular() {
		return lease{}, errUnchanged // a pipe tells what it has once
	}
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		return lease{}, err
	case !info.Mode().IsRegular():
		return lease{}, errors.New(s.path + " is no regular file any more")
	case sameFile(info, s.read) && !refused:
		return lease{}, errUnchanged
	}
	if !sameFile(info, s.seen) {
		s.seen, s.seenAt = info, time.Now()
	}
	// By our clock, or by the file system's, which may be another.
	if time.Since(s.seenAt) < filePause && time.Since(info.ModTime()) < filePause {
		return lease{}, errUnchanged
	}
	c, read, err := readCredentialsFile(s.path)
	switch {
	case err != nil:
		return lease{}, err
	case !sameFile(info, read):
		return lease{}, errUnchanged // not at rest after all
	}
	s.read = read
	return lease{Credentials: c}, nil
}

// sameFile tells whether nothing was written between two looks, as far as the
// file system can tell.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// maxCredentialsFile bounds a credentials file, in bytes.
const maxCredentialsFile = 64 << 10

// ReadCredentialsFile reads secret_id, secret_key and token out of the section
// [default] of an INI file, as the vendor's SDKs write it.
func ReadCredentialsFile(path string) (Credentials, error) {
	c, _, err := readCredentialsFile(path)
	return c, err
}

// readCredentialsFile also tells which file it was, and at what state.
func readCredentialsFile(path string) (Credentials, fs.FileInfo, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, nil, fmt.Errorf("%w: there is no file %s", ErrNoCredentials, path)
	}
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCredentialsFile+1))
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	after, err := f.Stat()
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	if before.Mode().IsRegular() && !sameFile(before, after) {
		return Credentials{}, nil, fmt.Errorf("credentials file %s was written to while it was read", path)
	}
	c, err := parseCredentials(text)
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file %s: %w", path, err)
	}
	return c, before, nil
}

func parseCredentials(text []byte) (Credentials, error) {
	if len(text) > maxCredentialsFile {
		return Credentials{}, fmt.Errorf("larger than %d bytes", maxCredentialsFile)
	}
	file, err := ini.LoadSources(ini.LoadOptions{Loose: false, IgnoreInlineComment: true}, text)
	if err != nil {
		// The library's own error quotes the line, which may hold the key.
		return Credentials{}, errors.New("not in INI form")
	}
	section, err := file.GetSection("default")
	if err != nil {
		return Credentials{}, errors.New("no section [default]")
	}
	c := Credentials{
		SecretID:  section.Key("secret_id").String(),
		SecretKey: Secret(section.Key("secret_key").String()),
		Token:     Secret(section.Key("token").String()),
	}
	switch {
	case c.SecretID == "":
		return c, errors.New("no secret_id in section [default]")
	case c.SecretKey == "":
		return c, errors.New("no secret_key in section [default]")
	}
	return c, nil
}
