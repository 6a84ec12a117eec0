package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
)

// Register adds a collector to what every scrape shows.
func (e *Exporter) Register(c prometheus.Collector) error {
	if err := e.registry.Register(c); err != nil {
		return fmt.Errorf("register a collector: %w", err)
	}
	return nil
}

const (
	// maxScrapes limits the scrapes that wait for a poll or encode an answer. How
	// long clients then read does not matter.
	maxScrapes = 40
	// writeGrace is how long a scraper may read after its timeout.
	writeGrace = 5 * time.Second
)

// Handler serves the metrics. Each request polls, or joins the poll in
// progress, and gets status 200 whatever the API does. It waits for polls until
// Config.TimeoutOffset before the scrape's own timeout; what is left is for the
// response. More than 40 requests that wait at once get status 503.
func (e *Exporter) Handler() http.Handler {
	own := promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{
		ErrorLog:                            errorLog{e.logger},
		ErrorHandling:                       promhttp.ContinueOnError,
		Registry:                            e.registry,
		DisableCompression:                  true, // this handler compresses
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: true,
	})
	h := &metricsHandler{
		exporter: e, own: own,
		answers: answers{keep: e.minInterval > 0},
		slots:   make(chan struct{}, maxScrapes),
	}
	return promhttp.InstrumentMetricHandler(e.registry, h)
}

// metricsHandler answers scrapes. The metrics of the regions are encoded once for
// all scrapes that show the same. The exporter's own metrics follow, gathered for
// each scrape.
type metricsHandler struct {
	exporter *Exporter
	own      http.Handler
	answers  answers
	slots    chan struct{} // holds one element per scrape that waits or encodes
}

// ServeHTTP implements http.Handler.
func (h *metricsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	timeout := scrapeTimeout(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"))
	// After its own timeout a scraper does not need the rest. Not every writer has
	// deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + writeGrace))
	response, err := h.prepare(r, timeout)
	switch {
	case errors.Is(err, errTooMany):
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case err != nil && r.Context().Err() != nil:
		return // client disconnected
	case err != nil:
		level.Error(h.exporter.logger).Log("msg", "cannot answer a scrape", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer h.answers.release(response.answer)
	maps.Copy(w.Header(), response.header)
	if r.Method == http.MethodHead {
		return
	}
	err = response.writeTo(w)
	if err == nil {
		err = flush(w)
	}
	switch {
	case errors.Is(err, errCut):
		panic(http.ErrAbortHandler) // or the client would take the response for a whole one
	case err != nil && !errors.Is(err, http.ErrNotSupported):
		level.Debug(h.exporter.logger).Log("msg", "cannot write the response", "err", err)
	case showsTransitions(r):
		response.answer.markShown()
	}
}

// flush writes what is in a buffer. The writer of promhttp would drop the error.
func flush(w http.ResponseWriter) error {
	if wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		w = wrapper.Unwrap()
	}
	return http.NewResponseController(w).Flush()
}

var errTooMany = fmt.Errorf("too many scrapes in flight (%d)", maxScrapes)

// response is a response to a scrape, with all of its body.
type response struct {
	header http.Header
	answer *answer
	own    part
}

func (h *metricsHandler) prepare(r *http.Request, timeout time.Duration) (*response, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return nil, errTooMany
	}
	ctx, cancel := context.WithTimeout(r.Context(), budget(timeout, h.exporter.timeoutOffset))
	defer cancel()
	results := h.exporter.Poll(ctx)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	own := recorder{header: http.Header{}}
	h.own.ServeHTTP(&own, r)
	if own.code != 0 && own.code != http.StatusOK {
		return nil, fmt.Errorf("gather the exporter's own metrics: %s", strings.TrimSpace(own.body.String()))
	}
	f := form{expfmt.Format(own.header.Get("Content-Type")), acceptsGzip(r.Header)}
	a, err := h.answers.take(results, f, r.URL.Query()["name[]"])
	if err != nil {
		return nil, err
	}
	response := &response{own.header, a, part{}}
	response.header.Add("Vary", "Accept-Encoding")
	if f.gzip {
		response.header.Set("Content-Encoding", "gzip")
		response.own = h.answers.compressors.last(a.sum, own.body.Bytes())
	} else {
		_, _ = response.own.Write(own.body.Bytes())
	}
	return response, nil
}

func (r *response) writeTo(w io.Writer) error {
	if err := r.answer.writeTo(w); err != nil {
		return err
	}
	for _, chunk := range r.own.chunks {
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// recorder is the http.ResponseWriter for a response that becomes a part of
// another one.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// acceptsGzip reads the Accept-Encoding of a request (RFC 9110, section 12.5.3).
func acceptsGzip(header http.Header) bool {
	accepted := false
	for field := range strings.SplitSeq(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		coding, weight, _ := strings.Cut(field, ";")
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip":
			return !isZero(weight)
		case "*":
			accepted = !isZero(weight)
		}
	}
	return accepted
}

// isZero reports whether a weight is 0, such as q=0 or q=0.000.
func isZero(weight string) bool {
	_, value, given := strings.Cut(weight, "=")
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	return given && (err != nil || q <= 0)
}

// showsTransitions reports whether the response to r has the counters.
func showsTransitions(r *http.Request) bool {
	names, filtered := r.URL.Query()["name[]"]
	return !filtered || slices.Contains(names, transitionsMetric.Name)
}

// scrapeTimeout reads the header in which Prometheus sends its timeout in
// seconds. An invalid header is ignored.
func scrapeTimeout(header string) time.Duration {
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil || math.IsNaN(seconds) || math.IsInf(seconds, 0) {
		return defaultScrapeTimeout
	}
	// The comparison is in seconds: a Duration would overflow.
	if seconds > maxPoll.Seconds() {
		return maxPoll
	}
	timeout := time.Duration(seconds * float64(time.Second))
	if timeout <= 0 {
		return defaultScrapeTimeout
	}
	return timeout
}

// budget returns how long a scrape may wait for polls.
func budget(timeout, offset time.Duration) time.Duration {
	if timeout <= offset {
		return timeout / 2
	}
	return timeout - offset
}

// errorLog logs promhttp errors, most of which are scrapers that disconnect.
type errorLog struct{ logger log.Logger }

func (l errorLog) Println(v ...any) {
	level.Debug(l.logger).Log("msg", strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}

// Healthy returns a handler that always answers 200.
func (e *Exporter) Healthy() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "healthy")
	})
}

// Ready returns a handler that answers 200 when the first poll of every region
// has ended, in success or failure, or is reading its list in full. Before, it
// answers 503 and names the others.
func (e *Exporter) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var waiting []string
		for _, status := range e.Status() {
			if status.End.IsZero() && status.PagesDue == 0 {
				waiting = append(waiting, status.Region)
			}
		}
		if len(waiting) > 0 {
			plain(w, http.StatusServiceUnavailable, "waiting for the first poll of "+strings.Join(waiting, ", "))
			return
		}
		plain(w, http.StatusOK, "ready")
	})
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}
