package crsapi

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// API is one of the vendor's interfaces to the task list.
type API string

// The APIs.
const (
	API20  API = "2.0" // GetRedisTaskList of API 2.0, which the vendor retires
	API30  API = "3.0" // DescribeTaskList of API 3.0, its successor
	APITCE API = "tce" // GetRedisTaskList of the vendor's private cloud, with the protocol of API 3.0
)

// TaskTypes returns the valid values of Query.TaskTypes. They are task names of
// API 2.0 with the prefix "task_", which names in responses do not have. API 3.0
// has five of the seven, and the names that only it has cannot be asked for.
func (a API) TaskTypes() []string {
	types := []string{
		"task_importRdb",
		"task_exportBackup",
		"task_restoreBackup",
		"task_restoreStream",
		"task_backupInstance",
		"task_cleanInstance",
		"task_resizeInstance",
	}
	if a == API30 {
		types = slices.DeleteFunc(types, func(t string) bool { return t == "task_importRdb" || t == "task_restoreStream" })
	}
	return types
}

// StatusFilters returns the statuses that one Query can combine. The private cloud
// filters by one status only, and has none.
func (a API) StatusFilters() []Status {
	switch a {
	case API20:
		return []Status{StatusPending, StatusExecuting, StatusSucceeded, StatusFailed, StatusError}
	case API30:
		return []Status{StatusPending, StatusExecuting, StatusSucceeded, StatusFailed}
	}
	return nil
}

// MaxPageSize returns the highest Config.PageSize and Query.Limit. API 2.0 has no
// documented maximum; this one is a bound of the client.
func (a API) MaxPageSize() int {
	if a == API20 {
		return 1000
	}
	return 100
}

// protocol is what differs between the APIs.
type protocol interface {
	// list returns the request of one page. The query is valid.
	list(q Query) call
}

// call is an action with its parameters.
type call struct {
	action   string
	format   *format
	instance bool // only tasks of one instance are asked for
	// sign returns a new request, and its signature so that it can be redacted.
	// Every attempt gets a signature of its own.
	sign func(ctx context.Context, key credentials.Key) (req *http.Request, signature string)
}

func newProtocol(cfg *Config, endpoint *url.URL) protocol {
	zone := time.FixedZone("", int(cfg.UTCOffset/time.Second))
	if cfg.API == API20 {
		return &api2{
			method: cfg.Method, endpoint: endpoint, userAgent: cfg.UserAgent,
			region: cfg.Region, zone: zone,
		}
	}
	names := describeTaskList
	if cfg.API == APITCE {
		names = privateCloud
	}
	return &api3{
		names: names, endpoint: endpoint, userAgent: cfg.UserAgent,
		region: longRegion(cfg.Region), zone: zone,
	}
}

func newHeader(userAgent string) http.Header {
	header := http.Header{}
	if userAgent != "" {
		header.Set("User-Agent", userAgent)
	}
	return header
}

// newRequest returns a request that net/http does not send twice by itself: it
// repeats no request whose body it cannot rewind. A repeated request would have
// an old signature, and Config.Observe would not see it.
func newRequest(ctx context.Context, method string, endpoint *url.URL, header http.Header, body []byte) *http.Request {
	target := *endpoint
	return (&http.Request{
		Method:        method,
		URL:           &target,
		Host:          endpoint.Host,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
	}).WithContext(ctx)
}
