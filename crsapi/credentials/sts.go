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

const (
	defaultSTSURL  = "https://sts.tencentcloudapi.com/"
	stsVersion     = "2018-08-13"
	stsContentType = "application/json; charset=utf-8"
	// defaultSTSRegion is the region for AssumeRole. The SDKs of Tencent use it
	// too; the key works in every region.
	defaultSTSRegion = "ap-guangzhou"
	roleSession      = "crs_exporter"
	// roleDuration is the requested lifetime of a key, as in Tencent's SDKs.
	roleDuration = 2 * time.Hour
)

// sts is a client for Tencent's Security Token Service.
type sts struct {
	url       *url.URL
	region    string
	transport http.RoundTripper
}

// stsError is an error in a response of STS.
type stsError struct{ code, message string }

func (e *stsError) Error() string { return e.code + ": " + e.message }

// refusesKey reports whether the key, its signature or its token caused the
// error, and not the clock or a missing permission.
//
// Source: the common error codes of Tencent Cloud API 3.0, which STS uses.
func (e *stsError) refusesKey() bool {
	switch e.code {
	case "AuthFailure.SignatureExpire", "AuthFailure.UnauthorizedOperation":
		return false
	}
	return e.code == "AuthFailure" || strings.HasPrefix(e.code, "AuthFailure.")
}

// assume sends an action whose response is a temporary key. The request is
// signed by signer, or not at all if signer is nil. Errors contain no part of
// secrets.
func (s sts) assume(ctx context.Context, action string, params any, signer *Key, secrets Key) (lease, error) {
	payload, err := json.Marshal(params)
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: %w", action, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(payload))
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: invalid URL", action)
	}
	now := time.Now()
	authorization, signature := "SKIP", "" // SKIP is documented for unsigned actions
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
	status, body, err := exchange(s.transport, req)
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: %w", action, err)
	}
	l, err := decodeAssumed(status, body)
	var failed *stsError
	if errors.As(err, &failed) {
		redact := NewRedactor(secrets, signature)
		err = &stsError{OneLine(redact.Text(failed.code)), OneLine(redact.Text(failed.message))}
	}
	if err != nil {
		return lease{}, fmt.Errorf("STS %s: %w", action, err)
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

// assumedRole gets the key of a role, for example of another account, in
// exchange for a signature by the base key.
type assumedRole struct {
	sts  sts
	base *Renewer
	arn  string
}

func (s assumedRole) load(ctx context.Context, _ bool) (lease, error) {
	base, err := s.base.Key(ctx)
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
