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

func delivers(deliver deliver) Effect { return func(x *exchange) { x.deliver = deliver } }

// deliverWhole sends the answer as it should be.
func deliverWhole(x *exchange, w http.ResponseWriter, _ *http.Request, a *answer) {
	copyHeader(w, a)
	// Before the client can see the end, and so before its next request.
	x.counted(a)
	x.leave()
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

func copyHeader(w http.ResponseWriter, a *answer) { maps.Copy(w.Header(), a.header) }

// TruncatedJSON cuts the body in half and gives the half's Content-Length.
func TruncatedJSON() Effect { return func(x *exchange) { x.cut = true } }

// ShortBody closes the connection after half of the bytes that Content-Length
// promised.
func ShortBody() Effect {
	return delivers(func(_ *exchange, w http.ResponseWriter, _ *http.Request, a *answer) {
		sendPart(w, a, len(a.body)/2)
		panic(http.ErrAbortHandler)
	})
}

// ResetBeforeHeaders resets the connection instead of an answer. Over a
// connection that knows no reset, this and the other resets close it.
func ResetBeforeHeaders() Effect {
	return delivers(func(_ *exchange, w http.ResponseWriter, _ *http.Request, _ *answer) { reset(w) })
}

// ResetAfterHeaders resets the connection between headers and body.
func ResetAfterHeaders() Effect {
	return delivers(func(_ *exchange, w http.ResponseWriter, _ *http.Request, a *answer) {
		sendPart(w, a, 0)
		reset(w)
	})
}

// ResetMidBody resets the connection after half of the body.
func ResetMidBody() Effect {
	return delivers(func(_ *exchange, w http.ResponseWriter, _ *http.Request, a *answer) {
		sendPart(w, a, len(a.body)/2)
		reset(w)
	})
}

// sendPart sends headers and n bytes of the body, and sees them off.
func sendPart(w http.ResponseWriter, a *answer, n int) {
	copyHeader(w, a)
	w.WriteHeader(a.status)
	if n > 0 {
		_, _ = w.Write(a.body[:n])
	}
	_ = http.NewResponseController(w).Flush()
}

func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	// A TLS connection would take its leave in good order.
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// EndlessBody answers with a page whose rows never end.
func EndlessBody() Effect {
	return delivers(func(x *exchange, w http.ResponseWriter, r *http.Request, a *answer) {
		a.header.Del("Content-Length")
		copyHeader(w, a)
		w.WriteHeader(http.StatusOK)
		_, err := io.WriteString(w, `{"code":0,"message":"","codeDesc":"Success","totalCount":1,"data":{"redisTaskSet":[`)
		e := encoder{zone: x.zone}
		row := append(e.appendTask(nil, &DocumentExample()[0]), ',')
		rows := bytes.Repeat(row, 32<<10/len(row))
		for err == nil && r.Context().Err() == nil {
			_, err = w.Write(rows)
		}
		panic(http.ErrAbortHandler)
	})
}

// GzipBomb answers with a body, gzipped whether the client takes that or not,
// that unpacks to somewhat more than size bytes.
func GzipBomb(size int64) Effect {
	return delivers(func(_ *exchange, w http.ResponseWriter, r *http.Request, a *answer) {
		a.header.Del("Content-Length")
		a.header.Set("Content-Encoding", "gzip")
		copyHeader(w, a)
		w.WriteHeader(http.StatusOK)

		// A gzip file may be several, one after the other: so the filler is
		// packed once, and the bomb costs its maker next to nothing.
		const piece = 256 << 10
		_, err := w.Write(zip([]byte(`{"code":0,"message":"`)))
		filler := zip(bytes.Repeat([]byte{'A'}, piece))
		for left := size; left > 0 && err == nil && r.Context().Err() == nil; left -= piece {
			_, err = w.Write(filler)
		}
		if err == nil {
			_, err = w.Write(zip([]byte(`","codeDesc":"Success","totalCount":0,"data":{"redisTaskSet":[]}}`)))
		}
		if err != nil || r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
	})
}

func zip(b []byte) []byte {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(b) // a bytes.Buffer takes everything
	_ = w.Close()
	return packed.Bytes()
}

// SlowBody sends the headers at once and then n bytes of the body at a time,
// with a pause of every before each.
func SlowBody(n int, every time.Duration) Effect {
	if n <= 0 {
		panic("crsapitest: SlowBody: n is not positive")
	}
	return delivers(func(x *exchange, w http.ResponseWriter, r *http.Request, a *answer) {
		sendPart(w, a, 0)
		for body := a.body; len(body) > 0; {
			pause(r.Context(), every)
			part := body[:min(n, len(body))]
			body = body[len(part):]
			if len(body) == 0 {
				x.counted(a)
				x.leave()
			}
			if _, err := w.Write(part); err != nil {
				panic(http.ErrAbortHandler)
			}
			_ = http.NewResponseController(w).Flush()
		}
	})
}

// SlowHeaders sends status line and headers byte by byte, with a pause of every
// before each, and then the body at once. Where the connection cannot be taken
// over, it pauses as long before an answer that is sent in one.
func SlowHeaders(every time.Duration) Effect {
	return delivers(func(x *exchange, w http.ResponseWriter, r *http.Request, a *answer) {
		a.header.Set("Connection", "close")
		var head bytes.Buffer
		_, _ = fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
		_ = a.header.Write(&head)
		head.WriteString("\r\n")

		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			pause(r.Context(), time.Duration(head.Len())*every)
			deliverWhole(x, w, r, a)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		watching := make(chan struct{})
		defer func() {
			cancel()
			_ = conn.Close()
			<-watching
		}()
		// Nobody else reads the connection now, and so would see it end.
		go func() {
			defer close(watching)
			defer cancel()
			_, _ = io.Copy(io.Discard, conn)
		}()

		for _, c := range head.Bytes() {
			pause(ctx, every)
			if _, err := conn.Write([]byte{c}); err != nil {
				return
			}
		}
		x.counted(a)
		x.leave()
		_, _ = conn.Write(a.body)
	})
}
