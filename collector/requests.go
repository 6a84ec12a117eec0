package collector

import (
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"github.com/prometheus/client_golang/prometheus"
)

// requestMetrics describe the requests to the API. Their labels come from the
// configuration and a closed set, never from a response.
type requestMetrics struct {
	requests  *prometheus.CounterVec
	failures  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	clockSkew *prometheus.GaugeVec

	fullReadings *prometheus.CounterVec
	corrections  *prometheus.CounterVec
	firstSeen    *prometheus.GaugeVec
}

var _ prometheus.Collector = (*requestMetrics)(nil)

func newRequestMetrics() *requestMetrics {
	return &requestMetrics{
		requests: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: apiRequestsMetric.Name, Help: apiRequestsMetric.Help}, apiRequestsMetric.Labels),
		failures: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: apiFailuresMetric.Name, Help: apiFailuresMetric.Help}, apiFailuresMetric.Labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            apiDurationMetric.Name,
			Help:                            apiDurationMetric.Help,
			Buckets:                         []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, apiDurationMetric.Labels),
		clockSkew: prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Name: apiClockSkewMetric.Name, Help: apiClockSkewMetric.Help}, apiClockSkewMetric.Labels),
		fullReadings: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: fullReadingsMetric.Name, Help: fullReadingsMetric.Help}, fullReadingsMetric.Labels),
		corrections: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: correctionsMetric.Name, Help: correctionsMetric.Help}, correctionsMetric.Labels),
		firstSeen: prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Name: firstSeenMetric.Name, Help: firstSeenMetric.Help}, firstSeenMetric.Labels),
	}
}

// Describe implements prometheus.Collector.
func (m *requestMetrics) Describe(ch chan<- *prometheus.Desc) {
	m.requests.Describe(ch)
	m.failures.Describe(ch)
	m.duration.Describe(ch)
	m.clockSkew.Describe(ch)
	m.fullReadings.Describe(ch)
	m.corrections.Describe(ch)
	m.firstSeen.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *requestMetrics) Collect(ch chan<- prometheus.Metric) {
	m.requests.Collect(ch)
	m.failures.Collect(ch)
	m.duration.Collect(ch)
	m.clockSkew.Collect(ch)
	m.fullReadings.Collect(ch)
	m.corrections.Collect(ch)
	m.firstSeen.Collect(ch)
}

// of returns the metrics of one region. All start at 0 except those that are not
// known yet: the clock skew, and the age of a new task.
func (m *requestMetrics) of(region string) *regionRequests {
	r := &regionRequests{
		requests:  m.requests.WithLabelValues(region),
		failures:  map[crsapi.Reason]prometheus.Counter{},
		duration:  m.duration.WithLabelValues(region),
		clockSkew: func() prometheus.Gauge { return m.clockSkew.WithLabelValues(region) },

		fullReadings: func(cause mirror.Cause) prometheus.Counter {
			return m.fullReadings.WithLabelValues(region, string(cause))
		},
		corrections: m.corrections.WithLabelValues(region),
		firstSeen:   func() prometheus.Gauge { return m.firstSeen.WithLabelValues(region) },
	}
	for _, cause := range mirror.Causes() {
		r.fullReadings(cause)
	}
	for _, reason := range crsapi.Reasons() {
		r.failures[reason] = m.failures.WithLabelValues(region, string(reason))
	}
	return r
}

type regionRequests struct {
	requests  prometheus.Counter
	failures  map[crsapi.Reason]prometheus.Counter
	duration  prometheus.Observer
	clockSkew func() prometheus.Gauge // the first call creates the series
	clock     crsapi.Clock            // by the Date headers

	fullReadings func(mirror.Cause) prometheus.Counter
	corrections  prometheus.Counter
	firstSeen    func() prometheus.Gauge // the first call creates the series

	sent     atomic.Int64           // requests
	answered atomic.Pointer[func()] // called for each answer that is no failure
}

// read counts what a poll of one list did.
func (r *regionRequests) read(result *mirror.Result) {
	for _, cause := range result.Full {
		r.fullReadings(cause).Inc()
	}
	r.corrections.Add(float64(result.Corrections))
}

func (r *regionRequests) onAnswer(call func()) { r.answered.Store(&call) }

func (r *regionRequests) observe(a crsapi.Attempt) {
	r.requests.Inc()
	r.sent.Add(1)
	r.duration.Observe(a.Duration.Seconds())
	if call := r.answered.Load(); call != nil && *call != nil && a.Reason == "" {
		(*call)()
	}
	// A reason that is not logged harms no list.
	if a.Reason != "" && a.Action != crsapi.ActionTaskInfo {
		r.fail(a.Reason)
	}
	if a.HasClockSkew {
		r.clockSkew().Set(a.ClockSkew.Seconds())
		now := time.Now()
		r.clock.Set(now.Add(a.ClockSkew), now)
	}
}

func (r *regionRequests) fail(reason crsapi.Reason) {
	failures, ok := r.failures[reason]
	if !ok {
		failures = r.failures[crsapi.ReasonAPI]
	}
	failures.Inc()
}
