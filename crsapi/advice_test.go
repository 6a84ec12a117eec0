package crsapi_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TestAdvice has the advice to the operator for error codes, and for what is no answer.
func TestAdvice(t *testing.T) {
	for _, test := range []struct {
		apis  []crsapi.API
		body  string
		parts string
	}{
		{allAPIs, errorOf(4000, "", "(11201)InvalidParameter: limit"), "--crs.page-size"},
		{bothOf3, envelope("InvalidParameterValue"), "--crs.page-size"},
		{bothOf3, envelope("ResponseSizeLimitExceeded"), "--crs.page-size"},
		{[]crsapi.API{two}, errorOf(4300, "RequestForbidden", ""), "--crs.api=3.0|auto|redis:DescribeTaskList"},
		{bothOf3, errorOf(4300, "RequestForbidden", ""), "retired API VERSION"},
		{[]crsapi.API{two}, errorJSON(6100), "--crs.endpoint|--crs.api=3.0"},
		{bothOf3, envelope("InvalidAction"), "ENDPOINT|HOST"},
		{[]crsapi.API{two}, errorJSON(4102), "redis:GetRedisTaskList|instance/*"},
		{bothOf3, envelope("InvalidParameter.PermissionDenied"), "redis:ACTION"},
		{allAPIs, errorJSON(4100), "SecretKey"},
		{bothOf3, envelope("AuthFailure.SecretIdNotFound"), "SecretId"},
		{bothOf3, envelope("AuthFailure.InvalidAuthorization"), "valid key pair"},
		{bothOf3, envelope("ResourceNotFound.InstanceNotExists"), "--crs.redis-id"},
		{bothOf3, envelope("UnsupportedRegion"), "--crs.region"},
		{bothOf3, envelope("Oops"), "ENDPOINT|--crs.region"},
	} {
		for _, api := range test.apis {
			synctest.Test(t, func(t *testing.T) {
				failed, _, _ := failWith(t, api, always(test.body))
				wantAdvice(t, fmt.Errorf("page at offset 0: %w", failed), api, test.parts)
			})
		}
	}
	for api, parts := range map[crsapi.API]string{two: "The name HOST does not resolve|--crs.api=3.0", three: "Cannot connect to HOST"} {
		synctest.Test(t, func(t *testing.T) {
			failed, _, _ := failWith(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: r.Host, IsNotFound: true}}
			}))
			wantAdvice(t, failed, api, parts)
		})
	}
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

// wantAdvice wants parts of the text, separated by |. HOST and ACTION in them are those of
// the API, VERSION is its name, and ENDPOINT its flag.
func wantAdvice(t *testing.T, err error, api crsapi.API, parts string) {
	t.Helper()
	got, endpoint := crsapi.Advice(err, api), "--crs.v3-endpoint"
	if api == two {
		endpoint = "--crs.endpoint"
	}
	if got == "" || strings.ContainsAny(got, "\n{}") {
		t.Errorf("%v: advice %q", err, got)
	}
	own := strings.NewReplacer("HOST", dialects[api].host, "ACTION", dialects[api].action, "VERSION", string(api), "ENDPOINT", endpoint)
	for part := range strings.SplitSeq(own.Replace(parts), "|") {
		if !strings.Contains(got, part) {
			t.Errorf("%v: advice %q, want %q", err, got, part)
		}
	}
}
