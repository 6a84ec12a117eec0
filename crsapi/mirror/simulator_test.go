package mirror_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

const region = "ap-guangzhou"

// simulation is a Mirror that reads from a simulator through a Client.
type simulation struct {
	*crsapitest.Server
	mirror *mirror.Mirror
}

// simulate serves 450 tasks at 20 a page, three each minute in one second, in a
// bubble.
func simulate(t *testing.T, api crsapi.API) *simulation {
	t.Helper()
	srv := crsapitest.NewMemoryServer()
	t.Cleanup(srv.Close)
	now := time.Now().Add(-5 * time.Minute).Truncate(time.Second)
	var tasks []crsapi.Task
	for i := range 450 {
		task := crsapi.Task{
			RedisID: fmt.Sprintf("crs-%d", i%9), RedisName: "n", ProjectID: "0", TaskName: "backupInstance",
			StartTime: now.Add(-time.Duration(i/3) * time.Minute).UTC(), Status: crsapi.StatusSucceeded, Progress: 1,
		}
		task.EndTime = task.StartTime.Add(90 * time.Second)
		if i%100 == 50 {
			task.Status, task.EndTime, task.Progress = crsapi.StatusExecuting, time.Time{}, 0.5
		}
		tasks = append(tasks, task)
	}
	srv.SetTasks(region, tasks)
	cfg := crsapi.DefaultConfig(api)
	cfg.Region, cfg.PageSize, cfg.Limiter, cfg.Concurrency = region, 20, nil, 4
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	cfg.Endpoint = srv.URL
	if api != crsapi.API20 {
		cfg.Endpoint = srv.URL3
	}
	cfg.Transport = srv.Client().Transport
	client, err := crsapi.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return &simulation{srv, mirror.New(mirror.Config{Lister: client, PageSize: 20, Concurrency: 4})}
}

type shown struct {
	redisID, taskName string
	start             int64
	status            crsapi.Status
}

func counted(tasks []crsapi.Task) map[shown]int {
	all := map[shown]int{}
	for _, t := range tasks {
		all[shown{t.RedisID, t.TaskName, t.StartTime.Unix(), t.Status}]++
	}
	return all
}

// exact reports whether a list is that of the simulator.
func (s *simulation) exact(r *mirror.Result) bool {
	return maps.Equal(counted(r.Tasks), counted(s.Tasks(region)))
}

// status changes the status of the task at an index.
func (s *simulation) status(i int, to crsapi.Status) {
	s.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[i].Status = to
		return tasks
	})
}

func (s *simulation) submit(n int) {
	for i := range n {
		s.Add(region, crsapi.Task{
			RedisID: fmt.Sprintf("crs-%d", i%30), RedisName: "n", ProjectID: "0", TaskName: "cleanInstance",
			StartTime: time.Now().Truncate(time.Second).UTC(), Status: crsapi.StatusPending,
		})
	}
}

// TestSimulator polls servers that do other than the document says, while the list
// changes between the polls: each poll is exact, or ends as decode.
func TestSimulator(t *testing.T) {
	const (
		exact  = "exact"
		decode = "decode"
		either = "either"
	)
	ignored := "endTime does not bound the submission"
	ends := "endTime does not include all tasks submitted in its second"
	for _, test := range []struct {
		name     string
		effect   crsapitest.Effect
		want     string
		byOffset string
	}{
		{"none", crsapitest.All(), exact, ""},
		{"OldestFirst", crsapitest.OldestFirst, exact, "rows do not come newest first"},
		{"IgnoreBegin", crsapitest.IgnoreBegin, exact, ""},
		{"IgnoreEnd", crsapitest.IgnoreEnd, exact, ignored},
		{"ExclusiveEnd", crsapitest.ExclusiveEnd, exact, ends},
		{"EndOfTask", crsapitest.EndOfTask, exact, ignored},
		{"PageCap", crsapitest.PageCap(7), exact, ""},
		{"RoundOffsets", crsapitest.RoundOffsets, exact, ""},
		{"IgnoreOffset", crsapitest.IgnoreOffset, exact, ""},
		{"IgnoreOffset and IgnoreEnd", crsapitest.All(crsapitest.IgnoreOffset, crsapitest.IgnoreEnd), either, ignored},
		{"RoundOffsets and IgnoreEnd", crsapitest.All(crsapitest.RoundOffsets, crsapitest.IgnoreEnd), exact, ignored},
		{"Total", crsapitest.Total(func(total int) int { return total + 1 }), decode, ""},
		{"Total of 100", crsapitest.Total(func(total int) int { return min(total, 100) }), decode, ""},
		{"Total of 0", crsapitest.Total(func(int) int { return 0 }), decode, ""},
		{"EndOfTask and PageCap", crsapitest.All(crsapitest.EndOfTask, crsapitest.PageCap(13)), exact, ignored},
	} {
		for _, api := range apis() {
			inBubbles(t, fmt.Sprint(test.name, "/", api), func(t *testing.T) {
				s := simulate(t, api)
				s.Inject(crsapitest.Fault{Do: test.effect})
				exacts, decodes := 0, 0
				for i := range 12 {
					r, err := s.mirror.Poll(t.Context(), []int{0, 1, 5, mirror.All}[i%4])
					switch {
					case err == nil && s.exact(r):
						exacts++
					case err == nil:
						t.Fatalf("poll %d: %d tasks, want %d", i, len(r.Tasks), len(s.Tasks(region)))
					case !isDecode(err):
						t.Fatal(err)
					default:
						decodes++
						t.Logf("poll %d: %v", i, err)
					}
					if err == nil && r.ByOffset != test.byOffset {
						t.Errorf("poll %d: by offset since %q, want %q", i, r.ByOffset, test.byOffset)
					}
					time.Sleep(10 * time.Second)
					s.evolve(i)
				}
				if test.want == exact && decodes > 0 || test.want == decode && exacts > 0 {
					t.Errorf("%d exact, %d decode, want %s", exacts, decodes, test.want)
				}
			})
		}
	}
}

// apis are the APIs of long tests.
func apis() []crsapi.API {
	if race {
		return []crsapi.API{crsapi.API30}
	}
	return []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE}
}

// evolve changes the list as usual.
func (s *simulation) evolve(i int) {
	switch i % 4 {
	case 0:
		s.submit(3)
		s.Update(region, func(tasks []crsapi.Task) []crsapi.Task { return tasks[:len(tasks)-2] })
	case 1:
		s.status(0, crsapi.StatusSucceeded)
		for k, task := range s.Tasks(region) {
			if task.Status == crsapi.StatusExecuting && k > 60 {
				s.status(k, crsapi.StatusFailed)
				break
			}
		}
	case 2:
		s.submit(30)
	case 3:
		s.delete(fmt.Sprint("crs-", i%9))
	}
}

func (s *simulation) delete(redisID string) {
	s.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		return slices.DeleteFunc(tasks, func(t crsapi.Task) bool { return t.RedisID == redisID })
	})
}

// TestDeletedInstanceUnknown: the API may refuse requests for an instance that was
// deleted. The list is not read by offset, and not in full.
func TestDeletedInstanceUnknown(t *testing.T) {
	for _, api := range apis() {
		inBubbles(t, string(api), func(t *testing.T) {
			s := simulate(t, api)
			s.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
			poll(t, s.mirror, 0)
			s.delete("crs-4")
			time.Sleep(10 * time.Second)
			r := poll(t, s.mirror, 0)
			if !s.exact(r) || r.Pages > 15 || r.ByOffset != "" {
				t.Errorf("exact %t, %d pages, by offset %q", s.exact(r), r.Pages, r.ByOffset)
			}
		})
	}
}

// TestReplicas: answers from replicas that lag contradict each other while the
// list moves. Once it has rested for longer than the lag, a poll is exact.
func TestReplicas(t *testing.T) {
	const replicas, lag = 3, 4 // in steps of the list
	for _, api := range apis() {
		t.Run(string(api), func(t *testing.T) {
			s := plain(api, 450, 60, 9)
			m := newMirror(s, 20)
			versions := [][]*node{s.nodes}
			turn := 0
			s.before = func(s *server, _ crsapi.Query) {
				s.nodes = versions[max(0, len(versions)-1-turn*lag)]
				turn = (turn + 1) % replicas
			}
			for i := range 30 {
				s.nodes = versions[len(versions)-1]
				if i%3 == 0 {
					s.submit(2)
					s.change(70+i, func(n *node) { n.Status = crsapi.StatusFailed })
				}
				versions = append(versions, s.nodes)
				if _, err := m.Poll(t.Context(), 0); err != nil && !isDecode(err) {
					t.Fatal(err)
				}
				s.clock += 5
			}
			s.before = nil
			s.nodes = versions[len(versions)-1]
			expect(t, poll(t, m, mirror.All), s)
		})
	}
}

// TestCapsInTurn: each page may have another number of rows.
func TestCapsInTurn(t *testing.T) {
	for _, api := range apis() {
		s := plain(api, 450, 60, 9)
		s.before = func(s *server, _ crsapi.Query) { s.habits.cap = []int{7, 20, 11}[s.requests%3] }
		m := newMirror(s, 20)
		for range 4 {
			expect(t, poll(t, m, mirror.All), s)
			s.clock += 60
			s.submit(3)
		}
	}
}

// TestAssumptions breaks what the package assumes of the API. The list shows it at
// once, or after the next full reading, which corrects and counts it.
func TestAssumptions(t *testing.T) {
	late := func(tasks []crsapi.Task) []crsapi.Task {
		at := tasks[0].StartTime.Add(-10 * time.Minute).Add(7 * time.Second)
		i := slices.IndexFunc(tasks, func(t crsapi.Task) bool { return t.StartTime.Before(at) })
		return slices.Insert(tasks, i, crsapi.Task{
			RedisID: "crs-late", RedisName: "n", ProjectID: "0", TaskName: "cleanInstance", StartTime: at, Status: crsapi.StatusSucceeded, Progress: 1,
		})
	}
	for _, test := range []struct {
		name   string
		before func([]crsapi.Task) []crsapi.Task
		change func([]crsapi.Task) []crsapi.Task
		atOnce bool // the next poll shows it
	}{
		{"a task appears ten minutes below the newest", nil, late, true}, // there is one task too many
		{"a task appears ten minutes below the newest, and another leaves", nil, func(tasks []crsapi.Task) []crsapi.Task {
			return late(tasks[:len(tasks)-1])
		}, false},
		{"a succeeded task fails", nil, func(tasks []crsapi.Task) []crsapi.Task {
			tasks[300].Status = crsapi.StatusFailed
			return tasks
		}, false},
		{"a failed task of two days ago is tried again", func(tasks []crsapi.Task) []crsapi.Task {
			for i := range tasks[300:] {
				tasks[300+i].StartTime = tasks[300+i].StartTime.Add(-48 * time.Hour)
				tasks[300+i].Status = crsapi.StatusSucceeded
			}
			tasks[400].Status = crsapi.StatusFailed
			return tasks
		}, func(tasks []crsapi.Task) []crsapi.Task {
			tasks[400].Status = crsapi.StatusExecuting
			return tasks
		}, false},
	} {
		for _, api := range apis() {
			inBubbles(t, fmt.Sprintf("%s/%s", test.name, api), func(t *testing.T) {
				s := simulate(t, api)
				if test.before != nil {
					s.Update(region, test.before)
				}
				r := poll(t, s.mirror, 0)
				if !s.exact(r) {
					t.Fatal("not exact at first")
				}
				time.Sleep(time.Minute)
				s.Update(region, test.change)
				r = poll(t, s.mirror, 0)
				corrections := r.Corrections
				if s.exact(r) != test.atOnce {
					t.Errorf("exact at once: %t", s.exact(r))
				}
				r = poll(t, s.mirror, mirror.All)
				if corrections += r.Corrections; corrections != 1 || !s.exact(r) {
					t.Errorf("%d corrections, exact %t", corrections, s.exact(r))
				}
			})
		}
	}
}

// TestErrorsPass: an error of the API ends the poll as it is, and the changes of a
// poll that failed are in the next one.
func TestErrorsPass(t *testing.T) {
	inBubbles(t, "denied", func(t *testing.T) {
		s := simulate(t, crsapi.API30)
		poll(t, s.mirror, 0)
		s.status(300, crsapi.StatusFailed)
		time.Sleep(time.Minute)
		s.Inject(crsapitest.Fault{Skip: 20, Do: crsapitest.APIError(4102)})
		_, err := s.mirror.Poll(t.Context(), mirror.All)
		var e *crsapi.Error
		if !errors.As(err, &e) || e.Reason != crsapi.ReasonDenied {
			t.Fatal(err)
		}
		s.ClearFaults()
		if r := poll(t, s.mirror, mirror.All); !s.exact(r) {
			t.Error("not exact")
		}
	})
}
