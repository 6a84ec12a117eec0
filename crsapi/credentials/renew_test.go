package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"go.uber.org/goleak"
)

// Durations that the documentation of Renewer promises, and the timeouts of
// reloads.
const (
	renewBefore  = 5 * time.Minute
	rolePause    = 30 * time.Second
	loadTimeout  = 5 * time.Second
	renewTimeout = 2 * time.Second
)

// machine is a metadata service with one role. It counts how often the key of
// the role is read.
type machine struct {
	mu    sync.Mutex
	reads int
	give  func(context.Context) (body string, err error)
}

// newMachine returns a Renewer of the role of a new machine.
func newMachine(t *testing.T) (*credentials.Renewer, *machine) {
	t.Helper()
	m := &machine{}
	r, err := credentials.Find(t.Context(), credentials.Config{
		Getenv: func(string) string { return "" }, MetadataURL: "http://metadata/role/", Transport: m,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func (m *machine) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/role/" {
		return textResponse("watcher"), nil
	}
	m.mu.Lock()
	m.reads++
	give := m.give
	m.mu.Unlock()
	body, err := give(r.Context())
	return textResponse(body), err
}

func textResponse(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func (m *machine) set(give func(context.Context) (string, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.give = give
}

// serves makes the machine return a key that expires after some time.
func (m *machine) serves(id string, good time.Duration) {
	body := roleOf(id, time.Now().Add(good))
	m.set(func(context.Context) (string, error) { return body, nil })
}

func (m *machine) fails(text string) {
	m.set(func(context.Context) (string, error) { return "", errors.New(text) })
}

func (m *machine) hangs() {
	m.set(func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	})
}

func (m *machine) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// keyOf is the key that belongs to a SecretId in these tests.
func keyOf(id string) credentials.Key {
	return credentials.Key{SecretID: id, SecretKey: credentials.Secret("key-of-" + id), Token: credentials.Secret("token-of-" + id)}
}

// expect checks which key r returns.
func expect(t *testing.T, r *credentials.Renewer, id string) {
	t.Helper()
	key, err := r.Key(t.Context())
	if err != nil || key != keyOf(id) {
		t.Errorf("got %q, %v, want %q", key.SecretID, err, id)
	}
}

func expectError(t *testing.T, r *credentials.Renewer, text string) {
	t.Helper()
	if key, err := r.Key(t.Context()); err == nil || !strings.Contains(err.Error(), text) || key != (credentials.Key{}) {
		t.Errorf("got %q, %v, want %q", key.SecretID, err, text)
	}
}

func (m *machine) expectReads(t *testing.T, want int) {
	t.Helper()
	if got := m.count(); got != want {
		t.Errorf("read %d times, want %d", got, want)
	}
}

func TestRenewal(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for name, test := range map[string]func(*testing.T, *credentials.Renewer, *machine){
		"before expiry": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", 2*time.Hour)
			expect(t, r, "a")
			time.Sleep(2*time.Hour - renewBefore - time.Second)
			m.serves("b", 2*time.Hour)
			expect(t, r, "a")
			m.expectReads(t, 1)
			time.Sleep(time.Second)
			expect(t, r, "b")
			m.expectReads(t, 2)
		},
		"short lifetime": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", 4*time.Minute)
			expect(t, r, "a")
			time.Sleep(2*time.Minute - time.Second)
			m.serves("b", 4*time.Minute)
			expect(t, r, "a")
			time.Sleep(time.Second)
			expect(t, r, "b")
		},
		"old key until it expires": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", time.Hour)
			expect(t, r, "a")
			m.fails("out of order")
			time.Sleep(time.Hour - renewBefore)
			for time.Now().Before(r.Status().Expiry) {
				expect(t, r, "a")
				time.Sleep(time.Second)
			}
			m.expectReads(t, 1+int(renewBefore/rolePause))
			if err := r.Status().Err; err == nil || !strings.Contains(err.Error(), "out of order") {
				t.Errorf("status error %v", err)
			}
			expectError(t, r, "out of order")
			m.serves("b", time.Hour)
			expectError(t, r, "out of order")
			time.Sleep(rolePause)
			expect(t, r, "b")
			if err := r.Status().Err; err != nil {
				t.Errorf("status error %v", err)
			}
		},
		"same key again": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", time.Hour)
			expect(t, r, "a")
			for range 3600 - 1 {
				time.Sleep(time.Second)
				expect(t, r, "a")
			}
			if n := m.count(); n < 5 || n > 1+int(renewBefore/rolePause) {
				t.Errorf("read %d times", n)
			}
		},
		"source clock behind": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", -time.Hour)
			for range 100 {
				expect(t, r, "a")
			}
			if n := m.count(); n > 2 {
				t.Errorf("read %d times", n)
			}
			n := 0
			m.set(func(context.Context) (string, error) {
				n++
				return roleOf(fmt.Sprint(n), time.Now().Add(-time.Hour)), nil
			})
			time.Sleep(rolePause)
			for range 100 {
				expect(t, r, "1")
			}
		},
		"refused": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", time.Hour)
			expect(t, r, "a")
			a := keyOf("a")
			m.serves("b", time.Hour)
			r.Refused(a)
			expect(t, r, "b")
			r.Refused(a) // by a request that was in flight
			time.Sleep(rolePause)
			expect(t, r, "b")
			m.expectReads(t, 2)
		},
		"revoked permanently": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", 24*time.Hour)
			for range 600 {
				expect(t, r, "a")
				r.Refused(keyOf("a"))
				time.Sleep(time.Second)
			}
			if n := m.count(); n < 20 || n > 22 {
				t.Errorf("read %d times in ten minutes", n)
			}
		},
		"each new key refused": func(t *testing.T, r *credentials.Renewer, m *machine) {
			n := 0
			m.set(func(context.Context) (string, error) {
				n++
				return roleOf(fmt.Sprint(n), time.Now().Add(time.Hour)), nil
			})
			for range 600 {
				key, err := r.Key(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.Refused(key)
				time.Sleep(time.Second)
			}
			if n < 20 || n > 22 {
				t.Errorf("read %d times in ten minutes", n)
			}
		},
		"refused while the source is down": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", time.Hour)
			expect(t, r, "a")
			m.fails("out of order")
			r.Refused(keyOf("a"))
			expect(t, r, "a")
			m.serves("b", time.Hour)
			expect(t, r, "a")
			time.Sleep(rolePause)
			expect(t, r, "b")
			m.expectReads(t, 3)
		},
		"first load fails": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.fails("out of order")
			for range 10 {
				expectError(t, r, "cvm-role: metadata service: credentials of role watcher: send the request: out of order")
			}
			m.expectReads(t, 1)
			time.Sleep(rolePause)
			m.serves("a", time.Hour)
			expect(t, r, "a")
		},
		"source hangs": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.serves("a", time.Hour)
			expect(t, r, "a")
			m.hangs()
			time.Sleep(time.Hour - renewBefore)
			begin := time.Now()
			expect(t, r, "a")
			if took := time.Since(begin); took != renewTimeout {
				t.Errorf("the renewal took %s", took)
			}
			time.Sleep(renewBefore)
			begin = time.Now()
			expectError(t, r, "timeout while sending the request: context deadline exceeded")
			if took := time.Since(begin); took != loadTimeout {
				t.Errorf("the load took %s", took)
			}
		},
		"caller cancels": func(t *testing.T, r *credentials.Renewer, m *machine) {
			m.hangs()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := r.Key(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			// That says nothing about the source: the next caller reloads at once.
			m.serves("a", time.Hour)
			expect(t, r, "a")
			if err := r.Status().Err; err != nil {
				t.Errorf("status error %v", err)
			}
		},
		"status": func(t *testing.T, r *credentials.Renewer, m *machine) {
			if got := r.Status(); got != (credentials.Status{Source: "cvm-role"}) {
				t.Errorf("before the first load: %+v", got)
			}
			m.serves("a", time.Hour)
			expect(t, r, "a")
			if got := r.Status(); got.Err != nil || time.Since(got.LastLoad) != 0 || time.Until(got.Expiry) != time.Hour {
				t.Errorf("after the load: %+v", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, m := newMachine(t)
				test(t, r, m)
			})
		})
	}
}

// TestSingleReload has many callers at the same time.
func TestSingleReload(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		r, m := newMachine(t)
		slow := func(id string) {
			expiry := time.Now().Add(time.Hour)
			m.set(func(context.Context) (string, error) {
				time.Sleep(time.Second)
				return roleOf(id, expiry), nil
			})
		}
		all := func(want func(i int) string, took func(i int) time.Duration) {
			t.Helper()
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					begin := time.Now()
					time.Sleep(time.Duration(i)) // one after the other, all during the reload of the first
					expect(t, r, want(i))
					if got := time.Since(begin).Truncate(time.Millisecond); got != took(i) {
						t.Errorf("%d took %s", i, got)
					}
				})
			}
			wg.Wait()
		}
		same := func(id string) func(int) string { return func(int) string { return id } }
		second := func(int) time.Duration { return time.Second }
		first := func(i int) time.Duration {
			if i == 0 {
				return time.Second
			}
			return 0
		}

		slow("a") // no key yet: all wait
		all(same("a"), second)
		m.expectReads(t, 1)

		time.Sleep(time.Hour - renewBefore) // the old key is valid: only one waits
		slow("b")
		all(func(i int) string {
			if i == 0 {
				return "b"
			}
			return "a"
		}, first)
		m.expectReads(t, 2)

		slow("c") // the old key was refused: all wait
		r.Refused(keyOf("b"))
		all(same("c"), second)
		m.expectReads(t, 3)

		// A caller that waits stops at its own deadline.
		slow("d")
		time.Sleep(rolePause)
		r.Refused(keyOf("c"))
		var wg sync.WaitGroup
		wg.Go(func() { expect(t, r, "d") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.Key(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		wg.Wait()
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transportFunc responds to requests without a network, so that the clock of a
// synctest bubble can be used.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
