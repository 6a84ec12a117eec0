package year

import (
	"fmt"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// readEvery is how often the exporters read the inventory, in a scenario that has one.
const readEvery = 15 * time.Minute

// existence is an instance as the inventory of its region has it.
type existence struct {
	id            string
	created, gone time.Time // gone is zero if it exists to the end
	isolated      []span
}

// exist adds an instance to the inventory of a region.
func (sc *scenario) exist(region, id string, created time.Time) *existence {
	e := &existence{id: id, created: created}
	sc.instances[region] = append(sc.instances[region], e)
	return e
}

// apisOf returns the APIs of an exporter. One that reads the inventory needs API 3.0.
func (sc *scenario) apisOf(plan exporterPlan) []crsapi.API {
	if sc.Inventory && plan.apis[len(plan.apis)-1] == crsapi.API20 {
		return append(plan.apis[:1:1], crsapi.API30)
	}
	return plan.apis
}

// inventoried returns from when on an inventory of a region may have what happened at a time.
// It has it readEvery later at the latest.
func (sc *scenario) inventoried(region string, t time.Time) time.Time {
	for _, i := range sc.incidents {
		if (i.action != "" || i.blinds) && i.region == region && !t.Before(i.from.Add(-readEvery)) && t.Before(i.to) {
			t = i.to
		}
	}
	return t
}

const unseenDeletion = "deleted, and no inventory since then"

// ends lets the instance of a life end for the inventory. As long as no inventory was read since
// then, a backup of it may seem to be missing, or to have failed last.
func (l *life) ends(at time.Time) {
	l.exists.gone = at
	if l.sc.Inventory {
		l.trouble = trouble{kind: unseenDeletion, tells: truth{right: tells(backupMissing, backupFailed), optional: true}}
		l.is(at, at.Add(readEvery), at.Add(readEvery), backup)
	}
}

// delayInventories lets creations and deletions be unseen until an inventory can be read. An
// exporter without a state file may have forgotten the last one.
func (sc *scenario) delayInventories() {
	for i := range sc.faults {
		f := &sc.faults[i]
		if f.kind == unseenDeletion {
			f.cured = sc.inventoried(f.region, f.known).Add(readEvery)
			f.until = f.cured
		}
		if !f.created.IsZero() && len(f.right) > 0 {
			f.known = latest(f.known, sc.inventoried(f.region, f.created))
			if !regionNamed(f.region).exporters[0].state {
				f.slack += sc.inventoried(f.region, f.known).Sub(f.known)
			}
		}
	}
}

// afterOutage: together with an outage before it, it may be a day without an inventory.
var afterOutage = truth{explained: tells(inventoryFailing)}

var inventoryIncidents = []incidentKind{
	{incident: incident{kind: "inventory denied for days", effect: crsapitest.APIError(4101)},
		from: 30 * time.Hour, to: 70 * time.Hour, truth: truth{right: tells(inventoryFailing), slack: 26 * time.Hour}},
	{incident: incident{kind: "inventory has half of a page", effect: crsapitest.PageCap(3)},
		from: time.Hour, to: 10 * time.Hour, truth: afterOutage},
	{incident: incident{kind: "inventory is empty", effect: crsapitest.Body(`{"Response":{"TotalCount":0,"InstanceSet":[]}}`)},
		from: time.Hour, to: 10 * time.Hour, truth: afterOutage},
	{incident: incident{kind: "total of the inventory lies", effect: crsapitest.Total(func(n int) int { return n + 1 })},
		from: time.Hour, to: 10 * time.Hour, truth: afterOutage},
}

// addInventoryIncidents lets things happen to the inventory of a region one after another.
func (sc *scenario) addInventoryIncidents(r region) {
	rng := sc.random("inventory of " + r.name)
	for t, n := begin.Add(day), rng.IntN(4); ; n++ {
		t = t.Add(upTo(rng, 2*sc.often()))
		k := inventoryIncidents[n%len(inventoryIncidents)]
		i := k.incident
		i.span, i.region, i.action = span{t, t.Add(k.from + upTo(rng, k.to-k.from))}, r.name, crsapi.ActionInstances
		if !i.from.Before(sc.end) {
			return
		}
		sc.incidents = append(sc.incidents, i)
		sc.faults = append(sc.faults, fault{
			truth: k.truth, kind: i.kind, region: i.region, known: i.from, cured: i.to, until: i.to.Add(readEvery),
		})
		t = i.to
	}
}

// forgottenKinds are what happens to instances without backups: the time until the first
// one, or until the instance is deleted.
var forgottenKinds = []struct {
	kind              string
	listed, deleted   bool // it has a task newInstance; it never gets a backup
	shortest, longest time.Duration
}{
	{"never backed up", false, false, 2 * day, 9 * day},
	{"created and forgotten", true, false, 2 * day, 12 * day},
	{"never backed up, then deleted", false, true, 2 * day, 6 * day},
	{"first backup in time", false, false, time.Hour, 20 * time.Hour},
	{"deleted soon", false, true, time.Hour, 20 * time.Hour},
}

// addForgotten adds instances that only the inventory knows, one after another.
func (sc *scenario) addForgotten(n int) {
	rng := sc.random(fmt.Sprint("forgotten ", n))
	r := regions[[]int{0, 1, 2, 4}[n%4]]
	for t, generation := begin.Add(-upTo(rng, 10*day)), 0; t.Before(sc.end); generation++ {
		k := forgottenKinds[(n/4+generation)%len(forgottenKinds)]
		l := &life{Rand: rng, sc: sc, region: r, id: fmt.Sprintf("crs-forgotten-%d-%d", n, generation)}
		created := t.Truncate(time.Second)
		l.exists = sc.exist(r.name, l.id, created)
		cured := created.Add(k.shortest + upTo(rng, k.longest-k.shortest)).Truncate(time.Second)
		if k.listed {
			l.done("newInstance", created)
		}
		gone := cured
		if !k.deleted {
			cured = l.done(backup, cured)
			gone = cured.Add(10 * time.Hour) // before the next backup is due
		}
		l.leave(gone)
		known := latest(created.Add(26*time.Hour), begin)
		l.trouble = trouble{kind: k.kind, tells: truth{right: tells(backupMissing)}}
		l.succeeded = created
		before := len(sc.faults)
		l.is(known, cured, cured, backup)
		if len(sc.faults) > before {
			sc.faults[before].slack = readEvery + 5*time.Minute
			if !k.listed {
				sc.faults[before].created = created
			}
		}
		l.ends(gone)
		t = gone.Add(upTo(rng, sc.often()))
	}
}
