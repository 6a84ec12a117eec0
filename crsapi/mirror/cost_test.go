package mirror_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// random returns a server with n tasks of 600 instances at random times, all succeeded.
func random(api crsapi.API, n int) *server {
	s := plain(api, n, 60, 1)
	luck := rand.New(rand.NewPCG(7, 7))
	var times []int64
	for range n {
		times = append(times, epoch+luck.Int64N(int64(n)*60))
	}
	slices.Sort(times)
	for i, n := range slices.Backward(s.nodes) {
		id := n.TaskID
		*n = *newNode(fmt.Sprintf("crs-%d", luck.IntN(600)), "backupInstance", times[len(times)-1-i], crsapi.StatusSucceeded)
		n.TaskID = id
	}
	return s
}

// TestCost counts the requests of a poll after a change, at 100 tasks a page.
func TestCost(t *testing.T) {
	become := func(n, first, each int, to crsapi.Status) func(*server) {
		return func(s *server) {
			for i := range n {
				s.change(first+each*i, func(n *node) { n.Status = to })
			}
		}
	}
	submit := func(n, each int) func(*server) {
		return func(s *server) {
			for range n / each {
				s.clock += 20
				s.submit(each)
			}
			s.clock += 200
		}
	}
	for _, test := range []struct {
		name           string
		before, change func(*server)
		most           int
	}{
		{"quiet", nil, func(*server) {}, 1},
		{"40 new", nil, submit(40, 1), 1},
		{"10 of the newest changed", become(10, 0, 1, crsapi.StatusExecuting), become(10, 0, 1, crsapi.StatusSucceeded), 1},
		{"an unfinished row cannot be read", func(s *server) {
			s.change(4000, func(n *node) { n.Status, n.bad = crsapi.StatusExecuting, 77 })
		}, func(*server) {}, 1},
		{"10 that hung end", become(10, 1000, 1500, crsapi.StatusExecuting), become(10, 1000, 1500, crsapi.StatusSucceeded), 11},
		{"200 left", nil, func(s *server) { s.nodes = s.nodes[:len(s.nodes)-200] }, 3},
		{"an instance with about 30 tasks deleted", nil, func(s *server) {
			s.remove(func(n *node) bool { return n.RedisID == "crs-77" })
		}, 13},
		{"350 new", nil, submit(350, 1), 5},
		{"250 in one second", nil, submit(250, 250), 5},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			t.Run(fmt.Sprint(test.name, "/", api), func(t *testing.T) {
				s := random(api, 20_000)
				if test.before != nil {
					test.before(s)
				}
				m := newMirror(s, 100)
				poll(t, m, 0)
				test.change(s)
				s.reset()
				expect(t, poll(t, m, 0), s)
				limit(t, test.name, s, test.most)
			})
		}
	}
}

// TestCostOfFullReading counts the requests of full readings, and of a turn. Pages are read
// side by side, by offset, too.
func TestCostOfFullReading(t *testing.T) {
	for _, test := range []struct {
		end               string
		tasks, workers    int
		first, full, some int // requests; some of 5 windows in turn
	}{
		{"", 250, 8, 3, 4, 4},
		{"", 3000, 8, 40, 33, 6},
		{"", 20_000, 1, 203, 203, 6},
		{"", 20_000, 8, 216, 203, 6},
		{"endOfTask", 5000, 8, 124, 53, 12},
	} {
		inBubble(t, fmt.Sprintf("%d tasks, %d workers, endTime %s", test.tasks, test.workers, test.end), func(t *testing.T) {
			s := random(crsapi.API30, test.tasks)
			s.habits.end, s.latency = test.end, 20*time.Millisecond
			m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: test.workers})
			begin := time.Now()
			r := poll(t, m, 0)
			if answers := int(time.Since(begin) / s.latency); answers > test.first/test.workers+6 {
				t.Errorf("the first reading took the time of %d answers", answers)
			}
			if r.Pages != s.requests || r.Windows > test.full+2 || r.Windows < test.full-2 {
				t.Errorf("%d pages, %d requests, %d windows", r.Pages, s.requests, r.Windows)
			}
			limit(t, "first", s, test.first)
			for _, n := range []int{0, 80} {
				for range n {
					s.clock += 20
					s.submit(1)
				}
				poll(t, m, mirror.All)
				limit(t, fmt.Sprintf("with a copy and %d new", n), s, test.full+n/80)
			}
			r = poll(t, m, 5)
			limit(t, "5 in turn", s, test.some)
			expect(t, r, s)
		})
	}
}
