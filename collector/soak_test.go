//go:build soak

package collector_test

import (
	"fmt"
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
	soakScrapes  = 240     // through each API: an hour
	soakHeadroom = 4 << 20 // bytes by which the heap may grow after a quarter of the scrapes
)

// soakFaults are applied to regions. Faults that a single response does not show are not
// among them.
var soakFaults = []crsapitest.Effect{
	crsapitest.APIError(4100),
	crsapitest.APIError(4200),
	crsapitest.APIError(4300),
	crsapitest.APIError(4400),
	crsapitest.APIError(6000),
	crsapitest.Envelope("InternalError", "x"),
	crsapitest.HTTPStatus(http.StatusBadGateway),
	crsapitest.HTTPStatus(http.StatusTooManyRequests),
	crsapitest.HTTPStatus(http.StatusOK),
	crsapitest.Redirect("http://localhost:9/"),
	crsapitest.Hang,
	crsapitest.Latency(30 * time.Millisecond),
	crsapitest.SlowBody(64, 10*time.Millisecond),
	crsapitest.ResetBeforeHeaders,
	crsapitest.ResetAfterHeaders,
	crsapitest.ResetMidBody,
	crsapitest.ShortBody,
	crsapitest.TruncatedJSON,
	crsapitest.Body("{}"),
	crsapitest.PageCap(7),
	crsapitest.RoundOffsets,
	crsapitest.IgnoreOffset,
	crsapitest.NumbersAsText,
	crsapitest.TotalAsText,
}

// soakLies are false totals.
var soakLies = []crsapitest.Effect{
	crsapitest.Total(func(total int) int { return total + 1 }),
	crsapitest.Total(func(total int) int { return total - 1 }),
	crsapitest.Total(func(int) int { return -1 }),
	crsapitest.Total(func(total int) int { return total - 2 + rand.IntN(5) }),
}

// TestSoak scrapes three regions whose lists change, while faults come and go. No scrape
// shows a wrong list, no end of a task is lost or counted twice, and neither memory nor
// goroutines leak: the bubble waits for all of them.
func TestSoak(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		server := newSimulator(t, api)
		server.pageSize = 10
		regions := []string{guangzhou, shanghai, "ap-beijing"}
		e := server.watch(t, collector.Config{}, regions...)
		var lists []*movingList
		for i, region := range regions {
			lists = append(lists, newMovingList(server, region, uint64(i)))
		}
		for range 2 {
			got := scrape(t, e)
			for _, l := range lists {
				if !l.check(t, got) {
					t.Fatalf("%s is down before any fault", l.region)
				}
			}
		}
		server.OnRequest(func(r crsapitest.Request) {
			for _, l := range lists {
				l.onRequest(r)
			}
		})
		luck := rand.New(rand.NewPCG(4, 4))
		failed, heap := 0, uint64(0)
		for i := range soakScrapes {
			var injected []string
			for _, l := range lists {
				rate, fault := []float64{0, 0, 0.1}[luck.IntN(3)], crsapitest.Fault{Region: l.region}
				switch n := luck.IntN(3 * (len(soakFaults) + len(soakLies))); {
				case n < len(soakFaults):
					fault.Do = soakFaults[n]
				case n < len(soakFaults)+len(soakLies) && l.up && len(l.versions) == 1:
					// If the list had changed as much as the total is wrong, the list
					// before would look whole, and nothing would show that it is not.
					rate, fault.Do = -1, soakLies[n-len(soakFaults)]
				}
				l.begin(rate)
				if fault.Do == nil {
					continue
				}
				switch luck.IntN(3) {
				case 0:
					fault.Rate = 0.5
				case 1:
					fault.Skip, fault.Count = luck.IntN(4), 1+luck.IntN(3)
				}
				server.Inject(fault)
				injected = append(injected, fmt.Sprintf("%+v", fault))
			}
			got := scrape(t, e)
			for _, l := range lists {
				if !l.check(t, got) {
					failed++
				}
			}
			server.ClearFaults()
			if t.Failed() {
				t.Fatalf("at scrape %d with %v", i, injected)
			}
			if i == soakScrapes/4 {
				heap = heapInUse()
			}
			time.Sleep(15 * time.Second)
		}
		got := atRest(t, e, lists...)
		for _, l := range lists {
			l.wantHistory(t, got)
		}
		if now := heapInUse(); now > heap+soakHeadroom {
			t.Errorf("heap in use is %d bytes at the end, %d after a quarter", now, heap)
		}
		fmt.Printf("API %s: %d scrapes, %d polls failed\n", api, soakScrapes, failed)
	})
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // frees what a sync.Pool holds
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
