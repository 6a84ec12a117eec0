package crsapi_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// TestAdvice has the advice to the operator for each kind of failure.
func TestAdvice(t *testing.T) {
	retired := `{"code":4300,"message":"","codeDesc":"RequestForbidden"}`
	unresolved := func(name string) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}}
	}
	fail := func(err error) transportFunc {
		return func(*http.Request) (*http.Response, error) { return nil, err }
	}
	status := func(code int) transportFunc {
		return func(*http.Request) (*http.Response, error) { return respond(code, "") }
	}
	for what, test := range map[string]struct {
		transport transportFunc
		want      map[crsapi.API]string // parts of the text, separated by |
	}{
		"limit, 2.0":      {always(errorJSON(4000, "(11201)InvalidParameter: limit")), map[crsapi.API]string{two: "--crs.page-size", three: "--crs.page-size"}},
		"limit, 3.0":      {always(envelope("InvalidParameterValue")), map[crsapi.API]string{three: "--crs.page-size", tce: "--crs.page-size"}},
		"too large":       {always(envelope("ResponseSizeLimitExceeded")), map[crsapi.API]string{three: "--crs.page-size"}},
		"retired":         {always(retired), map[crsapi.API]string{two: "--crs.api=3.0|auto|redis:DescribeTaskList", three: "retired API 3.0", tce: "retired API tce"}},
		"wrong host":      {always(errorJSON(6100, "")), map[crsapi.API]string{two: "--crs.endpoint|--crs.api=3.0"}},
		"no action":       {always(envelope("InvalidAction")), map[crsapi.API]string{three: "--crs.v3-endpoint|redis.tencentcloudapi.com"}},
		"denied":          {always(errorJSON(4102, "")), map[crsapi.API]string{two: "redis:GetRedisTaskList|instance/*", three: "redis:DescribeTaskList", tce: "redis:GetRedisTaskList"}},
		"denied by Redis": {always(envelope("InvalidParameter.PermissionDenied")), map[crsapi.API]string{three: "redis:DescribeTaskList", tce: "redis:GetRedisTaskList"}},
		"wrong key":       {always(errorJSON(4100, "")), map[crsapi.API]string{two: "SecretKey", three: "SecretKey"}},
		"unknown key":     {always(envelope("AuthFailure.SecretIdNotFound")), map[crsapi.API]string{three: "SecretId"}},
		"other auth":      {always(envelope("AuthFailure.InvalidAuthorization")), map[crsapi.API]string{three: "valid key pair"}},
		"clock":           {always(errorJSON(4500, "")), map[crsapi.API]string{two: "NTP"}},
		"throttled":       {always(errorJSON(4400, "")), map[crsapi.API]string{two: "--crs.rate-limit"}},
		"instance":        {always(envelope("ResourceNotFound.InstanceNotExists")), map[crsapi.API]string{three: "--crs.redis-id"}},
		"region":          {always(envelope("UnsupportedRegion")), map[crsapi.API]string{three: "--crs.region"}},
		"server":          {always(errorJSON(6000, "")), map[crsapi.API]string{two: "try again"}},
		"not the API":     {always("<html>"), map[crsapi.API]string{two: "--crs.endpoint|redis.api.qcloud.com", three: "--crs.v3-endpoint|redis.tencentcloudapi.com"}},
		"unknown code":    {always(envelope("Oops")), map[crsapi.API]string{three: "--crs.v3-endpoint|--crs.region"}},
		"name not found": {fail(unresolved("redis.api.qcloud.com")), map[crsapi.API]string{
			two: "The name redis.api.qcloud.com does not resolve|--crs.api=3.0", three: "Cannot connect to redis.tencentcloudapi.com",
		}},
		"name of a proxy":    {fail(unresolved("proxy")), map[crsapi.API]string{two: "Cannot connect|the proxy of the environment"}},
		"no connection":      {fail(io.EOF), map[crsapi.API]string{two: "Cannot connect to redis.api.qcloud.com"}},
		"attempt too long":   {fail(&net.DNSError{Err: "timeout", IsTimeout: true}), map[crsapi.API]string{three: "--crs.request-timeout"}},
		"redirected":         {status(302), map[crsapi.API]string{three: "--crs.v3-endpoint"}},
		"refused by a proxy": {status(403), map[crsapi.API]string{three: "in front of the API"}},
		"key of a proxy":     {status(407), map[crsapi.API]string{three: "HTTPS_PROXY"}},
		"not found":          {status(404), map[crsapi.API]string{three: "does not serve API 3.0"}},
	} {
		for api, parts := range test.want {
			t.Run(what+"/"+string(api), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					failed, _, _ := failWith(t, api, test.transport)
					wantAdvice(t, fmt.Errorf("page at offset 0: %w", failed), api, parts)
				})
			})
		}
	}
	c := newClient(t, three, nil, func(cfg *crsapi.Config) { cfg.Credentials = credentials.Static{} })
	_, err := c.Page(t.Context(), crsapi.Query{})
	wantAdvice(t, err, three, "could not be read from their source")
	wantAdvice(t, &crsapi.Error{Reason: crsapi.ReasonTimeout}, two, "--crs.lookback")
	wantAdvice(t, &crsapi.Error{Reason: crsapi.ReasonDecode}, two, "contradict|--check")
	for _, reason := range crsapi.Reasons() {
		for _, api := range allAPIs {
			wantAdvice(t, &crsapi.Error{Reason: reason, Requested: true}, api, "")
		}
	}
	if got := crsapi.Advice(errors.New("x"), two) + crsapi.Advice(nil, two); got != "" {
		t.Errorf("advice %q about no *Error", got)
	}
}

func wantAdvice(t *testing.T, err error, api crsapi.API, parts string) {
	t.Helper()
	got := crsapi.Advice(err, api)
	if got == "" || strings.ContainsAny(got, "\n{}") {
		t.Errorf("%v: advice %q", err, got)
	}
	for part := range strings.SplitSeq(parts, "|") {
		if !strings.Contains(got, part) {
			t.Errorf("%v: advice %q, want %q", err, got, part)
		}
	}
}
