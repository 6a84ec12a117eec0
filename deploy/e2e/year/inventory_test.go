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

// inventoried returns from when on an inventory of a region, or of an exporter of a pair, may have
// what happened at a time. It has it readEvery later at the latest.
func (sc *scenario) inventoried(region, exporter string, t time.Time) time.Time {
	for _, i := range sc.incidents {
		fails := i.action != "" || i.blinds || i.exporter != "" && i.exporter == exporter
		if fails && i.region == region && !t.Before(i.from.Add(-readEvery)) && t.Before(i.to) {
			t = i.to
		}
	}
	return t
}

// ends lets the instance of a life end for the inventory. As long as no inventory was read since
// then, a backup of it may seem to be missing, or to have failed last.
func (l *life) ends(at time.Time) {
	l.exists.gone = at
	if l.sc.Inventory {
		l.trouble = trouble{
			kind:  "deleted, and no inventory since then",
			tells: truth{right: tells(backupMissing, backupFailed), optional: true},
		}
		seen := at // by each exporter: one of a pair may be left that was away
		for _, e := range l.region.exporters {
			seen = latest(seen, l.sc.inventoried(l.region.name, e.address, at).Add(readEvery))
		}
		l.is(at, seen, seen, backup)
	}
}

// afterOutage: together with an outage before it, it may be a day without an inventory.
var afterOutage = truth{explained: tells(inventoryFailing)}

var inventoryIncidents = []incidentKind{
	{incident: incident{kind: "inventory denied for days", action: crsapi.ActionInstances,
		effect: crsapitest.APIError(4101)}, weight: 1,
		from: 30 * time.Hour, to: 70 * time.Hour, truth: truth{right: tells(inventoryFailing), slack: 26 * time.Hour}},
	{incident: incident{kind: "inventory has half of a page", action: crsapi.ActionInstances,
		effect: crsapitest.PageCap(3)}, weight: 1, from: time.Hour, to: 10 * time.Hour, truth: afterOutage},
	{incident: incident{kind: "inventory is empty", action: crsapi.ActionInstances,
		effect: crsapitest.Body(`{"Response":{"TotalCount":0,"InstanceSet":[]}}`)}, weight: 1,
		from: time.Hour, to: 10 * time.Hour, truth: afterOutage},
	{incident: incident{kind: "total of the inventory lies", action: crsapi.ActionInstances,
		effect: crsapitest.Total(func(n int) int { return n + 1 })}, weight: 1,
		from: time.Hour, to: 10 * time.Hour, truth: afterOutage},
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

// addForgotten adds instances that only the inventory knows, one after another. An exporter
// without a state file may have forgotten the last inventory, and tell later.
func (sc *scenario) addForgotten(n int) {
	rng := sc.random(fmt.Sprint("forgotten ", n))
	r := regions[n%len(regions)]
	for t, generation := begin.Add(-rng.upTo(10*day)), 0; t.Before(sc.end); generation++ {
		k := forgottenKinds[(n/len(regions)+generation)%len(forgottenKinds)]
		l := &life{random: rng, sc: sc, region: r, id: fmt.Sprintf("crs-forgotten-%d-%d", n, generation)}
		created := t.Truncate(time.Second)
		l.exists = sc.exist(r.name, l.id, created)
		known, slack := latest(created.Add(26*time.Hour), begin), readEvery+5*time.Minute
		if k.listed {
			l.done("newInstance", created)
		} else {
			known = latest(known, sc.inventoried(r.name, "", created))
			if !r.exporters[0].state {
				slack += sc.inventoried(r.name, "", known).Sub(known)
			}
		}
		cured := created.Add(k.shortest + rng.upTo(k.longest-k.shortest)).Truncate(time.Second)
		gone := cured
		if !k.deleted {
			cured = l.done(backup, cured)
			gone = cured.Add(10 * time.Hour) // before the next backup is due
		}
		l.leave(gone)
		l.trouble = trouble{kind: k.kind, tells: truth{right: tells(backupMissing), slack: slack}}
		l.succeeded = created
		l.is(known, cured, cured, backup)
		l.ends(gone)
		t = gone.Add(rng.upTo(sc.often()))
	}
}
