package collector_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

var scrapes = flag.Int("scrapes", 30, "how often TestMovingList scrapes each list")

// scriptedList is the list at a step, which is ten seconds, newest first. A task is submitted
// at every step, is pending, then executing, then ends, some late, and leaves after 90 steps.
// Every 40 steps an instance is new.
func scriptedList(step int) (tasks []crsapi.Task) {
	for i := step; i >= max(0, step-90); i-- {
		luck := rand.New(rand.NewPCG(7, uint64(i)))
		end := []crsapi.Status{crsapi.StatusSucceeded, crsapi.StatusFailed}[luck.IntN(2)]
		life := []crsapi.Status{crsapi.StatusPending, crsapi.StatusExecuting, end}
		task := backupOf(fmt.Sprintf("crs-%03d", i/40), 0, life[min(2, (step-i)/[]int{1, 2, 4, 12}[luck.IntN(4)])])
		task.TaskName = []string{backup, clean}[luck.IntN(2)]
		task.StartTime = beijing("1999-12-31 00:00:00").Add(time.Duration(i) * 10 * time.Second)
		tasks = append(tasks, task)
	}
	return tasks
}

// scriptedCounters returns how the lists from one step to another are counted.
func scriptedCounters(first, last int) map[string]int {
	counters, known := map[string]int{}, map[string]bool{}
	for step := first; step <= last; step++ {
		for _, task := range scriptedList(step) {
			for _, status := range documented {
				counters[transitions(task.RedisID, task.TaskName, status)] += 0
			}
			series := transitions(task.RedisID, task.TaskName, task.Status.String())
			identity := fmt.Sprint(series, task.StartTime)
			if step > first && !known[identity] {
				counters[series]++
			}
			known[identity] = true
		}
	}
	return counters
}

// members returns the number of listed tasks by series, without their status.
func (s samples) members() map[string]int {
	all := map[string]int{}
	for series, value := range s.of("crs_tasks").nonzero() {
		before, rest, _ := strings.Cut(series, "status=")
		_, name, _ := strings.Cut(rest, ",")
		n, _ := strconv.Atoi(value)
		all[before+name] += n
	}
	return all
}

// movingFaults are injected. A single response shows each of them.
var movingFaults = []crsapitest.Effect{
	crsapitest.APIError(4100), crsapitest.APIError(4400), crsapitest.HTTPStatus(http.StatusBadGateway),
	crsapitest.Hang, crsapitest.Latency(30 * time.Millisecond), crsapitest.SlowBody(64, 10*time.Millisecond),
	crsapitest.ResetBeforeHeaders, crsapitest.ResetAfterHeaders, crsapitest.ResetMidBody, crsapitest.TruncatedJSON,
	crsapitest.PageCap(7), crsapitest.RoundOffsets, crsapitest.IgnoreOffset, crsapitest.Body("{}"),
}

// TestMovingList scrapes lists that change between any two requests, also while faults come and go.
func TestMovingList(t *testing.T) {
	for name, how := range map[string]collector.Sync{
		"full": collector.SyncFull, "incremental": collector.SyncIncremental, "faults": collector.SyncAuto,
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				up := 0
				for seed := range uint64(3) {
					up += scrapeMoving(t, newSimulator(t, api), how, seed)
				}
				if up < 3**scrapes*9/10 && how != collector.SyncAuto {
					t.Errorf("%d scrapes of %d were up", up, 3**scrapes)
				}
			})
		})
	}
}

// scrapeMoving scrapes a list: the tasks shown are those of one moment of the poll, or none. Once
// it rests, the statuses are those of the list, and no end of a task is lost or counted twice.
// Memory does not leak. The result is how many scrapes were up.
func scrapeMoving(t *testing.T, s *simulator, how collector.Sync, seed uint64) (up int) {
	const first, headroom = 100, 4 << 20 // bytes by which the heap may grow after a quarter of the scrapes
	var mu sync.Mutex
	luck, rate, heap := rand.New(rand.NewPCG(seed, 3)), 0.0, uint64(0)
	from, step := first, first // from is the first step that the next scrape may see
	advance := func() {
		step++
		s.SetTasks(guangzhou, scriptedList(step))
	}
	s.OnRequest(func(crsapitest.Request) {
		mu.Lock()
		defer mu.Unlock()
		for luck.Float64() < rate {
			advance()
		}
	})
	s.pageSize = 10
	s.SetTasks(guangzhou, scriptedList(first))
	e := s.watch(t, collector.Config{Sync: how, FullSyncInterval: 2 * time.Minute})
	var got samples
	for n := range *scrapes + 4 {
		mu.Lock()
		if rate = 0; n > 1 && n < *scrapes { // else it rests, until no series holds counts
			rate = []float64{0, 0.05, 0.1}[luck.IntN(3)]
			if fault := luck.IntN(2 * len(movingFaults)); how == collector.SyncAuto && fault < len(movingFaults) {
				s.Inject(crsapitest.Fault{Rate: 0.1 + 0.9*luck.Float64(), Count: luck.IntN(4), Do: movingFaults[fault]})
				rate /= 4 // no task ends and leaves while the region is down
			}
			advance()
		}
		if got.up(guangzhou) { // else the poll before may go on
			from = step
		}
		mu.Unlock()
		got = scrape(t, e)
		mu.Lock()
		last := step // a poll that goes on may take it further
		mu.Unlock()
		isShown := !got.up(guangzhou) && len(got.listed()) == 0
		for at := last; at >= from && !isShown; at-- {
			isShown = maps.Equal(described(scriptedList(at)).members(), got.members())
		}
		if !isShown {
			t.Fatalf("scrape %d of list %d shows no moment of the steps %d to %d", n, seed, from, last)
		}
		if got.up(guangzhou) {
			if up++; from == last {
				wantEqual(t, "at rest between events", got.of("crs_tasks"), described(scriptedList(last)).of("crs_tasks"))
			}
		}
		s.ClearFaults()
		if n == *scrapes/4 {
			heap = heapInUse()
		}
		time.Sleep(15 * time.Second)
	}
	if now := heapInUse(); now > heap+headroom {
		t.Errorf("heap in use is %d bytes at the end, %d after a quarter", now, heap)
	}
	families := []string{"crs_tasks", "crs_task_last_start_timestamp_seconds", "crs_backup_last_start_timestamp_seconds"}
	wantEqual(t, "at rest", got.of(families...), described(scriptedList(step)).of(families...))
	for series, n := range scriptedCounters(first, step) {
		if !strings.Contains(series, "pending") && !strings.Contains(series, "executing") { // which no poll may have seen
			got.want(t, samples{series: strconv.Itoa(n)})
		}
	}
	return up
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // frees what a sync.Pool holds
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
