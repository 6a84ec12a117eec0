package crsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// Reason is the kind of a failure. The set is fixed, so that it can be the value
// of a metric label.
type Reason string

// The reasons.
const (
	ReasonAuth      Reason = "auth"      // key, signature, token or timestamp refused, or no key
	ReasonDenied    Reason = "denied"    // valid credentials, permission denied
	ReasonRetired   Reason = "retired"   // the vendor has retired the API, for all or for this account
	ReasonThrottled Reason = "throttled" // over the quota
	ReasonTimeout   Reason = "timeout"   // an attempt or the whole call ran out of time
	ReasonNetwork   Reason = "network"   // no connection, reset, TLS error
	ReasonServer    Reason = "server"    // internal error or maintenance of the API
	ReasonDecode    Reason = "decode"    // not a documented response, or inconsistent totals
	ReasonAPI       Reason = "api"       // any other error code or HTTP status
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{
		ReasonAuth, ReasonDenied, ReasonRetired, ReasonThrottled, ReasonTimeout,
		ReasonNetwork, ReasonServer, ReasonDecode, ReasonAPI,
	}
}

// Error is the error of a failed call. Find it with errors.As. Its text contains
// no secret, and no part of the URL other than the host.
type Error struct {
	Reason     Reason
	Code       int    // code of API 2.0; 0 if the response has none
	CodeDesc   string // codeDesc of API 2.0, or the code of API 3.0
	Message    string // message of the API on one line, at most 256 characters
	HTTPStatus int    // 0 if there was no response

	// Requested is true if a failed HTTP request is the cause, one that was
	// reported to Config.Observe. It is false if no request could be sent or if
	// valid responses contradict each other.
	Requested bool

	Err error // the underlying error; nil if the API returned the error

	action, host    string
	class           class
	unknownInstance bool
}

// IsUnknownInstance reports whether err is that of a Page whose Query.RedisID the
// API does not know in the region. An instance may be known later, or again.
func IsUnknownInstance(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.unknownInstance
}

// retry says how often a failed attempt may be repeated.
type retry uint8

const (
	retryNever retry = iota
	retryOnce
	retryOften
)

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	if e.host != "" {
		fmt.Fprintf(&b, "%s %s: ", e.action, e.host)
	}
	switch {
	case e.Code != 0 || e.CodeDesc != "":
		b.WriteString("API error")
		if e.Code != 0 {
			fmt.Fprintf(&b, " %d", e.Code)
		}
		if e.CodeDesc != "" {
			fmt.Fprintf(&b, " (%s)", e.CodeDesc)
		}
		if e.Message != "" {
			fmt.Fprintf(&b, ": %s", e.Message)
		}
	case e.HTTPStatus != 0 && e.HTTPStatus != http.StatusOK:
		fmt.Fprintf(&b, "HTTP status %d %s", e.HTTPStatus, http.StatusText(e.HTTPStatus))
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	default:
		b.WriteString(string(e.Reason))
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// redact removes secrets from all texts that the server or the transport wrote.
func (e *Error) redact(r credentials.Redactor) {
	if e.Err != nil {
		e.Err = r.Err(e.Err)
	}
	e.CodeDesc = credentials.OneLine(r.Text(e.CodeDesc))
	e.Message = credentials.OneLine(r.Text(e.Message))
}

func decodeError(format string, args ...any) *Error {
	return newError(class{ReasonDecode, retryNever}, fmt.Errorf(format, args...))
}

func newError(c class, err error) *Error {
	return &Error{Reason: c.reason, Err: err, class: c}
}

// notFound are the codes of API 3.0 for an instance that does not exist, or not any
// more.
//
// Source: "Error Codes" of redis 2018-04-12.
var notFound = []string{
	"ResourceNotFound", "ResourceNotFound.InstanceNotExists", "ResourceNotFound.InstanceNotFound", "ResourceUnavailable.InstanceDeleted",
}

// isNotFound reports whether what was asked for does not exist.
func (e *Error) isNotFound() bool { return e.Code == 5000 || slices.Contains(notFound, e.CodeDesc) }

// class is what an error code means for the client.
type class struct {
	reason Reason
	retry  retry
}

// codeClasses maps the common error codes of API 2.0. Other codes are
// {ReasonAPI, retryNever}.
var codeClasses = map[int]class{
	4100: {ReasonAuth, retryNever},
	4101: {ReasonDenied, retryNever},
	4102: {ReasonDenied, retryNever},
	4103: {ReasonDenied, retryNever},
	4104: {ReasonAuth, retryNever},
	4105: {ReasonAuth, retryNever},
	4106: {ReasonAuth, retryNever},
	4110: {ReasonDenied, retryNever},
	// Expired (4200) or replayed (4500): a new timestamp and nonce may fix it.
	// If they do not, the clocks differ, and more retries do not help.
	4200: {ReasonAuth, retryOnce},
	4300: {ReasonDenied, retryNever},
	4400: {ReasonThrottled, retryOften},
	4420: {ReasonThrottled, retryOften},
	4480: {ReasonThrottled, retryOften},
	4500: {ReasonAuth, retryOnce},
	5100: {ReasonServer, retryOften},
	6000: {ReasonServer, retryOften},
	6200: {ReasonServer, retryOften},
}

// classOfCode returns the class of a code of API 2.0. Two codes have a second
// meaning, which only their texts tell.
func classOfCode(code int, codeDesc, message string) class {
	retired := class{ReasonRetired, retryNever}
	switch {
	case code == 4300 && (codeDesc == "RequestForbidden" || strings.Contains(message, onlySomeAccounts)):
		return retired
	case code == 6100 && strings.Contains(message, obsolete):
		return retired
	}
	if c, ok := codeClasses[code]; ok {
		return c
	}
	return class{ReasonAPI, retryNever}
}

// What a retired action of API 2.0 answers: "this interface may be called by
// particular accounts only", and "or the interface is obsolete".
const (
	onlySomeAccounts = "该接口只允许特定账户调用"
	obsolete         = "接口已经被废弃"
)

// namedClasses maps error codes of API 3.0. A code matches if it is equal to the
// prefix or continues with a dot. The first match counts. Other codes are
// {ReasonAPI, retryNever}.
//
// Source: "Error Codes" of Tencent Cloud API 3.0 and of redis 2018-04-12.
var namedClasses = []struct {
	prefix string
	class  class
}{
	{"ActionOffline", class{ReasonRetired, retryNever}},
	{"AuthFailure.UnauthorizedOperation", class{ReasonDenied, retryNever}},
	{"AuthFailure.SignatureExpire", class{ReasonAuth, retryOnce}},
	{"AuthFailure", class{ReasonAuth, retryNever}},
	{"UnauthorizedOperation", class{ReasonDenied, retryNever}},
	{"InvalidParameter.PermissionDenied", class{ReasonDenied, retryNever}},
	{"IpInBlacklist", class{ReasonDenied, retryNever}},
	{"IpNotInWhitelist", class{ReasonDenied, retryNever}},
	{"RequestLimitExceeded", class{ReasonThrottled, retryOften}},
	{"FailedOperation", class{ReasonServer, retryOften}},
	{"InternalError", class{ReasonServer, retryOften}},
	{"ServiceUnavailable", class{ReasonServer, retryOften}},
}

func classOfName(name string) class {
	for _, n := range namedClasses {
		if name == n.prefix || strings.HasPrefix(name, n.prefix+".") {
			return n.class
		}
	}
	return class{ReasonAPI, retryNever}
}

func classOfStatus(status int) class {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return class{ReasonDenied, retryNever}
	case status == http.StatusTooManyRequests:
		return class{ReasonThrottled, retryOften}
	case status >= 500 && status <= 599:
		return class{ReasonServer, retryOften}
	}
	return class{ReasonAPI, retryNever}
}

// classOfTransport maps errors of sending a request and reading its response.
func classOfTransport(err error) class {
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return class{ReasonTimeout, retryOften}
	}
	return class{ReasonNetwork, retryOften}
}
