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
	tells    = func(alerts ...string) []string { return alerts }
	frequent = func(l *life) bool { return l.every <= day }
	nightly  = func(l *life) bool { return l.every == day && !l.workdays }

	backupFails  = truth{right: tells(backupFailed), explained: tells(backupMissing)}
	backupHangs  = truth{right: tells(backupStuck), explained: tells(backupMissing)}
	backupIsOff  = truth{right: tells(backupMissing)}
	taskFails    = truth{right: tells(taskFailed)}
	taskHangs    = truth{right: tells(taskStuck)}
	nothingWrong = truth{}
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
	{"backup pending, then hangs", 4, nil, backupHangs, func(l *life) {
		l.hangs(l.row(backup, l.start(), pending, phase{l.hours(3, 5), executing}, phase{2*time.Hour + l.upTo(time.Hour), succeeded}))
	}},
	{"backup never ends", 3, frequent, backupHangs, func(l *life) {
		t := l.row(backup, l.start(), executing)
		l.skip(1) // the service does not run two at a time
		l.is(t.overdue(), l.success(), t.leaves, backup)
	}},
	{"backup switched off", 10, nil, backupIsOff, func(l *life) {
		known := l.missing()
		l.skip(2 + l.IntN(10))
		l.isUntil(known, l.success())
	}},
	{"backup ended with an unknown status", 3, nil, truth{right: tells(statusUnknown), explained: tells(backupMissing)}, func(l *life) {
		l.fail(1, 42)
	}},

	{"import runs long", 3, nil, taskHangs, func(l *life) {
		l.hangs(l.row("importRdb", l.slot, executing, phase{5*time.Hour + l.upTo(25*time.Hour), succeeded}))
	}},
	{"resize fails", 5, nil, taskFails, func(l *life) {
		t := l.row("resizeInstance", l.slot.Add(l.upTo(5*time.Hour)), executing, phase{l.running(), failed})
		l.is(t.end(), t.end().Add(20*time.Hour), t.end().Add(26*time.Hour), t.taskName) // news for a day
	}},
	{"resize fails, then succeeds", 3, nil, taskFails, func(l *life) {
		t := l.row("resizeInstance", l.slot.Add(l.upTo(5*time.Hour)), executing, phase{l.running(), failed})
		cured := l.done(t.taskName, t.end().Add(90*time.Minute))
		l.is(t.end(), cured, cured, t.taskName)
	}},

	{"window moved", 4, func(l *life) bool { return nightly(l) && len(l.finished) > 3 }, nothingWrong, func(l *life) {
		by := time.Hour + l.upTo(90*time.Minute)
		l.first += by
		l.slot = l.slot.Add(by)
		from := l.succeeded
		l.isUntil(from, l.success())
	}},
	{"renamed", 3, nil, nothingWrong, func(l *life) {
		l.sc.renames = append(l.sc.renames, rename{l.slot, l.id, "renamed-" + l.slot.Format("0102")})
		l.isUntil(l.slot, l.slot.Add(2*time.Hour))
	}},
	{"isolated and restored", 4, nightly, nothingWrong, func(l *life) {
		from := l.done("closeInstance", l.slot.Add(-2*time.Hour))
		l.skip(1 + l.IntN(4))
		to := l.done("startInstance", l.slot.Add(-time.Hour-l.upTo(12*time.Hour)))
		l.exists.isolated = append(l.exists.isolated, span{from, to})
		l.isUntil(from, l.success())
	}},
	{"deleted", 2, nil, nothingWrong, func(l *life) { l.delete() }},
	{"deleted, and a row never ends", 2, nil, nothingWrong, func(l *life) {
		l.row(backup, l.slot.Add(-time.Hour), executing)
		l.delete()
	}},
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

// fail lets some scheduled backups fail; the one after them succeeds.
func (l *life) fail(times int, status crsapi.Status) {
	known := l.failure(status)
	for range times - 1 {
		l.failure(status)
	}
	l.isUntil(known, l.success())
}

// hangs says that a task runs for too long.
func (l *life) hangs(t *task) { l.is(t.overdue(), t.end(), t.end(), t.taskName) }

// hours returns a random time that ends before the next but one slot does.
func (l *life) hours(from, to int) time.Duration {
	if l.every < day {
		to = min(to, 7)
	}
	return time.Duration(from)*time.Hour + l.upTo(time.Duration(to-from)*time.Hour)
}

// delete ends the instance. Its rows stay in the list until they are too old.
func (l *life) delete() {
	at := l.done("deleteInstance", l.slot)
	l.gone = true
	l.isUntil(at, at.Add(l.region.retention))
	l.ends(at)
	l.slot = l.slot.Add(day)
}

// leave takes all rows of the instance out of the list.
func (l *life) leave(at time.Time) {
	for _, t := range l.sc.tasks[l.region.name] {
		if t.redisID == l.id && t.leaves.After(at) {
			t.leaves = at
		}
	}
}
