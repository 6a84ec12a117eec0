package collector_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// movingList is a simulated list that changes between any two requests, and what
// its history must be counted as.
type movingList struct {
	server *simulator
	luck   *rand.Rand

	mu       sync.Mutex
	rate     float64 // probability of an event before a request
	tasks    []crsapi.Task
	baseline int             // tasks of the first list, at the end of tasks
	ended    map[string]int  // tasks that ended since the first list, by counter
	versions [][]crsapi.Task // since the last scrape began
}

func newMovingList(server *simulator, seed uint64) *movingList {
	l := &movingList{server: server, luck: rand.New(rand.NewPCG(seed, 3)), ended: map[string]int{}}
	clock := time.Now().Add(-48 * time.Hour).Truncate(time.Second).UTC()
	for range 150 {
		clock = clock.Add(time.Duration(l.luck.IntN(600)) * time.Second)
		l.tasks = slices.Insert(l.tasks, 0, l.task(clock, crsapi.StatusSucceeded))
	}
	l.baseline = len(l.tasks)
	l.publish()
	return l
}

func (l *movingList) task(start time.Time, status crsapi.Status) crsapi.Task {
	return crsapi.Task{
		RedisID: fmt.Sprintf("crs-%d", l.luck.IntN(6)), RedisName: "n", ProjectID: "0",
		TaskName: []string{backup, clean}[l.luck.IntN(2)], StartTime: start, Status: status,
	}
}

func (l *movingList) publish() {
	l.server.SetTasks(guangzhou, l.tasks)
	l.versions = append(l.versions, slices.Clone(l.tasks))
}

// event submits a task, starts or ends one, or lets old ones leave.
func (l *movingList) event() {
	switch own := len(l.tasks) - l.baseline; l.luck.IntN(4) {
	case 0:
		for range 1 + l.luck.IntN(3) {
			at := time.Now().Truncate(time.Second).UTC()
			// Counters cannot distinguish twins.
			t := l.task(at, crsapi.StatusPending)
			if !slices.ContainsFunc(l.tasks, func(other crsapi.Task) bool {
				return other.RedisID == t.RedisID && other.TaskName == t.TaskName && other.StartTime.Equal(t.StartTime)
			}) {
				l.tasks = slices.Insert(l.tasks, 0, t)
			}
		}
	case 1, 2:
		if own == 0 {
			break
		}
		switch t := &l.tasks[l.luck.IntN(own)]; t.Status {
		case crsapi.StatusPending:
			t.Status = crsapi.StatusExecuting
		case crsapi.StatusExecuting:
			t.Status = []crsapi.Status{crsapi.StatusSucceeded, crsapi.StatusFailed}[l.luck.IntN(2)]
			l.ended[transitions(t.RedisID, t.TaskName, t.Status.String())]++
		}
	default: // tasks of the first list leave
		n := min(l.baseline, l.luck.IntN(3))
		l.tasks, l.baseline = l.tasks[:len(l.tasks)-n], l.baseline-n
	}
	l.publish()
}

func (l *movingList) onRequest(crsapitest.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.luck.Float64() < l.rate {
		l.event()
	}
}

// members returns the number of listed tasks by instance and name.
func members(tasks []crsapi.Task) map[[2]string]int {
	m := map[[2]string]int{}
	for _, t := range tasks {
		m[[2]string{t.RedisID, t.TaskName}]++
	}
	return m
}

// exposedMembers returns the same of a scrape.
func exposedMembers(got samples) map[[2]string]int {
	m := map[[2]string]int{}
	for i := range 6 {
		for _, name := range []string{backup, clean} {
			for _, status := range documented {
				id := fmt.Sprintf("crs-%d", i)
				if n, err := strconv.Atoi(got[fmt.Sprintf(tasksSeries, id, status, name)]); err == nil && n > 0 {
					m[[2]string{id, name}] += n
				}
			}
		}
	}
	return m
}

// TestMovingListIsExact scrapes a list that changes between any two requests: the
// tasks shown are those of one moment of the poll. Once it rests, the statuses are
// those of the list, and the counters are its history.
func TestMovingListIsExact(t *testing.T) {
	seeds := uint64(3)
	if underRace {
		seeds = 2
	}
	for _, api := range testedAPIs() {
		for _, sync := range []collector.Sync{collector.SyncFull, collector.SyncIncremental} {
			t.Run(fmt.Sprintf("API %s %s", api, sync), func(t *testing.T) {
				whole, scrapes := 0, 0
				for seed := range seeds {
					synctest.Test(t, func(t *testing.T) {
						n, of := scrapeMoving(t, api, sync, seed)
						whole, scrapes = whole+n, scrapes+of
					})
				}
				if whole < scrapes*9/10 {
					t.Errorf("%d of %d scrapes were whole", whole, scrapes)
				}
			})
		}
	}
}

func scrapeMoving(t *testing.T, api crsapi.API, sync collector.Sync, seed uint64) (whole, scrapes int) {
	server := newSimulator(t, api)
	server.pageSize = 10
	e := server.watch(t, collector.Config{Sync: sync, FullSyncInterval: 2 * time.Minute})
	l := newMovingList(server, seed)
	for range 2 {
		scrape(t, e)
	}
	server.OnRequest(l.onRequest)
	for range 30 {
		time.Sleep(15 * time.Second)
		l.mu.Lock()
		l.rate = []float64{0, 0.1, 0.3}[l.luck.IntN(3)]
		l.event()
		l.versions = l.versions[len(l.versions)-1:]
		l.mu.Unlock()
		got := scrape(t, e)
		scrapes++
		if !got.up(guangzhou) {
			continue
		}
		whole++
		l.mu.Lock()
		if shown := exposedMembers(got); !slices.ContainsFunc(l.versions, func(v []crsapi.Task) bool { return maps.Equal(members(v), shown) }) {
			t.Errorf("seed %d: the tasks shown are those of none of %d moments", seed, len(l.versions))
		}
		if len(l.versions) == 1 { // it was at rest
			if want := described(l.tasks).of("crs_tasks"); !maps.Equal(got.of("crs_tasks"), want) {
				t.Errorf("seed %d: at rest between events the statuses are %v, want %v", seed, got.of("crs_tasks").nonzero(), want.nonzero())
			}
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.rate = 0
	l.mu.Unlock()
	var got samples
	for range 4 { // until no series holds counts
		time.Sleep(15 * time.Second)
		got = scrape(t, e)
	}
	want := described(l.tasks)
	for series, value := range got.listed().of("crs_tasks", "crs_task_last_start_timestamp_seconds", "crs_backup_last_start_timestamp_seconds") {
		if want[series] != value {
			t.Errorf("seed %d: at rest %s is %s, want %s", seed, series, value, want[series])
		}
	}
	for series, n := range l.ended {
		if got[series] != strconv.Itoa(n) {
			t.Errorf("seed %d: %s is %q, want %d", seed, series, got[series], n)
		}
	}
	return whole, scrapes
}
