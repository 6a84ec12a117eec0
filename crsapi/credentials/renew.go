package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	renewBefore = 5 * time.Minute        // the metadata service has a new key that early
	rolePause   = 30 * time.Second       // limits requests while a key stays refused
	loadTimeout = 5 * time.Second        // of a reload
	checkWait   = 500 * time.Millisecond // of a caller with a valid key, for the check of a file

	noReload time.Duration = -1
	forever  time.Duration = math.MaxInt64
)

// Renewer is a Provider that reloads its source when needed: 5 minutes before
// the key expires (or at half of its lifetime, if that is later), and after the
// API refused the key. It checks a file at most once a second. A failed reload is
// repeated after 30 seconds, or 1 second for a file. The old key stays in use
// until the source returns a new one or, if the source fails, until it expires.
//
// A call of Key starts a reload that is due, one at a time, in the background.
// It ends within 5 seconds, unless a file system hangs. Key returns a valid key at
// once; if a file is due for a check, Key waits up to 500 ms for it. If the key
// was refused or has expired, Key waits until the reload or ctx ends.
//
// A Renewer is safe for concurrent use. Get one from Find.
type Renewer struct {
	name  string
	load  source        // nil if the key never changes
	pause time.Duration // minimum time between reloads that bring no new key

	reloads singleflight.Group
	overdue atomic.Bool // the reload under way takes longer than checkWait

	mu       sync.Mutex
	lease    lease
	lastLoad time.Time
	renewAt  time.Time // zero: check the source after every pause
	next     time.Time // no reload before
	refused  bool      // the API refused the key since the last reload
	err      error     // of the last reload
}

var (
	_ Provider        = (*Renewer)(nil)
	_ RefusalObserver = (*Renewer)(nil)
)

// source loads a key. It is called from one goroutine at a time, and returns
// errUnchanged if the key has not changed since the last call.
type source func(context.Context) (lease, error)

var errUnchanged = errors.New("unchanged")

// lease is a key and when it expires.
type lease struct {
	key    Key
	expiry time.Time // zero if unknown
}

// Format implements fmt.Formatter, which prints the name of the source: fmt does
// not call the methods of a Secret in an unexported field.
func (r *Renewer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.name) }

// Status describes the key of a Renewer without its secrets.
type Status struct {
	// Source is environment, file, cvm-role or tke-oidc, followed by
	// "+assume-role" if Config.RoleARN was set.
	Source   string
	LastLoad time.Time // when the key in use was loaded; zero before the first load
	Expiry   time.Time // when the key in use expires; zero if unknown
	Err      error     // of the last reload; nil if it succeeded
}

// Status returns the current status. It reads no source.
func (r *Renewer) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{r.name, r.lastLoad, r.lease.expiry, r.err}
}

// Refused implements RefusalObserver. The next call of Key reloads the source,
// unless the last reload was just before (30 seconds, or 1 second for a file).
func (r *Renewer) Refused(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The key may have been replaced while the request was in flight.
	r.refused = r.refused || key == r.lease.key
}

// Key implements Provider. The error names the source. If ctx ends, the error
// wraps its cause.
func (r *Renewer) Key(ctx context.Context) (Key, error) {
	key, wait, err := r.current()
	if wait == noReload {
		return key, err
	}
	done := r.reloads.DoChan("", r.reload)
	if wait == 0 {
		return key, nil
	}
	select {
	case <-done:
		return r.Key(ctx) // no reload is due now
	case <-time.After(wait):
		r.overdue.Store(true)
		return key, nil
	case <-ctx.Done():
		return Key{}, fmt.Errorf("%s: wait for the key: %w", r.name, context.Cause(ctx))
	}
}

// current returns the key or why it is missing, and how long to wait for a
// reload before the key is used.
func (r *Renewer) current() (key Key, wait time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	l := r.lease
	valid := l.key != Key{} && (l.expiry.IsZero() || now.Before(l.expiry))
	switch {
	case r.load == nil, valid && !r.refused && now.Before(r.renewAt):
		return l.key, noReload, nil
	case now.Before(r.next) && !valid && r.err != nil:
		return Key{}, noReload, r.err
	case now.Before(r.next):
		// A key that was just loaded is used even if it seems expired: the clock
		// of its source may be behind ours.
		return l.key, noReload, nil
	case !valid, r.refused:
		return Key{}, forever, nil
	case l.expiry.IsZero() && !r.overdue.Load():
		return l.key, checkWait, nil
	}
	return l.key, 0, nil
}

// reload loads the source and stores the result. Its context is independent of
// the callers, because several of them may wait.
func (r *Renewer) reload() (any, error) {
	if _, wait, _ := r.current(); wait == noReload {
		return nil, nil // another reload has ended since
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	loaded, err := r.load(ctx)

	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.next = now.Add(r.pause)
	r.overdue.Store(false)
	switch {
	case errors.Is(err, errUnchanged):
		r.err, r.refused = nil, false
	case err != nil:
		r.err = fmt.Errorf("%s: %w", r.name, err)
	default:
		renewed := loaded.key != r.lease.key && !r.refused
		r.lease, r.lastLoad, r.renewAt = loaded, now, time.Time{}
		r.err, r.refused = nil, false
		if left := loaded.expiry.Sub(now); left > 0 {
			r.renewAt = loaded.expiry.Add(-min(renewBefore, left/2))
		}
		// After a regular renewal, a refusal may cause a reload at once.
		if renewed && now.Before(r.renewAt) {
			r.next = time.Time{}
		}
	}
	return nil, nil
}
