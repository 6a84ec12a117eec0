package ledger

import (
	"bytes"
	"compress/gzip"

	"github.com/go-kit/log"
)

// Disk is the disk of a Store, for tests that let it fail.
type Disk interface {
	Write(name string, data []byte) error
	Rename(from, to string) error
	Sync(folder string) error
}

// RealDisk is what Open uses.
var RealDisk Disk = realDisk{osDisk{}}

type realDisk struct{ osDisk }

func (d realDisk) Write(name string, data []byte) error { return d.write(name, data) }
func (d realDisk) Rename(from, to string) error         { return d.rename(from, to) }
func (d realDisk) Sync(folder string) error             { return d.sync(folder) }

type testDisk struct{ Disk }

func (d testDisk) write(name string, data []byte) error { return d.Write(name, data) }
func (d testDisk) rename(from, to string) error         { return d.Rename(from, to) }
func (d testDisk) sync(folder string) error             { return d.Sync(folder) }

// OpenOn is Open on a disk.
func OpenOn(d Disk, path string, logger log.Logger) (*Store, error) {
	return open(path, testDisk{d}, logger)
}

// Encode returns the file that has the ledgers.
var Encode = encode

// Decode returns the ledgers that a file has.
func Decode(file []byte) (map[string]*Ledger, error) { return decode(bytes.NewReader(file)) }

// Pack returns the file with any content, with the right checksum.
func Pack(content []byte) []byte {
	var b bytes.Buffer
	b.WriteString(fileHeader)
	z := gzip.NewWriter(&b)
	_, _ = z.Write(content)
	_ = z.Close()
	return b.Bytes()
}

// MaxContent is how large the content of a file may be.
const MaxContent = maxContent

// Reload returns the ledger as a restart restores it.
func Reload(l *Ledger) (*Ledger, error) {
	ledgers, err := Decode(encode(map[string]*Ledger{"": l}))
	return ledgers[""], err
}
