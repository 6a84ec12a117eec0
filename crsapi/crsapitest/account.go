package crsapitest

import "time"

// The account that New sets up. The pair has the form of a real one and is
// good nowhere else.
const (
	SecretID  = "AKIDcrsapitestNotARealSecretId000000"
	SecretKey = "crsapitestNotARealSecretKey00000"
)

// Account is a key pair that may ask.
type Account struct {
	SecretID  string
	SecretKey string
	Token     string // of temporary credentials, then required; else empty, and none may be sent
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

// RevokeAccount removes an account. Requests that it signs are answered 4104
// from then on.
func (s *Simulator) RevokeAccount(secretID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accounts, secretID)
}

// nonces remembers each Nonce for as long as a request that bears it could
// pass as timely, in two generations so that forgetting costs nothing.
type nonces struct {
	young, old map[nonce]struct{}
	born       time.Time // of young
}

type nonce struct {
	secretID string
	value    int64
}

// use reports whether n is new. A Timestamp may be up to a window ahead, and
// good for a window more, so that a generation lasts two.
func (n *nonces) use(v nonce, now time.Time, window time.Duration) bool {
	if age := now.Sub(n.born); n.young == nil || age >= 2*window || age < 0 {
		n.old = n.young
		if age >= 4*window {
			n.old = nil
		}
		n.young, n.born = make(map[nonce]struct{}), now
	}
	if _, used := n.young[v]; used {
		return false
	}
	if _, used := n.old[v]; used {
		return false
	}
	n.young[v] = struct{}{}
	return true
}
