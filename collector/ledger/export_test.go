package ledger

import (
	"bytes"
	"compress/gzip"
	"os"
)

// MaxContent is how large the content of a file may be.
const MaxContent = maxContent

// Encode returns the file that has the ledgers, Decode the ledgers that a file has.
var (
	Encode = encode
	Decode = decode
)

// SetSync replaces how the Store syncs the file and its folder.
func (s *Store) SetSync(fsync func(*os.File) error) { s.fsync = fsync }

// Pack returns the file with any content, with the right checksum.
func Pack(content []byte) []byte {
	var b bytes.Buffer
	b.WriteString(fileHeader)
	z := gzip.NewWriter(&b)
	_, _ = z.Write(content)
	_ = z.Close()
	return b.Bytes()
}

// Reload returns the ledger as a restart restores it.
func Reload(l *Ledger) (*Ledger, error) {
	ledgers, err := Decode(encode(map[string]*Ledger{"": l}))
	return ledgers[""], err
}
