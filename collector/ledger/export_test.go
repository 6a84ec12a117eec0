package ledger

import (
	"maps"
	"slices"

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

// Encode returns the file that holds the ledgers.
func Encode(ledgers map[string]*Ledger) ([]byte, error) {
	var state savedState
	for _, region := range slices.Sorted(maps.Keys(ledgers)) {
		state.Ledgers = append(state.Ledgers, ledgers[region].save(region))
	}
	return encode(state)
}

// Decode returns the ledgers that a file holds.
var Decode = decode

// What a file holds, for tests of inconsistent content.
type (
	SavedState  = savedState
	SavedLedger = savedLedger
	SavedSeries = savedSeries
)

// EncodeState returns the file that holds a state.
var EncodeState = encode

// DecodePayload is Decode without the header and the checksum.
var DecodePayload = decodePayload

// HeaderSize is the length of what DecodePayload goes without.
const HeaderSize = headerSize

// ReadRegular reads a file as Open does.
var ReadRegular = readRegular

// ErrDamaged is the error of a file that Open sets aside.
var ErrDamaged = errDamaged

// Reload returns the ledger as a restart restores it.
func Reload(l *Ledger) (*Ledger, error) {
	data, err := Encode(map[string]*Ledger{"": l})
	if err != nil {
		return nil, err
	}
	ledgers, err := decode(data)
	return ledgers[""], err
}
