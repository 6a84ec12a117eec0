package crsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

// Secret is a string that prints as "[redacted]" whichever way it is printed.
// Convert it to string to read it.
type Secret string

const redacted = "[redacted]"

// Format implements fmt.Formatter, and so covers every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps encoders from printing the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Credentials sign requests.
type Credentials struct {
	SecretID  string
	SecretKey Secret
	Token     Secret // of temporary credentials; else empty
}

func (c Credentials) validate() error {
	switch {
	case c.SecretID == "":
		return errors.New("the SecretId is empty")
	case c.SecretKey == "":
		return errors.New("the SecretKey is empty")
	}
	return nil
}

// CredentialsProvider gives the credentials to sign the next attempt with. It
// is asked anew for every attempt, from several goroutines at once, and
// answers before ctx ends.
type CredentialsProvider interface {
	Credentials(ctx context.Context) (Credentials, error)
}

// StaticCredentials is a provider of credentials that never change.
type StaticCredentials Credentials

// Credentials implements CredentialsProvider.
func (c StaticCredentials) Credentials(context.Context) (Credentials, error) {
	return Credentials(c), nil
}

// redactor takes what must not be seen out of texts that a server or a
// library made: a server may echo what it was sent.
type redactor []string

func newRedactor(c Credentials, signature string) redactor {
	var r redactor
	for _, secret := range []string{string(c.SecretKey), string(c.Token), c.SecretID, signature} {
		if secret != "" {
			r = append(r, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	// Longest first, or a secret that holds another would show its rest.
	slices.SortFunc(r, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(r)
}

func (r redactor) text(s string) string {
	for _, secret := range r {
		s = strings.ReplaceAll(s, secret, redacted)
	}
	return s
}

// err keeps an error as it is, to be matched, unless its text tells a secret.
func (r redactor) err(err error) error {
	if text := err.Error(); r.text(text) != text {
		return errors.New(r.text(text))
	}
	return err
}
