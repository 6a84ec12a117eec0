package year

import (
	"math/rand/v2"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// incident is something that happens to the API, an exporter or Prometheus.
type incident struct {
	kind string
	span
	region   string // empty for Prometheus
	exporter string // address; empty for the region or Prometheus

	effect     crsapitest.Effect // on the region's requests; nil for none
	rate       float64           // of requests with the effect; 0 for all
	api        string            // only of this API
	action     string            // only of this action
	everyOther bool              // the effect is there at every other scrape only
	rawRow     string            // a row that cannot be read

	exporterDoes exporterDoes
	behind       time.Duration // how far a zone that is misread is behind the API's
	promDoes     promDoes
	auto         bool // afterwards the exporter reads through any API

	blinds bool // the region cannot be watched meanwhile
}

type exporterDoes int

const (
	nothing   exporterDoes = iota
	down                   // does not run, so a scrape fails
	away                   // service discovery does not have it
	cut                    // cannot reach the API
	unscraped              // runs, but scrapes of it fail
	misread                // takes the API's times for those of another zone
	moves                  // is replaced by one with another address
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
	calm  = func(r region) bool { return r.calm }

	pollsFail  = truth{right: tells(pollFailing, unwatched), explained: tells(inventoryFailing), slack: 20 * time.Minute}
	areRefused = truth{right: tells(refused), explained: tells(pollFailing, unwatched, inventoryFailing), slack: 10 * time.Minute}
)

var regionIncidents = []incidentKind{
	{incident: incident{kind: "API down for minutes", effect: crsapitest.HTTPStatus(502), blinds: true}, weight: 6,
		from: 2 * time.Minute, to: 8 * time.Minute, truth: truth{right: tells(pollFailing), optional: true}},
	{incident: incident{kind: "API down for hours", effect: crsapitest.ResetBeforeHeaders, blinds: true}, weight: 4,
		from: 90 * time.Minute, to: 5 * time.Hour, truth: pollsFail},
	{incident: incident{kind: "API hangs for nine hours", effect: crsapitest.Hang, blinds: true}, weight: 2,
		from: 7 * time.Hour, to: 11 * time.Hour, truth: pollsFail},
	{incident: incident{kind: "API down for days", effect: crsapitest.HTTPStatus(503), blinds: true}, weight: 1,
		from: 26 * time.Hour, to: 60 * time.Hour, truth: pollsFail},
	{incident: incident{kind: "every other poll fails", effect: crsapitest.HTTPStatus(502), everyOther: true}, weight: 2,
		from: 20 * time.Hour, to: 24 * time.Hour,
		truth: truth{right: tells(pollFailing), explained: tells(unwatched), slack: time.Hour}},
	{incident: incident{kind: "throttled", effect: crsapitest.APIError(4400), rate: 0.5}, weight: 3,
		from: 2 * time.Hour, to: 6 * time.Hour,
		truth: truth{right: tells(throttled), explained: tells(pollFailing, unwatched), slack: 35 * time.Minute}},
	{incident: incident{kind: "keys refused", effect: crsapitest.APIError(4100), blinds: true}, weight: 3,
		from: 3 * time.Hour, to: 10 * time.Hour, truth: areRefused},
	{incident: incident{kind: "permission denied", effect: crsapitest.APIError(4102), blinds: true}, weight: 2,
		from: 3 * time.Hour, to: 10 * time.Hour, truth: areRefused},
	// An exporter whose clock is late sees a Date that is ahead. The clock of a bubble is
	// everybody's, so that the API's header tells of it.
	{incident: incident{kind: "clock wrong by minutes", effect: crsapitest.DateSkew(2 * time.Minute)}, weight: 2,
		from: 2 * time.Hour, to: 8 * time.Hour, truth: truth{right: tells(clock), slack: 15 * time.Minute}},
	{incident: incident{kind: "clock wrong by more than the API allows", blinds: true,
		effect: crsapitest.All(crsapitest.DateSkew(20*time.Minute), crsapitest.APIError(4200))}, weight: 1,
		from: 2 * time.Hour, to: 8 * time.Hour,
		truth: truth{right: tells(refused, clock), explained: tells(pollFailing, unwatched), slack: 15 * time.Minute}},
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
	{incident: incident{kind: "some scrapes fail", exporterDoes: unscraped, blinds: true}, weight: 4,
		from: 2 * time.Minute, to: 4 * time.Minute},
	{incident: incident{kind: "exporter moves", exporterDoes: moves, blinds: true}, weight: 3, from: time.Minute, to: 3 * time.Minute},

	// The next task that is submitted shows it.
	{incident: incident{kind: "wrong time zone", exporterDoes: misread, behind: 3 * time.Hour}, weight: 1, of: calm,
		from: 30 * time.Hour, to: 60 * time.Hour, truth: truth{right: tells(clock), slack: 25 * time.Hour}},
	// The alert takes the smallest delay of a day, so one from before hides it so long.
	{incident: incident{kind: "wrong time zone, tasks look six hours old", exporterDoes: misread, behind: -6 * time.Hour},
		weight: 1, of: calm, from: 60 * time.Hour, to: 80 * time.Hour,
		truth: truth{right: tells(clock), explained: tells(backupMissing, backupStuck, taskStuck, taskFailed), slack: 50 * time.Hour}},
}

var retirement = incidentKind{
	incident: incident{kind: "API 2.0 retired", effect: crsapitest.RetiredForbidden, api: "2.0", blinds: true, auto: true},
	from:     3 * time.Hour, to: 8 * time.Hour,
	truth: truth{right: tells(refused), explained: tells(pollFailing, unwatched), slack: 15 * time.Minute},
}

// changeOver is the same retirement where the exporter goes on through API 3.0.
var changeOver = incidentKind{incident: incident{kind: "change-over to API 3.0", effect: crsapitest.RetiredForbidden, api: "2.0"}}

var prometheusIncidents = []incidentKind{
	{incident: incident{kind: "Prometheus restarts", promDoes: stopped, blinds: true}, weight: 5, from: 2 * time.Minute, to: 4 * time.Minute},
	{incident: incident{kind: "Prometheus is down for a while", promDoes: stopped, blinds: true}, weight: 3,
		from: 7 * time.Minute, to: 45 * time.Minute},
	{incident: incident{kind: "Prometheus loses its data", promDoes: lost, blinds: true}, weight: 1,
		from: 2 * time.Minute, to: 10 * time.Minute},
}

// addIncidents lets things happen to a region one after another.
func (sc *scenario) addIncidents(r region) {
	rng := sc.random("region " + r.name)
	retired := begin.Add(sc.end.Sub(begin)*3/5 + 90*time.Minute)
	over := false
	for t := begin.Add(12 * time.Hour); ; {
		t = t.Add(4*time.Hour + upTo(rng, sc.often()/2))
		k := pick(rng, regionIncidents, func(k incidentKind) int {
			if k.of != nil && !k.of(r) || r.calm && k.exporterDoes != misread && k.exporterDoes != moves {
				return 0
			}
			return k.weight
		})
		if !over && !r.calm && t.After(retired) {
			over = true
			k = retirement
			if apis := sc.apisOf(r.exporters[0]); len(apis) > 1 || apis[0] != "2.0" {
				k = changeOver
				k.from, k.to = sc.end.Sub(t), sc.end.Sub(t) // for good
			}
		}
		i := k.incident
		i.span, i.region = span{t, t.Add(k.from + upTo(rng, k.to-k.from))}, r.name
		if i.exporterDoes != nothing {
			i.exporter = r.exporters[rng.IntN(len(r.exporters))].address
			i.blinds = i.blinds && len(r.exporters) == 1
		}
		if !i.from.Before(sc.end) {
			return
		}
		sc.happen(i, k)
		if k.kind != changeOver.kind {
			t = i.to
		}
		if k.kind == retirement.kind { // API 2.0 stays retired; the exporter reads through the other
			after := changeOver.incident
			after.kind, after.region, after.span = "API 2.0 stays retired", r.name, span{i.to, sc.end}
			sc.incidents = append(sc.incidents, after)
		}
	}
}

func (sc *scenario) addPrometheusIncidents() {
	rng := sc.random("Prometheus")
	for t := begin.Add(day); ; {
		t = t.Add(2*time.Hour + upTo(rng, sc.often()))
		k := pick(rng, prometheusIncidents, func(k incidentKind) int { return k.weight })
		i := k.incident
		i.span = span{t, t.Add(k.from + upTo(rng, k.to-k.from))}
		if !i.from.Before(sc.end) {
			return
		}
		sc.happen(i, k)
		t = i.to
	}
}

// upTo returns a random time of whole seconds.
func upTo(rng *rand.Rand, d time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	return time.Duration(rng.Int64N(int64(d))).Truncate(time.Second)
}

// happen adds an incident and the truth about it.
func (sc *scenario) happen(i incident, k incidentKind) {
	sc.incidents = append(sc.incidents, i)
	sc.faults = append(sc.faults, fault{
		truth: k.truth, kind: i.kind, region: i.region, instance: i.exporter,
		known: i.from, cured: i.to, until: i.to, misread: i.exporterDoes == misread,
	})
}
