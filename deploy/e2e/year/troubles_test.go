package year

import (
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// trouble is a kind of trouble of an instance, or of what only looks like one. The
// table says what is right to tell; happens says what the list shows, and from when
// until when the trouble lasts.
type trouble struct {
	kind      string
	weight    int
	of        func(*life) bool // which instances can have it; nil for all
	right     []string
	explained []string
	slack     time.Duration
	optional  bool
	happens   func(*life)
}

var (
	tells     = func(alerts ...string) []string { return alerts }
	frequent  = func(l *life) bool { return l.every <= day }
	nightly   = func(l *life) bool { return l.every == day && l.skips == nil }
	forgetful = func(l *life) bool {
		return len(l.region.exporters) == 1 && !l.region.exporters[0].state && l.sc.Script == ""
	}
	shortList = func(l *life) bool { return nightly(l) && l.region.retention <= 7*day }
)

const (
	pending   = crsapi.StatusPending
	executing = crsapi.StatusExecuting
	succeeded = crsapi.StatusSucceeded
	failed    = crsapi.StatusFailed
	errored   = crsapi.StatusError
)

var troubles = []trouble{
	{kind: "backup failed", weight: 16, right: tells(backupFailed), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		l.fail(1+l.IntN(3), failed)
	}},
	{kind: "backup ended as error", weight: 6, right: tells(backupFailed), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		l.fail(1, errored)
	}},
	{kind: "backup failed, then error", weight: 3, right: tells(backupFailed), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		t := l.row(backup, l.start(), executing, phase{l.running(), failed}, phase{time.Hour + l.upTo(time.Hour), errored})
		known, cured := t.changes[1].at, l.success()
		l.is(known, cured, cured, "")
	}},
	{kind: "backup failed, repeated by hand", weight: 5, right: tells(backupFailed), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		known := l.failure(failed)
		cured := l.row(backup, known.Add(time.Hour+l.upTo(4*time.Hour)), executing, phase{l.running(), succeeded}).last().at
		l.is(known, cured, cured, "")
	}},
	{kind: "backup hangs, then succeeds", weight: 5, right: tells(backupStuck), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		t := l.row(backup, l.start(), executing, phase{l.hours(4, 18), succeeded})
		l.is(t.submitted().Add(3*time.Hour), t.last().at, t.last().at, "")
	}},
	{kind: "backup hangs, then fails", weight: 5, right: tells(backupStuck, backupFailed), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		t := l.row(backup, l.start(), executing, phase{l.hours(4, 18), failed})
		cured := l.success()
		l.is(t.submitted().Add(3*time.Hour), cured, cured, "")
	}},
	{kind: "backup pending for hours", weight: 5, right: tells(backupStuck), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		t := l.row(backup, l.start(), pending, phase{l.hours(3, 7), executing}, phase{10 * time.Minute, succeeded})
		l.is(t.submitted().Add(3*time.Hour), t.last().at, t.last().at, "")
	}},
	{kind: "backup pending, then hangs", weight: 4, right: tells(backupStuck), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		t := l.row(backup, l.start(), pending, phase{l.hours(3, 5), executing}, phase{2*time.Hour + l.upTo(time.Hour), succeeded})
		l.is(t.submitted().Add(3*time.Hour), t.last().at, t.last().at, "")
	}},
	{kind: "backup never ends", weight: 3, of: frequent, right: tells(backupStuck), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		t := l.row(backup, l.start(), executing)
		l.skip(1) // the service does not run two at a time
		l.is(t.submitted().Add(3*time.Hour), l.success(), t.leaves, "")
	}},
	{kind: "backup switched off", weight: 8, right: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		known := l.missing()
		l.skip(2 + l.IntN(3))
		cured := l.success()
		l.is(known, cured, cured, "")
	}},
	{kind: "backup switched off, renamed meanwhile", weight: 2, of: nightly, right: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		known := l.missing()
		l.skip(3)
		l.rename(known.Add(5 * time.Hour))
		cured := l.success()
		l.is(known, cured, cured, "")
	}},
	{kind: "backup switched off until no row is left", weight: 2, of: shortList, right: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		known := l.missing()
		l.skip(9 + l.IntN(3))
		cured := l.success()
		l.is(known, cured, cured, "")
	}},
	{kind: "backup ended with an unknown status", weight: 3, right: tells(statusUnknown), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		known := l.failure(42)
		cured := l.success()
		l.is(known, cured, cured, "")
	}},
	{kind: "backup moved by many hours", weight: 2, of: nightly, right: tells(backupMissing), optional: true, happens: func(l *life) {
		known := l.missing()
		l.move(5*time.Hour + l.upTo(3*time.Hour))
		cured := l.success()
		l.is(known, cured, cured, "")
	}},

	{kind: "import runs long", weight: 3, right: tells(taskStuck), slack: minutesToSee, happens: func(l *life) {
		t := l.row("importRdb", l.slot, executing, phase{5*time.Hour + l.upTo(25*time.Hour), succeeded})
		l.is(t.submitted().Add(3*time.Hour), t.last().at, t.last().at, t.taskName)
	}},
	{kind: "import runs for over a day and fails", weight: 3, right: tells(taskStuck, taskFailed), slack: minutesToSee, happens: func(l *life) {
		t := l.row("importRdb", l.slot, executing, phase{25*time.Hour + l.upTo(5*time.Hour), failed})
		l.failed = t.last().at
		l.is(t.submitted().Add(3*time.Hour), t.last().at.Add(20*time.Hour), t.last().at.Add(26*time.Hour), t.taskName)
	}},
	{
		kind: "import runs for over a day and fails while the exporter restarts", weight: 2, of: forgetful,
		right: tells(taskStuck, taskFailed), slack: minutesToSee, happens: func(l *life) {
			t := l.row("importRdb", l.slot, executing, phase{25*time.Hour + l.upTo(5*time.Hour), failed})
			at := t.last().at
			l.sc.incidents = append(l.sc.incidents, incident{
				kind: "exporter restarts", span: span{at.Add(-time.Minute), at.Add(time.Minute)},
				region: l.region.name, exporter: l.region.exporters[0].address, exporterDoes: down,
			})
			l.failed = at
			l.is(t.submitted().Add(3*time.Hour), at.Add(20*time.Hour), at.Add(26*time.Hour), t.taskName)
		},
	},
	{kind: "resize fails", weight: 5, right: tells(taskFailed), slack: minutesToSee, happens: func(l *life) {
		t := l.row("resizeInstance", l.slot.Add(l.upTo(5*time.Hour)), executing, phase{l.running(), failed})
		l.is(t.last().at, t.last().at.Add(20*time.Hour), t.last().at.Add(26*time.Hour), t.taskName)
	}},
	{kind: "resize fails, then succeeds", weight: 3, right: tells(taskFailed), slack: minutesToSee, happens: func(l *life) {
		t := l.row("resizeInstance", l.slot.Add(l.upTo(5*time.Hour)), executing, phase{l.running(), failed})
		cured := l.done(t.taskName, t.last().at.Add(90*time.Minute))
		l.is(t.last().at, cured, cured, t.taskName)
	}},
	{kind: "clearing hangs", weight: 2, right: tells(taskStuck), slack: minutesToSee, happens: func(l *life) {
		t := l.row("cleanInstance", l.slot, executing, phase{4*time.Hour + l.upTo(8*time.Hour), succeeded})
		l.is(t.submitted().Add(3*time.Hour), t.last().at, t.last().at, t.taskName)
	}},

	// Nothing is wrong with these.
	{kind: "window moved", weight: 4, of: nightly, happens: func(l *life) {
		l.move(time.Hour + l.upTo(90*time.Minute))
		from := l.succeeded
		l.quiet(from, l.success())
	}},
	{kind: "long backup begins later", weight: 4, of: nightly, happens: func(l *life) {
		from := l.succeeded
		t := l.row(backup, l.start().Add(90*time.Minute), executing, phase{2*time.Hour + l.upTo(45*time.Minute), succeeded})
		l.quiet(from, t.last().at)
	}},
	{kind: "renamed", weight: 3, happens: func(l *life) {
		l.rename(l.slot)
		l.quiet(l.slot, l.slot.Add(2*time.Hour))
	}},
	{kind: "isolated and restored", weight: 4, of: nightly, happens: func(l *life) {
		from := l.isolate()
		l.skip(1 + l.IntN(4))
		l.done("startInstance", l.slot.Add(-time.Hour-l.upTo(12*time.Hour)))
		l.quiet(from, l.success())
	}},
	{kind: "isolated, alive again without a start, backup fails", weight: 3, of: nightly, right: tells(backupFailed), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		l.isolate()
		l.skip(2 + l.IntN(2))
		l.success()
		l.success()
		l.fail(1, failed)
	}},
	{kind: "deleted", weight: 2, happens: func(l *life) {
		l.delete()
	}},
	{kind: "deleted, and a row never ends", weight: 2, happens: func(l *life) {
		l.row(backup, l.slot.Add(-time.Hour), executing)
		l.delete()
	}},
	{kind: "deleted with its rows", weight: 1, happens: func(l *life) {
		at := l.delete()
		l.leave(at)
	}},
	{kind: "failed, and listed no more", weight: 2, right: tells(backupFailed), explained: tells(backupMissing), slack: minutesToSee, happens: func(l *life) {
		known := l.failure(failed)
		left := known.Add(3 * time.Hour)
		l.leave(left)
		l.gone, l.unlisted = true, left
		l.is(known, left.Add(7*day), left.Add(8*day), "")
		l.slot = left.Add(8 * day)
	}},
}

// burst is that many backups of a night fail.
var burst = trouble{
	kind: "backup failed in a burst", right: tells(backupFailed), explained: tells(backupMissing), slack: minutesToSee,
	happens: func(l *life) { l.fail(1, failed) },
}

func kindOf(name string) *trouble {
	for i := range troubles {
		if troubles[i].kind == name {
			return &troubles[i]
		}
	}
	panic("no kind of trouble is " + name)
}

// births are the first days of an instance.
var births = []trouble{
	{kind: "created", weight: 4, happens: func(l *life) {
		birth := l.slot
		l.done("newInstance", birth)
		l.slot = l.next(birth)
		l.quiet(birth, l.success())
	}},
	{kind: "creation not listed", weight: 2, happens: func(l *life) {
		birth := l.slot
		l.done("setPassword", birth)
		l.slot = l.next(birth)
		l.quiet(birth, l.success())
	}},
	{kind: "creation failed", weight: 2, right: tells(taskFailed), slack: minutesToSee, happens: func(l *life) {
		t := l.row("newInstance", l.slot, executing, phase{l.running(), failed})
		l.is(t.last().at, t.last().at.Add(20*time.Hour), t.last().at.Add(26*time.Hour), t.taskName)
		l.gone = true
		l.slot = l.slot.Add(3 * day)
	}},
}

// fail lets some scheduled backups fail; the one after them succeeds.
func (l *life) fail(times int, status crsapi.Status) {
	known := l.failure(status)
	for range times - 1 {
		l.failure(status)
	}
	cured := l.success()
	l.is(known, cured, cured, "")
}

// hours returns a random time that ends before the next but one slot does.
func (l *life) hours(from, to int) time.Duration {
	if l.every < day {
		to = min(to, 7)
	}
	return time.Duration(from)*time.Hour + l.upTo(time.Duration(to-from)*time.Hour)
}

// move lets the backups of the instance begin later from now on.
func (l *life) move(by time.Duration) {
	l.first += by
	l.slot = l.slot.Add(by)
	if l.first >= l.every {
		l.first -= l.every
	}
}

func (l *life) rename(at time.Time) {
	l.sc.renames = append(l.sc.renames, rename{at, l.id, "renamed-" + at.Format("0102")})
}

// isolate ends the backups until the instance is restored.
func (l *life) isolate() time.Time { return l.done("closeInstance", l.slot.Add(-2*time.Hour)) }

// delete ends the instance. Its rows stay in the list until they are too old.
func (l *life) delete() time.Time {
	at := l.done("deleteInstance", l.slot)
	l.gone = true
	l.quiet(at, at.Add(l.region.retention))
	l.slot = l.slot.Add(day)
	return at
}

// leave takes all rows of the instance out of the list.
func (l *life) leave(at time.Time) {
	for _, t := range l.sc.tasks[l.region.name] {
		if t.redisID == l.id && t.leaves.After(at) {
			t.leaves = at
		}
	}
}
