package crsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Reason says in one word why a request or a sweep failed. The set is closed,
// so that it can be a label.
type Reason string

// The reasons.
const (
	ReasonAuth      Reason = "auth"      // the key, its signature, its token or its time was refused
	ReasonDenied    Reason = "denied"    // the key is good and may not
	ReasonThrottled Reason = "throttled" // over the quota
	ReasonTimeout   Reason = "timeout"   // an attempt or the whole sweep ran out of time
	ReasonNetwork   Reason = "network"   // no connection, reset, TLS
	ReasonServer    Reason = "server"    // the API says that it is at fault
	ReasonDecode    Reason = "decode"    // not the documented answer, or totals that never add up
	ReasonAPI       Reason = "api"       // any other code or HTTP status
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{
		ReasonAuth, ReasonDenied, ReasonThrottled, ReasonTimeout,
		ReasonNetwork, ReasonServer, ReasonDecode, ReasonAPI,
	}
}

// Error is what Page and Sweep return, found with errors.As. It tells no
// secret, and no URL beyond the host.
type Error struct {
	Reason     Reason
	Code       int    // of the API; 0 where it gave none
	CodeDesc   string // of the API, or the code of an API 3.0 envelope
	Message    string // of the API, on one line, at most 256 characters
	HTTPStatus int    // 0 where no answer came

	// Requested is true where a failed HTTP request is the cause, one that
	// Config.Observe was told of, and false where the sweep itself failed:
	// totals that never add up, time that ran out between two requests.
	Requested bool

	Err error // the cause below; nil where the answer itself is the error

	host  string
	retry retry
}

// retry is how often an attempt that failed may be made again.
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
		fmt.Fprintf(&b, "%s %s: ", action, e.host)
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

// Unwrap returns the cause, nil where there is none below.
func (e *Error) Unwrap() error { return e.Err }

// class is what follows from an error code.
type class struct {
	reason Reason
	retry  retry
}

// codeClasses holds the common error codes of API 2.0; every other code is
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
	// Expired or replayed: a fresh Timestamp and Nonce may mend it, and if
	// they do not, the clocks are apart and no number of them will.
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

func classOfCode(code int) class {
	if c, ok := codeClasses[code]; ok {
		return c
	}
	return class{ReasonAPI, retryNever}
}

// namedClasses holds the codes of API 3.0, which an API 2.0 host may answer
// with, by what they begin with; the first match counts.
var namedClasses = []struct {
	prefix string
	class  class
}{
	{"AuthFailure.UnauthorizedOperation", class{ReasonDenied, retryNever}},
	{"AuthFailure.SignatureExpire", class{ReasonAuth, retryOnce}},
	{"AuthFailure", class{ReasonAuth, retryNever}},
	{"UnauthorizedOperation", class{ReasonDenied, retryNever}},
	{"RequestLimitExceeded", class{ReasonThrottled, retryOften}},
	{"InternalError", class{ReasonServer, retryOften}},
	{"FailedOperation.SystemError", class{ReasonServer, retryOften}},
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

// classOfTransport sorts the errors of sending a request and reading its
// answer.
func classOfTransport(err error) class {
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return class{ReasonTimeout, retryOften}
	}
	return class{ReasonNetwork, retryOften}
}

func decodeError(format string, args ...any) *Error {
	return &Error{Reason: ReasonDecode, Err: fmt.Errorf(format, args...)}
}
