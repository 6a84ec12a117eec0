package mirror_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

var (
	histories    = flag.Int("histories", 200, "number of random histories")
	firstHistory = flag.Uint64("first-history", 0, "seed of the first history")
)

// history is a list with random events.
type history struct {
	*server
	luck *rand.Rand // for events
	rate float64    // probability of an event before a request
	zone int64      // seconds that the times of tasks are ahead of the Date header

	// changes are the tasks that were new or got a status during this poll.
	changes []*node
}

func (h *history) now() int64 { return h.clock + h.zone }

func (h *history) instance() string { return fmt.Sprintf("crs-%02d", h.luck.IntN(12)) }

func (h *history) submit(at int64) {
	h.lastID++
	n := newNode(h.instance(), []string{"backupInstance", "cleanInstance"}[h.luck.IntN(2)], at, crsapi.StatusPending)
	if h.api != crsapi.API20 {
		n.TaskID = h.lastID
	}
	n.split = h.luck.IntN(9) > 0
	if h.luck.IntN(60) == 0 {
		n.bad = h.luck.Uint64() | 1
	}
	h.add(n)
	h.changes = append(h.changes, n)
}

// event changes the list, within the assumptions of the package.
func (h *history) event() {
	say := func(format string, args ...any) { h.log = append(h.log, "  "+fmt.Sprintf(format, args...)) }
	become := func(to crsapi.Status, newerThan int64, from ...crsapi.Status) {
		var which []int
		for i, n := range h.nodes {
			if n.start > newerThan && slices.Contains(from, n.Status) {
				which = append(which, i)
			}
		}
		if len(which) > 0 {
			i := which[h.luck.IntN(len(which))]
			h.change(i, func(n *node) { n.Status, n.Progress = to, n.Progress+0.01 })
			h.changes = append(h.changes, h.nodes[i])
			say("%s of %d at %d becomes %s", h.nodes[i].RedisID, h.nodes[i].TaskID, h.nodes[i].start-epoch, to)
		}
	}
	h.clock += int64(h.luck.IntN(4))
	switch n := h.luck.IntN(100); {
	case n < 30:
		h.submit(h.now())
		say("task at %d", h.now()-epoch)
	case n < 34:
		at := h.now() - int64(h.luck.IntN(40))
		h.submit(at)
		say("late task at %d", at-epoch)
	case n < 38:
		n, apart := 10+h.luck.IntN(60), 1+2*h.luck.IntN(2)
		say("%d tasks from %d", n, h.now()-epoch)
		for range n {
			h.submit(h.now())
			h.clock += int64(h.luck.IntN(apart))
		}
	case n < 48:
		become(crsapi.StatusExecuting, 0, crsapi.StatusPending)
	case n < 64:
		become(crsapi.StatusSucceeded, 0, crsapi.StatusExecuting, crsapi.StatusPending)
	case n < 70:
		become([]crsapi.Status{crsapi.StatusFailed, 7}[h.luck.IntN(10)/9], 0, crsapi.StatusExecuting, crsapi.StatusPending, 7)
	case n < 74:
		become(crsapi.StatusExecuting, h.now()-3000, crsapi.StatusFailed)
	case n < 84:
		k := min(len(h.nodes)/2, 1+h.luck.IntN(3))
		h.nodes = h.nodes[:len(h.nodes)-k]
		say("%d tasks leave", k)
	case n < 85:
		h.nodes = h.nodes[:len(h.nodes)*9/10]
		say("a tenth leaves")
	case n < 87:
		id := h.instance()
		h.remove(func(n *node) bool { return n.RedisID == id })
		say("%s is deleted", id)
	case n < 89:
		id, name := h.instance(), fmt.Sprint("name", h.clock)
		for i := range h.nodes {
			if h.nodes[i].RedisID == id {
				h.change(i, func(n *node) { n.RedisName = name })
			}
		}
		say("%s gets another name", id)
	default:
		h.clock += int64(h.luck.IntN(300))
	}
}

// identity returns what identifies a task, as far as its server does.
func identity(t crsapi.Task) crsapi.Task {
	return crsapi.Task{RedisID: t.RedisID, TaskName: t.TaskName, StartTime: t.StartTime, TaskID: t.TaskID}
}

// tally is the outcome of some histories.
type tally struct {
	polls, whole map[string]int // by kind of history
	others       int            // polls that show another moment than that of the last head
	byOffset     int            // polls by offset of servers that can be read by bounds
}

// play plays a history. The test fails if the copy differs from the list.
func play(t *testing.T, seed uint64, total *tally) {
	luck := rand.New(rand.NewPCG(seed, 2))
	h := &history{
		server: &server{
			api:   []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE}[luck.IntN(3)],
			luck:  rand.New(rand.NewPCG(seed, 3)),
			clock: epoch,
		},
		luck: rand.New(rand.NewPCG(seed, 4)),
	}
	cfg := mirror.Config{Lister: h, PageSize: 20, Concurrency: 1}
	one := func(n int) bool { return luck.IntN(n) == 0 }
	if one(8) {
		// By offset, no poll can tell a late task and one that left from none.
		h.habits = oddHabits[luck.IntN(len(oddHabits))].habits
	} else {
		h.rate = []float64{0, 0.1, 0.5}[luck.IntN(3)]
		h.habits.shuffle = one(2)
	}
	if !h.habits.pageTotals && one(5) {
		h.habits.cap = 5 + luck.IntN(10)
	}
	h.habits.strict = h.habits.strict || one(5)
	if one(40) {
		h.habits.most = 10
	}
	if one(5) {
		h.habits.faults = 0.05
	}
	if one(4) {
		cfg.Concurrency = 1 + luck.IntN(4)
	}
	if one(6) {
		cfg.RedisID = "crs-03"
	}
	if one(4) {
		h.zone = int64(luck.IntN(27)-13) * 3600
	}
	lookback := one(5)
	if lookback {
		h.clock = time.Now().Unix() // of the bubble
		cfg.Lookback = time.Duration(1+luck.IntN(5*3600)) * time.Second
		h.zone = min(h.zone, 0)
		if one(2) {
			h.clock += int64(luck.IntN(7200) - 3600)
		}
	}
	n := luck.IntN(300)
	start := h.clock
	h.clock -= int64(n) * 60
	for range n {
		h.clock += int64(h.luck.IntN(5) * h.luck.IntN(60))
		h.submit(min(h.now(), start))
	}
	for i := range h.nodes {
		h.nodes[i].Status = crsapi.StatusSucceeded
		switch h.luck.IntN(40) {
		case 0:
			h.nodes[i].Status = crsapi.StatusFailed
		case 1:
			h.nodes[i].Status = crsapi.StatusExecuting
		}
	}
	h.clock = max(h.clock, start) + 200
	h.before = func(*server, crsapi.Query) {
		for h.luck.Float64() < h.rate {
			h.event()
		}
	}
	problem := ""
	kind := fmt.Sprintf("an event before %g of the requests", h.rate)
	if h.habits.byOffset() || h.habits.most > 0 {
		kind = "by offset, or limits refused"
	}
	m := mirror.New(cfg)
	for range 12 {
		h.reset()
		h.changes = nil
		from := h.nodes
		inTurn := [...]int{0, 1, 2 + luck.IntN(5), mirror.All}[luck.IntN(4)]
		h.log = append(h.log, fmt.Sprint("poll, in turn ", inTurn))
		total.polls[kind]++
		r, err := m.Poll(t.Context(), inTurn)
		if r.ByOffset != "" && !h.habits.byOffset() {
			total.byOffset++
		}
		if err != nil {
			h.log = append(h.log, err.Error())
			if e, ok := errors.AsType[*crsapi.Error](err); !ok || h.habits.faults == 0 && e.Reason != crsapi.ReasonDecode {
				problem = "unexpected error: " + err.Error()
			}
		} else {
			total.whole[kind]++
			problem = h.check(total, r, from, cfg.RedisID)
		}
		for range luck.IntN(10) {
			h.event()
		}
		if problem != "" {
			t.Fatalf("%s\nseed %d, %s, habits %+v, events %g, config %+v, zone %d\n%s",
				problem, seed, h.api, h.habits, h.rate, cfg, h.zone, strings.Join(h.log, "\n"))
		}
		if lookback {
			d := luck.IntN(900)
			time.Sleep(time.Duration(d) * time.Second)
			h.clock += int64(d)
		}
	}
}

// check compares the copy with what the list was during a poll.
func (h *history) check(total *tally, r *mirror.Result, from []*node, redisID string) string {
	copied := map[crsapi.Task]int{}
	for _, t := range r.Tasks {
		copied[identity(t)]++
	}
	against := func(version []*node) string {
		want := map[crsapi.Task]int{}
		bad := 0
		for _, n := range version {
			switch {
			case n.StartTime.Before(h.head.begin), h.habits.begin == "excluded" && n.StartTime.Equal(h.head.begin):
			case n.bad != 0:
				bad++
			case redisID == "" || n.RedisID == redisID:
				want[identity(n.Task)]++
			}
		}
		if bad != r.Rejected {
			return fmt.Sprintf("%d rejected rows, want %d", r.Rejected, bad)
		}
		for k, n := range copied {
			want[k] -= n
		}
		maps.DeleteFunc(want, func(_ crsapi.Task, n int) bool { return n == 0 })
		if len(want) > 0 {
			return fmt.Sprint("tasks missing, or too many if negative: ", want)
		}
		return ""
	}
	problem := against(h.head.nodes)
	if problem != "" && slices.ContainsFunc(h.versions, func(v []*node) bool { return against(v) == "" }) {
		// By offset, it is some moment. By bounds, the one of a page below the head,
		// if a task came into it and another left.
		if problem = ""; r.ByOffset == "" {
			total.others++
		}
	}
	if problem != "" {
		return problem
	}
	type state struct {
		task   crsapi.Task
		status crsapi.Status
	}
	had := map[state]bool{}
	for _, n := range slices.Concat(from, h.changes) {
		had[state{identity(n.Task), n.Status}] = true
	}
	for _, t := range r.Tasks {
		if !had[state{identity(t), t.Status}] {
			return fmt.Sprintf("%+v has a status that it did not have during the poll", t)
		}
	}
	return ""
}

// TestHistories plays random histories, and prints the first one that fails.
func TestHistories(t *testing.T) {
	total := &tally{polls: map[string]int{}, whole: map[string]int{}}
	// The race detector makes it ten times slower.
	if info, _ := debug.ReadBuildInfo(); slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		*histories = min(*histories, 20)
	}
	for seed := *firstHistory; seed < *firstHistory+uint64(*histories); seed++ {
		synctest.Test(t, func(t *testing.T) { play(t, seed, total) })
	}
	for kind, all := range total.polls {
		whole := float64(total.whole[kind]) / float64(all)
		t.Logf("%s: %d polls, %.1f %% whole", kind, all, 100*whole)
		if all > 100 && whole < 0.6 {
			t.Error("too few polls are whole")
		}
	}
	if most := 1 + *histories/500; total.others > most || total.byOffset > most {
		t.Errorf("%d polls show another moment than that of the last head, %d are by offset", total.others, total.byOffset)
	}
}
