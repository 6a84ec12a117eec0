package crsapitest

import "maps"

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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[a.SecretID] = a
}

func (s *Simulator) account(secretID string) (a Account, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok = s.accounts[secretID]
	return a, ok
}

// nonces has the second of each Nonce while its Timestamp may still be valid.
type nonces struct {
	used  map[nonce]int64
	swept int64 // when old ones were last deleted
}

type nonce struct {
	secretID string
	value    int64
}

// use reports whether v is new. A Timestamp may be one window ahead and is valid for
// one window after it.
func (n *nonces) use(v nonce, now int64) bool {
	isOld := func(at int64) bool { return now-at > 2*window }
	if isOld(n.swept) {
		maps.DeleteFunc(n.used, func(_ nonce, at int64) bool { return isOld(at) })
		n.swept = now
	}
	if at, ok := n.used[v]; ok && !isOld(at) {
		return false
	}
	n.used[v] = now
	return true
}
