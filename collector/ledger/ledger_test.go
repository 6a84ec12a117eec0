package ledger_test

import (
	"cmp"
	"flag"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// raceDetector says that all takes ten times as long.
var raceDetector bool

func TestMain(m *testing.M) {
	if raceDetector {
		_ = flag.Set("rapid.checks", "10") // the command line may set another number
	}
	goleak.VerifyTestMain(m)
}

// Short names of the statuses.
const (
	pending   = ledger.Pending
	executing = ledger.Executing
	succeeded = ledger.Succeeded
	failed    = ledger.Failed
	errored   = ledger.Errored
	unknown   = ledger.Rare
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

// identity is what the API tells of the identity of a task.
type identity struct {
	ledger.Series
	second int64
}

// row is the tasks of a series that were submitted in one second.
type row struct {
	identity
	tasks [ledger.Statuses]uint16
}

// in returns tasks of one second, one in each of the statuses. Without a status they are
// not listed any more.
func in(series ledger.Series, second int64, statuses ...int) row {
	r := row{identity: identity{series, second}}
	for _, status := range statuses {
		r.tasks[status]++
	}
	return r
}

// steps drives a ledger as polls and scrapes do.
type steps struct {
	t        rapid.TB
	ledger   *ledger.Ledger
	source   string
	now      time.Time
	skew     time.Duration    // of the API's clock
	ours     time.Duration    // of our clock
	list     map[identity]row // as in the last poll
	counters []ledger.Counters
	changed  bool
}

func newSteps(t rapid.TB) *steps {
	return &steps{t: t, ledger: ledger.New(), source: "2.0", now: time.Unix(noon, 0), list: map[identity]row{}}
}

// poll applies a list.
func (s *steps) poll(rows ...row) {
	s.list = map[identity]row{}
	s.update(rows)
	s.apply(tasks(s.list))
}

// change applies the last list with changes, or tells that it is the same.
func (s *steps) change(rows ...row) {
	if s.update(rows); len(rows) > 0 {
		s.apply(tasks(s.list))
	} else {
		s.apply(nil)
	}
}

func (s *steps) update(rows []row) {
	for _, r := range rows {
		if s.list[r.identity] = r; r.tasks == [ledger.Statuses]uint16{} {
			delete(s.list, r.identity)
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
	s.changed = s.ledger.Apply(ledger.Batch{Source: s.source, Tasks: tasks, Time: s.now.Add(s.ours), Date: s.now.Add(s.skew)})
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
	s.ledger = ledger.Reload(s.t, s.ledger)
	s.counters = s.ledger.Counters()
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

func TestHistory(t *testing.T) {
	once := []string{oneFailed}
	for _, test := range []struct {
		name     string
		baseline []row
		skew     time.Duration
		later    int64 // second of a task that appears later
		want     []string
	}{
		{"an hour before the newest task of the baseline", []row{in(cleanA, noon-9, failed)}, 0, noon - 9 - hour, once},
		{"a second more than an hour before", []row{in(cleanA, noon-9, failed)}, 0, noon - 9 - hour - 1, nil},
		{"empty baseline: the API's clock is ahead of ours", nil, 2 * time.Hour, noon + hour - 1, nil},
		{"empty baseline: the API's clock is behind ours", nil, -2 * time.Hour, noon - 3*hour, once},
		{"only a date in the future: history before Date", []row{in(cleanA, noon+100*hour, failed)}, 0, noon - hour - 1, nil},
		{"a date in the future is left out", []row{in(cleanA, noon+1, failed), in(cleanA, noon-5*hour, failed)}, 0, noon - 6*hour, once},
		{"a date at Date is not left out", []row{in(cleanA, noon, failed), in(cleanA, noon-5*hour, failed)}, 0, noon - 2*hour, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSteps(t)
			s.skew = test.skew
			s.poll(test.baseline...)
			s.restart()
			s.change(in(backupA, test.later, failed))
			s.settle()
			s.want("when it appears", test.want...)
		})
	}
}

// The first list of another source counts nothing. History is what was submitted an hour
// before the newest task of both.
func TestAbsorbed(t *testing.T) {
	for name, newest := range map[string][2]int64{"newer": {noon - 9*hour, noon}, "older": {noon, noon - 9*hour}} {
		t.Run("a list whose tasks are "+name, func(t *testing.T) {
			s := newSteps(t)
			s.poll(in(backupA, newest[0], failed))
			s.show()
			before := s.ledger.Counters()[0]
			s.source, s.now = "3.0", s.now.Add(time.Minute)
			s.poll(in(backupA, newest[1], failed), in(backupB, newest[1], failed))
			if !s.changed || s.ledger.Source() != "3.0" || s.counters[0] != before {
				t.Errorf("changed: %t, source %q, got %v, want %v", s.changed, s.ledger.Source(), s.counters[0], before)
			}
			s.settle()
			s.want("absorbed")
			s.change(in(backupA, noon-hour-1, failed))
			s.want("history")
			s.change(in(backupA, noon-hour, failed), in(backupB, newest[1], failed, failed, failed))
			s.want("the next list", oneFailed, "crs-b backup failed 2")
		})
	}
}

// A status that is rare has a counter of its own, with a first 0 and a date of creation.
func TestRareCounter(t *testing.T) {
	s := newSteps(t)
	s.skew = -time.Minute // a date of creation after the samples would count them again
	s.poll(in(backupA, noon, executing))
	s.show()
	begin, before := s.now.Add(s.skew), s.counters
	s.now = s.now.Add(time.Minute)
	s.change(in(backupA, noon, unknown), in(backupA, noon+1, failed))
	s.want("the others are released", oneFailed)
	if before[0].ByStatus[unknown].Created != 0 || len(counts(before)) > 0 {
		t.Errorf("the counters before are %v now", before)
	}
	if c := s.counters[0].ByStatus; c[failed].Created != begin.UnixNano() || c[unknown].Created != begin.Add(time.Minute).UnixNano() {
		t.Errorf("got %+v, want creation at %s and a minute later", c, begin)
	}
	s.ledger.Shown(s.counters)
	s.ledger.Shown(before)
	s.change()
	s.want("shown once", oneFailed)
	s.ledger.Shown(s.counters)
	s.change()
	s.want("shown twice", oneFailed, "crs-a backup unknown 1")
}

// What was shown twice before a restart counts at once, all else is shown twice again.
func TestFirstZeroAfterARestart(t *testing.T) {
	s := newSteps(t)
	s.poll(in(backupA, noon, executing))
	s.show()
	s.change(in(backupB, noon, failed))
	s.ledger.Shown(s.counters)
	s.restart()
	s.ledger.Shown(s.counters)
	s.change(in(backupA, noon, failed))
	s.want("shown once since", oneFailed)
	s.settle()
	s.want("shown twice since", oneFailed, "crs-b backup failed 1")
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

// Apply reports a change only if a restart would lose something without it.
func TestApplyReportsChanges(t *testing.T) {
	known := in(backupA, noon, executing)
	for name, test := range map[string]struct {
		batch func(*steps)
		want  bool
	}{
		"the same list":             {func(s *steps) { s.poll(known) }, false},
		"an empty baseline":         {func(s *steps) { *s = *newSteps(s.t); s.poll() }, true},
		"a new task":                {func(s *steps) { s.change(in(backupA, noon+1, pending)) }, true},
		"another status":            {func(s *steps) { s.change(in(backupA, noon, failed)) }, true},
		"a task leaves":             {func(s *steps) { s.change(in(backupA, noon)) }, false},
		"another source":            {func(s *steps) { s.source = "3.0"; s.poll(known) }, true},
		"a count is released":       {func(s *steps) { s.change(in(cleanA, noon, failed)); s.settle() }, true},
		"time passes":               {func(s *steps) { s.watch(5 * time.Minute) }, false},
		"the facts are of long ago": {func(s *steps) { s.watch(10 * time.Minute) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteps(t)
			s.poll(known)
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
	t.Run("counters of an instance stay while it is listed", func(t *testing.T) {
		s := newSteps(t)
		s.poll(running, alive)
		s.show()
		s.poll(fails, alive)
		s.poll(alive)
		s.watch(90 * day)
		s.change(fails)
		s.want("the task is forgotten, so it is history", oneFailed)
		s.wantSeries("series stay", backupA, cleanA)
		s.change(in(backupA, second+1, failed))
		s.want("newer than all that was forgotten", "crs-a backup failed 2")
	})
	t.Run("an instance", func(t *testing.T) {
		s := newSteps(t)
		other := in(backupB, noon, succeeded)
		s.poll(running, alive, other)
		s.show()
		s.poll(fails, alive, other)
		s.poll(alive, other)
		s.watch(10 * day)
		s.poll(other)
		s.watch(29 * day)
		s.restart()
		s.change(in(backupB, noon-9*hour, failed)) // history
		s.watch(day - time.Hour)
		s.wantSeries("before 30 days, in order", backupA, cleanA, backupB)
		s.watch(time.Hour)
		s.wantSeries("all series of the instance together", backupB)
		s.now, s.skew = s.now.Add(time.Minute), time.Minute
		s.change(fails, in(backupA, s.now.Unix(), failed))
		s.want("returned: a new counter has to be shown")
		if at := s.counters[0].ByStatus[failed].Created; at != s.now.UnixNano() {
			t.Errorf("created at %d, want %s", at, s.now)
		}
		s.settle()
		s.want("only what is new counts", oneFailed)
	})
	for name, test := range map[string]struct {
		polls func(*steps) // while the task is not listed
		want  []string     // once it returns as failed
	}{
		"an hour less than 30 days":       {func(s *steps) { s.watch(30*day - time.Hour) }, []string{oneFailed}},
		"30 days by the API's clock only": {func(s *steps) { s.skew = 30 * day; s.change() }, nil},
		"30 days by our clock only":       {func(s *steps) { s.ours = 30 * day; s.change() }, []string{oneFailed}},
		"30 days without a poll":          {func(s *steps) { s.now = s.now.Add(30 * day) }, []string{oneFailed}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteps(t)
			s.poll(running, alive)
			s.show()
			s.change(in(backupA, second))
			test.polls(s)
			s.change(fails)
			s.want("returned as failed", test.want...)
		})
	}
}
