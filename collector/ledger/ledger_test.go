package ledger_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The statuses, as the collector numbers them. The last is ledger.Rare.
const (
	pending = iota
	executing
	succeeded
	failed
	errored
	unknown
)

var statusNames = [ledger.Statuses]string{"pending", "executing", "succeeded", "failed", "error", "unknown"}

var (
	backupA = ledger.Series{RedisID: "crs-a", TaskName: "backup"}
	cleanA  = ledger.Series{RedisID: "crs-a", TaskName: "clean"}
	backupB = ledger.Series{RedisID: "crs-b", TaskName: "backup"}
)

const (
	hour = int64(3600)
	day  = 24 * time.Hour
	// noon is when the steps begin, and the newest task of most baselines.
	noon = int64(1_700_000_000)
)

// in returns tasks of one second, one in each of the statuses. Without a status
// they are not listed any more.
func in(series ledger.Series, second int64, statuses ...int) ledger.Change {
	c := ledger.Change{Series: series, Second: second}
	for _, status := range statuses {
		c.Tasks[status]++
	}
	return c
}

// steps drives a ledger as polls and scrapes do.
type steps struct {
	t        testing.TB
	ledger   *ledger.Ledger
	source   string
	now      time.Time
	skew     time.Duration // of the API's clock
	counters *ledger.Counters
	changed  bool
}

func newSteps(t testing.TB) *steps {
	return &steps{t: t, ledger: ledger.New(), source: "2.0", now: time.Unix(noon, 0)}
}

// poll applies the whole list.
func (s *steps) poll(tasks ...ledger.Change) {
	s.apply(ledger.Batch{Whole: true, Changes: slices.Values(tasks)})
}

// change applies what has changed.
func (s *steps) change(changes ...ledger.Change) {
	s.apply(ledger.Batch{Changes: slices.Values(changes)})
}

func (s *steps) apply(b ledger.Batch) {
	switch s.ledger.Source() {
	case "":
		b.Kind = ledger.Baseline
	case s.source:
	default:
		b.Kind = ledger.Absorbed
	}
	b.Source, b.Time, b.Date = s.source, s.now, s.now.Add(s.skew)
	s.changed = s.ledger.Apply(b)
	s.counters = s.ledger.Counters()
}

// show is what two scrapes do, one of each Prometheus server.
func (s *steps) show() {
	s.ledger.Shown(s.counters)
	s.ledger.Shown(s.counters)
}

// settle lets everything count that is held.
func (s *steps) settle() {
	s.show()
	s.change()
}

// watch polls once an hour. The list does not change.
func (s *steps) watch(d time.Duration) {
	for d > 0 {
		step := min(d, time.Hour)
		s.now, d = s.now.Add(step), d-step
		s.change()
	}
}

// restart restores the ledger from what a file holds.
func (s *steps) restart() {
	s.t.Helper()
	l, err := ledger.Reload(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ledger, s.counters = l, l.Counters()
}

// counts returns the counters that are not 0, as "crs-a backup failed 1".
func counts(c *ledger.Counters) []string {
	var all []string
	if c == nil {
		return nil
	}
	for _, c := range c.All {
		for status, n := range c.Entered {
			if n > 0 {
				all = append(all, fmt.Sprint(c.RedisID, " ", c.TaskName, " ", statusNames[status], " ", n))
			}
		}
	}
	return all
}

func (s *steps) want(when string, want ...string) {
	s.t.Helper()
	if got := counts(s.counters); !slices.Equal(got, want) {
		s.t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

func (s *steps) wantSeries(when string, want ...ledger.Series) {
	s.t.Helper()
	var got []ledger.Series
	for _, c := range s.counters.All {
		got = append(got, c.Series)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: got series %v, want %v", when, got, want)
	}
}

const oneFailed = "crs-a backup failed 1"

func TestNewLedgerHasNothing(t *testing.T) {
	l := ledger.New()
	if l.Counters() != nil || l.Source() != "" {
		t.Errorf("got %v of source %q", l.Counters(), l.Source())
	}
}

func TestBaselineCountsNothing(t *testing.T) {
	s := newSteps(t)
	tasks := []ledger.Change{
		in(backupB, noon-9, failed, unknown), in(cleanA, noon-2, pending), in(backupA, noon-3, executing, errored),
	}
	s.poll(tasks...)
	s.want("baseline")
	s.wantSeries("in order", backupA, cleanA, backupB)
	if s.ledger.Source() != "2.0" {
		t.Errorf("the source is %q", s.ledger.Source())
	}
	s.settle()
	s.poll(tasks...)
	s.want("the same list again")
}

// Every list is shown by two scrapes. The first is the baseline.
func TestTransitions(t *testing.T) {
	const second = noon - 60
	now := func(statuses ...int) ledger.Change { return in(backupA, second, statuses...) }
	older, newer := in(backupA, second-5, failed), in(backupA, second+5, failed)
	type list = []ledger.Change
	for _, test := range []struct {
		name  string
		lists []list
		want  []string
	}{
		{
			"a task enters one status after another",
			[]list{{now(pending)}, {now(executing)}, {now(succeeded)}, {now(failed)}, {now(errored)}},
			[]string{"crs-a backup executing 1", "crs-a backup succeeded 1", oneFailed, "crs-a backup error 1"},
		},
		{
			"a later task counts only in the status in which it appears",
			[]list{{now(executing)}, {now(executing), newer}},
			[]string{oneFailed},
		},
		{
			"a late task in front of a known one",
			[]list{{newer, in(backupA, second-9, pending)}, {newer, now(failed), in(backupA, second-9, pending)}},
			[]string{oneFailed},
		},
		{
			"the first task of an empty list",
			[]list{{}, {now(failed)}, {now(failed)}},
			[]string{oneFailed},
		},
		{
			"an older failed task leaves while another fails",
			[]list{{older, now(executing)}, {now(failed)}},
			[]string{oneFailed},
		},
		{
			"a twin leaves while the other fails",
			[]list{{now(failed, executing)}, {now(failed)}},
			nil, // twins cannot be told apart
		},
		{
			"a row vanishes and returns",
			[]list{{now(executing)}, {now(failed)}, {}, {now(failed)}, {}, {now(failed)}},
			[]string{oneFailed},
		},
		{
			"a row vanishes and returns in another status",
			[]list{{now(executing)}, {}, {now(failed)}},
			[]string{oneFailed},
		},
		{
			"a row of the baseline vanishes and returns",
			[]list{{now(failed), newer}, {newer}, {now(failed), newer}},
			nil,
		},
		{
			"back and forth between two statuses",
			[]list{{now(pending)}, {now(executing)}, {now(failed)}, {now(executing)}, {now(failed)}, {now(executing)}},
			[]string{"crs-a backup executing 1", oneFailed},
		},
		{
			"back to the status of the baseline",
			[]list{{now(executing)}, {now(failed)}, {now(executing)}},
			[]string{oneFailed},
		},
		{
			"twins in one second count twice",
			[]list{{now(executing, executing)}, {now(executing, failed)}, {now(failed, failed)}},
			[]string{"crs-a backup failed 2"},
		},
		{
			"a twin appears later",
			[]list{{now(failed)}, {now(failed, failed)}},
			[]string{oneFailed},
		},
		{
			"one of two twins vanishes and returns",
			[]list{{now(failed, failed)}, {now(failed)}, {now(failed, failed)}},
			nil,
		},
		{
			"the same second in another series",
			[]list{{now(failed), in(backupB, second, executing)}, {now(failed), in(backupB, second, failed)}},
			[]string{"crs-b backup failed 1"},
		},
		{
			"a task of an undocumented status",
			[]list{{now(unknown)}, {now(unknown, unknown)}, {now(unknown, unknown)}},
			[]string{"crs-a backup unknown 1"},
		},
		{
			"a task dated before 1970",
			[]list{{in(backupA, -5, executing)}, {in(backupA, -5, failed)}},
			[]string{oneFailed},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSteps(t)
			for _, list := range test.lists {
				s.poll(list...)
				s.show()
			}
			s.want("at the end", test.want...)
			s.change()
			s.want("after another poll", test.want...)
		})
	}
}

// The caller may cut its strings out of a whole page of the API.
func TestKeepsNoLargerStrings(t *testing.T) {
	page := strings.Repeat("crs-a backup ", 1000)
	s := newSteps(t)
	s.poll(in(ledger.Series{RedisID: page[:5], TaskName: page[6:12]}, noon, failed))
	got := s.counters.All[0].Series
	if got != backupA || unsafe.StringData(got.RedisID) == unsafe.StringData(page) ||
		unsafe.StringData(got.TaskName) == unsafe.StringData(page[6:]) {
		t.Errorf("%v is a part of the page", got)
	}
}

func TestMoreTwinsThanFit(t *testing.T) {
	s := newSteps(t)
	s.poll(in(backupA, noon, failed))
	s.show()
	many := in(backupA, noon, failed)
	many.Tasks[failed] = math.MaxUint16
	s.poll(many)
	s.want("as many as fit", "crs-a backup failed 65534")
	s.poll(many)
	s.want("the same again", "crs-a backup failed 65534")
	s.poll(many, in(backupA, noon+1, failed))
	s.want("another second", "crs-a backup failed 65535")
}

func TestHistory(t *testing.T) {
	for _, test := range []struct {
		name     string
		baseline []ledger.Change
		skew     time.Duration
		later    int64 // second of a task that appears later
		counts   bool
	}{
		{"an hour before the newest task of the baseline", []ledger.Change{in(cleanA, noon-9, failed)}, 0, noon - 9 - hour, true},
		{"a second more than an hour before", []ledger.Change{in(cleanA, noon-9, failed)}, 0, noon - 9 - hour - 1, false},
		{
			"the newest of several",
			[]ledger.Change{in(backupB, noon-9*hour, failed), in(cleanA, noon-9, failed), in(backupA, noon-5*hour, failed)},
			0, noon - 9 - hour - 1, false,
		},
		{"older than the whole baseline, but not by an hour", []ledger.Change{in(cleanA, noon-5*hour, failed)}, 0, noon - 6*hour, true},
		{"empty baseline: an hour before its Date", nil, 0, noon - hour, true},
		{"empty baseline: a second more", nil, 0, noon - hour - 1, false},
		{"empty baseline: the API's clock is ahead of ours", nil, 2 * time.Hour, noon + hour - 1, false},
		{"empty baseline: the API's clock is behind ours", nil, -2 * time.Hour, noon - 3*hour, true},
		{
			"a task dated after Date is left out",
			[]ledger.Change{in(cleanA, noon+1, failed), in(cleanA, noon-5*hour, failed)},
			0, noon - 6*hour, true,
		},
		{
			"a task dated at Date is not left out",
			[]ledger.Change{in(cleanA, noon, failed), in(cleanA, noon-5*hour, failed)},
			0, noon - 2*hour, false,
		},
		{"before 1970", []ledger.Change{in(cleanA, -100, failed)}, 0, -50, true},
		{"only tasks dated after Date: Date stands", []ledger.Change{in(cleanA, noon+100*hour, failed)}, 0, noon - hour, true},
		{"only tasks dated after Date: history before Date", []ledger.Change{in(cleanA, noon+100*hour, failed)}, 0, noon - hour - 1, false},
		{"a date in the future does not hide later tasks", []ledger.Change{in(cleanA, noon+100*hour, failed)}, 0, noon + 5, true},
		{
			"a task that is not listed any more is left out",
			[]ledger.Change{in(cleanA, noon-9, failed), in(backupA, noon)},
			0, noon - 9 - hour, true,
		},
		{"a baseline that is a part: newer tasks of the rest count", []ledger.Change{in(cleanA, noon-50*hour, failed)}, 0, noon - 2*hour, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSteps(t)
			s.skew = test.skew
			s.poll(test.baseline...)
			s.show()
			s.change(in(backupA, test.later, failed))
			s.settle()
			var want []string
			if test.counts {
				want = []string{oneFailed}
			}
			s.want("when it appears", want...)
			s.change(in(backupA, test.later))
			s.change(in(backupA, test.later, failed))
			s.want("when it vanished and returned", want...)
		})
	}
	t.Run("a task of history that changes counts", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(cleanA, noon, failed))
		s.change(in(backupA, noon-9*hour, executing))
		s.settle()
		s.want("when it appears")
		s.change(in(backupA, noon-9*hour, failed))
		s.want("when it fails", oneFailed)
	})
	t.Run("a restart keeps what is history", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(cleanA, noon, failed))
		s.restart()
		s.poll(in(cleanA, noon, failed), in(backupA, noon-hour-1, failed), in(backupB, noon-hour, failed))
		s.settle()
		s.want("what came to light", "crs-b backup failed 1")
	})
}

func TestAbsorbed(t *testing.T) {
	running, fails := in(backupA, noon-9, executing), in(backupA, noon-9, failed)
	t.Run("the first list of another source counts nothing", func(t *testing.T) {
		s := newSteps(t)
		s.poll(running)
		s.show()
		s.source = "3.0"
		s.poll(fails, in(backupA, noon-5, failed), in(cleanA, noon-5, failed))
		if !s.changed || s.ledger.Source() != "3.0" {
			t.Errorf("changed: %t, source %q", s.changed, s.ledger.Source())
		}
		s.settle()
		s.want("absorbed")
		s.poll(fails, in(backupA, noon-5, failed), in(cleanA, noon-5, failed, failed), in(backupA, noon, failed))
		s.settle()
		s.want("the next list", oneFailed, "crs-a clean failed 1")
	})
	t.Run("old series stay", func(t *testing.T) {
		s := newSteps(t)
		s.poll(running)
		s.show()
		s.poll(fails)
		before := s.counters.All[0]
		s.source, s.now = "3.0", s.now.Add(time.Minute)
		s.poll(in(backupB, noon, executing))
		s.want("absorbed", oneFailed)
		s.wantSeries("absorbed", backupA, backupB)
		if s.counters.All[0] != before {
			t.Errorf("got %v, want %v", s.counters.All[0], before)
		}
		if created := s.counters.All[1].Created; !created.Equal(s.now) {
			t.Errorf("the new series was created at %s, want %s", created, s.now)
		}
		s.settle()
		s.change(in(backupB, noon, failed))
		s.want("new series", oneFailed, "crs-b backup failed 1")
	})
	t.Run("held counts stay and are released later", func(t *testing.T) {
		s := newSteps(t)
		s.poll()
		s.poll(fails)
		s.source = "3.0"
		s.poll(fails, in(backupA, noon-1, failed))
		s.want("absorbed")
		s.settle()
		s.want("released", oneFailed)
	})
	t.Run("nothing doubles later", func(t *testing.T) {
		s := newSteps(t)
		s.poll(running)
		s.show()
		s.poll(fails)
		s.source = "3.0"
		s.poll(in(backupA, noon-8, failed))
		s.settle()
		for range 2 {
			s.poll()
			s.poll(fails, in(backupA, noon-8, failed))
			s.want("the tasks of both lists return", oneFailed)
		}
		s.source = "2.0"
		s.poll(fails, in(backupA, noon-7, failed))
		s.poll(fails, in(backupA, noon-7, failed), in(backupA, noon-8, failed))
		s.want("back at the first source", oneFailed)
	})
	t.Run("history before its newest task", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(backupA, noon-9*hour, failed))
		s.source = "3.0"
		s.poll(in(backupA, noon, failed))
		s.show()
		s.change(in(backupA, noon-hour-1, failed))
		s.want("history")
		s.change(in(backupA, noon-hour, failed))
		s.want("late", oneFailed)
	})
	t.Run("an older list does not turn history into news", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(backupA, noon, failed))
		s.source = "3.0"
		s.poll(in(backupA, noon-9*hour, failed))
		s.show()
		s.change(in(backupA, noon-hour-1, failed))
		s.want("history")
	})
	t.Run("only the first list", func(t *testing.T) {
		s := newSteps(t)
		s.poll(running)
		s.show()
		s.source = "3.0"
		s.poll(running)
		s.restart()
		s.show()
		s.poll(fails)
		s.settle()
		s.want("after a restart with the same source", oneFailed)
	})
}

func TestFirstSampleIsZero(t *testing.T) {
	old := in(cleanA, noon-99, succeeded)
	first, second := in(backupA, noon-2, failed), in(backupA, noon-1, failed)
	begin := func(t *testing.T) *steps {
		s := newSteps(t)
		s.poll(old)
		s.show()
		return s
	}
	t.Run("two scrapes show the zero", func(t *testing.T) {
		s := begin(t)
		s.change(first)
		s.want("new series")
		s.ledger.Shown(s.counters)
		s.change(second)
		s.want("shown once")
		s.ledger.Shown(s.counters)
		s.want("no poll since")
		s.change()
		s.want("shown twice", "crs-a backup failed 2")
		s.change(in(backupA, noon, failed))
		s.want("counts at once", "crs-a backup failed 3")
	})
	t.Run("polls without a scrape", func(t *testing.T) {
		s := begin(t)
		s.change(first)
		s.change()
		s.change(second)
		s.change()
		s.want("never shown")
	})
	t.Run("two scrapes show different counters", func(t *testing.T) {
		s := begin(t)
		s.change(first)
		s.ledger.Shown(s.counters)
		s.change(in(backupB, noon, failed)) // new counters
		s.ledger.Shown(s.counters)
		s.change()
		s.want("the second series was shown once", oneFailed)
	})
	t.Run("two scrapes show counters from before", func(t *testing.T) {
		s := begin(t)
		before := s.counters
		s.change(first)
		s.ledger.Shown(before)
		s.ledger.Shown(before)
		s.change()
		s.want("the series was not in them")
		s.ledger.Shown(s.counters)
		s.ledger.Shown(before)
		s.change()
		s.want("it was in one of them")
	})
	t.Run("counters shown late take nothing back", func(t *testing.T) {
		s := begin(t)
		before := s.counters
		s.change(first)
		s.show()
		s.ledger.Shown(before)
		s.ledger.Shown(before)
		s.change()
		s.want("shown twice", oneFailed)
	})
	t.Run("the second scrape shows older counters than the first", func(t *testing.T) {
		s := begin(t)
		s.change(first)
		older := s.counters
		s.change(in(backupB, noon, executing))
		s.ledger.Shown(s.counters)
		s.ledger.Shown(older)
		s.change()
		s.want("the series was in both", oneFailed)
	})
	t.Run("a series of the baseline", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(backupA, noon, executing))
		s.change(in(backupA, noon, failed))
		s.want("the baseline was not shown")
		s.ledger.Shown(s.counters)
		s.change()
		s.want("shown once")
		s.settle()
		s.want("shown twice", oneFailed)
	})
	t.Run("a series that is not listed any more", func(t *testing.T) {
		s := begin(t)
		s.change(first)
		s.show()
		s.poll(old)
		s.want("its count is released", oneFailed)
	})
	t.Run("several statuses", func(t *testing.T) {
		s := begin(t)
		s.change(in(backupA, noon, executing, succeeded, failed, errored, pending))
		s.settle()
		s.want("released together", "crs-a backup pending 1", "crs-a backup executing 1",
			"crs-a backup succeeded 1", oneFailed, "crs-a backup error 1")
	})
	t.Run("rare is a counter of its own", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(backupA, noon, executing))
		s.show()
		if !s.counters.All[0].RareCreated.IsZero() {
			t.Error("there is a counter without a task")
		}
		created := s.now
		s.now = s.now.Add(time.Minute)
		s.change(in(backupA, noon, unknown), in(backupA, noon+1, failed))
		s.want("the others are released", oneFailed)
		if c := s.counters.All[0]; !c.Created.Equal(created) || !c.RareCreated.Equal(s.now) {
			t.Errorf("created %s and %s, want %s and %s", c.Created, c.RareCreated, created, s.now)
		}
		s.ledger.Shown(s.counters)
		s.now = s.now.Add(time.Minute)
		s.change(in(backupA, noon+2, failed, unknown))
		s.want("shown once", "crs-a backup failed 2")
		s.ledger.Shown(s.counters)
		s.change()
		s.want("shown twice", "crs-a backup failed 2", "crs-a backup unknown 2")
	})
	t.Run("rare of the baseline", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(backupA, noon, unknown))
		if s.counters.All[0].RareCreated.IsZero() {
			t.Error("there is no counter")
		}
		s.show()
		s.change(in(backupA, noon, unknown, unknown))
		s.want("counts at once", "crs-a backup unknown 1")
	})
	t.Run("a restart keeps that two scrapes have shown it", func(t *testing.T) {
		s := begin(t)
		s.change(in(backupA, noon, executing, unknown))
		s.show()
		s.restart()
		s.poll(old, in(backupA, noon, failed, unknown, unknown))
		s.want("counts at once", "crs-a backup executing 1", oneFailed, "crs-a backup unknown 2")
	})
	t.Run("a restart forgets that one scrape has shown it", func(t *testing.T) {
		s := begin(t)
		s.change(first, in(backupB, noon, unknown))
		s.ledger.Shown(s.counters)
		s.restart()
		s.ledger.Shown(s.counters)
		s.poll(old, first, in(backupB, noon, unknown))
		s.want("shown once since")
		s.settle()
		s.want("shown twice since", oneFailed, "crs-b backup unknown 1")
	})
}

func TestCountersNeverChange(t *testing.T) {
	s := newSteps(t)
	s.poll(in(backupA, noon, executing))
	s.show()
	first := s.counters
	s.poll(in(backupA, noon, executing))
	if s.counters != first {
		t.Error("nothing changed, but there are new counters")
	}
	s.poll(in(backupA, noon, failed))
	if first.All[0].Entered[failed] != 0 {
		t.Error("a batch changed earlier counters")
	}
	s.want("new counters", oneFailed)
}

// Apply reports a change only if a restart would lose something without it.
func TestApplyReportsChanges(t *testing.T) {
	known := in(backupA, noon, executing)
	for _, test := range []struct {
		name  string
		batch func(*steps)
		want  bool
	}{
		{"the same list", func(s *steps) { s.poll(known) }, false},
		{"nothing", func(s *steps) { s.change() }, false},
		{"a new task", func(s *steps) { s.change(in(backupA, noon+1, pending)) }, true},
		{"a new task of history", func(s *steps) { s.change(in(backupA, noon-9*hour, pending)) }, true},
		{"another status", func(s *steps) { s.change(in(backupA, noon, failed)) }, true},
		{"a task leaves", func(s *steps) { s.change(in(backupA, noon)) }, false},
		{"a task leaves and returns", func(s *steps) { s.change(in(backupA, noon)); s.change(known) }, false},
		{"an unknown task leaves", func(s *steps) { s.change(in(backupB, noon)) }, false},
		{"another source", func(s *steps) { s.source = "3.0"; s.poll(known) }, true},
		{
			"a count is released", func(s *steps) {
				s.change(in(cleanA, noon, failed))
				s.settle()
			}, true,
		},
		{"time passes", func(s *steps) { s.watch(3 * time.Hour) }, false},
		{
			"an instance is forgotten", func(s *steps) {
				s.poll()
				s.watch(30*day + time.Hour)
			}, true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSteps(t)
			s.poll(known)
			if !s.changed {
				t.Error("the baseline is no change")
			}
			s.show()
			if test.batch(s); s.changed != test.want {
				t.Errorf("got %t, want %t", s.changed, test.want)
			}
		})
	}
	t.Run("an empty baseline", func(t *testing.T) {
		s := newSteps(t)
		if s.poll(); !s.changed || s.counters == nil {
			t.Errorf("changed: %t, counters %v", s.changed, s.counters)
		}
	})
}

func TestWholeAndPartialBatches(t *testing.T) {
	// A task that left the list 30 days ago is forgotten, and counts nothing
	// when it returns as failed. One that is listed is remembered, and counts.
	for _, test := range []struct {
		name  string
		batch func(*steps)
		want  []string
	}{
		{"a whole batch without it", func(s *steps) { s.poll(in(cleanA, noon-9*hour, failed)) }, nil},
		{"an empty whole batch", func(s *steps) { s.poll() }, nil},
		{"a partial batch with its end", func(s *steps) { s.change(in(backupA, noon-9)) }, nil},
		{"a partial batch without it", func(s *steps) { s.change(in(cleanA, noon-9*hour, failed)) }, []string{oneFailed}},
		{"a whole batch with it", func(s *steps) { s.poll(in(backupA, noon-9, executing)) }, []string{oneFailed}},
		{
			"left and returned",
			func(s *steps) { s.change(in(backupA, noon-9)); s.change(in(backupA, noon-9, executing)) },
			[]string{oneFailed},
		},
		{
			"the end of another second",
			func(s *steps) { s.change(in(backupA, noon-8), in(cleanA, noon-9)) },
			[]string{oneFailed},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSteps(t)
			s.poll(in(backupA, noon-9, executing))
			s.show()
			test.batch(s)
			s.watch(30*day + time.Hour)
			s.change(in(backupA, noon-9, failed))
			s.settle()
			s.want("returned as failed", test.want...)
		})
	}
}

func TestForget(t *testing.T) {
	const second = noon - 9
	running, fails := in(backupA, second, executing), in(backupA, second, failed)
	alive := in(cleanA, noon, succeeded)
	begin := func(t *testing.T) *steps {
		s := newSteps(t)
		s.poll(running, alive)
		s.show()
		s.change(in(backupA, second))
		return s
	}
	t.Run("not before 30 days", func(t *testing.T) {
		s := begin(t)
		s.watch(30*day - time.Hour)
		s.change(fails)
		s.want("still remembered", oneFailed)
	})
	t.Run("after 30 days", func(t *testing.T) {
		s := begin(t)
		s.watch(30 * day)
		s.change(fails)
		s.want("forgotten, so it is history")
		s.wantSeries("the instance is listed", backupA, cleanA)
		s.change(in(backupA, second+1, failed))
		s.want("newer than all that was forgotten", oneFailed)
		s.change(in(backupB, second, failed), in(backupB, second+1, failed))
		s.settle()
		s.want("the same seconds in another series", oneFailed, "crs-b backup failed 1")
	})
	t.Run("not before 30 days after it returned", func(t *testing.T) {
		s := begin(t)
		s.watch(29 * day)
		s.change(running)
		s.change(in(backupA, second))
		s.watch(29 * day)
		s.change(fails)
		s.want("still remembered", oneFailed)
	})
	t.Run("30 days after it left, however often its end is told", func(t *testing.T) {
		s := begin(t)
		s.watch(10 * day)
		s.change(in(backupA, second))
		s.watch(20 * day)
		s.change(fails)
		s.want("forgotten")
	})
	t.Run("counters of an instance stay while it is listed", func(t *testing.T) {
		s := begin(t)
		s.change(fails)
		s.change(in(backupA, second))
		s.watch(90 * day)
		s.want("counters stay", oneFailed)
		s.wantSeries("series stay", backupA, cleanA)
		s.restart()
		s.wantSeries("series stay across a restart", backupA, cleanA)
		s.poll(alive, in(backupA, noon+5, failed))
		s.want("counts go on", "crs-a backup failed 2")
	})
	t.Run("a task that is listed", func(t *testing.T) {
		s := newSteps(t)
		s.poll(running)
		s.show()
		s.watch(90 * day)
		s.change(fails)
		s.want("remembered", oneFailed)
	})
	t.Run("an instance", func(t *testing.T) {
		s := newSteps(t)
		other := in(backupB, noon, succeeded)
		s.poll(running, alive, other)
		s.show()
		s.change(fails)
		s.poll(alive, other)
		s.watch(10 * day)
		s.poll(other)
		s.watch(30*day - time.Hour)
		s.wantSeries("before 30 days", backupA, cleanA, backupB)
		s.watch(time.Hour)
		s.wantSeries("all series of the instance together", backupB)
		s.now = s.now.Add(time.Minute)
		s.change(fails, in(backupA, s.now.Unix(), failed))
		s.want("returned")
		if created := s.counters.All[0].Created; !created.Equal(s.now) {
			t.Errorf("created at %s, want %s", created, s.now)
		}
		s.ledger.Shown(s.counters)
		s.change()
		s.want("a new counter has to be shown twice")
		s.settle()
		s.want("only what is new counts", oneFailed)
	})
	t.Run("an instance with held counts", func(t *testing.T) {
		s := newSteps(t)
		s.poll(alive)
		s.change(in(backupB, second, failed))
		s.change(in(backupB, second))
		s.watch(30 * day)
		s.wantSeries("forgotten", cleanA)
		if s.settle(); s.changed {
			t.Error("the forgotten count was released")
		}
		s.change(in(backupB, noon+9, executing))
		s.settle()
		s.want("the held count is forgotten too", "crs-b backup executing 1")
	})
	t.Run("one second of several", func(t *testing.T) {
		s := newSteps(t)
		var tasks, gone []ledger.Change
		for i := range int64(9) {
			tasks = append(tasks, in(backupA, second-i, executing))
			if i != 4 {
				gone = append(gone, in(backupA, second-i))
			}
		}
		s.poll(tasks...)
		s.show()
		s.change(gone...)
		s.watch(31 * day)
		s.change(in(backupA, second-4, failed), in(backupA, second-3, failed))
		s.want("the one that is listed is remembered", oneFailed)
		s.change(in(backupA, second, failed))
		s.want("the newest of those forgotten is history", oneFailed)
	})
	t.Run("a date in the future does not hide later tasks", func(t *testing.T) {
		s := newSteps(t)
		s.poll(alive, in(backupB, noon+100*24*hour, executing))
		s.show()
		s.poll(alive)
		s.watch(31 * day)
		s.change(in(backupA, s.now.Unix(), failed))
		s.settle()
		s.want("a task of today", oneFailed)
		s.change(in(backupB, noon+100*24*hour, failed))
		s.settle()
		s.want("the task itself is remembered", oneFailed, "crs-b backup failed 1")
		s.change(in(backupB, noon+100*24*hour))
		s.watch(90 * day)
		s.wantSeries("its date is not 30 days ago", backupA, cleanA, backupB)
		s.watch(10 * day)
		s.wantSeries("its date is 30 days ago", backupA, cleanA)
	})
	t.Run("the clock of the API decides how old a date is", func(t *testing.T) {
		s := begin(t)
		s.skew = -40 * day
		s.watch(31 * day)
		s.change(fails)
		s.want("not old by its date", oneFailed)
		s.change(in(backupA, second))
		s.skew = 0
		s.watch(30 * day)
		s.change(in(backupA, second, errored))
		s.want("forgotten", oneFailed)
	})
	t.Run("a clock that is years behind doubles nothing", func(t *testing.T) {
		s := begin(t)
		s.change(fails)
		s.poll()
		s.skew = -3650 * day
		s.watch(31 * day)
		s.change(fails, alive)
		s.settle()
		s.want("the instance returns", oneFailed)
	})
}

func TestWatchedTime(t *testing.T) {
	running, fails := in(backupA, noon-9, executing), in(backupA, noon-9, failed)
	begin := func(t *testing.T) *steps {
		s := newSteps(t)
		s.poll(running, in(cleanA, noon, succeeded))
		s.show()
		s.change(in(backupA, noon-9))
		return s
	}
	for _, test := range []struct {
		name string
		pass func(*steps)
		want []string
	}{
		{"a year without a poll", func(s *steps) { s.now = s.now.Add(365 * day); s.change() }, []string{oneFailed}},
		{
			"gaps count an hour each: not long enough", func(s *steps) {
				for range 719 {
					s.now = s.now.Add(5 * time.Hour)
					s.change()
				}
			},
			[]string{oneFailed},
		},
		{
			"gaps count an hour each: long enough", func(s *steps) {
				for range 720 {
					s.now = s.now.Add(5 * time.Hour)
					s.change()
				}
			},
			nil,
		},
		{
			"short intervals add up", func(s *steps) {
				for range 30 * 24 * 12 {
					s.now = s.now.Add(5 * time.Minute)
					s.change()
				}
			},
			nil,
		},
		{
			"a restart adds nothing", func(s *steps) {
				s.watch(30*day - time.Hour)
				for range 9 {
					s.restart()
					s.now = s.now.Add(20 * day)
					s.poll(in(cleanA, noon, succeeded))
				}
			},
			[]string{oneFailed},
		},
		{
			"a restart loses nothing", func(s *steps) {
				s.watch(30*day - time.Hour)
				s.restart()
				s.poll(in(cleanA, noon, succeeded))
				s.watch(time.Hour)
			},
			nil,
		},
		{
			"a time in the past adds nothing", func(s *steps) {
				s.watch(30*day - time.Hour)
				s.now = s.now.Add(-3650 * day)
				s.change()
				s.now = s.now.Add(3650 * day)
			},
			[]string{oneFailed},
		},
		{
			"a time in the past takes nothing away", func(s *steps) {
				s.watch(30*day - time.Hour)
				s.now = s.now.Add(-24 * time.Hour)
				s.change()
				s.watch(time.Hour)
				s.now = s.now.Add(24 * time.Hour)
			},
			nil,
		},
		{
			"a second less than 30 days", func(s *steps) {
				s.change(in(backupA, noon-9, executing))
				s.watch(time.Second)
				s.change(in(backupA, noon-9))
				s.watch(30*day - time.Second) // up to a full hour of watching
			},
			[]string{oneFailed},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := begin(t)
			s.skew = 2 * day // dates must not decide here
			test.pass(s)
			s.change(fails)
			s.want("returned as failed", test.want...)
		})
	}
}

// jump returns t with another wall clock and the same monotonic clock, as after
// a step of the system's clock.
func jump(t *testing.T, at time.Time, by time.Duration) time.Time {
	jumped := at
	// The wall clock is in the seconds since 1885 above 30 bits of nanoseconds.
	wall := (*uint64)(unsafe.Pointer(&jumped))
	*wall += uint64(by/time.Second) << 30
	if jumped.Sub(at) != 0 || jumped.Unix()-at.Unix() != int64(by/time.Second) {
		t.Fatal("time.Time has another layout now: adapt this helper")
	}
	return jumped
}

// A date of creation after the samples would count them again.
func TestCreatedWhenAClockIsWrong(t *testing.T) {
	now := time.Now() // with a reading of the monotonic clock
	for _, test := range []struct {
		name      string
		ours, api time.Time
		want      time.Time
	}{
		{"both agree", now, now, now},
		{"ours is ten years behind", jump(t, now, -3650*day), now.Round(0), now},
		{"ours is ten years behind, and no Date header", jump(t, now, -3650*day), jump(t, now, -3650*day), now.Add(-3650 * day)},
		{"ours is forty days ahead", jump(t, now, 40*day), now.Round(0), now},
		{"both dates have a monotonic reading", jump(t, now, 40*day), now, now},
		{"the API's is a minute ahead", now, now.Add(time.Minute), now},
		{"the API's is an hour ahead", now, now.Add(time.Hour), now},
		{"the API's is more than an hour ahead", now, now.Add(time.Hour + 1), now.Add(time.Hour + 1)},
		{"the API's is a minute behind", now, now.Add(-time.Minute), now.Add(-time.Minute)},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := ledger.New()
			l.Apply(ledger.Batch{
				Kind: ledger.Baseline, Source: "2.0", Whole: true, Time: test.ours, Date: test.api,
				Changes: slices.Values([]ledger.Change{in(backupA, noon, unknown)}),
			})
			c := l.Counters().All[0]
			if !c.Created.Round(0).Equal(test.want.Round(0)) || !c.RareCreated.Equal(c.Created) {
				t.Errorf("created %s and %s, want %s", c.Created, c.RareCreated, test.want)
			}
		})
	}
}

// Steps of the wall clock, also of the dates where the API sends none, neither
// forget too early nor too late, and count nothing twice.
func TestWallClockJumps(t *testing.T) {
	for _, by := range []time.Duration{-3650 * day, -time.Hour, 40 * day, 3650 * day} {
		for _, hours := range []int{719, 720} {
			t.Run(fmt.Sprintf("%s within %d hours", by, hours), func(t *testing.T) {
				s := newSteps(t)
				begin := time.Now() // with a reading of the monotonic clock
				s.now = begin
				first := begin.Unix() - 9
				s.poll(in(backupA, first, executing), in(cleanA, first, succeeded))
				s.show()
				s.change(in(backupA, first))
				for n := range hours {
					s.now = begin.Add(time.Duration(n+1) * time.Hour)
					if n/24%2 == 0 { // every other day
						s.now = jump(t, s.now, by)
					}
					s.change()
				}
				s.now = begin.Add(time.Duration(hours) * time.Hour)
				s.change(in(backupA, first, failed), in(cleanA, s.now.Unix(), failed))
				if hours == 719 {
					s.want("remembered", oneFailed, "crs-a clean failed 1")
				} else {
					s.want("forgotten", "crs-a clean failed 1")
				}
			})
		}
	}
}
