package year

import (
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// trouble is a kind of trouble of an instance, or of what only looks like one. The
// table says what is right to tell; happens says what the list shows, and from when
// until when the trouble lasts.
type trouble struct {
	kind    string
	weight  int
	of      func(*life) bool // which instances can have it; nil for all
	tells   truth
	happens func(*life)
}

var (
	tells     = func(alerts ...string) []string { return alerts }
	frequent  = func(l *life) bool { return l.every <= day }
	nightly   = func(l *life) bool { return l.every == day && !l.workdays }
	forgetful = func(l *life) bool {
		return len(l.region.exporters) == 1 && !l.region.exporters[0].state && l.sc.Script == nil
	}
	shortList = func(l *life) bool { return nightly(l) && l.region.retention <= 7*day }

	backupFails   = truth{right: tells(backupFailed), explained: tells(backupMissing)}
	backupHangs   = truth{right: tells(backupStuck), explained: tells(backupMissing)}
	backupIsOff   = truth{right: tells(backupMissing)}
	taskFails     = truth{right: tells(taskFailed)}
	taskHangs     = truth{right: tells(taskStuck)}
	hangsAndFails = truth{right: tells(taskStuck, taskFailed)}
	nothingWrong  = truth{}
)

const (
	pending   = crsapi.StatusPending
	executing = crsapi.StatusExecuting
	succeeded = crsapi.StatusSucceeded
	failed    = crsapi.StatusFailed
	errored   = crsapi.StatusError
)

var troubles = []trouble{
	{"backup failed", 16, nil, backupFails, func(l *life) { l.fail(1+l.IntN(3), failed) }},
	{"backup ended as error", 6, nil, backupFails, func(l *life) { l.fail(1, errored) }},
	{"backup failed, then error", 3, nil, backupFails, func(l *life) {
		t := l.row(backup, l.start(), executing, phase{l.running(), failed}, phase{time.Hour + l.upTo(time.Hour), errored})
		l.isUntil(t.changes[1].at, l.success())
	}},
	{"backup failed, repeated by hand", 5, nil, backupFails, func(l *life) {
		known := l.failure(failed)
		l.isUntil(known, l.row(backup, known.Add(time.Hour+l.upTo(4*time.Hour)), executing, phase{l.running(), succeeded}).end())
	}},
	{"backup hangs, then succeeds", 5, nil, backupHangs, func(l *life) {
		l.hangs(l.row(backup, l.start(), executing, phase{l.hours(4, 18), succeeded}))
	}},
	{"backup hangs, then fails", 5, nil, truth{right: tells(backupStuck, backupFailed), explained: tells(backupMissing)}, func(l *life) {
		t := l.row(backup, l.start(), executing, phase{l.hours(4, 18), failed})
		l.isUntil(t.overdue(), l.success())
	}},
	{"backup pending for hours", 5, nil, backupHangs, func(l *life) {
		l.hangs(l.row(backup, l.start(), pending, phase{l.hours(3, 7), executing}, phase{10 * time.Minute, succeeded}))
	}},
	{"backup pending, then hangs", 4, nil, backupHangs, func(l *life) {
		l.hangs(l.row(backup, l.start(), pending, phase{l.hours(3, 5), executing}, phase{2*time.Hour + l.upTo(time.Hour), succeeded}))
	}},
	{"backup never ends", 3, frequent, backupHangs, func(l *life) {
		t := l.row(backup, l.start(), executing)
		l.skip(1) // the service does not run two at a time
		l.is(t.overdue(), l.success(), t.leaves, backup)
	}},
	{"backup switched off", 8, nil, backupIsOff, func(l *life) { l.isOff(2 + l.IntN(3)) }},
	{"backup switched off, renamed meanwhile", 2, nightly, backupIsOff, func(l *life) {
		l.rename(l.missing().Add(5 * time.Hour))
		l.isOff(3)
	}},
	{"backup switched off until no row is left", 2, shortList, backupIsOff, func(l *life) { l.isOff(9 + l.IntN(3)) }},
	{"backup ended with an unknown status", 3, nil, truth{right: tells(statusUnknown), explained: tells(backupMissing)}, func(l *life) {
		l.fail(1, 42)
	}},
	{"backup moved by many hours", 2, nightly, truth{right: tells(backupMissing), optional: true}, func(l *life) {
		known := l.missing()
		l.move(5*time.Hour + l.upTo(3*time.Hour))
		l.isUntil(known, l.success())
	}},

	{"import runs long", 3, nil, taskHangs, func(l *life) {
		l.hangs(l.row("importRdb", l.slot, executing, phase{5*time.Hour + l.upTo(25*time.Hour), succeeded}))
	}},
	{"import runs for over a day and fails", 3, nil, hangsAndFails, func(l *life) { l.importFails() }},
	{"import runs for over a day and fails while the exporter restarts", 2, forgetful, hangsAndFails, func(l *life) {
		at := l.importFails().end()
		l.sc.incidents = append(l.sc.incidents, incident{
			kind: "exporter restarts", span: span{at.Add(-time.Minute), at.Add(time.Minute)},
			region: l.region.name, exporter: l.region.exporters[0].address, exporterDoes: down,
		})
	}},
	{"resize fails", 5, nil, taskFails, func(l *life) {
		t := l.row("resizeInstance", l.slot.Add(l.upTo(5*time.Hour)), executing, phase{l.running(), failed})
		l.isNews(t, t.end())
	}},
	{"resize fails, then succeeds", 3, nil, taskFails, func(l *life) {
		t := l.row("resizeInstance", l.slot.Add(l.upTo(5*time.Hour)), executing, phase{l.running(), failed})
		cured := l.done(t.taskName, t.end().Add(90*time.Minute))
		l.is(t.end(), cured, cured, t.taskName)
	}},
	{"clearing hangs", 2, nil, taskHangs, func(l *life) {
		l.hangs(l.row("cleanInstance", l.slot, executing, phase{4*time.Hour + l.upTo(8*time.Hour), succeeded}))
	}},

	{"window moved", 4, nightly, nothingWrong, func(l *life) {
		l.move(time.Hour + l.upTo(90*time.Minute))
		from := l.succeeded
		l.isUntil(from, l.success())
	}},
	{"long backup begins later", 4, nightly, nothingWrong, func(l *life) {
		from := l.succeeded
		t := l.row(backup, l.start().Add(90*time.Minute), executing, phase{2*time.Hour + l.upTo(45*time.Minute), succeeded})
		l.isUntil(from, t.end())
	}},
	{"renamed", 3, nil, nothingWrong, func(l *life) {
		l.rename(l.slot)
		l.isUntil(l.slot, l.slot.Add(2*time.Hour))
	}},
	{"isolated and restored", 4, nightly, nothingWrong, func(l *life) {
		from := l.isolate()
		l.skip(1 + l.IntN(4))
		l.restored(l.done("startInstance", l.slot.Add(-time.Hour-l.upTo(12*time.Hour))))
		l.isUntil(from, l.success())
	}},
	{"isolated, alive again without a start, backup fails", 3, nightly, backupFails, func(l *life) {
		l.isolate()
		l.skip(2 + l.IntN(2))
		l.restored(l.slot)
		l.success()
		l.success()
		l.fail(1, failed)
	}},
	{"deleted", 2, nil, nothingWrong, func(l *life) { l.delete() }},
	{"deleted, and a row never ends", 2, nil, nothingWrong, func(l *life) {
		l.row(backup, l.slot.Add(-time.Hour), executing)
		l.delete()
	}},
	{"deleted with its rows", 1, nil, nothingWrong, func(l *life) { l.leave(l.delete()) }},
	{"failed, and listed no more", 2, nil, backupFails, func(l *life) {
		known := l.failure(failed)
		left := known.Add(3 * time.Hour)
		l.leave(left)
		l.gone, l.unlisted = true, left
		if l.sc.Inventory {
			l.is(known, left, left, backup)
			l.ends(left)
		} else {
			l.is(known, left.Add(7*day), left.Add(8*day), backup)
		}
		l.slot = left.Add(8 * day)
	}},
}

// burst is that many backups of a night fail.
var burst = trouble{"backup failed in a burst", 0, nil, backupFails, func(l *life) { l.fail(1, failed) }}

// births are the first days of an instance.
var births = []trouble{
	{"created", 4, nil, nothingWrong, func(l *life) { l.isBorn("newInstance") }},
	{"creation not listed", 2, nil, nothingWrong, func(l *life) { l.isBorn("setPassword") }},
	{"creation failed", 2, nil, taskFails, func(l *life) {
		t := l.row("newInstance", l.slot, executing, phase{l.running(), failed})
		l.isNews(t, t.end())
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
	l.isUntil(known, l.success())
}

// isOff lets some slots pass without a backup.
func (l *life) isOff(slots int) {
	known := l.missing()
	l.skip(slots)
	l.isUntil(known, l.success())
}

// hangs says that a task runs for too long.
func (l *life) hangs(t *task) { l.is(t.overdue(), t.end(), t.end(), t.taskName) }

// isNews says that a task has failed, which is news for a day.
func (l *life) isNews(t *task, known time.Time) {
	l.is(known, t.end().Add(20*time.Hour), t.end().Add(26*time.Hour), t.taskName)
}

func (l *life) importFails() *task {
	t := l.row("importRdb", l.slot, executing, phase{25*time.Hour + l.upTo(5*time.Hour), failed})
	l.failed = t.end()
	l.isNews(t, t.overdue())
	return t
}

// isBorn begins with a task and goes on with good backups.
func (l *life) isBorn(taskName string) {
	birth := l.slot
	l.done(taskName, birth)
	l.slot = l.next(birth)
	l.isUntil(birth, l.success())
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
func (l *life) isolate() time.Time {
	at := l.done("closeInstance", l.slot.Add(-2*time.Hour))
	l.exists.isolated = append(l.exists.isolated, span{at, l.sc.end})
	return at
}

func (l *life) restored(at time.Time) { l.exists.isolated[len(l.exists.isolated)-1].to = at }

// delete ends the instance. Its rows stay in the list until they are too old.
func (l *life) delete() time.Time {
	at := l.done("deleteInstance", l.slot)
	l.gone = true
	l.isUntil(at, at.Add(l.region.retention))
	l.ends(at)
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
