package crsapitest

import (
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestNonces(t *testing.T) {
	const window = time.Minute
	start := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)
	var n nonces
	for i := range int64(1000) {
		now := start.Add(time.Duration(i) * 10 * time.Second)
		if !n.use(nonce{"a", i}, now, window) {
			t.Fatalf("nonce %d is rejected at its first use", i)
		}
		if !n.use(nonce{"b", i}, now, window) {
			t.Fatalf("nonce %d is rejected because another key used it", i)
		}
		// With a Timestamp one window ahead, a Nonce is valid for two windows.
		if past := i - 12; past >= 0 && n.use(nonce{"a", past}, now, window) {
			t.Fatalf("nonce %d is accepted twice within two windows", past)
		}
		// One Nonce per key each 10 s: 24 per key in four windows.
		if held := len(n.young) + len(n.old); held > 2*24 {
			t.Fatalf("%d nonces stored", held)
		}
	}
	if !n.use(nonce{"a", 999}, start.Add(24*time.Hour), window) || len(n.young)+len(n.old) != 1 {
		t.Error("nonces are still stored after a day without requests")
	}
}

func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "a=1&b=2", "a=1&a=2", "a", "=1", "a=", "&", "a=%", "a=%zz", "a=%ff", "%ff=1",
		"taskStatus.0=2&taskStatus.1=-1", "a=1;b=2", "a=b=c", "a=+", "a_b=1", "A=\x00", "a=@f",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, refused := parseParams(raw)
		values, err := url.ParseQuery(raw)
		if refused != nil {
			if !utf8.ValidString(refused.message) || len(refused.message) > 200 {
				t.Fatalf("message %q", refused.message)
			}
			return
		}
		// parseParams may reject more than net/url, but what it accepts must
		// have the same meaning. net/url rejects semicolons; parseParams accepts
		// them.
		if err != nil {
			if !strings.Contains(raw, ";") {
				t.Fatalf("accepted, but net/url returns %v", err)
			}
			return
		}
		if len(values) != len(p) {
			t.Fatalf("%d parameters, want %d", len(p), len(values))
		}
		for i, e := range p {
			if i > 0 && p[i-1].name >= e.name {
				t.Fatalf("%q after %q", e.name, p[i-1].name)
			}
			if got, ok := p.get(e.name); !ok || got != e.value || values.Get(e.name) != e.value {
				t.Fatalf("%q = %q, want %q", e.name, got, values.Get(e.name))
			}
		}
		_, _ = parseQuery(p, time.UTC)
		_ = source("POST", "h", Path, p)
	})
}
