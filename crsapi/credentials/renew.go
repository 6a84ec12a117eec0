package credentials

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// renewBefore is how long before their expiry credentials are renewed. The
	// metadata service gives out new ones that early.
	renewBefore = 5 * time.Minute
	// rolePause lies between two readings of a role that mended nothing: a key
	// that stays revoked must not become a load on the metadata service.
	rolePause = 30 * time.Second
	// loadTimeout bounds one reading where there is nothing to sign with, and
	// renewTimeout where there still is: the attempt that renews has to wait
	// for it, and has a deadline of its own.
	loadTimeout  = 5 * time.Second
	renewTimeout = 2 * time.Second
)

// RefusedObserver is a CredentialsProvider that wants to know which
// credentials the API refused. A Client tells it after such an attempt.
type RefusedObserver interface {
	// Refused must not block. It is called from several goroutines at once.
	Refused(Credentials)
}

// RenewingCredentials is a provider that reads its source again as needed:
// before the credentials expire, when a file has changed, and after the API
// refused them. What it has stays in use until the source gives something
// newer or, where the source fails, until it expires.
//
// It works in its callers' goroutines, one reading at a time. A caller waits
// for it, at most until its context ends, where what there is was refused or
// has expired; else the others go on meanwhile. Safe for concurrent use.
type RenewingCredentials struct {
	name   string
	source credentialsSource // nil if the credentials never change
	pause  time.Duration     // between two readings that brought nothing new

	turn chan struct{} // held by the one that reads

	mu       sync.Mutex
	lease    lease
	lastLoad time.Time
	renewAt  time.Time // wall clock, as the expiry is; zero to look at every pause's end
	next     time.Time // no reading before
	refused  bool      // the API has refused the lease since it was read
	err      error     // why the last reading failed; nil if it did not
}

var (
	_ CredentialsProvider = (*RenewingCredentials)(nil)
	_ RefusedObserver     = (*RenewingCredentials)(nil)
)

// credentialsSource is what credentials can be read from again. It is asked
// once at a time.
type credentialsSource interface {
	// load returns errUnchanged where a look was enough to see that there is
	// nothing new. After a refusal a look must not be enough.
	load(ctx context.Context, refused bool) (lease, error)
}

// lease is credentials and until when they are good.
type lease struct {
	Credentials
	expiry time.Time // zero where none is known
}

var errUnchanged = errors.New("unchanged")

func newRenewingCredentials(name string, source credentialsSource, pause time.Duration) *RenewingCredentials {
	return &RenewingCredentials{name: name, source: source, pause: pause, turn: make(chan struct{}, 1)}
}

// CredentialsStatus tells of credentials what may be shown.
type CredentialsStatus struct {
	Source   string    // environment, file, cvm-role or tke-oidc; with "+assume-role" where another role is taken on
	LastLoad time.Time // when those in use were read; zero before the first
	Expiry   time.Time // zero where none is known
	Err      error     // why the last reading failed; nil if it did not. It tells no secret
}

// Status returns what is known now. It reads nothing.
func (r *RenewingCredentials) Status() CredentialsStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return CredentialsStatus{r.name, r.lastLoad, r.lease.expiry, r.err}
}

// Refused implements RefusedObserver: the next call of Credentials reads the
// source again, unless it did so for the same reason a moment ago.
func (r *RenewingCredentials) Refused(c Credentials) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// An attempt may have been under way while they were replaced.
	if c == r.lease.Credentials {
		r.refused = true
	}
}

// need is what is to be done before the next attempt is signed.
type need int

const (
	needNothing need = iota
	needRenewal      // read the source, with something good to use meanwhile
	needPair         // read the source, with nothing good at hand
)

// Credentials implements CredentialsProvider.
func (r *RenewingCredentials) Credentials(ctx context.Context) (Credentials, error) {
	c, need, err := r.look()
	switch need {
	case needNothing:
		return c, err
	case needRenewal:
		select {
		case r.turn <- struct{}{}:
		default:
			return c, nil
		}
	case needPair:
		select {
		case r.turn <- struct{}{}:
		case <-ctx.Done():
			return Credentials{}, fmt.Errorf("wait for those of %s: %w", r.name, context.Cause(ctx))
		}
	}
	defer func() { <-r.turn }()
	// Another may have read it while this one waited.
	if c, need, err = r.look(); need == needNothing {
		return c, err
	}
	if err := r.read(ctx, need); err != nil {
		return Credentials{}, err
	}
	c, _, err = r.look()
	return c, err
}

func (r *RenewingCredentials) look() (Credentials, need, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	none := r.lease.SecretID == ""
	expired := !r.lease.expiry.IsZero() && !now.Before(r.lease.expiry)
	switch {
	case r.source == nil:
		return r.lease.Credentials, needNothing, nil
	case now.Before(r.next) || !none && !r.refused && now.Before(r.renewAt):
		// The clock of whoever gave the credentials may be ahead: what it gave
		// just now is used, expired or not.
		if r.err != nil && (none || expired) {
			return Credentials{}, needNothing, r.err
		}
		return r.lease.Credentials, needNothing, nil
	case none || expired || r.refused:
		return r.lease.Credentials, needPair, nil
	default:
		return r.lease.Credentials, needRenewal, nil
	}
}

// read reads the source and keeps what comes of it. It fails only where ctx
// ended, which says nothing of the source.
func (r *RenewingCredentials) read(ctx context.Context, need need) error {
	timeout := loadTimeout
	if need == needRenewal {
		timeout = renewTimeout
	}
	r.mu.Lock()
	refused := r.refused
	r.mu.Unlock()

	bounded, cancel := context.WithTimeout(ctx, timeout)
	got, err := r.source.load(bounded, refused)
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
		changed := got.Credentials != r.lease.Credentials
		r.lease, r.lastLoad, r.renewAt, r.err, r.refused = got, now, got.renewAt(now), nil, false
		// A regular renewal does not use up the one that a refusal may ask for.
		if changed && !refused && now.Before(r.renewAt) {
			r.next = time.Time{}
		}
	}
	return nil
}

// renewAt returns when a lease that was read now is to be renewed.
func (l lease) renewAt(now time.Time) time.Time {
	left := l.expiry.Sub(now)
	if l.expiry.IsZero() || left <= 0 {
		return time.Time{}
	}
	return l.expiry.Add(-min(renewBefore, left/2))
}
