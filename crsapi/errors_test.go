package crsapi_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestReasons(t *testing.T) {
	want := []crsapi.Reason{"auth", "denied", "retired", "throttled", "timeout", "network", "server", "decode", "api"}
	if got := crsapi.Reasons(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestErrorText(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
				return respond(200, `{"code":4000,"message":"(11201)\nwrong \u0007limit","codeDesc":"Desc"}`)
			})
		})
		_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
		want := dialects[api].action + " " + dialects[api].host + ": API error 4000 (Desc): (11201) wrong  limit"
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
}

// meaning is what an error code means.
type meaning struct {
	reason crsapi.Reason
	tries  int
	reload bool // the key is reported as refused
}

// errorCodes are all codes in the documents, and some below a documented one.
// Each is {reason, attempts, key refused}.
var errorCodes = map[string]meaning{
	"4000": {crsapi.ReasonAPI, 1, false},
	"4100": {crsapi.ReasonAuth, 1, true},
	"4101": {crsapi.ReasonDenied, 1, false},
	"4102": {crsapi.ReasonDenied, 1, false},
	"4103": {crsapi.ReasonDenied, 1, false},
	"4104": {crsapi.ReasonAuth, 1, true},
	"4105": {crsapi.ReasonAuth, 1, true},
	"4106": {crsapi.ReasonAuth, 1, true},
	"4110": {crsapi.ReasonDenied, 1, false},
	"4200": {crsapi.ReasonAuth, 2, false},
	"4300": {crsapi.ReasonDenied, 1, false},
	"4400": {crsapi.ReasonThrottled, 4, false},
	"4420": {crsapi.ReasonThrottled, 4, false},
	"4480": {crsapi.ReasonThrottled, 4, false},
	"4500": {crsapi.ReasonAuth, 2, false},
	"4600": {crsapi.ReasonAPI, 1, false},
	"5000": {crsapi.ReasonAPI, 1, false},
	"5100": {crsapi.ReasonServer, 4, false},
	"6000": {crsapi.ReasonServer, 4, false},
	"6100": {crsapi.ReasonAPI, 1, false},
	"6200": {crsapi.ReasonServer, 4, false},
	"-1":   {crsapi.ReasonAPI, 1, false},

	"ActionOffline": {crsapi.ReasonRetired, 1, false},

	"AuthFailure":                       {crsapi.ReasonAuth, 1, true},
	"AuthFailure.InvalidAuthorization":  {crsapi.ReasonAuth, 1, true},
	"AuthFailure.SignatureFailure":      {crsapi.ReasonAuth, 1, true},
	"AuthFailure.InvalidSecretId":       {crsapi.ReasonAuth, 1, true},
	"AuthFailure.SecretIdNotFound":      {crsapi.ReasonAuth, 1, true},
	"AuthFailure.TokenFailure":          {crsapi.ReasonAuth, 1, true},
	"AuthFailure.MFAFailure":            {crsapi.ReasonAuth, 1, true},
	"AuthFailure.SignatureExpire":       {crsapi.ReasonAuth, 2, false},
	"AuthFailure.UnauthorizedOperation": {crsapi.ReasonDenied, 1, false},

	"UnauthorizedOperation":                    {crsapi.ReasonDenied, 1, false},
	"UnauthorizedOperation.NoCAMAuthed":        {crsapi.ReasonDenied, 1, false},
	"UnauthorizedOperation.UserNotInWhiteList": {crsapi.ReasonDenied, 1, false},
	"InvalidParameter.PermissionDenied":        {crsapi.ReasonDenied, 1, false},
	"IpInBlacklist":                            {crsapi.ReasonDenied, 1, false},
	"IpNotInWhitelist":                         {crsapi.ReasonDenied, 1, false},

	"RequestLimitExceeded":                              {crsapi.ReasonThrottled, 4, false},
	"RequestLimitExceeded.IPLimitExceeded":              {crsapi.ReasonThrottled, 4, false},
	"RequestLimitExceeded.UinLimitExceeded":             {crsapi.ReasonThrottled, 4, false},
	"RequestLimitExceeded.GlobalRegionUinLimitExceeded": {crsapi.ReasonThrottled, 4, false},
	"LimitExceeded":                                     {crsapi.ReasonAPI, 1, false},

	"FailedOperation":                 {crsapi.ReasonServer, 4, false},
	"FailedOperation.SystemError":     {crsapi.ReasonServer, 4, false},
	"InternalError":                   {crsapi.ReasonServer, 4, false},
	"InternalError.DbOperationFailed": {crsapi.ReasonServer, 4, false},
	"InternalError.InternalError":     {crsapi.ReasonServer, 4, false},
	"ServiceUnavailable":              {crsapi.ReasonServer, 4, false},

	"ResourceUnavailable.NoRedisService":  {crsapi.ReasonAPI, 1, false},
	"UnsupportedRegion":                   {crsapi.ReasonAPI, 1, false},
	"InvalidAction":                       {crsapi.ReasonAPI, 1, false},
	"NoSuchProduct":                       {crsapi.ReasonAPI, 1, false},
	"NoSuchVersion":                       {crsapi.ReasonAPI, 1, false},
	"InvalidParameter.ActionNotFound":     {crsapi.ReasonAPI, 1, false},
	"InvalidParameter":                    {crsapi.ReasonAPI, 1, false},
	"InvalidParameter.InvalidParameter":   {crsapi.ReasonAPI, 1, false},
	"InvalidParameterValue":               {crsapi.ReasonAPI, 1, false},
	"InvalidParameterValue.LimitExceeded": {crsapi.ReasonAPI, 1, false},
	"MissingParameter":                    {crsapi.ReasonAPI, 1, false},
	"UnknownParameter":                    {crsapi.ReasonAPI, 1, false},
	"InvalidRequest":                      {crsapi.ReasonAPI, 1, false},
	"UnsupportedProtocol":                 {crsapi.ReasonAPI, 1, false},
	"RequestSizeLimitExceeded":            {crsapi.ReasonAPI, 1, false},
	"ResourceNotFound.InstanceNotExists":  {crsapi.ReasonAPI, 1, false},
	"ResourceNotFound.InstanceNotFound":   {crsapi.ReasonAPI, 1, false},
	"ResourceUnavailable.InstanceDeleted": {crsapi.ReasonAPI, 1, false},
	"ResponseSizeLimitExceeded":           {crsapi.ReasonAPI, 1, false},

	// A prefix ends at a dot.
	"ActionOfflineSoon":                   {crsapi.ReasonAPI, 1, false},
	"InternalErrors":                      {crsapi.ReasonAPI, 1, false},
	"InvalidParameter.PermissionDeniedBy": {crsapi.ReasonAPI, 1, false},
	"Oops":                                {crsapi.ReasonAPI, 1, false},
	"internalerror":                       {crsapi.ReasonAPI, 1, false},
}

// TestErrorCodes answers requests with each error code, in the envelope of each
// API: a gateway may answer in that of another.
func TestErrorCodes(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for code, want := range errorCodes {
			bodies := map[string]string{"a string": apiError(strconv.Quote(code), "no")}
			if number, err := strconv.Atoi(code); err == nil {
				bodies["a number"] = apiError(number, "no")
			} else {
				bodies["Response"] = envelope(code)
			}
			for form, body := range bodies {
				t.Run(code+"/"+form, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						failed, reasons, refused := failWith(t, api, body, nil)
						if failed.Reason != want.reason || !failed.Requested || failed.HTTPStatus != http.StatusOK {
							t.Errorf("error %+v, want reason %s", failed, want.reason)
						}
						if got := fmt.Sprint(failed.Code); got != code && failed.CodeDesc != code {
							t.Errorf("code %s, codeDesc %q", got, failed.CodeDesc)
						}
						if !slices.Equal(reasons, slices.Repeat([]crsapi.Reason{want.reason}, want.tries)) {
							t.Errorf("attempts %v, want %d of %s", reasons, want.tries, want.reason)
						}
						if refused != want.reload {
							t.Errorf("key refused: %v, want %v", refused, want.reload)
						}
					})
				})
			}
		}
	})
}

// TestUnknownInstance: an API that does not know an instance has answered.
func TestUnknownInstance(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, test := range map[string]struct {
			body string
			id   string
			want bool
		}{
			"2.0":               {`{"code":5000,"message":"no","codeDesc":"InstanceNotExists"}`, "crs-a", true},
			"2.0, only a code":  {`{"code":"5000","message":""}`, "crs-a", true},
			"not exists":        {envelope("ResourceNotFound.InstanceNotExists"), "crs-a", true},
			"not found":         {envelope("ResourceNotFound.InstanceNotFound"), "crs-a", true},
			"deleted":           {envelope("ResourceUnavailable.InstanceDeleted"), "crs-a", true},
			"short":             {envelope("ResourceNotFound"), "crs-a", true},
			"no instance asked": {envelope("ResourceNotFound.InstanceNotExists"), "", false},
			"2.0, none asked":   {`{"code":5000,"message":"no","codeDesc":"InstanceNotExists"}`, "", false},
			"something else":    {envelope("ResourceNotFound.AccountNotExists"), "crs-a", false},
			"no Redis":          {envelope("ResourceUnavailable.NoRedisService"), "crs-a", false},
			"denied":            {envelope("UnauthorizedOperation"), "crs-a", false},
		} {
			t.Run(name, func(t *testing.T) {
				var seen recorder
				c := newTestClient(t, api, func(cfg *crsapi.Config) {
					cfg.Observe = seen.observe
					cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, test.body) })
				})
				_, err := c.Page(t.Context(), crsapi.Query{RedisID: test.id})
				if err == nil || crsapi.IsUnknownInstance(fmt.Errorf("wrapped: %w", err)) != test.want {
					t.Errorf("got %v, want an unknown instance: %t", err, test.want)
				}
				if reasons := seen.reasons(); len(reasons) != 1 || (reasons[0] == "") != test.want {
					t.Errorf("attempts %q", reasons)
				}
			})
		}
	})
	if crsapi.IsUnknownInstance(nil) {
		t.Error("no error is an unknown instance")
	}
}

// failWith returns what becomes of a call whose requests get this response, or
// this error of the transport.
func failWith(t *testing.T, api crsapi.API, body string, cause error) (failed *crsapi.Error, attempts []crsapi.Reason, refused bool) {
	t.Helper()
	key := &rotated{id: canaryID}
	var seen recorder
	c := newTestClient(t, api, func(cfg *crsapi.Config) {
		cfg.Credentials, cfg.Observe = key, seen.observe
		cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
			if cause != nil {
				return nil, cause
			}
			return respond(http.StatusOK, body)
		})
	})
	_, err := c.Page(t.Context(), crsapi.Query{})
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return failed, seen.reasons(), key.refusals > 0
}

// TestRetired has each answer that a retired API may give, and what looks like
// it.
func TestRetired(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	const (
		onlySome = "请求被拒绝，该接口只允许特定账户调用。"
		obsolete = "本版本内不支持的接口或者接口已经被废弃"
	)
	flat := func(code any, codeDesc, message string) string {
		return fmt.Sprintf(`{"code":%v,"message":%q,"codeDesc":%q}`, code, message, codeDesc)
	}
	for name, test := range map[string]struct {
		body string
		err  error
		want crsapi.Reason
	}{
		"4300 as siblings have it":   {body: flat(4300, "RequestForbidden", onlySome), want: crsapi.ReasonRetired},
		"4300 RequestForbidden":      {body: flat(4300, "RequestForbidden", ""), want: crsapi.ReasonRetired},
		"4300 with the text":         {body: flat(4300, "", "(1) "+onlySome), want: crsapi.ReasonRetired},
		"4300 as a string":           {body: flat(`"4300"`, "RequestForbidden", ""), want: crsapi.ReasonRetired},
		"6100 with the text":         {body: flat(6100, "", obsolete), want: crsapi.ReasonRetired},
		"6100 as a string":           {body: flat(`"6100"`, "", obsolete), want: crsapi.ReasonRetired},
		"ActionOffline":              {body: envelope("ActionOffline"), want: crsapi.ReasonRetired},
		"ActionOffline, below":       {body: envelope("ActionOffline.Region"), want: crsapi.ReasonRetired},
		"ActionOffline, flat":        {body: flat(`"ActionOffline"`, "", ""), want: crsapi.ReasonRetired},
		"4300":                       {body: flat(4300, "", ""), want: crsapi.ReasonDenied},
		"4300 with another text":     {body: flat(4300, "AccessDenied", "access denied"), want: crsapi.ReasonDenied},
		"6100":                       {body: flat(6100, "", ""), want: crsapi.ReasonAPI},
		"6100 with another text":     {body: flat(6100, "NotSupported", "version not supported"), want: crsapi.ReasonAPI},
		"4100 with the text of 4300": {body: flat(4100, "RequestForbidden", onlySome), want: crsapi.ReasonAuth},
		"6000 with the text of 6100": {body: flat(6000, "", obsolete), want: crsapi.ReasonServer},
		"throttled":                  {body: flat(4400, "RequestLimitExceeded", ""), want: crsapi.ReasonThrottled},
		"throttled, API 3.0":         {body: envelope("RequestLimitExceeded"), want: crsapi.ReasonThrottled},
		"another action's name":      {body: envelope("InvalidAction"), want: crsapi.ReasonAPI},
		"refused connection":         {err: dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), want: crsapi.ReasonNetwork},
		"name not found":             {err: dial(&net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}), want: crsapi.ReasonNetwork},
		"resolver timed out":         {err: dial(&net.DNSError{Err: "timeout", Name: "h", IsTimeout: true}), want: crsapi.ReasonTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				synctest.Test(t, func(t *testing.T) {
					failed, reasons, refused := failWith(t, api, test.body, test.err)
					if failed.Reason != test.want {
						t.Errorf("reason %s, want %s", failed.Reason, test.want)
					}
					if test.want == crsapi.ReasonRetired && (len(reasons) != 1 || refused) {
						t.Errorf("attempts %v, key refused %v: a retired API needs no retry and no other key", reasons, refused)
					}
				})
			})
		})
	}
	for name, test := range map[string]struct {
		do   crsapitest.Effect
		want crsapi.Reason
	}{
		"RetiredForbidden": {crsapitest.RetiredForbidden, crsapi.ReasonRetired},
		"RetiredVersion":   {crsapitest.RetiredVersion, crsapi.ReasonRetired},
		"RetiredEnvelope":  {crsapitest.RetiredEnvelope, crsapi.ReasonRetired},
		"500":              {crsapitest.HTTPStatus(500), crsapi.ReasonServer},
		"502":              {crsapitest.HTTPStatus(502), crsapi.ReasonServer},
		"404":              {crsapitest.HTTPStatus(404), crsapi.ReasonAPI},
		"410":              {crsapitest.HTTPStatus(410), crsapi.ReasonAPI},
		"429":              {crsapitest.HTTPStatus(429), crsapi.ReasonThrottled},
	} {
		t.Run("simulator/"+name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				synctest.Test(t, func(t *testing.T) {
					c, server := serve(t, api, crsapitest.DocumentExample(), nil)
					server.Inject(crsapitest.Fault{Do: test.do})
					_, err := c.Page(t.Context(), crsapi.Query{})
					var failed *crsapi.Error
					if !errors.As(err, &failed) || failed.Reason != test.want {
						t.Errorf("got %v, want reason %s", err, test.want)
					}
				})
			})
		})
	}
	// The end of one API is not that of the others.
	synctest.Test(t, func(t *testing.T) {
		c, server := serve(t, crsapi.API30, crsapitest.DocumentExample(), nil)
		server.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
		if tasks, err := readAll(t, c, crsapi.Query{}); err != nil || len(tasks) != 9 {
			t.Errorf("%d tasks, %v", len(tasks), err)
		}
	})
}
