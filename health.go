package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sync/errgroup"
)

const (
	// healthTimeout limits a health check.
	healthTimeout = 3 * time.Second

	vsockScheme = "vsock://"
)

// checkHealth requests the health of the exporter at each of the addresses, as
// --web.listen-address takes them, below the prefix of its paths, for images without a shell or curl. A refusal
// is healthy too: with TLS or basic auth, this is the only response it can get.
func checkHealth(ctx context.Context, prefix string, addresses ...string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var checks errgroup.Group
	for _, address := range addresses {
		checks.Go(func() error {
			if err := checkHealthAt(ctx, prefix, address); err != nil {
				return fmt.Errorf("healthcheck of %s: %w", address, err)
			}
			return nil
		})
	}
	return checks.Wait()
}

func checkHealthAt(ctx context.Context, prefix, address string) error {
	// The address is not part of the URL, which cannot contain every address.
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dialListener(ctx, address) },
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+prefix+healthyPath, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return errors.Unwrap(err) // without the URL, which says nothing
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return errors.New(resp.Status)
	}
	return nil
}

// dialListener connects to what listens on an address of --web.listen-address.
func dialListener(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(address, vsockScheme))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(address, vsockScheme) {
		return dialVsock(port)
	}
	var dialer net.Dialer
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.WithZone("").IsUnspecified()) {
		return dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		if conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); err == nil {
			return conn, nil // a machine without IPv4
		}
	}
	return conn, err
}

// dialVsock connects to a listener of this machine. The kernel needs its module
// vsock_loopback for that, and ends the attempt after 2 seconds.
func dialVsock(port string) (net.Conn, error) {
	number, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return nil, err
	}
	self, err := vsock.ContextID()
	if err != nil {
		return nil, err
	}
	return vsock.Dial(self, uint32(number), nil)
}
