package collector

import (
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/client_golang/prometheus"
)

// apiMetrics tell of the requests to the API. Their labels come from the
// configuration and a closed set, none from an answer.
type apiMetrics struct {
	requests  *prometheus.CounterVec
	failures  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	clockSkew *prometheus.GaugeVec
}

var _ prometheus.Collector = (*apiMetrics)(nil)

func newAPIMetrics() *apiMetrics {
	return &apiMetrics{
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
	}
}

// Describe implements prometheus.Collector.
func (m *apiMetrics) Describe(ch chan<- *prometheus.Desc) {
	m.requests.Describe(ch)
	m.failures.Describe(ch)
	m.duration.Describe(ch)
	m.clockSkew.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *apiMetrics) Collect(ch chan<- prometheus.Metric) {
	m.requests.Collect(ch)
	m.failures.Collect(ch)
	m.duration.Collect(ch)
	m.clockSkew.Collect(ch)
}

// of returns the metrics of one region, all born at 0 but for the clock skew,
// which is not known yet.
func (m *apiMetrics) of(region string) *regionMetrics {
	r := &regionMetrics{
		requests:  m.requests.WithLabelValues(region),
		failures:  map[crsapi.Reason]prometheus.Counter{},
		duration:  m.duration.WithLabelValues(region),
		clockSkew: func() prometheus.Gauge { return m.clockSkew.WithLabelValues(region) },
	}
	for _, reason := range crsapi.Reasons() {
		r.failures[reason] = m.failures.WithLabelValues(region, string(reason))
	}
	return r
}

type regionMetrics struct {
	requests  prometheus.Counter
	failures  map[crsapi.Reason]prometheus.Counter
	duration  prometheus.Observer
	clockSkew func() prometheus.Gauge // its first call is the series' birth
}

func (r *regionMetrics) observe(a crsapi.Attempt) {
	r.requests.Inc()
	r.duration.Observe(a.Duration.Seconds())
	if a.Reason != "" {
		r.fail(a.Reason)
	}
	if a.HasClockSkew {
		r.clockSkew().Set(a.ClockSkew.Seconds())
	}
}

func (r *regionMetrics) fail(reason crsapi.Reason) {
	failures, ok := r.failures[reason]
	if !ok {
		failures = r.failures[crsapi.ReasonAPI]
	}
	failures.Inc()
}
