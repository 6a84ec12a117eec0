package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/prometheus/common/version"
)

const (
	tasksPath   = "/tasks"
	backupsPath = "/backups"

	// maxPageWait is how long a page waits for others, which are made one at a time:
	// scrapes shall not share the CPU with many of them.
	maxPageWait = 5 * time.Second
	// maxParameter is the maximum length of a URL parameter in bytes, and maxNumber
	// the largest number of a page.
	maxParameter = 256
	maxNumber    = 1_000_000
	// checkEach is after how many tasks a page looks whether its reader has left.
	checkEach = 10_000
)

//go:embed pages.css
var pagesCSS string

var (
	//go:embed pages.html
	layoutHTML string
	//go:embed page_status.html
	statusHTML string
	//go:embed page_tasks.html
	tasksHTML string
	//go:embed page_backups.html
	backupsHTML string
)

// pages serves HTML about what the exporter knows. It sends no request to the API.
type pages struct {
	exporter    *collector.Exporter
	problems    func(collector.RegionStatus) []problem
	credentials func() credentials.Status
	metrics     string // path of the metrics
	zone        *time.Location
	slot        chan struct{} // of the page that is being made
	policy      string
}

// newPages returns the pages for an exporter with these settings.
func (s *settings) newPages(exporter *collector.Exporter, status func() credentials.Status) *pages {
	hash := sha256.Sum256([]byte(pagesCSS))
	return &pages{
		exporter:    exporter,
		problems:    s.problemsOf,
		credentials: status,
		metrics:     s.telemetryPath,
		zone:        apiZone(s.api.UTCOffset),
		slot:        make(chan struct{}, 1),
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	}
}

// apiZone returns the zone of the API's times, with a name such as UTC+08:00.
func apiZone(offset time.Duration) *time.Location {
	seconds := int(offset / time.Second)
	name := "UTC" + time.Unix(0, 0).In(time.FixedZone("", seconds)).Format("-07:00")
	return time.FixedZone(name, seconds)
}

// errBadRequest is wrapped by errors about the parameters of a request.
var errBadRequest = errors.New("bad request")

func badRequest(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errBadRequest, fmt.Sprintf(format, args...))
}

// frame is what all pages show.
type frame struct {
	Title   string
	Metrics string
	Version string
	Now     time.Time
	Page    any
}

// handler serves one page. content returns what its template shows.
func (p *pages) handler(title, text string, content func(*http.Request, time.Time) (any, error)) http.Handler {
	page := template.New("").Funcs(p.functions())
	for name, text := range map[string]string{"layout": layoutHTML, "css": pagesCSS, "page": text} {
		template.Must(page.New(name).Parse(text))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", p.policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		body, err := p.render(r, page, title, content)
		switch {
		case errors.Is(err, errBadRequest):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case errors.Is(err, context.DeadlineExceeded):
			header.Set("Retry-After", "5")
			http.Error(w, "too many pages are being made: try again", http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			header.Set("Content-Type", "text/html; charset=utf-8")
			header.Set("Content-Length", strconv.Itoa(body.Len()))
			_, _ = body.WriteTo(w)
		}
	})
}

// render makes a page as a whole, so that a slow reader keeps nobody waiting.
func (p *pages) render(r *http.Request, page *template.Template, title string, content func(*http.Request, time.Time) (any, error)) (*bytes.Buffer, error) {
	ctx, cancel := context.WithTimeout(r.Context(), maxPageWait)
	defer cancel()
	select {
	case p.slot <- struct{}{}:
		defer func() { <-p.slot }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := time.Now()
	shown, err := content(r, now)
	if err != nil {
		return nil, err
	}
	body := &bytes.Buffer{}
	err = page.ExecuteTemplate(body, "layout", frame{
		Title: title, Metrics: "." + p.metrics,
		Version: version.Version, Now: now, Page: shown,
	})
	return body, err
}

const clockFormat = "2006-01-02 15:04:05"

func (p *pages) functions() template.FuncMap {
	return template.FuncMap{
		"utc":     func(t time.Time) string { return t.UTC().Format(clockFormat) },
		"local":   func(t time.Time) string { return t.In(p.zone).Format(clockFormat) },
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"zone":    func() string { return p.zone.String() },
		"span":    spanOf,
		"count":   count,
		"sign":    signOf,
		"percent": func(part float32) string { return strconv.Itoa(int(part*100+0.5)) + " %" },
	}
}

// spanOf returns a duration with its two largest units, such as 3d 4h.
func spanOf(d time.Duration) string {
	d = max(0, d)
	units := []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.unit {
			continue
		}
		text := fmt.Sprintf("%d %s", d/u.unit, u.name)
		if i+1 < len(units) {
			if rest := d % u.unit / units[i+1].unit; rest > 0 {
				text += fmt.Sprintf(" %d %s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0 s"
}

// count returns a number with its noun, such as 1 page or 2 pages.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// signOf returns a sign for a status, so that color is not the only one.
func signOf(status string) string {
	switch status {
	case "succeeded":
		return "✓"
	case "failed", "error":
		return "✗"
	case "pending", "executing":
		return "…"
	case "":
		return "·"
	default:
		return "?"
	}
}

// parameters are the parameters of a URL, of which each has a value.
type parameters struct{ url.Values }

// parse reads the parameters of a request, which may have only these names.
func parse(r *http.Request, names ...string) (parameters, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return parameters{}, badRequest("the parameters of the URL cannot be read")
	}
	given := url.Values{}
	for name, all := range values {
		if !slices.Contains(names, name) {
			return parameters{}, badRequest("unknown parameter %.50q: use %s", name, strings.Join(names, ", "))
		}
		if len(all) > 1 && name != "status" || len(all) > len(collector.StatusNames()) {
			return parameters{}, badRequest("%s is given %d times", name, len(all))
		}
		for _, value := range all {
			if len(value) > maxParameter {
				return parameters{}, badRequest("%s has more than %d bytes", name, maxParameter)
			}
			if value != "" { // as a form sends a field that is left empty
				given.Add(name, value)
			}
		}
	}
	return parameters{given}, nil
}

// number returns the number of a page, from 1.
func (q parameters) number() (int, error) {
	text := q.Get("page")
	if text == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxNumber {
		return 0, badRequest("page must be a number from 1 to %d, not %.50q", maxNumber, text)
	}
	return n, nil
}

// region checks that the region is one of these.
func (q parameters) region(known []string) (string, error) {
	region := q.Get("region")
	if region != "" && !slices.Contains(known, region) {
		return "", badRequest("region must be one of %s, not %.50q", strings.Join(known, ", "), region)
	}
	return region, nil
}

// with returns the query of a link with another value, or without one if it is
// empty. The number of the page starts again, unless that is what is set.
func (q parameters) with(name string, values ...string) string {
	changed := maps.Clone(q.Values)
	changed.Del("page")
	changed.Del(name)
	if len(values) > 0 {
		changed[name] = values
	}
	return "?" + changed.Encode()
}

// regionNames returns the regions that are watched.
func regionNames(all []collector.RegionStatus) []string {
	var names []string
	for _, status := range all {
		names = append(names, status.Region)
	}
	return names
}

// listAge says how old the list of a region is.
type listAge struct {
	Region string
	Read   time.Time // zero if it was never read
	Age    time.Duration
	Failed bool // the last poll failed, so the list is not the current one
}

// ages returns the age of each list; of one region only if it is not empty.
func ages(statuses []collector.RegionStatus, lists []*collector.TaskList, region string, now time.Time) []listAge {
	var all []listAge
	for i, status := range statuses {
		if region != "" && status.Region != region {
			continue
		}
		age := listAge{Region: status.Region, Failed: status.Err != nil}
		if lists[i] != nil {
			age.Read, age.Age = lists[i].Read, now.Sub(lists[i].Read)
		}
		all = append(all, age)
	}
	return all
}

// linkTo returns the address of the tasks of an instance.
func linkTo(region, redisID string) string {
	return "tasks?" + url.Values{"region": {region}, "redisId": {redisID}}.Encode()
}

// until ends a sequence when its reader has left.
func until(ctx context.Context, tasks iter.Seq[crsapi.Task]) iter.Seq[crsapi.Task] {
	return func(yield func(crsapi.Task) bool) {
		n := 0
		for task := range tasks {
			if n++; n%checkEach == 0 && ctx.Err() != nil || !yield(task) {
				return
			}
		}
	}
}
