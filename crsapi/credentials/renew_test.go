package credentials_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// renewal is a Renewer of a role.
type renewal struct {
	*testing.T
	*cloud
	role role
	r    *credentials.Renewer
}

// serveKey makes the role return a key that expires after some time.
func (f renewal) serveKey(id string, lifetime time.Duration) {
	f.serve(f.role.name, f.role.body(id, time.Now().Add(lifetime)))
}

// expect expects a key without waiting.
func (f renewal) expect(id string) {
	f.Helper()
	begin := time.Now()
	expect(f.T, f.r, id)
	if took := time.Since(begin); took != 0 {
		f.Errorf("waited %s", took)
	}
}

func (f renewal) expectLoads(want int) {
	f.Helper()
	if got := f.count(f.role.name); got != want {
		f.Errorf("loaded %d times, want %d", got, want)
	}
}

func TestRenewal(t *testing.T) {
	scenarios := map[string]func(renewal){
		"before expiry": func(f renewal) {
			if got := f.r.Status(); got != (credentials.Status{Source: f.role.source}) {
				f.Errorf("status before the first load: %+v", got)
			}
			f.serveKey("a", time.Hour)
			f.expect("a")
			if got := f.r.Status(); got.Err != nil || time.Since(got.LastLoad) != 0 || time.Until(got.Expiry) != time.Hour {
				f.Errorf("status after the load: %+v", got)
			}
			renew := func(after time.Duration, old, renewed string, lifetime time.Duration) {
				loads := f.count(f.role.name)
				time.Sleep(after - time.Second)
				f.serveKey(renewed, lifetime+time.Second)
				f.expect(old)
				f.expectLoads(loads)
				time.Sleep(time.Second)
				f.expect(old)
				synctest.Wait()
				f.expect(renewed) // loaded in the background
				f.expectLoads(loads + 1)
			}
			renew(time.Hour-renewBefore, "a", "b", 4*time.Minute)
			renew(2*time.Minute, "b", "c", time.Hour) // at half of its lifetime
		},
		"old key until it expires": func(f renewal) {
			f.serveKey("a", time.Hour)
			f.expect("a")
			expiry := f.r.Status().Expiry
			f.serve(f.role.name, hanging)
			time.Sleep(time.Hour - renewBefore)
			for time.Now().Before(expiry) {
				f.expect("a")
				time.Sleep(time.Second)
			}
			const timeout = "timeout while looking up example.com: context deadline exceeded"
			expectError(f.T, f.r, timeout)
			time.Sleep(rolePause)
			begin := time.Now()
			expectError(f.T, f.r, timeout)
			if took := time.Since(begin); took != loadTimeout {
				f.Errorf("the load took %s", took)
			}
			f.serveKey("b", time.Hour)
			expectError(f.T, f.r, timeout)
			time.Sleep(rolePause)
			f.expect("b")
			if err := f.r.Status().Err; err != nil {
				f.Errorf("status error %v", err)
			}
		},
		"source clock behind": func(f renewal) {
			f.serveKey("a", -time.Hour)
			for range 100 {
				f.expect("a")
			}
			f.expectLoads(1)
			f.serveKey("b", -time.Hour)
			time.Sleep(rolePause)
			f.expect("b")
		},
		"refused while the source is down": func(f renewal) {
			f.serveKey("a", time.Hour)
			f.expect("a")
			f.serve(f.role.name, failing)
			f.r.Refused(keyOf("a"))
			f.expect("a")
			wantError(f.T, f.r.Status().Err, "out of order")
			f.serveKey("b", time.Hour)
			f.expect("a")
			time.Sleep(rolePause)
			f.expect("b")
			f.r.Refused(keyOf("a")) // by a request that was in flight
			time.Sleep(rolePause)
			f.expect("b")
			f.expectLoads(2)
		},
		"refused permanently": func(f renewal) {
			for n := range 600 { // a new key every 100 seconds
				f.serveKey(strconv.Itoa(n/100), 24*time.Hour)
				key, err := f.r.Key(f.Context())
				if err != nil {
					f.Fatal(err)
				}
				f.r.Refused(key)
				time.Sleep(time.Second)
			}
			if n := f.count(f.role.name); n < 20 || n > 22 {
				f.Errorf("loaded %d times in ten minutes", n)
			}
		},
	}
	for _, role := range roles() {
		for name, scenario := range scenarios {
			t.Run(role.source+"/"+name, func(t *testing.T) {
				c := &cloud{bodies: map[string]string{}}
				cfg := role.config(t, c)
				synctest.Test(t, func(t *testing.T) { scenario(renewal{t, c, role, find(t, cfg)}) })
			})
		}
	}
}

// TestSingleReload has many callers at the same time. One reload serves them all, and who has
// a valid key does not wait for it.
func TestSingleReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, pod := &cloud{}, roles()[1]
		r := find(t, pod.config(t, c))
		c.delay = time.Second
		serve := func(id string) { c.serve(pod.name, stsBody(id, time.Now().Add(time.Hour))) }
		all := func(loaded, want string, wait time.Duration) {
			t.Helper()
			serve(loaded)
			begin, loads := time.Now(), c.count(pod.name)
			var group sync.WaitGroup
			for i := range 20 {
				group.Go(func() {
					time.Sleep(time.Duration(i)) // one after another, all during the reload of the first
					expect(t, r, want)
					if took := time.Since(begin).Truncate(time.Millisecond); took != wait {
						t.Errorf("caller %d waited %s, want %s", i, took, wait)
					}
				})
			}
			group.Wait()
			time.Sleep(2 * time.Second)
			if got := c.count(pod.name) - loads; got != 1 {
				t.Errorf("loaded %d times", got)
			}
		}
		all("a", "a", time.Second) // no key yet
		time.Sleep(time.Hour - renewBefore)
		all("b", "a", 0)
		r.Refused(keyOf("b"))
		all("c", "c", time.Second)

		// Each caller stops waiting at its own deadline. The reload goes on.
		serve("d")
		time.Sleep(rolePause)
		r.Refused(keyOf("c"))
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, errors.New("end of the scrape"))
		defer cancel()
		_, err := r.Key(ctx)
		wantError(t, err, "tke-oidc: wait for the key: end of the scrape")
		expect(t, r, "d")
	})
}

// TestRefusedBase checks which errors of STS cause a reload of the base key.
func TestRefusedBase(t *testing.T) {
	for code, signer := range map[string]string{
		"AuthFailure":                       "next",
		"AuthFailure.SignatureFailure":      "next",
		"AuthFailure.SignatureExpire":       "canary",
		"AuthFailure.UnauthorizedOperation": "canary",
		"AuthFailures":                      "canary",
		"UnauthorizedOperation":             "canary",
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &cloud{bodies: map[string]string{
				"": "watcher", "watcher": metadataBody("canary", time.Now().Add(24*time.Hour)),
				"AssumeRole": stsError(code, "canary, key-of-canary"),
			}}
			cfg := c.config(nil)
			cfg.RoleARN = machineARN
			r := find(t, cfg)
			expectError(t, r, "cvm-role+assume-role: STS AssumeRole: "+code+": [redacted], [redacted]")
			time.Sleep(rolePause)
			c.serve("watcher", metadataBody("next", time.Now().Add(24*time.Hour)))
			c.serve("AssumeRole", "500")
			expectError(t, r, "STS AssumeRole: HTTP status 500")
			if got := c.last.Header.Get("Authorization"); !strings.Contains(got, "Credential="+signer+"/") {
				t.Errorf("%s: signed by %s, want %s", code, got, signer)
			}
		})
	}
}

// TestNetwork uses a real server and the default transports.
func TestNetwork(t *testing.T) {
	expiry := time.Now().Add(time.Hour)
	c := &cloud{bodies: map[string]string{
		"": "\ufeffwatcher\n", "watcher": "\ufeff" + metadataBody("base", expiry), "AssumeRole": "\ufeff" + stsBody("a", expiry),
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, _ := c.RoundTrip(r)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer server.Close()
	// A proxy would be used for this address, but not for 127.0.0.1.
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	cfg := credentials.Config{
		Getenv: func(string) string { return "" }, MetadataURL: "http://0.0.0.0:" + port + "/role/",
		STSURL: server.URL + "/", RoleARN: machineARN,
	}
	expect(t, find(t, cfg), "a")
	if !c.last.Close {
		t.Error("the connection stays open, though the next request is an hour away")
	}
	for _, scheme := range []string{"http", "https"} {
		cfg.STSURL = scheme + "://sts.example.test/"
		expectError(t, find(t, cfg), "the proxy requires credentials: HTTP status 407 Proxy Authentication Required")
	}

	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	_, err := credentials.Find(t.Context(), cfg)
	wantError(t, err, "no credentials: metadata service: read the response: unexpected EOF")
}
