package pages

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/prometheus/common/version"
)

const (
	// maxWait is how long a request waits for its turn. One page is made at a time, so
	// that many of them do not take the CPU from scrapes.
	maxWait = 5 * time.Second
	// A client may read a page for readTime, and longer if it is large: it must read
	// minReadRate bytes a second.
	readTime    = 10 * time.Second
	minReadRate = 16 << 10
)

// Config says what the pages show.
type Config struct {
	Exporter *collector.Exporter
	// Credentials returns the source of the credentials, and when they expire; zero if
	// that is not known.
	Credentials func() (source string, expiry time.Time)
	MetricsPath string // of the link to the metrics, such as /metrics
	// ExternalPath is under which path browsers reach the pages, such as /crs. If it is
	// empty, links are relative.
	ExternalPath string
	UTCOffset    time.Duration // of the API's times
}

var (
	//go:embed *.html pages.css
	files embed.FS
	//go:embed pages.css
	css []byte
)

// pages makes the pages.
type pages struct {
	Config
	zone   *time.Location // of the API's times, with a name such as UTC+08:00
	policy string         // the Content-Security-Policy
	slot   chan struct{}  // holds a token while a page is made
}

// New returns the handler of the paths /, /tasks and /backups.
func New(cfg Config) http.Handler {
	seconds := int(cfg.UTCOffset / time.Second)
	name := time.Unix(0, 0).In(time.FixedZone("", seconds)).Format("UTC-07:00")
	hash := sha256.Sum256(css)
	p := &pages{
		Config: cfg,
		zone:   time.FixedZone(name, seconds),
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		slot: make(chan struct{}, 1),
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", p.page("Status", "status.html", p.status))
	mux.Handle("GET /tasks", p.page("Tasks", "tasks.html", p.tasks,
		"region", "redisId", "redisName", "taskName", "status", "since", "until", "day", "page"))
	mux.Handle("GET /backups", p.page("Backups", "backups.html", p.backups,
		"region", "redisId", "redisName", "page"))
	return mux
}

// page is the handler of one page.
type page struct {
	*pages
	title      string
	template   *template.Template
	content    func(*view) (any, error) // returns what only this page shows
	parameters []string                 // of its URL; without any, all are ignored
}

func (p *pages) page(title, file string, content func(*view) (any, error), parameters ...string) *page {
	layout := template.New("layout.html").Funcs(p.functions())
	return &page{p, title, template.Must(layout.ParseFS(files, "layout.html", "pages.css", file)), content, parameters}
}

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", p.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept-Encoding")
	zip := collector.AcceptsGzip(r.Header)
	body, err := p.render(r, zip)
	if err != nil {
		code := http.StatusInternalServerError
		if _, bad := errors.AsType[badRequest](err); bad {
			code = http.StatusBadRequest
		} else if errors.Is(err, context.DeadlineExceeded) {
			header.Set("Retry-After", "5")
			code, err = http.StatusServiceUnavailable, errors.New("too many requests for pages: try again")
		}
		http.Error(w, err.Error(), code)
		return
	}
	// Not every writer has deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTime + time.Duration(body.Len())*time.Second/minReadRate))
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	if zip {
		header.Set("Content-Encoding", "gzip")
	}
	_, _ = body.WriteTo(w)
}

// render returns the page, compressed if zip is set. It is in memory, so a slow client
// blocks no other.
func (p *page) render(r *http.Request, zip bool) (*bytes.Buffer, error) {
	ctx, cancel := context.WithTimeout(r.Context(), maxWait)
	defer cancel()
	select {
	case p.slot <- struct{}{}:
		defer func() { <-p.slot }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	v, err := p.view(r)
	if err != nil {
		return nil, err
	}
	if v.Page, err = p.content(v); err != nil {
		return nil, err
	}
	body := &bytes.Buffer{}
	if !zip {
		return body, p.template.Execute(body, v)
	}
	zipped := gzip.NewWriter(body)
	return body, errors.Join(p.template.Execute(zipped, v), zipped.Close())
}

// view is what a template shows.
type view struct {
	Title, Metrics, Version string
	Now                     time.Time
	Regions                 []string // all that are watched
	Lists                   []list   // of these regions, or of the one that the request names
	AnyRead                 bool     // one of the lists was read
	Stale                   bool     // one of the lists was not read, not by the last poll, or is not believed
	Query                   query
	Page                    any
}

// list is the last list of a region.
type list struct {
	collector.RegionStatus
	List *collector.TaskList // nil if it was never read
}

func (p *page) view(r *http.Request) (*view, error) {
	v := &view{Title: p.title, Metrics: p.root() + p.MetricsPath, Version: version.Version, Now: time.Now()}
	statuses, lists := p.Exporter.Status(), p.Exporter.TaskLists()
	for _, status := range statuses {
		v.Regions = append(v.Regions, status.Region)
	}
	if len(p.parameters) > 0 {
		var err error
		if v.Query, err = readQuery(r.URL.RawQuery, p.parameters, v.Regions); err != nil {
			return nil, err
		}
	}
	region := v.Query.Get("region")
	for i, status := range statuses {
		if region == "" || region == status.Region {
			v.Lists = append(v.Lists, list{status, lists[i]})
			v.AnyRead = v.AnyRead || lists[i] != nil
			v.Stale = v.Stale || lists[i] == nil || status.Err != nil || !lists[i].Believed()
		}
	}
	return v, nil
}
