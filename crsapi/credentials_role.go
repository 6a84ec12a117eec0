package crsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"time"
)

// The roles are read by this package rather than by the providers of the
// vendor's SDK (tencentcloud/common v1.3.210): its Provider interface takes no
// context; CvmRoleProvider asks through http.Get, which has no time-out and
// goes by way of a proxy; no body is bounded; an answer that is not JSON is
// quoted in the error, keys included; and a failed renewal is logged by the
// standard logger and then used although it has expired.

const (
	defaultMetadataURL = "http://metadata.tencentyun.com/latest/meta-data/cam/security-credentials/"
	defaultSTSURL      = "https://sts.tencentcloudapi.com/"

	// maxRoleBody bounds the answers of the metadata service and of STS, and
	// the file with a pod's token.
	maxRoleBody = 64 << 10

	stsVersion = "2018-08-13"
	// defaultSTSRegion is where STS is asked for a role that no region goes
	// with; the vendor's SDKs ask there, and the answer is good everywhere.
	defaultSTSRegion = "ap-guangzhou"
	roleSession      = "crs_exporter"
	// roleDuration is how long an assumed role is asked for, as the vendor's
	// SDKs do.
	roleDuration = 2 * time.Hour
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
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: code %q", name, oneLine(got.Code))
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
	if err := l.validate(); err != nil {
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

// exchangeBounded follows no redirect and tells no URL in its errors.
func exchangeBounded(transport http.RoundTripper, req *http.Request) (status int, body []byte, err error) {
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, transportError(req.Context(), "send the request", err).Err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxRoleBody+1))
	switch {
	case err != nil:
		return 0, nil, transportError(req.Context(), "read the answer", err).Err
	case len(body) > maxRoleBody:
		return 0, nil, fmt.Errorf("the answer is larger than %d KiB", maxRoleBody>>10)
	}
	return resp.StatusCode, body, nil
}

// newRoleTransport keeps no connection: there is hardly a request an hour.
func newRoleTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: loadTimeout}).DialContext,
		TLSHandshakeTimeout:    loadTimeout,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// sts asks Tencent's Security Token Service for the credentials of a role.
type sts struct {
	url       *url.URL
	region    string
	transport http.RoundTripper
}

// stsError is an error that STS itself answered.
type stsError struct{ code, message string }

func (e *stsError) Error() string { return e.code + ": " + e.message }

// assume sends an action that answers with credentials, signed by signer or,
// where that is nil, not at all. Secrets are shown by no error.
func (s sts) assume(ctx context.Context, action string, params any, signer *Credentials, secrets Credentials) (lease, error) {
	payload, err := json.Marshal(params)
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: %w", action, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(payload))
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: the URL is none", action)
	}
	now := time.Now()
	authorization, signature := "SKIP", ""
	if signer != nil {
		authorization, signature = tc3Authorization(*signer, "sts", s.url.Host, payload, now)
		if signer.Token != "" {
			req.Header.Set("X-TC-Token", string(signer.Token))
		}
	}
	for name, value := range map[string]string{
		"Authorization":  authorization,
		"Content-Type":   tc3ContentType,
		"X-TC-Action":    action,
		"X-TC-Version":   stsVersion,
		"X-TC-Region":    s.region,
		"X-TC-Timestamp": strconv.FormatInt(now.Unix(), 10),
	} {
		req.Header.Set(name, value)
	}
	status, body, err := exchangeBounded(s.transport, req)
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: %w", action, err)
	}
	l, err := decodeAssumed(status, body)
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: %w", action, redactSTS(err, newRedactor(secrets, signature)))
	}
	return l, nil
}

func decodeAssumed(status int, body []byte) (lease, error) {
	var got struct {
		Response *struct {
			Credentials struct{ TmpSecretID, TmpSecretKey, Token string }
			ExpiredTime int64
			Error       *struct{ Code, Message string }
		}
	}
	err := json.Unmarshal(body, &got)
	switch {
	case err == nil && got.Response != nil && got.Response.Error != nil:
		return lease{}, &stsError{got.Response.Error.Code, got.Response.Error.Message}
	case status != http.StatusOK:
		return lease{}, fmt.Errorf("HTTP status %d", status)
	case err != nil || got.Response == nil:
		return lease{}, errors.New("not the documented JSON")
	}
	r := got.Response
	return newLease(r.Credentials.TmpSecretID, r.Credentials.TmpSecretKey, r.Credentials.Token, r.ExpiredTime)
}

// redactSTS takes secrets that STS echoes out of its texts.
func redactSTS(err error, redact redactor) error {
	var failed *stsError
	if errors.As(err, &failed) {
		return &stsError{oneLine(redact.text(failed.code)), oneLine(redact.text(failed.message))}
	}
	return err
}

// Names of the environment that TKE sets in pods whose service account has a
// role. All four belong together.
const (
	envTKERegion     = "TKE_REGION"
	envTKEProviderID = "TKE_PROVIDER_ID"
	envTKETokenFile  = "TKE_WEB_IDENTITY_TOKEN_FILE" //nolint:gosec // a variable's name
	envTKERoleARN    = "TKE_ROLE_ARN"
)

// tkeRole is the role of a TKE pod: STS gives it for the pod's own token,
// which Kubernetes writes anew from time to time.
type tkeRole struct {
	sts                            sts
	providerID, tokenFile, roleARN string
}

// findTKERole reads the environment, or wraps ErrNoCredentials.
func findTKERole(getenv func(string) string, sts sts) (tkeRole, error) {
	values, missing := map[string]string{}, ""
	for _, name := range []string{envTKERegion, envTKEProviderID, envTKETokenFile, envTKERoleARN} {
		if value := getenv(name); value != "" {
			values[name] = value
		} else {
			missing = name
		}
	}
	// TKE_REGION alone says nothing of a role.
	role := values[envTKEProviderID] + values[envTKETokenFile] + values[envTKERoleARN]
	switch {
	case role == "":
		return tkeRole{}, fmt.Errorf("%w: %s is not set", ErrNoCredentials, envTKERoleARN)
	case missing != "":
		return tkeRole{}, fmt.Errorf("a role of TKE needs %s, which is not set", missing)
	}
	sts.region = values[envTKERegion]
	return tkeRole{sts, values[envTKEProviderID], values[envTKETokenFile], values[envTKERoleARN]}, nil
}

func (s tkeRole) load(ctx context.Context, _ bool) (lease, error) {
	token, err := readToken(s.tokenFile)
	if err != nil {
		return lease{}, err
	}
	return s.sts.assume(ctx, "AssumeRoleWithWebIdentity", struct {
		ProviderID       string `json:"ProviderId"`
		WebIdentityToken string
		RoleARN          string `json:"RoleArn"`
		RoleSessionName  string
		DurationSeconds  int64
	}{s.providerID, token, s.roleARN, roleSession, int64(roleDuration / time.Second)}, nil, Credentials{Token: Secret(token)})
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the pod's token: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxRoleBody+1))
	token := bytes.TrimSpace(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("the pod's token: %w", err)
	case len(token) == 0:
		return "", fmt.Errorf("the pod's token: %s is empty", path)
	case len(text) > maxRoleBody:
		return "", fmt.Errorf("the pod's token: %s is larger than %d KiB", path, maxRoleBody>>10)
	}
	return string(token), nil
}

// assumedRole is a role, maybe of another account, that other credentials may
// take on.
type assumedRole struct {
	sts  sts
	base *RenewingCredentials
	arn  string
}

func (s assumedRole) load(ctx context.Context, _ bool) (lease, error) {
	base, err := s.base.Credentials(ctx)
	if err != nil {
		return lease{}, err
	}
	l, err := s.sts.assume(ctx, "AssumeRole", struct {
		RoleARN         string `json:"RoleArn"`
		RoleSessionName string
		DurationSeconds int64
	}{s.arn, roleSession, int64(roleDuration / time.Second)}, &base, base)
	var failed *stsError
	if errors.As(err, &failed) {
		if class := classOfName(failed.code); class.reason == ReasonAuth && class.retry == retryNever {
			s.base.Refused(base)
		}
	}
	return l, err
}
