package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	demoTick = 3 * time.Second
	// demoHistory is the age of the oldest task when the demo starts.
	// demoListed is the maximum number of tasks listed in a region.
	demoHistory = 72 * time.Hour
	demoListed  = 250

	backupInstance = "backupInstance"
	autoBackup     = "AUTOBACKUP" // API 2.0 lists it as backupInstance
)

func demoRegions() []string { return []string{"ap-guangzhou", "ap-shanghai"} }

// demo is a simulated CRS with tasks that change.
type demo struct {
	server *crsapitest.Server
	random *rand.Rand
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startDemo starts a simulation that runs until ctx ends or stop, and makes the
// settings use it.
func startDemo(ctx context.Context, s *settings) *demo {
	ctx, cancel := context.WithCancel(ctx)
	d := &demo{server: crsapitest.NewServer(), random: rand.New(rand.NewPCG(1, 2)), cancel: cancel}
	if len(s.collector.Regions) == 0 {
		s.collector.Regions = demoRegions()
	}
	regions := s.collector.Regions
	d.server.SetUTCOffset(s.api.UTCOffset)
	for _, region := range regions {
		d.server.SetTasks(region, d.history(region, time.Now()))
	}
	// Inject failures so that retries show in the metrics.
	d.server.Inject(crsapitest.Fault{Rate: 0.05, Do: crsapitest.APIError(4400)})
	d.server.Inject(crsapitest.Fault{Rate: 0.02, Do: crsapitest.APIError(6000)})
	d.server.Inject(crsapitest.Fault{Do: crsapitest.Latency(30 * time.Millisecond)})
	s.api.Endpoint, s.v3Endpoint = d.server.URL, d.server.URL3
	s.given = given{}
	s.api.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}

	var retire <-chan time.Time // nil for never
	if s.demoRetireAfter > 0 {
		retire = time.After(s.demoRetireAfter)
	}
	d.done.Go(func() {
		tick := time.NewTicker(demoTick)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-retire:
				d.server.Inject(crsapitest.Fault{API: string(crsapi.API20), Do: crsapitest.RetiredForbidden})
			case now := <-tick.C:
				for _, region := range regions {
					d.server.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
						return d.advance(region, tasks, now)
					})
				}
			}
		}
	})
	return d
}

func (d *demo) stop() {
	d.cancel()
	d.done.Wait()
	d.server.Close()
}

func announceDemo(logger log.Logger, s *settings) {
	host, port, err := net.SplitHostPort((*s.web.WebListenAddresses)[0])
	if err != nil || host == "" {
		host = "localhost"
	}
	url := "http://" + net.JoinHostPort(host, port) + s.routePrefix
	level.Info(logger).Log("msg", "demo of a simulated CRS: open "+url+"/ or "+url+s.telemetryPath)
}

// demoInstance is an instance and how its backups end.
type demoInstance struct {
	name   string
	backup func(*rand.Rand) crsapi.Status // StatusExecuting for a backup that never ends
}

func demoInstances() []demoInstance {
	mostly := func(end crsapi.Status, oneIn int) func(*rand.Rand) crsapi.Status {
		return func(r *rand.Rand) crsapi.Status {
			if r.IntN(oneIn) == 0 {
				return end
			}
			return crsapi.StatusSucceeded
		}
	}
	return []demoInstance{
		{"sessions", mostly(crsapi.StatusFailed, 40)},
		{"carts", mostly(crsapi.StatusFailed, 4)},
		{"ranking", mostly(crsapi.StatusError, 6)},
		{"search", func(*rand.Rand) crsapi.Status { return crsapi.StatusFailed }},
		{"mail queue", mostly(crsapi.StatusExecuting, 30)},
	}
}

func demoID(region string, i int) string {
	return fmt.Sprintf("crs-%s%04d", region[len(region)-4:], i+1)
}

func (d *demo) task(region string, i int, name string, start time.Time, status crsapi.Status) crsapi.Task {
	t := crsapi.Task{
		RedisID: demoID(region, i), RedisName: demoInstances()[i].name, ProjectID: "0",
		TaskName: name, StartTime: start.Truncate(time.Second).UTC(), Status: status,
	}
	if status == crsapi.StatusSucceeded {
		t.Progress = 1
	}
	if status != crsapi.StatusPending && status != crsapi.StatusExecuting {
		t.EndTime = t.StartTime.Add(time.Duration(20+d.random.IntN(200)) * time.Second)
	}
	return t
}

// history returns a backup of each instance every three hours, newest first.
func (d *demo) history(region string, now time.Time) []crsapi.Task {
	var tasks []crsapi.Task
	for age := 10 * time.Minute; age < demoHistory; age += 3 * time.Hour {
		for i, instance := range demoInstances() {
			end := instance.backup(d.random)
			if end == crsapi.StatusExecuting {
				end = crsapi.StatusSucceeded // only new backups may hang
			}
			tasks = append(tasks, d.task(region, i, autoBackup, now.Add(-age), end))
		}
	}
	return append(tasks, d.task(region, 0, "newInstance", now.Add(-demoHistory), crsapi.StatusSucceeded))
}

// advance returns the list one tick later: pending tasks begin, executing tasks
// may end, and sometimes a task is submitted.
func (d *demo) advance(region string, tasks []crsapi.Task, now time.Time) []crsapi.Task {
	instances := demoInstances()
	busy := make(map[string]bool)
	for n := range tasks {
		t := &tasks[n]
		switch t.Status {
		case crsapi.StatusPending:
			t.Status = crsapi.StatusExecuting
		case crsapi.StatusExecuting:
			if d.random.IntN(3) == 0 {
				t.Status = crsapi.StatusSucceeded
				for i, instance := range instances {
					if t.RedisID == demoID(region, i) && (t.TaskName == backupInstance || t.TaskName == autoBackup) {
						t.Status = instance.backup(d.random)
					}
				}
				if t.Status != crsapi.StatusExecuting {
					t.EndTime = now.Truncate(time.Second).UTC()
				}
				if t.Status == crsapi.StatusSucceeded {
					t.Progress = 1
				}
			} else {
				t.Progress = min(t.Progress+0.2, 0.9)
			}
		}
		if t.Status == crsapi.StatusExecuting || t.Status == crsapi.StatusPending {
			busy[t.RedisID] = true
		}
	}
	i := d.random.IntN(len(instances))
	if name := d.nextTask(); !busy[demoID(region, i)] {
		tasks = append([]crsapi.Task{d.task(region, i, name, now, crsapi.StatusPending)}, tasks...)
	}
	return tasks[:min(len(tasks), demoListed)]
}

func (d *demo) nextTask() string {
	switch d.random.IntN(10) {
	case 0:
		return "restoreBackup"
	case 1:
		return "resizeInstance"
	case 2:
		return "cleanInstance"
	case 3:
		return backupInstance
	}
	return autoBackup
}
