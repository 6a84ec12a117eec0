package year

import (
	"fmt"
	"slices"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const day = 24 * time.Hour

// life writes the rows of one instance, and the truth about them, from the past to the
// end of the scenario.
type life struct {
	random
	sc     *scenario
	region region
	id     string
	schedule

	slot      time.Time   // of the next backup
	finished  []time.Time // submissions of the finished backups
	succeeded time.Time   // submission of the newest success, or since when it is due
	gone      bool        // the instance has no future
	exists    *existence
	trouble   trouble   // that happens now
	unlisted  time.Time // of that trouble, as in its fault
	opening   *trouble  // that happens before all others
}

func (sc *scenario) addInstance(i int) {
	r := regions[i%len(regions)]
	rng := sc.random(fmt.Sprintf("instance %d", i))
	id := fmt.Sprintf("crs-%08d", i)
	l := &life{random: rng, sc: sc, region: r, id: id}
	l.schedule = l.pickSchedule(r.retention)
	l.opening = &troubles[(i+int(sc.Seed)*sc.Instances)%len(troubles)] // so that each kind happens
	if sc.Script != nil {
		l.schedule = schedules[0]
		l.opening = &troubles[slices.IndexFunc(troubles, func(t trouble) bool { return t.kind == sc.Script[i] })]
	}
	l.exists = sc.exist(r.name, l.id, begin.Add(-100*day))
	l.slot = l.next(begin.Add(-r.retention - l.every))
	l.succeeded = l.slot
	for generation := 1; ; generation++ {
		l.live()
		if !l.slot.Before(sc.end) {
			return
		}
		l.bear(fmt.Sprintf("%s-%d", id, generation))
	}
}

func (l *life) pickSchedule(retention time.Duration) schedule {
	possible := slices.DeleteFunc(slices.Clone(schedules), func(s schedule) bool { return s.needs > retention })
	s := pick(l.random, possible, func(s schedule) int { return s.weight })
	s.first = time.Duration(l.IntN(int(min(s.every, 6*time.Hour)/time.Minute))) * time.Minute
	return s
}

// pick returns one of a list, at random by weight.
func pick[T any](rng random, list []T, weight func(T) int) T {
	sum := 0
	for _, e := range list {
		sum += weight(e)
	}
	n := rng.IntN(sum)
	for _, e := range list {
		if n -= weight(e); n < 0 {
			return e
		}
	}
	panic("unreachable")
}

// live goes on until the end of the scenario or of the instance. At least three good
// backups are between two troubles.
func (l *life) live() {
	good := 0
	for l.slot.Before(l.sc.end) && !l.gone {
		if next := l.draw(good); next != nil {
			l.trouble = *next
			l.trouble.happens(l)
			good = 0
			continue
		}
		l.success()
		good++
	}
}

// draw returns the trouble of the next slot, nil for none.
func (l *life) draw(good int) *trouble {
	possible := func(t trouble) bool { return t.of == nil || t.of(l) }
	chance := min(0.5, float64(l.every)/float64(l.sc.often()))
	switch opening := l.opening; {
	case !l.slot.After(begin.Add(6 * time.Hour)):
		return nil
	case opening != nil && possible(*opening):
		l.opening = nil
		return opening
	case l.sc.Script != nil || good < 3 || l.Float64() > chance:
		return nil
	}
	next := pick(l.random, troubles, func(t trouble) int {
		if !possible(t) {
			return 0
		}
		return t.weight
	})
	return &next
}

// bear continues with a new instance in the place of one that is gone.
func (l *life) bear(id string) {
	l.id, l.gone, l.finished = id, false, nil
	for l.every > day || l.workdays { // their first backup would be late
		l.schedule = l.pickSchedule(7 * day)
	}
	birth := l.slot.Add(l.upTo(6 * time.Hour))
	l.slot, l.succeeded = l.next(birth), birth
	l.exists = l.sc.exist(l.region.name, l.id, birth.Truncate(time.Second))
	l.trouble = trouble{kind: "created"}
	l.done("newInstance", birth)
	l.isUntil(birth, l.success())
}

// phase is a status that a task gets, so long after the one before.
type phase struct {
	after  time.Duration
	status crsapi.Status
}

// row adds a task with the statuses that it goes through.
func (l *life) row(taskName string, at time.Time, first crsapi.Status, phases ...phase) *task {
	t := &task{redisID: l.id, taskName: taskName, changes: []change{{at.Truncate(time.Second), first}}}
	for _, p := range phases {
		t.changes = append(t.changes, change{t.end().Add(p.after), p.status})
	}
	t.leaves = t.submitted().Add(l.region.retention)
	l.sc.tasks[l.region.name] = append(l.sc.tasks[l.region.name], t)
	last := t.changes[len(t.changes)-1].status
	if taskName == backup && (last == succeeded || last == failed || last == errored) {
		l.finished = append(l.finished, t.submitted())
		if last == succeeded {
			l.succeeded = t.submitted()
		}
	}
	return t
}

// done adds an operation that succeeded, and returns its end.
func (l *life) done(taskName string, at time.Time) time.Time {
	return l.row(taskName, at, executing, phase{3 * time.Minute, succeeded}).end()
}

// start returns when the backup of the next slot begins, some minutes after it, and
// goes on to the slot after.
func (l *life) start() time.Time {
	at := l.slot.Add(l.upTo(10 * time.Minute))
	l.slot = l.next(l.slot)
	return at
}

// skip lets slots pass without a backup.
func (l *life) skip(slots int) {
	for range slots {
		l.slot = l.next(l.slot)
	}
}

// success adds the next scheduled backup and returns its end.
func (l *life) success() time.Time {
	at := l.start()
	if l.IntN(2) == 0 {
		return l.row(backup, at, executing, phase{l.running(), succeeded}).end()
	}
	return l.row(backup, at, pending, phase{time.Minute + l.upTo(4*time.Minute), executing}, phase{l.running(), succeeded}).end()
}

// failure adds a scheduled backup that fails, and returns when.
func (l *life) failure(status crsapi.Status) time.Time {
	return l.row(backup, l.start(), executing, phase{l.running(), status}).end()
}

func (l *life) running() time.Duration { return 2*time.Minute + l.upTo(40*time.Minute) }

// missing returns when a backup is missing: when the newest success is older than the usual
// interval × 1.05 + 2 h, or than 26 h while fewer than three intervals between finished backups
// are known. The usual one is the second longest, so that one exception changes nothing. Known
// are the backups that were listed when the last one finished, and the last five.
func (l *life) missing() time.Time {
	if len(l.finished) < 4 {
		return l.succeeded.Add(26 * time.Hour)
	}
	slices.SortFunc(l.finished, time.Time.Compare)
	oldest := l.finished[len(l.finished)-1].Add(-l.region.retention)
	listed := slices.IndexFunc(l.finished, func(t time.Time) bool { return !t.Before(oldest) })
	known := l.finished[min(listed, max(0, len(l.finished)-5)):]
	var intervals []time.Duration
	for i := range len(known) - 1 {
		intervals = append(intervals, known[i+1].Sub(known[i]))
	}
	slices.Sort(intervals)
	usual := intervals[len(intervals)-2]
	return l.succeeded.Add(usual + usual/20 + 2*time.Hour)
}

// is writes down the truth about the trouble that happens now. One that is over before
// it can be known only looks like one.
func (l *life) is(known, cured, until time.Time, taskName string) {
	if known.After(l.sc.end) {
		return
	}
	f := fault{
		truth: l.trouble.tells, kind: l.trouble.kind, region: l.region.name, redisID: l.id,
		known: known, cured: cured, until: until, unlisted: l.unlisted,
	}
	f.slack = max(f.slack, 5*time.Minute)
	if taskName != backup {
		f.taskName = taskName
	}
	if !known.Before(cured) {
		f.right, f.explained = nil, nil
		f.known = l.succeeded
	}
	l.unlisted = time.Time{}
	l.sc.faults = append(l.sc.faults, f)
}

// isUntil says that something is with the backups until it is cured.
func (l *life) isUntil(known, cured time.Time) { l.is(known, cured, cured, backup) }
