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
	name := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}}
	for what, test := range map[string]struct {
		body  string
		cause error
		want  map[crsapi.API][]string // parts of the text
	}{
		"limit refused": {body: errorJSON(4000, "(11201)InvalidParameter: limit"), want: map[crsapi.API][]string{two: {"--crs.page-size"}, three: {"--crs.page-size"}}},
		"limit, 3.0":    {body: envelope("InvalidParameterValue"), want: map[crsapi.API][]string{three: {"--crs.page-size"}, tce: {"--crs.page-size"}}},
		"too large":     {body: envelope("ResponseSizeLimitExceeded"), want: map[crsapi.API][]string{three: {"--crs.page-size"}}},
		"retired": {body: retired, want: map[crsapi.API][]string{
			two: {"--crs.api=3.0", "auto", "redis:DescribeTaskList"}, three: {"retired API 3.0"}, tce: {"retired API tce"},
		}},
		"wrong host": {body: errorJSON(6100, ""), want: map[crsapi.API][]string{two: {"--crs.endpoint", "--crs.api=3.0"}}},
		"no action":  {body: envelope("InvalidAction"), want: map[crsapi.API][]string{three: {"--crs.v3-endpoint", "redis.tencentcloudapi.com"}}},
		"denied": {body: errorJSON(4102, ""), want: map[crsapi.API][]string{
			two: {"redis:GetRedisTaskList", "instance/*"}, three: {"redis:DescribeTaskList"}, tce: {"redis:GetRedisTaskList"},
		}},
		"denied by Redis":  {body: envelope("InvalidParameter.PermissionDenied"), want: map[crsapi.API][]string{three: {"redis:DescribeTaskList"}, tce: {"redis:GetRedisTaskList"}}},
		"wrong key":        {body: errorJSON(4100, ""), want: map[crsapi.API][]string{two: {"SecretKey"}, three: {"SecretKey"}}},
		"unknown key":      {body: envelope("AuthFailure.SecretIdNotFound"), want: map[crsapi.API][]string{three: {"SecretId"}}},
		"other auth":       {body: envelope("AuthFailure.InvalidAuthorization"), want: map[crsapi.API][]string{three: {"valid key pair"}}},
		"clock":            {body: errorJSON(4500, ""), want: map[crsapi.API][]string{two: {"NTP"}}},
		"throttled":        {body: errorJSON(4400, ""), want: map[crsapi.API][]string{two: {"--crs.rate-limit"}}},
		"instance":         {body: envelope("ResourceNotFound.InstanceNotExists"), want: map[crsapi.API][]string{three: {"--crs.redis-id"}}},
		"region":           {body: envelope("UnsupportedRegion"), want: map[crsapi.API][]string{three: {"--crs.region"}}},
		"server":           {body: errorJSON(6000, ""), want: map[crsapi.API][]string{two: {"try again"}}},
		"not the API":      {body: "<html>", want: map[crsapi.API][]string{two: {"--crs.endpoint", "redis.api.qcloud.com"}, three: {"--crs.v3-endpoint", "redis.tencentcloudapi.com"}}},
		"unknown code":     {body: envelope("Oops"), want: map[crsapi.API][]string{three: {"--crs.v3-endpoint", "--crs.region"}}},
		"name not found":   {cause: name, want: map[crsapi.API][]string{two: {"does not resolve", "--crs.api=3.0"}, three: {"Cannot connect to redis.tencentcloudapi.com"}}},
		"no connection":    {cause: io.EOF, want: map[crsapi.API][]string{two: {"Cannot connect to redis.api.qcloud.com"}}},
		"attempt too long": {cause: &net.DNSError{Err: "timeout", IsTimeout: true}, want: map[crsapi.API][]string{three: {"--crs.request-timeout"}}},
	} {
		for api, parts := range test.want {
			t.Run(what+"/"+string(api), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					transport := always(test.body)
					if test.cause != nil {
						transport = broken(test.cause)
					}
					failed, _, _ := failWith(t, api, transport)
					wantAdvice(t, fmt.Errorf("page at offset 0: %w", failed), api, parts...)
				})
			})
		}
	}
	for status, want := range map[int]string{401: "in front of the API", 403: "in front of the API", 404: "does not serve API 3.0", 407: "HTTPS_PROXY", 429: "--crs.rate-limit", 502: "try again", 302: "--crs.v3-endpoint"} {
		synctest.Test(t, func(t *testing.T) {
			c := newClient(t, three, transportFunc(func(*http.Request) (*http.Response, error) { return respond(status, "") }))
			_, err := c.Page(t.Context(), crsapi.Query{})
			wantAdvice(t, err, three, want)
		})
	}
	c := newClient(t, three, nil, func(cfg *crsapi.Config) { cfg.Credentials = credentials.Static{} })
	_, err := c.Page(t.Context(), crsapi.Query{})
	wantAdvice(t, err, three, "could not be read from their source")
	wantAdvice(t, &crsapi.Error{Reason: crsapi.ReasonTimeout}, two, "--crs.lookback")
	wantAdvice(t, &crsapi.Error{Reason: crsapi.ReasonDecode}, two, "contradict", "--check")
	for _, reason := range crsapi.Reasons() {
		for _, api := range allAPIs {
			wantAdvice(t, &crsapi.Error{Reason: reason, Requested: true}, api, "")
		}
	}
	if got := crsapi.Advice(errors.New("x"), two) + crsapi.Advice(nil, two); got != "" {
		t.Errorf("advice %q about no *Error", got)
	}
}

func wantAdvice(t *testing.T, err error, api crsapi.API, parts ...string) {
	t.Helper()
	got := crsapi.Advice(err, api)
	if got == "" || strings.ContainsAny(got, "\n{}") {
		t.Errorf("%v: advice %q", err, got)
	}
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%v: advice %q, want %q", err, got, part)
		}
	}
}
