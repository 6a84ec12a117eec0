package ledger

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// A state file is this header, and a map of regions to states: gob in gzip, which has the
// checksum. All versions begin with the magic.
const (
	fileMagic  = "CRSSTATE"
	fileHeader = fileMagic + "3\n"
)

// maxContent limits a file, decompressed, in bytes. A million tasks take 24 MB.
const maxContent = 256 << 20

// encode returns the file. It leaves out a region that was last listed longer than the
// retention before the others.
func encode(ledgers map[string]*Ledger) []byte {
	newest, states := int64(0), map[string]*state{}
	for _, l := range ledgers {
		l.mu.Lock()
		defer l.mu.Unlock()
		newest = max(newest, l.state.Seen)
	}
	for region, l := range ledgers {
		if l.state.Seen >= newest-retention {
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
func decode(file []byte) (map[string]*Ledger, error) {
	if !bytes.HasPrefix(file, []byte(fileMagic)) {
		return nil, errors.New("not a state file")
	}
	compressed, ok := bytes.CutPrefix(file, []byte(fileHeader))
	if !ok {
		return nil, errors.New("written by another version")
	}
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(z, maxContent+1)) // up to the checksum
	if err == nil && len(content) > maxContent {
		err = fmt.Errorf("larger than %d bytes", maxContent)
	}
	if err != nil {
		return nil, err
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
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s (%s) is not a regular file: set --state.file to another path", name, info.Mode())
	}
	return err
}

// badFile returns the name for a file that is set aside, the first free one of path.bad,
// path.bad.1 and so on; and when a file was last set aside.
func badFile(path string) (free string, last time.Time) {
	free = path + ".bad"
	for n := 1; ; n++ {
		info, err := os.Lstat(free)
		if err != nil {
			return free, last
		}
		free, last = fmt.Sprint(path, ".bad.", n), info.ModTime()
	}
}

// replace replaces the file so that a crash leaves the old one or the new one.
func (s *Store) replace(data []byte) error {
	temporary := s.path + ".tmp"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary) }() // what a failure leaves may fill the disk
	_, err = file.Write(data)
	if err == nil {
		err = s.fsync(file)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, s.path); err != nil || runtime.GOOS == "windows" {
		return err // a folder cannot be synced there
	}
	folder, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	return errors.Join(s.fsync(folder), folder.Close())
}
