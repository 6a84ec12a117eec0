package credentials

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// ErrNotFound is wrapped by the error of Find if no source has a key. It is not
// wrapped if a source has a key that cannot be used.
var ErrNotFound = errors.New("no credentials")

// probeTimeout limits the request that checks whether the machine has a role.
// The metadata service is a link-local host that responds within milliseconds.
// On machines outside Tencent Cloud, no host responds.
const probeTimeout = time.Second

// Config configures Find. The zero value searches where Tencent's SDKs do.
type Config struct {
	// File is a credentials file that must exist. If File is empty,
	// ~/.tencentcloud/credentials is used if it exists.
	File string
	// RoleARN is a role to assume with the key that was found, for example in
	// another account. If it is empty, the key itself is used.
	RoleARN string

	// PrivateCloud says that EnvPrivateSecretID and EnvPrivateSecretKey are read
	// where EnvSecretID and EnvSecretKey are not set.
	PrivateCloud bool

	// The fields below are for tests.

	Getenv      func(string) string // default: os.Getenv
	MetadataURL string              // must end in a slash; default: Tencent's
	STSURL      string              // its path must be "/"; default: Tencent's
	// Transport sends requests to both. By default each has its own transport,
	// and the one for the metadata service uses no proxy.
	Transport http.RoundTripper
}

// Find returns a Renewer for the first source that has a key: environment,
// credentials file, CVM role, TKE role. The choice is final: the Renewer does
// not switch to another source later. Roles are not read before the first call
// of Renewer.Key, so that a short outage of Tencent's services does not prevent
// a start.
//
// The error wraps ErrNotFound if no source has a key.
func Find(ctx context.Context, cfg Config) (*Renewer, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	if cfg.MetadataURL == "" {
		cfg.MetadataURL = defaultMetadataURL
	}
	if cfg.STSURL == "" {
		cfg.STSURL = defaultSTSURL
	}
	metadata, security := cfg.Transport, cfg.Transport
	if cfg.Transport == nil {
		metadata, security = newRoleTransport(nil), newRoleTransport(http.ProxyFromEnvironment)
	}
	endpoint, err := url.Parse(cfg.STSURL)
	if err != nil {
		return nil, errors.New("invalid STS URL")
	}
	service := sts{endpoint, defaultSTSRegion, security}

	base, err := findBase(ctx, cfg, cvmRole{cfg.MetadataURL, metadata}, service)
	if err != nil || cfg.RoleARN == "" {
		return base, err
	}
	return newRenewer(base.name+"+assume-role", assumedRole{service, base, cfg.RoleARN}, rolePause), nil
}

// findBase returns the key that is found without assuming RoleARN.
func findBase(ctx context.Context, cfg Config, machine cvmRole, service sts) (*Renewer, error) {
	key, err := fromEnvironment(cfg.Getenv, cfg.PrivateCloud)
	if err == nil {
		r := newRenewer("environment", nil, 0)
		r.lease.key, r.lastLoad = key, time.Now()
		return r, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}

	path := cfg.File
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = string(filepath.Separator)
		}
		path = filepath.Join(home, ".tencentcloud", "credentials")
	}
	file, err := newFile(path)
	if cfg.File != "" || !errors.Is(err, ErrNotFound) {
		return file, err
	}

	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	_, noRole := machine.name(probe)
	cancel()
	if noRole == nil {
		return newRenewer("cvm-role", machine, rolePause), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("find credentials: %w", context.Cause(ctx))
	}

	pod, err := findTKERole(cfg.Getenv, service)
	if errors.Is(err, ErrNotFound) {
		return nil, noRole // says more than that a variable is not set
	}
	if err != nil {
		return nil, err
	}
	return newRenewer("tke-oidc", pod, rolePause), nil
}
