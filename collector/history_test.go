package collector_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// fleet returns the tasks of 26 instances, a backup a night for ten nights, newest
// first. Every fifth failed. The first instance is the last of each night.
func fleet(now time.Time) []crsapi.Task {
	var tasks []crsapi.Task
	for night := range 10 {
		for instance := range 26 {
			at := now.Add(-5*time.Hour - time.Duration(night)*day)
			if instance > 0 {
				at = at.Add(-2*time.Hour - time.Duration(instance)*time.Second)
			}
			status := crsapi.StatusSucceeded
			if (night+instance)%5 == 0 {
				status = crsapi.StatusFailed
			}
			tasks = append(tasks, crsapi.Task{
				RedisID: fmt.Sprintf("crs-%c", 'a'+instance), RedisName: "x", ProjectID: "0",
				TaskName: backup, StartTime: at.Truncate(time.Second).UTC(), Status: status,
			})
		}
	}
	return tasks
}

// The first list is a part, and the whole list comes later: what comes to light
// is history, and counts nothing. What fails from then on counts.
func TestFirstListIsAPart(t *testing.T) {
	for name, part := range map[string]func([]crsapi.Task) []crsapi.Task{
		"empty": func([]crsapi.Task) []crsapi.Task { return nil },
		"one instance": func(all []crsapi.Task) []crsapi.Task {
			return slices.DeleteFunc(slices.Clone(all), func(t crsapi.Task) bool { return t.RedisID != "crs-a" })
		},
		"the newest page": func(all []crsapi.Task) []crsapi.Task { return all[:20] },
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restarts %t", name, restarts), func(t *testing.T) {
				eachAPI(t, func(t *testing.T, api crsapi.API) {
					w := newRestarting(t, api)
					all := fleet(time.Now())
					scrapes := func(want samples) {
						t.Helper()
						for range 3 {
							w.server.SetTasks(guangzhou, w.tasks)
							time.Sleep(15 * time.Second)
							got := scrape(t, w.e)
							if !got.up(guangzhou) || len(got.of("crs_tasks")) != 5*instances(w.tasks) {
								t.Errorf("up: %t, %d series for %d instances", got.up(guangzhou), len(got.of("crs_tasks")), instances(w.tasks))
							}
							if got := got.transitions().nonzero(); len(want) == 0 && len(got) > 0 {
								t.Fatalf("%d counters are not 0", len(got))
							}
						}
						wantEqual(t, "counters", scrape(t, w.e).transitions().nonzero(), want)
						if restarts {
							w.restart()
						}
					}
					w.tasks = part(all)
					scrapes(samples{})
					w.tasks = all
					scrapes(samples{})
					w.tasks = part(all) // a hiccup
					scrapes(samples{})
					w.tasks = all
					scrapes(samples{})
					w.fail("crs-a")
					scrapes(failedOnce)
				})
			})
		}
	}
}

func instances(tasks []crsapi.Task) int {
	ids := map[string]bool{}
	for _, t := range tasks {
		ids[t.RedisID] = true
	}
	return len(ids)
}

// Two Prometheus servers, which share a poll or not: both see the 0 of a new
// series before it counts, also where a restart comes between.
func TestBothServersSeeTheFirstZero(t *testing.T) {
	series := transitions("crs-b", backup, "failed")
	for _, test := range []struct {
		name     string
		shared   time.Duration // --scrape.min-interval
		restarts int           // after so many scrapes of the new series
	}{
		{"each polls", 0, -1},
		{"they share a poll", 10 * time.Second, -1},
		{"each polls, restart after the first", 0, 1},
		{"they share a poll, restart after the first", 10 * time.Second, 1},
		{"each polls, restart after both", 0, 2},
		{"they share a poll, restart after both", 10 * time.Second, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				w := newRestarting(t, api)
				w.cfg.MinInterval = test.shared
				w.restart()
				w.fail("crs-a")
				scrape(t, w.e)
				w.fail("crs-b")
				time.Sleep(15 * time.Second)
				var servers [2][]string // what each saw
				for n := range 8 {
					if n == test.restarts {
						w.restart()
					}
					servers[n%2] = append(servers[n%2], scrape(t, w.e)[series])
					time.Sleep([]time.Duration{time.Second, 14 * time.Second}[n%2])
				}
				for i, saw := range servers {
					if saw[0] != "0" || saw[3] != "1" || !slices.IsSorted(saw) {
						t.Errorf("server %d saw %q", i, saw)
					}
				}
			})
		})
	}
}
