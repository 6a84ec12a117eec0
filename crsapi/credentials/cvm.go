package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
)

const defaultMetadataURL = "http://metadata.tencentyun.com/latest/meta-data/cam/security-credentials/"

// cvmRole reads the key of the role of a CVM from the metadata service.
type cvmRole struct {
	url       string // ends in a slash
	transport http.RoundTripper
}

// roleName matches valid role names. In other networks, another host may
// respond to the name of the metadata service, for example a login page.
var roleName = regexp.MustCompile(`^[A-Za-z0-9_.=,@+-]{1,128}$`)

// name returns the name of the role, or an error that wraps ErrNotFound.
func (s cvmRole) name(ctx context.Context) (string, error) {
	status, body, err := s.get(ctx, s.url)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: metadata service: %w", ErrNotFound, err)
	case status == http.StatusNotFound:
		return "", fmt.Errorf("%w: the machine has no role", ErrNotFound)
	case status != http.StatusOK:
		return "", fmt.Errorf("%w: metadata service: HTTP status %d", ErrNotFound, status)
	}
	name := string(bytes.TrimSpace(body))
	if !roleName.MatchString(name) {
		return "", fmt.Errorf("%w: metadata service: the response is not a role name", ErrNotFound)
	}
	return name, nil
}

func (s cvmRole) load(ctx context.Context, _ bool) (lease, error) {
	name, err := s.name(ctx)
	if err != nil {
		return lease{}, err
	}
	l, err := s.keyOf(ctx, name)
	if err != nil {
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: %w", name, err)
	}
	return l, nil
}

func (s cvmRole) keyOf(ctx context.Context, name string) (lease, error) {
	status, body, err := s.get(ctx, s.url+name)
	switch {
	case err != nil:
		return lease{}, err
	case status != http.StatusOK:
		return lease{}, fmt.Errorf("HTTP status %d", status)
	}
	var got struct {
		TmpSecretID, TmpSecretKey, Token string
		ExpiredTime                      int64
		Code                             string
	}
	if json.Unmarshal(body, &got) != nil {
		// The error of the decoder quotes the value that it could not read.
		return lease{}, errors.New("not the documented JSON")
	}
	if got.Code != "Success" {
		return lease{}, fmt.Errorf("code %q", OneLine(got.Code))
	}
	return newLease(got.TmpSecretID, got.TmpSecretKey, got.Token, got.ExpiredTime)
}

func (s cvmRole) get(ctx context.Context, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, errors.New("invalid URL")
	}
	return exchange(s.transport, req)
}
