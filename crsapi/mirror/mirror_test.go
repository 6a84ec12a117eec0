package mirror_test

import (
	"errors"
	"fmt"
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
func poll(t *testing.T, m *mirror.Mirror, full bool) *mirror.Result {
	t.Helper()
	r, err := m.Poll(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expect compares the copy with the list.
func expect(t *testing.T, m *mirror.Mirror, s *server) {
	t.Helper()
	if problem := differ(slices.Collect(m.All()), s.nodes); problem != "" {
		t.Error(problem)
	}
}

func isDecode(err error) bool {
	var e *crsapi.Error
	return errors.As(err, &e) && e.Reason == crsapi.ReasonDecode
}

// TestEmptyPages is about a server that says that there are tasks and shows none:
// the poll fails, and the next one works.
func TestEmptyPages(t *testing.T) {
	for _, test := range []struct {
		name  string
		empty func(q crsapi.Query) bool
	}{
		{"head", func(q crsapi.Query) bool { return q.EndTime.IsZero() && q.Offset == 0 }},
		{"filter", func(q crsapi.Query) bool { return len(q.Statuses) > 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := plain(crsapi.API30, 500, 10, 5)
			s.change(300, func(n *node) { n.Status = crsapi.StatusExecuting })
			m := newMirror(s, 100)
			poll(t, m, false)
			s.after = func(q crsapi.Query, p *crsapi.Page) {
				if test.empty(q) {
					p.Tasks = nil
				}
			}
			if _, err := m.Poll(t.Context(), false); !isDecode(err) {
				t.Errorf("error %v", err)
			}
			s.after = nil
			s.reset()
			poll(t, m, false)
			if s.requests > 2 {
				t.Errorf("%d requests", s.requests)
			}
			expect(t, m, s)
		})
	}
}

// TestPageSizeRecovers is about a page that was short once.
func TestPageSizeRecovers(t *testing.T) {
	s := plain(crsapi.API30, 2000, 10, 5)
	m := newMirror(s, 100)
	s.habits.cap = 3
	poll(t, m, false)
	s.habits.cap = 0
	poll(t, m, false)
	s.reset()
	poll(t, m, true)
	if s.requests > 23 {
		t.Errorf("%d requests for a full reading of 20 pages", s.requests)
	}
}

// TestFutureTask: a task that is dated days ahead does not hide that a failed task
// is tried again.
func TestFutureTask(t *testing.T) {
	s := plain(crsapi.API30, 500, 10, 5)
	s.change(300, func(n *node) { n.Status = crsapi.StatusFailed })
	s.add(newNode("crs-1", "backupInstance", s.clock+3*86400, crsapi.StatusSucceeded))
	m := newMirror(s, 100)
	poll(t, m, false)
	s.change(301, func(n *node) { n.Status = crsapi.StatusExecuting })
	poll(t, m, false)
	expect(t, m, s)
}

// TestTwins changes two tasks that only their progress tells apart.
func TestTwins(t *testing.T) {
	s := plain(crsapi.API20, 500, 10, 5)
	at := s.nodes[400].start
	for _, p := range []float32{0.1, 0.2} {
		n := newNode("crs-9", "backupInstance", at, crsapi.StatusExecuting)
		n.Progress = p
		s.add(n)
	}
	m := newMirror(s, 100)
	poll(t, m, false)
	for i, n := range s.nodes {
		if n.RedisID == "crs-9" {
			s.change(i, func(n *node) { n.Progress += 0.2 })
		}
	}
	poll(t, m, false)
	var got []float32
	for task := range m.All() {
		if task.RedisID == "crs-9" {
			got = append(got, task.Progress)
		}
	}
	slices.Sort(got)
	if fmt.Sprint(got) != "[0.3 0.4]" {
		t.Error(got)
	}
}

// TestNoCorrectionByOffset: what is new is not what the copy had wrong.
func TestNoCorrectionByOffset(t *testing.T) {
	s := plain(crsapi.API30, 500, 10, 5)
	s.habits.ignore = "end"
	m := newMirror(s, 100)
	poll(t, m, false)
	for range 20 {
		s.clock += 30
		s.add(newNode("crs-1", "backupInstance", s.clock, crsapi.StatusSucceeded))
	}
	if r := poll(t, m, false); r.Corrections != 0 {
		t.Errorf("%d corrections", r.Corrections)
	}
	expect(t, m, s)
}

// TestFullThoughUnproven: a full reading is one also where it was not known yet
// that the server does bounds.
func TestFullThoughUnproven(t *testing.T) {
	s := plain(crsapi.API30, 90, 10, 5)
	m := newMirror(s, 100)
	poll(t, m, false)
	for range 60 {
		s.clock += 10
		s.add(newNode("crs-1", "backupInstance", s.clock, crsapi.StatusSucceeded))
	}
	s.clock += 100
	s.change(140, func(n *node) { n.Status = crsapi.StatusFailed }) // is not to be
	r := poll(t, m, true)
	if !slices.Equal(r.Full, []mirror.Cause{mirror.Due}) || r.Corrections != 1 {
		t.Errorf("%+v", r)
	}
	expect(t, m, s)
}

// TestFullReadsAll: every row is asked for, the newest window too where so much is
// new that the head does not show all of it.
func TestFullReadsAll(t *testing.T) {
	s := plain(crsapi.API30, 540, 10, 5)
	m := newMirror(s, 100)
	poll(t, m, false)
	for range 90 {
		s.clock += 10
		s.add(newNode("crs-1", "backupInstance", s.clock, crsapi.StatusSucceeded))
	}
	s.change(90+20, func(n *node) { n.Status = crsapi.StatusFailed }) // is not to be
	poll(t, m, true)
	expect(t, m, s)
}

// TestNamesGo: no string is kept for ever.
func TestNamesGo(t *testing.T) {
	for _, n := range []int{50, 500} {
		s := plain(crsapi.API30, n, 10, 5)
		s.habits.ignore = "end" // the long list is read by offset
		m := newMirror(s, 100)
		for i := range 3000 {
			s.clock += 10
			s.nodes = s.nodes[:n-1]
			s.add(newNode(fmt.Sprint("crs-new-", i), "backupInstance", s.clock, crsapi.StatusSucceeded))
			if i%10 == 0 {
				poll(t, m, false)
			}
		}
		if names := m.Names(); names > 2500 {
			t.Errorf("%d strings for %d tasks", names, n)
		}
	}
}

// TestRejectedRowCostsNothing: a row that cannot be read matches every filter.
func TestRejectedRowCostsNothing(t *testing.T) {
	s := plain(crsapi.API30, 500, 10, 5)
	s.change(300, func(n *node) { n.Status = crsapi.StatusExecuting })
	s.change(350, func(n *node) { n.bad = 77 })
	m := newMirror(s, 100)
	poll(t, m, false)
	s.reset()
	if r := poll(t, m, false); r.Rejected != 1 || s.requests != 2 {
		t.Errorf("%d rejected, %d requests", r.Rejected, s.requests)
	}
}

// TestProbeWhileListMoves: an instance that is deleted during the probe does not
// show that the server ignores bounds.
func TestProbeWhileListMoves(t *testing.T) {
	s := plain(crsapi.API30, 500, 10, 5)
	deleted := false
	s.before = func(s *server, q crsapi.Query) {
		if !q.BeginTime.IsZero() && q.BeginTime.Equal(q.EndTime) && !deleted {
			deleted = true
			s.remove(func(n *node) bool { return n.start == q.BeginTime.Unix() })
		}
	}
	m := newMirror(s, 100)
	poll(t, m, false)
	s.reset()
	poll(t, m, false)
	if s.requests != 1 {
		t.Errorf("%d requests: the list is read by offset", s.requests)
	}
	expect(t, m, s)
}

// TestWrongZone: a list whose times are all hours ahead is read by bounds, too.
func TestWrongZone(t *testing.T) {
	s := plain(crsapi.API30, 2000, 10, 5)
	s.clock -= 8 * 3600
	m := newMirror(s, 100)
	poll(t, m, false)
	for _, line := range s.log {
		if strings.Contains(line, "offset 100:") {
			t.Fatal("the list is read by offset")
		}
	}
}

// TestProbeBelowHead: the whole head is of one second.
func TestProbeBelowHead(t *testing.T) {
	s := plain(crsapi.API30, 2000, 10, 5)
	for i := range 250 {
		n := newNode("crs-1", "backupInstance", s.clock, crsapi.StatusPending)
		n.TaskID = int64(10_000 + i)
		s.add(n)
	}
	s.habits.shuffle = true
	m := newMirror(s, 100)
	poll(t, m, false)
	expect(t, m, s)
}

// TestSecondShrinks: tasks of a long second leave while it is read, as many as have
// left elsewhere. The total from before must not hide that.
func TestSecondShrinks(t *testing.T) {
	s := plain(crsapi.API30, 500, 10, 5)
	submit := func(id int) {
		for i := range 150 {
			n := newNode(fmt.Sprintf("crs-%d", i), "backupInstance", s.clock, crsapi.StatusPending)
			n.TaskID = int64(id + i)
			s.add(n)
		}
	}
	long := s.clock
	submit(1000)
	s.clock += 70
	s.add(newNode("crs-1", "cleanInstance", s.clock, crsapi.StatusSucceeded))
	m := newMirror(s, 100)
	poll(t, m, false) // has all up to the long second, and more
	s.nodes = s.nodes[1 : len(s.nodes)-2]
	s.clock += 500
	submit(2000)
	s.clock += 100 // so long that no task enters these seconds any more
	s.add(newNode("crs-1", "cleanInstance", s.clock, crsapi.StatusPending))
	shrunk := false
	s.before = func(s *server, q crsapi.Query) {
		if q.BeginTime.Unix() == long && q.EndTime.Unix() == long && !shrunk {
			shrunk = true
			s.remove(func(n *node) bool { return n.start == long && (n.RedisID == "crs-7" || n.RedisID == "crs-8") })
		}
	}
	poll(t, m, false)
	if !shrunk {
		t.Error("the second was not read")
	}
	expect(t, m, s)
}

// TestTwinsByOffset: under API 3.0 a TaskId that comes twice is a task that moved
// to another page.
func TestTwinsByOffset(t *testing.T) {
	for seed := range uint64(50) {
		s := plain(crsapi.API30, 150, 1, 5)
		s.luck.Uint64()
		for range seed {
			s.luck.Uint64()
		}
		for i := 98; i < 102; i++ {
			s.change(i, func(n *node) { n.start, n.StartTime = s.nodes[98].start, s.nodes[98].StartTime })
		}
		s.habits.ignore, s.habits.shuffle = "end", true
		m := newMirror(s, 100)
		if _, err := m.Poll(t.Context(), false); err == nil {
			expect(t, m, s)
		} else if !isDecode(err) {
			t.Error(err)
		}
	}
}

// TestLookbackMoves: tasks leave with time, and the lists ends where it shall.
func TestLookbackMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{api: crsapi.API30, luck: plain(crsapi.API30, 0, 1, 1).luck, clock: time.Now().Unix()}
		for i := range 1000 {
			s.add(newNode("crs-1", "backupInstance", s.clock-int64(1000-i)*10, crsapi.StatusSucceeded))
		}
		m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: 4, Lookback: time.Hour})
		for i := range 60 {
			if i%3 == 0 {
				for k := range 150 { // more than a page in the oldest second, in an hour
					s.add(newNode(fmt.Sprintf("crs-%d", k), "backupInstance", s.clock, crsapi.StatusSucceeded))
				}
			}
			poll(t, m, i%7 == 0)
			for k := range m.All() {
				if k.StartTime.Before(time.Now().Add(-time.Hour)) {
					t.Fatal(k)
				}
			}
			want := 0
			for _, n := range s.nodes {
				if !n.StartTime.Before(time.Now().Add(-time.Hour)) {
					want++
				}
			}
			if m.Len() != want {
				t.Fatalf("%d tasks, want %d", m.Len(), want)
			}
			if err := m.Verify(t.Context(), noWait); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Second)
			s.clock += 100
		}
	})
}

// TestLookbackByTheClockOfTheAPI: from the second poll on, a wrong clock of ours
// does not move the list.
func TestLookbackByTheClockOfTheAPI(t *testing.T) {
	for _, ours := range []time.Duration{-3650 * 24 * time.Hour, 40 * 24 * time.Hour} {
		t.Run(ours.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{api: crsapi.API30, luck: plain(crsapi.API30, 0, 1, 1).luck, clock: time.Now().Add(-ours).Unix()}
				for i := range int64(1000) {
					s.add(newNode("crs-1", "backupInstance", s.clock-(1000-i)*10, crsapi.StatusSucceeded))
				}
				m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: 4, Lookback: time.Hour})
				poll(t, m, false)
				for range 3 {
					time.Sleep(100 * time.Second)
					s.clock += 100
					poll(t, m, false)
					begin, want := s.clock-3600, 0
					for _, n := range s.nodes {
						if n.StartTime.Unix() >= begin {
							want++
						}
					}
					if m.Len() != want {
						t.Fatalf("%d tasks, want %d", m.Len(), want)
					}
				}
			})
		})
	}
}

// TestCausesOfAShortList is about a list that one page has: each poll reads all of
// it, and counts that as a full reading where one was due.
func TestCausesOfAShortList(t *testing.T) {
	m := newMirror(plain(crsapi.API30, 5, 10, 5), 100)
	for _, test := range []struct {
		full bool
		want []mirror.Cause
	}{
		{true, []mirror.Cause{mirror.First}}, {true, []mirror.Cause{mirror.Due}}, {false, nil},
	} {
		if got := poll(t, m, test.full); !slices.Equal(got.Full, test.want) || got.Pages != 1 {
			t.Errorf("full %t: %v in %d pages, want %v", test.full, got.Full, got.Pages, test.want)
		}
	}
}
