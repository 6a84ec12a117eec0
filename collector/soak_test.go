//go:build soak

package collector_test

import (
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

const (
	soakScrapes  = 240     // of each list: an hour
	soakHeadroom = 4 << 20 // bytes by which the heap may grow after a quarter of the scrapes
)

// soakFaults are injected. Faults that a single response does not show are not
// among them.
var soakFaults = []crsapitest.Effect{
	crsapitest.APIError(4100), crsapitest.APIError(4200), crsapitest.APIError(4300), crsapitest.APIError(4400), crsapitest.APIError(6000),
	crsapitest.Envelope("InternalError", "x"), crsapitest.Redirect("http://localhost:9/"),
	crsapitest.HTTPStatus(http.StatusBadGateway), crsapitest.HTTPStatus(http.StatusTooManyRequests), crsapitest.HTTPStatus(http.StatusOK),
	crsapitest.Hang, crsapitest.Latency(30 * time.Millisecond), crsapitest.SlowBody(64, 10*time.Millisecond),
	crsapitest.ResetBeforeHeaders, crsapitest.ResetAfterHeaders, crsapitest.ResetMidBody,
	crsapitest.ShortBody, crsapitest.TruncatedJSON, crsapitest.Body("{}"),
	crsapitest.PageCap(7), crsapitest.RoundOffsets, crsapitest.IgnoreOffset, crsapitest.NumbersAsText, crsapitest.TotalAsText,
}

// soakLies are false totals.
var soakLies = []crsapitest.Effect{
	crsapitest.Total(func(total int) int { return total + 1 }),
	crsapitest.Total(func(total int) int { return total - 1 }),
	crsapitest.Total(func(int) int { return -1 }),
	crsapitest.Total(func(total int) int { return total - 2 + rand.IntN(5) }),
}

// TestSoak scrapes lists that change, while faults come and go. No scrape shows a wrong
// list, no end of a task is lost or counted twice, and neither memory nor goroutines leak:
// the bubble waits for all of them.
func TestSoak(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for seed := range uint64(3) {
			calls, heap := 0, uint64(0)
			server := newSimulator(t, api)
			up := scrapeMoving(t, server, collector.SyncAuto, seed, soakScrapes, func(l *movingList) float64 {
				if calls++; calls == soakScrapes/4 {
					heap = heapInUse()
				}
				rate, fault := []float64{0, 0, 0.1}[l.luck.IntN(3)], crsapitest.Fault{}
				switch n := l.luck.IntN(2 * (len(soakFaults) + len(soakLies))); {
				case n < len(soakFaults):
					fault.Do = soakFaults[n]
				case n < len(soakFaults)+len(soakLies) && l.up && len(l.versions) == 1:
					// If the list had changed as much as the total is wrong, the list
					// before would look whole, and nothing would show that it is not.
					rate, fault.Do = -1, soakLies[n-len(soakFaults)]
				default:
					return rate
				}
				switch l.luck.IntN(3) {
				case 0:
					fault.Rate = 0.5
				case 1:
					fault.Rate, fault.Count = 0.3, 1+l.luck.IntN(3)
				}
				t.Logf("%+v", fault)
				server.Inject(fault)
				return rate
			})
			if now := heapInUse(); now > heap+soakHeadroom {
				t.Errorf("heap in use is %d bytes at the end, %d after a quarter", now, heap)
			}
			t.Logf("API %s, list %d: %d of %d scrapes were up", api, seed, up, soakScrapes)
		}
	})
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // frees what a sync.Pool holds
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
