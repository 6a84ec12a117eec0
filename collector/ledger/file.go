package ledger

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// A state file is this header, and a map of regions to states: gob in gzip, which has the
// checksum. All versions begin with the magic.
const (
	fileMagic  = "CRSSTATE"
	fileHeader = fileMagic + "3\n"
)

const (
	maxContent  = 256 << 20 // bytes of a file, decompressed; a million tasks take 24 MB
	maxBadFiles = 10
)

// encode returns the file. It leaves out a region before its first list, and one that is
// not watched and was last listed longer than the retention before the others.
func encode(ledgers map[string]*Ledger) []byte {
	newest, states := int64(0), map[string]*state{}
	for _, l := range ledgers {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.watched {
			newest = max(newest, l.state.Seen)
		}
	}
	for region, l := range ledgers {
		if l.state.Source != "" && (l.watched || l.state.Seen >= newest-retention) {
			states[region] = &l.state
		}
	}
	var b bytes.Buffer // no write to it fails
	b.WriteString(fileHeader)
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	_ = gob.NewEncoder(z).Encode(states)
	_ = z.Close()
	return b.Bytes()
}

// decode returns what a file has. A file with a fault is not used at all: a scraper takes
// counters that go back a little for a reset, and counts them twice.
func decode(r io.Reader) (map[string]*Ledger, error) {
	header := make([]byte, len(fileHeader))
	if _, err := io.ReadFull(r, header); err != nil || !bytes.HasPrefix(header, []byte(fileMagic)) {
		return nil, errors.New("not a state file")
	}
	if string(header) != fileHeader {
		return nil, errors.New("written by another version")
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(z, maxContent+1)) // up to the checksum
	if err != nil {
		return nil, err
	}
	if len(content) > maxContent {
		return nil, fmt.Errorf("larger than %d bytes", maxContent)
	}
	var states map[string]state
	if err := gob.NewDecoder(bytes.NewReader(content)).Decode(&states); err != nil {
		return nil, err
	}
	ledgers := map[string]*Ledger{}
	for region, s := range states {
		ledgers[region] = restore(s)
	}
	return ledgers, nil
}

// checkRegular returns an error unless name is a regular file or does not exist. To
// rename a file over a device would remove the device, and to open a pipe would hang.
func checkRegular(name string) error {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().IsRegular():
		return nil
	}
	kind := map[fs.FileMode]string{
		fs.ModeDir: "folder", fs.ModeSymlink: "symlink", fs.ModeNamedPipe: "pipe", fs.ModeSocket: "socket",
	}[info.Mode().Type()]
	return fmt.Errorf("%s is a %s, not a regular file: set --state.file to another path", name, cmp.Or(kind, "device"))
}

// resolve returns where a path leads to: a rename must not replace a symlink, and the
// lock must be the same through any symlink.
func resolve(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(folder, filepath.Base(path)), err
}

// badFile returns the name for a file that is set aside, the first free one of path.bad,
// path.bad.1 and so on, or else the last; and when a file was last set aside.
func badFile(path string) (name string, last time.Time) {
	name = path + ".bad"
	for n := 1; ; n++ {
		info, err := os.Lstat(name)
		if err != nil {
			return name, last
		}
		last = info.ModTime()
		if n == maxBadFiles {
			return name, last
		}
		name = path + ".bad." + strconv.Itoa(n)
	}
}

// disk is what a Store does to files. Tests let it fail.
type disk interface {
	write(name string, data []byte) error // creates or truncates it, writes and syncs
	rename(from, to string) error
	sync(folder string) error // makes renames in it durable
}

// replace replaces a file so that a crash leaves the old one or the new one. It creates
// the folder if that has vanished.
func replace(d disk, path string, data []byte) error {
	folder, temporary := filepath.Dir(path), path+".tmp"
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := cmp.Or(checkRegular(path), checkRegular(temporary)); err != nil {
		return err
	}
	if err := d.write(temporary, data); err != nil {
		_ = os.Remove(temporary) // it may fill the disk
		return err
	}
	if err := d.rename(temporary, path); err != nil {
		return err
	}
	return d.sync(folder)
}

type osDisk struct{}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) write(name string, data []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (osDisk) sync(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there
	}
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
