package ledger

import (
	"bytes"
	"compress/gzip"
	"os"

	"pgregory.net/rapid"
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
func Reload(t rapid.TB, l *Ledger) *Ledger {
	t.Helper()
	ledgers, err := decode(encode(map[string]*Ledger{"": l}))
	if err != nil {
		t.Fatal(err)
	}
	return ledgers[""]
}
