package crsapi

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
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
