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

// Host is the documented host of the API, by which [NewMemoryServer] is asked.
const Host = "redis.api.qcloud.com"

// Server is a Simulator that is being served.
type Server struct {
	*Simulator

	URL string // the whole endpoint, path included

	server *http.Server
	client *http.Client
	cert   *x509.Certificate
	cancel context.CancelFunc
	served chan struct{} // closed when the accept loop has ended

	conns    sync.WaitGroup // whose goroutines are net/http's
	handlers sync.WaitGroup // among them those of hijacked connections
}

// NewServer serves a new Simulator over HTTP on a loopback port that the
// system chooses. Like httptest.NewServer it panics if there is none.
func NewServer() *Server {
	return New().Serve(listen())
}

// NewTLSServer is NewServer over HTTPS, with a certificate made for the
// occasion that [Server.Client] trusts. It speaks HTTP/1.1 alone.
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

// NewMemoryServer serves a new Simulator over connections that never leave the
// process. Only its Client reaches it. In a bubble of testing/synctest all of
// it sees the bubble's clock; it must be made and closed there.
func NewMemoryServer() *Server {
	listener := newMemoryListener()
	return serve(New(), listener, "http://"+Host, &http.Transport{DialContext: listener.dial})
}

// Serve serves s over HTTP on l until the Server is closed, which closes l. The
// simulator may be served more than once.
func (s *Simulator) Serve(l net.Listener) *Server {
	return serve(s, l, "http://"+l.Addr().String(), &http.Transport{})
}

func listen() net.Listener {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic("crsapitest: no loopback port to listen on: " + err.Error())
	}
	return listener
}

func serve(s *Simulator, l net.Listener, base string, transport *http.Transport) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	srv := &Server{
		Simulator: s,
		URL:       base + Path,
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
		Protocols:   &protocols,
		// Requests must come in quickly; answers may take for ever.
		ReadTimeout:    10 * time.Second,
		MaxHeaderBytes: 2 * maxParams,
		// Longer than the 90 s of Go's clients, so that an idle connection is
		// theirs to close.
		IdleTimeout: 3 * time.Minute,
	}
	go func() {
		defer close(srv.served)
		_ = srv.server.Serve(l)
	}()
	return srv
}

// trackConn counts connections until net/http has done with them.
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

// Client returns a client that reaches the server and trusts its certificate.
// Its Transport serves nothing else, and what it holds open ends with Close.
func (s *Server) Client() *http.Client { return s.client }

// Certificate returns the certificate of NewTLSServer, its own authority; nil
// for other servers.
func (s *Server) Certificate() *x509.Certificate { return s.cert }

// Close stops serving, cuts all connections, hung ones too, and waits until
// every goroutine of the server's has ended. It may be called more than once.
// A hook that blocks must be let go before.
func (s *Server) Close() {
	s.cancel()
	_ = s.server.Close()
	// In this order each count only falls while it is waited for: connections
	// begin in the accept loop, handlers on a connection.
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
		DNSNames:              []string{"localhost", Host},
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
