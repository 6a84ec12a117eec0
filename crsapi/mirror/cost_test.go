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

// random returns a server with n tasks at random times, all succeeded.
func random(api crsapi.API, n int) *server {
	s := plain(api, 0, 60, 600)
	s.clock += int64(n) * 60
	s.nodes = randomNodes(api, n)
	return s
}

var allNodes = map[string][]*node{} // are never changed

func randomNodes(api crsapi.API, n int) []*node {
	key := fmt.Sprint(api, n)
	if allNodes[key] == nil {
		allNodes[key] = makeNodes(api, n)
	}
	return slices.Clip(allNodes[key])
}

func makeNodes(api crsapi.API, n int) []*node {
	s := plain(api, n, 60, 600)
	luck := rand.New(rand.NewPCG(7, 7))
	var times []int64
	for range n {
		times = append(times, epoch+luck.Int64N(int64(n)*60))
	}
	slices.Sort(times)
	for i, at := range times {
		id := luck.IntN(600)
		*s.nodes[n-1-i] = *newNode(fmt.Sprintf("crs-%d", id), "backupInstance", at, crsapi.StatusSucceeded)
		if api != crsapi.API20 {
			s.nodes[n-1-i].TaskID = int64(i + 1)
		}
	}
	return s.nodes
}

// TestCost counts the requests of a poll after a change, at 100 tasks a page.
func TestCost(t *testing.T) {
	submit := func(s *server, n, each int) {
		for i := range n {
			if i%each == 0 {
				s.clock += 20
			}
			node := newNode(fmt.Sprintf("crs-%d", 1000+i), "backupInstance", s.clock, crsapi.StatusSucceeded)
			if s.api != crsapi.API20 {
				node.TaskID = int64(1_000_000 + i)
			}
			s.add(node)
		}
		s.clock += 200
	}
	hang := func(s *server) {
		for i := range 10 {
			s.change(1000+1500*i, func(n *node) { n.Status = crsapi.StatusExecuting })
		}
	}
	finish := func(s *server) {
		for i := range 10 {
			s.change(1000+1500*i, func(n *node) { n.Status = crsapi.StatusSucceeded })
		}
	}
	for _, test := range []struct {
		name           string
		before, change func(*server)
		most           map[crsapi.API]int
	}{
		{"quiet", nil, func(*server) {}, map[crsapi.API]int{"2.0": 1, "3.0": 1, "tce": 1}},
		{"40 new", nil, func(s *server) { submit(s, 40, 1) }, map[crsapi.API]int{"2.0": 1, "3.0": 1, "tce": 1}},
		{"10 of the newest changed", func(s *server) {
			for i := range 10 {
				s.change(i, func(n *node) { n.Status = crsapi.StatusExecuting })
			}
		}, func(s *server) {
			for i := range 10 {
				s.change(i, func(n *node) { n.Status = crsapi.StatusSucceeded })
			}
		}, map[crsapi.API]int{"2.0": 1, "3.0": 1, "tce": 1}},
		{"10 hang", hang, func(*server) {}, map[crsapi.API]int{"2.0": 2, "3.0": 2, "tce": 11}},
		{"10 scattered old finishes", hang, finish, map[crsapi.API]int{"2.0": 12, "3.0": 12, "tce": 11}},
		{"200 left", nil, func(s *server) { s.nodes = s.nodes[:len(s.nodes)-200] }, map[crsapi.API]int{"2.0": 3, "3.0": 3, "tce": 3}},
		{"an instance with about 30 tasks deleted", nil, func(s *server) {
			s.remove(func(n *node) bool { return n.RedisID == "crs-77" })
		}, map[crsapi.API]int{"2.0": 15, "3.0": 15, "tce": 15}},
		{"350 new", nil, func(s *server) { submit(s, 350, 1) }, map[crsapi.API]int{"2.0": 5, "3.0": 5, "tce": 5}},
		{"250 in one second", nil, func(s *server) { submit(s, 250, 250) }, map[crsapi.API]int{"2.0": 7, "3.0": 7, "tce": 7}},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
			t.Run(fmt.Sprint(test.name, "/", api), func(t *testing.T) {
				s := random(api, 20_000)
				if test.before != nil {
					test.before(s)
				}
				m := newMirror(s, 100)
				poll(t, m, false)
				test.change(s)
				s.reset()
				s.log = nil
				r := poll(t, m, false)
				if s.requests > test.most[api] || len(r.Full) > 0 {
					t.Errorf("%d requests, want %d; full readings %v", s.requests, test.most[api], r.Full)
					for _, line := range s.log {
						t.Log(line)
					}
				}
				t.Log(s.requests, "requests")
				expect(t, m, s)
			})
		}
	}
}

// TestCostOfFullReading counts the requests of full readings and of Verify.
func TestCostOfFullReading(t *testing.T) {
	for _, n := range []int{250, 3000, 20_000} {
		for _, workers := range []int{1, 8} {
			inBubbles(t, fmt.Sprintf("%d tasks, %d workers", n, workers), func(t *testing.T) {
				s := random(crsapi.API30, n)
				s.latency = 20 * time.Millisecond
				m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: workers})
				begin := time.Now()
				pages := float64(n) / 100
				limit := func(what string, requests int, most float64) {
					t.Logf("%s: %d requests for %g pages", what, requests, pages)
					if float64(requests) > most {
						t.Errorf("%s: %d requests, want %g", what, requests, most)
					}
				}
				r := poll(t, m, false)
				limit("first", s.requests, 1.05*pages+4)
				t.Log("first:", time.Since(begin))
				if r.Pages != s.requests {
					t.Errorf("%d pages, %d requests", r.Pages, s.requests)
				}
				for _, new := range []int{0, 80} {
					for i := range new {
						s.clock += 20
						node := newNode("crs-1", "backupInstance", s.clock, crsapi.StatusSucceeded)
						node.TaskID = int64(1_000_000 + i)
						s.add(node)
					}
					s.reset()
					poll(t, m, true)
					limit(fmt.Sprintf("with a copy and %d new", new), s.requests, 1.02*pages+2)
				}
				s.reset()
				if err := m.Verify(t.Context(), noWait); err != nil {
					t.Fatal(err)
				}
				limit("Verify", s.requests, 1.02*pages+2)
				expect(t, m, s)
			})
		}
	}
}
