//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package collector

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks a file, which it creates if there is none, until unlock or the
// end of the process, however it ends. The file stays: to remove it would let
// two processes lock two files of one name.
func lockFile(name string) (unlock func() error, err error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("in use by another process")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}
