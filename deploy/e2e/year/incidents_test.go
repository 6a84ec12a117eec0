package year

import (
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// incident is something that happens to the API, an exporter or Prometheus.
type incident struct {
	kind string
	span
	region   string // empty for Prometheus
	exporter string // address; empty for the region or Prometheus

	effect crsapitest.Effect // on the region's requests; nil for none
	rate   float64           // of requests with the effect; 0 for all
	api    string            // only of this API
	action string            // only of this action
	rawRow string            // a row that cannot be read

	exporterDoes exporterDoes
	promDoes     promDoes

	blinds bool // the region cannot be watched meanwhile
}

type exporterDoes int

const (
	nothing exporterDoes = iota
	down                 // does not run, so a scrape fails
	away                 // service discovery does not have it
	cut                  // cannot reach the API
	moves                // is replaced by one with another address
)

type promDoes int

const (
	runs promDoes = iota
	stopped
	lost // stopped, and its data is lost
)

// incidentKind is a kind of incident, and what is right to tell about it.
type incidentKind struct {
	incident
	weight   int
	of       func(region) bool // which regions can have it; nil for all
	from, to time.Duration     // it lasts so long
	truth
}

var (
	pair  = func(r region) bool { return len(r.exporters) > 1 }
	alone = func(r region) bool { return len(r.exporters) == 1 }

	pollsFail = truth{right: tells(pollFailing, unwatched), slack: 20 * time.Minute}
)

var regionIncidents = []incidentKind{
	{incident: incident{kind: "API down for minutes", effect: crsapitest.HTTPStatus(502), blinds: true}, weight: 6,
		from: 2 * time.Minute, to: 8 * time.Minute, truth: truth{right: tells(pollFailing), optional: true}},
	{incident: incident{kind: "API down for hours", effect: crsapitest.ResetBeforeHeaders, blinds: true}, weight: 4,
		from: 90 * time.Minute, to: 5 * time.Hour, truth: pollsFail},
	{incident: incident{kind: "API hangs for days", effect: crsapitest.Hang, blinds: true}, weight: 1,
		from: 26 * time.Hour, to: 60 * time.Hour, truth: pollsFail},
	{incident: incident{kind: "throttled", effect: crsapitest.APIError(4400), rate: 0.5}, weight: 3,
		from: 2 * time.Hour, to: 6 * time.Hour,
		truth: truth{right: tells(throttled), explained: tells(pollFailing, unwatched), slack: 35 * time.Minute}},
	{incident: incident{kind: "keys refused", effect: crsapitest.APIError(4100), blinds: true}, weight: 3,
		from: 3 * time.Hour, to: 10 * time.Hour,
		truth: truth{right: tells(refused), explained: tells(pollFailing, unwatched), slack: 10 * time.Minute}},
	// An exporter whose clock is late sees a Date that is ahead. The clock of a bubble is
	// everybody's, so that the API's header tells of it.
	{incident: incident{kind: "clock wrong by minutes", effect: crsapitest.DateSkew(2 * time.Minute)}, weight: 2,
		from: 2 * time.Hour, to: 8 * time.Hour, truth: truth{right: tells(clock), slack: 15 * time.Minute}},
	{incident: incident{kind: "a row that cannot be read",
		rawRow: `{"redisId":"crs-unreadable","startTime":"soon","taskName":"backupInstance","status":3}`}, weight: 2,
		from: 2 * time.Hour, to: 12 * time.Hour, truth: truth{right: tells(rowsRejected), slack: 15 * time.Minute}},

	{incident: incident{kind: "exporter restarts", exporterDoes: down}, weight: 6, from: time.Minute, to: 2 * time.Minute},
	{incident: incident{kind: "exporter down for hours", exporterDoes: down, blinds: true}, weight: 3, of: alone,
		from: 2 * time.Hour, to: 9 * time.Hour,
		truth: truth{right: tells(exporterDown), explained: tells(unwatched), slack: 10 * time.Minute}},
	{incident: incident{kind: "one of a pair down for days", exporterDoes: down}, weight: 3, of: pair,
		from: 30 * time.Hour, to: 60 * time.Hour, truth: truth{right: tells(exporterDown), slack: 10 * time.Minute}},
	{incident: incident{kind: "one of a pair cannot reach the API", exporterDoes: cut}, weight: 3, of: pair,
		from: 20 * time.Hour, to: 60 * time.Hour, truth: truth{right: tells(pollFailing, unwatched, exporterDown), slack: 65 * time.Minute}},
	{incident: incident{kind: "exporter leaves service discovery", exporterDoes: away, blinds: true}, weight: 2, of: alone,
		from: 5 * time.Hour, to: 40 * time.Hour, truth: truth{right: tells(exporterDown, unwatched, pollFailing), slack: 65 * time.Minute}},
	{incident: incident{kind: "exporter moves", exporterDoes: moves, blinds: true}, weight: 3, from: time.Minute, to: 3 * time.Minute},
}

var prometheusIncidents = []incidentKind{
	{incident: incident{kind: "Prometheus is down", promDoes: stopped, blinds: true}, weight: 4,
		from: 2 * time.Minute, to: 45 * time.Minute},
	{incident: incident{kind: "Prometheus loses its data", promDoes: lost, blinds: true}, weight: 1,
		from: 2 * time.Minute, to: 10 * time.Minute},
}

// addIncidents lets things happen to a region or to Prometheus, one after another, and adds the
// truth about them.
func (sc *scenario) addIncidents(r region, kinds []incidentKind, atLeast, often time.Duration) {
	rng := sc.random(r.name + kinds[0].kind)
	for t := begin.Add(12 * time.Hour); ; {
		t = t.Add(atLeast + rng.upTo(often))
		k := pick(rng, kinds, func(k incidentKind) int {
			if k.of != nil && !k.of(r) {
				return 0
			}
			return k.weight
		})
		i := k.incident
		i.span, i.region = span{t, t.Add(k.from + rng.upTo(k.to-k.from))}, r.name
		if i.exporterDoes != nothing {
			i.exporter = r.exporters[rng.IntN(len(r.exporters))].address
			i.blinds = i.blinds && alone(r)
		}
		if !i.from.Before(sc.end) {
			return
		}
		if t = i.to; i.action == "" && i.from.Before(sc.retired.Add(time.Hour)) && i.to.After(sc.retired) {
			continue // an exporter that cannot go on to API 3.0 is refused by API 2.0
		}
		sc.incidents = append(sc.incidents, i)
		sc.faults = append(sc.faults, fault{
			truth: k.truth, kind: i.kind, region: i.region, instance: i.exporter, known: i.from, cured: i.to, until: i.to,
		})
	}
}
