package crsapitest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"time"
)

// The documented hosts of API 2.0 and 3.0.
const (
	host  = "redis.api.qcloud.com"
	host3 = "redis.tencentcloudapi.com"
)

// Server is an httptest.Server for a Simulator.
type Server struct {
	*Simulator

	URL  string // of the endpoint of API 2.0, with the path
	URL3 string // of the endpoint of API 3.0 and of the private cloud, with the path /

	http   *httptest.Server
	cancel context.CancelFunc
}

// NewServer serves a new Simulator over HTTP on a free loopback port. Like
// httptest.NewServer, it panics if it cannot listen.
func NewServer() *Server {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic("crsapitest: listen on a loopback port: " + err.Error())
	}
	return New().Serve(l)
}

// NewMemoryServer serves a new Simulator over in-memory connections. Only its
// Client can connect, to any host name. It works in a testing/synctest bubble, with the
// clock of the bubble, if the test creates and closes it there.
func NewMemoryServer() *Server {
	l := newMemoryListener()
	srv := New().Serve(l)
	srv.Client().Transport = &http.Transport{DialContext: l.dial}
	srv.URL, srv.URL3 = "http://"+host+Path, "http://"+host3+path3
	return srv
}

// Serve serves s over HTTP on l. Closing the Server closes l. Several servers
// may serve the same Simulator.
func (s *Simulator) Serve(l net.Listener) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	srv := &Server{Simulator: s, cancel: cancel}
	srv.http = &httptest.Server{Listener: l, Config: &http.Server{
		Handler:     s,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// Of requests only: a fault may delay a response without limit.
		ReadTimeout: 10 * time.Second,
		// Longer than the 90 s of Go's default client, so that the client closes
		// idle connections first.
		IdleTimeout: 3 * time.Minute,
	}}
	srv.http.Start()
	srv.URL, srv.URL3 = srv.http.URL+Path, srv.http.URL+path3
	return srv
}

// Client returns a client that can connect to the server. Close closes its idle
// connections.
func (s *Server) Client() *http.Client { return s.http.Client() }

// Close closes the listener and all connections, those of hanging requests
// included, and waits for the requests, but not for those whose connection a fault
// broke. If a hook blocks, the caller must unblock it before Close.
func (s *Server) Close() {
	s.cancel()
	s.http.CloseClientConnections()
	s.http.Close()
}
