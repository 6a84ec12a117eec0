package mirror_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

var wholePolls = flag.Int("whole-polls", 200, "number of polls of TestWholePolls")

// usual changes the list as an account with some hundred instances does.
func (s *server) usual(luck *rand.Rand, lastID *int64) {
	submit := func(n int) {
		for range n {
			*lastID++
			node := newNode(fmt.Sprintf("crs-%d", luck.IntN(300)), "backupInstance", s.clock, crsapi.StatusPending)
			if s.api != crsapi.API20 {
				node.TaskID = *lastID
			}
			s.add(node)
		}
	}
	become := func(from, to crsapi.Status) {
		var which []int
		for i, n := range s.nodes[:min(len(s.nodes), 1000)] {
			if n.Status == from {
				which = append(which, i)
			}
		}
		if len(which) > 0 {
			i := len(which) - 1 // mostly the one that waits longest
			if luck.IntN(3) == 0 {
				i = luck.IntN(len(which))
			}
			s.change(which[i], func(n *node) { n.Status = to })
		}
	}
	s.clock += luck.Int64N(3)
	switch n := luck.IntN(1000); {
	case n < 260:
		submit(1)
	case n < 560:
		become(crsapi.StatusPending, crsapi.StatusExecuting)
	case n < 860:
		become(crsapi.StatusExecuting, crsapi.StatusSucceeded)
	case n < 870:
		become(crsapi.StatusExecuting, crsapi.StatusFailed)
	case n < 880:
		become(crsapi.StatusFailed, crsapi.StatusExecuting)
	case n < 980:
		if k := 1 + luck.IntN(3); len(s.nodes) > 2500 {
			s.nodes = s.nodes[:len(s.nodes)-k]
		}
	case n < 985:
		id := fmt.Sprintf("crs-%d", luck.IntN(300))
		s.remove(func(n *node) bool { return n.RedisID == id })
	case n < 987:
		submit(30)
	default:
		s.clock += luck.Int64N(60)
	}
}

// TestWholePolls counts the polls that succeed while the list moves.
func TestWholePolls(t *testing.T) {
	for _, test := range []struct {
		events float64 // before a request
		most   int     // of 100 polls that fail
	}{{0.1, 1}, {1, 40}} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
			t.Run(fmt.Sprintf("%g events, %s", test.events, api), func(t *testing.T) {
				s := plain(api, 3000, 30, 300)
				luck := rand.New(rand.NewPCG(5, 5))
				lastID := int64(1_000_000)
				s.before = func(s *server, _ crsapi.Query) {
					if luck.Float64() < test.events {
						s.usual(luck, &lastID)
					}
				}
				m := mirror.New(mirror.Config{Lister: s, PageSize: 100, Concurrency: 8})
				failed, full, pages := 0, 0, 0
				for i := range *wholePolls {
					for range 5 {
						s.usual(luck, &lastID)
					}
					s.reset()
					r, err := m.Poll(t.Context(), i%50 == 0)
					if err != nil {
						failed++
					} else if r.Rejected != 0 {
						t.Error(r.Rejected)
					}
					if i%50 != 0 {
						full += len(r.Full)
					}
					pages += r.Pages
				}
				t.Logf("%d of %d polls failed, %d full readings that nobody asked for, %d pages", failed, *wholePolls, full, pages)
				if failed*100 > test.most**wholePolls {
					t.Errorf("%d polls failed", failed)
				}
			})
		}
	}
}
