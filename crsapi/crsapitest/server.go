package crsapitest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// The documented hosts of API 2.0 and 3.0.
const (
	host  = "redis.api.qcloud.com"
	host3 = "redis.tencentcloudapi.com"
)

// Server is an HTTP server for a Simulator.
type Server struct {
	*Simulator

	URL  string // of the endpoint of API 2.0, with the path
	URL3 string // of the endpoint of API 3.0 and of the private cloud, with the path /

	server *http.Server
	client *http.Client
	cert   *x509.Certificate
	cancel context.CancelFunc
	served chan struct{} // closed when the accept loop ends

	conns    sync.WaitGroup // connections that net/http still owns
	handlers sync.WaitGroup // including those of hijacked connections
}

// NewServer serves a new Simulator over HTTP on a free loopback port. Like
// httptest.NewServer, it panics if it cannot listen.
func NewServer() *Server {
	return New().Serve(listen())
}

// NewTLSServer is NewServer over HTTPS, HTTP/1.1 only. Its certificate is new
// and self-signed; [Server.Client] trusts it.
func NewTLSServer() *Server {
	key, cert, err := newCertificate()
	if err != nil {
		panic("crsapitest: NewTLSServer: " + err.Error())
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	listener := listen()
	srv := serve(New(), tls.NewListener(listener, &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
	}), "https://"+listener.Addr().String(), &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
	})
	srv.cert = cert
	return srv
}

// NewMemoryServer serves a new Simulator over in-memory connections. Only its
// Client can connect, to any host name. It works in a testing/synctest bubble, with the clock of
// the bubble, if the test creates and closes it there.
func NewMemoryServer() *Server {
	listener := newMemoryListener()
	srv := serve(New(), listener, "http://"+host, &http.Transport{DialContext: listener.dial})
	srv.URL3 = "http://" + host3 + path3
	return srv
}

// Serve serves s over HTTP on l. Closing the Server closes l. Several servers
// may serve the same Simulator.
func (s *Simulator) Serve(l net.Listener) *Server {
	return serve(s, l, "http://"+l.Addr().String(), &http.Transport{})
}

func listen() net.Listener {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic("crsapitest: listen on a loopback port: " + err.Error())
	}
	return listener
}

func serve(s *Simulator, l net.Listener, base string, transport *http.Transport) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	srv := &Server{
		Simulator: s,
		URL:       base + Path,
		URL3:      base + path3,
		client:    &http.Client{Transport: transport},
		cancel:    cancel,
		served:    make(chan struct{}),
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	srv.server = &http.Server{
		Handler:     http.HandlerFunc(srv.track),
		ConnState:   srv.trackConn,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, s.conns.Add(1))
		},
		Protocols: &protocols,
		// Limit the time of requests only. A fault may delay a response without
		// limit.
		ReadTimeout:    10 * time.Second,
		MaxHeaderBytes: 2 * maxParams,
		// Longer than the 90 s of Go's default client, so that the client closes
		// idle connections first.
		IdleTimeout: 3 * time.Minute,
	}
	go func() {
		defer close(srv.served)
		_ = srv.server.Serve(l)
	}()
	return srv
}

// connKey is the key of the number of a connection, counted from 1.
type connKey struct{}

// Connections returns the number of connections that the Servers of s have
// accepted.
func (s *Simulator) Connections() int { return int(s.conns.Load()) }

// OnOpenConnections applies an effect to requests over the connections that the
// Servers of s have accepted so far, as if the machines behind them went bad
// while others stay good.
func (s *Simulator) OnOpenConnections(do Effect) Effect {
	last := s.conns.Load()
	return effectFunc(func(x *exchange) {
		if x.conn <= last {
			do.apply(x)
		}
	})
}

// trackConn counts the connections that net/http owns.
func (s *Server) trackConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew: // called from the accept loop
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

func (s *Server) track(w http.ResponseWriter, r *http.Request) {
	s.handlers.Add(1)
	defer s.handlers.Done()
	s.ServeHTTP(w, r)
}

// Client returns a client that can connect to the server and trusts its
// certificate. Its Transport is only for this server. Close ends its
// connections.
func (s *Server) Client() *http.Client { return s.client }

// Certificate returns the self-signed certificate of a server from
// NewTLSServer, and nil for other servers.
func (s *Server) Certificate() *x509.Certificate { return s.cert }

// Close closes the listener and all connections, those of hanging requests
// included, and waits until all goroutines of the server end. A second call does
// nothing. If a hook blocks, the caller must unblock it before Close.
func (s *Server) Close() {
	s.cancel()
	_ = s.server.Close()
	// The accept loop starts connections, and connections start handlers. In
	// this order, no WaitGroup can grow while it is waited for.
	<-s.served
	s.conns.Wait()
	s.handlers.Wait()
}

func newCertificate() (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "crsapitest"},
		DNSNames:              []string{"localhost", host, host3},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("create a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("parse the certificate: %w", err)
	}
	return key, cert, nil
}
