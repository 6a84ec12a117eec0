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

// Where credentials can come from, in the order in which they are looked for.
const (
	SourceEnvironment = "environment"
	SourceFile        = "file"
	SourceCVMRole     = "cvm-role"
	SourceTKEOIDC     = "tke-oidc"
)

// probeTimeout bounds the question whether the machine has a role. The
// metadata service is a link-local host that answers within milliseconds;
// elsewhere there is nobody to answer.
const probeTimeout = time.Second

// CredentialsConfig says where FindCredentials looks. The zero value looks
// where the vendor's SDKs do.
type CredentialsConfig struct {
	// File is a credentials file that has to be there. If it is empty,
	// ~/.tencentcloud/credentials is read where it is.
	File string
	// RoleARN is a role to take on by the credentials that are found; none if
	// empty.
	RoleARN string

	Getenv      func(string) string // os.Getenv if nil
	MetadataURL string              // the vendor's if empty; ends in a slash
	STSURL      string              // the vendor's if empty; its path is /
	// Transport asks both, transports of its own if nil. The one for the
	// metadata service uses no proxy.
	Transport http.RoundTripper
}

// FindCredentials returns the credentials of the first source that has any:
// environment, file, role of the CVM, role of the TKE pod. It decides once;
// what the provider reads again later is that source. Roles are first read
// when they are first asked for, so that a moment's failure of the vendor's
// services does not stop a start.
//
// The error wraps ErrNoCredentials where no source has any.
func FindCredentials(ctx context.Context, cfg CredentialsConfig) (*RenewingCredentials, error) {
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
		return nil, errors.New("the URL of STS is none")
	}
	service := sts{endpoint, defaultSTSRegion, security}

	found, err := findCredentials(ctx, cfg, cvmRole{cfg.MetadataURL, metadata}, service)
	if err != nil || cfg.RoleARN == "" {
		return found, err
	}
	return newRenewingCredentials(found.name+"+assume-role", assumedRole{service, found, cfg.RoleARN}, rolePause), nil
}

func findCredentials(ctx context.Context, cfg CredentialsConfig, machine cvmRole, service sts) (*RenewingCredentials, error) {
	c, err := EnvironmentCredentials(cfg.Getenv)
	if err == nil {
		r := newRenewingCredentials(SourceEnvironment, nil, 0)
		r.lease.Credentials, r.lastLoad = c, time.Now()
		return r, nil
	}
	if !errors.Is(err, ErrNoCredentials) {
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
	file, err := newFileCredentials(path)
	if cfg.File != "" || !errors.Is(err, ErrNoCredentials) {
		return file, err
	}

	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	_, noRole := machine.name(probe)
	cancel()
	if noRole == nil {
		return newRenewingCredentials(SourceCVMRole, machine, rolePause), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("find credentials: %w", context.Cause(ctx))
	}

	pod, err := findTKERole(cfg.Getenv, service)
	if errors.Is(err, ErrNoCredentials) {
		return nil, noRole
	}
	if err != nil {
		return nil, err
	}
	return newRenewingCredentials(SourceTKEOIDC, pod, rolePause), nil
}
