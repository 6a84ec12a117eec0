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
	client *crsapi.Client
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
	return &simulation{srv, mirror.New(mirror.Config{Lister: client, PageSize: 20, Concurrency: 4}), client}
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

// exact reports whether the copy is the list.
func (s *simulation) exact() bool {
	return maps.Equal(counted(slices.Collect(s.mirror.All())), counted(s.Tasks(region)))
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
	plus := func(total int) int { return total + 1 }
	for _, test := range []struct {
		name   string
		effect crsapitest.Effect
		want   string
	}{
		{"none", nil, exact},
		{"ShuffleTies", crsapitest.ShuffleTies, exact},
		{"UnsortedRows", crsapitest.UnsortedRows, exact},
		{"IgnoreBegin", crsapitest.IgnoreBegin, exact},
		{"IgnoreEnd", crsapitest.IgnoreEnd, exact},
		{"IgnoreStatuses", crsapitest.IgnoreStatuses, exact},
		{"ExclusiveBegin", crsapitest.ExclusiveBegin, exact},
		{"ExclusiveEnd", crsapitest.ExclusiveEnd, exact},
		{"EndOfTask", crsapitest.EndOfTask, exact},
		{"PageCap", crsapitest.PageCap(7), exact},
		{"PageCap in turn", crsapitest.PageCap(7, 20, 11), exact},
		{"RoundOffsets", crsapitest.RoundOffsets, exact},
		{"IgnoreOffset", crsapitest.IgnoreOffset, exact},
		{"IgnoreOffset and IgnoreEnd", crsapitest.All(crsapitest.IgnoreOffset, crsapitest.IgnoreEnd), decode},
		{"IgnoreEnd and ShuffleTies", crsapitest.All(crsapitest.IgnoreEnd, crsapitest.ShuffleTies), either},
		{"Total", crsapitest.Total(plus), decode},
		{"Total of 100", crsapitest.Total(func(total int) int { return min(total, 100) }), decode},
		{"Total of 0", crsapitest.Total(func(int) int { return 0 }), decode},
		{"EndOfTask and PageCap", crsapitest.All(crsapitest.EndOfTask, crsapitest.PageCap(13)), exact},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
			inBubbles(t, fmt.Sprint(test.name, "/", api), func(t *testing.T) {
				s := simulate(t, api)
				if test.effect != nil {
					s.Inject(crsapitest.Fault{Do: test.effect})
				}
				exacts, decodes := 0, 0
				for i := range 12 {
					_, err := s.mirror.Poll(t.Context(), i%5 == 4)
					switch {
					case err == nil && s.exact():
						exacts++
					case err == nil:
						t.Fatalf("poll %d: %d tasks, want %d", i, s.mirror.Len(), len(s.Tasks(region)))
					case !isDecode(err):
						t.Fatal(err)
					default:
						decodes++
						t.Logf("poll %d: %v", i, err)
					}
					if i%3 == 2 {
						if err := s.mirror.Verify(t.Context(), noWait); err != nil && !isDecode(err) {
							t.Fatal(err)
						}
					}
					time.Sleep(10 * time.Second)
					switch i % 4 {
					case 0:
						s.submit(3)
						s.Drop(region, 2)
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
						s.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
							return slices.DeleteFunc(tasks, func(t crsapi.Task) bool { return t.RedisID == fmt.Sprint("crs-", i%9) })
						})
					}
				}
				t.Logf("%d exact, %d decode", exacts, decodes)
				if test.want == exact && decodes > 0 || test.want == decode && exacts > 0 {
					t.Errorf("want %s", test.want)
				}
			})
		}
	}
}

// TestReplicas: answers from replicas that lag contradict each other while the
// list moves. Once it has rested for longer than the lag, a poll is exact.
func TestReplicas(t *testing.T) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
		inBubbles(t, string(api), func(t *testing.T) {
			s := simulate(t, api)
			s.Inject(crsapitest.Fault{Do: crsapitest.Replicas(3, 20*time.Second)})
			for i := range 30 {
				if i%3 == 0 {
					s.submit(2)
					s.status(70+i, crsapi.StatusSucceeded)
				}
				if _, err := s.mirror.Poll(t.Context(), false); err != nil && !isDecode(err) {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
			}
			time.Sleep(time.Minute)
			if _, err := s.mirror.Poll(t.Context(), true); err != nil || !s.exact() {
				t.Error(err, s.exact())
			}
		})
	}
}

// TestAssumptions breaks what the package assumes of the API. It says what the
// copy shows until the next full reading or Verify, which corrects and counts it.
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
		before func(*simulation)
		change func(*simulation)
		atOnce bool // the next poll shows it
	}{
		{
			name:   "a task appears ten minutes below the newest",
			change: func(s *simulation) { s.Update(region, late) },
			atOnce: true, // there is one task too many
		},
		{
			name: "a task appears ten minutes below the newest, and another leaves",
			change: func(s *simulation) {
				s.Update(region, func(tasks []crsapi.Task) []crsapi.Task { return late(tasks[:len(tasks)-1]) })
			},
		},
		{
			name:   "a succeeded task fails",
			change: func(s *simulation) { s.status(300, crsapi.StatusFailed) },
		},
		{
			name: "a failed task of two days ago is tried again",
			before: func(s *simulation) {
				s.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
					for i := range tasks {
						if tasks[i].Status != crsapi.StatusSucceeded {
							tasks[i].Status = crsapi.StatusSucceeded
						}
						if i >= 300 {
							tasks[i].StartTime = tasks[i].StartTime.Add(-48 * time.Hour)
						}
					}
					tasks[400].Status = crsapi.StatusFailed
					return tasks
				})
			},
			change: func(s *simulation) { s.status(400, crsapi.StatusExecuting) },
		},
		{
			name: "a failed task of two days ago is tried again while another is unfinished",
			before: func(s *simulation) {
				s.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
					for i := range tasks[300:] {
						tasks[300+i].StartTime = tasks[300+i].StartTime.Add(-48 * time.Hour)
					}
					tasks[400].Status = crsapi.StatusFailed
					return tasks
				})
			},
			change: func(s *simulation) { s.status(400, crsapi.StatusExecuting) },
			atOnce: true, // among those that are asked for, except that tce has no filter
		},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
			for _, full := range []bool{true, false} {
				inBubbles(t, fmt.Sprintf("%s/%s, full %t", test.name, api, full), func(t *testing.T) {
					s := simulate(t, api)
					if test.before != nil {
						test.before(s)
					}
					poll(t, s.mirror, false)
					if !s.exact() {
						t.Fatal("not exact at first")
					}
					time.Sleep(time.Minute)
					test.change(s)
					corrections := 0
					corrections += poll(t, s.mirror, false).Corrections
					if s.exact() {
						if !test.atOnce {
							t.Error("exact at once")
						}
					} else if test.atOnce && api != crsapi.APITCE {
						t.Error("not exact at once")
					}
					if full {
						corrections += poll(t, s.mirror, true).Corrections
					} else {
						if err := s.mirror.Verify(t.Context(), noWait); err != nil {
							t.Fatal(err)
						}
						corrections += poll(t, s.mirror, false).Corrections
					}
					if !s.exact() {
						t.Error("not corrected")
					}
					if byFilter := test.before != nil && test.atOnce && api != crsapi.APITCE; corrections != 1 && !byFilter {
						t.Errorf("%d corrections", corrections)
					}
				})
			}
		}
	}
}

// TestErrorsPass: an error of the API ends the poll as it is, and the changes of a
// poll that failed are told by the next one.
func TestErrorsPass(t *testing.T) {
	inBubbles(t, "denied", func(t *testing.T) {
		s := simulate(t, crsapi.API30)
		poll(t, s.mirror, false)
		s.status(300, crsapi.StatusFailed)
		time.Sleep(time.Minute)
		s.Inject(crsapitest.Fault{Skip: 20, Do: crsapitest.APIError(4102)})
		_, err := s.mirror.Poll(t.Context(), true)
		var e *crsapi.Error
		if !errors.As(err, &e) || e.Reason == crsapi.ReasonDecode {
			t.Fatal(err)
		}
		s.ClearFaults()
		r := poll(t, s.mirror, false)
		if len(r.Changed) != 1 || !s.exact() {
			t.Error(r.Changed)
		}
	})
}
