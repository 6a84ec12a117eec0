package crsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"

	"gopkg.in/ini.v1"
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

// Names of the environment that the vendor's SDKs read, too.
const (
	EnvSecretID  = "TENCENTCLOUD_SECRET_ID"
	EnvSecretKey = "TENCENTCLOUD_SECRET_KEY"
	EnvToken     = "TENCENTCLOUD_TOKEN"
)

// ErrNoCredentials is wrapped by the error of a source that has none, as
// opposed to some that cannot be used.
var ErrNoCredentials = errors.New("no credentials")

// EnvironmentCredentials reads the environment through getenv.
func EnvironmentCredentials(getenv func(string) string) (Credentials, error) {
	c := Credentials{
		SecretID:  getenv(EnvSecretID),
		SecretKey: Secret(getenv(EnvSecretKey)),
		Token:     Secret(getenv(EnvToken)),
	}
	switch {
	case c.SecretID == "" && c.SecretKey == "":
		return c, fmt.Errorf("%w: neither %s nor %s is set", ErrNoCredentials, EnvSecretID, EnvSecretKey)
	case c.SecretID == "":
		return c, fmt.Errorf("%s is set, but %s is not", EnvSecretKey, EnvSecretID)
	case c.SecretKey == "":
		return c, fmt.Errorf("%s is set, but %s is not", EnvSecretID, EnvSecretKey)
	}
	return c, nil
}

// maxCredentialsFile bounds a credentials file, in bytes.
const maxCredentialsFile = 64 << 10

// ReadCredentialsFile reads secret_id, secret_key and token out of the section
// [default] of an INI file, as the vendor's SDKs write it.
func ReadCredentialsFile(path string) (Credentials, error) {
	c, _, err := readCredentialsFile(path)
	return c, err
}

// readCredentialsFile also tells which file it was, and at what state.
func readCredentialsFile(path string) (Credentials, fs.FileInfo, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, nil, fmt.Errorf("%w: there is no file %s", ErrNoCredentials, path)
	}
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCredentialsFile+1))
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	after, err := f.Stat()
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file: %w", err)
	}
	if before.Mode().IsRegular() && !sameFile(before, after) {
		return Credentials{}, nil, fmt.Errorf("credentials file %s was written to while it was read", path)
	}
	c, err := parseCredentials(text)
	if err != nil {
		return Credentials{}, nil, fmt.Errorf("credentials file %s: %w", path, err)
	}
	return c, before, nil
}

func parseCredentials(text []byte) (Credentials, error) {
	if len(text) > maxCredentialsFile {
		return Credentials{}, fmt.Errorf("larger than %d bytes", maxCredentialsFile)
	}
	file, err := ini.LoadSources(ini.LoadOptions{Loose: false, IgnoreInlineComment: true}, text)
	if err != nil {
		// The library's own error quotes the line, which may hold the key.
		return Credentials{}, errors.New("not in INI form")
	}
	section, err := file.GetSection("default")
	if err != nil {
		return Credentials{}, errors.New("no section [default]")
	}
	c := Credentials{
		SecretID:  section.Key("secret_id").String(),
		SecretKey: Secret(section.Key("secret_key").String()),
		Token:     Secret(section.Key("token").String()),
	}
	switch {
	case c.SecretID == "":
		return c, errors.New("no secret_id in section [default]")
	case c.SecretKey == "":
		return c, errors.New("no secret_key in section [default]")
	}
	return c, nil
}
