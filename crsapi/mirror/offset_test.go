package mirror_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// oddHabits are those of servers that cannot be read by bounds, with the reason, and of
// some that can. Begins matter with Lookback only.
var oddHabits = []struct {
	name   string
	habits habits
	why    string
}{
	{"end ignored", habits{end: "ignored"}, "endTime does not bound the submission"},
	{"end excluded", habits{end: "excluded"}, "endTime does not include all tasks submitted in its second"},
	{"end refused", habits{end: "refused"}, "endTime is refused (API error 4000: invalid parameter)"},
	{"end of the task", habits{end: "endOfTask"}, "endTime does not include all tasks submitted in its second"},
	{"hidden fractions", habits{end: "fractions"}, "endTime does not include all tasks submitted in its second"},
	{"end ignored, offsets limited", habits{end: "ignored", strict: true}, "endTime does not bound the submission"},
	{"oldest first", habits{order: "oldest"}, "rows do not come newest first"},
	{"mixed", habits{order: "mixed"}, "rows do not come newest first"},
	{"totals of the page", habits{pageTotals: true}, "totalCount is that of the page, not of the list"},
	{"end ignored, offsets rounded", habits{end: "ignored", offsets: "rounded"}, "endTime does not bound the submission"},
	{"offsets rounded", habits{offsets: "rounded"}, ""},
	{"offsets ignored", habits{offsets: "ignored"}, ""},
	{"begin ignored", habits{begin: "ignored"}, ""},
	{"begin excluded", habits{begin: "excluded"}, ""},
}

// TestFirstContact meets each server that the documents allow: its list is seen at
// once, and the result says why it is read by offset. So it is while the list changes.
func TestFirstContact(t *testing.T) {
	for _, test := range oddHabits {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			for _, n := range []int{0, 100, 650} {
				inBubble(t, fmt.Sprintf("%s/%s/%d tasks", test.name, api, n), func(t *testing.T) {
					s := plain(api, n, 30, 5)
					s.habits = test.habits
					m := newMirror(s, 100)
					for i := range 6 {
						r := poll(t, m, []int{0, 1, mirror.All}[i%3])
						if expect(t, r, s); r.ByOffset != test.why && n > 100 {
							t.Errorf("by offset since %q, want %q", r.ByOffset, test.why)
						}
						if r.Corrections > 0 {
							t.Errorf("%d corrections", r.Corrections)
						}
						if s.clock += 15; i%2 == 0 {
							s.submit(i * 5)
						}
						if i == 3 { // as many leave as are new
							s.submit(20)
							s.nodes = s.nodes[:len(s.nodes)-20]
						}
						if i == 4 {
							s.remove(func(n *node) bool { return n.RedisID == "crs-4" })
						}
					}
					// A quarter of an hour later a server may do bounds. If not, the copy is kept.
					for _, later := range []habits{test.habits, {}} {
						if test.habits.end == "" || n < 650 {
							break // bounds are not the problem, or the list is too short to tell
						}
						s.habits = later
						time.Sleep(15*time.Minute + 1)
						s.clock += 15 * 60
						s.submit(1)
						s.reset()
						r := poll(t, m, 0)
						limit(t, "bounds tried again", s, 6)
						if expect(t, r, s); (r.ByOffset == "") != (later == habits{}) {
							t.Errorf("by offset %q", r.ByOffset)
						}
					}
				})
			}
		}
	}
}

// TestLookbackByOffset: older tasks that the server lists, too, do not make up for
// those that have left.
func TestLookbackByOffset(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		s := &server{api: crsapi.API30, luck: plain(crsapi.API30, 0, 1, 1).luck, clock: time.Now().Unix() - 3620}
		s.habits.begin = "ignored"
		for range 200 {
			s.submit(1)
			s.clock += 18
		}
		s.clock = time.Now().Unix()
		m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: 1, Lookback: time.Hour})
		old := len(s.nodes) - len(poll(t, m, 0).Tasks)
		gone := s.nodes[120].RedisID
		for i := range old {
			s.change(120+i, func(n *node) { n.RedisID = gone })
		}
		poll(t, m, mirror.All)
		s.remove(func(n *node) bool { return n.RedisID == gone })
		r := poll(t, m, 0)
		if got, want := len(r.Tasks), 200-2*old; got != want || old == 0 {
			t.Errorf("%d tasks, want %d; %d older", got, want, old)
		}
	})
}

// TestCostByOffset counts the requests between full readings. A list that moves whenever
// all of it is read is shown from the copy.
func TestCostByOffset(t *testing.T) {
	for _, habit := range []string{"ignored", "endOfTask"} {
		t.Run(habit, func(t *testing.T) {
			s := plain(crsapi.API30, 5000, 10, 50)
			s.habits.end = habit
			m := newMirror(s, 100)
			try := func(what string, inTurn, most int, change func()) {
				t.Helper()
				change()
				s.reset()
				r := poll(t, m, inTurn)
				limit(t, what, s, most)
				if expect(t, r, s); r.ByOffset == "" || r.Corrections > 0 {
					t.Errorf("%s: by offset %q, %d corrections", what, r.ByOffset, r.Corrections)
				}
			}
			try("first", 0, 51+1+3*3*8, func() {})
			try("quiet", 0, 1, func() {})
			try("30 new", 0, 1, func() { s.clock += 20; s.submit(30) })
			try("5 left", 0, 3, func() { s.nodes = s.nodes[:len(s.nodes)-5] })
			try("250 left", 0, 3, func() { s.nodes = s.nodes[:len(s.nodes)-250] })
			try("one new, one left", 0, 3, func() { s.clock += 20; s.submit(1); s.nodes = s.nodes[:len(s.nodes)-1] })
			try("one hangs", 0, 1, func() {
				s.submit(1)
				s.change(0, func(n *node) { n.Status = crsapi.StatusExecuting })
			})
			for range 3 {
				try("40 new above it", 0, 4, func() { s.clock += 60; s.submit(40) })
			}
			try("it ends", 0, 4, func() { s.change(120, func(n *node) { n.Status = crsapi.StatusSucceeded }) })
			try("quiet again", 0, 1, func() {})
			try("3 in turn", 3, 2+6, func() { s.clock += 20; s.submit(3) })
			try("an instance deleted", 0, 2+48+4, func() { s.remove(func(n *node) bool { return n.RedisID == "crs-7" }) })
			try("350 new", 0, 1+57, func() { s.clock += 20; s.submit(350) })
			try("all", mirror.All, 52+2, func() { s.clock += 80; s.submit(3) })
			s.before = func(s *server, _ crsapi.Query) {
				if s.requests%5 == 0 {
					s.clock += 5
					s.submit(1)
				}
			}
			for range 10 {
				try("all of a moving list", mirror.All, 6+2, func() {})
			}
		})
	}
}

// TestMovingByOffset: of a list that moves between its pages, one moment of the poll is shown.
func TestMovingByOffset(t *testing.T) {
	for _, h := range []habits{{end: "ignored"}, {order: "oldest"}} {
		s := plain(crsapi.API20, 350, 10, 5)
		s.habits = h
		s.before = func(s *server, _ crsapi.Query) {
			if s.luck.IntN(6) == 0 {
				s.clock += 10
				s.submit(1)
				s.nodes = s.nodes[:len(s.nodes)-1]
			}
		}
		m, whole := newMirror(s, 100), 0
		for range 40 {
			s.reset()
			r, err := m.Poll(t.Context(), mirror.All)
			if err != nil {
				continue
			}
			whole++
			is := func(v []*node) bool { return slices.Equal((&server{nodes: v}).tasks(), sorted(r.Tasks)) }
			if !slices.ContainsFunc(s.versions, is) {
				t.Errorf("%+v: %d tasks, of no moment", h, len(r.Tasks))
			}
		}
		if whole < 20 {
			t.Errorf("%+v: %d polls of 40 are whole", h, whole)
		}
	}
}
