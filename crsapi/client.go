package crsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"golang.org/x/time/rate"
)

const action = "GetRedisTaskList"

// What a Config leaves zero becomes these.
const (
	DefaultEndpoint       = "https://redis.api.qcloud.com/v2/index.php"
	DefaultPageSize       = 100
	DefaultConcurrency    = 8
	DefaultRequestTimeout = 5 * time.Second
)

const (
	// maxBody bounds a page, unpacked. A row takes some 200 bytes.
	maxBody = 8 << 20
	// maxTries bounds the attempts at one page.
	maxTries = 4
	// maxHeader bounds a response's header.
	maxHeader = 64 << 10

	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// Config says whom a Client asks, as whom, and how hard.
type Config struct {
	Region      string // any that the vendor knows, passed through
	Credentials credentials.Provider

	Endpoint       string        // http or https; DefaultEndpoint if empty
	Method         string        // GET, also if empty, or POST
	PageSize       int           // rows to a page; DefaultPageSize if 0
	Concurrency    int           // requests in flight; DefaultConcurrency if 0
	RateLimit      float64       // requests a second; 0 for no limit
	RequestTimeout time.Duration // of one attempt; DefaultRequestTimeout if 0
	UTCOffset      time.Duration // zone of the API's times, east of Greenwich
	UserAgent      string        // left to net/http if empty

	// Observe, if not nil, is told of every HTTP request when it has ended.
	// It is called from several goroutines at once.
	Observe func(Attempt)

	// Transport sends the requests, one of the client's own if nil. It must
	// not retry: a repeated Nonce is refused.
	Transport http.RoundTripper
}

// Attempt is one HTTP request that was sent, a retry or not.
type Attempt struct {
	// Duration reaches from the request to the last byte of the answer.
	Duration time.Duration

	// Reason is empty where the answer was as documented, and where the
	// caller gave the request up before its time.
	Reason Reason

	// ClockSkew is the API's clock less ours by the Date header: 0 where the
	// two agree within the header's resolution, which is a second.
	// HasClockSkew is false where there was no such header.
	ClockSkew    time.Duration
	HasClockSkew bool
}

// Client asks one region. It is safe for concurrent use; Concurrency and
// RateLimit bound all its calls together.
type Client struct {
	cfg       Config
	endpoint  *url.URL
	zone      *time.Location
	transport http.RoundTripper
	slots     chan struct{} // one for each request in flight
	limiter   *rate.Limiter
	buffers   sync.Pool // of *bytes.Buffer, for bodies
}

// NewClient returns a client, or an error that says what in cfg is wrong.
func NewClient(cfg Config) (*Client, error) {
	if cfg.Endpoint == "" {
		cfg.Endpoint = DefaultEndpoint
	}
	if cfg.Method == "" {
		cfg.Method = http.MethodGet
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = DefaultPageSize
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = DefaultConcurrency
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = DefaultRequestTimeout
	}
	endpoint, err := ParseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Region == "":
		return nil, errors.New("the region is empty")
	case cfg.Credentials == nil:
		return nil, errors.New("there is no provider of credentials")
	case cfg.Method != http.MethodGet && cfg.Method != http.MethodPost:
		return nil, fmt.Errorf("the method is %q, not GET or POST", cfg.Method)
	case cfg.PageSize < 0:
		return nil, errors.New("the page size is negative")
	case cfg.Concurrency < 0:
		return nil, errors.New("the concurrency is negative")
	case cfg.RateLimit < 0 || math.IsNaN(cfg.RateLimit):
		return nil, errors.New("the rate limit is no rate")
	case cfg.RequestTimeout < 0:
		return nil, errors.New("the request timeout is negative")
	}
	c := &Client{
		cfg:       cfg,
		endpoint:  endpoint,
		zone:      time.FixedZone("", int(cfg.UTCOffset/time.Second)),
		transport: cfg.Transport,
		slots:     make(chan struct{}, cfg.Concurrency),
		limiter:   rate.NewLimiter(rate.Inf, 1),
	}
	c.buffers.New = func() any { return new(bytes.Buffer) }
	if cfg.RateLimit > 0 {
		// A burst of one spreads the requests, so that no second anywhere
		// holds more of them than the quota: where the vendor's begin is
		// unknown.
		c.limiter = rate.NewLimiter(rate.Limit(cfg.RateLimit), 1)
	}
	if c.transport == nil {
		c.transport = newTransport(cfg.Concurrency)
	}
	return c, nil
}

// ParseEndpoint returns the URL that a Config's Endpoint names, or what is wrong
// with it, without its text: that may hold a password.
func ParseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("the endpoint is no http or https URL")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("the endpoint has more than scheme, host and path")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// newTransport speaks HTTP/1.1: an attempt that times out takes its connection
// with it, where one of HTTP/2 that is dead would be kept for the next.
func newTransport(concurrency int) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		MaxIdleConnsPerHost:    concurrency,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// CloseIdleConnections closes the connections that wait for a next request.
func (c *Client) CloseIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Page is one answer of the API.
type Page struct {
	TotalCount int    // tasks that match the query, on all pages
	Tasks      []Task // in the API's order
	Rejected   int    // rows of the page that could not be read
}

// Page asks for one page. It tries again what may pass, as long as ctx lets
// it. The error is an *Error, or wraps context.Canceled where ctx was
// cancelled, or says what is wrong with q.
func (c *Client) Page(ctx context.Context, q Query) (*Page, error) {
	if err := q.validate(); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	names := newSymbols()
	a, err := c.fetch(ctx, q, names)
	if err != nil {
		return nil, err
	}
	p := &Page{TotalCount: a.total}
	for _, r := range a.rows {
		if r.readable() {
			p.Tasks = append(p.Tasks, names.task(r))
		} else {
			p.Rejected++
		}
	}
	return p, nil
}

// fetch asks for one page until it has it, or may not ask again.
func (c *Client) fetch(ctx context.Context, q Query, names *symbols) (answer, error) {
	var (
		last    *Error
		renewed bool
	)
	attempt := func() (answer, error) {
		a, err := c.attempt(ctx, q, names)
		if err == nil {
			return a, nil
		}
		var failed *Error
		if !errors.As(err, &failed) || !failed.Requested {
			return a, backoff.Permanent(err)
		}
		again := failed.retry == retryOften || failed.retry == retryOnce && !renewed
		renewed = renewed || failed.retry == retryOnce
		last = failed
		if !again {
			return a, backoff.Permanent(err)
		}
		return a, err
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstBackoff, maxBackoff
	wait.Multiplier, wait.RandomizationFactor = 2, 0.5
	options := []backoff.RetryOption{
		backoff.WithBackOff(wait),
		backoff.WithMaxTries(maxTries),
		backoff.WithMaxElapsedTime(untilDeadline(ctx)),
	}
	a, err := backoff.Retry(ctx, attempt, options...)
	// Between two attempts, what the last one met says more than that time
	// ran out.
	if err != nil && last != nil && !isCanceled(ctx) {
		return a, last
	}
	if err != nil && isCanceled(ctx) {
		return a, fmt.Errorf("%s %s: %w", action, c.endpoint.Host, context.Canceled)
	}
	return a, err
}

// untilDeadline returns how long ctx has, and 0, which is no bound to
// backoff, where it has no deadline.
func untilDeadline(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), 1)
}

// ranOut and isCanceled tell a caller's deadline, which is a failure, from a
// caller's leaving, which is none. They look for the very value: the cause
// may be the error of another page, which may have run out of its own time.
func ranOut(ctx context.Context) bool {
	return ctx.Err() != nil && context.Cause(ctx) == context.DeadlineExceeded
}

func isCanceled(ctx context.Context) bool {
	return ctx.Err() != nil && !ranOut(ctx)
}

// attempt sends one request, signed anew.
func (c *Client) attempt(ctx context.Context, q Query, names *symbols) (answer, error) {
	release, err := c.admit(ctx)
	if err != nil {
		return answer{}, &Error{Reason: ReasonTimeout, Err: err, host: c.endpoint.Host}
	}
	defer release()

	key, err := c.cfg.Credentials.Key(ctx)
	if err == nil {
		err = key.Validate()
	}
	if err != nil {
		return answer{}, &Error{
			Reason: ReasonAuth, Err: fmt.Errorf("credentials: %w", err), host: c.endpoint.Host,
		}
	}
	attemptCtx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	req, signature := c.request(attemptCtx, q, key)

	var seen Attempt
	begin := time.Now()
	a, failed := c.exchange(req, names, &seen, begin)
	seen.Duration = time.Since(begin)
	if failed != nil {
		redact := credentials.NewRedactor(key, signature)
		failed.host, failed.Requested = c.endpoint.Host, true
		if failed.Err != nil {
			failed.Err = redact.Err(failed.Err)
		}
		failed.CodeDesc = credentials.OneLine(redact.Text(failed.CodeDesc))
		failed.Message = credentials.OneLine(redact.Text(failed.Message))
		if !isCanceled(ctx) {
			seen.Reason = failed.Reason
		}
		// What may be tried again blames the clock or the Nonce, not the key.
		if failed.Reason == ReasonAuth && failed.retry == retryNever {
			if observer, ok := c.cfg.Credentials.(credentials.RefusalObserver); ok {
				observer.Refused(key)
			}
		}
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(seen)
	}
	if failed != nil {
		return answer{}, failed
	}
	return a, nil
}

// admit waits for a slot and for the rate limit, and returns what gives the
// slot back.
func (c *Client) admit(ctx context.Context) (release func(), err error) {
	select {
	case c.slots <- struct{}{}:
		release = func() { <-c.slots }
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// The rate comes last: whoever may pass and then waits for a slot would
	// pass together with those after it.
	if err := c.limiter.Wait(ctx); err != nil {
		release()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("at %g requests a second the next one comes after the deadline: %w",
			c.cfg.RateLimit, context.DeadlineExceeded)
	}
	return release, nil
}

// request returns the signed request and its signature.
//
// Source: the common parameters of Tencent Cloud API 2.0.
func (c *Client) request(ctx context.Context, q Query, key credentials.Key) (*http.Request, string) {
	params := q.params(c.zone)
	maps.Copy(params, map[string]string{
		"Action":          action,
		"Region":          c.cfg.Region,
		"Timestamp":       strconv.FormatInt(time.Now().Unix(), 10),
		"Nonce":           strconv.FormatInt(1+rand.Int64N(math.MaxInt64), 10),
		"SecretId":        key.SecretID,
		"SignatureMethod": signatureMethod,
	})
	if key.Token != "" {
		params["Token"] = string(key.Token)
	}
	signature := sign(key.SecretKey, c.cfg.Method, c.endpoint.Hostname(), c.endpoint.Path, params)
	form := make(url.Values, len(params)+1)
	for name, value := range params {
		form.Set(name, value)
	}
	form.Set("Signature", signature)

	target := *c.endpoint
	req := (&http.Request{
		Method: c.cfg.Method,
		URL:    &target,
		Host:   c.endpoint.Host,
		Header: http.Header{},
	}).WithContext(ctx)
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	if c.cfg.Method == http.MethodPost {
		body := form.Encode()
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Body = io.NopCloser(strings.NewReader(body))
		req.ContentLength = int64(len(body))
	} else {
		target.RawQuery = form.Encode()
		// Given a GET without a body, net/http sends it again by itself when
		// a kept connection turns out dead: with the same Nonce, unseen and
		// uncounted. It leaves a body that it cannot rewind alone.
		req.Body = io.NopCloser(strings.NewReader(""))
	}
	return req, signature
}

// exchange sends req and reads the answer, and notes in seen what its header
// tells. It goes by the transport itself, which follows no redirect, and
// whose errors do not hold the URL as those of an http.Client do.
func (c *Client) exchange(req *http.Request, names *symbols, seen *Attempt, sent time.Time) (answer, *Error) {
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return answer{}, transportError(req.Context(), "send the request", err)
	}
	defer func() { _ = resp.Body.Close() }()
	seen.ClockSkew, seen.HasClockSkew = clockSkew(resp.Header.Get("Date"), sent, time.Now())
	if resp.StatusCode != http.StatusOK {
		class := classOfStatus(resp.StatusCode)
		return answer{}, &Error{Reason: class.reason, HTTPStatus: resp.StatusCode, retry: class.retry}
	}
	body := c.buffers.Get().(*bytes.Buffer)
	defer c.buffers.Put(body)
	body.Reset()
	failed := func(e *Error) (answer, *Error) {
		e.HTTPStatus = resp.StatusCode
		return answer{}, e
	}
	switch n, err := body.ReadFrom(io.LimitReader(resp.Body, maxBody+1)); {
	case err != nil:
		return failed(transportError(req.Context(), "read the answer", err))
	case n > maxBody:
		return failed(decodeError("the answer is larger than %d MiB", maxBody>>20))
	}
	a, err := decodeAnswer(body.Bytes(), names, c.zone)
	if err != nil {
		return failed(decodeError("decode the answer: %w", err))
	}
	if a.code == "0" {
		return a, nil
	}
	return failed(a.error())
}

// error returns what a code other than 0 means.
func (a answer) error() *Error {
	e := &Error{CodeDesc: a.codeDesc, Message: a.message}
	class := classOfName(a.code)
	if code, err := strconv.Atoi(a.code); err == nil {
		e.Code, class = code, classOfCode(code)
	} else {
		e.CodeDesc = a.code
	}
	e.Reason, e.retry = class.reason, class.retry
	return e
}

func transportError(ctx context.Context, doing string, err error) *Error {
	// The transport reports an end of ctx in several ways.
	if ctx.Err() == context.DeadlineExceeded || ranOut(ctx) {
		err = context.DeadlineExceeded
	}
	// A *url.Error would tell the whole signed URL.
	var located *url.Error
	if errors.As(err, &located) {
		err = located.Err
	}
	class := classOfTransport(err)
	return &Error{Reason: class.reason, retry: class.retry, Err: fmt.Errorf("%s: %w", doing, err)}
}

// clockSkew returns by how much the sender of a Date header is ahead of us.
// The header names a second and was written between sent and received; where
// those two spans touch, the clocks may agree, and 0 is returned.
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
