package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

// This package reads roles itself instead of using the providers of Tencent's
// SDK (tencentcloud/common v1.3.210), for these reasons: the Provider interface
// of the SDK takes no context; CvmRoleProvider uses http.Get, which has no
// timeout and may use a proxy; it reads bodies of any size; its errors quote a
// body that is not JSON, keys included; and it uses an expired key after a
// failed renewal, which it only logs.

const (
	// maxRoleBody is the size limit of responses of the metadata service and of
	// STS, and of the token file of a pod.
	maxRoleBody   = 64 << 10
	maxRoleHeader = 64 << 10
)

// exchange sends a request. It follows no redirect, and its errors contain no
// URL. The body has no byte order mark.
func exchange(transport http.RoundTripper, req *http.Request) (status int, body []byte, err error) {
	req, steps := trace.Watch(req)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, exchangeError(req.Context(), steps, "send the request", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return 0, nil, &trace.ProxyError{Status: resp.StatusCode}
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxRoleBody+1))
	switch {
	case err != nil:
		return 0, nil, exchangeError(req.Context(), steps, "read the response", err)
	case len(body) > maxRoleBody:
		return 0, nil, fmt.Errorf("the response is larger than %d KiB", maxRoleBody>>10)
	}
	return resp.StatusCode, bytes.TrimPrefix(body, []byte("\ufeff")), nil
}

func exchangeError(ctx context.Context, steps *trace.Trace, doing string, err error) error {
	// Transports report the end of a context with different errors.
	if ctx.Err() == context.DeadlineExceeded || ctx.Err() != nil && context.Cause(ctx) == context.DeadlineExceeded {
		return steps.Timeout(context.DeadlineExceeded)
	}
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return steps.Timeout(err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// newRoleTransport keeps no connections open: there are few requests an hour.
func newRoleTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		OnProxyConnectResponse: trace.CheckConnect,
		DialContext:            (&net.Dialer{Timeout: loadTimeout}).DialContext,
		TLSHandshakeTimeout:    loadTimeout,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxRoleHeader,
	}
}
