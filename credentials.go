package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/prometheus/client_golang/prometheus"
)

// findCredentials sets the credentials of the API. It returns nil if they are
// set already.
func (s *settings) findCredentials(ctx context.Context) (*credentials.Renewer, error) {
	if s.api.Credentials != nil {
		return nil, nil
	}
	s.credentials.PrivateCloud = crsapi.API(s.apiChoice) == crsapi.APITCE
	renewer, err := credentials.Find(ctx, s.credentials)
	switch {
	case errors.Is(err, credentials.ErrNotFound) && s.credentials.File == "":
		return nil, fmt.Errorf("no credentials: set %s and %s, or use --crs.credentials-file, or run with a role, or try --demo (%s)",
			credentials.EnvSecretID, credentials.EnvSecretKey, strings.TrimPrefix(err.Error(), credentials.ErrNotFound.Error()+": "))
	case err != nil:
		return nil, err
	}
	s.api.Credentials = renewer
	return renewer, nil
}

// credentialsMetrics describes what a credentialsCollector exposes.
func credentialsMetrics() []collector.Metric {
	return []collector.Metric{
		{
			Name: "crs_credentials_last_load_timestamp_seconds", Type: "gauge",
			Help: "When the credentials in use were read from their source, in seconds since the epoch. A role is first read when it is first needed.",
		},
		{
			Name: "crs_credentials_expiry_timestamp_seconds", Type: "gauge",
			Help: "When the credentials in use expire, in seconds since the epoch. No series if no expiry is known, as with the environment and a file.",
		},
	}
}

// credentialsCollector exposes the age and expiry of the credentials.
type credentialsCollector struct {
	status           func() credentials.Status
	lastLoad, expiry *prometheus.Desc
}

var _ prometheus.Collector = (*credentialsCollector)(nil)

func newCredentialsCollector(status func() credentials.Status) *credentialsCollector {
	metrics := credentialsMetrics()
	return &credentialsCollector{
		status:   status,
		lastLoad: prometheus.NewDesc(metrics[0].Name, metrics[0].Help, metrics[0].Labels, nil),
		expiry:   prometheus.NewDesc(metrics[1].Name, metrics[1].Help, metrics[1].Labels, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *credentialsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.lastLoad
	ch <- c.expiry
}

// Collect implements prometheus.Collector.
func (c *credentialsCollector) Collect(ch chan<- prometheus.Metric) {
	status := c.status()
	for desc, at := range map[*prometheus.Desc]time.Time{c.lastLoad: status.LastLoad, c.expiry: status.Expiry} {
		if !at.IsZero() {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(at.UnixNano())/float64(time.Second))
		}
	}
}
