package crsapi

import "sync"

// maxStrings limits the strings that a Client holds for reuse.
const maxStrings = 1 << 16

// interner holds strings, so that equal ones in many rows are one. It is safe for
// concurrent use.
type interner struct {
	mu     sync.RWMutex
	values map[string]string
}

func (in *interner) string(text []byte) string {
	in.mu.RLock()
	known, ok := in.values[string(text)]
	in.mu.RUnlock()
	if ok {
		return known
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.values == nil || len(in.values) >= maxStrings {
		in.values = map[string]string{} // names come and go
	}
	s := string(text)
	in.values[s] = s
	return s
}
