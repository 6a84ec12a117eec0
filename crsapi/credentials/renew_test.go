package credentials

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// fakeSource gives leases by hand and counts how often it is asked.
type fakeSource struct {
	mu    sync.Mutex
	reads int
	give  func(ctx context.Context, refused bool) (lease, error)
}

func (s *fakeSource) load(ctx context.Context, refused bool) (lease, error) {
	s.mu.Lock()
	s.reads++
	give := s.give
	s.mu.Unlock()
	return give(ctx, refused)
}

func (s *fakeSource) set(give func(context.Context, bool) (lease, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.give = give
}

// lends sets what is given from now on.
func (s *fakeSource) lends(id string, good time.Duration) {
	expiry := time.Now().Add(good).Round(0)
	s.set(func(context.Context, bool) (lease, error) { return pair(id, expiry), nil })
}

func (s *fakeSource) fails(text string) {
	s.set(func(context.Context, bool) (lease, error) { return lease{}, errors.New(text) })
}

func (s *fakeSource) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func pair(id string, expiry time.Time) lease {
	return lease{Credentials{id, Secret("key of " + id), Secret("token of " + id)}, expiry}
}

// expect asks r and compares what it gives.
func expect(t *testing.T, r *RenewingCredentials, id string) {
	t.Helper()
	c, err := r.Credentials(t.Context())
	if err != nil || c != pair(id, time.Time{}).Credentials {
		t.Errorf("got %q, %v, want %q", c.SecretID, err, id)
	}
}

func expectError(t *testing.T, r *RenewingCredentials, text string) {
	t.Helper()
	if c, err := r.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), text) || c != (Credentials{}) {
		t.Errorf("got %q, %v, want %q", c.SecretID, err, text)
	}
}

func (s *fakeSource) expectReads(t *testing.T, want int) {
	t.Helper()
	if got := s.count(); got != want {
		t.Errorf("read %d times, want %d", got, want)
	}
}

func TestRenewal(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *RenewingCredentials, *fakeSource){
		"before the expiry": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", 2*time.Hour)
			expect(t, r, "a")
			time.Sleep(2*time.Hour - renewBefore - time.Second)
			s.lends("b", 2*time.Hour)
			expect(t, r, "a")
			s.expectReads(t, 1)
			time.Sleep(time.Second)
			expect(t, r, "b")
			s.expectReads(t, 2)
		},
		"short-lived": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", 4*time.Minute)
			expect(t, r, "a")
			time.Sleep(2*time.Minute - time.Second)
			s.lends("b", 4*time.Minute)
			expect(t, r, "a")
			time.Sleep(time.Second)
			expect(t, r, "b")
		},
		"the old pair until it expires": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", time.Hour)
			expect(t, r, "a")
			s.fails("out of order")
			time.Sleep(time.Hour - renewBefore)
			for time.Now().Before(r.Status().Expiry) {
				expect(t, r, "a")
				time.Sleep(time.Second)
			}
			s.expectReads(t, 1+int(renewBefore/rolePause))
			if err := r.Status().Err; err == nil || !strings.Contains(err.Error(), "out of order") {
				t.Errorf("the status tells %v", err)
			}
			expectError(t, r, "out of order")
			s.lends("b", time.Hour)
			expectError(t, r, "out of order")
			time.Sleep(rolePause)
			expect(t, r, "b")
			if err := r.Status().Err; err != nil {
				t.Errorf("the status tells %v", err)
			}
		},
		"the same pair again": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", time.Hour)
			expect(t, r, "a")
			for range 3600 - 1 {
				time.Sleep(time.Second)
				expect(t, r, "a")
			}
			if n := s.count(); n < 5 || n > 1+int(renewBefore/rolePause) {
				t.Errorf("read %d times", n)
			}
		},
		"a source whose clock is behind": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", -time.Hour)
			for range 100 {
				expect(t, r, "a")
			}
			if n := s.count(); n > 2 {
				t.Errorf("read %d times", n)
			}
			n := 0
			s.set(func(context.Context, bool) (lease, error) {
				n++
				return pair(fmt.Sprint(n), time.Now().Add(-time.Hour)), nil
			})
			time.Sleep(rolePause)
			for range 100 {
				expect(t, r, "1")
			}
		},
		"refused": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", time.Hour)
			expect(t, r, "a")
			a := pair("a", time.Time{}).Credentials
			s.lends("b", time.Hour)
			r.Refused(a)
			expect(t, r, "b")
			r.Refused(a) // by an attempt that had been under way
			time.Sleep(rolePause)
			expect(t, r, "b")
			s.expectReads(t, 2)
		},
		"revoked for good": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", 24*time.Hour)
			for range 600 {
				expect(t, r, "a")
				r.Refused(pair("a", time.Time{}).Credentials)
				time.Sleep(time.Second)
			}
			if n := s.count(); n < 20 || n > 22 {
				t.Errorf("read %d times in ten minutes", n)
			}
		},
		"each new pair is refused": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			n := 0
			s.set(func(context.Context, bool) (lease, error) {
				n++
				return pair(fmt.Sprint(n), time.Now().Add(time.Hour)), nil
			})
			for range 600 {
				c, err := r.Credentials(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.Refused(c)
				time.Sleep(time.Second)
			}
			if n < 20 || n > 22 {
				t.Errorf("read %d times in ten minutes", n)
			}
		},
		"refused, and the source is down": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.lends("a", time.Hour)
			expect(t, r, "a")
			s.fails("out of order")
			r.Refused(pair("a", time.Time{}).Credentials)
			expect(t, r, "a")
			s.lends("b", time.Hour)
			expect(t, r, "a")
			time.Sleep(rolePause)
			expect(t, r, "b")
			s.expectReads(t, 3)
		},
		"nothing yet": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.fails("out of order")
			for range 10 {
				expectError(t, r, "fake: out of order")
			}
			s.expectReads(t, 1)
			time.Sleep(rolePause)
			s.lends("a", time.Hour)
			expect(t, r, "a")
		},
		"a hanging source": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			hang := func(ctx context.Context, _ bool) (lease, error) {
				<-ctx.Done()
				return lease{}, ctx.Err()
			}
			s.lends("a", time.Hour)
			expect(t, r, "a")
			s.set(hang)
			time.Sleep(time.Hour - renewBefore)
			begin := time.Now()
			expect(t, r, "a")
			if took := time.Since(begin); took != renewTimeout {
				t.Errorf("renewal took %s", took)
			}
			time.Sleep(renewBefore)
			begin = time.Now()
			expectError(t, r, "deadline exceeded")
			if took := time.Since(begin); took != loadTimeout {
				t.Errorf("reading took %s", took)
			}
		},
		"a caller that leaves": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			s.set(func(ctx context.Context, _ bool) (lease, error) {
				<-ctx.Done()
				return lease{}, ctx.Err()
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := r.Credentials(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			// It says nothing of the source: the next one reads at once.
			s.lends("a", time.Hour)
			expect(t, r, "a")
			if err := r.Status().Err; err != nil {
				t.Errorf("the status tells %v", err)
			}
		},
		"status": func(t *testing.T, r *RenewingCredentials, s *fakeSource) {
			if got := r.Status(); got != (CredentialsStatus{Source: "fake"}) {
				t.Errorf("at first %+v", got)
			}
			s.lends("a", time.Hour)
			expect(t, r, "a")
			if got := r.Status(); got.Err != nil || time.Since(got.LastLoad) != 0 || time.Until(got.Expiry) != time.Hour {
				t.Errorf("then %+v", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fakeSource{}
				test(t, newRenewingCredentials("fake", s, rolePause), s)
			})
		})
	}
}

// TestOneReading has many ask at once.
func TestOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{}
		r := newRenewingCredentials("fake", s, rolePause)
		slow := func(id string) {
			expiry := time.Now().Add(time.Hour)
			s.set(func(ctx context.Context, _ bool) (lease, error) {
				time.Sleep(time.Second)
				return pair(id, expiry), nil
			})
		}
		all := func(want func(i int) string, took func(i int) time.Duration) {
			t.Helper()
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					begin := time.Now()
					time.Sleep(time.Duration(i)) // one after the other, all while the first reads
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

		slow("a") // there is none: all wait
		all(same("a"), second)
		s.expectReads(t, 1)

		time.Sleep(time.Hour - renewBefore) // the old one is good: only one waits
		slow("b")
		all(func(i int) string {
			if i == 0 {
				return "b"
			}
			return "a"
		}, first)
		s.expectReads(t, 2)

		slow("c") // the old one was refused: all wait
		r.Refused(pair("b", time.Time{}).Credentials)
		all(same("c"), second)
		s.expectReads(t, 3)

		// A waiter leaves when its own time is up.
		slow("d")
		time.Sleep(rolePause)
		r.Refused(pair("c", time.Time{}).Credentials)
		var wg sync.WaitGroup
		wg.Go(func() { expect(t, r, "d") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.Credentials(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		wg.Wait()
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transportFunc answers requests without a network, so that the clock of a
// synctest bubble can be used.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
