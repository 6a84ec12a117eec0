package collector_test

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

const (
	inventorySuccess   = `crs_inventory_last_success_timestamp_seconds{region="ap-guangzhou"}`
	inventoryInstances = `crs_inventory_instances{region="ap-guangzhou"}`
	inventoryFailures  = `crs_inventory_failures_total{reason=%q,region="ap-guangzhou"}`
)

// existing is an instance of the inventory that was created some time ago.
func existing(redisID string, age time.Duration) crsapi.Instance {
	return crsapi.Instance{
		RedisID: redisID, RedisName: "new name of " + redisID, ProjectID: "7",
		Created: time.Now().Add(-age).Truncate(time.Second).UTC(),
	}
}

// withInventory returns a simulator of one region, and an Exporter that reads its inventory
// every 15 minutes, after the first one. API 2.0 has API 3.0 beside it.
func withInventory(t *testing.T, api crsapi.API, tasks []crsapi.Task, instances ...crsapi.Instance) (*simulator, *collector.Exporter) {
	apis := []crsapi.API{api}
	if api == crsapi.API20 {
		apis = append(apis, crsapi.API30)
	}
	s := newSimulator(t, apis...)
	s.flights = 1 // an inventory that hangs must not hold up a poll
	s.SetTasks(guangzhou, tasks)
	s.SetInstances(guangzhou, instances)
	e := s.watch(t, collector.Config{Inventory: 15 * time.Minute})
	scrape(t, e)
	synctest.Wait()
	return s, e
}

// next returns what a scrape shows after the next inventory, or while that hangs.
func next(t *testing.T, e *collector.Exporter) samples {
	t.Helper()
	time.Sleep(15 * time.Minute)
	scrape(t, e)
	synctest.Wait()
	begin, got := time.Now(), scrape(t, e)
	got.wantUp(t)
	if took := time.Since(begin); took > 0 {
		t.Errorf("a scrape beside an inventory took %s", took)
	}
	return got
}

func backupFacts(s samples) samples {
	return s.of("crs_backup_last_good_timestamp_seconds", "crs_backup_deadline_timestamp_seconds")
}

// What an inventory says of instances in each state, and how that changes.
func TestInventory(t *testing.T) {
	const ok, failed = crsapi.StatusSucceeded, crsapi.StatusFailed
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		good := func(redisID string, hours float64) samples {
			return samples{fmt.Sprintf(goodSeries, redisID): at(hours), fmt.Sprintf(deadlineSeries, redisID): at(hours + 26)}
		}
		gone := func(redisID string) samples {
			return samples{fmt.Sprintf(goodSeries, redisID): "+Inf", fmt.Sprintf(deadlineSeries, redisID): "+Inf"}
		}
		time.Sleep(1000 * time.Hour)
		closed, unknown := existing("crs-closed", 90*time.Hour), existing("crs-unknown", 0)
		closed.Isolated, unknown.Created = true, time.Time{}
		tasks := []crsapi.Task{
			backupOf("crs-good", 2*time.Hour, ok), backupOf("crs-closed", 3*time.Hour, failed), backupOf("crs-hidden", 4*time.Hour, failed),
			backupOf("crs-fails", 5*time.Hour, failed),
		}
		s, e := withInventory(t, api, tasks, existing("crs-good", 500*time.Hour), existing("crs-fails", 400*time.Hour), closed, unknown,
			existing("crs-never", 30*time.Hour), existing("crs-fresh", time.Hour), existing("crs-future", -time.Hour))
		// A task newer than the inventory knows better.
		time.Sleep(time.Second)
		s.Add(guangzhou, backupOf("crs-created", 0, crsapi.StatusExecuting))
		got := scrape(t, e)
		got.want(t, good("crs-good", -2-second))
		got.want(t, good("crs-never", -30-second))
		got.want(t, good("crs-fails", -5-2*second)) // as the first poll saw it
		got.want(t, good("crs-fresh", -1-second))
		got.want(t, good("crs-unknown", -second))
		got.want(t, good("crs-future", -second))
		got.want(t, gone("crs-closed"))
		got.want(t, samples{
			inventoryInstances: "7", inventorySuccess: at(-second),
			fmt.Sprintf(goodSeries, "crs-created"): at(-second),
			// Names and projects are those of now.
			fmt.Sprintf(infoSeries, "7", "crs-good", "new name of crs-good"):   "1",
			fmt.Sprintf(infoSeries, "7", "crs-never", "new name of crs-never"): "1",
			// An instance that no inventory had is as its tasks say.
			fmt.Sprintf(infoSeries, "0", "crs-hidden", "x"): "1",
			fmt.Sprintf(goodSeries, "crs-hidden"):           at(-4 - 2*second),
		})

		// Deleted ones need no backup, whatever their tasks say; a restored one does from now on.
		restored := existing("crs-closed", 90*time.Hour)
		s.SetInstances(guangzhou, []crsapi.Instance{existing("crs-good", 500*time.Hour), restored, existing("crs-created", 0)})
		got = next(t, e)
		for _, id := range []string{"crs-never", "crs-fresh", "crs-unknown", "crs-future", "crs-fails"} {
			got.want(t, gone(id))
		}
		got.want(t, good("crs-closed", 0))
		got.want(t, samples{inventoryInstances: "3", fmt.Sprintf(infoSeries, "7", "crs-never", "new name of crs-never"): ""})
	})
}

// An inventory that fails, is a part or is wrong changes no fact. It is counted and told.
func TestFailedInventory(t *testing.T) {
	type breaker func(s *simulator)
	answer := func(do crsapitest.Effect) breaker {
		return func(s *simulator) { s.Inject(crsapitest.Fault{Action: crsapi.ActionInstances, Do: do}) }
	}
	// change sets the instances before each request for a page of them.
	change := func(instances func(request int) []crsapi.Instance) breaker {
		return func(s *simulator) {
			n := 0
			s.OnRequest(func(r crsapitest.Request) {
				if r.Action == crsapi.ActionInstances {
					n++
					s.SetInstances(guangzhou, instances(n))
				}
			})
		}
	}
	var many []crsapi.Instance
	for i := range 1500 {
		many = append(many, crsapi.Instance{RedisID: fmt.Sprintf("crs-%04d", i)})
	}
	less := func(total int) int { return total - 1 }
	const unreadable = `{"Response":{"TotalCount":1,"InstanceSet":[{"InstanceId":"crs-a"}]}}`
	for _, test := range []struct {
		problem string
		breakIt breaker
		reason  crsapi.Reason // ReasonDecode if empty
	}{
		{"redis:DescribeInstances", answer(crsapitest.APIError(4101)), crsapi.ReasonDenied},
		{"RequestLimitExceeded", answer(crsapitest.APIError(4400)), crsapi.ReasonThrottled},
		{"timeout", answer(crsapitest.Hang), crsapi.ReasonTimeout},
		{"it has 1 instances, with a total of 2", answer(crsapitest.PageCap(1)), ""},
		{"it has 2 instances, with a total of 1", answer(crsapitest.Total(less)), ""},
		{"some of its rows cannot be read", answer(crsapitest.Body(unreadable)), ""},
		{"it is empty, but there are tasks", change(func(int) []crsapi.Instance { return nil }), ""},
		{"it has 1 instances, with a total of 3", change(func(int) []crsapi.Instance { return slices.Repeat(many[:1], 3) }), ""},
		{"its total changed from 1307 to 1308", change(func(n int) []crsapi.Instance { return many[:1300+n] }), ""},
		{"it has 1190 instances, with a total of 1200", change(func(n int) []crsapi.Instance { return many[300-n*10:][:1200] }), ""},
		{"it changes all the time", change(func(n int) []crsapi.Instance { return many[n*10:][:1200] }), ""},
	} {
		t.Run(test.problem, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(1000 * time.Hour)
				tasks := []crsapi.Task{backupOf("crs-a", time.Hour, crsapi.StatusSucceeded), backupOf("crs-gone", time.Hour, crsapi.StatusFailed)}
				s, e := withInventory(t, crsapi.API30, tasks, existing("crs-a", 50*time.Hour), existing("crs-never", 30*time.Hour))
				before := scrape(t, e)
				test.breakIt(s)
				next(t, e)
				time.Sleep(time.Minute) // for retries
				after := scrape(t, e)
				wantEqual(t, "facts", backupFacts(after), backupFacts(before))
				after.want(t, samples{inventoryInstances: before[inventoryInstances], inventorySuccess: before[inventorySuccess]})
				wantEqual(t, "failures", after.of("crs_inventory_failures_total", "crs_api_failures_total").nonzero(),
					samples{fmt.Sprintf(inventoryFailures, cmp.Or(test.reason, crsapi.ReasonDecode)): "1"})
				if told := fmt.Sprint(e.Status()[0].Problems()); !strings.Contains(told, test.problem) {
					t.Errorf("problems are %s", told)
				}
				s.OnRequest(nil)
				s.ClearFaults()
				s.SetInstances(guangzhou, []crsapi.Instance{existing("crs-a", 50*time.Hour)})
				next(t, e).want(t, samples{inventoryInstances: "1"})
				if told := e.Status()[0].Problems(); len(told) > 0 {
					t.Errorf("problems are still %v", told)
				}
			})
		})
	}
}

// A region may have instances and no task, and lose its tasks, and lose its instances.
func TestInventoryWithoutTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		s, e := withInventory(t, crsapi.API30, nil, existing("crs-a", time.Hour), existing("crs-b", time.Hour))
		scrape(t, e)
		next(t, e).want(t, samples{seenSeries: at(0), fmt.Sprintf(goodSeries, "crs-a"): at(-1.25)})
		s.Add(guangzhou, backupOf("crs-a", 0, crsapi.StatusSucceeded))
		scrape(t, e)
		s.SetTasks(guangzhou, nil)
		next(t, e).want(t, samples{seenSeries: at(0), fmt.Sprintf(goodSeries, "crs-a"): at(-0.25)})
		s.Add(guangzhou, backupOf("crs-hidden", 0, crsapi.StatusSucceeded))
		scrape(t, e)
		s.SetTasks(guangzhou, nil)
		next(t, e).want(t, samples{seenSeries: at(-0.25)}) // no inventory says why its tasks are gone
		s.Add(guangzhou, backupOf("crs-hidden", 0, crsapi.StatusSucceeded))
		for days := 1.0; days <= 31; days++ {
			time.Sleep(day - 15*time.Minute)
			scrape(t, e).want(t, samples{fmt.Sprintf(goodSeries, "crs-b"): at(-24*days - 1.5)}) // it is not forgotten
			next(t, e)
		}
		hidden := backupOf("crs-hidden", 0, crsapi.StatusSucceeded)
		hidden.TaskName = "deleteInstance"
		s.SetTasks(guangzhou, []crsapi.Task{hidden})
		s.SetInstances(guangzhou, nil)
		next(t, e).want(t, samples{
			seenSeries: at(0), inventoryInstances: "0", fmt.Sprintf(goodSeries, "crs-a"): "+Inf", fmt.Sprintf(goodSeries, "crs-b"): "+Inf",
		})
		for range 31 {
			time.Sleep(day)
			next(t, e)
		}
		scrape(t, e).want(t, samples{fmt.Sprintf(goodSeries, "crs-b"): ""})
	})
}

// The log has changes only. The end of the exporter is no failure.
func TestInventoryLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newSimulator(t, crsapi.API30)
		s.SetTasks(guangzhou, nil)
		e := s.watch(t, collector.Config{Inventory: time.Minute, Logger: logTo(&log)})
		more := crsapitest.Total(func(int) int { return 1 })
		for _, do := range []crsapitest.Effect{
			crsapitest.All(), crsapitest.APIError(4101), more, crsapitest.All(), crsapitest.Hang, crsapitest.All(),
		} {
			s.ClearFaults()
			s.Inject(crsapitest.Fault{Action: crsapi.ActionInstances, Do: do})
			for range 2 {
				next(t, e)
			}
		}
		s.Inject(crsapitest.Fault{Action: crsapi.ActionInstances, Do: crsapitest.Hang})
		time.Sleep(time.Minute)
		e.Poll(t.Context())
		e.Close()
		got := regexp.MustCompile(`(read|failed)" (instances|reason)=\S+`).FindAllString(log.String(), -1)
		want := []string{
			`read" instances=0`, `failed" reason=denied`, `failed" reason=decode`, `read" instances=0`, `failed" reason=timeout`, `read" instances=0`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	})
}

// Inventories that fail for longer than tasks are listed undo nothing that the tasks said, and
// one is not more than what it was: a moment.
func TestOldInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		tasks := []crsapi.Task{backupOf("crs-other", time.Hour, crsapi.StatusSucceeded)}
		s, e := withInventory(t, crsapi.API30, tasks, existing("crs-other", 50*time.Hour), existing("crs-deleted", 50*time.Hour))
		s.Inject(crsapitest.Fault{Action: crsapi.ActionInstances, Do: crsapitest.APIError(4101)})
		deleted, created := fmt.Sprintf(deadlineSeries, "crs-deleted"), fmt.Sprintf(deadlineSeries, "crs-created")
		next(t, e).want(t, samples{deleted: at(-24.25)})
		deletion := backupOf("crs-deleted", 0, crsapi.StatusSucceeded)
		deletion.TaskName = "deleteInstance"
		s.Add(guangzhou, deletion)
		next(t, e).want(t, samples{deleted: "+Inf"})
		s.SetTasks(guangzhou, append([]crsapi.Task{backupOf("crs-created", 0, crsapi.StatusFailed)}, tasks...))
		next(t, e).want(t, samples{deleted: "+Inf"})
		s.SetTasks(guangzhou, tasks)
		next(t, e).want(t, samples{deleted: "+Inf", created: at(25.5 - second)})
	})
}

// Watched instances: the others of the region are not shown, and say that an inventory is whole.
func TestInventoryOfWatchedInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		s := newSimulator(t, crsapi.API30)
		s.SetTasks(guangzhou, []crsapi.Task{backupOf("crs-a", time.Hour, crsapi.StatusSucceeded)})
		s.SetInstances(guangzhou, []crsapi.Instance{existing("crs-a", 50*time.Hour), existing("crs-b", 50*time.Hour), existing("crs-c", 50*time.Hour)})
		e := s.watch(t, collector.Config{Inventory: 15 * time.Minute, RedisIDs: []string{"crs-a", "crs-c"}, Lookback: 12 * time.Hour})
		scrape(t, e)
		synctest.Wait()
		a := fmt.Sprintf(deadlineSeries, "crs-a")
		scrape(t, e).want(t, samples{
			inventoryInstances: "2", a: at(25), fmt.Sprintf(deadlineSeries, "crs-b"): "", fmt.Sprintf(goodSeries, "crs-c"): at(-12),
		})
		s.SetInstances(guangzhou, []crsapi.Instance{existing("crs-b", 50*time.Hour)})
		next(t, e).want(t, samples{inventoryInstances: "0", a: "+Inf"})
	})
}

// After a restart, what the last inventory said counts until the next one, or until
// --crs.inventory is off.
func TestInventoryAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		s := newSimulator(t, crsapi.API30)
		s.SetTasks(guangzhou, []crsapi.Task{backupOf("crs-a", time.Hour, crsapi.StatusSucceeded)})
		s.SetInstances(guangzhou, []crsapi.Instance{existing("crs-a", 50*time.Hour), existing("crs-never", 30*time.Hour), existing("crs-fresh", time.Hour)})
		cfg := collector.Config{Inventory: 15 * time.Minute, StateFile: t.TempDir() + "/state"}
		restart := func() *collector.Exporter { return s.watch(t, cfg) }
		e := restart()
		scrape(t, e)
		synctest.Wait()
		before := backupFacts(scrape(t, e))
		e.Close()
		stop := s.Inject(crsapitest.Fault{Action: crsapi.ActionInstances, Do: crsapitest.APIError(4101)})
		e = restart()
		wantEqual(t, "before an inventory", backupFacts(scrape(t, e)), before)
		wantEqual(t, "after a failed one", backupFacts(next(t, e)), before)
		stop()
		wantEqual(t, "after an inventory", backupFacts(next(t, e)), before)
		e.Close()
		cfg.Inventory = 0
		e = restart()
		scrape(t, e).want(t, samples{fmt.Sprintf(deadlineSeries, "crs-fresh"): "+Inf", inventoryInstances: ""})
	})
}

// BenchmarkInventory counts the requests for an inventory of 100,000 instances, with the default
// rate limit.
func BenchmarkInventory(b *testing.B) {
	server := crsapitest.NewServer()
	defer server.Close()
	server.SetTasks(guangzhou, crsapitest.Generate(2000, 100, 1))
	var all []crsapi.Instance
	for i := range 100_000 {
		all = append(all, existing(fmt.Sprintf("crs-%08d", i), time.Duration(i)*time.Minute))
	}
	server.SetInstances(guangzhou, all)
	cfg := crsapi.DefaultConfig(crsapi.API30)
	cfg.Endpoint, cfg.Credentials = server.URL3, credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	for b.Loop() {
		e := newExporter(b, collector.Config{Regions: []string{guangzhou}, Dial: collector.DialAPIs(cfg), Inventory: time.Minute}, nil)
		e.Poll(b.Context())
		requests := -server.Requests("")
		begin, longest, heap := time.Now(), time.Duration(0), uint64(0)
		for e.Status()[0].Inventory.LastSuccess.IsZero() {
			polled := time.Now()
			e.Poll(b.Context())
			requests -= e.Status()[0].Requests
			longest, heap = max(longest, time.Since(polled)), max(heap, heapInUse())
			time.Sleep(time.Second)
		}
		requests += server.Requests("")
		b.ReportMetric(time.Since(begin).Seconds(), "s/inventory")
		b.ReportMetric(float64(requests), "requests/inventory")
		b.ReportMetric(longest.Seconds(), "s/longest-poll")
		b.ReportMetric(float64(heap)/(1<<20), "MB-heap")
		e.Close()
	}
}
