package ledger_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"pgregory.net/rapid"
)

// worldTask is a task with an identity, which the API does not tell.
type worldTask struct {
	ledger.Series
	second int64
	status int
	listed bool
	seen   [ledger.Statuses]bool // statuses in which a poll saw it
}

// world is a list of tasks that changes, with two ledgers that follow it, one
// by whole lists and one by changes, and a scraper that keeps its samples.
type world struct {
	t            *rapid.T
	now          time.Time
	skew         time.Duration // of the API's clock
	ours         time.Duration // of our clock
	source       string
	tasks        []*worldTask
	whole, delta *ledger.Ledger
	listed       map[identity]ledger.Change // at the last poll; nil after a restart
	counters     []*ledger.Counters         // all since the last restart
	samples      map[sampleID]uint64
	luck         *rand.Rand
}

// identity is what the API tells of the identity of a task.
type identity struct {
	ledger.Series
	second int64
}

// sampleID is a counter of a series in the database of a scraper.
type sampleID struct {
	ledger.Series
	status  int
	created int64
}

func newWorld(t *rapid.T) *world {
	return &world{
		t: t, now: time.Unix(noon, 0), source: "2.0",
		whole: ledger.New(), delta: ledger.New(), samples: map[sampleID]uint64{},
		luck: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "luck"), 0)),
	}
}

func (w *world) add(second int64, status int) {
	w.tasks = append(w.tasks, &worldTask{
		Series: rapid.SampledFrom([]ledger.Series{backupA, cleanA, backupB}).Draw(w.t, "series"),
		second: second, status: status, listed: true,
	})
}

// jump sets our clock, and the dates of answers with it if the API sends none.
func (w *world) jump(t *rapid.T) {
	w.ours = time.Duration(rapid.SampledFrom([]int{0, 0, -3650, 40}).Draw(t, "days that our clock is ahead")) * day
	w.skew = 0
	if rapid.Bool().Draw(t, "no Date header") {
		w.skew = w.ours
	}
}

func (w *world) pick() *worldTask {
	if len(w.tasks) == 0 {
		w.t.Skip("no task yet")
	}
	return rapid.SampledFrom(w.tasks).Draw(w.t, "task")
}

func (w *world) move()   { w.pick().status = anyStatus.Draw(w.t, "status") }
func (w *world) toggle() { task := w.pick(); task.listed = !task.listed }

var (
	anyStatus = rapid.IntRange(0, ledger.Statuses-1)
	// nextStatus draws a status from that of a task on. Ends are final.
	nextStatus = map[int]*rapid.Generator[int]{
		pending:   rapid.SampledFrom([]int{executing, succeeded, failed, errored}),
		executing: rapid.SampledFrom([]int{succeeded, failed, errored}),
	}
)

// progress moves a task on, unless it has ended.
func (w *world) progress() {
	if task := w.pick(); nextStatus[task.status] != nil {
		task.status = nextStatus[task.status].Draw(w.t, "status")
	}
}

// list returns the list, and marks what a poll sees.
func (w *world) list() map[identity]ledger.Change {
	all := map[identity]ledger.Change{}
	for _, task := range w.tasks {
		if task.listed {
			id := identity{task.Series, task.second}
			c, ok := all[id]
			if !ok {
				c = ledger.Change{Series: task.Series, Second: task.second}
			}
			c.Tasks[task.status]++
			all[id] = c
			task.seen[task.status] = true
		}
	}
	return all
}

// poll applies the list to both ledgers, and returns it as a whole batch.
func (w *world) poll() ledger.Batch {
	now := w.list()
	var changes []ledger.Change
	for id, c := range now {
		if c != w.listed[id] {
			changes = append(changes, c)
		}
	}
	for id, c := range w.listed {
		if _, ok := now[id]; !ok {
			c.Tasks = [ledger.Statuses]uint16{}
			changes = append(changes, c)
		}
	}
	first := w.listed == nil
	w.listed = now
	whole := w.apply(w.whole, ledger.Batch{Whole: true, Changes: slices.Values(w.changes())})
	w.apply(w.delta, ledger.Batch{Whole: first, Changes: slices.Values(w.shuffle(changes))})
	w.compare()
	if c := w.whole.Counters(); len(w.counters) == 0 || c != w.counters[len(w.counters)-1] {
		w.counters = append(w.counters, c)
	}
	return whole
}

func (w *world) apply(l *ledger.Ledger, b ledger.Batch) ledger.Batch {
	switch l.Source() {
	case "":
		b.Kind = ledger.Baseline
	case w.source:
	default:
		b.Kind = ledger.Absorbed
		if !b.Whole { // a list that is absorbed is whole
			b.Whole, b.Changes = true, maps.Values(w.listed)
		}
	}
	b.Source, b.Time, b.Date = w.source, w.now.Add(w.ours), w.now.Add(w.skew)
	l.Apply(b)
	return b
}

// changes returns the whole list.
func (w *world) changes() []ledger.Change { return w.shuffle(slices.Collect(maps.Values(w.list()))) }

// shuffle orders changes by chance, but the same in every run of a failed test.
func (w *world) shuffle(changes []ledger.Change) []ledger.Change {
	slices.SortFunc(changes, func(a, b ledger.Change) int {
		return cmp.Or(a.Compare(b.Series), cmp.Compare(a.Second, b.Second))
	})
	w.luck.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	return changes
}

// compare holds the two ledgers against each other.
func (w *world) compare() {
	w.t.Helper()
	if whole, delta := w.whole.Counters(), w.delta.Counters(); !reflect.DeepEqual(whole, delta) {
		w.t.Fatalf("whole lists give %v, changes give %v", whole, delta)
	}
}

// scrape shows the newest counters, scrapeOlder any others. Both check what a
// scraper relies on.
func (w *world) scrape() *ledger.Counters {
	if len(w.counters) == 0 {
		w.t.Skip("no poll yet")
	}
	newest := w.counters[len(w.counters)-1]
	for id, n := range w.record(newest) {
		if n < w.samples[id] {
			w.t.Fatalf("%v decreased from %d to %d", id, w.samples[id], n)
		}
	}
	return newest
}

func (w *world) scrapeOlder() *ledger.Counters {
	if len(w.counters) == 0 {
		w.t.Skip("no poll yet")
	}
	older := w.counters[rapid.IntRange(0, len(w.counters)-1).Draw(w.t, "counters")]
	w.record(older)
	return older
}

// record takes the samples, and keeps the highest of each counter.
func (w *world) record(counters *ledger.Counters) map[sampleID]uint64 {
	samples := map[sampleID]uint64{}
	for _, c := range counters.All {
		for status, n := range c.Entered {
			id := sampleID{c.Series, status, c.Created.UnixNano()}
			if status == ledger.Rare {
				if id.created = c.RareCreated.UnixNano(); c.RareCreated.IsZero() {
					continue
				}
			}
			last, known := w.samples[id]
			if !known && n != 0 {
				w.t.Fatalf("the first sample of %v is %d", id, n)
			}
			samples[id], w.samples[id] = n, max(n, last)
		}
	}
	// The ledgers number their counters alike: compare has checked that.
	w.whole.Shown(counters)
	w.delta.Shown(counters)
	return samples
}

// restart restores both ledgers from what a file holds.
func (w *world) restart() {
	if len(w.counters) == 0 {
		return
	}
	for _, l := range []**ledger.Ledger{&w.whole, &w.delta} {
		restored, err := ledger.Reload(*l)
		if err != nil {
			w.t.Fatal(err)
		}
		*l = restored
	}
	w.compare()
	w.listed, w.counters = nil, []*ledger.Counters{w.whole.Counters()}
}

// settle lets everything count that is held, and returns the counters.
func (w *world) settle() map[ledger.Series][ledger.Statuses]uint64 {
	w.poll()
	w.scrape()
	w.scrape()
	w.poll()
	w.scrape()
	all := map[ledger.Series][ledger.Statuses]uint64{}
	for _, c := range w.whole.Counters().All {
		all[c.Series] = c.Entered
	}
	return all
}

// As long as no two tasks share an identity, the ledger counts exactly the
// pairs of task and status that a poll saw after the baseline and none before,
// however tasks move, vanish and return, whenever the exporter restarts, and
// wherever its clock jumps.
func TestAgainstIdentities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.jump(t)
		if w.skew > 0 {
			w.skew = 0 // an empty list would make 40 days history
		}
		for range rapid.IntRange(0, 5).Draw(t, "tasks of the baseline") {
			w.add(w.now.Unix()-int64(len(w.tasks)), anyStatus.Draw(t, "status"))
		}
		w.poll()
		baseline := map[*worldTask][ledger.Statuses]bool{}
		for _, task := range w.tasks {
			baseline[task] = task.seen
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				w.now = w.now.Add(time.Second)
				w.add(w.now.Unix(), anyStatus.Draw(t, "status"))
			},
			"add late": func(t *rapid.T) {
				w.add(noon-1000-int64(len(w.tasks)), anyStatus.Draw(t, "status"))
			},
			"move":    func(*rapid.T) { w.move() },
			"toggle":  func(*rapid.T) { w.toggle() },
			"poll":    func(*rapid.T) { w.poll() },
			"scrape":  func(*rapid.T) { w.scrape() },
			"restart": func(*rapid.T) { w.restart() },
			"jump":    w.jump,
		})
		got := w.settle()
		want := map[ledger.Series][ledger.Statuses]uint64{}
		for _, task := range w.tasks {
			n, ok := want[task.Series]
			for status, seen := range task.seen {
				ok = ok || seen
				if seen && !baseline[task][status] {
					n[status]++
				}
			}
			if ok {
				want[task.Series] = n
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// Tasks that share an identity cannot be told apart, but as long as they stay
// listed and ends are final, each end counts.
func TestTwinsEndExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.poll()
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				w.add(w.now.Unix()-rapid.Int64Range(0, 2).Draw(t, "age"), rapid.IntRange(pending, errored).Draw(t, "status"))
			},
			"progress": func(*rapid.T) { w.progress() },
			"poll":     func(*rapid.T) { w.poll() },
			"scrape":   func(*rapid.T) { w.scrape() },
			"restart":  func(*rapid.T) { w.restart() },
		})
		wantEnds(t, w.settle(), w.tasks)
	})
}

func wantEnds(t *rapid.T, got map[ledger.Series][ledger.Statuses]uint64, tasks []*worldTask) {
	t.Helper()
	want := map[ledger.Series][ledger.Statuses]uint64{}
	for _, task := range tasks {
		n := want[task.Series]
		n[task.status]++
		want[task.Series] = n
	}
	for series, n := range want {
		for _, status := range []int{succeeded, failed, errored} {
			if got[series][status] != n[status] {
				t.Fatalf("%v %s: got %d, want %d", series, statusNames[status], got[series][status], n[status])
			}
		}
	}
}

// model has the rules of the ledger once more, without its economy.
type model struct {
	source  string
	first   bool // no batch since the start of the process
	last    time.Time
	watched time.Duration
	begun   bool
	seconds map[identity]*modelSecond
	history []int64 // submission times up to which nothing unknown counts
	series  map[ledger.Series]*[ledger.Statuses]*modelCounter
}

type modelSecond struct {
	most [ledger.Statuses]uint16
	left time.Duration // in time watched; negative while listed
}

type modelCounter struct {
	value, held uint64
	scrapes     int
}

func newModel() *model {
	return &model{
		first: true, seconds: map[identity]*modelSecond{},
		series: map[ledger.Series]*[ledger.Statuses]*modelCounter{},
	}
}

// apply applies a whole batch.
func (m *model) apply(b ledger.Batch) {
	hours := m.watched / time.Hour
	if !m.first {
		m.watched += min(max(b.Time.Sub(m.last), 0), time.Hour)
	}
	m.first, m.last = false, b.Time
	counts := m.begun && b.Source == m.source
	m.begun, m.source = true, b.Source
	if !counts {
		newest := []int64{}
		for c := range b.Changes {
			if c.Second <= b.Date.Unix() {
				newest = append(newest, c.Second)
			}
		}
		if len(newest) == 0 {
			newest = append(newest, b.Date.Unix())
		}
		m.history = append(m.history, slices.Max(newest)-hour-1)
	}
	listed := map[identity]bool{}
	for c := range b.Changes {
		id := identity{c.Series, c.Second}
		listed[id] = true
		if m.series[c.Series] == nil {
			m.series[c.Series] = new([ledger.Statuses]*modelCounter)
			for status := range ledger.Rare {
				m.series[c.Series][status] = &modelCounter{}
			}
		}
		counters := m.series[c.Series]
		if c.Tasks[ledger.Rare] > 0 && counters[ledger.Rare] == nil {
			counters[ledger.Rare] = &modelCounter{}
		}
		s, known := m.seconds[id]
		if !known {
			s = &modelSecond{}
			m.seconds[id] = s
		}
		isHistory := !known && slices.ContainsFunc(m.history, func(at int64) bool { return at >= c.Second })
		s.left = -1
		for status, n := range c.Tasks {
			if n > s.most[status] {
				if counts && !isHistory {
					counters[status].held += uint64(n - s.most[status])
				}
				s.most[status] = n
			}
		}
	}
	for id, s := range m.seconds {
		if !listed[id] && s.left < 0 {
			s.left = m.watched
		}
	}
	for _, counters := range m.series {
		for _, c := range counters {
			if c != nil && c.scrapes >= 2 {
				c.value, c.held = c.value+c.held, 0
			}
		}
	}
	if m.watched/time.Hour > hours {
		m.forget(b.Date)
	}
}

func (m *model) forget(date time.Time) {
	const retention = 30 * day
	instances := map[string]bool{}
	for id, s := range m.seconds {
		if s.left >= 0 && m.watched-s.left >= retention && id.second < date.Add(-retention).Unix() {
			delete(m.seconds, id)
			m.history = append(m.history, id.second)
		} else {
			instances[id.RedisID] = true
		}
	}
	if m.watched >= retention {
		maps.DeleteFunc(m.series, func(s ledger.Series, _ *[ledger.Statuses]*modelCounter) bool { return !instances[s.RedisID] })
	}
}

// restart loses what is not saved.
func (m *model) restart() {
	m.first = true
	for _, counters := range m.series {
		for _, c := range counters {
			if c != nil && c.scrapes < 2 {
				c.scrapes = 0
			}
		}
	}
}

// text returns all counters, one a line.
func (m *model) text() []string {
	var all []string
	for series, counters := range m.series {
		for status, c := range counters {
			if c != nil {
				all = append(all, fmt.Sprint(series, statusNames[status], c.value))
			}
		}
	}
	slices.Sort(all)
	return all
}

func textOf(counters *ledger.Counters) []string {
	var all []string
	for _, c := range counters.All {
		for status, n := range c.Entered {
			if status != ledger.Rare || !c.RareCreated.IsZero() {
				all = append(all, fmt.Sprint(c.Series, statusNames[status], n))
			}
		}
	}
	slices.Sort(all)
	return all
}

// The ledgers against the model: twins, rows that come and go, dates of all
// kinds, other sources, restarts, scrapes of old counters, and months that
// pass. Whole lists and changes give the same.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, m := newWorld(t), newModel()
		// exists tells which of the model's counters each Counters has.
		exists := map[*ledger.Counters][]*modelCounter{}
		poll := func() {
			m.apply(w.poll())
			newest := w.counters[len(w.counters)-1]
			if _, ok := exists[newest]; !ok {
				exists[newest] = m.counters()
			}
		}
		shown := func(c *ledger.Counters) {
			for _, c := range exists[c] {
				c.scrapes++
			}
		}
		seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
		ages := []int64{
			0, 0, 1, 2, hour - 1, hour, hour + 1, 3 * hour, seconds(29 * day), seconds(31 * day), seconds(45 * day),
			-hour, seconds(-day), seconds(-100 * day),
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if w.listed == nil {
					return
				}
				if got, want := textOf(w.whole.Counters()), m.text(); !slices.Equal(got, want) {
					t.Fatalf("got %v, want %v", got, want)
				}
			},
			"add": func(t *rapid.T) {
				w.add(w.now.Unix()-rapid.SampledFrom(ages).Draw(t, "age"), anyStatus.Draw(t, "status"))
			},
			"add twin":     func(t *rapid.T) { w.add(w.pick().second, anyStatus.Draw(t, "status")) },
			"move":         func(*rapid.T) { w.move() },
			"toggle":       func(*rapid.T) { w.toggle() },
			"poll":         func(*rapid.T) { poll() },
			"scrape":       func(*rapid.T) { shown(w.scrape()) },
			"scrape older": func(*rapid.T) { shown(w.scrapeOlder()) },
			"wait": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int64{1, 600, hour, 100 * hour}).Draw(t, "seconds")) * time.Second)
			},
			"watch": func(t *rapid.T) {
				for range rapid.SampledFrom([]int{1, 24, 719, 720, 750}).Draw(t, "hours") {
					w.now = w.now.Add(time.Hour)
					poll()
				}
			},
			"other source": func(t *rapid.T) { w.source = rapid.SampledFrom([]string{"2.0", "3.0"}).Draw(t, "source") },
			"jump":         w.jump,
			"other clock": func(t *rapid.T) {
				w.skew = time.Duration(rapid.SampledFrom([]int{0, 0, -3650, 40}).Draw(t, "days")) * day
			},
			"restart": func(*rapid.T) {
				w.restart()
				m.restart()
				clear(exists)
				for _, c := range w.counters {
					exists[c] = m.counters()
				}
			},
		})
	})
}

// counters returns all counters that exist.
func (m *model) counters() []*modelCounter {
	var all []*modelCounter
	for _, counters := range m.series {
		for _, c := range counters {
			if c != nil {
				all = append(all, c)
			}
		}
	}
	return all
}
