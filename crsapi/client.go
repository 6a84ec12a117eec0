package crsapi

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"golang.org/x/time/rate"
)

// maxTaskPages limits the requests of one iteration over Tasks.
const maxTaskPages = 10_000

// Config configures a Client. Start from DefaultConfig: NewClient accepts no
// zero value in place of a default.
type Config struct {
	API API

	// Region is sent as it is, such as ap-guangzhou or gz; only API 3.0 and the
	// private cloud get the long name for a short one. Must not be empty.
	Region string
	// Credentials returns the key for each attempt. If it is a
	// credentials.RefusalObserver, it learns which keys the API refused. Must
	// not be nil.
	Credentials credentials.Provider

	// Endpoint is an http or https URL with only a host, maybe a port, and a
	// path. With API 3.0 and the private cloud the path is /, and {region} in
	// the host stands for the region.
	Endpoint string
	// Method is GET or POST; with API 3.0 and the private cloud POST.
	Method string
	// PageSize is the number of tasks per page, from 1 to API.MaxPageSize. The
	// server may return smaller pages.
	PageSize int
	// Concurrency is the maximum number of requests in flight, from 1 to 256.
	Concurrency int
	// Limiter limits the requests per second of all Clients that have it, or is
	// nil for no limit. The quota belongs to the host, so the Clients of one
	// host should share a Limiter.
	Limiter *rate.Limiter
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
	//
	// After a fault of the server or of the way to it, the retry must not use a
	// connection that is older. The Client takes care of that if Transport is an
	// *http.Transport: it sends by copies of it, a new one after each fault. Of any
	// other, it calls the method CloseIdleConnections, if there is one.
	Transport http.RoundTripper
}

// DefaultConfig returns the defaults of an API: its public endpoint, 100 tasks
// per page, 8 requests in flight, a new Limiter, a timeout of 5 seconds per
// request, and times in UTC+8. API 2.0 has GET and 20 requests per second, the
// others POST and 50. Region and Credentials are not set, nor is the Endpoint of
// the private cloud.
func DefaultConfig(api API) Config {
	cfg := Config{
		API:            api,
		Method:         http.MethodPost,
		PageSize:       100,
		Concurrency:    8,
		RequestTimeout: 5 * time.Second,
		UTCOffset:      8 * time.Hour,
	}
	switch api {
	case API20:
		cfg.Endpoint = "https://redis.api.qcloud.com/v2/index.php"
		cfg.Method = http.MethodGet
		cfg.Limiter = NewLimiter(20) // the quota is not documented; most actions of API 3.0 have this one
	case API30:
		cfg.Endpoint = "https://redis.tencentcloudapi.com/"
		cfg.Limiter = NewLimiter(50) // half of the quota of DescribeTaskList
	default:
		cfg.Limiter = NewLimiter(50)
	}
	return cfg
}

// NewLimiter returns a limit of requests per second, or nil for 0. It spreads the
// requests evenly: it is unknown when the seconds of the quota begin, and no
// second may contain too many requests.
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
// Config.Concurrency applies to all its calls together.
type Client struct {
	cfg      Config
	protocol protocol
	endpoint *url.URL
	zone     *time.Location // of times in responses
	conns    *connections
	slots    chan struct{} // holds one element per request in flight
	buffers  sync.Pool     // of *bytes.Buffer, for response bodies
	names    interner
}

// NewClient returns a Client. If a field of cfg is invalid, the error is a
// *ConfigError. The error never contains the Endpoint, which may contain a
// password by mistake. NewClient sends no request.
func NewClient(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	endpoint, _ := cfg.endpoint()
	c := &Client{
		cfg:      cfg,
		protocol: newProtocol(&cfg, endpoint),
		endpoint: endpoint,
		zone:     time.FixedZone("", int(cfg.UTCOffset/time.Second)),
		conns:    newConnections(&cfg),
		slots:    make(chan struct{}, cfg.Concurrency),
	}
	c.buffers.New = func() any { return new(bytes.Buffer) }
	return c, nil
}

func (cfg *Config) validate() error {
	invalid := func(field, format string, args ...any) error {
		return &ConfigError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	v2 := cfg.API == API20
	endpoint, endpointOK := cfg.endpoint()
	switch {
	case !slices.Contains([]API{API20, API30, APITCE}, cfg.API):
		return invalid("API", "must be %s, %s or %s, not %q", API20, API30, APITCE, cfg.API)
	case cfg.Region == "":
		return invalid("Region", "must not be empty")
	case !v2 && !IsRegionName(cfg.Region):
		return invalid("Region", "must have only letters, digits and hyphens, not %q", cfg.Region)
	case cfg.Credentials == nil:
		return invalid("Credentials", "must not be nil")
	case !endpointOK:
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

// IsRegionName reports whether name has only letters, digits and hyphens, so that it
// may be part of a host name. That of an empty name is true.
func IsRegionName(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// endpoint returns the URL of the region. Its host is in lower case, as the
// signature of API 3.0 has it.
func (cfg *Config) endpoint() (u *url.URL, ok bool) {
	s := cfg.Endpoint
	if cfg.API != API20 {
		s = strings.ReplaceAll(s, "{region}", longRegion(cfg.Region))
	}
	u, err := url.Parse(s)
	if err != nil || strings.ContainsFunc(s, unicode.IsSpace) || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, false
	}
	u.Host = strings.ToLower(u.Host)
	if u.Path == "" {
		u.Path = "/"
	}
	return u, true
}

// CloseIdleConnections closes connections that no request uses at the moment.
func (c *Client) CloseIdleConnections() { c.conns.closeIdle() }

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
	TotalCount int    // tasks that match the query, on all pages
	Tasks      []Task // in the order of the response
	// Rejected are the rows that could not be read and are not in Tasks, in the
	// order of the response.
	Rejected []RejectedRow
	Date     time.Time // of the response by the API's clock; zero if unknown
}

// RejectedRow is a row that could not be read. It is listed and counts in
// Page.TotalCount.
type RejectedRow struct {
	Index     int       // of the row among all rows of the page
	StartTime time.Time // zero if it could not be read
	// Hash is equal for equal rows, as long as the process runs. The status, the
	// progress and the end, which change while a task runs, do not matter.
	Hash uint64
}

// Page requests one page, with up to 3 retries of transient failures, as long as
// ctx allows. The error is an *Error, or wraps context.Canceled if ctx was
// cancelled, or says what is invalid in q. See IsUnknownInstance.
func (c *Client) Page(ctx context.Context, q Query) (*Page, error) {
	if q.Limit == 0 {
		q.Limit = c.cfg.PageSize
	}
	if err := q.validate(c.cfg.API); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	list := c.protocol.list(q)
	list.instance = q.RedisID != ""
	r, err := c.fetch(ctx, list)
	if err != nil {
		return nil, err
	}
	return &Page{TotalCount: r.total, Tasks: r.tasks, Rejected: r.rejected, Date: r.date}, nil
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
			rows := len(p.Tasks) + len(p.Rejected)
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

// TaskMessage returns why a task failed, in the words of the vendor, on one line
// of at most 256 characters. It is empty if the task did not fail. Only API 3.0
// has it. Retries and errors are those of Page.
func (c *Client) TaskMessage(ctx context.Context, taskID int64) (string, error) {
	p, ok := c.protocol.(*api3)
	if !ok || c.cfg.API != API30 {
		return "", fmt.Errorf("task message: API %s has no %s", c.cfg.API, ActionTaskInfo)
	}
	r, err := c.fetch(ctx, p.taskInfo(taskID))
	if err != nil {
		return "", fmt.Errorf("message of task %d: %w", taskID, err)
	}
	return r.text, nil
}
