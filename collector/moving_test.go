package collector_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
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
	versions [][]crsapi.Task // since the poll began that the next scrape may see
	up       bool            // in the last scrape
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

var statusLabel = regexp.MustCompile(`status="[a-z]*"`)

// membersOf returns the number of tasks by instance and name.
func membersOf(tasks []crsapi.Task) map[string]int {
	m := map[string]int{}
	for _, t := range tasks {
		m[fmt.Sprintf(tasksSeries, t.RedisID, "", t.TaskName)]++
	}
	return m
}

// members returns the same of a scrape.
func (s samples) members() map[string]int {
	m := map[string]int{}
	for series, value := range s.of("crs_tasks").nonzero() {
		n, _ := strconv.Atoi(value)
		m[statusLabel.ReplaceAllString(series, `status=""`)] += n
	}
	return m
}

// begin has an event, and one before each request with this probability; none below 0.
func (l *movingList) begin(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
	if rate >= 0 {
		l.event()
	}
	if l.up { // else the poll before may go on
		l.versions = l.versions[len(l.versions)-1:]
	}
}

// check checks the tasks that a scrape shows: those of one moment, or none. It reports
// whether the region is up.
func (l *movingList) check(t *testing.T, got samples) bool {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up = got.up(guangzhou); !l.up {
		wantEqual(t, "down", got.listed(), samples{})
		return false
	}
	shown := got.members()
	if !slices.ContainsFunc(l.versions, func(v []crsapi.Task) bool { return maps.Equal(membersOf(v), shown) }) {
		t.Errorf("the tasks shown are those of none of %d moments", len(l.versions))
	}
	if len(l.versions) == 1 { // it was at rest
		wantEqual(t, "at rest between events", got.of("crs_tasks"), described(l.tasks).of("crs_tasks"))
	}
	return true
}

// scrapeMoving scrapes a list that changes between any two requests: the tasks shown are
// those of one moment of the poll. Once it rests, the statuses are those of the list, and the
// counters are its history. inject injects faults before a scrape, and returns the rate for
// movingList.begin. The result is how many scrapes were up.
func scrapeMoving(t *testing.T, s *simulator, sync collector.Sync, seed uint64, scrapes int, inject func(*movingList) float64) (up int) {
	s.pageSize = 10
	e := s.watch(t, collector.Config{Sync: sync, FullSyncInterval: 2 * time.Minute})
	l := &movingList{server: s, luck: rand.New(rand.NewPCG(seed, 3)), ended: map[string]int{}}
	clock := time.Now().Add(-48 * time.Hour).Truncate(time.Second).UTC()
	for range 150 {
		clock = clock.Add(time.Duration(l.luck.IntN(600)) * time.Second)
		l.tasks = slices.Insert(l.tasks, 0, l.task(clock, crsapi.StatusSucceeded))
	}
	l.baseline = len(l.tasks)
	l.publish()
	s.OnRequest(func(crsapitest.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for l.luck.Float64() < l.rate {
			l.event()
		}
	})
	for n := range scrapes {
		if n < 2 { // at rest, so that nothing is held later
			l.begin(-1)
		} else {
			l.begin(inject(l))
		}
		if l.check(t, scrape(t, e)) {
			up++
		}
		if t.Failed() {
			t.Fatalf("at scrape %d", n)
		}
		s.ClearFaults()
		time.Sleep(15 * time.Second)
	}
	for range 3 { // until no series holds counts
		l.begin(-1)
		scrape(t, e)
		time.Sleep(15 * time.Second)
	}
	got, families := scrape(t, e), []string{"crs_tasks", "crs_task_last_start_timestamp_seconds", "crs_backup_last_start_timestamp_seconds"}
	wantEqual(t, "at rest", got.of(families...), described(l.tasks).of(families...))
	for series, n := range l.ended {
		if got[series] != strconv.Itoa(n) {
			t.Errorf("%s is %q, want %d", series, got[series], n)
		}
	}
	return up
}

func TestMovingListIsExact(t *testing.T) {
	for _, sync := range []collector.Sync{collector.SyncFull, collector.SyncIncremental} {
		t.Run(string(sync), func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				up, rates := 0, []float64{0, 0.1, 0.3}
				for seed := range uint64(3) {
					up += scrapeMoving(t, newSimulator(t, api), sync, seed, 30, func(l *movingList) float64 { return rates[l.luck.IntN(3)] })
				}
				if up < 3*30*9/10 {
					t.Errorf("%d of 90 scrapes were up", up)
				}
			})
		})
	}
}
