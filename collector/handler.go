package collector

import (
	"context"
	"fmt"
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
)

// Register adds a collector to what every scrape shows.
func (e *Exporter) Register(c prometheus.Collector) error {
	if err := e.registry.Register(c); err != nil {
		return fmt.Errorf("register a collector: %w", err)
	}
	return nil
}

// writeGrace is how long a scraper may read after its timeout.
const writeGrace = 5 * time.Second

// Handler serves the metrics. Each request polls, or joins the poll in
// progress, and gets status 200 whatever the API does. It waits for polls until
// Config.TimeoutOffset before the scrape's own timeout; what is left is for the
// response.
func (e *Exporter) Handler() http.Handler {
	return promhttp.InstrumentMetricHandler(e.registry, http.HandlerFunc(e.serveMetrics))
}

func (e *Exporter) serveMetrics(w http.ResponseWriter, r *http.Request) {
	timeout := scrapeTimeout(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"))
	// A scraper that reads slowly holds the whole response in memory, and after
	// its own timeout it does not need the rest. Not every writer has deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + writeGrace))
	ctx, cancel := context.WithTimeout(r.Context(), budget(timeout, e.timeoutOffset))
	defer cancel()
	results := e.Poll(ctx)
	if r.Context().Err() != nil {
		return // client disconnected
	}

	promhttp.HandlerForTransactional(
		prometheus.NewMultiTRegistry(
			prometheus.ToTransactionalGatherer(results),
			prometheus.ToTransactionalGatherer(e.registry),
		),
		promhttp.HandlerOpts{
			ErrorLog:                            errorLog{e.logger},
			ErrorHandling:                       promhttp.ContinueOnError,
			Registry:                            e.registry,
			EnableOpenMetrics:                   true,
			EnableOpenMetricsTextCreatedSamples: true,
		},
	).ServeHTTP(w, r)
	if showsTransitions(r) && r.Context().Err() == nil {
		results.markShown()
	}
}

// showsTransitions reports whether the response to r has the counters.
func showsTransitions(r *http.Request) bool {
	names, filtered := r.URL.Query()["name[]"]
	return r.Method == http.MethodGet && (!filtered || slices.Contains(names, transitionsMetric.Name))
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
// has ended, in success or failure. Before, it answers 503 and names the others.
func (e *Exporter) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var waiting []string
		for _, status := range e.Status() {
			if status.End.IsZero() {
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
