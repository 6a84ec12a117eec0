package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// errNoRole is of a machine that has no role, or no metadata service.
var errNoRole = fmt.Errorf("%w: the machine has no role", ErrNoCredentials)

// cvmRole is the role of the machine, as its metadata service tells it.
type cvmRole struct {
	url       string
	transport http.RoundTripper
}

// roleName is what a role may be called. Anything else was not said by the
// metadata service: in foreign networks, strange hosts answer to its name.
var roleName = regexp.MustCompile(`^[A-Za-z0-9_.=,@+-]{1,128}$`)

// name returns the role's name, or an error that wraps ErrNoCredentials.
func (s cvmRole) name(ctx context.Context) (string, error) {
	status, body, err := s.get(ctx, s.url)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: metadata service: %w", ErrNoCredentials, err)
	case status == http.StatusNotFound:
		return "", errNoRole
	case status != http.StatusOK:
		return "", fmt.Errorf("%w: metadata service: HTTP status %d", ErrNoCredentials, status)
	}
	name := string(bytes.TrimSpace(body))
	if !roleName.MatchString(name) {
		return "", fmt.Errorf("%w: metadata service: the answer is not the name of a role", ErrNoCredentials)
	}
	return name, nil
}

func (s cvmRole) load(ctx context.Context, _ bool) (lease, error) {
	name, err := s.name(ctx)
	if err != nil {
		return lease{}, err
	}
	status, body, err := s.get(ctx, s.url+name)
	switch {
	case err != nil:
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: %w", name, err)
	case status != http.StatusOK:
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: HTTP status %d", name, status)
	}
	var got struct {
		TmpSecretID, TmpSecretKey, Token string
		ExpiredTime                      int64
		Code                             string
	}
	if json.Unmarshal(body, &got) != nil {
		// The decoder's own error quotes what it could not read.
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: not the documented JSON", name)
	}
	if got.Code != "Success" {
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: code %q", name, OneLine(got.Code))
	}
	l, err := newLease(got.TmpSecretID, got.TmpSecretKey, got.Token, got.ExpiredTime)
	if err != nil {
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: %w", name, err)
	}
	return l, nil
}

func (s cvmRole) get(ctx context.Context, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, errors.New("its URL is none")
	}
	return exchangeBounded(s.transport, req)
}

func newLease(id, key, token string, expiry int64) (lease, error) {
	l := lease{Credentials{id, Secret(key), Secret(token)}, time.Unix(expiry, 0)}
	if err := l.Validate(); err != nil {
		return lease{}, err
	}
	switch {
	case token == "":
		return lease{}, errors.New("the Token is empty")
	case expiry <= 0:
		return lease{}, errors.New("there is no ExpiredTime")
	}
	return l, nil
}
