package collector

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// goMetrics is the standard collector of go_* without one gauge. In OpenMetrics
// the family of a counter has no suffix _total, so go_memstats_alloc_bytes and
// go_memstats_alloc_bytes_total are the same family there. The gauge is left out,
// because go_memstats_heap_alloc_bytes has the same value.
type goMetrics struct {
	prometheus.Collector
	leftOut *prometheus.Desc
}

func newGoMetrics() prometheus.Collector {
	c := goMetrics{Collector: collectors.NewGoCollector()}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		c.Describe(descs)
	}()
	for desc := range descs {
		if strings.Contains(desc.String(), `"go_memstats_alloc_bytes"`) {
			c.leftOut = desc
		}
	}
	return c
}

// Collect implements prometheus.Collector.
func (c goMetrics) Collect(ch chan<- prometheus.Metric) {
	metrics := make(chan prometheus.Metric)
	go func() {
		defer close(metrics)
		c.Collector.Collect(metrics)
	}()
	for m := range metrics {
		if m.Desc() != c.leftOut {
			ch <- m
		}
	}
}
