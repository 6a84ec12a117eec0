package crsapi

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"golang.org/x/time/rate"
)

const action = "GetRedisTaskList"

const (
	// maxHeader is the size limit of a response header, in bytes.
	maxHeader = 64 << 10
	// maxTaskPages limits the requests of one iteration over Tasks.
	maxTaskPages = 10_000
)

// Config configures a Client. Start from DefaultConfig: NewClient accepts no
// zero value in place of a default.
type Config struct {
	// Region is sent as it is, such as ap-guangzhou or gz. Must not be empty.
	Region string
	// Credentials returns the key for each attempt. If it is a
	// credentials.RefusalObserver, it learns which keys the API refused. Must
	// not be nil.
	Credentials credentials.Provider

	// Endpoint is an http or https URL with only a host, maybe a port, and a
	// path.
	Endpoint string
	// Method is GET or POST.
	Method string
	// PageSize is the number of tasks per page, from 1 to 1000. The server may
	// return smaller pages.
	PageSize int
	// Concurrency is the maximum number of requests in flight, from 1 to 256.
	Concurrency int
	// RateLimit is the maximum number of requests per second, or 0 for no limit.
	RateLimit float64
	// RequestTimeout is the timeout of one HTTP request, from 1ms to 1h.
	RequestTimeout time.Duration
	// UTCOffset is the time zone of the times that the API reads and writes, as
	// the offset east of UTC. From -12h to 14h in whole minutes.
	UTCOffset time.Duration

	// UserAgent is the value of the User-Agent header. If it is empty, net/http
	// sends its own.
	UserAgent string

	// Observe, if not nil, is called after every HTTP request, from several
	// goroutines at once.
	Observe func(Attempt)

	// Transport sends the requests. It must not retry: the API refuses a nonce
	// that it has seen. If it is nil, the Client uses a transport of its own.
	Transport http.RoundTripper
}

// DefaultConfig returns the defaults: the public endpoint of API 2.0, GET, 100
// tasks per page, 8 requests in flight, 20 requests per second, a timeout of 5
// seconds per request, and times in UTC+8. Region and Credentials are not set.
func DefaultConfig() Config {
	return Config{
		Endpoint:       "https://redis.api.qcloud.com/v2/index.php",
		Method:         http.MethodGet,
		PageSize:       100,
		Concurrency:    8,
		RateLimit:      20, // the quota is not documented; most actions of API 3.0 have this one
		RequestTimeout: 5 * time.Second,
		UTCOffset:      8 * time.Hour,
	}
}

// ConfigError is the error of NewClient for an invalid field of a Config.
type ConfigError struct {
	Field   string // name of the field, such as "PageSize"
	Problem string // such as "must be from 1 to 1000, not 0"
}

// Error implements error.
func (e *ConfigError) Error() string { return e.Field + " " + e.Problem }

// Client sends requests for one region. It is safe for concurrent use.
// Concurrency and RateLimit apply to all its calls together.
type Client struct {
	cfg       Config
	endpoint  *url.URL
	zone      *time.Location
	transport http.RoundTripper
	slots     chan struct{} // holds one element per request in flight
	limiter   *rate.Limiter
	buffers   sync.Pool // of *bytes.Buffer, for response bodies
}

// NewClient returns a Client. If a field of cfg is invalid, the error is a
// *ConfigError. The error never contains the Endpoint, which may contain a
// password by mistake. NewClient sends no request.
func NewClient(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	endpoint, _ := parseEndpoint(cfg.Endpoint)
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
		// A burst of one spreads the requests evenly. It is unknown when the
		// seconds of the quota begin, and no second may contain too many requests.
		c.limiter = rate.NewLimiter(rate.Limit(cfg.RateLimit), 1)
	}
	if c.transport == nil {
		c.transport = newTransport(cfg.Concurrency)
	}
	return c, nil
}

func (cfg *Config) validate() error {
	invalid := func(field, format string, args ...any) error {
		return &ConfigError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	_, endpointOK := parseEndpoint(cfg.Endpoint)
	switch {
	case cfg.Region == "":
		return invalid("Region", "must not be empty")
	case cfg.Credentials == nil:
		return invalid("Credentials", "must not be nil")
	case !endpointOK:
		return invalid("Endpoint", "must be an http or https URL with only a host and a path")
	case cfg.Method != http.MethodGet && cfg.Method != http.MethodPost:
		return invalid("Method", "must be GET or POST, not %q", cfg.Method)
	case cfg.PageSize < 1 || cfg.PageSize > 1000:
		return invalid("PageSize", "must be from 1 to 1000, not %d", cfg.PageSize)
	case cfg.Concurrency < 1 || cfg.Concurrency > 256:
		return invalid("Concurrency", "must be from 1 to 256, not %d", cfg.Concurrency)
	case !(cfg.RateLimit >= 0) || math.IsInf(cfg.RateLimit, 0): // NaN fails every comparison
		return invalid("RateLimit", "must be a finite number of 0 or more, not %g", cfg.RateLimit)
	case cfg.RequestTimeout < time.Millisecond || cfg.RequestTimeout > time.Hour:
		return invalid("RequestTimeout", "must be from 1ms to 1h, not %s", cfg.RequestTimeout)
	case cfg.UTCOffset < -12*time.Hour || cfg.UTCOffset > 14*time.Hour || cfg.UTCOffset%time.Minute != 0:
		return invalid("UTCOffset", "must be from -12h to 14h in whole minutes, not %s", cfg.UTCOffset)
	}
	return nil
}

func parseEndpoint(s string) (u *url.URL, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, false
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, true
}

// newTransport returns a transport for HTTP/1.1 only: a request that times out
// closes its connection. A dead HTTP/2 connection would be used again.
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

// CloseIdleConnections closes connections that no request uses at the moment.
func (c *Client) CloseIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Page is one response of the API.
type Page struct {
	TotalCount int    // tasks that match the query, on all pages
	Tasks      []Task // in the order of the response
	Rejected   int    // rows that could not be read and are not in Tasks
}

// Page requests one page, with up to 3 retries of transient failures, as long as
// ctx allows. The error is an *Error, or wraps context.Canceled if ctx was
// cancelled, or says what is invalid in q.
func (c *Client) Page(ctx context.Context, q Query) (*Page, error) {
	if q.Limit == 0 {
		q.Limit = c.cfg.PageSize
	}
	if err := q.validate(); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	names := newSymbols()
	r, err := c.fetch(ctx, q, names)
	if err != nil {
		return nil, err
	}
	p := &Page{TotalCount: r.total}
	for _, row := range r.rows {
		if row.readable() {
			p.Tasks = append(p.Tasks, names.task(row))
		} else {
			p.Rejected++
		}
	}
	return p, nil
}

// Tasks iterates over all tasks that match q, page by page, from q.Offset on.
// Rows that cannot be read are skipped. After an error, the iteration ends. The
// errors are those of Page, wrapped, or an *Error if there are more than 10,000
// pages. Each use of the iterator sends the requests again.
//
// The list may change between two pages. Then Tasks may return a task twice or
// not at all: a new task at the front of the list moves the others to higher
// offsets, and a task that leaves the list moves them to lower ones.
func (c *Client) Tasks(ctx context.Context, q Query) iter.Seq2[Task, error] {
	q.Statuses, q.TaskTypes = slices.Clone(q.Statuses), slices.Clone(q.TaskTypes)
	if q.Limit == 0 {
		q.Limit = c.cfg.PageSize
	}
	return func(yield func(Task, error) bool) {
		q := q
		for range maxTaskPages {
			p, err := c.Page(ctx, q)
			if err != nil {
				yield(Task{}, fmt.Errorf("list tasks of region %s: page at offset %d: %w", c.cfg.Region, q.Offset, err))
				return
			}
			for _, task := range p.Tasks {
				if !yield(task, nil) {
					return
				}
			}
			rows := len(p.Tasks) + p.Rejected
			if rows == 0 || q.Offset+rows >= p.TotalCount {
				return
			}
			// The server may return smaller pages than requested. Offsets stay
			// multiples of the page size: some servers round them down to one.
			q.Limit = min(q.Limit, rows)
			q.Offset += rows
		}
		yield(Task{}, fmt.Errorf("list tasks of region %s: %w", c.cfg.Region, decodeError("more than %d pages", maxTaskPages)))
	}
}
