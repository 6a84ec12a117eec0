// Package collector turns the task lists of package crsapi into Prometheus
// metrics.
//
// A scrape walks through it in this order: [Exporter.Handler] takes the
// deadline from the scrape's header; [Exporter.Poll] joins or begins one sweep
// of each region, side by side; a sweep is summed up in a snapshot; the
// region's ledger tells what turned since the sweep before; [Results] gives
// both to the scrape.
package collector
