package mirror_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// unknownInstance returns the error of the API about an instance that it does not know.
func unknownInstance(t *testing.T) error {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	defer server.Close()
	server.SetTasks("ap-guangzhou", nil)
	server.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
	cfg := crsapi.DefaultConfig(crsapi.API30)
	cfg.Region, cfg.Endpoint, cfg.Transport = "ap-guangzhou", server.URL3, server.Client().Transport
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	client, err := crsapi.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = client.Page(t.Context(), crsapi.Query{RedisID: "crs-77"}); !crsapi.IsUnknownInstance(err) {
		t.Fatal(err)
	}
	return err
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
	unknown := unknownInstance(t)
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
		}, 12},
		{"one deleted that is unknown now", func(s *server) { s.unknown = unknown }, func(s *server) {
			s.remove(func(n *node) bool { return n.RedisID == "crs-77" })
		}, 12},
		{"350 new", nil, submit(350, 1), 5},
		{"250 in one second", nil, submit(250, 250), 5},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			t.Run(fmt.Sprint(test.name, "/", api), func(t *testing.T) {
				s := plain(api, 20_000, 60, 600)
				if test.before != nil {
					test.before(s)
				}
				m := newMirror(s, 100)
				poll(t, m, 0)
				test.change(s)
				s.reset()
				r := poll(t, m, 0)
				if expect(t, r, s); r.ByOffset != "" {
					t.Error(r.ByOffset)
				}
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
		{"", 3000, 8, 40, 31, 6},
		{"", 20_000, 1, 203, 203, 6},
		{"", 20_000, 8, 216, 203, 6},
		{"endOfTask", 5000, 8, 120, 52, 12},
	} {
		inBubble(t, fmt.Sprintf("%d tasks, %d workers, endTime %s", test.tasks, test.workers, test.end), func(t *testing.T) {
			s := plain(crsapi.API30, test.tasks, 60, 600)
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
			for range 2 {
				expect(t, poll(t, m, 5), s)
				limit(t, "5 in turn", s, test.some)
			}
		})
	}
}
