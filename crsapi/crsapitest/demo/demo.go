// Package demo is a simulated account for crs_exporter --demo: regions with a few
// instances whose backups succeed, fail and hang while the program runs. It does not
// know who reads the lists.
package demo

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

const (
	tickInterval = 3 * time.Second
	// maxAge is the age of the oldest task at the start, and maxListed the maximum
	// number of tasks in a region's list.
	maxAge    = 72 * time.Hour
	maxListed = 250

	backupInstance = "backupInstance"
	autoBackup     = "AUTOBACKUP" // API 2.0 lists it as backupInstance
)

// Regions returns the regions of a Config that names none.
func Regions() []string { return []string{"ap-guangzhou", "ap-shanghai"} }

// The only key that the account accepts.
const (
	SecretID  = crsapitest.SecretID
	SecretKey = crsapitest.SecretKey
)

// Config configures an Account.
type Config struct {
	Regions     []string      // Regions() if empty
	UTCOffset   time.Duration // of the times in requests and responses
	RetireAfter time.Duration // when API 2.0 is retired; never if 0
}

// Account is a running simulation.
type Account struct {
	URL, URL3 string // of API 2.0, and of API 3.0 and the private cloud

	server *crsapitest.Server
	random *rand.Rand
	stop   chan struct{}
	done   sync.WaitGroup
}

// Start starts a simulation that runs until Close. Some requests fail, so that metrics
// show retries.
func Start(cfg Config) *Account {
	if len(cfg.Regions) == 0 {
		cfg.Regions = Regions()
	}
	server := crsapitest.NewServer()
	a := &Account{
		URL: server.URL, URL3: server.URL3,
		server: server, random: rand.New(rand.NewPCG(1, 2)), stop: make(chan struct{}),
	}
	server.SetUTCOffset(cfg.UTCOffset)
	for _, region := range cfg.Regions {
		server.SetTasks(region, a.history(region, time.Now()))
	}
	server.Inject(crsapitest.Fault{Rate: 0.05, Do: crsapitest.APIError(4400)})
	server.Inject(crsapitest.Fault{Rate: 0.02, Do: crsapitest.APIError(6000)})
	server.Inject(crsapitest.Fault{Do: crsapitest.Latency(30 * time.Millisecond)})
	a.done.Go(func() { a.run(cfg) })
	return a
}

// run changes the lists until Close.
func (a *Account) run(cfg Config) {
	var retire <-chan time.Time // nil for never
	if cfg.RetireAfter > 0 {
		retire = time.After(cfg.RetireAfter)
	}
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.stop:
			return
		case <-retire:
			a.server.Inject(crsapitest.Fault{API: string(crsapi.API20), Do: crsapitest.RetiredForbidden})
		case now := <-tick.C:
			for _, region := range cfg.Regions {
				a.server.Update(region, func(tasks []crsapi.Task) []crsapi.Task { return a.advance(region, tasks, now) })
			}
		}
	}
}

// Close ends the simulation. Later requests fail.
func (a *Account) Close() {
	close(a.stop)
	a.done.Wait()
	a.server.Close()
}

// instances end one in so many backups with another status than StatusSucceeded. A
// backup with StatusExecuting hangs.
var instances = []struct {
	name  string
	other crsapi.Status
	oneIn int
}{
	{"sessions", crsapi.StatusFailed, 40},
	{"carts", crsapi.StatusFailed, 4},
	{"ranking", crsapi.StatusError, 6},
	{"search", crsapi.StatusFailed, 1},
	{"mail queue", crsapi.StatusExecuting, 30},
}

// outcome returns the final status of a backup of an instance.
func (a *Account) outcome(i int) crsapi.Status {
	if a.random.IntN(instances[i].oneIn) == 0 {
		return instances[i].other
	}
	return crsapi.StatusSucceeded
}

// idOf returns the ID of an instance, such as crs-zhou0001.
func idOf(region string, i int) string {
	return fmt.Sprintf("crs-%s%04d", region[max(0, len(region)-4):], i+1)
}

func (a *Account) task(region string, i int, name string, start time.Time, status crsapi.Status) crsapi.Task {
	t := crsapi.Task{
		RedisID: idOf(region, i), RedisName: instances[i].name, ProjectID: "0",
		TaskName: name, StartTime: start.Truncate(time.Second).UTC(), Status: status,
	}
	if status == crsapi.StatusSucceeded {
		t.Progress = 1
	}
	if status != crsapi.StatusPending && status != crsapi.StatusExecuting {
		t.EndTime = t.StartTime.Add(time.Duration(20+a.random.IntN(200)) * time.Second)
	}
	return t
}

// history returns a backup of each instance every three hours, newest first.
func (a *Account) history(region string, now time.Time) []crsapi.Task {
	var tasks []crsapi.Task
	for age := 10 * time.Minute; age < maxAge; age += 3 * time.Hour {
		for i := range instances {
			status := a.outcome(i)
			if status == crsapi.StatusExecuting {
				status = crsapi.StatusSucceeded // only new backups hang
			}
			tasks = append(tasks, a.task(region, i, autoBackup, now.Add(-age), status))
		}
	}
	return append(tasks, a.task(region, 0, "newInstance", now.Add(-maxAge), crsapi.StatusSucceeded))
}

// advance returns the list one tick later: pending tasks begin, some executing tasks
// end, and an instance without an unfinished task may get a new one.
func (a *Account) advance(region string, tasks []crsapi.Task, now time.Time) []crsapi.Task {
	busy := map[string]bool{}
	for n := range tasks {
		t := &tasks[n]
		switch {
		case t.Status == crsapi.StatusPending:
			t.Status = crsapi.StatusExecuting
		case t.Status != crsapi.StatusExecuting:
			continue
		case a.random.IntN(3) > 0:
			t.Progress = min(t.Progress+0.2, 0.9)
		default:
			a.finish(region, t, now)
		}
		busy[t.RedisID] = busy[t.RedisID] || t.Status == crsapi.StatusExecuting
	}
	i, name := a.random.IntN(len(instances)), a.nextName()
	if !busy[idOf(region, i)] {
		tasks = append([]crsapi.Task{a.task(region, i, name, now, crsapi.StatusPending)}, tasks...)
	}
	return tasks[:min(len(tasks), maxListed)]
}

// finish gives an executing task its final status, unless it hangs.
func (a *Account) finish(region string, t *crsapi.Task, now time.Time) {
	status := crsapi.StatusSucceeded
	for i := range instances {
		if t.RedisID == idOf(region, i) && (t.TaskName == backupInstance || t.TaskName == autoBackup) {
			status = a.outcome(i)
		}
	}
	if status == crsapi.StatusExecuting {
		return
	}
	t.Status, t.EndTime = status, now.Truncate(time.Second).UTC()
	if status == crsapi.StatusSucceeded {
		t.Progress = 1
	}
}

func (a *Account) nextName() string {
	names := []string{"restoreBackup", "resizeInstance", "cleanInstance", backupInstance}
	if n := a.random.IntN(10); n < len(names) {
		return names[n]
	}
	return autoBackup
}
