package collector_test

import (
	"fmt"
	"net/http"
	"testing"
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
				failed := during.of("crs_api_failures_total").nonzero()
				if len(failed) != 1 || failed[failuresOf(reason)] == "" {
					t.Errorf("failures %v, want some of reason %s", failed, reason)
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
