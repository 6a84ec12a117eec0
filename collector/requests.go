package collector

import (
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// requestMetrics describe the requests of one region. No label comes from a response.
type requestMetrics struct {
	requests, corrections prometheus.Counter
	failures              *prometheus.CounterVec
	duration              prometheus.Histogram
	clockSkew, firstSeen  *prometheus.GaugeVec // without a series until it is known

	clock    crsapi.Clock // by the Date headers
	sent     atomic.Int64 // requests
	answered chan struct{}
}

func newRequestMetrics(registry prometheus.Registerer, region string) *requestMetrics {
	with := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"region": region}, registry))
	counter := func(m Metric) prometheus.CounterOpts { return prometheus.CounterOpts{Name: m.Name, Help: m.Help} }
	gauge := func(m Metric) prometheus.GaugeOpts { return prometheus.GaugeOpts{Name: m.Name, Help: m.Help} }
	m := &requestMetrics{
		requests:    with.NewCounter(counter(apiRequestsMetric)),
		corrections: with.NewCounter(counter(correctionsMetric)),
		failures:    with.NewCounterVec(counter(apiFailuresMetric), []string{"reason"}),
		clockSkew:   with.NewGaugeVec(gauge(apiClockSkewMetric), nil),
		firstSeen:   with.NewGaugeVec(gauge(firstSeenMetric), nil),
		duration: with.NewHistogram(prometheus.HistogramOpts{
			Name:                            apiDurationMetric.Name,
			Help:                            apiDurationMetric.Help,
			Buckets:                         []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		answered: make(chan struct{}, 1),
	}
	for _, reason := range crsapi.Reasons() {
		m.failures.WithLabelValues(string(reason))
	}
	return m
}

func (m *requestMetrics) fail(reason crsapi.Reason) { m.failures.WithLabelValues(string(reason)).Inc() }

// observe counts a request.
func (m *requestMetrics) observe(a crsapi.Attempt) {
	m.requests.Inc()
	m.sent.Add(1)
	m.duration.Observe(a.Duration.Seconds())
	if a.Reason == "" {
		select {
		case m.answered <- struct{}{}:
		default:
		}
	} else if a.Action != crsapi.ActionTaskInfo { // a reason that is not logged harms no list
		m.fail(a.Reason)
	}
	if a.HasClockSkew {
		m.clockSkew.WithLabelValues().Set(a.ClockSkew.Seconds())
		now := time.Now()
		m.clock.Set(now.Add(a.ClockSkew), now)
	}
}
