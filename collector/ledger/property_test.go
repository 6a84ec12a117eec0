package ledger_test

import (
	"maps"
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
	counts [ledger.Statuses]bool // those of them first seen by a poll that counts
}

// world is steps with a list of tasks that changes, and a scraper that keeps its samples.
type world struct {
	*steps
	t       *rapid.T
	applied string // source of the last poll
	tasks   []*worldTask
	older   [][]ledger.Counters // all since the last restart
	samples map[sampleID]uint64
}

// sampleID is a counter of a series in the database of a scraper.
type sampleID struct {
	ledger.Series
	status  int
	created int64
}

func (w *world) add(second int64, status int) {
	w.tasks = append(w.tasks, &worldTask{
		Series: rapid.SampledFrom([]ledger.Series{backupA, cleanA, backupB}).Draw(w.t, "series"),
		second: second, status: status, listed: true,
	})
}

// jump sets our clock, and the dates of answers with it if the API sends none.
func (w *world) jump(t *rapid.T) {
	w.ours = time.Duration(rapid.SampledFrom([]int{0, 0, -3650, 20}).Draw(t, "days that our clock is ahead")) * day
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

var anyStatus = rapid.IntRange(0, ledger.Statuses-1)

// poll applies the list, and marks what the ledger sees.
func (w *world) poll() {
	list := map[identity]row{}
	for _, task := range w.tasks {
		if task.listed {
			id := identity{task.Series, task.second}
			r := list[id]
			r.Series, r.second = task.Series, task.second
			r.tasks[task.status]++
			list[id] = r
			if !task.seen[task.status] {
				task.seen[task.status], task.counts[task.status] = true, w.source == w.applied
			}
		}
	}
	w.applied = w.source
	w.apply(tasks(list))
	w.older = append(w.older, w.counters)
}

// scrape shows counters, the newest or older ones, and checks what a scraper relies on.
func (w *world) scrape(counters []ledger.Counters, newest bool) {
	for _, c := range counters {
		for status, counter := range c.ByStatus {
			if counter.Created == 0 {
				continue
			}
			id := sampleID{c.Series, status, counter.Created}
			last, known := w.samples[id]
			if !known && counter.Value != 0 || newest && counter.Value < last {
				w.t.Fatalf("%v is %d, last %d; known: %t", id, counter.Value, last, known)
			}
			w.samples[id] = max(counter.Value, last)
		}
	}
	w.ledger.Shown(counters)
}

// As long as no two tasks share an identity, the ledger counts exactly the pairs of task
// and status that a poll saw first that counts, however tasks move, vanish and return,
// whenever the exporter restarts or reads another source, and wherever its clock jumps.
func TestAgainstIdentities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{steps: newSteps(t), t: t, samples: map[sampleID]uint64{}}
		w.jump(t)
		w.skew = min(w.skew, 0) // an empty list would make 20 days history
		for range rapid.IntRange(0, 5).Draw(t, "tasks of the baseline") {
			w.add(w.now.Unix()-int64(len(w.tasks)), anyStatus.Draw(t, "status"))
		}
		w.poll()
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				w.now = w.now.Add(time.Second)
				w.add(w.now.Unix(), anyStatus.Draw(t, "status"))
			},
			"add late": func(t *rapid.T) {
				w.add(noon-1000-int64(len(w.tasks)), anyStatus.Draw(t, "status"))
			},
			"move": func(t *rapid.T) { w.pick().status = anyStatus.Draw(t, "status") },
			"toggle": func(*rapid.T) {
				task := w.pick()
				task.listed = !task.listed
			},
			"poll":                    func(*rapid.T) { w.poll() },
			"scrape":                  func(*rapid.T) { w.scrape(w.counters, true) },
			"scrape of an older poll": func(t *rapid.T) { w.scrape(rapid.SampledFrom(w.older).Draw(t, "poll"), false) },
			"restart": func(*rapid.T) {
				w.restart()
				w.older = [][]ledger.Counters{w.counters}
			},
			"jump": w.jump,
			"another source": func(t *rapid.T) {
				w.source = rapid.SampledFrom([]string{"2.0", "3.0"}).Draw(t, "source")
				w.skew = min(w.skew, 0)
				w.poll()
			},
		})
		for range 3 { // lets everything count that is held
			w.poll()
			w.scrape(w.counters, true)
		}
		got, want := map[sampleID]uint64{}, map[sampleID]uint64{}
		for _, c := range w.counters {
			for status, counter := range c.ByStatus {
				if counter.Value > 0 {
					got[sampleID{Series: c.Series, status: status}] = counter.Value
				}
			}
		}
		for _, task := range w.tasks {
			for status, counts := range task.counts {
				if counts {
					want[sampleID{Series: task.Series, status: status}]++
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
