package credentials

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Redactor takes what must not be seen out of texts that a server or a
// library made: a server may echo what it was sent.
type Redactor []string

// NewRedactor returns a Redactor of c and of a signature made with it.
func NewRedactor(c Credentials, signature string) Redactor {
	var r Redactor
	for _, secret := range []string{string(c.SecretKey), string(c.Token), c.SecretID, signature} {
		if secret != "" {
			r = append(r, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	// Longest first, or a secret that holds another would show its rest.
	slices.SortFunc(r, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(r)
}

// Text returns s without secrets.
func (r Redactor) Text(s string) string {
	for _, secret := range r {
		s = strings.ReplaceAll(s, secret, redacted)
	}
	return s
}

// Err keeps an error as it is, to be matched, unless its text tells a secret.
func (r Redactor) Err(err error) error {
	if text := err.Error(); r.Text(text) != text {
		return errors.New(r.Text(text))
	}
	return err
}

// maxMessage bounds what is kept of a server's texts, in characters.
const maxMessage = 256

// OneLine makes a server's text fit for a log line.
func OneLine(s string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		if n++; n > maxMessage {
			return -1
		}
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
