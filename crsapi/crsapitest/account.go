package crsapitest

import "time"

// The key pair of the account that New creates. It has the format of a real
// pair, but no real service accepts it.
const (
	SecretID  = "AKIDcrsapitestNotARealSecretId000000"
	SecretKey = "crsapitestNotARealSecretKey00000"
)

// Account is a key pair that may send requests.
type Account struct {
	SecretID  string
	SecretKey string
	Token     string // required if set, as for temporary credentials; forbidden if empty
}

// SetAccount adds an account, or replaces the one with the same SecretID.
func (s *Simulator) SetAccount(a Account) {
	if a.SecretID == "" || a.SecretKey == "" {
		panic("crsapitest: SetAccount: SecretID or SecretKey is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[a.SecretID] = a
}

// account returns an account and the window of timestamps.
func (s *Simulator) account(secretID string) (a Account, window time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok = s.accounts[secretID]
	return a, s.window, ok
}

// nonces stores each Nonce while its Timestamp may still be valid. It has two
// generations, so that it can drop the old one whole.
type nonces struct {
	young, old map[nonce]bool
	start      time.Time // of young
}

type nonce struct {
	secretID string
	value    int64
}

// use reports whether v is new. A Timestamp may be one window ahead and is
// valid for one window after it, so a generation lasts two windows.
func (n *nonces) use(v nonce, now time.Time, window time.Duration) bool {
	if age := now.Sub(n.start); n.young == nil || age >= 2*window {
		n.young, n.old, n.start = make(map[nonce]bool), n.young, now
		if age >= 4*window {
			n.old = nil
		}
	}
	if n.young[v] || n.old[v] {
		return false
	}
	n.young[v] = true
	return true
}
