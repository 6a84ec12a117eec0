package credentials

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"gopkg.in/ini.v1"
)

// Environment variables with the key, as in Tencent's SDKs, and those of a
// private cloud, as in its SDK, which has none for a token.
const (
	EnvSecretID         = "TENCENTCLOUD_SECRET_ID"
	EnvSecretKey        = "TENCENTCLOUD_SECRET_KEY"
	EnvToken            = "TENCENTCLOUD_TOKEN"
	EnvPrivateSecretID  = "TCECLOUD_SECRET_ID"
	EnvPrivateSecretKey = "TCECLOUD_SECRET_KEY"
)

// ErrNotFound is wrapped by the error of Find if no source has a key. It is not
// wrapped if a source has an invalid key.
var ErrNotFound = errors.New("no credentials")

const (
	// probeTimeout limits the request that checks whether the machine has a role.
	// In Tencent Cloud, the response takes milliseconds. Elsewhere, no response comes.
	probeTimeout = time.Second
	// filePause is the interval between checks of a credentials file. Changed
	// content must stay the same for this long before it is used: a file that is
	// still being written may look complete with its last bytes missing.
	filePause = time.Second
)

// Config configures Find. The zero value searches where Tencent's SDKs do.
type Config struct {
	// File is the path of a credentials file that must exist. If File is empty,
	// ~/.tencentcloud/credentials is used if it exists.
	File string
	// RoleARN is a role to assume with the key that was found, for example in
	// another account. If RoleARN is empty, the key itself is used.
	RoleARN string
	// PrivateCloud enables EnvPrivateSecretID and EnvPrivateSecretKey, which are
	// read if neither EnvSecretID nor EnvSecretKey is set.
	PrivateCloud bool

	// The fields below are for tests.

	Getenv      func(string) string // default: os.Getenv
	MetadataURL string              // must end in a slash; default: Tencent's
	STSURL      string              // its path must be "/"; default: Tencent's
	// Transport sends requests to both services. By default, each service has its
	// own transport. Requests to the metadata service use no proxy.
	Transport http.RoundTripper
}

// Find returns a Renewer for the first source that has a key: environment,
// credentials file, CVM role, TKE role, as in Tencent's SDKs. The Renewer never
// switches to another source.
//
// The key of a role is first requested by Renewer.Key, so that an outage of the
// metadata service or of STS does not prevent a start. Find only checks whether
// the machine has a role, which takes up to 1 second.
//
// The error wraps ErrNotFound if no source has a key or Config.File does not
// exist, and the cause of the end of ctx if ctx ends.
func Find(ctx context.Context, cfg Config) (*Renewer, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	service := roles{
		metadataURL: cmp.Or(cfg.MetadataURL, "http://metadata.tencentyun.com/latest/meta-data/cam/security-credentials/"),
		stsURL:      cmp.Or(cfg.STSURL, "https://sts.tencentcloudapi.com/"),
		metadata:    cfg.Transport,
		sts:         cfg.Transport,
	}
	if cfg.Transport == nil {
		service.metadata, service.sts = newTransport(nil), newTransport(http.ProxyFromEnvironment)
	}
	base, err := findBase(ctx, cfg, service)
	if err != nil || cfg.RoleARN == "" {
		return base, err
	}
	return &Renewer{name: base.name + "+assume-role", load: service.assumedRole(base, cfg.RoleARN), pause: rolePause}, nil
}

// findBase returns a Renewer of the key that is found without Config.RoleARN.
func findBase(ctx context.Context, cfg Config, service roles) (*Renewer, error) {
	variables := [][3]string{{EnvSecretID, EnvSecretKey, EnvToken}}
	if cfg.PrivateCloud {
		variables = append(variables, [3]string{EnvPrivateSecretID, EnvPrivateSecretKey})
	}
	for _, names := range variables {
		key, err := newKey(cfg.Getenv, names, "%[1]s is set, but %[2]s is not")
		switch {
		case err == nil:
			return &Renewer{name: "environment", lease: lease{key: key}, lastLoad: time.Now()}, nil
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}

	path := cfg.File
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = string(filepath.Separator)
		}
		path = filepath.Join(home, ".tencentcloud", "credentials")
	}
	file := fileSource(path)
	first, err := file(ctx)
	switch {
	case err == nil:
		return &Renewer{name: "file", load: file, pause: filePause, lease: first, lastLoad: time.Now()}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case cfg.File != "":
		return nil, fmt.Errorf("%w: there is no file %s", ErrNotFound, path)
	}

	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	_, noRole := service.machineRoleName(probe)
	cancel()
	if noRole == nil {
		return &Renewer{name: "cvm-role", load: service.machineRole, pause: rolePause}, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("find credentials: %w", context.Cause(ctx))
	}

	// TKE sets these variables in pods whose service account has a role, and
	// TKE_REGION in other pods, too.
	pod, missing := map[string]string{}, ""
	for _, name := range []string{"TKE_REGION", "TKE_PROVIDER_ID", "TKE_WEB_IDENTITY_TOKEN_FILE", "TKE_ROLE_ARN"} {
		pod[name] = Trim(cfg.Getenv(name))
		if pod[name] == "" {
			missing = name
		}
	}
	switch {
	case pod["TKE_PROVIDER_ID"]+pod["TKE_WEB_IDENTITY_TOKEN_FILE"]+pod["TKE_ROLE_ARN"] == "":
		return nil, noRole
	case missing != "":
		return nil, fmt.Errorf("a TKE role needs %s, which is not set", missing)
	}
	return &Renewer{name: "tke-oidc", load: service.podRole(pod), pause: rolePause}, nil
}

// Trim removes what shells, editors and env files leave around a value: white
// space, line ends, quotes and byte order marks.
func Trim(value string) string {
	return strings.TrimFunc(value, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' || isQuote(r) })
}

func isQuote(r rune) bool { return r == '"' || r == '\'' || r == '`' }

// newKey returns a Key of the variables or settings with these names, trimmed. It
// returns ErrNotFound if the first two have no value. If only one of them has,
// incomplete is the format of the error, for the name of that one and the name of
// the other. Errors contain no value.
func newKey(get func(name string) string, names [3]string, incomplete string) (Key, error) {
	var values [3]string
	for i, name := range names {
		values[i] = Trim(get(name))
		if strings.ContainsFunc(values[i], func(r rune) bool { return r <= ' ' || r > '~' || isQuote(r) }) {
			return Key{}, fmt.Errorf("%s contains an invalid character (printable ASCII only, without blanks and quotes)", name)
		}
	}
	switch {
	case values[0] == "" && values[1] == "":
		return Key{}, ErrNotFound
	case values[0] == "":
		return Key{}, fmt.Errorf(incomplete, names[1], names[0])
	case values[1] == "":
		return Key{}, fmt.Errorf(incomplete, names[0], names[1])
	}
	return Key{values[0], Secret(values[1]), Secret(values[2])}, nil
}

// fileSource returns a source that reads a file at the first call, and then again
// after its content has changed.
func fileSource(path string) source {
	var used, seen []byte // content at the last load and at the last check
	var since time.Time   // first check that found the content as in seen
	var pipe bool         // it can be read only once
	return func(context.Context) (lease, error) {
		before, err := os.Stat(path)
		switch {
		case pipe:
			return lease{}, errUnchanged
		case err != nil:
			return lease{}, fmt.Errorf("credentials file: %w", err)
		case used != nil && !before.Mode().IsRegular():
			return lease{}, fmt.Errorf("%s is no longer a regular file", path)
		}
		text, errRead := readFile(path)
		after, errStat := os.Stat(path)
		if err := errors.Join(errRead, errStat); err != nil {
			return lease{}, fmt.Errorf("credentials file: %w", err)
		}
		pipe = !before.Mode().IsRegular()
		if !pipe && (before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime())) {
			return lease{}, fmt.Errorf("credentials file %s changed while being read", path)
		}
		if !bytes.Equal(text, seen) {
			seen, since = text, time.Now()
		}
		// The modification time may come from a clock that is ahead of ours.
		changing := time.Since(after.ModTime()) < filePause && time.Since(since) < filePause
		if used != nil && (changing || bytes.Equal(text, used)) {
			return lease{}, errUnchanged
		}
		key, err := parseFile(text)
		if err != nil {
			return lease{}, fmt.Errorf("credentials file %s: %w", path, err)
		}
		used = text
		return lease{key: key}, nil
	}
}

// readFile returns the content of a file of up to 64 KiB. Errors contain the path.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := readLimited(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// parseFile returns the key in the section [default] of an INI file, as Tencent's
// SDKs do.
func parseFile(text []byte) (Key, error) {
	file, err := ini.LoadSources(ini.LoadOptions{IgnoreInlineComment: true}, text)
	if err != nil {
		return Key{}, errors.New("not in INI format") // the error of the library quotes the line
	}
	section, err := file.GetSection("default")
	if err != nil {
		return Key{}, errors.New("no section [default]")
	}
	get := func(name string) string { return section.Key(name).String() }
	key, err := newKey(get, [...]string{"secret_id", "secret_key", "token"}, "no %[2]s in section [default]")
	if err == ErrNotFound {
		err = errors.New("no secret_id in section [default]")
	}
	return key, err
}
