package crsapi

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/trace"
	"golang.org/x/time/rate"
)

// Config configures a Client. Start with DefaultConfig: NewClient does not replace
// zero values by defaults.
type Config struct {
	API API

	// Region is a name such as ap-guangzhou or gz. It must not be empty. API 2.0 gets
	// it unchanged, the other APIs get LongRegion of it.
	Region string
	// Credentials returns the key for each attempt. It must not be nil. If it is a
	// credentials.RefusalObserver, it is notified of refused keys.
	Credentials credentials.Provider

	// Endpoint is an http or https URL with only a host, an optional port and a path.
	// With API 3.0 and the private cloud, the path is /, and {region} in the host is
	// replaced by LongRegion of the Region.
	Endpoint string
	// Method is GET or POST with API 2.0, otherwise POST.
	Method string
	// PageSize is the number of tasks per page, from 1 to API.MaxPageSize. The
	// server may return smaller pages.
	PageSize int
	// Concurrency is the maximum number of requests in flight, from 1 to 256.
	Concurrency int
	// Limiter limits the requests per second; nil means no limit. The quota is per
	// host: the Clients of one host should share a Limiter.
	Limiter *rate.Limiter
	// RequestTimeout is the timeout of one HTTP request, from 1ms to 1h.
	RequestTimeout time.Duration
	// UTCOffset is the time zone of the API, as its offset east of UTC. It is from
	// -12h to 14h, in whole minutes.
	UTCOffset time.Duration

	// UserAgent is the User-Agent header. If it is empty, net/http sends its own.
	UserAgent string

	// Observe, if not nil, is called after every HTTP request, from several
	// goroutines at the same time.
	Observe func(Attempt)

	// Transport sends the requests; nil means a transport of the Client. It must not
	// retry, because the API refuses a nonce that it has seen. An *http.Transport is
	// copied. After a fault, the Client calls CloseIdleConnections of the transport,
	// if it has that method.
	Transport http.RoundTripper
}

// DefaultConfig returns the defaults of an API: its public endpoint, 100 tasks per
// page, 8 requests in flight, a new Limiter, a timeout of 5 seconds per request, and
// times in UTC+8. API 2.0 has GET and 20 requests per second, the others have POST and
// 50. Region, Credentials and the Endpoint of the private cloud are not set.
func DefaultConfig(api API) Config {
	d := cmp.Or(dialects[api], new(dialect)) // NewClient refuses an unknown API
	return Config{
		API: api, Endpoint: d.endpoint, Method: d.method, Limiter: NewLimiter(d.rate),
		PageSize: 100, Concurrency: 8, RequestTimeout: 5 * time.Second, UTCOffset: 8 * time.Hour,
	}
}

// NewLimiter returns a limit of requests per second, or nil for 0. Requests are evenly
// spaced, because it is unknown when a second of the quota begins.
func NewLimiter(perSecond float64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), 1)
}

// ConfigError is the error of NewClient for an invalid field of a Config.
type ConfigError struct {
	Field   string // name of the field, such as "PageSize"
	Problem string // such as "must be from 1 to 1000, not 0"
}

// Error implements error.
func (e *ConfigError) Error() string { return e.Field + " " + e.Problem }

// Client sends requests for one region. It is safe for concurrent use.
type Client struct {
	cfg       Config
	dialect   *dialect
	endpoint  *url.URL
	zone      *time.Location // of times in requests
	transport http.RoundTripper
	limiter   *rate.Limiter
	slots     chan struct{} // holds one element per request in flight
	buffers   sync.Pool     // of *bytes.Buffer, for response bodies
}

// NewClient returns a Client. If a field of cfg is invalid, the error is a
// *ConfigError. The error does not contain the Endpoint, which may contain a password
// by mistake. NewClient sends no request.
func NewClient(cfg Config) (*Client, error) {
	endpoint := cfg.endpoint()
	if err := cfg.validate(endpoint); err != nil {
		return nil, err
	}
	return &Client{
		cfg:       cfg,
		dialect:   dialects[cfg.API],
		endpoint:  endpoint,
		zone:      time.FixedZone("", int(cfg.UTCOffset/time.Second)),
		transport: newTransport(&cfg),
		limiter:   cmp.Or(cfg.Limiter, rate.NewLimiter(rate.Inf, 1)),
		slots:     make(chan struct{}, cfg.Concurrency),
		buffers:   sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}, nil
}

// newTransport returns a transport for HTTP/1.1 only: a request that times out closes
// its connection, which no other request uses. The timeout of the dialer is divided
// among the addresses of a name. A transport of the caller is copied, so that
// CloseIdleConnections does not close connections of others.
func newTransport(cfg *Config) http.RoundTripper {
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: cfg.RequestTimeout}).DialContext,
		MaxIdleConnsPerHost:    cfg.Concurrency,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    cfg.RequestTimeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if cfg.Transport != nil {
		own, ok := cfg.Transport.(*http.Transport)
		if !ok {
			return cfg.Transport
		}
		transport = own.Clone()
	}
	transport.OnProxyConnectResponse = trace.CheckConnect
	return transport
}

// CloseIdleConnections closes connections that no request uses at the moment. The
// Client calls it after a fault: one address may have many servers, and a connection
// stays with its server, even if that is broken.
func (c *Client) CloseIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// hostCharacters are valid in a region, which may be part of a host name.
const hostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// validate checks all fields. The endpoint is nil if it is invalid.
func (cfg *Config) validate(endpoint *url.URL) error {
	invalid := func(field, format string, args ...any) error {
		return &ConfigError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	v2 := cfg.API == API20
	switch {
	case !slices.Contains([]API{API20, API30, APITCE}, cfg.API):
		return invalid("API", "must be %s, %s or %s, not %q", API20, API30, APITCE, cfg.API)
	case cfg.Region == "":
		return invalid("Region", "must not be empty")
	case !v2 && strings.Trim(cfg.Region, hostCharacters) != "":
		return invalid("Region", "must have only letters, digits and hyphens, not %q", cfg.Region)
	case cfg.Credentials == nil:
		return invalid("Credentials", "must not be nil")
	case endpoint == nil:
		return invalid("Endpoint", "must be an http or https URL with only a host and a path")
	case !v2 && endpoint.Path != "/":
		return invalid("Endpoint", "must have the path / with API %s", cfg.API)
	case v2 && cfg.Method != http.MethodGet && cfg.Method != http.MethodPost:
		return invalid("Method", "must be GET or POST, not %q", cfg.Method)
	case !v2 && cfg.Method != http.MethodPost:
		return invalid("Method", "must be POST with API %s, not %q", cfg.API, cfg.Method)
	case cfg.PageSize < 1 || cfg.PageSize > cfg.API.MaxPageSize():
		return invalid("PageSize", "must be from 1 to %d, not %d", cfg.API.MaxPageSize(), cfg.PageSize)
	case cfg.Concurrency < 1 || cfg.Concurrency > 256:
		return invalid("Concurrency", "must be from 1 to 256, not %d", cfg.Concurrency)
	case cfg.Limiter != nil && !(cfg.Limiter.Limit() > 0):
		return invalid("Limiter", "must allow more than 0 requests per second")
	case cfg.Limiter != nil && cfg.Limiter.Burst() < 1:
		return invalid("Limiter", "must have a burst of 1 or more, not %d", cfg.Limiter.Burst())
	case cfg.RequestTimeout < time.Millisecond || cfg.RequestTimeout > time.Hour:
		return invalid("RequestTimeout", "must be from 1ms to 1h, not %s", cfg.RequestTimeout)
	case cfg.UTCOffset < -12*time.Hour || cfg.UTCOffset > 14*time.Hour || cfg.UTCOffset%time.Minute != 0:
		return invalid("UTCOffset", "must be from -12h to 14h in whole minutes, not %s", cfg.UTCOffset)
	}
	return nil
}

// endpoint returns the URL of the region, or nil if Endpoint is invalid. The host is in
// lower case, as the signature of API 3.0 requires.
func (cfg *Config) endpoint() *url.URL {
	s := cfg.Endpoint
	if cfg.API != API20 {
		s = strings.ReplaceAll(s, "{region}", LongRegion(cfg.Region))
	}
	u, err := url.Parse(s)
	if err != nil || strings.ContainsFunc(s, unicode.IsSpace) || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil
	}
	u.Host = strings.ToLower(u.Host)
	if u.Path == "" {
		u.Path = "/"
	}
	return u
}

// API returns Config.API.
func (c *Client) API() API { return c.cfg.API }

// PageSize returns Config.PageSize.
func (c *Client) PageSize() int { return c.cfg.PageSize }

// Concurrency returns Config.Concurrency.
func (c *Client) Concurrency() int { return c.cfg.Concurrency }

// Limiter returns Config.Limiter.
func (c *Client) Limiter() *rate.Limiter { return c.cfg.Limiter }

// Page is one response of the API.
type Page struct {
	TotalCount int       // number of tasks that match the query, on all pages
	Tasks      []Task    // in the order of the response; see Task about invalid rows
	Date       time.Time // of the response, by the API's clock; zero if unknown
}

// Page requests one page. It retries transient failures up to 3 times, as long as ctx
// allows. The error is an *Error, or wraps context.Canceled if ctx was cancelled, or
// names the invalid field of q. See IsUnknownInstance.
func (c *Client) Page(ctx context.Context, q Query) (*Page, error) {
	if q.Limit == 0 {
		q.Limit = c.cfg.PageSize
	}
	if err := q.validate(c.cfg.API); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	r, err := c.fetch(ctx, call{c.dialect.action, c.dialect.params(q, c.zone), q.RedisID != ""})
	if err != nil {
		return nil, err
	}
	return &r.page, nil
}

// ActionTaskInfo is the action of Client.TaskMessage.
//
// Source: "DescribeTaskInfo" of redis 2018-04-12.
const ActionTaskInfo = "DescribeTaskInfo"

// call is an action with its parameters.
type call struct {
	action   string
	params   map[string]any
	instance bool // the request is for one instance
}

// TaskMessage returns the vendor's reason for the failure of a task, in one line of at
// most 256 characters. It is empty if the task did not fail. Only API 3.0 has it.
// Retries and errors are as for Page.
func (c *Client) TaskMessage(ctx context.Context, taskID int64) (string, error) {
	if c.cfg.API != API30 {
		return "", fmt.Errorf("task message: API %s has no %s", c.cfg.API, ActionTaskInfo)
	}
	r, err := c.fetch(ctx, call{ActionTaskInfo, map[string]any{"TaskId": taskID}, false})
	if err != nil {
		return "", fmt.Errorf("message of task %d: %w", taskID, err)
	}
	return r.text, nil
}
