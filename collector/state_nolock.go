//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package collector

import (
	"errors"
	"fmt"
	"runtime"
)

// lockFile refuses: without a lock, two writers could ruin the file.
func lockFile(string) (unlock func() error, err error) {
	return nil, fmt.Errorf("no file lock on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
