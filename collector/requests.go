package collector

import (
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// requestMetrics describe the requests of one region. No label comes from a response.
type requestMetrics struct {
	requests, corrections prometheus.Counter
	failures              *prometheus.CounterVec
	inventoryFailures     *prometheus.CounterVec // without a series if no inventory is read
	duration              prometheus.Histogram
	clockSkew, firstSeen  *prometheus.GaugeVec // without a series until it is known

	clock    crsapi.Clock // by the Date headers
	sent     atomic.Int64 // requests
	answered chan struct{}
}

func newRequestMetrics(registry prometheus.Registerer, region string) *requestMetrics {
	with := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"region": region}, registry))
	m := &requestMetrics{
		requests:    with.NewCounter(apiRequestsMetric.counter()),
		corrections: with.NewCounter(correctionsMetric.counter()),
		failures:    with.NewCounterVec(apiFailuresMetric.counter(), []string{"reason"}),
		clockSkew:   with.NewGaugeVec(apiClockSkewMetric.gauge(), nil),
		firstSeen:   with.NewGaugeVec(firstSeenMetric.gauge(), nil),
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

// registerInventory registers the metrics of the inventory of a region.
func (m *requestMetrics) registerInventory(registry prometheus.Registerer, region string, last *atomic.Pointer[InventoryStatus]) {
	with := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"region": region}, registry))
	m.inventoryFailures = with.NewCounterVec(inventoryFailuresMetric.counter(), []string{"reason"})
	for _, reason := range crsapi.Reasons() {
		m.inventoryFailures.WithLabelValues(string(reason))
	}
	with.NewGaugeFunc(inventoryInstancesMetric.gauge(), func() float64 { return float64(len(last.Load().Instances)) })
	with.NewGaugeFunc(inventorySuccessMetric.gauge(), func() float64 {
		return max(0, float64(last.Load().LastSuccess.Unix())) // a zero time is long before 1970
	})
}

// registerState registers the metrics of the state file.
func registerState(registry prometheus.Registerer, store *ledger.Store) {
	with := promauto.With(registry)
	with.NewCounterFunc(stateErrorsMetric.counter(), func() float64 { return float64(store.Status().Errors) })
	with.NewGaugeFunc(stateSizeMetric.gauge(), func() float64 { return float64(store.Status().Size) })
	with.NewGaugeFunc(stateLastResetMetric.gauge(), func() float64 {
		return max(0, float64(store.Status().LastReset.Unix())) // a zero time is long before 1970
	})
}

func (m *requestMetrics) fail(reason crsapi.Reason) { m.failures.WithLabelValues(string(reason)).Inc() }

// observe counts a request.
func (m *requestMetrics) observe(a crsapi.Attempt) {
	m.requests.Inc()
	m.duration.Observe(a.Duration.Seconds())
	if a.HasClockSkew {
		m.clockSkew.WithLabelValues().Set(a.ClockSkew.Seconds())
		now := time.Now()
		m.clock.Set(now.Add(a.ClockSkew), now)
	}
	if a.Action == crsapi.ActionTaskInfo || a.Action == crsapi.ActionInstances {
		return // not of a poll
	}
	m.sent.Add(1)
	if a.Reason != "" {
		m.fail(a.Reason)
		return
	}
	select {
	case m.answered <- struct{}{}:
	default:
	}
}
