package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// Validate tells what is missing.
func (c Credentials) Validate() error {
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
