package crsapitest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"time"
)

// ConnEffect is an Effect on the connection of a request.
type ConnEffect int

const (
	// Hang sends no response. It ends when the client disconnects or the
	// server closes.
	Hang ConnEffect = iota
	// ResetBeforeHeaders resets the connection instead of a response. A
	// connection that is not TCP is closed by this and the other resets.
	ResetBeforeHeaders
	// ResetAfterHeaders resets the connection between headers and body.
	ResetAfterHeaders
	// ResetMidBody resets the connection after half of the body.
	ResetMidBody
	// ShortBody closes the connection after half of the body, less than
	// Content-Length says.
	ShortBody
	// TruncatedJSON sends half of the body, with the Content-Length of the
	// half.
	TruncatedJSON
	// EndlessBody sends a page with rows that never end.
	EndlessBody
)

func (c ConnEffect) apply(x *exchange) {
	switch c {
	case Hang:
		x.hang = true
	case ResetBeforeHeaders:
		x.deliver = func(_ *exchange, w http.ResponseWriter, _ *http.Request, _ *reply) { reset(w) }
	case ResetAfterHeaders:
		x.deliver = func(_ *exchange, w http.ResponseWriter, _ *http.Request, p *reply) {
			sendPart(w, p, 0)
			reset(w)
		}
	case ResetMidBody:
		x.deliver = func(_ *exchange, w http.ResponseWriter, _ *http.Request, p *reply) {
			sendPart(w, p, len(p.body)/2)
			reset(w)
		}
	case ShortBody:
		x.deliver = func(_ *exchange, w http.ResponseWriter, _ *http.Request, p *reply) {
			sendPart(w, p, len(p.body)/2)
			panic(http.ErrAbortHandler)
		}
	case TruncatedJSON:
		x.truncate = true
	case EndlessBody:
		x.deliver = deliverEndless
	}
}

func deliverWith(deliver deliver) Effect {
	return effectFunc(func(x *exchange) { x.deliver = deliver })
}

// deliverWhole sends the response without a fault.
func deliverWhole(x *exchange, w http.ResponseWriter, _ *http.Request, p *reply) {
	copyHeader(w, p)
	// Count first: once the client has the whole response, it may send the
	// next request or read the counts.
	x.countCode(p)
	x.end()
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body)
}

func copyHeader(w http.ResponseWriter, p *reply) { maps.Copy(w.Header(), p.header) }

// sendPart sends and flushes the headers and n bytes of the body.
func sendPart(w http.ResponseWriter, p *reply, n int) {
	copyHeader(w, p)
	w.WriteHeader(p.status)
	if n > 0 {
		_, _ = w.Write(p.body[:n])
	}
	_ = http.NewResponseController(w).Flush()
}

func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	// Closing the TLS connection would send a close_notify alert first.
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func deliverEndless(x *exchange, w http.ResponseWriter, r *http.Request, p *reply) {
	p.header.Del("Content-Length")
	copyHeader(w, p)
	w.WriteHeader(http.StatusOK)
	start := `{"code":0,"message":"","codeDesc":"Success","totalCount":1,"data":{"redisTaskSet":[`
	if x.dialect != nil {
		start = `{"Response":{"TotalCount":1,"RequestId":"` + requestID3 + `","` + x.dialect.tasks + `":[`
	}
	_, err := io.WriteString(w, start)
	e := rowEncoder{zone: x.zone, dialect: x.dialect}
	row := append(e.append(nil, &DocumentExample()[0]), ',')
	rows := bytes.Repeat(row, 32<<10/len(row))
	for err == nil && r.Context().Err() == nil {
		_, err = w.Write(rows)
	}
	panic(http.ErrAbortHandler)
}

// GzipBomb sends a gzip body, even if the client does not accept gzip. The body
// expands to slightly more than size bytes.
func GzipBomb(size int64) Effect {
	return deliverWith(func(x *exchange, w http.ResponseWriter, r *http.Request, p *reply) {
		start, end := `{"code":0,"message":"`, `","codeDesc":"Success","totalCount":0,"data":{"redisTaskSet":[]}}`
		if x.dialect != nil {
			start, end = `{"Response":{"RequestId":"`, `","TotalCount":0,"`+x.dialect.tasks+`":[]}}`
		}
		p.header.Del("Content-Length")
		p.header.Set("Content-Encoding", "gzip")
		copyHeader(w, p)
		w.WriteHeader(http.StatusOK)

		// Concatenated gzip files are a valid gzip file. So it is enough to
		// compress the filler once.
		const piece = 256 << 10
		_, err := w.Write(compress([]byte(start)))
		filler := compress(bytes.Repeat([]byte{'A'}, piece))
		for left := size; left > 0 && err == nil && r.Context().Err() == nil; left -= piece {
			_, err = w.Write(filler)
		}
		if err == nil {
			_, err = w.Write(compress([]byte(end)))
		}
		if err != nil || r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
	})
}

func compress(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b) // a bytes.Buffer never fails
	_ = w.Close()
	return buf.Bytes()
}

// SlowBody sends the headers at once, and then waits before each n bytes of the
// body.
func SlowBody(n int, wait time.Duration) Effect {
	if n <= 0 {
		panic("crsapitest: SlowBody: n must be positive")
	}
	return deliverWith(func(x *exchange, w http.ResponseWriter, r *http.Request, p *reply) {
		sendPart(w, p, 0)
		for body := p.body; len(body) > 0; {
			pause(r.Context(), wait)
			part := body[:min(n, len(body))]
			body = body[len(part):]
			if len(body) == 0 {
				x.countCode(p)
				x.end()
			}
			if _, err := w.Write(part); err != nil {
				panic(http.ErrAbortHandler)
			}
			_ = http.NewResponseController(w).Flush()
		}
	})
}

// SlowHeaders waits before each byte of the status line and the headers, and
// then sends the body at once. If the connection cannot be hijacked, it waits
// for the same total time and then sends the whole response.
func SlowHeaders(wait time.Duration) Effect {
	return deliverWith(func(x *exchange, w http.ResponseWriter, r *http.Request, p *reply) {
		p.header.Set("Connection", "close")
		var head bytes.Buffer
		_, _ = fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", p.status, http.StatusText(p.status))
		_ = p.header.Write(&head)
		head.WriteString("\r\n")

		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			pause(r.Context(), time.Duration(head.Len())*wait)
			deliverWhole(x, w, r, p)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		watching := make(chan struct{})
		defer func() {
			cancel()
			_ = conn.Close()
			<-watching
		}()
		// net/http no longer reads a hijacked connection. Read it here to
		// notice when the client disconnects.
		go func() {
			defer close(watching)
			defer cancel()
			_, _ = io.Copy(io.Discard, conn)
		}()

		for _, c := range head.Bytes() {
			pause(ctx, wait)
			if _, err := conn.Write([]byte{c}); err != nil {
				return
			}
		}
		x.countCode(p)
		x.end()
		_, _ = conn.Write(p.body)
	})
}
