package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// credentialsCollector exposes the result of a function.
type credentialsCollector struct {
	status           func() (lastLoad, expiry time.Time)
	lastLoad, expiry *prometheus.Desc
}

// NewCredentialsCollector returns a prometheus.Collector of the age and expiry of the
// credentials. It calls status at every scrape.
// A zero time is unknown.
func NewCredentialsCollector(status func() (lastLoad, expiry time.Time)) prometheus.Collector {
	desc := func(m Metric) *prometheus.Desc { return prometheus.NewDesc(m.Name, m.Help, m.Labels, nil) }
	return &credentialsCollector{status, desc(lastLoadMetric), desc(expiryMetric)}
}

// Describe implements prometheus.Collector.
func (c *credentialsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.lastLoad
	ch <- c.expiry
}

// Collect implements prometheus.Collector.
func (c *credentialsCollector) Collect(ch chan<- prometheus.Metric) {
	lastLoad, expiry := c.status()
	for desc, at := range map[*prometheus.Desc]time.Time{c.lastLoad: lastLoad, c.expiry: expiry} {
		if !at.IsZero() {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(at.UnixNano())/float64(time.Second))
		}
	}
}
