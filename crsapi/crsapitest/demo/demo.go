// Package demo is a simulated account for crs_exporter --demo: two regions with thirty
// nights of backups, an example of each problem that the alerts on tasks report, and
// backups that start, end and fail while the program runs. It does not know who reads the
// lists.
package demo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

const (
	day = 24 * time.Hour

	tickInterval = 3 * time.Second // between changes of the lists
	listedFor    = 30 * day        // older tasks leave the lists
	pendingFor   = 4 * time.Second // before a task begins

	// A backup by hand begins in each region every byHandInterval, the first one byHandFirst
	// before the start, of one of the first byHandInstances. One in byHandFailing fails.
	byHandInterval  = 2 * time.Minute
	byHandFirst     = 24 * time.Minute
	byHandInstances = 3
	byHandFailing   = 8

	succeeded    = crsapi.StatusSucceeded
	failed       = crsapi.StatusFailed
	hangs        = crsapi.StatusExecuting // how a task ends that never ends
	undocumented = crsapi.Status(7)

	existsFor = 200 * day // of instances without another age

	always = math.MaxInt // stands for all numbers of backups
)

// Regions returns the regions of an account, unless others are wanted.
func Regions() []string { return []string{"ap-guangzhou", "ap-shanghai"} }

// The only key that the account accepts.
const (
	SecretID  = crsapitest.SecretID
	SecretKey = crsapitest.SecretKey
)

// instance is a line of the tables below. A backup by schedule has a number: the newest at
// the start of the demo has 0, the one before it 1. Those after the start have negative
// numbers. Ages are at the start.
type instance struct {
	name   string
	every  time.Duration // between backups by schedule; 0 for each night
	newest time.Duration // age of backup 0; not used if backups are at night
	ends   statuses      // how backups by schedule end, by number, if not with succeeded
	from   time.Duration // age of the schedule, if it is younger than the list
	until  time.Duration // age of the schedule's end, if it has ended
	never  bool          // it has no schedule
	tasks  []task        // beside its backups
}

type statuses map[int]crsapi.Status

// task is a task that was submitted before the start.
type task struct {
	name string
	age  time.Duration
	ends crsapi.Status
}

// The first region has all the examples. The second one is in order.
var tables = [][]instance{
	{
		{name: "sessions", tasks: []task{{"restoreBackup", 53 * time.Hour, succeeded}}},
		{name: "carts", ends: statuses{6: failed, 20: failed}},
		{name: "ranking", tasks: []task{{"resizeInstance", 11 * day, succeeded}}},
		{name: "inventory"},
		{name: "mail queue", ends: statuses{13: crsapi.StatusError}, tasks: []task{{"cleanInstance", 8 * day, succeeded}}},
		{name: "search", ends: statuses{always: failed}},
		{name: "feature flags", ends: statuses{2: hangs}},
		{name: "reports", every: 7 * day, newest: 40 * time.Minute, ends: statuses{0: failed}},
		{name: "archive", until: 3 * day},
		{name: "orders", tasks: []task{{"resizeInstance", 50 * time.Minute, failed}}},
		{name: "payments", tasks: []task{{"exportBackup", 7 * time.Hour, hangs}}},
		{name: "chat", tasks: []task{{"setPassword", 2 * time.Hour, undocumented}}},
		{name: "promotions", until: 4 * day, tasks: []task{{"deleteInstance", 4 * day, succeeded}}},
		{name: "wishlists", never: true}, // only --crs.inventory shows it
	},
	{
		{name: "sessions"},
		{name: "carts", ends: statuses{9: failed}},
		{name: "ranking"},
		{name: "profiles"},
		{name: "notifications", ends: statuses{24: crsapi.StatusError}, tasks: []task{{"resizeInstance", 16 * day, succeeded}}},
		{name: "prices"},
		{name: "analytics", every: 7 * day, newest: 62 * time.Hour},
		{name: "coupons", from: 10 * day, tasks: []task{{"newInstance", 10 * day, succeeded}}},
	},
}

// Config configures an Account.
type Config struct {
	Regions     []string
	UTCOffset   time.Duration // of the times in requests and responses
	RetireAfter time.Duration // when API 2.0 is retired; never if 0
}

// Account is a running simulation.
type Account struct {
	URL, URL3 string // of API 2.0, and of API 3.0 and the private cloud

	server *crsapitest.Server
	stop   chan struct{}
	done   sync.WaitGroup
}

// Start starts a simulation that runs until Close. Some requests fail, so that metrics
// show retries.
func Start(cfg Config) *Account {
	server, start := crsapitest.NewServer(), time.Now()
	a := &Account{URL: server.URL, URL3: server.URL3, server: server, stop: make(chan struct{})}
	server.SetUTCOffset(cfg.UTCOffset)
	a.set(cfg, start, start)
	for n, region := range cfg.Regions {
		server.SetInstances(region, Instances(region, n, start))
	}
	server.Inject(crsapitest.Fault{Rate: 0.02, Do: crsapitest.APIError(4400)})
	server.Inject(crsapitest.Fault{Rate: 0.02, Do: crsapitest.APIError(6000)})
	server.Inject(crsapitest.Fault{Do: crsapitest.Latency(30 * time.Millisecond)})
	a.done.Go(func() { a.run(cfg, start) })
	return a
}

// run changes the lists until Close.
func (a *Account) run(cfg Config, start time.Time) {
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
			a.set(cfg, start, now)
		}
	}
}

func (a *Account) set(cfg Config, start, now time.Time) {
	for n, region := range cfg.Regions {
		a.server.SetTasks(region, Tasks(region, n, cfg.UTCOffset, start, now))
	}
}

// Close ends the simulation. Later requests fail.
func (a *Account) Close() {
	close(a.stop)
	a.done.Wait()
	a.server.Close()
}

// Tasks returns the list of region number n, newest first, as it is now in an account
// that started at start. Equal arguments have equal lists.
func Tasks(region string, n int, utcOffset time.Duration, start, now time.Time) []crsapi.Task {
	l := &list{region: region, table: tables[n%len(tables)], now: now}
	for i, in := range l.table {
		l.schedule(i, utcOffset, start)
		for _, t := range in.tasks {
			l.add(i, t.name, start.Add(-t.age), t.ends)
		}
	}
	l.byHand(start.Add(-byHandFirst + time.Duration(n)*time.Minute))
	slices.SortStableFunc(l.tasks, func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) })
	return l.tasks
}

// Instances returns the instances of region number n, in an account that started at start.
func Instances(region string, n int, start time.Time) (all []crsapi.Instance) {
	for i, in := range tables[n%len(tables)] {
		if slices.ContainsFunc(in.tasks, func(t task) bool { return t.name == "deleteInstance" }) {
			continue
		}
		all = append(all, crsapi.Instance{
			RedisID: redisID(region, i), RedisName: in.name, ProjectID: "0",
			Created: start.Add(-cmp.Or(in.from, existsFor)),
		})
	}
	return all
}

// redisID returns the ID of instance number i of a region, such as crs-zhou0001.
func redisID(region string, i int) string {
	return fmt.Sprintf("crs-%s%04d", region[max(0, len(region)-4):], i+1)
}

// list is a list that is being made.
type list struct {
	region string
	table  []instance
	now    time.Time
	tasks  []crsapi.Task
}

// schedule adds the backups by schedule of an instance. Those at night begin after two
// o'clock in the API's time zone, one instance after the other.
func (l *list) schedule(i int, utcOffset time.Duration, start time.Time) {
	in := l.table[i]
	if in.never {
		return
	}
	every, newest := in.every, start.Add(-in.newest)
	if every == 0 {
		every = day
		midnight := start.Add(utcOffset).Truncate(day).Add(-utcOffset)
		newest = midnight.Add(2*time.Hour + time.Duration(i)*11*time.Minute)
		if newest.After(start) {
			newest = newest.Add(-day)
		}
	}
	for number := int(listedFor / every); ; number-- {
		at := newest.Add(-time.Duration(number) * every)
		switch age := start.Sub(at); {
		case at.After(l.now), in.until > 0 && age < in.until:
			return
		case in.from == 0 || age < in.from:
			l.add(i, "AUTOBACKUP", at, cmp.Or(in.ends[number], in.ends[always], succeeded))
		}
	}
}

// byHand adds backups by hand, of one instance after the other. A backup that fails is
// followed by another one of the same instance.
func (l *list) byHand(at time.Time) {
	i := 0
	for n := 1; !at.After(l.now); n, at = n+1, at.Add(byHandInterval) {
		if n%byHandFailing == 0 {
			l.add(i, "backupInstance", at, failed)
		} else {
			l.add(i, "backupInstance", at, succeeded)
			i = (i + 1) % byHandInstances
		}
	}
}

// add adds a task as it is now, unless it has left the list.
func (l *list) add(i int, name string, start time.Time, ends crsapi.Status) {
	start = start.Truncate(time.Second).UTC()
	runs := l.now.Sub(start)
	if runs > listedFor {
		return
	}
	t := crsapi.Task{
		RedisID: redisID(l.region, i), RedisName: l.table[i].name, ProjectID: "0", TaskName: name, StartTime: start, Status: ends,
	}
	takes := time.Duration(20+(start.Unix()+int64(i))%70) * time.Second
	switch {
	case runs < pendingFor:
		t.Status = crsapi.StatusPending
	case runs < takes || ends == hangs:
		t.Status, t.Progress = crsapi.StatusExecuting, min(0.9, float32(runs)/float32(takes))
	default:
		t.EndTime = start.Add(takes)
		if ends == succeeded {
			t.Progress = 1
		}
	}
	l.tasks = append(l.tasks, t)
}
