package mirror_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

func newMirror(s *server, size int) *mirror.Mirror {
	return mirror.New(mirror.Config{Lister: s, PageSize: size, Concurrency: 1})
}

// poll polls and fails the test after an error.
func poll(t *testing.T, m *mirror.Mirror, inTurn int) *mirror.Result {
	t.Helper()
	r, err := m.Poll(t.Context(), inTurn)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expect compares a result with the list.
func expect(t *testing.T, r *mirror.Result, s *server) {
	t.Helper()
	if got, want := sorted(r.Tasks), s.tasks(); !slices.Equal(got, want) {
		other := slices.DeleteFunc(slices.Clone(got), func(task crsapi.Task) bool { return slices.Contains(want, task) })
		t.Errorf("%d tasks, want %d; not in the list are %+v", len(got), len(want), other[:min(3, len(other))])
	}
}

// tasks returns the listed tasks that can be read.
func (s *server) tasks() (tasks []crsapi.Task) {
	for _, n := range s.nodes {
		if n.bad == 0 {
			tasks = append(tasks, n.Task)
		}
	}
	return sorted(tasks)
}

func sorted(tasks []crsapi.Task) []crsapi.Task {
	return slices.SortedFunc(slices.Values(tasks), func(a, b crsapi.Task) int {
		return cmp.Or(
			a.StartTime.Compare(b.StartTime), cmp.Compare(a.RedisID, b.RedisID), cmp.Compare(a.TaskName, b.TaskName),
			cmp.Compare(a.TaskID, b.TaskID), cmp.Compare(a.Status, b.Status), cmp.Compare(a.Progress, b.Progress),
		)
	})
}

// limit fails the test if a poll took more requests.
func limit(t *testing.T, what string, s *server, most int) {
	t.Helper()
	t.Logf("%s: %d requests", what, s.requests)
	if s.requests > most {
		t.Errorf("%s: %d requests, want %d", what, s.requests, most)
		t.Log(strings.Join(s.log[len(s.log)-min(30, s.requests):], "\n"))
	}
	s.reset()
}

func isDecode(err error) bool {
	var e *crsapi.Error
	return errors.As(err, &e) && e.Reason == crsapi.ReasonDecode
}

// inBubble runs a subtest in a bubble, where no time passes but by waiting.
func inBubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// submit adds tasks of the current second.
func (s *server) submit(n int) {
	for range n {
		s.lastID++
		n := newNode(fmt.Sprintf("crs-new-%d", s.lastID), "backupInstance", s.clock, crsapi.StatusSucceeded)
		if s.api != crsapi.API20 {
			n.TaskID = s.lastID
		}
		n.split = true
		s.add(n)
	}
}

// TestWrongPages: totals that cannot be right fail the first poll, by bounds or not. They and
// an empty page fail a poll that has a copy. The full readings after it have no more pages.
func TestWrongPages(t *testing.T) {
	for name, wrong := range map[string]func(q crsapi.Query, p *crsapi.Page){
		"total too small": func(_ crsapi.Query, p *crsapi.Page) { p.TotalCount /= 2 },
		"total too large": func(_ crsapi.Query, p *crsapi.Page) { p.TotalCount += 7 },
		"no total":        func(_ crsapi.Query, p *crsapi.Page) { p.TotalCount = 0 },
		"empty head": func(q crsapi.Query, p *crsapi.Page) {
			if q.EndTime.IsZero() && q.Offset == 0 {
				p.Tasks = nil
			}
		},
		"empty page below the head": func(q crsapi.Query, p *crsapi.Page) {
			if !q.EndTime.IsZero() || q.Offset > 0 {
				p.Tasks = nil
			}
		},
	} {
		for _, test := range []struct {
			end             string
			tasks, requests int
		}{{"", 460, 7}, {"", 50, 2}, {"refused", 460, 10}} {
			for _, hasCopy := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%+v, has a copy: %t", name, test, hasCopy), func(t *testing.T) {
					s := plain(crsapi.API30, test.tasks, 10, 5)
					s.habits.end = test.end
					s.change(test.tasks/2, func(n *node) { n.Status = crsapi.StatusExecuting })
					m := newMirror(s, 100)
					if hasCopy {
						poll(t, m, 0)
					}
					s.after = wrong
					_, err := m.Poll(t.Context(), 0)
					if noneBelow := test.tasks == 50 && strings.Contains(name, "below"); !noneBelow && !isDecode(err) {
						t.Errorf("error %v", err)
					}
					s.after = nil
					s.reset()
					s.submit(40)
					for range 2 {
						expect(t, poll(t, m, mirror.All), s)
						limit(t, "after it", s, test.requests)
					}
				})
			}
		}
	}
}

// TestRefusedLimit: a page size that the server refuses is halved, which is noted.
func TestRefusedLimit(t *testing.T) {
	for most, test := range map[int]struct {
		note     string
		requests int
	}{
		60: {"the API refuses pages of 100 tasks: 50 are requested", 14 + 3},
		20: {"the API refuses pages of 100 tasks: 12 are requested", 60 + 5},
		10: {"the API refuses pages of 100 tasks: 10 are requested", 75 + 8},
	} {
		s := plain(crsapi.API20, 650, 10, 5)
		s.habits.most = most
		m := newMirror(s, 100)
		for _, requests := range []int{test.requests, 1} {
			r := poll(t, m, 0)
			limit(t, test.note, s, requests)
			if expect(t, r, s); !slices.Equal(r.Notes, []string{test.note}) || r.ByOffset != "" {
				t.Error(r.Notes, r.ByOffset)
			}
		}
	}
	// Not the limit is refused, but every request.
	s := plain(crsapi.API30, 650, 10, 5)
	s.habits.most = 1
	r, err := newMirror(s, 100).Poll(t.Context(), 0)
	if !errors.Is(err, errRefused) || len(r.Notes) > 0 || r.ByOffset != "" {
		t.Error(err, r)
	}
	limit(t, "all refused", s, 2)
}

// TestSameSlice: the list is the same slice until a row changes, and what was returned
// never changes.
func TestSameSlice(t *testing.T) {
	for _, ignored := range []string{"", "ignored"} {
		t.Run("endTime "+ignored, func(t *testing.T) {
			s := plain(crsapi.API30, 500, 10, 5)
			s.habits.end = ignored
			s.change(450, func(n *node) { n.Status = crsapi.StatusExecuting })
			s.change(350, func(n *node) { n.bad = 77 })
			m := newMirror(s, 100)
			same := func(a, b *mirror.Result) bool { return len(a.Tasks) == len(b.Tasks) && &a.Tasks[0] == &b.Tasks[0] }
			first := poll(t, m, 0)
			kept := slices.Clone(first.Tasks)
			for _, inTurn := range []int{0, 2, mirror.All} {
				if !same(first, poll(t, m, inTurn)) {
					t.Error("another slice, in turn ", inTurn)
				}
			}
			s.change(450, func(n *node) { n.Progress = 0.5 })
			r := poll(t, m, 0)
			if same(first, r) {
				t.Error("the same slice though a row changed")
			}
			expect(t, r, s)
			if !slices.Equal(first.Tasks, kept) {
				t.Error("a list changed after it was returned")
			}
		})
	}
}

// TestTurns: windows are read in turn, while tasks come and go and the windows move.
// When a round ends, all was read since it began: it shows what should not have changed.
func TestTurns(t *testing.T) {
	for _, test := range []struct {
		end    string
		inTurn int
	}{{"", 1}, {"", 3}, {"", 1000}, {"ignored", 3}} {
		inBubble(t, fmt.Sprintf("endTime %s, %d in turn", test.end, test.inTurn), func(t *testing.T) {
			s := plain(crsapi.API30, 1000, 30, 5)
			s.habits.end = test.end
			m := newMirror(s, 100)
			r := poll(t, m, 0)
			if !r.FullRead.Equal(time.Now()) || r.Windows < 10 || r.Windows > 12 {
				t.Fatal(r.FullRead, r.Windows)
			}
			var renamed time.Time
			corrections := 0
			for i := range 75 {
				time.Sleep(time.Minute)
				s.clock += 60
				s.submit(3)
				s.nodes = s.nodes[:len(s.nodes)-5]
				if i%35 == 5 {
					renamed = time.Now()
					for k := range s.nodes {
						s.change(k, func(n *node) { n.RedisName = renamed.String() })
					}
					s.change(600, func(n *node) { n.Status = crsapi.StatusFailed })
				}
				before := r.FullRead
				r = poll(t, m, test.inTurn)
				corrections += r.Corrections
				if !r.FullRead.Before(renamed) {
					expect(t, r, s)
				}
				if ago := time.Since(r.FullRead); ago > time.Duration(2*(12/test.inTurn+1))*time.Minute {
					t.Fatal("the last full reading was", ago, "ago")
				}
				if test.inTurn > 100 && !r.FullRead.Equal(time.Now()) || r.FullRead.Before(before) {
					t.Fatal("read in full at", r.FullRead, "before at", before)
				}
			}
			if corrections != 2 {
				t.Errorf("%d corrections", corrections)
			}
			// All, in the middle of a round.
			poll(t, m, 1)
			time.Sleep(time.Minute)
			s.change(150, func(n *node) { n.RedisName = "another" })
			if r = poll(t, m, mirror.All); !r.FullRead.Equal(time.Now()) {
				t.Error(r.FullRead)
			}
			expect(t, r, s)
		})
	}
}

// TestLate: tasks that appear up to a minute below the newest are seen, also while
// the list is read.
func TestLate(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		s := plain(crsapi.API30, 500, 10, 5)
		submit := func(each int) {
			s.clock++
			s.submit(each)
		}
		for range 50 {
			submit(8)
		}
		m := newMirror(s, 100)
		poll(t, m, 0)
		late := func(ago int64) {
			n := newNode("crs-late", "backupInstance", s.nodes[0].start-ago, crsapi.StatusSucceeded)
			n.TaskID = 100_000
			s.add(n)
		}
		if meanwhile {
			for range 20 {
				submit(20)
			}
			s.reset()
			s.before = func(s *server, q crsapi.Query) {
				if !q.EndTime.IsZero() && s.requests == 2 { // the first page below the head
					s.before = nil
					head, below := s.nodes[10], newerThan(s.nodes, q.EndTime.Unix()-2)
					s.remove(func(n *node) bool { return n == head || n == s.nodes[below] })
					late(s.nodes[0].start - q.EndTime.Unix() + 1)
				}
			}
		} else {
			late(40)
			s.nodes = s.nodes[:len(s.nodes)-1] // so that the total is the same
		}
		if expect(t, poll(t, m, 0), s); s.before != nil {
			t.Error("nothing changed meanwhile")
		}
	}
}

// TestFuture: a task of the future, or an API whose tasks all are, makes no new task a correction.
func TestFuture(t *testing.T) {
	const hours = 8 * 60 * 60
	for _, ahead := range []int64{0, hours} { // of the API's clock are all tasks, or one
		s := plain(crsapi.API30, 500, 10, 5)
		if s.clock -= ahead; ahead == 0 {
			s.add(newNode("crs-scheduled", "backupInstance", s.clock+hours, crsapi.StatusPending))
		}
		m := newMirror(s, 100)
		for range 5 {
			r := poll(t, m, 0)
			if expect(t, r, s); r.Corrections > 0 {
				t.Errorf("all ahead by %d s: %d corrections", ahead, r.Corrections)
			}
			s.clock += 120 + ahead
			s.submit(3)
			s.clock -= ahead
		}
		limit(t, "five polls", s, 6+4)
	}
}

// TestShortList: the first contact finds out whether its only page is all.
func TestShortList(t *testing.T) {
	for _, n := range []int{0, 5, 100} {
		m := newMirror(plain(crsapi.API30, n, 10, 5), 100)
		for i, want := range []int{min(n, 1) + 1, n/100 + 1} {
			if r := poll(t, m, mirror.All); r.Pages != want || r.Windows != 1 || len(r.Tasks) != n || r.FullRead.IsZero() {
				t.Errorf("poll %d of %d tasks: %+v, want %d pages", i, n, r, want)
			}
		}
	}
}

// TestLongSeconds: seconds that have more tasks than a page are seen, or the error
// says why not. While nothing happens, a minute later the head is enough.
func TestLongSeconds(t *testing.T) {
	for _, order := range []string{"stable", "by request", "by page"} {
		for _, each := range []int{80, 150, 450} {
			t.Run(fmt.Sprintf("%d tasks, order %s", each, order), func(t *testing.T) {
				s := plain(crsapi.API30, 0, 1, 1)
				for range 10 {
					s.submit(each)
					s.clock += 86400
				}
				s.habits.shuffle = order != "stable"
				if order == "by page" { // two readings with pages of one size are the same
					s.before = func(s *server, q crsapi.Query) { s.luck = rand.New(rand.NewPCG(1, uint64(q.Offset))) }
				}
				m := newMirror(s, 100)
				r, err := m.Poll(t.Context(), 0)
				if isDecode(err) && (order == "by page" || order == "by request" && each > 200) {
					return // such a server may prove nothing
				}
				if err != nil {
					t.Fatal(err)
				}
				expect(t, r, s)
				s.clock += 61
				poll(t, m, 0)
				s.reset()
				expect(t, poll(t, m, 0), s)
				limit(t, "quiet", s, 1)
			})
		}
	}
}

// TestTwinsInALongSecond: the same tasks in the same places on pages of two sizes are
// as many tasks as places. If offsets are ignored, a larger page has them all.
func TestTwinsInALongSecond(t *testing.T) {
	for _, habits := range []habits{{most: 100}, {offsets: "ignored"}} {
		s := plain(crsapi.API20, 500, 10, 5)
		s.habits = habits
		for i := range 176 {
			s.add(newNode(fmt.Sprintf("crs-%d", i*37%90), "backupInstance", s.nodes[40].start, crsapi.StatusSucceeded))
		}
		m := newMirror(s, 100)
		for _, inTurn := range []int{0, 0, mirror.All} {
			r := poll(t, m, inTurn)
			if expect(t, r, s); r.ByOffset != "" {
				t.Error(r.ByOffset)
			}
		}
	}
}

// TestLookback: tasks leave with time, and the list ends where it should, by the clock
// of the API; from the second poll on, a wrong clock of ours does not move it.
func TestLookback(t *testing.T) {
	for _, ours := range []time.Duration{0, -3650 * 24 * time.Hour, 40 * 24 * time.Hour} {
		inBubble(t, ours.String(), func(t *testing.T) {
			s := &server{api: crsapi.API30, luck: plain(crsapi.API30, 0, 1, 1).luck, clock: time.Now().Add(-ours).Unix() - 10_000}
			for range 1000 {
				s.clock += 10
				s.submit(1)
			}
			m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: 4, Lookback: time.Hour})
			poll(t, m, 0)
			for i := range 40 {
				time.Sleep(100 * time.Second)
				s.clock += 100
				if i%3 == 0 {
					s.submit(150) // more than a page in the oldest second, in an hour
				}
				r := poll(t, m, []int{0, 1, mirror.All}[i%3])
				if want := newerThan(s.nodes, s.clock-3601); len(r.Tasks) != want || r.Corrections > 0 {
					t.Fatalf("%d tasks, want %d; %d corrections", len(r.Tasks), want, r.Corrections)
				}
			}
		})
	}
}

// TestAssumptions breaks what the package assumes of the API. The list shows it at
// once, or after the next full reading, which corrects and counts it.
func TestAssumptions(t *testing.T) {
	late := func(s *server) {
		s.add(newNode("crs-late", "cleanInstance", s.nodes[0].start-593, crsapi.StatusSucceeded))
	}
	for name, test := range map[string]struct {
		change func(*server)
		atOnce bool // the next poll shows it
	}{
		"a task appears ten minutes below the newest": {late, true}, // there is one task too many
		"a task appears so, and another leaves": {func(s *server) {
			s.nodes = s.nodes[:len(s.nodes)-1]
			late(s)
		}, false},
		"a succeeded task fails":             {func(s *server) { s.change(300, func(n *node) { n.Status = crsapi.StatusFailed }) }, false},
		"a task that failed long ago begins": {func(s *server) { s.change(400, func(n *node) { n.Status = crsapi.StatusExecuting }) }, false},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				s := plain(api, 450, 20, 9)
				s.change(400, func(n *node) { n.Status = crsapi.StatusFailed })
				m := newMirror(s, 20)
				poll(t, m, 0)
				test.change(s)
				r := poll(t, m, 0)
				corrections := r.Corrections
				if exact := slices.Equal(sorted(r.Tasks), s.tasks()); exact != test.atOnce {
					t.Errorf("exact at once: %t", exact)
				}
				r = poll(t, m, mirror.All)
				expect(t, r, s)
				if corrections += r.Corrections; corrections != 1 {
					t.Errorf("%d corrections", corrections)
				}
			})
		}
	}
}
