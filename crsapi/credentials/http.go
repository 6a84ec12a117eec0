package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// exchangeBounded follows no redirect and tells no URL in its errors.
func exchangeBounded(transport http.RoundTripper, req *http.Request) (status int, body []byte, err error) {
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, transportError("send the request", req, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxRoleBody+1))
	switch {
	case err != nil:
		return 0, nil, transportError("read the answer", req, err)
	case len(body) > maxRoleBody:
		return 0, nil, fmt.Errorf("the answer is larger than %d KiB", maxRoleBody>>10)
	}
	return resp.StatusCode, body, nil
}

// newRoleTransport keeps no connection: there is hardly a request an hour.
func newRoleTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: loadTimeout}).DialContext,
		TLSHandshakeTimeout:    loadTimeout,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func transportError(doing string, req *http.Request, err error) error {
	// The transport reports an end of the context in several ways.
	if req.Context().Err() == context.DeadlineExceeded {
		err = context.DeadlineExceeded
	}
	var located *url.Error
	if errors.As(err, &located) {
		err = located.Err
	}
	return fmt.Errorf("%s: %w", doing, err)
}
