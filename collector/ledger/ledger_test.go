package ledger_test

import (
	"cmp"
	"flag"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"go.uber.org/goleak"
)

// raceDetector says that all takes ten times as long.
var raceDetector bool

func TestMain(m *testing.M) {
	if raceDetector {
		_ = flag.Set("rapid.checks", "10") // the command line may set another number
	}
	goleak.VerifyTestMain(m)
}

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

// row is the tasks of a series that were submitted in one second.
type row struct {
	ledger.Series
	second int64
	tasks  [ledger.Statuses]uint16
}

// in returns tasks of one second, one in each of the statuses. Without a status they are
// not listed any more.
func in(series ledger.Series, second int64, statuses ...int) row {
	r := row{Series: series, second: second}
	for _, status := range statuses {
		r.tasks[status]++
	}
	return r
}

// steps drives a ledger as polls and scrapes do.
type steps struct {
	t        testing.TB
	ledger   *ledger.Ledger
	source   string
	now      time.Time
	skew     time.Duration    // of the API's clock
	list     map[identity]row // as in the last poll
	counters []ledger.Counters
	changed  bool
}

func newSteps(t testing.TB) *steps {
	return &steps{t: t, ledger: ledger.New(), source: "2.0", now: time.Unix(noon, 0), list: map[identity]row{}}
}

// poll applies a list.
func (s *steps) poll(rows ...row) {
	s.list = map[identity]row{}
	s.update(rows)
	s.apply(tasks(s.list))
}

// change applies the last list with changes, or as it was without any.
func (s *steps) change(rows ...row) {
	if len(rows) == 0 {
		s.apply(nil)
		return
	}
	s.update(rows)
	s.apply(tasks(s.list))
}

func (s *steps) update(rows []row) {
	for _, r := range rows {
		if s.list[identity{r.Series, r.second}] = r; r.tasks == [ledger.Statuses]uint16{} {
			delete(s.list, identity{r.Series, r.second})
		}
	}
}

// tasks yields a list second by second.
func tasks(list map[identity]row) iter.Seq2[ledger.Series, ledger.Second] {
	rows := slices.SortedFunc(maps.Values(list), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.second, b.second), a.Compare(b.Series))
	})
	return func(yield func(ledger.Series, ledger.Second) bool) {
		for _, r := range rows {
			if !yield(r.Series, ledger.Second{Start: r.second, Most: r.tasks}) {
				return
			}
		}
	}
}

func (s *steps) apply(tasks iter.Seq2[ledger.Series, ledger.Second]) {
	s.changed = s.ledger.Apply(ledger.Batch{Source: s.source, Tasks: tasks, Time: s.now, Date: s.now.Add(s.skew)})
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

// restart restores the ledger from what a file has.
func (s *steps) restart() {
	s.t.Helper()
	l, err := ledger.Reload(s.ledger)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ledger, s.counters = l, l.Counters()
}

// counts returns the counters that are not 0, as "crs-a backup failed 1".
func counts(all []ledger.Counters) (texts []string) {
	for _, c := range all {
		for status, counter := range c.ByStatus {
			if counter.Value > 0 {
				texts = append(texts, fmt.Sprint(c.RedisID, " ", c.TaskName, " ", statusNames[status], " ", counter.Value))
			}
		}
	}
	return texts
}

// created returns when a counter was created, the zero time without one.
func created(c ledger.Counters, status int) time.Time {
	if c.ByStatus[status].Created == 0 {
		return time.Time{}
	}
	return time.Unix(0, c.ByStatus[status].Created)
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
	for _, c := range s.counters {
		got = append(got, c.Series)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: got series %v, want %v", when, got, want)
	}
}

const oneFailed = "crs-a backup failed 1"

func TestBaselineCountsNothing(t *testing.T) {
	s := newSteps(t)
	tasks := []row{
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
	now := func(statuses ...int) row { return in(backupA, noon-60, statuses...) }
	older, newer := in(backupA, noon-65, failed), in(backupA, noon-55, failed)
	other := func(status int) row { return in(backupB, noon-60, status) }
	type list = []row
	for name, test := range map[string]struct {
		lists []list
		want  []string
	}{
		"one status after another":                        {[]list{{now(pending)}, {now(succeeded)}, {now(failed)}}, []string{"crs-a backup succeeded 1", oneFailed}},
		"a later task counts only in the status it shows": {[]list{{now(executing)}, {now(executing), newer}}, []string{oneFailed}},
		"an older failed task leaves while another fails": {[]list{{older, now(executing)}, {now(failed)}}, []string{oneFailed}},
		"a row vanishes and returns":                      {[]list{{now(executing)}, {now(failed)}, {}, {now(failed)}, {}, {now(failed)}}, []string{oneFailed}},
		"back and forth":                                  {[]list{{now(executing)}, {now(failed)}, {now(executing)}, {now(failed)}}, []string{oneFailed}},
		"twins count twice":                               {[]list{{now(executing, executing)}, {now(executing, failed)}, {now(failed, failed)}}, []string{"crs-a backup failed 2"}},
		"one of two twins vanishes and returns":           {[]list{{now(failed, failed)}, {now(failed)}, {now(failed, failed)}}, nil},
		"twins cannot be told apart":                      {[]list{{now(failed, executing)}, {now(failed)}}, nil},
		"the same second in another series":               {[]list{{now(failed), other(executing)}, {now(failed), other(failed)}}, []string{"crs-b backup failed 1"}},
		"an undocumented status":                          {[]list{{now(unknown)}, {now(unknown, unknown)}}, []string{"crs-a backup unknown 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteps(t)
			for _, list := range test.lists {
				s.poll(list...)
				s.show()
			}
			s.change()
			s.want("at the end", test.want...)
		})
	}
}

// The caller may cut its strings out of a whole page of the API.
func TestKeepsNoLargerStrings(t *testing.T) {
	page := strings.Repeat("crs-a backup ", 1000)
	s := newSteps(t)
	s.poll(in(ledger.Series{RedisID: page[:5], TaskName: page[6:12]}, noon, failed))
	got := s.counters[0].Series
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
	many.tasks[failed] = math.MaxUint16
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
		baseline []row
		skew     time.Duration
		later    int64 // second of a task that appears later
		counts   bool
	}{
		{"an hour before the newest task of the baseline", []row{in(cleanA, noon-9, failed)}, 0, noon - 9 - hour, true},
		{"a second more than an hour before", []row{in(cleanA, noon-9, failed)}, 0, noon - 9 - hour - 1, false},
		{"empty baseline: an hour before its Date", nil, 0, noon - hour, true},
		{"empty baseline: a second more", nil, 0, noon - hour - 1, false},
		{"empty baseline: the API's clock is ahead of ours", nil, 2 * time.Hour, noon + hour - 1, false},
		{"empty baseline: the API's clock is behind ours", nil, -2 * time.Hour, noon - 3*hour, true},
		{"before 1970", []row{in(cleanA, -100, failed)}, 0, -50, true},
		{"only a date in the future: history before Date", []row{in(cleanA, noon+100*hour, failed)}, 0, noon - hour - 1, false},
		{"a date in the future is left out", []row{in(cleanA, noon+1, failed), in(cleanA, noon-5*hour, failed)}, 0, noon - 6*hour, true},
		{"a date at Date is not left out", []row{in(cleanA, noon, failed), in(cleanA, noon-5*hour, failed)}, 0, noon - 2*hour, false},
		{"a baseline that is a part: newer tasks of the rest count", []row{in(cleanA, noon-50*hour, failed)}, 0, noon - 2*hour, true},
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
		s.poll(fails)
		before := s.counters[0]
		s.source, s.now = "3.0", s.now.Add(time.Minute)
		s.poll(fails, in(backupA, noon-5, failed), in(backupB, noon-5, failed))
		if !s.changed || s.ledger.Source() != "3.0" || s.counters[0] != before {
			t.Errorf("changed: %t, source %q, got %v, want %v", s.changed, s.ledger.Source(), s.counters[0], before)
		}
		if at := created(s.counters[1], failed); !at.Equal(s.now) {
			t.Errorf("the new series was created at %s, want %s", at, s.now)
		}
		s.settle()
		s.want("absorbed", oneFailed)
		s.change(in(backupB, noon-5, failed, failed), in(backupA, noon, failed))
		s.want("the next list", "crs-a backup failed 2", "crs-b backup failed 1")
	})
	for name, newest := range map[string][2]int64{"newer": {noon - 9*hour, noon}, "older": {noon, noon - 9*hour}} {
		t.Run("history before the newest task of both, the second is "+name, func(t *testing.T) {
			s := newSteps(t)
			s.poll(in(backupA, newest[0], failed))
			s.source = "3.0"
			s.poll(in(backupA, newest[1], failed))
			s.show()
			s.change(in(backupA, noon-hour-1, failed))
			s.want("history")
			s.change(in(backupA, noon-hour, failed))
			s.want("late", oneFailed)
		})
	}
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
		s.poll(old)
		s.want("shown twice, and not listed any more", "crs-a backup failed 2")
		s.change(in(backupA, noon, failed))
		s.want("counts at once", "crs-a backup failed 3")
	})
	t.Run("a series of the baseline", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(backupA, noon, executing))
		s.change(in(backupA, noon, failed))
		s.settle()
		s.want("shown twice", oneFailed)
	})
	t.Run("scrapes show counters without it", func(t *testing.T) {
		s := begin(t)
		before := s.counters
		s.change(first)
		s.ledger.Shown(s.counters)
		s.ledger.Shown(before)
		s.change(in(backupB, noon, failed))
		s.want("the series was in one of them")
		s.ledger.Shown(s.counters)
		s.change()
		s.want("another series was shown once", oneFailed)
	})
	t.Run("rare is a counter of its own", func(t *testing.T) {
		s := newSteps(t)
		s.poll(in(backupA, noon, executing))
		s.show()
		if !created(s.counters[0], unknown).IsZero() {
			t.Error("there is a counter without a task")
		}
		begin, before := s.now, s.counters
		s.now = s.now.Add(time.Minute)
		s.change(in(backupA, noon, unknown), in(backupA, noon+1, failed))
		s.want("the others are released", oneFailed)
		if c := s.counters[0]; !created(c, failed).Equal(begin) || !created(c, unknown).Equal(s.now) {
			t.Errorf("created %s and %s, want %s and %s", created(c, failed), created(c, unknown), begin, s.now)
		}
		s.ledger.Shown(s.counters)
		s.ledger.Shown(before)
		s.change(in(backupA, noon+2, failed, unknown))
		s.want("shown once", "crs-a backup failed 2")
		s.ledger.Shown(s.counters)
		s.change()
		s.want("shown twice", "crs-a backup failed 2", "crs-a backup unknown 2")
	})
	t.Run("a restart", func(t *testing.T) {
		s := begin(t)
		s.change(first)
		s.show()
		s.change(in(backupB, noon, unknown))
		s.ledger.Shown(s.counters)
		s.restart()
		s.ledger.Shown(s.counters)
		s.poll(old, first, second, in(backupB, noon, unknown))
		s.want("what was shown twice counts at once, else it is shown twice again", "crs-a backup failed 2")
		s.settle()
		s.want("shown twice since", "crs-a backup failed 2", "crs-b backup unknown 1")
	})
}

func TestCountersNeverChange(t *testing.T) {
	s := newSteps(t)
	s.poll(in(backupA, noon, executing))
	s.show()
	first := s.counters
	s.poll(in(backupA, noon, failed), in(backupA, noon-1, unknown))
	if len(counts(first)) != 0 || !created(first[0], unknown).IsZero() {
		t.Errorf("a batch changed earlier counters to %v", first)
	}
	s.want("new counters", oneFailed)
}

// A list is read once, the baseline too. An unchanged one costs nothing that grows with it.
func TestApplyIsCheap(t *testing.T) {
	s := newSteps(t)
	s.poll(account(10_000, 1000)...)
	passes := 0
	list := func(yield func(ledger.Series, ledger.Second) bool) {
		passes++
		tasks(s.list)(yield)
	}
	s.ledger = ledger.New()
	for n := range 3 {
		if s.apply(list); passes != n+1 {
			t.Errorf("%d passes after %d lists", passes, n+1)
		}
	}
	s.settle()
	batch := ledger.Batch{Source: s.source, Time: s.now, Date: s.now}
	if n := testing.AllocsPerRun(100, func() { s.ledger.Apply(batch) }); n > 1 {
		t.Errorf("an unchanged list takes %g allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { s.ledger.Shown(s.counters) }); n != 0 {
		t.Errorf("a scrape takes %g allocations", n)
	}
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
		{"an unchanged list", func(s *steps) { s.change() }, false},
		{"an empty baseline", func(s *steps) { *s = *newSteps(s.t); s.poll() }, true},
		{"a new task", func(s *steps) { s.change(in(backupA, noon+1, pending)) }, true},
		{"a new task of history", func(s *steps) { s.change(in(backupA, noon-9*hour, pending)) }, true},
		{"another status", func(s *steps) { s.change(in(backupA, noon, failed)) }, true},
		{"a task leaves", func(s *steps) { s.change(in(backupA, noon)) }, false},
		{"a task leaves and returns", func(s *steps) { s.change(in(backupA, noon)); s.change(known) }, false},
		{"another source", func(s *steps) { s.source = "3.0"; s.poll(known) }, true},
		{
			"a count is released", func(s *steps) {
				s.change(in(cleanA, noon, failed))
				s.settle()
			}, true,
		},
		{"time passes", func(s *steps) { s.watch(5 * time.Minute) }, false},
		{"the facts are of long ago", func(s *steps) { s.watch(10 * time.Minute) }, true},
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
	t.Run("after 30 days", func(t *testing.T) {
		s := begin(t)
		s.watch(30 * day)
		s.change(fails)
		s.want("forgotten, so it is history")
		s.wantSeries("the instance is listed", backupA, cleanA)
		s.change(in(backupA, second+1, failed))
		s.want("newer than all that was forgotten", oneFailed)
	})
	t.Run("counters of an instance stay while it is listed", func(t *testing.T) {
		s := begin(t)
		s.change(fails)
		s.change(in(backupA, second))
		s.watch(90 * day)
		s.restart()
		s.wantSeries("series stay", backupA, cleanA)
		s.poll(alive, in(backupA, noon+5, failed))
		s.want("counts go on", "crs-a backup failed 2")
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
		s.want("returned: a new counter has to be shown")
		if at := created(s.counters[0], failed); !at.Equal(s.now) {
			t.Errorf("created at %s, want %s", at, s.now)
		}
		s.settle()
		s.want("only what is new counts", oneFailed)
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
		s.watch(98 * day)
		s.wantSeries("its date is not 30 days ago", backupA, cleanA, backupB)
		s.watch(2 * day)
		s.wantSeries("its date is 30 days ago", backupA, cleanA)
	})
	for name, test := range map[string]struct {
		polls func(*steps)
		want  []string
	}{
		"an hour less than 30 days": {func(s *steps) { s.watch(30*day - time.Hour) }, []string{oneFailed}},
		"30 days by the API's clock, none by ours": {func(s *steps) {
			begin := s.now
			s.watch(30 * day)
			s.now, s.skew = begin, s.now.Sub(begin)
		}, nil},
		"none by the API's clock, 90 days by ours": {func(s *steps) {
			for range 90 {
				s.now, s.skew = s.now.Add(day), s.skew-day
				s.change()
			}
		}, []string{oneFailed}},
		"30 days without a poll":               {func(s *steps) { s.now = s.now.Add(30 * day) }, []string{oneFailed}},
		"30 days without a poll, then missing": {func(s *steps) { s.now = s.now.Add(30 * day); s.change() }, nil},
		"30 days with restarts and other tasks": {func(s *steps) {
			for range 30 {
				s.watch(day)
				s.restart()
				s.change(in(cleanA, s.now.Unix(), pending))
			}
			s.change()
		}, []string{"crs-a clean pending 30"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			test.polls(s)
			s.change(fails)
			s.want("returned as failed", test.want...)
		})
	}
}

// An API clock that jumps for a while counts nothing twice, and hides no new task.
func TestClockJumps(t *testing.T) {
	for _, by := range []time.Duration{-20000 * day, -3650 * day, -time.Hour, 40 * day, 3650 * day} {
		t.Run(by.String(), func(t *testing.T) {
			s := newSteps(t)
			s.poll(in(backupA, noon, executing), in(cleanA, noon, succeeded), in(backupB, noon-9*hour, failed))
			s.show()
			s.change(in(backupA, noon, failed))
			s.want("failed", oneFailed)
			s.change(in(backupA, noon), in(backupB, noon-9*hour))
			s.skew = by
			s.watch(2 * time.Hour)
			s.skew = 0
			s.watch(2 * time.Hour)
			s.change(in(backupA, noon, failed), in(backupB, noon-9*hour, failed))
			s.settle()
			for _, text := range counts(s.counters) {
				if text != oneFailed {
					t.Errorf("counted %s after the jump", text)
				}
			}
			before := len(counts(s.counters))
			s.change(in(cleanA, s.now.Unix(), failed))
			s.settle()
			if got := counts(s.counters); len(got) != before+1 {
				t.Errorf("got %q, the new task does not count", got)
			}
		})
	}
}

// A date of creation after the samples would count them again.
func TestCreatedByTheEarlierClock(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Minute, -time.Minute, -3650 * day, 40 * day} {
		s := newSteps(t)
		s.skew = skew
		s.poll(in(backupA, noon, unknown))
		want := s.now.Add(min(skew, 0))
		for _, status := range []int{failed, unknown} {
			if got := created(s.counters[0], status); !got.Equal(want) {
				t.Errorf("API's clock %s ahead: created %s, want %s", skew, got, want)
			}
		}
	}
}
