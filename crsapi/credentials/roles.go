package credentials

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
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/redact"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

// roles requests the keys of roles from the metadata service of a CVM and from
// Tencent's Security Token Service (STS).
type roles struct {
	metadataURL, stsURL string // metadataURL ends in a slash
	metadata, sts       http.RoundTripper
}

// temporaryKey is a key as both services write it.
type temporaryKey struct {
	TmpSecretID, TmpSecretKey, Token string
	ExpiredTime                      int64  // UNIX seconds
	Code                             string // of the metadata service only
}

// lease returns an error if a part of the key is missing.
func (k temporaryKey) lease() (lease, error) {
	l := lease{Key{k.TmpSecretID, Secret(k.TmpSecretKey), Secret(k.Token)}, time.Unix(k.ExpiredTime, 0)}
	switch err := l.key.Validate(); {
	case err != nil:
		return lease{}, err
	case k.Token == "":
		return lease{}, errors.New("the Token is empty")
	case k.ExpiredTime <= 0:
		return lease{}, errors.New("the ExpiredTime is missing")
	}
	return l, nil
}

// errNotJSON replaces errors of the JSON decoder, which quote values.
var errNotJSON = errors.New("not the documented JSON")

// validRoleName detects networks where another host responds to the name of the
// metadata service, for example with a login page.
var validRoleName = regexp.MustCompile(`^[A-Za-z0-9_.=,@+-]{1,128}$`)

// machineRoleName returns the name of the role of a CVM. The error wraps
// ErrNotFound.
func (s roles) machineRoleName(ctx context.Context) (string, error) {
	body, err := s.get(ctx, s.metadataURL)
	name := string(bytes.TrimSpace(body))
	switch {
	case errors.Is(err, httpStatus(http.StatusNotFound)):
		return "", fmt.Errorf("%w: the machine has no role", ErrNotFound)
	case err != nil:
		return "", fmt.Errorf("%w: metadata service: %w", ErrNotFound, err)
	case !validRoleName.MatchString(name):
		return "", fmt.Errorf("%w: metadata service: the response is not a role name", ErrNotFound)
	}
	return name, nil
}

// machineRole is a source of the key of the role of a CVM.
func (s roles) machineRole(ctx context.Context) (lease, error) {
	name, err := s.machineRoleName(ctx)
	if err != nil {
		return lease{}, err
	}
	body, err := s.get(ctx, s.metadataURL+name)
	var got temporaryKey
	var l lease
	switch {
	case err != nil:
	case json.Unmarshal(body, &got) != nil:
		err = errNotJSON
	case got.Code != "Success":
		err = fmt.Errorf("code %q", redact.OneLine(got.Code))
	default:
		l, err = got.lease()
	}
	if err != nil {
		return lease{}, fmt.Errorf("metadata service: credentials of role %s: %w", name, err)
	}
	return l, nil
}

func (s roles) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, errors.New("invalid URL")
	}
	return exchange(s.metadata, req)
}

// assumedRole returns a source of the key of a role, for example of another
// account. The base key signs the requests.
func (s roles) assumedRole(base *Renewer, arn string) source {
	return func(ctx context.Context) (lease, error) {
		signer, err := base.Key(ctx)
		if err != nil {
			return lease{}, err
		}
		// Tencent's SDKs use this region, too. The key is valid in every region.
		l, err := s.assume(ctx, "AssumeRole", "ap-guangzhou", map[string]any{"RoleArn": arn}, signer)
		var failed stsError
		if errors.As(err, &failed) && strings.HasPrefix(failed.code+".", "AuthFailure.") {
			switch failed.code {
			case "AuthFailure.SignatureExpire", "AuthFailure.UnauthorizedOperation": // clock or permission
			default:
				base.Refused(signer)
			}
		}
		return l, err
	}
}

// podRole returns a source of the key of the role of a TKE pod. The requests have
// the token of the pod, which Kubernetes renews, instead of a signature.
func (s roles) podRole(env map[string]string) source {
	return func(ctx context.Context) (lease, error) {
		path := env["TKE_WEB_IDENTITY_TOKEN_FILE"]
		text, err := readFile(path)
		token := string(bytes.TrimSpace(text))
		if err == nil && token == "" {
			err = fmt.Errorf("%s is empty", path)
		}
		if err != nil {
			return lease{}, fmt.Errorf("pod token: %w", err)
		}
		return s.assume(ctx, "AssumeRoleWithWebIdentity", env["TKE_REGION"], map[string]any{
			"ProviderId": env["TKE_PROVIDER_ID"], "WebIdentityToken": token, "RoleArn": env["TKE_ROLE_ARN"],
		}, Key{Token: Secret(token)})
	}
}

// stsError is an error in a response of STS.
type stsError struct{ code, message string }

func (e stsError) Error() string { return e.code + ": " + e.message }

// assume sends an action of STS (version 2018-08-13) whose response is a temporary
// key. A signer without a SecretID does not sign, but its token is redacted.
func (s roles) assume(ctx context.Context, action, region string, params map[string]any, signer Key) (l lease, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("STS %s: %w", action, err)
		}
	}()
	params["RoleSessionName"] = "crs_exporter"
	params["DurationSeconds"] = 7200   // as in Tencent's SDKs
	payload, _ := json.Marshal(params) // strings and numbers cause no error
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.stsURL, bytes.NewReader(payload))
	if err != nil {
		return lease{}, errors.New("invalid URL")
	}
	const contentType = "application/json; charset=utf-8"
	now := time.Now()
	authorization, signature := "SKIP", "" // SKIP is documented for unsigned actions
	if signer.SecretID != "" {
		authorization, signature = tc3.Sign(tc3.Request{
			Service: "sts", Host: req.URL.Host, ContentType: contentType, Payload: payload, Time: now,
		}, signer.SecretID, string(signer.SecretKey))
		if signer.Token != "" {
			req.Header.Set("X-TC-Token", string(signer.Token))
		}
	}
	req.Header.Set("Authorization", authorization)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("X-TC-Action", action)
	req.Header.Set("X-TC-Version", "2018-08-13")
	req.Header.Set("X-TC-Region", region)
	req.Header.Set("X-TC-Timestamp", strconv.FormatInt(now.Unix(), 10))

	body, err := exchange(s.sts, req)
	var got struct {
		Response *struct {
			Credentials temporaryKey
			ExpiredTime int64
			Error       *struct{ Code, Message string }
		}
	}
	valid := json.Unmarshal(body, &got) == nil && got.Response != nil
	switch {
	case valid && got.Response.Error != nil:
		redactor := redact.New(signer.SecretID, string(signer.SecretKey), string(signer.Token), signature)
		return lease{}, stsError{redactor.Line(got.Response.Error.Code), redactor.Line(got.Response.Error.Message)}
	case err != nil:
		return lease{}, err
	case !valid:
		return lease{}, errNotJSON
	}
	got.Response.Credentials.ExpiredTime = got.Response.ExpiredTime
	return got.Response.Credentials.lease()
}

// httpStatus is the error of a response with another HTTP status than 200.
type httpStatus int

func (s httpStatus) Error() string { return fmt.Sprintf("HTTP status %d", int(s)) }

// maxSize limits bodies and headers of responses, and files, in bytes.
const maxSize = 64 << 10

// exchange sends a request. It follows no redirect, and its errors contain no
// URL. It returns the body without a byte order mark, even with an httpStatus.
func exchange(transport http.RoundTripper, req *http.Request) ([]byte, error) {
	req, steps := trace.Watch(req)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, exchangeError(steps, "send the request", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return nil, &trace.ProxyError{Status: resp.StatusCode}
	}
	body, err := readLimited(resp.Body)
	if err != nil {
		return nil, exchangeError(steps, "read the response", err)
	}
	if resp.StatusCode != http.StatusOK {
		err = httpStatus(resp.StatusCode)
	}
	return bytes.TrimPrefix(body, []byte("\ufeff")), err
}

func exchangeError(steps *trace.Trace, doing string, err error) error {
	var timeout interface{ Timeout() bool } // context.DeadlineExceeded is one, too
	if errors.As(err, &timeout) && timeout.Timeout() {
		return steps.Timeout(err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func readLimited(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err == nil && len(text) > maxSize {
		return nil, fmt.Errorf("larger than %d KiB", maxSize>>10)
	}
	return text, err
}

// newTransport keeps no connections open: there are few requests an hour.
func newTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		OnProxyConnectResponse: trace.CheckConnect,
		DialContext:            (&net.Dialer{Timeout: loadTimeout}).DialContext,
		TLSHandshakeTimeout:    loadTimeout,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxSize,
	}
}
