package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
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

	stsContentType = "application/json; charset=utf-8"
	stsVersion     = "2018-08-13"
	// defaultSTSRegion is where STS is asked for a role that no region goes
	// with; the vendor's SDKs ask there, and the answer is good everywhere.
	defaultSTSRegion = "ap-guangzhou"
	roleSession      = "crs_exporter"
	// roleDuration is how long an assumed role is asked for, as the vendor's
	// SDKs do.
	roleDuration = 2 * time.Hour
)

// sts asks Tencent's Security Token Service for the credentials of a role.
type sts struct {
	url       *url.URL
	region    string
	transport http.RoundTripper
}

// stsError is an error that STS itself answered.
type stsError struct{ code, message string }

func (e *stsError) Error() string { return e.code + ": " + e.message }

// refusesKey tells whether the key, its signature or its token is to blame, and
// neither the clock nor what the key may do.
func (e *stsError) refusesKey() bool {
	switch e.code {
	case "AuthFailure.SignatureExpire", "AuthFailure.UnauthorizedOperation":
		return false
	}
	return e.code == "AuthFailure" || strings.HasPrefix(e.code, "AuthFailure.")
}

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
		authorization, signature = tc3.Sign(tc3.Request{
			Service: "sts", Host: s.url.Host, ContentType: stsContentType, Payload: payload, Time: now,
		}, signer.SecretID, string(signer.SecretKey))
		if signer.Token != "" {
			req.Header.Set("X-TC-Token", string(signer.Token))
		}
	}
	for name, value := range map[string]string{
		"Authorization":  authorization,
		"Content-Type":   stsContentType,
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
		return lease{}, fmt.Errorf("STS %s: %w", action, redactSTS(err, NewRedactor(secrets, signature)))
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
func redactSTS(err error, redact Redactor) error {
	var failed *stsError
	if errors.As(err, &failed) {
		return &stsError{OneLine(redact.Text(failed.code)), OneLine(redact.Text(failed.message))}
	}
	return err
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
	if errors.As(err, &failed) && failed.refusesKey() {
		s.base.Refused(base)
	}
	return l, err
}
