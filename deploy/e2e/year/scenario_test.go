package year

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// begin is the first moment of every scenario. A bubble begins in January 2000; the
// time up to here is the history that the first scrape finds listed.
var begin = time.Date(2000, time.March, 1, 0, 0, 0, 0, time.UTC)

const backup = "backupInstance"

// span is the time from one moment until, but not including, another one.
type span struct{ from, to time.Time }

func (s span) contains(t time.Time) bool { return !t.Before(s.from) && t.Before(s.to) }

// change is the moment at which a task gets a status.
type change struct {
	at     time.Time
	status crsapi.Status
}

// task is one row of a task list from its submission until it leaves the list.
type task struct {
	id       int64
	redisID  string
	taskName string
	changes  []change // the first one is the submission
	leaves   time.Time
}

func (t *task) submitted() time.Time { return t.changes[0].at }

func (t *task) end() time.Time { return t.changes[len(t.changes)-1].at }

// overdue is when a task that still runs has run for too long.
func (t *task) overdue() time.Time { return t.submitted().Add(3 * time.Hour) }

// schedule is when an instance is backed up.
type schedule struct {
	every    time.Duration
	first    time.Duration // of the slots of a day or week, after its midnight
	workdays bool          // not on Saturday and Sunday
	needs    time.Duration // the rows must be listed for this long
	weight   int
}

var schedules = []schedule{
	{every: day, weight: 14},
	{every: 8 * time.Hour, weight: 3},
	{every: 7 * day, needs: 30 * day, weight: 4},
	{every: day, needs: 30 * day, weight: 2, workdays: true},
}

// next returns the first slot after t.
func (s schedule) next(t time.Time) time.Time {
	slot := t.Truncate(s.every).Add(s.first)
	for !slot.After(t) || s.workdays && (slot.Weekday() == time.Saturday || slot.Weekday() == time.Sunday) {
		slot = slot.Add(s.every)
	}
	return slot
}

// region is a region of the account, and who watches it.
type region struct {
	name      string
	retention time.Duration // a row leaves the list at this age
	exporters []exporterPlan
}

type exporterPlan struct {
	address string
	apis    []crsapi.API
	state   bool // keeps a state file
}

var regions = []region{
	{"ap-guangzhou", 7 * day, []exporterPlan{
		{"gz:10991", []crsapi.API{crsapi.API20, crsapi.API30}, true},
	}},
	{"ap-shanghai", 30 * day, []exporterPlan{ // a pair
		{"sh-a:10991", []crsapi.API{crsapi.API20, crsapi.API30}, true},
		{"sh-b:10991", []crsapi.API{crsapi.API20, crsapi.API30}, true},
	}},
	{"ap-beijing", 7 * day, []exporterPlan{
		{"bj:10991", []crsapi.API{crsapi.API30}, false},
	}},
}

func regionNamed(name string) region {
	return regions[slices.IndexFunc(regions, func(r region) bool { return r.name == name })]
}

// rename gives an instance another name. All of its rows show it.
type rename struct {
	at            time.Time
	redisID, name string
}

// scenario is everything that happens, and the truth about it. It depends on its
// options only.
type scenario struct {
	options
	end       time.Time
	retired   time.Time          // when API 2.0 is
	tasks     map[string][]*task // by region
	instances map[string][]*existence
	renames   []rename
	incidents []incident
	faults    []fault
}

type options struct {
	Seed      uint64
	Days      int
	Instances int
	Coarse    bool // scrape and evaluate less often while nothing happens
	Inventory bool // the exporters read the instances of the regions, some of which have no task

	// Script, if there is one, has one kind of trouble for each instance. Each happens once,
	// and nothing else does.
	Script []string
}

// often is the mean time between two troubles of an instance. In a short scenario more
// goes wrong, so that it has something of most kinds.
func (sc *scenario) often() time.Duration {
	if sc.Days <= 31 {
		return 3 * day
	}
	return 8 * day
}

func newScenario(o options) *scenario {
	sc := &scenario{options: o, end: begin.AddDate(0, 0, o.Days)}
	sc.tasks, sc.instances = map[string][]*task{}, map[string][]*existence{}
	if o.Script == nil {
		// The exporters that read through API 2.0 go on through API 3.0, and tell nothing.
		sc.retired = begin.Add(sc.end.Sub(begin)*3/5 + 90*time.Minute)
		sc.incidents = append(sc.incidents, incident{
			kind: "API 2.0 retired", span: span{sc.retired, sc.end}, effect: crsapitest.RetiredForbidden, api: "2.0",
		})
		sc.addIncidents(region{}, prometheusIncidents, 2*time.Hour, sc.often())
		for _, r := range regions {
			sc.addIncidents(r, regionIncidents, 4*time.Hour, sc.often()/2)
			if o.Inventory {
				sc.addIncidents(r, inventoryIncidents, 0, 2*sc.often())
			}
		}
	}
	slices.SortStableFunc(sc.incidents, func(a, b incident) int { return a.from.Compare(b.from) })
	for i := range o.Instances {
		sc.addInstance(i)
	}
	if o.Inventory {
		for n := range max(4, o.Instances/3) {
			sc.addForgotten(n)
		}
	}
	var id int64
	for _, r := range regions {
		slices.SortStableFunc(sc.tasks[r.name], func(a, b *task) int { return a.submitted().Compare(b.submitted()) })
		for _, t := range sc.tasks[r.name] {
			id++
			t.id = id
		}
	}
	slices.SortStableFunc(sc.renames, func(a, b rename) int { return a.at.Compare(b.at) })
	slices.SortStableFunc(sc.faults, func(a, b fault) int {
		return cmp.Or(a.known.Compare(b.known), cmp.Compare(a.region, b.region), cmp.Compare(a.redisID, b.redisID))
	})
	return sc
}

// random is a source that depends on the seed and a name only, so that what happens to one
// subject does not change when another one is added.
type random struct{ *rand.Rand }

func (sc *scenario) random(subject string) random {
	h := sc.Seed
	for _, c := range subject {
		h = h*1099511628211 + uint64(c)
	}
	return random{rand.New(rand.NewPCG(sc.Seed, h))}
}

// upTo returns a random time of whole seconds.
func (r random) upTo(d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d/time.Second))) * time.Second
}

func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var merged []span
	for _, s := range spans {
		if n := len(merged); n > 0 && !s.from.After(merged[n-1].to) {
			merged[n-1].to = latest(merged[n-1].to, s.to)
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// steps returns the moments of the scrapes: each minute around the begin and the end of a fault
// or an incident, and while some requests fail; else each fourth minute, if coarse. That is less
// than the five minutes for which Prometheus sees a sample, so that no series ends because of
// it, and rules that read their own last result still do.
func (sc *scenario) steps() (steps []time.Time) {
	busy := map[time.Time]bool{}
	watch := func(from, to time.Time) {
		for t := from.Add(-6 * time.Minute).Truncate(time.Minute); t.Before(to); t = t.Add(time.Minute) {
			busy[t] = true
		}
	}
	for _, f := range sc.faults {
		if len(f.right) > 0 {
			watch(f.known, f.known.Add(10*time.Minute))
			watch(f.cured, f.cured.Add(10*time.Minute))
		}
	}
	for _, i := range sc.incidents {
		watch(i.from, i.from.Add(40*time.Minute))
		watch(i.to, i.to.Add(40*time.Minute))
		if i.rate > 0 {
			watch(i.from, i.to)
		}
	}
	for t := begin; t.Before(sc.end); t = t.Add(time.Minute) {
		if !sc.Coarse || busy[t] || t.Minute()%4 == 0 {
			steps = append(steps, t)
		}
	}
	return steps
}
