package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/mdlayher/vsock"
)

func healthcheck(ctx context.Context, addresses ...string) error {
	args := []string{"--healthcheck"}
	for _, address := range addresses {
		args = append(args, "--web.listen-address="+address)
	}
	return run(ctx, args, io.Discard, io.Discard)
}

func TestHealthcheck(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	exporter := start(t, args...)
	address := strings.TrimPrefix(exporter.url, "http://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	const dead = "127.0.0.1:0"
	for name, test := range map[string]struct {
		addresses []string
		want      string // error
	}{
		"host and port":   {[]string{address}, ""},
		"name":            {[]string{"localhost:" + port}, ""},
		"port":            {[]string{":" + port}, ""},
		"any IPv4":        {[]string{"0.0.0.0:" + port}, ""},
		"any IPv6":        {[]string{"[::]:" + port}, ""},
		"any with a zone": {[]string{"[::%lo]:" + port}, ""},
		"several":         {[]string{address, ":" + port}, ""},
		"first is dead":   {[]string{dead, address}, "healthcheck of " + dead},
		"last is dead":    {[]string{address, dead}, "healthcheck of " + dead},
		"no port":         {[]string{"127.0.0.1"}, "missing port"},
		"port by name":    {[]string{"127.0.0.1:no-such-service"}, "no-such-service"},
		"vsock port":      {[]string{"vsock://:no"}, `"no"`},
		"vsock, no port":  {[]string{"vsock://"}, "missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			err := healthcheck(t.Context(), test.addresses...)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if runtime.GOOS == "linux" { // nowhere else has the flag
		if err := run(t.Context(), []string{"--healthcheck", "--web.systemd-socket", "--web.listen-address=" + address}, io.Discard, io.Discard); err != nil {
			t.Errorf("with --web.systemd-socket: %v", err)
		}
	}
	_ = exporter.wait()
	if err := healthcheck(t.Context(), address); err == nil {
		t.Error("an exporter that was shut down is healthy")
	}
}

// serveHealth answers every request on listener.
func serveHealth(t *testing.T, listener net.Listener, status int) {
	t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })}
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func TestHealthcheckStatus(t *testing.T) {
	for status, healthy := range map[int]bool{200: true, 400: true, 401: true, 500: false, 503: false} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serveHealth(t, listener, status)
		if err := healthcheck(t.Context(), listener.Addr().String()); (err == nil) != healthy {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestHealthcheckIPv6(t *testing.T) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	serveHealth(t, listener, http.StatusOK)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{"[::1]:" + port, "[::]:" + port, ":" + port}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			addresses = append(addresses, fmt.Sprintf("[::1%%%s]:%s", i.Name, port))
		}
	}
	for _, address := range addresses {
		if err := healthcheck(t.Context(), address); err != nil {
			t.Error(err)
		}
	}
}

func TestHealthcheckVsock(t *testing.T) {
	listener, err := vsock.Listen(0, nil)
	if err != nil {
		t.Skip("no vsock: ", err)
	}
	serveHealth(t, listener, http.StatusOK)
	address, ok := listener.Addr().(*vsock.Addr)
	if !ok {
		t.Fatalf("the address is %v", listener.Addr())
	}
	err = healthcheck(t.Context(), fmt.Sprintf("vsock://:%d", address.Port))
	if err != nil {
		// It went to the right place.
		if want := "dial vsock " + address.String(); !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want %q", err, want)
		}
		t.Skip("no vsock within this machine: ", err)
	}
}
