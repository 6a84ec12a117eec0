package year

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crs-exporter/crs_exporter/crsapi"
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
	except   bool          // the operator makes an exception for it
	weight   int
}

// exception is the age of the last good backup that an operator allows for some instances.
const exception = 8 * day

var schedules = []schedule{
	{every: day, weight: 14},
	{every: 8 * time.Hour, weight: 3},
	{every: 7 * day, needs: 30 * day, weight: 2},
	{every: 7 * day, needs: 30 * day, weight: 2, except: true},
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
	shown     string // the name by which its account has it; empty for the same
	account   string
	retention time.Duration // a row leaves the list at this age
	exporters []exporterPlan
	calm      bool // nothing goes wrong with its instances
}

type exporterPlan struct {
	address string
	apis    []crsapi.API
	state   bool // keeps a state file
}

var regions = []region{
	{name: "ap-guangzhou", account: "a", retention: 7 * day, exporters: []exporterPlan{
		{"gz:10991", []crsapi.API{crsapi.API20}, true},
	}},
	{name: "ap-shanghai", account: "a", retention: 30 * day, exporters: []exporterPlan{ // a pair, which switches to API 3.0
		{"sh-a:10991", []crsapi.API{crsapi.API20, crsapi.API30}, true},
		{"sh-b:10991", []crsapi.API{crsapi.API20, crsapi.API30}, true},
	}},
	{name: "ap-beijing", account: "a", retention: 7 * day, exporters: []exporterPlan{
		{"bj:10991", []crsapi.API{crsapi.API30}, false},
	}},
	{name: "ap-chengdu", account: "a", retention: 7 * day, calm: true, exporters: []exporterPlan{ // now and then in a wrong zone
		{"cd:10991", []crsapi.API{crsapi.API20}, false},
	}},
	{name: "ap-hongkong", shown: "ap-guangzhou", account: "b", retention: 7 * day, exporters: []exporterPlan{
		{"b:10991", []crsapi.API{crsapi.API20}, true},
	}},
}

func regionNamed(name string) region {
	return regions[slices.IndexFunc(regions, func(r region) bool { return r.name == name })]
}

// regionOf returns the region that an alert is about.
func regionOf(l labels.Labels) string {
	for _, r := range regions {
		if r.account == l.Get("account") && cmp.Or(r.shown, r.name) == l.Get("region") {
			return r.name
		}
	}
	return ""
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
	tasks     map[string][]*task // by region
	instances map[string][]*existence
	renames   []rename
	incidents []incident
	faults    []fault
	excepted  []string // ids of the instances that have an exception
}

type options struct {
	Seed      uint64
	Days      int
	Instances int
	Coarse    bool // scrape and evaluate less often while nothing happens
	Inventory bool // the exporters read the instances of the regions, some of which have no task

	NoExceptions bool // that an operator makes

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
	sc := &scenario{options: o, end: begin.AddDate(0, 0, o.Days), tasks: map[string][]*task{}, instances: map[string][]*existence{}}
	if o.Inventory && o.Script == nil {
		for _, r := range regions {
			sc.addInventoryIncidents(r)
		}
	}
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
		slices.SortStableFunc(sc.tasks[r.name], func(a, b *task) int {
			return a.submitted().Compare(b.submitted())
		})
		before := id
		for _, t := range sc.tasks[r.name] {
			id++
			t.id = id
		}
		if o.Script == nil && id > before {
			sc.addIncidents(r)
		}
	}
	if o.Script == nil {
		sc.addPrometheusIncidents()
	}
	slices.SortStableFunc(sc.renames, func(a, b rename) int { return a.at.Compare(b.at) })
	slices.SortStableFunc(sc.incidents, func(a, b incident) int { return a.from.Compare(b.from) })
	sc.delayInventories()
	slices.SortStableFunc(sc.faults, func(a, b fault) int {
		return cmp.Or(a.known.Compare(b.known), cmp.Compare(a.region, b.region), cmp.Compare(a.redisID, b.redisID))
	})
	return sc
}

// burst reports if many backups of a region fail in the night of a slot.
func (sc *scenario) burst(region string, slot time.Time) bool {
	night := slot.Sub(begin) / day
	return sc.Script == nil && slot.After(begin.Add(day)) && sc.random(fmt.Sprint("burst", region, night)).IntN(20) == 0
}

// random returns a source that depends on the seed and a name only, so that what
// happens to one subject does not change when another one is added.
func (sc *scenario) random(subject string) *rand.Rand {
	h := sc.Seed
	for _, c := range subject {
		h = h*1099511628211 + uint64(c)
	}
	return rand.New(rand.NewPCG(sc.Seed, h))
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

// fine returns the times at which every minute counts: around the begin and the end of
// each fault and incident, and while some of the polls or requests fail.
func (sc *scenario) fine() []span {
	var spans []span
	around := func(t time.Time, after time.Duration) {
		spans = append(spans, span{t.Add(-2 * time.Minute), t.Add(after)})
	}
	for _, f := range sc.faults {
		if len(f.right) > 0 {
			around(f.known, 10*time.Minute)
			around(f.cured, 10*time.Minute)
		}
	}
	for _, i := range sc.incidents {
		around(i.from, 40*time.Minute)
		around(i.to, 40*time.Minute)
		if i.everyOther || i.rate > 0 {
			spans = append(spans, i.span)
		}
	}
	return merge(spans)
}

// steps returns the moments of the scrapes. The coarse step is four minutes: less than
// the five minutes for which Prometheus sees a sample, so that no series ends because
// of it, and rules that read their own last result still do.
func (sc *scenario) steps() []time.Time {
	fine := sc.fine()
	var steps []time.Time
	for t := begin; t.Before(sc.end); {
		steps = append(steps, t)
		for len(fine) > 0 && !t.Before(fine[0].to) {
			fine = fine[1:]
		}
		next := t.Truncate(4 * time.Minute).Add(4 * time.Minute)
		if !sc.Coarse || len(fine) > 0 && next.After(fine[0].from) {
			next = t.Add(time.Minute)
		}
		t = next
	}
	return steps
}
