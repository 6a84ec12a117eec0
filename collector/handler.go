package collector

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

const (
	// defaultScrapeTimeout is the timeout of a scrape that does not send one.
	defaultScrapeTimeout = 10 * time.Second
	// writeGrace is how long a scraper may read after its timeout.
	writeGrace = 5 * time.Second
	// maxScrapes limits the scrapes that wait for a poll or read their answer, which is
	// compressed in memory.
	maxScrapes = 100
)

// Handler serves the metrics. Each request polls, or joins the poll in progress, and gets
// status 200 whatever the API does. It waits for polls until Config.TimeoutOffset before
// the scrape's own timeout; what is left is for the response. More than 100 requests at
// once get status 503.
func (e *Exporter) Handler() http.Handler {
	return promhttp.InstrumentMetricHandler(e.registry, &metricsHandler{Exporter: e, slots: make(chan struct{}, maxScrapes)})
}

type metricsHandler struct {
	*Exporter
	slots    chan struct{}
	encoding sync.Mutex // one answer is encoded at a time, which takes most memory
	last     *answer
}

// ServeHTTP implements http.Handler.
func (h *metricsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("too many scrapes in flight (%d)", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	timeout := scrapeTimeout(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"))
	// After its own timeout a scraper does not need the rest. Not every writer has
	// deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + writeGrace))
	ctx, cancel := context.WithTimeout(r.Context(), budget(timeout, h.cfg.TimeoutOffset))
	results := h.Poll(ctx)
	cancel()
	if r.Context().Err() != nil {
		return // the client has disconnected
	}
	if err := h.answer(results, r).send(w, r); err != nil {
		level.Debug(h.cfg.Logger).Log("msg", "cannot write the response", "err", err)
		return
	}
	names, filtered := r.URL.Query()["name[]"]
	if r.Method == http.MethodGet && (!filtered || slices.Contains(names, transitionsMetric.Name)) {
		results.shown()
	}
}

// answer is a compressed response in memory: a slow reader holds nothing else.
type answer struct {
	results *Results
	accept  string
	query   string

	header http.Header
	code   int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) { a.code = code }

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// answer encodes the results, once for all scrapes that join a poll.
func (h *metricsHandler) answer(results *Results, r *http.Request) *answer {
	h.encoding.Lock()
	defer h.encoding.Unlock()
	a := &answer{results: results, accept: r.Header.Get("Accept"), query: r.URL.RawQuery, header: http.Header{}, code: http.StatusOK}
	if last := h.last; last != nil && last.accept == a.accept && last.query == a.query && slices.Equal(last.results.outcomes, results.outcomes) {
		return last
	}
	gatherer := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		tasks, _ := results.Gather()
		own, err := h.registry.Gather()
		// In OpenMetrics it is one family with go_memstats_alloc_bytes_total.
		own = slices.DeleteFunc(own, func(f *dto.MetricFamily) bool { return f.GetName() == "go_memstats_alloc_bytes" })
		return append(tasks, own...), err
	})
	compressed := r.Clone(r.Context())
	compressed.Header.Set("Accept-Encoding", "gzip")
	promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorLog:                            errorLog{h.cfg.Logger},
		ErrorHandling:                       promhttp.ContinueOnError,
		Registry:                            h.registry,
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: true,
		OfferedCompressions:                 []promhttp.Compression{promhttp.Gzip},
	}).ServeHTTP(a, compressed)
	h.last = a
	return a
}

func (a *answer) send(w http.ResponseWriter, r *http.Request) error {
	maps.Copy(w.Header(), a.header)
	body := io.Reader(bytes.NewReader(a.body.Bytes()))
	if a.header.Get("Content-Encoding") == "gzip" && !AcceptsGzip(r.Header) {
		w.Header().Del("Content-Encoding")
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	if r.Method == http.MethodHead {
		return nil
	}
	w.WriteHeader(a.code)
	if _, err := io.Copy(w, body); err != nil { //nolint:gosec // it was compressed here
		return err
	}
	return flush(w)
}

// AcceptsGzip reads the Accept-Encoding of a request (RFC 9110, section 12.5.3).
func AcceptsGzip(header http.Header) bool {
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

// flush writes what is in a buffer. The writer of promhttp would drop the error.
func flush(w http.ResponseWriter) error {
	if wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		w = wrapper.Unwrap()
	}
	if err := http.NewResponseController(w).Flush(); err != nil && !strings.Contains(err.Error(), "not supported") {
		return err
	}
	return nil
}

// scrapeTimeout reads the header in which Prometheus sends its timeout in seconds. An
// invalid header is ignored.
func scrapeTimeout(header string) time.Duration {
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil || math.IsNaN(seconds) || math.IsInf(seconds, 0) || seconds < 1e-9 {
		return defaultScrapeTimeout
	}
	return time.Duration(min(seconds, maxPoll.Seconds()) * float64(time.Second))
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

// Println implements promhttp.Logger.
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
