package crsapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/redact"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

const (
	// maxBody is the maximum size of an uncompressed response, in bytes. A task
	// has about 200 bytes.
	maxBody  = 8 << 20
	maxTries = 4 // attempts per page

	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// Attempt describes one HTTP request that was sent. Each retry is an Attempt, too.
type Attempt struct {
	Action string // such as DescribeTaskList or ActionTaskInfo

	// Duration is the time from sending the request to the end of the response.
	Duration time.Duration

	// Reason is empty if the attempt succeeded, if the caller cancelled it, and for
	// an unknown instance, which is a valid response.
	Reason Reason

	// ClockSkew is the clock of the API minus the local clock, by the Date header. It
	// is 0 if the clocks agree within the resolution of the header, one second.
	// HasClockSkew is false without a valid Date header.
	ClockSkew    time.Duration
	HasClockSkew bool
}

// fetch sends a request, and retries it as long as ctx allows. If the time is up
// between two attempts, the error is that of the last attempt, which is more specific
// than a timeout.
func (c *Client) fetch(ctx context.Context, call call) (response, error) {
	wait := backoff.ExponentialBackOff{InitialInterval: firstBackoff, MaxInterval: maxBackoff, Multiplier: 2, RandomizationFactor: 0.5}
	wait.Reset()
	once := false // the retry of retryOnce is used up
	var last *Error
	for try := 1; ; try++ {
		r, failed := c.attempt(ctx, call)
		switch {
		case failed == nil:
			return r, nil
		case isCanceled(ctx):
			return r, fmt.Errorf("%s %s: %w", call.action, c.endpoint.Host, context.Canceled)
		case !failed.Requested && last != nil: // no time for another attempt
			return r, last
		case !failed.Requested, try == maxTries, failed.retry == retryNever, failed.retry == retryOnce && once:
			return r, failed
		}
		last, once = failed, once || failed.retry == retryOnce
		pause := wait.NextBackOff()
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
			return r, last
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// timedOut and isCanceled distinguish the caller's deadline, which is a failure, from
// the caller's cancellation, which is not. They do not use errors.Is: the cause may be
// the error of another page, which may wrap a timeout of its own.
func timedOut(ctx context.Context) bool {
	return ctx.Err() != nil && context.Cause(ctx) == context.DeadlineExceeded
}

func isCanceled(ctx context.Context) bool {
	return ctx.Err() != nil && !timedOut(ctx)
}

// attempt sends one request with a new signature.
func (c *Client) attempt(ctx context.Context, call call) (response, *Error) {
	unsent := func(reason Reason, err error) *Error {
		return &Error{Reason: reason, Err: err, action: call.action, host: c.endpoint.Host}
	}
	release, err := c.admit(ctx, call.action)
	if err != nil {
		return response{}, unsent(ReasonTimeout, err)
	}
	defer release()
	key, err := c.cfg.Credentials.Key(ctx)
	if err == nil {
		err = key.Validate()
	}
	if err != nil {
		return response{}, unsent(ReasonAuth, fmt.Errorf("credentials: %w", err))
	}

	attemptCtx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	req, signature := c.request(attemptCtx, call.action, call.params, key)
	seen := Attempt{Action: call.action}
	begin := time.Now()
	r, failed := c.exchange(req, call.action, &seen, begin)
	seen.Duration = time.Since(begin)
	redactor := redact.New(key.SecretID, string(key.SecretKey), string(key.Token), signature)
	if failed == nil {
		r.text = redactor.Line(r.text)
	} else {
		failed.action, failed.host, failed.Requested, failed.RequestID = call.action, c.endpoint.Host, true, r.requestID
		failed.instance = call.instance
		failed.redact(redactor)
		if !isCanceled(ctx) && !IsUnknownInstance(failed) {
			seen.Reason = failed.Reason
		}
		if failed.blamesConnection() {
			c.CloseIdleConnections()
		}
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(seen)
	}
	// If a new signature may help, the cause is the clock or the nonce, not the key.
	if failed != nil && failed.Reason == ReasonAuth && failed.retry == retryNever && c.renewed(ctx, key) {
		failed.retry = retryOnce
	}
	return r, failed
}

// renewed reports a refused key to the Provider, and whether there is another key. The
// refused one is not sent again.
func (c *Client) renewed(ctx context.Context, refused credentials.Key) bool {
	if observer, ok := c.cfg.Credentials.(credentials.RefusalObserver); ok {
		observer.Refused(refused)
	}
	key, err := c.cfg.Credentials.Key(ctx)
	return err == nil && key != refused
}

// admit waits for a slot and for the rate limit. The caller must call release. A page of
// instances takes no slot from the tasks.
func (c *Client) admit(ctx context.Context, action string) (release func(), err error) {
	slots := c.slots
	if action == ActionInstances {
		slots = make(chan struct{}, 1)
	}
	select {
	case slots <- struct{}{}:
		release = func() { <-slots }
	case <-ctx.Done():
		return nil, fmt.Errorf("timeout while waiting for one of %d requests in flight to end: %w", cap(c.slots), context.Cause(ctx))
	}
	// The rate limit is last. Otherwise requests that pass it and then wait for a slot
	// could be sent together with later ones, and exceed the limit.
	if err = c.limiter.Wait(ctx); err != nil {
		release()
		step := "before the request"
		if c.cfg.Limiter != nil {
			step = fmt.Sprintf("while waiting for the rate limit of %g requests per second", float64(c.limiter.Limit()))
		}
		// If the wait is longer than the deadline, the error of the limiter has no type.
		return nil, fmt.Errorf("timeout %s: %w", step, cmp.Or(context.Cause(ctx), context.DeadlineExceeded))
	}
	return release, nil
}

// exchange sends req, reads the response, and sets the clock skew in seen. It calls
// the transport directly: an http.Client follows redirects, and has the URL in its
// errors.
func (c *Client) exchange(req *http.Request, action string, seen *Attempt, sent time.Time) (r response, failed *Error) {
	req, steps := trace.Watch(req)
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return r, transportError(req.Context(), steps, "send the request", err)
	}
	defer func() { _ = resp.Body.Close() }()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if seen.HasClockSkew = err == nil; seen.HasClockSkew {
		seen.ClockSkew = clockSkew(date, sent, time.Now())
	}
	if resp.StatusCode != http.StatusOK {
		return r, returned(Error{HTTPStatus: resp.StatusCode})
	}
	body := c.buffers.Get().(*bytes.Buffer)
	defer c.buffers.Put(body)
	body.Reset()
	n, err := body.ReadFrom(io.LimitReader(resp.Body, maxBody+1))
	// The transport removes the header of an encoding that it requested.
	switch encoding := resp.Header.Get("Content-Encoding"); {
	case err != nil:
		failed = transportError(req.Context(), steps, "read the response", err)
	case n > maxBody:
		failed = decodeError("the response is larger than %d MiB", maxBody>>20)
	case encoding != "" && encoding != "identity":
		failed = decodeError("the response has the content encoding %q, which was not requested", encoding)
	default:
		r, failed = decodeResponse(body.Bytes(), action, c.dialect, c.cfg.UTCOffset)
	}
	if failed != nil {
		failed.HTTPStatus = resp.StatusCode
	}
	r.page.Date = date
	return r, failed
}

// transportError returns the error of sending a request or reading its response.
func transportError(ctx context.Context, steps *trace.Trace, doing string, err error) *Error {
	// Transports have different errors for the end of a context.
	if ctx.Err() == context.DeadlineExceeded || timedOut(ctx) {
		err = context.DeadlineExceeded
	}
	// The text of a *url.Error contains the signed URL.
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	var refused *trace.ProxyError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Reason: ReasonTimeout, Err: steps.Timeout(err), retry: retryOften}
	case errors.As(err, &refused) && refused.Status == http.StatusProxyAuthRequired:
		return returned(Error{HTTPStatus: refused.Status})
	}
	return &Error{Reason: ReasonNetwork, Err: fmt.Errorf("%s: %w", doing, err), retry: retryOften}
}

// clockSkew returns the API's clock minus the local clock. The API wrote the date
// between sent and received, at any time of that second. If the two intervals overlap,
// the clocks may agree, and the skew is 0.
func clockSkew(date, sent, received time.Time) time.Duration {
	end := date.Add(time.Second)
	switch {
	case date.After(received):
		return date.Sub(received)
	case end.Before(sent):
		return end.Sub(sent)
	}
	return 0
}
