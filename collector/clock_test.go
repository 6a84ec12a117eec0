package collector_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

const day = 24 * time.Hour

// jump returns t with another wall clock and the same monotonic clock, as after
// a step of the system's clock.
func jump(t *testing.T, at time.Time, by time.Duration) time.Time {
	jumped := at
	// The wall clock is in the seconds since 1885 above 30 bits of nanoseconds.
	wall := (*uint64)(unsafe.Pointer(&jumped))
	*wall += uint64(by/time.Second) << 30
	if jumped.Sub(at) != 0 || jumped.Unix()-at.Unix() != int64(by/time.Second) {
		t.Fatal("time.Time has another layout now: adapt this helper")
	}
	return jumped
}

// The API's time goes on from its last Date header, wherever our clock jumps.
func TestDateOfTheAPI(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Minute, -time.Hour, 3650 * day} {
		for _, by := range []time.Duration{0, -3650 * day, 40 * day} {
			begin := time.Now()
			date := collector.DateAfter(crsapi.Attempt{HasClockSkew: true, ClockSkew: skew}, func() time.Time {
				return jump(t, time.Now().Add(time.Hour), by)
			})
			if late := date.Round(0).Sub(begin.Add(time.Hour + skew).Round(0)); late < 0 || late > time.Minute {
				t.Errorf("skew %s, jump %s: %s late", skew, by, late)
			}
		}
	}
	now := time.Now()
	if date := collector.DateAfter(crsapi.Attempt{}, func() time.Time { return now }); !date.Equal(now) {
		t.Errorf("without a Date header: %s, want our time %s", date, now)
	}
}

// restarting is an exporter with a state file that watches a simulator.
type restarting struct {
	t      *testing.T
	server *crsapitest.Server
	tasks  []crsapi.Task
	cfg    collector.Config
	e      *collector.Exporter
}

func newRestarting(t *testing.T, api crsapi.API) *restarting {
	w := &restarting{t: t, server: crsapitest.NewMemoryServer()}
	t.Cleanup(w.server.Close)
	w.cfg = collector.Config{
		StateFile: filepath.Join(t.TempDir(), "state"),
		Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
			return dialSimulated(w.server, region, observe, api)
		},
	}
	w.restart()
	return w
}

func (w *restarting) restart() {
	w.t.Helper()
	if w.e != nil {
		w.e.Close()
	}
	w.e = newExporter(w.t, w.cfg, map[string]collector.Source{guangzhou: nil})
}

// fail lists another failed backup of an instance, submitted five seconds ago.
func (w *restarting) fail(redisID string) {
	failed := crsapi.Task{
		RedisID: redisID, RedisName: "x", ProjectID: "0", TaskName: backup,
		StartTime: time.Now().Add(-5 * time.Second).Truncate(time.Second).UTC(), Status: crsapi.StatusFailed,
	}
	w.tasks = append([]crsapi.Task{failed}, w.tasks...)
	w.server.SetTasks(guangzhou, w.tasks)
}

// Dates are ten years behind until the third poll, then right, 40 days ahead for
// one poll, and behind again, as our clock may be where answers have no Date
// header. Each list is whole, and each failure after the first list counts once,
// with and without a restart at each step.
func TestDatesJump(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarts %t", restarts), func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				w := newRestarting(t, api)
				w.fail("crs-a")
				for n, skew := range []time.Duration{-3650 * day, -3650 * day, 0, 40 * day, 0, 0, -3650 * day, 0} {
					w.server.ClearFaults()
					w.server.Inject(crsapitest.Fault{Do: crsapitest.DateSkew(skew)})
					for range 2 { // one of each Prometheus server
						got := scrape(t, w.e)
						got.want(t, samples{
							`crs_up{region="ap-guangzhou"}`:                     "1",
							fmt.Sprintf(tasksSeries, "crs-a", "failed", backup): strconv.Itoa(n + 1),
							transitions("crs-a", backup, "failed"):              strconv.Itoa(n),
						})
					}
					if restarts {
						w.restart()
					}
					time.Sleep(15 * time.Second)
					w.fail("crs-a")
				}
			})
		})
	}
}
