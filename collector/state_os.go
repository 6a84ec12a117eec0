package collector

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// errIO marks a file that is there and may be read, but cannot.
var errIO = errors.New("read error")

// osFS is the operating system's files.
type osFS struct{}

func (osFS) read(name string, limit int64) ([]byte, error) {
	// Asked first: to open a pipe would wait for its writer.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	if info.Size() > limit {
		return nil, errStateSize
	}
	data := make([]byte, 0, info.Size()+1)
	for {
		n, err := file.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case errors.Is(err, io.EOF), err == nil && len(data) == cap(data):
			return data, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errIO, err)
		}
	}
}

func (osFS) create(name string) (stateHandle, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (osFS) rename(from, to string) error          { return os.Rename(from, to) }
func (osFS) remove(name string) error              { return os.Remove(name) }
func (osFS) glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

func (osFS) sync(folder string) error {
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
