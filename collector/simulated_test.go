package collector_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestRegionInTroubleAffectsNoOther(t *testing.T) {
	for reason, fault := range map[crsapi.Reason]crsapitest.Effect{
		crsapi.ReasonServer:    crsapitest.HTTPStatus(http.StatusBadGateway),
		crsapi.ReasonTimeout:   crsapitest.Hang,
		crsapi.ReasonAuth:      crsapitest.APIError(4100),
		crsapi.ReasonDenied:    crsapitest.APIError(4102),
		crsapi.ReasonThrottled: crsapitest.APIError(4400),
		crsapi.ReasonDecode:    crsapitest.Total(func(total int) int { return total + 50 }), // does not add up
		crsapi.ReasonNetwork:   crsapitest.ResetBeforeHeaders,
	} {
		t.Run(string(reason), func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				s := newSimulator(t, api)
				for _, region := range []string{guangzhou, shanghai} {
					s.SetTasks(region, crsapitest.Generate(250, 5, 1))
				}
				e := s.watch(t, collector.Config{}, guangzhou, shanghai)
				before := scrape(t, e)
				before.wantUp(t, guangzhou, shanghai)

				stop := s.Inject(crsapitest.Fault{Region: guangzhou, Do: fault})
				begin := time.Now()
				during := scrape(t, e)
				if took := time.Since(begin); took > 9500*time.Millisecond {
					t.Errorf("the scrape took %s", took)
				}
				during.want(t, samples{`crs_up{region="ap-guangzhou"}`: "0", `crs_up{region="ap-shanghai"}`: "1"})
				wantEqual(t, "the lists", during.listed(), before.in(shanghai).listed())
				wantEqual(t, "the counters", during.transitions(), before.transitions())
				for series := range during.of("crs_api_failures_total").nonzero() {
					if series != failuresOf(reason) {
						t.Errorf("%s is not 0", series)
					}
				}
				if during[failuresOf(reason)] == "0" {
					t.Errorf("no failure of reason %s", reason)
				}
				stop()
				poll(t, e, time.Minute) // a poll may still be in progress
				wantEqual(t, "after recovery", scrape(t, e).listed(), before.listed())
			})
		})
	}
}

func failuresOf(reason crsapi.Reason) string {
	return fmt.Sprintf("crs_api_failures_total{reason=%q,region=%q}", reason, guangzhou)
}

// A retired API is replaced in one region, and is not requested again there.
func TestEveryKindOfRetirementLeadsToAPI30(t *testing.T) {
	for _, kind := range []crsapitest.Effect{crsapitest.RetiredForbidden, crsapitest.RetiredVersion, crsapitest.RetiredEnvelope} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSimulator(t, crsapi.API20, crsapi.API30)
				for _, region := range []string{guangzhou, shanghai} {
					s.SetTasks(region, crsapitest.Generate(250, 5, 1))
				}
				e := s.watch(t, collector.Config{}, guangzhou, shanghai)
				before := scrape(t, e)
				s.Inject(crsapitest.Fault{API: "2.0", Region: guangzhou, Do: kind})
				during := scrape(t, e)
				during.want(t, samples{
					`crs_up{region="ap-guangzhou"}`:                 "1",
					`crs_api_info{api="3.0",region="ap-guangzhou"}`: "1",
					`crs_api_info{api="2.0",region="ap-shanghai"}`:  "1",
				})
				retired := failuresOf(crsapi.ReasonRetired)
				if during[retired] == "0" { // several, if its windows were requested side by side
					t.Error("no request was refused")
				}
				wantEqual(t, "the other region", during.in(shanghai).listed(), before.in(shanghai).listed())
				scrape(t, e).want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", retired: during[retired]})
			})
		})
	}
}

// simulatedState is a simulator with a state file.
type simulatedState struct {
	restarting
	*simulator
	tasks []crsapi.Task
}

func newSimulatedState(t *testing.T, api crsapi.API) *simulatedState {
	s := &simulatedState{simulator: newSimulator(t, api)}
	s.start(t, s.dial)
	return s
}

// fail lists another failed backup of an instance, submitted five seconds ago.
func (s *simulatedState) fail(redisID string) {
	s.tasks = append([]crsapi.Task{backupOf(redisID, 5*time.Second, crsapi.StatusFailed)}, s.tasks...)
	s.SetTasks(guangzhou, s.tasks)
}

// Dates are ten years behind until the third poll, then right, 40 days ahead for
// one poll, and behind again, as our clock may be where answers have no Date
// header. Each list is whole, and each failure after the first list counts once,
// with and without a restart at each step.
func TestDatesJump(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarts %t", restarts), func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				s := newSimulatedState(t, api)
				s.fail("crs-a")
				for n, skew := range []time.Duration{-3650 * day, -3650 * day, 0, 40 * day, 0, 0, -3650 * day, 0} {
					s.ClearFaults()
					s.Inject(crsapitest.Fault{Do: crsapitest.DateSkew(skew)})
					for range 2 { // one of each Prometheus server
						s.scrape().want(t, samples{
							`crs_up{region="ap-guangzhou"}`:                     "1",
							fmt.Sprintf(tasksSeries, "crs-a", "failed", backup): strconv.Itoa(n + 1),
							transitions("crs-a", backup, "failed"):              strconv.Itoa(n),
						})
					}
					if restarts {
						s.restart()
					}
					time.Sleep(15 * time.Second)
					s.fail("crs-a")
				}
			})
		})
	}
}

// Two Prometheus servers, which share a poll or not: both see the 0 of a new
// series before it counts, also where a restart comes between.
func TestBothServersSeeTheFirstZero(t *testing.T) {
	for _, shared := range []time.Duration{0, 10 * time.Second} { // --scrape.min-interval
		for _, restart := range []int{-1, 1, 2} { // after so many scrapes of the new series
			t.Run(fmt.Sprintf("share polls for %s, restart after %d", shared, restart), func(t *testing.T) {
				eachAPI(t, func(t *testing.T, api crsapi.API) {
					s := newSimulatedState(t, api)
					s.cfg.MinInterval = shared
					s.restart()
					s.fail("crs-a")
					s.scrape()
					s.fail("crs-b")
					time.Sleep(15 * time.Second)
					var servers [2][]string // what each saw
					for n := range 8 {
						if n == restart {
							s.restart()
						}
						servers[n%2] = append(servers[n%2], s.scrape()[transitions("crs-b", backup, "failed")])
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
}
