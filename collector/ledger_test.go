package collector

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"pgregory.net/rapid"
)

const (
	backup = "backupInstance"
	clean  = "cleanInstance"
)

// ledgerSteps drives a ledger as polls and scrapes do.
type ledgerSteps struct {
	t      *testing.T
	ledger *ledger
	now    time.Time
	tally  *tally
}

func newLedgerSteps(t *testing.T) *ledgerSteps {
	return &ledgerSteps{t: t, ledger: newLedger(), now: beijing("2017-02-11 00:00:00")}
}

func (s *ledgerSteps) poll(tasks ...crsapi.Task) {
	s.now = s.now.Add(time.Minute)
	snap, runs := takeSnapshot([]asked{{list: list(tasks...)}}, 0)
	s.tally = s.ledger.update(snap, runs, s.now)
}

func (s *ledgerSteps) scrape() { s.ledger.markShown(s.tally) }

// want compares all counters but the zeros, written as "redisId taskName
// status".
func (s *ledgerSteps) want(what string, want map[string]uint64) {
	s.t.Helper()
	got := map[string]uint64{}
	for _, c := range s.tally.counters {
		for st, n := range c.entered {
			if n > 0 {
				got[fmt.Sprintf("%s %s %s", c.redisID, c.taskName, statusNames[st])] = n
			}
		}
	}
	if !maps.Equal(got, want) {
		s.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func (s *ledgerSteps) wantSeries(what string, want ...seriesKey) {
	s.t.Helper()
	var got []seriesKey
	for _, c := range s.tally.counters {
		got = append(got, c.seriesKey)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: got series %v, want %v", what, got, want)
	}
}

func TestLedgerBaselineCountsNothing(t *testing.T) {
	s := newLedgerSteps(t)
	s.poll(
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed),
		task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusExecuting),
	)
	s.want("baseline", nil)
	s.wantSeries("baseline", seriesKey{"crs-a", backup})
	s.scrape()
	s.poll(
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed),
		task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusExecuting),
	)
	s.want("same list again", nil)
}

func TestLedgerEmptyBaseline(t *testing.T) {
	s := newLedgerSteps(t)
	s.poll()
	s.scrape()
	s.poll(task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed))
	s.want("birth", nil)
	s.scrape()
	s.poll(task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed))
	s.want("after birth was shown", map[string]uint64{"crs-a backupInstance failed": 1})
}

func TestLedgerCountsWhatTurned(t *testing.T) {
	const start = "2017-02-10 01:00:00"
	in := func(status crsapi.Status) crsapi.Task { return task("crs-a", backup, start, status) }
	other := task("crs-a", backup, "2017-02-09 01:00:00", crsapi.StatusFailed)
	late := task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)
	tests := []struct {
		name  string
		polls [][]crsapi.Task
		want  map[string]uint64
	}{
		{
			"through all statuses",
			[][]crsapi.Task{{in(0)}, {in(1)}, {in(2)}, {in(3)}, {in(-1)}},
			map[string]uint64{
				"crs-a backupInstance executing": 1, "crs-a backupInstance succeeded": 1,
				"crs-a backupInstance failed": 1, "crs-a backupInstance error": 1,
			},
		},
		{
			"a new task counts in the status it shows up in, and only there",
			[][]crsapi.Task{{in(1)}, {in(1), late}},
			map[string]uint64{"crs-a backupInstance failed": 1},
		},
		{
			"an older failed task drops off as this one fails",
			[][]crsapi.Task{{other, in(1)}, {in(3)}},
			map[string]uint64{"crs-a backupInstance failed": 1},
		},
		{
			"vanishes and comes back the same",
			[][]crsapi.Task{{in(1)}, {in(3)}, {}, {in(3)}, {}, {in(3)}},
			map[string]uint64{"crs-a backupInstance failed": 1},
		},
		{
			"vanishes and comes back different",
			[][]crsapi.Task{{in(1)}, {}, {in(3)}},
			map[string]uint64{"crs-a backupInstance failed": 1},
		},
		{
			"a task of the baseline vanishes and comes back",
			[][]crsapi.Task{{in(3), late}, {late}, {in(3), late}},
			nil,
		},
		{
			"to and fro",
			[][]crsapi.Task{{in(0)}, {in(1)}, {in(3)}, {in(1)}, {in(3)}, {in(1)}, {in(3)}},
			map[string]uint64{"crs-a backupInstance executing": 1, "crs-a backupInstance failed": 1},
		},
		{
			"two tasks of one second are two",
			[][]crsapi.Task{{in(1), in(1)}, {in(1), in(3)}, {in(3), in(3)}},
			map[string]uint64{"crs-a backupInstance failed": 2},
		},
		{
			"a second task of the same second shows up",
			[][]crsapi.Task{{in(3)}, {in(3), in(3)}},
			map[string]uint64{"crs-a backupInstance failed": 1},
		},
		{
			"numbers beyond the documented are one status",
			[][]crsapi.Task{{in(7)}, {in(8)}, {in(9)}},
			nil,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newLedgerSteps(t)
			for _, tasks := range test.polls {
				s.poll(tasks...)
				s.scrape()
			}
			s.want("in the end", test.want)
		})
	}
}

func TestLedgerHoldsBackUntilZeroWasShown(t *testing.T) {
	old := task("crs-a", clean, "2017-02-10 01:00:00", crsapi.StatusSucceeded)
	first := task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusFailed)
	second := task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)
	one := map[string]uint64{"crs-a backupInstance failed": 1}
	two := map[string]uint64{"crs-a backupInstance failed": 2}

	t.Run("shown at once", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(old)
		s.scrape()
		s.poll(old, first)
		s.want("birth", nil)
		s.scrape()
		s.poll(old, first, second)
		s.want("next poll", two)
	})
	t.Run("polls that nobody saw", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(old)
		s.scrape()
		s.poll(old, first)
		s.poll(old, first)
		s.poll(old, first, second)
		s.want("not shown yet", nil)
		s.scrape()
		s.want("shown, but no poll since", nil)
		s.poll(old, first, second)
		s.want("next poll", two)
	})
	t.Run("an earlier tally shown late", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(old)
		before := s.tally
		s.poll(old, first)
		s.ledger.markShown(before)
		s.poll(old, first)
		s.want("the birth was not in what was shown", nil)
		s.scrape()
		s.ledger.markShown(before)
		s.poll(old, first)
		s.want("an older tally takes nothing back", one)
	})
	t.Run("the baseline itself was never shown", func(t *testing.T) {
		s := newLedgerSteps(t)
		running := task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusExecuting)
		s.poll(running)
		s.poll(first)
		s.want("not shown yet", nil)
		s.scrape()
		s.poll(first)
		s.want("next poll", one)
	})
	t.Run("the series is not listed when its count is due", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(old)
		s.poll(old, first)
		s.scrape()
		s.poll(old)
		s.want("next poll", one)
	})
	t.Run("unknown is a series of its own", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(task("crs-a", backup, "2017-02-10 02:00:00", crsapi.StatusExecuting))
		s.scrape()
		born := s.now.Add(time.Minute)
		s.poll(
			task("crs-a", backup, "2017-02-10 02:00:00", crsapi.Status(7)),
			second,
		)
		s.want("birth of unknown; failed was there", one)
		if c := s.tally.counters[0]; !c.unknownCreated.Equal(born) || c.created.Equal(born) {
			t.Errorf("created %s, unknown %s, want the latter %s", c.created, c.unknownCreated, born)
		}
		s.scrape()
		s.poll(task("crs-a", backup, "2017-02-10 02:00:00", crsapi.Status(7)))
		s.want("next poll", map[string]uint64{
			"crs-a backupInstance failed": 1, "crs-a backupInstance unknown": 1,
		})
	})
}

func TestLedgerForgets(t *testing.T) {
	var (
		day     = 24 * time.Hour
		other   = task("crs-b", clean, "2017-02-10 12:00:00", crsapi.StatusSucceeded)
		failed  = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed)
		running = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting)
	)
	t.Run("a task comes back before", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(other, running)
		s.scrape()
		s.poll(other)
		s.now = s.now.Add(30*day - 2*time.Minute)
		s.poll(other, failed)
		s.want("remembered as executing", map[string]uint64{"crs-a backupInstance failed": 1})
	})
	t.Run("a task comes back after", func(t *testing.T) {
		s := newLedgerSteps(t)
		alive := task("crs-a", clean, "2017-02-10 00:00:00", crsapi.StatusSucceeded)
		s.poll(alive, running)
		s.scrape()
		s.poll(alive)
		s.now = s.now.Add(30 * day)
		s.poll(alive)
		if n := len(s.ledger.series[seriesKey{"crs-a", backup}].groups); n != 0 {
			t.Errorf("%d groups are remembered, want 0", n)
		}
		s.poll(alive, failed)
		s.want("forgotten, and so no news", nil)
		s.poll(alive, failed, task("crs-a", backup, "2017-02-10 01:00:01", crsapi.StatusFailed))
		s.want("newer than all that was forgotten", map[string]uint64{"crs-a backupInstance failed": 1})
		s.wantSeries("the instance is listed", seriesKey{"crs-a", backup}, seriesKey{"crs-a", clean})
	})
	t.Run("a task that is newer than all that is listed", func(t *testing.T) {
		s := newLedgerSteps(t)
		older := task("crs-a", backup, "2017-02-09 01:00:00", crsapi.StatusSucceeded)
		s.poll(older, running)
		for range 4 {
			s.now = s.now.Add(10 * day)
			s.poll(older)
		}
		if n := len(s.ledger.series[seriesKey{"crs-a", backup}].groups); n != 1 {
			t.Errorf("%d groups are remembered, want 1", n)
		}
	})
	t.Run("an instance", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(other, running)
		s.scrape()
		s.poll(other, failed)
		s.scrape()
		s.now = s.now.Add(30*day - time.Minute)
		s.poll(other)
		s.wantSeries("listed 30 days ago", seriesKey{"crs-a", backup}, seriesKey{"crs-b", clean})
		s.poll(other)
		s.wantSeries("longer ago", seriesKey{"crs-b", clean})
		s.poll(other, failed)
		s.scrape()
		s.want("born again", nil)
		s.poll(other, failed, task("crs-a", backup, "2017-03-20 01:00:00", crsapi.StatusFailed))
		s.want("counts anew", map[string]uint64{"crs-a backupInstance failed": 1})
	})
	t.Run("an instance with something held back", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(other)
		s.poll(other, failed)
		s.now = s.now.Add(31 * day)
		s.poll(other)
		s.scrape()
		if len(s.ledger.holding) > 0 {
			t.Errorf("a forgotten series is still held")
		}
		s.poll(other)
		s.wantSeries("forgotten", seriesKey{"crs-b", clean})
	})
	t.Run("all of it while the API was away", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(other, running)
		s.scrape()
		s.now = s.now.Add(100 * day)
		s.poll(other, failed)
		s.want("listed before and after", map[string]uint64{"crs-a backupInstance failed": 1})
	})
	t.Run("a date in the future blinds nobody", func(t *testing.T) {
		s := newLedgerSteps(t)
		s.poll(other, task("crs-b", clean, "2099-01-01 00:00:00", crsapi.StatusSucceeded))
		s.scrape()
		s.now = s.now.Add(31 * day)
		s.poll(other)
		s.poll(other, task("crs-b", clean, "2017-03-20 00:00:00", crsapi.StatusFailed))
		s.want("a task of today", map[string]uint64{"crs-b cleanInstance failed": 1})
	})
}

func TestLedgerTalliesNeverChange(t *testing.T) {
	s := newLedgerSteps(t)
	s.poll(task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting))
	s.scrape()
	first := s.tally
	s.poll(task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting))
	if s.tally != first {
		t.Error("nothing changed, but the tally did")
	}
	s.poll(task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed))
	if n := first.counters[0].entered[failed]; n != 0 {
		t.Errorf("a poll changed an earlier tally to %d", n)
	}
	s.want("new tally", map[string]uint64{"crs-a backupInstance failed": 1})
}

func TestLedgerMoreTwinsThanItCounts(t *testing.T) {
	var tasks []crsapi.Task
	for range math.MaxUint16 + 10 {
		tasks = append(tasks, task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed))
	}
	s := newLedgerSteps(t)
	s.poll(tasks[0])
	s.scrape()
	s.poll(tasks...)
	s.want("bounded, not wrapped", map[string]uint64{"crs-a backupInstance failed": math.MaxUint16 - 1})
	s.poll(tasks...)
	s.want("bounded for good", map[string]uint64{"crs-a backupInstance failed": math.MaxUint16 - 1})
}

// modelTask is a task as the world has it: with an identity that the API does
// not give away.
type modelTask struct {
	key    seriesKey
	start  int64
	status crsapi.Status
	listed bool
	saw    map[status]bool // statuses that a poll saw it in
}

// world is a list that lives, and a scraper that keeps its samples.
type world struct {
	t       *rapid.T
	now     time.Time
	tasks   []*modelTask
	ledger  *ledger
	tally   *tally
	samples map[sampleKey]uint64
}

type sampleKey struct {
	seriesKey
	status  status
	created time.Time
}

func newWorld(t *rapid.T) *world {
	return &world{
		t: t, now: time.Unix(1_700_000_000, 0), ledger: newLedger(), samples: map[sampleKey]uint64{},
	}
}

func (w *world) add(start int64, st crsapi.Status) {
	w.tasks = append(w.tasks, &modelTask{
		key: seriesKey{
			rapid.SampledFrom([]string{"crs-a", "crs-b"}).Draw(w.t, "redisId"),
			rapid.SampledFrom([]string{backup, clean}).Draw(w.t, "taskName"),
		},
		start: start, status: st, listed: true, saw: map[status]bool{},
	})
}

func (w *world) pick() *modelTask {
	if len(w.tasks) == 0 {
		w.t.Skip("no task yet")
	}
	return rapid.SampledFrom(w.tasks).Draw(w.t, "task")
}

func (w *world) list() []crsapi.Task {
	var tasks []crsapi.Task
	for _, m := range w.tasks {
		if m.listed {
			tasks = append(tasks, crsapi.Task{
				RedisID: m.key.redisID, TaskName: m.key.taskName,
				StartTime: time.Unix(m.start, 0), Status: m.status,
			})
		}
	}
	if len(tasks) > 1 {
		tasks = rapid.Permutation(tasks).Draw(w.t, "order")
	}
	return tasks
}

func (w *world) poll(tasks []crsapi.Task) {
	snap, runs := takeSnapshot([]asked{{list: list(tasks...)}}, 0)
	w.tally = w.ledger.update(snap, runs, w.now)
	for _, m := range w.tasks {
		if m.listed {
			m.saw[statusOf(m.status)] = true
		}
	}
}

// scrape checks what any scraper may rely on.
func (w *world) scrape() {
	if w.tally == nil {
		w.t.Skip("no poll yet")
	}
	for _, c := range w.tally.counters {
		for st, n := range c.entered {
			key := sampleKey{c.seriesKey, status(st), c.created}
			if key.status == unknown {
				key.created = c.unknownCreated
			}
			last, known := w.samples[key]
			if !known && n != 0 {
				w.t.Fatalf("the first sample of %v is %d", key, n)
			}
			if n < last {
				w.t.Fatalf("%v fell from %d to %d", key, last, n)
			}
			w.samples[key] = n
		}
	}
	w.ledger.markShown(w.tally)
}

// settle makes everything show that is held back, and returns the counters.
func (w *world) settle() map[seriesKey][statuses]uint64 {
	tasks := w.list()
	w.poll(tasks)
	w.scrape()
	w.poll(tasks)
	w.scrape()
	all := map[seriesKey][statuses]uint64{}
	for _, c := range w.tally.counters {
		all[c.seriesKey] = c.entered
	}
	return all
}

var anyStatus = rapid.SampledFrom([]crsapi.Status{-1, 0, 1, 2, 3, 7})

// TestLedgerAgainstIdentities: as long as no two tasks share an identity, the
// ledger counts exactly the (task, status) pairs that polls saw after the
// baseline and not before, wherever tasks move and whenever they vanish.
func TestLedgerAgainstIdentities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(0, 5).Draw(t, "tasks at first") {
			w.add(w.now.Unix()-int64(len(w.tasks)), anyStatus.Draw(t, "status"))
		}
		w.poll(w.list())
		baseline := map[*modelTask]map[status]bool{}
		for _, m := range w.tasks {
			baseline[m] = maps.Clone(m.saw)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				w.now = w.now.Add(time.Second)
				w.add(w.now.Unix(), anyStatus.Draw(t, "status"))
			},
			"add late": func(t *rapid.T) {
				w.add(w.now.Unix()-1000-int64(len(w.tasks)), anyStatus.Draw(t, "status"))
			},
			"move":   func(t *rapid.T) { w.pick().status = anyStatus.Draw(t, "status") },
			"list":   func(t *rapid.T) { m := w.pick(); m.listed = !m.listed },
			"poll":   func(*rapid.T) { w.poll(w.list()) },
			"scrape": func(*rapid.T) { w.scrape() },
		})
		got := w.settle()
		want := map[seriesKey][statuses]uint64{}
		for _, m := range w.tasks {
			n, ok := want[m.key]
			for st := range m.saw {
				ok = true
				if !baseline[m][st] {
					n[st]++
				}
			}
			if ok {
				want[m.key] = n
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// TestLedgerTwinsEndExactly: tasks that share an identity cannot be told
// apart, but as long as they stay listed and ends are final, each end counts.
func TestLedgerTwinsEndExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.poll(nil)
		w.scrape()
		progress := map[crsapi.Status][]crsapi.Status{0: {1, 2, 3, -1}, 1: {2, 3, -1}}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				start := w.now.Unix() - rapid.Int64Range(0, 2).Draw(t, "age")
				w.add(start, rapid.SampledFrom([]crsapi.Status{0, 1, 2, 3, -1}).Draw(t, "status"))
			},
			"move": func(t *rapid.T) {
				m := w.pick()
				if next := progress[m.status]; next != nil {
					m.status = rapid.SampledFrom(next).Draw(t, "status")
				}
			},
			"poll":   func(*rapid.T) { w.poll(w.list()) },
			"scrape": func(*rapid.T) { w.scrape() },
		})
		got := w.settle()
		for key, counts := range got {
			var want [statuses]uint64
			for _, m := range w.tasks {
				if m.key == key {
					want[statusOf(m.status)]++
				}
			}
			for _, st := range []status{succeeded, failed, errored} {
				if counts[st] != want[st] {
					t.Fatalf("%v %s: got %d, want %d", key, statusNames[st], counts[st], want[st])
				}
			}
		}
	})
}

// naiveLedger is the ledger's rules once more, without any of its economy.
type naiveLedger struct {
	begun    bool
	groups   map[naiveGroup]*naiveMarks
	horizons []int64 // starts of all that was forgotten
	series   map[seriesKey]*[statuses]naiveCounter
	listed   map[string]time.Time
}

type naiveGroup struct {
	key   seriesKey
	start int64
}

type naiveMarks struct {
	most [statuses]int
	seen time.Time
}

type naiveCounter struct {
	exists, shown bool
	shows, holds  uint64
}

func (l *naiveLedger) update(tasks []crsapi.Task, now time.Time) {
	for _, counters := range l.series {
		for st := range counters {
			if c := &counters[st]; c.shown {
				c.shows, c.holds = c.shows+c.holds, 0
			}
		}
	}
	counts := map[naiveGroup]*[statuses]int{}
	for _, task := range tasks {
		key := seriesKey{task.RedisID, task.TaskName}
		id := naiveGroup{key, task.StartTime.Unix()}
		if counts[id] == nil {
			counts[id] = new([statuses]int)
		}
		counts[id][statusOf(task.Status)]++
		l.listed[key.redisID] = now
		if l.series[key] == nil {
			l.series[key] = new([statuses]naiveCounter)
			for st := range unknown {
				l.series[key][st].exists = true
			}
		}
		if st := statusOf(task.Status); st == unknown {
			l.series[key][st].exists = true
		}
	}
	for id, n := range counts {
		marks, known := l.groups[id]
		if !known {
			marks = &naiveMarks{}
			l.groups[id] = marks
		}
		counting := l.begun && (known || !slices.ContainsFunc(l.horizons, func(h int64) bool { return h >= id.start }))
		marks.seen = now
		for st := range n {
			if more := n[st] - marks.most[st]; more > 0 {
				marks.most[st] = n[st]
				if counting {
					l.series[id.key][st].count(uint64(more))
				}
			}
		}
	}
	l.begun = true
	limit := now.Add(-30 * 24 * time.Hour)
	for id, marks := range l.groups {
		if marks.seen.Before(limit) && time.Unix(id.start, 0).Before(limit) {
			delete(l.groups, id)
			l.horizons = append(l.horizons, id.start)
		}
	}
	for redisID, last := range l.listed {
		if last.Before(limit) {
			maps.DeleteFunc(l.groups, func(id naiveGroup, _ *naiveMarks) bool { return id.key.redisID == redisID })
			maps.DeleteFunc(l.series, func(key seriesKey, _ *[statuses]naiveCounter) bool { return key.redisID == redisID })
			delete(l.listed, redisID)
		}
	}
}

func (c *naiveCounter) count(n uint64) {
	if c.shown {
		c.shows += n
	} else {
		c.holds += n
	}
}

func (l *naiveLedger) scrape() {
	for _, counters := range l.series {
		for st := range counters {
			if counters[st].exists {
				counters[st].shown = true
			}
		}
	}
}

func (l *naiveLedger) compare(t *tally) error {
	var got, want []string
	for _, c := range t.counters {
		for st, n := range c.entered {
			if status(st) != unknown || !c.unknownCreated.IsZero() {
				got = append(got, fmt.Sprintln(c.seriesKey, st, n))
			}
		}
	}
	for key, counters := range l.series {
		for st, c := range counters {
			if c.exists {
				want = append(want, fmt.Sprintln(key, st, c.shows))
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

// TestLedgerAgainstNaive compares every tally with the naive one, with twins,
// rows that come and go, dates of all kinds, and months that pass.
func TestLedgerAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		naive := &naiveLedger{
			groups: map[naiveGroup]*naiveMarks{},
			series: map[seriesKey]*[statuses]naiveCounter{},
			listed: map[string]time.Time{},
		}
		day := int64(24 * 60 * 60)
		age := rapid.SampledFrom([]int64{0, 0, 1, 2, day, 29 * day, 31 * day, 45 * day, -day, -100 * day})
		pass := rapid.SampledFrom([]int64{0, 1, day, 5 * day, 29 * day, 30 * day, 31 * day})
		t.Repeat(map[string]func(*rapid.T){
			"add":  func(t *rapid.T) { w.add(w.now.Unix()-age.Draw(t, "age"), anyStatus.Draw(t, "status")) },
			"move": func(t *rapid.T) { w.pick().status = anyStatus.Draw(t, "status") },
			"list": func(t *rapid.T) { m := w.pick(); m.listed = !m.listed },
			"wait": func(t *rapid.T) { w.now = w.now.Add(time.Duration(pass.Draw(t, "seconds")) * time.Second) },
			"poll": func(t *rapid.T) {
				tasks := w.list()
				w.poll(tasks)
				naive.update(tasks, w.now)
				if err := naive.compare(w.tally); err != nil {
					t.Fatal(err)
				}
			},
			"scrape": func(*rapid.T) {
				w.scrape()
				naive.scrape()
			},
		})
		if distinct := len(slices.Compact(slices.SortedFunc(slices.Values(w.ledger.holding), func(a, b *watched) int {
			return a.compare(b.seriesKey)
		}))); distinct != len(w.ledger.holding) {
			t.Fatalf("%d of %d series held back are listed twice", len(w.ledger.holding)-distinct, len(w.ledger.holding))
		}
		for key, watched := range w.ledger.series {
			if !slices.IsSortedFunc(watched.groups, func(a, b group) int { return cmp.Compare(a.start, b.start) }) {
				t.Fatalf("groups of %v are out of order: %v", key, watched.groups)
			}
		}
	})
}
