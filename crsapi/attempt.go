package crsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
)

const (
	// maxBody is the size limit of an uncompressed response, in bytes. A task
	// takes about 200 bytes.
	maxBody = 8 << 20
	// maxTries is the maximum number of attempts per page.
	maxTries = 4

	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// Attempt describes one HTTP request that was sent. A page that is retried has
// several attempts.
type Attempt struct {
	Action string // such as DescribeTaskList or ActionTaskInfo

	// Duration is the time from sending the request to the end of the response.
	Duration time.Duration

	// Reason is empty if the attempt succeeded, and if the caller cancelled it. It is
	// empty too if the API does not know the instance: that is an answer.
	Reason Reason

	// ClockSkew is the clock of the API minus the local clock, by the Date
	// header. It is 0 if the clocks agree within the resolution of the header,
	// which is one second. HasClockSkew is false if there was no Date header.
	ClockSkew    time.Duration
	HasClockSkew bool
}

// fetch sends a request, with retries.
func (c *Client) fetch(ctx context.Context, call call) (response, error) {
	var (
		last     *Error
		resigned bool // the one retry of retryOnce is used up
	)
	attempt := func() (response, error) {
		r, err := c.attempt(ctx, call)
		if err == nil {
			return r, nil
		}
		var failed *Error
		if !errors.As(err, &failed) || !failed.Requested {
			return r, backoff.Permanent(err)
		}
		again := failed.class.retry == retryOften || failed.class.retry == retryOnce && !resigned
		resigned = resigned || failed.class.retry == retryOnce
		last = failed
		if !again {
			return r, backoff.Permanent(err)
		}
		return r, err
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstBackoff, maxBackoff
	wait.Multiplier, wait.RandomizationFactor = 2, 0.5
	options := []backoff.RetryOption{
		backoff.WithBackOff(wait),
		backoff.WithMaxTries(maxTries),
		backoff.WithMaxElapsedTime(untilDeadline(ctx)),
	}
	r, err := backoff.Retry(ctx, attempt, options...)
	// If time runs out between two attempts, the error of the last attempt says
	// more than a timeout would.
	if err != nil && last != nil && !isCanceled(ctx) {
		return r, last
	}
	if err != nil && isCanceled(ctx) {
		return r, fmt.Errorf("%s %s: %w", call.action, c.endpoint.Host, context.Canceled)
	}
	return r, err
}

// untilDeadline returns the time left to the deadline of ctx, or 0 if it has
// none. Package backoff treats 0 as no limit.
func untilDeadline(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), 1)
}

// ranOut and isCanceled distinguish the deadline of the caller, which is a
// failure, from cancellation by the caller, which is not. They compare the
// cause itself, not with errors.Is: the cause may be the error of another page,
// which may wrap a timeout of its own.
func ranOut(ctx context.Context) bool {
	return ctx.Err() != nil && context.Cause(ctx) == context.DeadlineExceeded
}

func isCanceled(ctx context.Context) bool {
	return ctx.Err() != nil && !ranOut(ctx)
}

// attempt sends one request with a new signature.
func (c *Client) attempt(ctx context.Context, call call) (response, error) {
	release, err := c.admit(ctx)
	if err != nil {
		return response{}, &Error{Reason: ReasonTimeout, Err: err, action: call.action, host: c.endpoint.Host}
	}
	defer release()

	key, err := c.cfg.Credentials.Key(ctx)
	if err == nil {
		err = key.Validate()
	}
	if err != nil {
		return response{}, &Error{
			Reason: ReasonAuth, Err: fmt.Errorf("credentials: %w", err), action: call.action, host: c.endpoint.Host,
		}
	}
	attemptCtx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	req, signature := call.sign(attemptCtx, key)

	seen := Attempt{Action: call.action}
	begin := time.Now()
	r, failed := c.exchange(req, call.format, &seen, begin)
	seen.Duration = time.Since(begin)
	if failed != nil {
		if failed.blamesConnection() {
			c.conns.renew()
		}
		failed.action, failed.host, failed.Requested = call.action, c.endpoint.Host, true
		failed.redact(credentials.NewRedactor(key, signature))
		failed.unknownInstance = call.instance && failed.isNotFound()
		if !isCanceled(ctx) && !failed.unknownInstance {
			seen.Reason = failed.Reason
		}
		// An error that a new signature may fix blames the clock or the nonce,
		// not the key.
		if failed.Reason == ReasonAuth && failed.class.retry == retryNever {
			if observer, ok := c.cfg.Credentials.(credentials.RefusalObserver); ok {
				observer.Refused(key)
			}
		}
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(seen)
	}
	if failed != nil {
		return response{}, failed
	}
	r.text = credentials.OneLine(credentials.NewRedactor(key, signature).Text(r.text))
	return r, nil
}

// admit waits for a slot and for the rate limit. The caller must call release.
func (c *Client) admit(ctx context.Context) (release func(), err error) {
	select {
	case c.slots <- struct{}{}:
		release = func() { <-c.slots }
	case <-ctx.Done():
		return nil, fmt.Errorf("timeout while waiting for one of %d requests in flight to end: %w", cap(c.slots), context.Cause(ctx))
	}
	// Wait for the rate limit last. Requests that pass it and then wait for a
	// slot could be sent together with later ones, and exceed the limit.
	if c.cfg.Limiter == nil {
		if ctx.Err() != nil {
			release()
			return nil, fmt.Errorf("timeout before the request: %w", context.Cause(ctx))
		}
		return release, nil
	}
	if err := c.cfg.Limiter.Wait(ctx); err != nil {
		release()
		limit := float64(c.cfg.Limiter.Limit())
		if ctx.Err() != nil {
			return nil, fmt.Errorf("timeout while waiting for the rate limit of %g requests per second: %w", limit, context.Cause(ctx))
		}
		return nil, fmt.Errorf("rate limit of %g requests per second: the next request would be after the deadline: %w", limit, context.DeadlineExceeded)
	}
	return release, nil
}

// exchange sends req, reads the response, and sets the clock skew in seen. It
// calls the transport directly instead of an http.Client, which would follow
// redirects and whose errors contain the URL.
func (c *Client) exchange(req *http.Request, format *format, seen *Attempt, sent time.Time) (response, *Error) {
	req, steps := trace.Watch(req)
	resp, err := c.conns.RoundTrip(req)
	if err != nil {
		return response{}, transportError(req.Context(), steps, "send the request", err)
	}
	defer func() { _ = resp.Body.Close() }()
	seen.ClockSkew, seen.HasClockSkew = clockSkew(resp.Header.Get("Date"), sent, time.Now())
	if resp.StatusCode != http.StatusOK {
		return response{}, statusError(resp.StatusCode)
	}
	body := c.buffers.Get().(*bytes.Buffer)
	defer c.buffers.Put(body)
	body.Reset()
	failed := func(e *Error) (response, *Error) {
		e.HTTPStatus = resp.StatusCode
		return response{}, e
	}
	switch n, err := body.ReadFrom(io.LimitReader(resp.Body, maxBody+1)); {
	case err != nil:
		return failed(transportError(req.Context(), steps, "read the response", err))
	case n > maxBody:
		return failed(decodeError("the response is larger than %d MiB", maxBody>>20))
	}
	r, err := decodeResponse(body.Bytes(), format, &c.names, c.zone)
	if err != nil {
		e := decodeError("decode the response: %w", err)
		if errors.As(err, new(notJSON)) {
			e.class.retry = retryOnce // a proxy may do that for a moment
		}
		return failed(e)
	}
	if r.failed() {
		return failed(r.error())
	}
	r.date, _ = http.ParseTime(resp.Header.Get("Date")) // zero without one
	return r, nil
}

func transportError(ctx context.Context, steps *trace.Trace, doing string, err error) *Error {
	// Transports report the end of a context with different errors.
	if ctx.Err() == context.DeadlineExceeded || ranOut(ctx) {
		err = context.DeadlineExceeded
	}
	// The text of a *url.Error contains the signed URL.
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	var refused *trace.ProxyError
	class := classOfTransport(err)
	switch {
	case class.reason == ReasonTimeout:
		return newError(class, steps.Timeout(err))
	case errors.As(err, &refused) && refused.Status == http.StatusProxyAuthRequired:
		return statusError(refused.Status)
	}
	return newError(class, fmt.Errorf("%s: %w", doing, err))
}

// clockSkew returns how far the clock that wrote a Date header is ahead of ours.
// The header was written between sent and received, at some time within the
// second that it names. If the two intervals overlap, the clocks may agree, and
// the skew is 0.
func clockSkew(date string, sent, received time.Time) (skew time.Duration, ok bool) {
	begin, err := http.ParseTime(date)
	if err != nil {
		return 0, false
	}
	end := begin.Add(time.Second)
	switch {
	case begin.After(received):
		return begin.Sub(received), true
	case end.Before(sent):
		return end.Sub(sent), true
	}
	return 0, true
}
