package credentials

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// renewBefore is the time before the expiry when a key is renewed. The
	// metadata service returns a new key that early.
	renewBefore = 5 * time.Minute
	// rolePause is the interval between unsuccessful reloads of a role: a key
	// that stays revoked must not cause load on the metadata service.
	rolePause = 30 * time.Second
	// loadTimeout limits a reload if there is no valid key. renewTimeout limits
	// it if there is one: the request that triggers the renewal waits for it and
	// has a deadline too.
	loadTimeout  = 5 * time.Second
	renewTimeout = 2 * time.Second
)

// Renewer is a Provider that reloads its source when needed: 5 minutes before
// the key expires (or at half of its life, if that is later), after a file has
// changed, and after the API refused the key. The old key stays in use until
// the source returns a new one or, if the source fails, until it expires. A
// failed reload is repeated after 30 seconds, or 1 second for a file.
//
// A reload runs in the goroutine of a caller of Key, one at a time. If the key
// was refused or has expired, all callers wait for the reload, at most until
// their own context ends. Otherwise only the caller that reloads waits. A
// Renewer is safe for concurrent use. Get one from Find.
type Renewer struct {
	name   string
	source source        // nil if the key never changes
	pause  time.Duration // minimum time between reloads that bring nothing new

	turn chan struct{} // held during a reload

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

// source is where a key can be loaded from again. A Renewer calls it from one
// goroutine at a time.
type source interface {
	// load returns errUnchanged if it could tell without reading that there is
	// nothing new. After a refusal it must not rely on that.
	load(ctx context.Context, refused bool) (lease, error)
}

// lease is a key and when it expires.
type lease struct {
	key    Key
	expiry time.Time // zero if unknown
}

func newLease(id, key, token string, expiry int64) (lease, error) {
	l := lease{Key{id, Secret(key), Secret(token)}, time.Unix(expiry, 0)}
	if err := l.key.Validate(); err != nil {
		return lease{}, err
	}
	switch {
	case token == "":
		return lease{}, errors.New("the Token is empty")
	case expiry <= 0:
		return lease{}, errors.New("the ExpiredTime is missing")
	}
	return l, nil
}

var errUnchanged = errors.New("unchanged")

func newRenewer(name string, source source, pause time.Duration) *Renewer {
	return &Renewer{name: name, source: source, pause: pause, turn: make(chan struct{}, 1)}
}

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
// unless another refusal caused a reload a moment ago.
func (r *Renewer) Refused(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The key may have been replaced while the request was in flight.
	if key == r.lease.key {
		r.refused = true
	}
}

// need is what Key has to do before it returns a key.
type need int

const (
	needNothing need = iota
	needRenewal      // reload, the present key is still valid
	needKey          // reload, there is no valid key
)

// Key implements Provider. The error says which source failed, or wraps the
// cause of the end of ctx.
func (r *Renewer) Key(ctx context.Context) (Key, error) {
	key, need, err := r.current()
	switch need {
	case needNothing:
		return key, err
	case needRenewal:
		select {
		case r.turn <- struct{}{}:
		default:
			return key, nil
		}
	case needKey:
		select {
		case r.turn <- struct{}{}:
		case <-ctx.Done():
			return Key{}, fmt.Errorf("%s: wait for the key: %w", r.name, context.Cause(ctx))
		}
	}
	defer func() { <-r.turn }()
	// Another caller may have reloaded while this one waited.
	if key, need, err = r.current(); need == needNothing {
		return key, err
	}
	if err := r.reload(ctx, need); err != nil {
		return Key{}, err
	}
	key, _, err = r.current()
	return key, err
}

func (r *Renewer) current() (Key, need, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	none := r.lease.key == Key{}
	expired := !r.lease.expiry.IsZero() && !now.Before(r.lease.expiry)
	switch {
	case r.source == nil:
		return r.lease.key, needNothing, nil
	case now.Before(r.next) || !none && !r.refused && now.Before(r.renewAt):
		// A key that was just loaded is used even if it seems expired: the clock
		// of its source may be behind ours.
		if r.err != nil && (none || expired) {
			return Key{}, needNothing, r.err
		}
		return r.lease.key, needNothing, nil
	case none || expired || r.refused:
		return r.lease.key, needKey, nil
	default:
		return r.lease.key, needRenewal, nil
	}
}

// reload loads the source and stores the result, a failure too. It returns an
// error only if ctx ended, which says nothing about the source.
func (r *Renewer) reload(ctx context.Context, need need) error {
	timeout := loadTimeout
	if need == needRenewal {
		timeout = renewTimeout
	}
	r.mu.Lock()
	refused := r.refused
	r.mu.Unlock()

	limited, cancel := context.WithTimeout(ctx, timeout)
	loaded, err := r.source.load(limited, refused)
	cancel()

	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && ctx.Err() != nil {
		if need == needRenewal {
			return nil
		}
		return fmt.Errorf("%s: %w", r.name, err)
	}
	now := time.Now()
	r.next = now.Add(r.pause)
	switch {
	case errors.Is(err, errUnchanged):
		r.err = nil
		r.refused = false
	case err != nil:
		r.err = fmt.Errorf("%s: %w", r.name, err)
	default:
		changed := loaded.key != r.lease.key
		r.lease, r.lastLoad, r.renewAt, r.err, r.refused = loaded, now, loaded.renewAt(now), nil, false
		// After a regular renewal, a refusal may cause a reload at once.
		if changed && !refused && now.Before(r.renewAt) {
			r.next = time.Time{}
		}
	}
	return nil
}

// renewAt returns when to renew a key that was loaded now.
func (l lease) renewAt(now time.Time) time.Time {
	left := l.expiry.Sub(now)
	if l.expiry.IsZero() || left <= 0 {
		return time.Time{}
	}
	return l.expiry.Add(-min(renewBefore, left/2))
}
