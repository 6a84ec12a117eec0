// Package collector turns the task lists of package crsapi into Prometheus
// metrics. It promises that a scrape shows a complete list of a region and its
// exact counters, or crs_up 0 for it; that a region in trouble affects no other;
// and that a scrape is answered within its deadline. It does not know how a list
// is read, nor how counts are kept.
//
// A scrape takes this path: [Exporter.Handler] reads the deadline from the
// header; [Exporter.Poll] joins or starts one poll of each region; the poll
// reduces the list to a snapshot and gives the ledger the changes since the
// snapshot before; [Results] shows both.
package collector
