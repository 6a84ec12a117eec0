package collector

import (
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"
)

// part is one of the two parts of a response body. Compressed, it ends at the end
// of a block of deflate, so that both parts in a row are one stream.
type part struct {
	chunks [][]byte // not one slice, which would be copied while it grows
	sum    checksum // of the text up to the end of the part
}

const chunkSize = 32 << 10

// Write implements io.Writer. It never fails.
func (p *part) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if last := len(p.chunks) - 1; last < 0 || len(p.chunks[last]) == cap(p.chunks[last]) {
			p.chunks = append(p.chunks, make([]byte, 0, chunkSize))
		}
		chunk := &p.chunks[len(p.chunks)-1]
		n := min(len(rest), cap(*chunk)-len(*chunk))
		*chunk, rest = append(*chunk, rest[:n]...), rest[n:]
	}
	return len(b), nil
}

// checksum is what a gzip stream ends with.
type checksum struct {
	crc  uint32
	size uint32 // modulo 2^32
}

// Write implements io.Writer. It never fails.
func (c *checksum) Write(b []byte) (int, error) {
	c.crc = crc32.Update(c.crc, crc32.IEEETable, b)
	c.size += uint32(len(b))
	return len(b), nil
}

// gzipHeader says deflate, no name, no time and an unknown system (RFC 1952,
// section 2.3).
const gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

func (c checksum) gzipTrailer() []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, c.crc), c.size)
}

// compressors makes the parts of gzip streams. It is safe for concurrent use.
type compressors struct{ pool sync.Pool } // of *flate.Writer

// first returns the first part of a stream, with what write writes.
func (cs *compressors) first(write func(io.Writer) error) (p part, err error) {
	_, _ = io.WriteString(&p, gzipHeader)
	w := cs.get(&p)
	defer cs.put(w)
	if err := write(io.MultiWriter(w, &p.sum)); err != nil {
		return part{}, err
	}
	return p, w.Flush()
}

// last returns the last part of a stream. The checksum is that of the first.
func (cs *compressors) last(first checksum, text []byte) part {
	p := part{sum: first}
	w := cs.get(&p)
	defer cs.put(w)
	// No write to p fails.
	_, _ = io.MultiWriter(w, &p.sum).Write(text)
	_ = w.Close()
	_, _ = p.Write(p.sum.gzipTrailer())
	return p
}

func (cs *compressors) get(p *part) *flate.Writer {
	w, ok := cs.pool.Get().(*flate.Writer)
	if !ok {
		w, _ = flate.NewWriter(nil, flate.DefaultCompression) // the level is valid
	}
	w.Reset(p)
	return w
}

func (cs *compressors) put(w *flate.Writer) {
	w.Reset(io.Discard) // it must not keep the part
	cs.pool.Put(w)
}
