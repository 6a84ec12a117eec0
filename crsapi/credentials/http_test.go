package credentials_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// TestByteOrderMark reads responses that begin with one.
func TestByteOrderMark(t *testing.T) {
	const bom = "\ufeff"
	expiry := time.Now().Add(time.Hour)
	for name, env := range map[string]map[string]string{"cvm-role": nil, "tke-oidc": podEnv(t)} {
		t.Run(name, func(t *testing.T) {
			c := &cloud{}
			c.set(map[string]string{
				"": bom + "watcher\n", "watcher": bom + roleOf("a", expiry),
				"AssumeRoleWithWebIdentity": bom + assumed("a", expiry),
			})
			if env != nil {
				delete(c.bodies, "")
			}
			t.Setenv("HOME", t.TempDir())
			r, err := credentials.Find(t.Context(), c.config(env))
			if err != nil {
				t.Fatal(err)
			}
			if r.Status().Source != name {
				t.Errorf("source %s", r.Status().Source)
			}
			expect(t, r, "a")
		})
	}
}

// TestTimeoutNamesTheStep ends a request during the look-up of its host.
func TestTimeoutNamesTheStep(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	c := &cloud{}
	c.set(map[string]string{"": "watcher"})
	cfg := c.config(nil)
	done := make(chan struct{})
	defer close(done)
	ctx, cancel := context.WithCancelCause(t.Context())
	lookUp := &http.Transport{DialContext: (&net.Dialer{
		Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			cancel(context.DeadlineExceeded)
			<-done
			return nil, net.ErrClosed
		}},
	}).DialContext}
	probed := false
	cfg.MetadataURL = "http://metadata.example.test/role/"
	cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
		if !probed {
			probed = true
			return c.RoundTrip(r)
		}
		return lookUp.RoundTrip(r)
	})
	r, err := credentials.Find(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Key(ctx)
	if err == nil || !strings.HasSuffix(err.Error(), "timeout while looking up metadata.example.test: context deadline exceeded") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestProxyRefuses has a proxy that requires credentials in front of STS.
func TestProxyRefuses(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	const want = "the proxy requires credentials: HTTP status 407 Proxy Authentication Required"
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			err := credentials.ProxyTest(t.Context(), proxy.URL, scheme+"://sts.example.test/")
			if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}
