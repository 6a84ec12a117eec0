package crsapi

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// TestDeadAddress has a name with two addresses, the first of which does not
// respond: within one attempt, the second one gets its turn.
func TestDeadAddress(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"code":0,"totalCount":0}`)
	}))
	defer server.Close()
	cfg := DefaultConfig(API20)
	cfg.Region, cfg.Credentials = "r", credentials.Static{SecretID: "i", SecretKey: "k"}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	cfg.Endpoint = "http://redis.example.test:" + port + "/"
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	c.conns.transport.(*http.Transport).Proxy = nil
	dead := 0
	c.conns.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go answerName(far, net.IPv4(127, 0, 0, 2), net.IPv4(127, 0, 0, 1))
		return near, nil
	}}
	c.conns.dialer.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if !strings.HasPrefix(address, "127.0.0.2:") {
			return nil
		}
		dead++
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > cfg.RequestTimeout*3/4 {
			t.Errorf("the dead address has until %v of %v", time.Until(deadline), cfg.RequestTimeout)
		}
		return context.DeadlineExceeded // as if that time had passed
	}
	if _, err := c.Page(t.Context(), Query{}); err != nil || dead != 1 {
		t.Errorf("%v after %d dials of the dead address", err, dead)
	}
}

// answerName is a name server on a stream: it answers a question for IPv4 addresses
// with these, and any other with none.
func answerName(conn net.Conn, addresses ...net.IP) {
	defer func() { _ = conn.Close() }()
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return
	}
	end := 12 // of the header
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5 // type and class
	if query[end-3] != 1 {
		addresses = nil
	}
	reply := append([]byte{0, 0}, query[:2]...)
	reply = append(reply, 0x81, 0x80, 0, 1, 0, byte(len(addresses)), 0, 0, 0, 0)
	reply = append(reply, query[12:end]...)
	for _, address := range addresses {
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		reply = append(reply, address.To4()...)
	}
	binary.BigEndian.PutUint16(reply, uint16(len(reply)-2))
	_, _ = conn.Write(reply)
}
