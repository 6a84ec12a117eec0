package crsapi_test

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"pgregory.net/rapid"
)

const region = "ap-guangzhou"

// serve returns a client of a simulator that serves tasks.
func serve(t testing.TB, api crsapi.API, tasks []crsapi.Task, change func(*crsapi.Config)) (*crsapi.Client, *crsapitest.Server) {
	t.Helper()
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	server.SetTasks(region, tasks)
	cfg := crsapi.DefaultConfig(api)
	cfg.Region, cfg.Limiter = region, nil
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	cfg.Endpoint, cfg.Transport = server.URL3, server.Client().Transport
	if api == crsapi.API20 {
		cfg.Endpoint = server.URL
	}
	if change != nil {
		change(&cfg)
	}
	client, err := crsapi.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

type bag map[crsapi.Task]int

// bagOf returns tasks as an API lists them, without their TaskIDs.
func bagOf(api crsapi.API, tasks iter.Seq[crsapi.Task]) bag {
	b := bag{}
	for task := range tasks {
		b[asListed(api, task)]++
	}
	return b
}

// swept returns the tasks of a sweep without their TaskIDs.
func swept(s *crsapi.Sweep) bag {
	b := bag{}
	for task := range s.All() {
		task.TaskID = 0
		b[task]++
	}
	return b
}

// wantTaskIDs checks that each task has a TaskID of its own, if the API has any.
func wantTaskIDs(t testing.TB, api crsapi.API, s *crsapi.Sweep) {
	t.Helper()
	ids := map[int64]bool{}
	for task := range s.All() {
		if ids[task.TaskID] = true; (task.TaskID != 0) != (api != crsapi.API20) {
			t.Errorf("API %s with TaskID %d", api, task.TaskID)
		}
	}
	if api != crsapi.API20 && len(ids) != s.Len() {
		t.Errorf("%d TaskIDs of %d tasks", len(ids), s.Len())
	}
}

func mustSweep(t testing.TB, c *crsapi.Client) *crsapi.Sweep {
	t.Helper()
	s, err := c.Sweep(t.Context(), crsapi.Query{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantDecodeError checks that a sweep failed, told why, and gave no number.
func wantDecodeError(t testing.TB, s *crsapi.Sweep, err error) {
	t.Helper()
	var failed *crsapi.Error
	if !errors.As(err, &failed) || failed.Reason != crsapi.ReasonDecode || failed.Requested {
		t.Fatalf("got %v, want a decode error of the sweep", err)
	}
	if s.Len() != 0 || len(swept(s)) != 0 {
		t.Fatalf("a failed sweep of %d tasks", s.Len())
	}
}

func TestSweepOfTheDocumentsExample(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := serve(t, api, crsapitest.DocumentExample(), nil)
			s := mustSweep(t, c)
			if !maps.Equal(swept(s), bagOf(api, slices.Values(crsapitest.DocumentExample()))) || s.Len() != 9 || s.Pages() != 1 {
				t.Errorf("got %v in %d pages", swept(s), s.Pages())
			}
		})
	})
}

func TestSweepAtRest(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, test := range map[string]struct {
			tasks, limit int
			do           crsapitest.Effect
			requests     int
		}{
			"no task":                {0, 100, nil, 1},
			"one":                    {1, 100, nil, 1},
			"one page less one":      {99, 100, nil, 1},
			"one page":               {100, 100, nil, 3}, // an empty page, the head
			"one page and one":       {101, 100, nil, 3},
			"many":                   {2537, 100, nil, 27},
			"capped":                 {2537, 100, crsapitest.PageCap(40), 65},
			"capped, a multiple":     {2520, 100, crsapitest.PageCap(40), 65},
			"capped and rounded":     {2537, 100, crsapitest.All(crsapitest.PageCap(40), crsapitest.RoundOffsets), 65},
			"rounded":                {2537, 100, crsapitest.RoundOffsets, 27},
			"cap of one":             {7, 100, crsapitest.PageCap(1), 9},
			"page size of one":       {7, 1, nil, 9},
			"strings for numbers":    {250, 100, crsapitest.Format{StringCode: true, StringTotal: true}, 4},
			"null where empty":       {0, 100, crsapitest.Format{EmptyOnly: true, Data: new("null")}, 1},
			"array where empty":      {0, 100, crsapitest.Format{EmptyOnly: true, Data: new("[]")}, 1},
			"no set where empty":     {0, 100, crsapitest.Format{EmptyOnly: true, TaskSet: new("")}, 1},
			"null set where empty":   {0, 100, crsapitest.Format{EmptyOnly: true, TaskSet: new("null")}, 1},
			"object set where empty": {0, 100, crsapitest.Format{EmptyOnly: true, TaskSet: new("{}")}, 1},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tasks := crsapitest.Generate(test.tasks, 30, 1)
					c, server := serve(t, api, tasks, func(cfg *crsapi.Config) { cfg.PageSize = test.limit })
					if test.do != nil {
						server.Inject(crsapitest.Fault{Do: test.do})
					}
					s := mustSweep(t, c)
					if !maps.Equal(swept(s), bagOf(api, slices.Values(tasks))) {
						t.Errorf("%d tasks, want %d: not the same", s.Len(), len(tasks))
					}
					if s.Pages() != test.requests || server.Requests(region) != test.requests {
						t.Errorf("%d pages in %d requests, want %d", s.Pages(), server.Requests(region), test.requests)
					}
					wantTaskIDs(t, api, s)
				})
			})
		}
	})
}

// twins returns n tasks that share an identity, some of them alike altogether.
func twins(n int) []crsapi.Task {
	tasks := make([]crsapi.Task, n)
	for i := range tasks {
		tasks[i] = crsapitest.DocumentExample()[0]
		if i%3 == 0 {
			tasks[i].Status = crsapi.StatusFailed
		}
	}
	return tasks
}

func TestTwinsAreTwoTasks(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, limit := range []int{1, 2, 3, 100} {
			t.Run(fmt.Sprint(limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, _ := serve(t, api, twins(8), func(cfg *crsapi.Config) { cfg.PageSize = limit })
					s := mustSweep(t, c)
					if !maps.Equal(swept(s), bagOf(api, slices.Values(twins(8)))) {
						t.Errorf("got %v", swept(s))
					}
					wantTaskIDs(t, api, s)
				})
			})
		}
	})
}

func TestSweepRefusesWhatDoesNotAddUp(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, do := range map[string]crsapitest.Effect{
			"offset ignored":                 crsapitest.IgnoreOffset,
			"offset ignored at a cap":        crsapitest.All(crsapitest.IgnoreOffset, crsapitest.PageCap(40)),
			"offset ignored at a cap of one": crsapitest.All(crsapitest.IgnoreOffset, crsapitest.PageCap(1)),
			"one too many":                   totalPlus(1),
			"one too few":                    totalPlus(-1),
			"a page too many":                totalPlus(100),
			"a page too few":                 totalPlus(-100),
			"down to a multiple":             totalPlus(-50),
			"none though there are":          totalOf(0),
			"far too many":                   totalOf(9_999_999),
			"a changing total":               totalJitter(3),
			"rows lost":                      crsapitest.Format{TaskSet: new("[]")},
			"data lost":                      crsapitest.Format{Data: new("null"), Response: new(`{"TotalCount":350,"RequestId":"r"}`)},
			"null set":                       crsapitest.Format{TaskSet: new("null")},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, server := serve(t, api, crsapitest.Generate(350, 30, 1), nil)
					server.Inject(crsapitest.Fault{Do: do})
					s, err := c.Sweep(t.Context(), crsapi.Query{})
					wantDecodeError(t, s, err)
					if n := server.Requests(region); n > 2000 {
						t.Errorf("%d requests", n)
					}
				})
			})
		}
	})
}

func TestSweepCountsRejectedRows(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			tasks := crsapitest.Generate(250, 30, 1)
			c, server := serve(t, api, tasks, nil)
			server.SetRawRows(region, rowJSON(api, "redisId", ""), `null`, `{}`, rowJSON(api, "startTime", `"soon"`))
			s := mustSweep(t, c)
			if !maps.Equal(swept(s), bagOf(api, slices.Values(tasks))) || s.Rejected() != 4 || s.Len() != 250 {
				t.Errorf("%d tasks, %d rejected", s.Len(), s.Rejected())
			}
		})
	})
}

// listMover moves a list and remembers every state that it was in.
type listMover struct {
	api    crsapi.API
	mu     sync.Mutex
	server *crsapitest.Server
	random *rand.Rand
	now    uint64 // fingerprint of the present state
	states map[uint64]bool
	n      int

	perSecond int // new tasks that are submitted in the same second
}

func newListMover(api crsapi.API, server *crsapitest.Server, seed uint64) *listMover {
	m := &listMover{api: api, server: server, random: rand.New(rand.NewPCG(seed, 1))}
	m.now = fingerprint(api, slices.Values(server.Tasks(region)))
	m.states = map[uint64]bool{m.now: true}
	return m
}

var hashSeed = maphash.MakeSeed()

// fingerprint is the same for the same tasks as an API lists them, in whatever
// order and with whatever TaskIDs.
func fingerprint(api crsapi.API, tasks iter.Seq[crsapi.Task]) (sum uint64) {
	for task := range tasks {
		sum += maphash.Comparable(hashSeed, asListed(api, task))
	}
	return sum
}

func (m *listMover) newTask() crsapi.Task {
	m.n++
	return crsapi.Task{
		RedisID: fmt.Sprintf("crs-new%05d", m.random.IntN(5)), RedisName: "new", ProjectID: "0",
		TaskName:  "backupInstance",
		StartTime: time.Date(2025, 1, 1, 0, 0, m.n/m.perSecond, 0, time.UTC),
		Status:    crsapi.StatusFailed,
	}
}

// move adds and drops one to three tasks each, in one step or in two.
func (m *listMover) move(ascending bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	adds, drops := m.random.IntN(3), m.random.IntN(3)
	m.server.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		added := make([]crsapi.Task, adds)
		for i := range added {
			added[i] = m.newTask()
		}
		drops = min(drops, len(tasks))
		var dropped []crsapi.Task
		if ascending {
			dropped, tasks = tasks[:drops], append(tasks[drops:], added...)
		} else {
			slices.Reverse(added)
			end := len(tasks) - drops
			dropped, tasks = tasks[end:], append(added, tasks[:end]...)
		}
		m.now += fingerprint(m.api, slices.Values(added)) - fingerprint(m.api, slices.Values(dropped))
		m.states[m.now] = true
		return tasks
	})
}

func (m *listMover) had(s *crsapi.Sweep) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[fingerprint(m.api, s.All())]
}

// TestSweepOfAMovingList holds every sweep against all the states that the
// list was in: it has to be one of them, or an error.
func TestSweepOfAMovingList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		t.Parallel()
		for name, test := range map[string]struct {
			every, moves int // a move at every so manieth request, and how many in all
			perSecond    int
			mayFail      bool
		}{
			"once":                       {every: 20, moves: 1, perSecond: 3},
			"twice":                      {every: 40, moves: 2, perSecond: 3},
			"through two readings":       {every: 30, moves: 4, perSecond: 3},
			"all the while, slowly":      {every: 25, moves: 1 << 30, perSecond: 3},
			"at every second request":    {every: 2, moves: 1 << 30, perSecond: 1, mayFail: true},
			"at every request, for ever": {every: 1, moves: 1 << 30, perSecond: 1, mayFail: true},
		} {
			for _, ascending := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/ascending=%v", name, ascending), func(t *testing.T) {
					// The merge knows no API, and a run takes a second: few are enough.
					seeds := map[crsapi.API]int{crsapi.API20: 4, crsapi.API30: 1, crsapi.APITCE: 1}[api]
					failures := 0
					for seed := range uint64(seeds) {
						synctest.Test(t, func(t *testing.T) {
							tasks := crsapitest.Generate(2500, 30, seed)
							for i := 0; len(tasks) < 2537; i += 67 {
								tasks = slices.Insert(tasks, i, tasks[i])
							}
							if ascending {
								slices.Reverse(tasks)
							}
							c, server := serve(t, api, tasks, nil)
							server.Inject(crsapitest.Fault{Do: crsapitest.PageCap(40)})
							moves := newListMover(api, server, seed)
							moves.perSecond = test.perSecond
							var requests int
							var mu sync.Mutex
							server.OnRequest(func(crsapitest.Request) {
								mu.Lock()
								requests++
								now := requests%test.every == 0 && requests/test.every <= test.moves
								mu.Unlock()
								if now {
									moves.move(ascending)
								}
							})
							s, err := c.Sweep(t.Context(), crsapi.Query{})
							if err != nil {
								failures++
								wantDecodeError(t, s, err)
								return
							}
							if !moves.had(s) {
								t.Errorf("seed %d: %d tasks that were never the list", seed, s.Len())
							}
						})
					}
					if failures > 0 && !test.mayFail || failures > max(1, seeds/2) && !ascending {
						t.Errorf("%d of %d sweeps ended in an error", failures, seeds)
					}
				})
			}
		}
	})
}

func TestSweepProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var (
			api       = rapid.SampledFrom([]crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE}).Draw(rt, "API")
			n         = rapid.IntRange(0, 60).Draw(rt, "tasks")
			size      = rapid.IntRange(1, 25).Draw(rt, "page size")
			pageCap   = rapid.IntRange(1, 25).Draw(rt, "page cap")
			instances = rapid.IntRange(1, 5).Draw(rt, "instances")
			double    = rapid.IntRange(0, 20).Draw(rt, "twins")
			seed      = rapid.Uint64().Draw(rt, "seed")
			effects   = []crsapitest.Effect{crsapitest.PageCap(pageCap)}
		)
		if rapid.Bool().Draw(rt, "round") {
			effects = append(effects, crsapitest.RoundOffsets)
		}
		tasks := crsapitest.Generate(n, instances, seed)
		if n > 0 {
			for range double {
				at := rapid.IntRange(0, len(tasks)-1).Draw(rt, "twin of")
				tasks = slices.Insert(tasks, at, tasks[at])
			}
		}
		var problem string // rapid cannot fail inside of a bubble
		synctest.Test(t, func(t *testing.T) {
			c, server := serve(t, api, tasks, func(cfg *crsapi.Config) { cfg.PageSize = size })
			server.Inject(crsapitest.Fault{Do: crsapitest.All(effects...)})
			s, err := c.Sweep(t.Context(), crsapi.Query{})
			if err != nil {
				problem = err.Error()
			} else if !maps.Equal(swept(s), bagOf(api, slices.Values(tasks))) {
				problem = fmt.Sprintf("%d tasks, want %d", s.Len(), len(tasks))
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

func TestSweepFails(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, test := range map[string]struct {
			do     crsapitest.Effect
			skip   int
			reason crsapi.Reason
		}{
			"first page":    {crsapitest.APIError(4103), 0, crsapi.ReasonDenied},
			"a later page":  {crsapitest.APIError(4100), 7, crsapi.ReasonAuth},
			"the last":      {crsapitest.HTTPStatus(500), 25, crsapi.ReasonServer},
			"the head":      {crsapitest.APIError(4400), 26, crsapi.ReasonThrottled},
			"a hung page":   {crsapitest.Hang, 7, crsapi.ReasonTimeout},
			"a page of 404": {crsapitest.HTTPStatus(404), 7, crsapi.ReasonAPI},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, server := serve(t, api, crsapitest.Generate(2537, 30, 1), nil)
					server.Inject(crsapitest.Fault{Skip: test.skip, Do: test.do})
					ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
					defer cancel()
					s, err := c.Sweep(ctx, crsapi.Query{})
					var failed *crsapi.Error
					if !errors.As(err, &failed) || failed.Reason != test.reason {
						t.Fatalf("got %v, want %s", err, test.reason)
					}
					if s.Len() != 0 || len(swept(s)) != 0 || s.Pages() > test.skip {
						t.Errorf("%d tasks of %d pages, want none of at most %d", s.Len(), s.Pages(), test.skip)
					}
				})
			})
		}
	})
}

func TestSweepRecoversFromFaults(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			tasks := crsapitest.Generate(2537, 30, 1)
			c, server := serve(t, api, tasks, nil)
			server.Inject(crsapitest.Fault{Count: 3, Skip: 2, Do: crsapitest.APIError(6000)})
			server.Inject(crsapitest.Fault{Count: 3, Skip: 9, Do: crsapitest.HTTPStatus(503)})
			server.Inject(crsapitest.Fault{Count: 2, Skip: 15, Do: crsapitest.APIError(4400)})
			if s := mustSweep(t, c); !maps.Equal(swept(s), bagOf(api, slices.Values(tasks))) {
				t.Errorf("%d tasks, want %d", s.Len(), len(tasks))
			}
		})
	})
}

// TestOnePageTwice has a stale cache answer one request with the page before:
// all lengths and totals fit, and a page of tasks is missing.
func TestOnePageTwice(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			tasks := crsapitest.Generate(1050, 30, 1)
			c, server := serve(t, api, tasks, func(cfg *crsapi.Config) { cfg.Concurrency = 1 })
			server.Inject(crsapitest.Fault{Skip: 1, Count: 1, Do: crsapitest.IgnoreOffset})
			if s := mustSweep(t, c); !maps.Equal(swept(s), bagOf(api, slices.Values(tasks))) {
				t.Errorf("%d tasks, but not those that are listed", s.Len())
			}
		})
	})
}

// TestTwinsAtAPageBorder has the list lose a task in each reading, so that a
// task that has dropped off could stand in for a twin on the next page.
func TestTwinsAtAPageBorder(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for lossAt := range 12 {
			synctest.Test(t, func(t *testing.T) {
				var tasks []crsapi.Task
				for i := range 95 {
					tasks = append(tasks, backupAt(fmt.Sprintf("crs-%02d", i), -i))
				}
				tasks[9], tasks[10] = backupAt("twin", -9), backupAt("twin", -9)
				c, server := serve(t, api, tasks, func(cfg *crsapi.Config) { cfg.PageSize, cfg.Concurrency = 10, 1 })
				states := map[uint64]bool{fingerprint(api, slices.Values(tasks)): true}
				server.OnRequest(func(r crsapitest.Request) {
					switch r.Seq {
					case 4, 15, 26, 37, 44 + lossAt:
						server.Drop(region, 1)
						states[fingerprint(api, slices.Values(server.Tasks(region)))] = true
					}
				})
				s, err := c.Sweep(t.Context(), crsapi.Query{})
				if err == nil && !states[fingerprint(api, s.All())] {
					t.Errorf("loss at request %d: %d tasks that were never the list", 44+lossAt, s.Len())
				}
			})
		}
	})
}

func backupAt(id string, minutes int) crsapi.Task {
	return crsapi.Task{
		RedisID: id, RedisName: "n", ProjectID: "0", TaskName: "backupInstance",
		StartTime: time.Date(2025, 1, 1, 0, minutes, 0, 0, time.UTC), Status: crsapi.StatusSucceeded,
	}
}

// TestRateLimitHoldsBehindAFullHouse has requests wait for a slot: what the
// limit let pass meanwhile must not go out at once when slots come free.
func TestRateLimitHoldsBehindAFullHouse(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var at []time.Time
			c, server := serve(t, api, crsapitest.DocumentExample(), func(cfg *crsapi.Config) { cfg.Limiter = crsapi.NewLimiter(20) })
			server.OnRequest(func(crsapitest.Request) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Now())
			})
			server.Inject(crsapitest.Fault{Count: 8, Do: crsapitest.Latency(1500 * time.Millisecond)})
			var sweeps sync.WaitGroup
			for range 40 {
				sweeps.Go(func() {
					if _, err := c.Sweep(t.Context(), crsapi.Query{}); err != nil {
						t.Error(err)
					}
				})
			}
			sweeps.Wait()
			for i := range at {
				if j := i + 21; j < len(at) && at[j].Sub(at[i]) < time.Second {
					t.Fatalf("22 requests within %v", at[j].Sub(at[i]))
				}
			}
		})
	})
}

// totalOf returns an effect that sets totalCount to n.
func totalOf(n int) crsapitest.Effect {
	return crsapitest.Total(func(int) int { return n })
}

// totalPlus returns an effect that adds n to totalCount.
func totalPlus(n int) crsapitest.Effect {
	return crsapitest.Total(func(total int) int { return total + n })
}

// totalJitter returns an effect that adds -n to n to totalCount, the next number
// at each request.
func totalJitter(n int) crsapitest.Effect {
	var turn atomic.Int64
	return crsapitest.Total(func(total int) int { return total - n + int(turn.Add(1))%(2*n+1) })
}
