package crsapitest

import (
	"maps"
	"net"
	"net/http"
	"strconv"
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
)

func (c ConnEffect) apply(x *exchange) {
	x.send = func(w http.ResponseWriter, r *http.Request, p *response) {
		half := len(p.body) / 2
		switch c {
		case Hang:
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		case ResetBeforeHeaders:
			reset(w)
		case ResetAfterHeaders:
			sendPart(w, p, 0)
			reset(w)
		case ResetMidBody:
			sendPart(w, p, half)
			reset(w)
		case ShortBody:
			sendPart(w, p, half)
			panic(http.ErrAbortHandler)
		case TruncatedJSON:
			p.body = p.body[:half]
			sendAll(w, r, p)
		}
	}
}

// sendAll sends the response without a fault.
func sendAll(w http.ResponseWriter, _ *http.Request, p *response) { sendPart(w, p, len(p.body)) }

// sendPart sends and flushes the headers and n bytes of the body.
func sendPart(w http.ResponseWriter, p *response, n int) {
	maps.Copy(w.Header(), p.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(p.body)))
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body[:n])
	_ = http.NewResponseController(w).Flush()
}

func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// SlowBody sends the headers at once, and then waits before each n bytes of the
// body.
func SlowBody(n int, wait time.Duration) Effect {
	if n <= 0 {
		panic("crsapitest: SlowBody: n must be positive")
	}
	return send(func(w http.ResponseWriter, r *http.Request, p *response) {
		sendPart(w, p, 0)
		for body := p.body; len(body) > 0; {
			pause(r.Context(), wait)
			part := body[:min(n, len(body))]
			body = body[len(part):]
			if _, err := w.Write(part); err != nil {
				panic(http.ErrAbortHandler)
			}
			_ = http.NewResponseController(w).Flush()
		}
	})
}
