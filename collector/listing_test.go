package collector_test

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// nightly returns finished backups of many instances, the newest first, and their
// IDs. The newest is an hour old.
func nightly(instances, each int) (tasks []crsapi.Task, ids []string) {
	at := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	for i := range instances {
		ids = append(ids, fmt.Sprintf("crs-%04d", i))
	}
	for night := range each {
		for i, id := range ids {
			tasks = append(tasks, crsapi.Task{
				RedisID: id, RedisName: "n", ProjectID: "0", TaskName: backup, Status: crsapi.StatusSucceeded,
				StartTime: at.Add(-time.Duration(night)*24*time.Hour - time.Duration(i)*time.Second),
			})
		}
	}
	return tasks, ids
}

// wantBackups wants the number of backups of these instances, and no others.
func (s samples) wantBackups(t testing.TB, ids []string, each int) {
	t.Helper()
	want := samples{}
	for _, id := range ids {
		want[fmt.Sprintf(tasksSeries, id, "succeeded", backup)] = fmt.Sprint(each)
	}
	if got := s.of("crs_tasks").nonzero(); !maps.Equal(got, want) {
		t.Errorf("%d series of crs_tasks, want %d", len(got), len(want))
	}
}

// watched is a simulated region of which some instances are watched.
type watched struct {
	*testing.T
	*crsapitest.Server
	e   *collector.Exporter
	log *bytes.Buffer
}

func watchInstances(t *testing.T, api crsapi.API, tasks []crsapi.Task, perSecond float64, cfg collector.Config) watched {
	t.Helper()
	var log bytes.Buffer
	cfg.Logger = logTo(&log)
	server, e := simulatedWith(t, cfg, api, perSecond, 100)
	server.SetTasks(guangzhou, tasks)
	return watched{t, server, e, &log}
}

// scrape waits 15 s and scrapes. It returns the samples and the requests.
func (w watched) scrape() (got samples, requests int) {
	w.Helper()
	time.Sleep(15 * time.Second)
	before := w.Requests(guangzhou)
	got = scrape(w, w.e)
	return got, w.Requests(guangzhou) - before
}

// logged returns how often the log has a text.
func (w watched) logged(text string) int { return strings.Count(w.log.String(), text) }

func failuresOf(reason crsapi.Reason) string {
	return fmt.Sprintf("crs_api_failures_total{reason=%q,region=%q}", reason, guangzhou)
}

// 250 instances at the default rate are whole within three scrapes, and then cost
// one request a scrape.
func TestManyInstancesAreWholeWithinThreeScrapes(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, perSecond := range []float64{20, 50} {
			tasks, ids := nightly(1000, 30)
			ids = ids[:250]
			w := watchInstances(t, api, tasks, perSecond, collector.Config{RedisIDs: ids})
			w.Inject(crsapitest.Fault{Do: crsapitest.Latency(20 * time.Millisecond)})
			for n := 1; n <= 12; n++ {
				got, sent := w.scrape()
				switch {
				case n < 3 && !got.up(guangzhou):
				case n > 4 && sent != 1:
					t.Errorf("scrape %d costs %d requests", n, sent)
					fallthrough
				default:
					got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"})
					got.wantBackups(t, ids, 30)
				}
				wantEqual(t, "failures", got.of("crs_api_failures_total").nonzero(), samples{})
			}
			if n := w.logged("read from the list of the whole region"); n != 1 {
				t.Errorf("logged %d times that the whole region is read", n)
			}
		}
	})
}

// Of a long list, few instances are asked for one by one.
func TestFewInstancesOfALongList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(1000, 30)
		for _, n := range []int{2, 20} {
			w := watchInstances(t, api, tasks, 20, collector.Config{RedisIDs: ids[:n]})
			for i := range 5 {
				got, sent := w.scrape()
				got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"})
				got.wantBackups(t, ids[:n], 30)
				if more := sent - n; more < 0 || more > 1 || more == 1 && (i > 0 || n == 2) {
					t.Errorf("scrape %d of %d instances costs %d requests", i, n, sent)
				}
			}
		}
	})
}

// Several regions share the rate.
func TestInstancesOfSeveralRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := crsapitest.NewMemoryServer()
		t.Cleanup(server.Close)
		limiter := crsapi.NewLimiter(20)
		sources := map[string]collector.Source{}
		tasks, ids := nightly(100, 30)
		for i := range 20 {
			region := fmt.Sprintf("r%d", i)
			sources[region] = nil
			server.SetTasks(region, tasks)
		}
		e := newExporter(t, collector.Config{
			RedisIDs: ids[:8], TimeoutOffset: 500 * time.Millisecond,
			Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
				return dialLimited(server, region, observe, limiter, 100, crsapi.API20)
			},
		}, sources)
		for range 6 {
			time.Sleep(30 * time.Second)
			scrape(t, e)
		}
		time.Sleep(30 * time.Second)
		before := server.Requests("r3")
		if n := len(scrape(t, e).of("crs_up").nonzero()); n != 20 {
			t.Errorf("%d of 20 regions are up", n)
		}
		if sent := server.Requests("r3") - before; sent != 1 {
			t.Errorf("a scrape costs %d requests a region", sent)
		}
	})
}

func TestInstancesWhereTheRegionIsDenied(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(300, 30)
		tasks[200].Status = crsapi.StatusFailed // of an instance that is not watched
		ids = ids[:150]
		w := watchInstances(t, api, tasks, 20, collector.Config{RedisIDs: ids, FailureReasons: true})
		allow := w.Inject(crsapitest.Fault{Do: crsapitest.DenyUnfiltered})
		for i := range 5 {
			got, sent := w.scrape()
			got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", failuresOf(crsapi.ReasonDenied): "1"})
			got.wantBackups(t, ids, 30)
			if sent > 151 || i > 0 && sent != 150 {
				t.Errorf("scrape %d costs %d requests", i+1, sent)
			}
		}
		const told = "the key may not list the whole region"
		if n := w.logged(told); n != 1 || w.logged("a scrape has no time") != 0 {
			t.Errorf("logged %d times that the region is denied: %s", n, w.log)
		}
		// The refusal is not for ever.
		time.Sleep(24 * time.Hour)
		w.scrape()
		if got, _ := w.scrape(); w.logged(told) != 1 || got[failuresOf(crsapi.ReasonDenied)] != "2" {
			t.Errorf("logged %d times, %s denied", w.logged(told), got[failuresOf(crsapi.ReasonDenied)])
		}
		allow()
		time.Sleep(24 * time.Hour)
		for range 4 {
			w.scrape()
		}
		got, sent := w.scrape()
		got.wantBackups(t, ids, 30)
		if sent > 100 {
			t.Errorf("a scrape costs %d requests though the region may be listed", sent)
		}
		wantEqual(t, "transitions", got.transitions().nonzero(), samples{})
		if w.logged("crs-0200") != 0 {
			t.Errorf("the log tells of an instance that is not watched: %s", w.log)
		}
	})
}

func TestTooManyInstancesOfADeniedRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks, ids := nightly(250, 1)
		w := watchInstances(t, crsapi.API20, tasks, 20, collector.Config{RedisIDs: ids})
		w.Inject(crsapitest.Fault{Do: crsapitest.DenyUnfiltered})
		for range 3 {
			w.scrape()
		}
		if w.logged("a scrape has no time to ask for each instance") != 1 || !w.e.Status()[0].OutOfTime {
			t.Errorf("not told: %s", w.log)
		}
	})
}

// A failure to learn how long the region's list is harms no list, and is not
// repeated at each poll.
func TestChoiceFails(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(1000, 30)
		w := watchInstances(t, api, tasks, 20, collector.Config{RedisIDs: ids[:20]})
		fail := func() { w.Inject(crsapitest.Fault{Count: 1, Do: crsapitest.APIError(4000)}) }
		fail()
		var sent []int
		poll := func(n int) {
			t.Helper()
			for range n {
				got, requests := w.scrape()
				got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"})
				got.wantBackups(t, ids[:20], 30)
				sent = append(sent, requests)
			}
		}
		poll(3) // without a choice it is tried at each poll
		time.Sleep(time.Hour)
		fail()
		poll(7)
		if want := []int{21, 21, 20, 21, 20, 20, 20, 21, 20, 20}; !slices.Equal(sent, want) {
			t.Errorf("requests %v, want %v", sent, want)
		}
		if got, _ := w.scrape(); got[failuresOf(crsapi.ReasonAPI)] != "2" {
			t.Errorf("%s failures", got[failuresOf(crsapi.ReasonAPI)])
		}
	})
}

// The way to ask may change at any time, and with a restart. No count is lost or
// doubled: it is not part of what identifies the list.
func TestWayToAskKeepsCounts(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(100, 3)
		ids = ids[:50]
		cfg := collector.Config{RedisIDs: ids, StateFile: filepath.Join(t.TempDir(), "state"), FailureReasons: true}
		w := watchInstances(t, api, tasks, 20, cfg)
		for range 2 {
			if got, sent := w.scrape(); !got.up(guangzhou) || sent > 10 {
				t.Errorf("%d requests, want a list of the region", sent)
			}
		}
		fail := func(i int) {
			for _, i := range []int{i, 99} { // the other is not watched
				failed := tasks[i]
				failed.StartTime, failed.Status = time.Now().Truncate(time.Second).UTC(), crsapi.StatusFailed
				w.Add(guangzhou, failed)
			}
		}
		want := samples{}
		check := func(when string) {
			t.Helper()
			got, _ := w.scrape()
			got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"})
			wantEqual(t, when, got.transitions().nonzero(), want)
		}
		fail(7)
		want[transitions(ids[7], backup, "failed")] = "1"
		check("one list")
		allow := w.Inject(crsapitest.Fault{Do: crsapitest.DenyUnfiltered})
		fail(7)
		want[transitions(ids[7], backup, "failed")] = "2"
		check("a list for each")
		check("a list for each, again")
		fail(5)
		want[transitions(ids[5], backup, "failed")] = "1"
		w.e.Close()
		allow()
		log := w.log
		w.e = newExporter(t, collector.Config{
			RedisIDs: ids, StateFile: cfg.StateFile, TimeoutOffset: 500 * time.Millisecond, Logger: logTo(log),
			Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
				return dialLimited(w.Server, region, observe, crsapi.NewLimiter(20), 100, api)
			},
		}, map[string]collector.Source{guangzhou: nil})
		check("one list after a restart")
		check("one list after a restart, again")
		if strings.Contains(w.log.String(), "redis_id=crs-0099") {
			t.Errorf("the log tells of an instance that is not watched: %s", w.log)
		}
	})
}

// A list that grows or shrinks is asked for in another way, but not to and fro.
func TestWayToAskFollowsTheLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ids := nightly(20, 1)
		pages := func(n int) []crsapi.Task {
			tasks, _ := nightly(50, 2*n)
			return tasks
		}
		w := watchInstances(t, crsapi.API20, pages(10), 50, collector.Config{RedisIDs: ids, Sync: collector.SyncFull})
		for i, step := range []struct {
			pages    int
			together bool
		}{{10, true}, {30, true}, {45, false}, {15, false}, {8, true}, {30, true}} {
			w.SetTasks(guangzhou, pages(step.pages))
			time.Sleep(time.Hour)
			for range 3 {
				got, _ := w.scrape()
				got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1"})
				got.wantBackups(t, ids, 2*step.pages)
			}
			if _, sent := w.scrape(); (sent != len(ids)) != step.together {
				t.Errorf("step %d: a scrape of %d instances and %d pages costs %d requests", i, len(ids), step.pages, sent)
			}
		}
		if n := w.logged(" pages="); n != 3 {
			t.Errorf("logged %d changes, want 3: %s", n, w.log)
		}
	})
}

// An instance that the API does not know is an empty list. The log names it when
// that begins.
func TestUnknownInstance(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for _, sync := range collector.Syncs() {
			tasks, ids := nightly(2, 3)
			w := watchInstances(t, api, tasks, 20, collector.Config{RedisIDs: []string{ids[0], "crs-unknown"}, Sync: sync})
			w.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
			known := func(n int, named int, when string) {
				t.Helper()
				for range n {
					got, _ := w.scrape()
					got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", `crs_corrections_total{region="ap-guangzhou"}`: "0"})
					wantEqual(t, "failures", got.of("crs_api_failures_total").nonzero(), samples{})
				}
				if n := w.logged("crs-unknown"); n != named {
					t.Errorf("%s, sync %s: named %d times, want %d: %s", when, sync, n, named, w.log)
				}
			}
			known(80, 1, "from the start") // with verifications
			if status := w.e.Status()[0]; !slices.Equal(status.Unlisted, []string{"crs-unknown"}) {
				t.Errorf("status %+v", status)
			}
			created := tasks[0]
			created.RedisID, created.StartTime = "crs-unknown", time.Now().Add(-time.Minute).Truncate(time.Second).UTC()
			w.Add(guangzhou, created)
			known(3, 1, "created")
			got, _ := w.scrape()
			got.want(t, samples{
				fmt.Sprintf(tasksSeries, "crs-unknown", "succeeded", backup): "1",
				transitions("crs-unknown", backup, "succeeded"):              "1",
			})
			w.SetTasks(guangzhou, tasks)
			known(3, 2, "deleted")
			got, _ = w.scrape()
			got.wantBackups(t, ids[:1], 3)
			w.Add(guangzhou, created)
			known(1, 2, "back")
			got, _ = w.scrape()
			got.want(t, samples{
				fmt.Sprintf(tasksSeries, "crs-unknown", "succeeded", backup): "1",
				transitions("crs-unknown", backup, "succeeded"):              "1",
			})
		}
	})
}

// It does not keep a long list from being read incrementally.
func TestUnknownInstanceBesideALongList(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks, ids := nightly(1, 10_000)
		w := watchInstances(t, api, tasks, 20, collector.Config{RedisIDs: []string{ids[0], "crs-unknown"}})
		w.Inject(crsapitest.Fault{Do: crsapitest.RefuseUnknown})
		for range 4 {
			w.scrape()
		}
		if got, sent := w.scrape(); !got.up(guangzhou) || sent > 3 {
			t.Errorf("%d requests, up %t", sent, got.up(guangzhou))
		}
	})
}

// The same answer to a list of all instances is a failure.
func TestUnknownWithoutAnInstance(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		w := watchInstances(t, api, nil, 20, collector.Config{})
		w.Inject(crsapitest.Fault{Do: crsapitest.APIError(5000)})
		got, _ := w.scrape()
		got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "0", failuresOf(crsapi.ReasonAPI): "1"})
	})
}
