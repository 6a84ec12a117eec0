// Package redact removes secrets from the texts of servers and libraries, which may
// quote what they received.
package redact

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Mark replaces a secret.
const Mark = "[redacted]"

// Redactor replaces secrets in texts. It is safe for concurrent use.
type Redactor struct {
	secrets []string // longest first
}

// New returns a Redactor for secrets in plain and in URL-encoded form. Empty secrets
// are ignored.
func New(secrets ...string) Redactor {
	var forms []string
	for _, secret := range secrets {
		if secret != "" {
			forms = append(forms, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	// A secret may contain another one: replace the longer one first.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	return Redactor{forms}
}

// Text replaces each secret in s by Mark.
func (r Redactor) Text(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, Mark)
	}
	return s
}

// Line redacts the text of a server, and makes one line of it.
func (r Redactor) Line(s string) string { return OneLine(r.Text(s)) }

// Err returns err itself if its text contains no secret. Otherwise it returns a
// new error with the redacted text, which wraps nothing.
func (r Redactor) Err(err error) error {
	text := err.Error()
	if clean := r.Text(text); clean != text {
		return errors.New(clean)
	}
	return err
}

// OneLine prepares the text of a server for a log line: it replaces control
// characters by spaces, and returns at most the first 256 characters.
func OneLine(s string) string {
	text := []rune(s)
	text = text[:min(len(text), 256)]
	for i, r := range text {
		if unicode.IsControl(r) {
			text[i] = ' '
		}
	}
	return string(text)
}
