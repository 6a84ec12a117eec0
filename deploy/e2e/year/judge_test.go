package year

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tolerance is how far an alert may be from the truth: a step, an evaluation, and what
// a poll takes.
const tolerance = 5 * time.Minute

// mayFireOn is how long an alert may fire after its cause has ended: alerts about the
// watcher keep firing for a while, so that flapping is one alert.
const mayFireOn = 30 * time.Minute

// bridged is how long the rules read the facts of an exporter that has restarted.
const bridged = 20 * time.Minute

// The ways in which an alert is wrong.
const (
	missed      = "missed"
	late        = "detected late"
	cleared     = "cleared without a cure"
	forgotten   = "cleared when nobody knew it any more"
	secondTime  = "fired or paged again after nobody knew it any more"
	muted       = "inhibited by the alert of another fault"
	again       = "fired again"
	pages       = "more than one page"
	firedOn     = "fired on after the cure"
	early       = "fired too early"
	unexplained = "no fault explains it"
)

// excused are the problems that no rule can prevent.
var excused = map[string]bool{forgotten: true, secondTime: true}

// judgement compares what fired with the truth.
type judgement struct {
	*notices
	sc      *scenario
	faults  []*fault
	blind   map[string][]span // when nobody sees a region, in order
	windows []span            // when the alerts of each fault may fire

	kinds  map[string]*tally
	lines  []string       // one for each problem
	counts map[string]int // of problems, by "problem: kind"
}

// tally is what became of the faults of a kind.
type tally struct {
	faults, unseen int
	detection      []time.Duration // of those that were told, since they could be seen
}

func judge(sc *scenario, n *notices) *judgement {
	j := &judgement{notices: n, sc: sc, blind: map[string][]span{}, kinds: map[string]*tally{}, counts: map[string]int{}}
	for _, r := range regions {
		blind := slices.Clone(j.restart)
		for _, i := range sc.incidents {
			if i.blinds && (i.region == r.name || i.region == "") {
				blind = append(blind, i.span)
			}
		}
		j.blind[r.name] = merge(blind)
	}
	for i := range sc.faults {
		f := j.adjust(sc.faults[i], sc.faults[i+1:])
		j.faults = append(j.faults, f)
		j.windows = append(j.windows, span{f.known.Add(-tolerance), j.seen(f, f.until, mayFireOn)})
		j.judgeFault(f, j.windows[i])
	}
	for _, f := range j.firings {
		j.judgeFiring(f)
	}
	return j
}

// adjust returns a fault as it looks to those who watch: a task that failed unseen is
// news for as long since it was seen, and the next trouble of the same task takes its
// place. The sources of the alerts show no more than that.
func (j *judgement) adjust(f fault, later []fault) *fault {
	if f.tells(taskFailed) {
		// Where the API gives the end, the day counts from there.
		f.until = f.until.Add(j.seen(&f, f.known, 0).Sub(f.known))
	}
	// One of a pair that was away tells of the failure for a day from when it is back.
	for _, i := range j.sc.incidents {
		if f.taskName != "" && i.exporter != "" && i.region == f.region && i.from.Before(f.cured) && i.to.After(f.known) {
			f.until = latest(f.until, i.to.Add(26*time.Hour))
		}
	}
	next := slices.IndexFunc(later, func(l fault) bool {
		return f.taskName != "" && l.region == f.region && l.redisID == f.redisID && l.taskName == f.taskName
	})
	if next >= 0 && later[next].known.Before(f.cured) {
		f.cured = later[next].known
	}
	return &f
}

// about reports if an alert is about the subject of a fault.
func about(f *fault, a *firing) bool {
	get := a.labels.Get
	switch {
	case f.redisID != "":
		return get("region") == f.region && get("redisId") == f.redisID &&
			(f.taskName == "" || get("taskName") == "" || get("taskName") == f.taskName)
	case get("redisId") != "":
		return false
	case get("region") != "":
		return get("region") == f.region
	case get("instance") != "":
		return f.instance != "" && strings.HasSuffix(get("instance"), "."+f.instance)
	default:
		return f.instance != "" || f.region == "" // that no exporter is there at all
	}
}

func (f *fault) tells(alert string) bool { return slices.Contains(f.right, alert) }

func (f *fault) explains(a *firing) bool {
	return (f.tells(a.alert) || slices.Contains(f.explained, a.alert)) && about(f, a)
}

// seen returns when a fault's region has been watched for some time since t.
func (j *judgement) seen(f *fault, t time.Time, enough time.Duration) time.Time {
	blind := j.restart
	if f.redisID != "" || f.tells(inventoryFailing) {
		blind = j.blind[f.region]
	}
	for _, b := range blind {
		if !t.Before(b.to) {
			continue
		}
		if t.Add(enough).Before(b.from) {
			break
		}
		if t.Before(b.from) {
			enough -= b.from.Sub(t)
		}
		t = b.to
	}
	return t.Add(enough)
}

func (j *judgement) judgeFault(f *fault, window span) {
	k := j.kinds[f.kind]
	if k == nil {
		k = &tally{}
		j.kinds[f.kind] = k
	}
	k.faults++
	if len(f.right) == 0 {
		return
	}
	v := &verdict{judgement: j, fault: f}
	for _, a := range j.firings {
		if f.explains(a) && a.from.Before(window.to) && (a.to.IsZero() || a.to.After(f.known)) {
			v.told = append(v.told, a)
		}
	}
	first := slices.IndexFunc(v.told, func(a *firing) bool { return f.tells(a.alert) })
	deadline := j.seen(f, f.known, f.slack)
	if first < 0 {
		switch {
		case f.optional:
		case !deadline.Before(f.cured) || deadline.After(j.end), !f.unlisted.IsZero() && !deadline.Before(f.unlisted):
			k.unseen++ // it was over, or shown by nothing any more, before it could be told
		default:
			v.wrong(missed, "")
		}
		return
	}
	at := latest(v.told[first].from, f.known)
	k.detection = append(k.detection, max(0, at.Sub(j.seen(f, f.known, 0))))
	if !f.optional && at.After(deadline.Add(tolerance)) {
		v.wrong(late, "")
	}
	v.judgeCourse(at)
}

// verdict is the judgement of one fault.
type verdict struct {
	*judgement
	*fault
	told []*firing // that the fault explains, in order
}

// wrong counts a problem of the fault.
func (v *verdict) wrong(problem, when string) {
	v.found(problem, v.kind, fmt.Sprint(when, v.fault, v.told))
}

// found counts a problem.
func (j *judgement) found(problem, kind, what string) {
	j.counts[problem+": "+kind]++
	j.lines = append(j.lines, fmt.Sprintf("%s: %s", problem, what))
}

// judgeCourse judges what happens between the first alert and the cure.
func (v *verdict) judgeCourse(first time.Time) {
	to := v.seen(v.fault, v.cured, 0)
	if to.After(v.end) {
		to = v.end
	}
	if !v.optional {
		v.judgeGaps(first, to)
	}
	fired, paged := map[string][]time.Time{}, map[string][]time.Time{}
	critical := false
	for _, a := range v.told {
		if !a.from.Before(to) {
			break
		}
		critical = critical || a.labels.Get("severity") == "critical"
		if !a.from.Before(v.known.Add(-tolerance)) {
			fired[a.identity()] = append(fired[a.identity()], a.from)
		}
		if !a.paged.IsZero() && a.paged.Before(to) {
			paged["page"] = append(paged["page"], a.paged)
		}
	}
	if critical && len(paged) == 0 {
		v.wrong(muted, "")
	}
	v.judgeTimes(again, fired)
	v.judgeTimes(pages, paged)
}

// judgeTimes counts a problem if something of one key happens twice. After an excuse nobody
// knows what was told before.
func (v *verdict) judgeTimes(problem string, of map[string][]time.Time) {
	excuses, excused := v.excuses(), false
	for _, times := range of {
		for i := 1; i < len(times); i++ {
			between := func(e span) bool {
				return e.from.After(times[i-1]) && !e.from.After(times[i]) || e.contains(times[i])
			}
			if !slices.ContainsFunc(excuses, between) {
				v.wrong(problem, "")
				return
			}
			excused = true
		}
	}
	if excused {
		v.wrong(secondTime, "")
	}
}

// excuses returns when an alert can end or fire again though no rule is wrong: nobody knows any
// more what was told.
func (v *verdict) excuses() (all []span) {
	for _, l := range v.lost {
		all = append(all, span{l.from.Add(-tolerance), l.to})
	}
	if v.redisID == "" {
		return all
	}
	for _, i := range v.sc.incidents {
		if i.exporter == "" || i.region != v.region {
			continue
		}
		r, back := regionNamed(i.region), v.seen(v.fault, i.to, bridged)
		switch {
		case !alone(r) && i.contains(v.unlisted): // one of a pair comes back, and has missed the failure
			all = append(all, span{i.to.Add(-tolerance), back})
		case alone(r) && i.exporterDoes != away && !r.exporters[0].state: // it restarts without a state file
			all = append(all, span{i.from.Add(-tolerance), back})
		}
		for _, p := range v.restart {
			if alone(r) && p.from.Before(i.to) && i.from.Before(p.to) { // both are away
				all = append(all, span{latest(p.from, i.from).Add(-tolerance), latest(p.to, i.to)})
			}
		}
	}
	return all
}

// judgeGaps judges that something fires all the time from the first alert to the cure.
func (v *verdict) judgeGaps(from, to time.Time) {
	at := from
	for _, a := range v.told {
		if a.from.After(to) {
			break
		}
		if a.from.After(at.Add(tolerance)) {
			v.gap(span{at, a.from})
		}
		if a.to.IsZero() {
			return
		}
		at = latest(at, a.to)
	}
	if at.Add(tolerance).Before(to) {
		v.gap(span{at, to})
	}
}

func (v *verdict) gap(s span) {
	if !s.from.Before(v.cured) {
		return // it was seen though that could not be expected
	}
	if slices.ContainsFunc(v.restart, func(r span) bool { return r.contains(s.from) && r.contains(v.cured) }) {
		return // it was cured while Prometheus started
	}
	problem := cleared
	if slices.ContainsFunc(v.excuses(), func(e span) bool { return e.contains(s.from) }) {
		problem = forgotten
	}
	v.wrong(problem, fmt.Sprintf("from %s to %s: ", stamp(s.from), stamp(s.to)))
}

// judgeFiring judges if a fault explains that an alert fires, from its begin and to
// its end.
func (j *judgement) judgeFiring(a *firing) {
	began, follows, kind := false, false, "nothing"
	var end time.Time
	for i, f := range j.faults {
		w := j.windows[i]
		if !about(f, a) || !a.from.Before(w.to) || !a.to.IsZero() && a.to.Before(w.from) {
			continue
		}
		if f.explains(a) {
			began = began || !a.from.Before(w.from)
			follows = true
			end = latest(end, w.to)
		}
		if kind == "nothing" || f.explains(a) {
			kind = f.kind
		}
	}
	problem, until := unexplained, end.Add(tolerance)
	switch {
	case began && (a.to.IsZero() && j.end.After(until) || a.to.After(until)):
		problem = firedOn
	case began:
		return
	case follows:
		problem = early
	}
	j.found(problem, a.alert+" at "+kind, a.String())
}

// report returns the judgement as text.
func (j *judgement) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v: %d faults and look-alikes, %d firings\n\n", j.sc.options, len(j.faults), len(j.firings))
	for _, kind := range slices.Sorted(maps.Keys(j.kinds)) {
		k := j.kinds[kind]
		slices.Sort(k.detection)
		fmt.Fprintf(&b, "%4d %-52s %4d told, %3d unseen", k.faults, kind, len(k.detection), k.unseen)
		if n := len(k.detection); n > 0 {
			fmt.Fprintf(&b, ", median after %s", k.detection[n/2].Round(time.Second))
		}
		b.WriteString("\n")
	}
	for _, key := range slices.Sorted(maps.Keys(j.counts)) {
		fmt.Fprintf(&b, "%4d %s\n", j.counts[key], key)
	}
	return b.String() + strings.Join(j.lines, "\n")
}

func (f *fault) String() string {
	return fmt.Sprintf("%s %s %s%s%s, known %s, cured %s ", f.kind, f.region, f.redisID, f.taskName, f.instance, stamp(f.known), stamp(f.cured))
}

func (f *firing) String() string {
	page := ""
	if !f.paged.IsZero() {
		page = ", page"
	}
	return fmt.Sprintf("%s from %s to %s%s", f.identity(), stamp(f.from), stamp(f.to), page)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "the end"
	}
	return t.UTC().Format("01-02 15:04:05")
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
