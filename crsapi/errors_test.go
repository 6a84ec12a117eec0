package crsapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TestErrorResponse has the text of an error by the response, in the format of either API.
// An error has priority over all else in a response.
func TestErrorResponse(t *testing.T) {
	const (
		internal = "API error (InternalError): m (RequestId r-1)"
		onlySome = "请求被拒绝，该接口只允许特定账户调用。"
		obsolete = "本版本内不支持的接口或者接口已经被废弃"
	)
	four := repeat(crsapi.ReasonServer, 4)
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, test := range []struct{ body, attempts, want string }{
			{`{"code":4000,"message":"(11201)\nwrong \u0007limit","codeDesc":"Desc"}`, "api", "API error 4000 (Desc): (11201) wrong  limit"},
			{`{"code":4000,"message":"` + strings.Repeat("名", 300) + `"}`, "api", "API error 4000: " + strings.Repeat("名", 256)},
			{`{"code":"4100","message":"no","codeDesc":"AuthFailure"}`, "auth", "API error 4100 (AuthFailure): no"},
			{`{"code":0,"Response":{"RequestId":"r-\n1"}}`, "decode", "decode the response: no total (RequestId r- 1)"},
			{`{"Response":{TOTAL:1,LIST:[ROW],"Error":{"Code":"InternalError","Message":"m"},"RequestId":"r-1"}}`, four, internal},
			{`{"code":0,"codeDesc":"Success","Response":{"Error":{"Code":"InternalError","Message":"m"},"RequestId":"r-1"}}`, four, internal},
			{`{"code":"InternalError","message":"m","Response":{"RequestId":"r-1"}}`, four, internal},
			// A retired API, and similar responses.
			{errorOf(4300, "RequestForbidden", ""), "retired", "API error 4300 (RequestForbidden)"},
			{errorOf(`"4300"`, "RequestForbidden", ""), "retired", "API error 4300 (RequestForbidden)"},
			{errorOf(4300, "", "(1) "+onlySome), "retired", "API error 4300: (1) " + onlySome},
			{errorOf(6100, "", obsolete), "retired", "API error 6100: " + obsolete},
			{errorOf(4300, "AccessDenied", "access denied"), "denied", "API error 4300 (AccessDenied): access denied"},
			{errorOf(6100, "NotSupported", "version not ok"), "api", "API error 6100 (NotSupported): version not ok"},
			{errorOf(6000, "", obsolete), four, "API error 6000: " + obsolete},
		} {
			failed, attempts, refused := failWith(t, api, always(fill(api, test.body)))
			want := dialects[api].action + " " + dialects[api].host + ": " + test.want
			if failed.Error() != want || attempts != test.attempts || refused != (attempts == "auth") {
				t.Errorf("%s: got %v after %s, key refused: %t, want %s", test.body, failed, attempts, refused, test.want)
			}
		}
	})
}

// meaning is the meaning of an error code.
type meaning struct {
	reason crsapi.Reason
	tries  int
	reload bool // the key is refused
}

// errorCodes are all codes of the documents, and some with a documented prefix.
var errorCodes = map[meaning]string{
	{crsapi.ReasonAuth, 1, true}: `4100 4104 4105 4106 AuthFailure AuthFailure.InvalidAuthorization AuthFailure.SignatureFailure
		AuthFailure.InvalidSecretId AuthFailure.SecretIdNotFound AuthFailure.TokenFailure AuthFailure.MFAFailure`,
	{crsapi.ReasonAuth, 2, false}: "4200 4500 AuthFailure.SignatureExpire",
	{crsapi.ReasonDenied, 1, false}: `4101 4102 4103 4110 4300 AuthFailure.UnauthorizedOperation UnauthorizedOperation
		UnauthorizedOperation.NoCAMAuthed UnauthorizedOperation.UserNotInWhiteList InvalidParameter.PermissionDenied
		IpInBlacklist IpNotInWhitelist`,
	{crsapi.ReasonRetired, 1, false}: "ActionOffline ActionOffline.Region",
	{crsapi.ReasonThrottled, 4, false}: `4400 4420 4480 RequestLimitExceeded RequestLimitExceeded.IPLimitExceeded
		RequestLimitExceeded.UinLimitExceeded RequestLimitExceeded.GlobalRegionUinLimitExceeded`,
	{crsapi.ReasonServer, 4, false}: `5100 6000 6200 FailedOperation FailedOperation.SystemError InternalError
		InternalError.DbOperationFailed InternalError.InternalError ServiceUnavailable`,
	{crsapi.ReasonAPI, 1, false}: `4000 4600 5000 6100 -1 LimitExceeded ResourceUnavailable.NoRedisService UnsupportedRegion InvalidAction
		NoSuchProduct NoSuchVersion InvalidParameter InvalidParameter.ActionNotFound InvalidParameter.InvalidParameter
		InvalidParameterValue InvalidParameterValue.LimitExceeded MissingParameter UnknownParameter InvalidRequest
		UnsupportedProtocol RequestSizeLimitExceeded ResponseSizeLimitExceeded ResourceNotFound.InstanceNotExists
		ResourceNotFound.InstanceNotFound ResourceUnavailable.InstanceDeleted ResourceNotFound ResourceNotFound.AccountNotExists
		ActionOfflineSoon InternalErrors InvalidParameter.PermissionDeniedBy Oops internalerror`, // a prefix ends at a dot
}

// failWith returns the error of a call, its attempts, and whether it reported the key as
// refused.
func failWith(t *testing.T, api crsapi.API, transport transportFunc) (failed *crsapi.Error, attempts string, refused bool) {
	t.Helper()
	key := &keys{ids: []string{canaryID}}
	var seen recorder
	c := newClient(t, api, transport, seen.in, func(cfg *crsapi.Config) { cfg.Credentials = key })
	_, err := c.Page(t.Context(), crsapi.Query{})
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return failed, seen.reasons(), key.refused > 0
}

// unknownInstance are the codes for an instance that is not in the region.
var unknownInstance = []string{
	"5000", "ResourceNotFound", "ResourceNotFound.InstanceNotExists", "ResourceNotFound.InstanceNotFound", "ResourceUnavailable.InstanceDeleted",
}

// TestErrorCodes has each error code in the formats of both APIs: a gateway may respond
// in that of the other. For an unknown instance, that is a valid response.
func TestErrorCodes(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for want, codes := range errorCodes {
			for _, code := range strings.Fields(codes) {
				bodies := []string{errorJSON(strconv.Quote(code)), envelope(code)}
				if number, err := strconv.Atoi(code); err == nil {
					bodies[1] = errorJSON(number)
				}
				for _, body := range bodies {
					failed, attempts, refused := failWith(t, api, always(body))
					if !failed.Requested || failed.HTTPStatus != http.StatusOK || fmt.Sprint(failed.Code) != code && failed.CodeDesc != code {
						t.Errorf("%s: error %+v", body, failed)
					}
					if attempts != repeat(want.reason, want.tries) || failed.Reason != want.reason || refused != want.reload {
						t.Errorf("%s: reason %s, attempts %s, key refused: %t, want %+v", body, failed.Reason, attempts, refused, want)
					}
					var seen recorder
					_, err := newClient(t, api, always(body), seen.in).Page(noRetry{t.Context()}, crsapi.Query{RedisID: "crs-1"})
					unknown := slices.Contains(unknownInstance, code)
					if crsapi.IsUnknownInstance(fmt.Errorf("wrapped: %w", err)) != unknown || (seen.reasons() == "ok") != unknown || crsapi.IsUnknownInstance(failed) {
						t.Errorf("%s: %v after %s, want an unknown instance: %t", body, err, seen.reasons(), unknown)
					}
				}
			}
		}
	})
}
