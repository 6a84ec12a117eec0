package collector

import (
	"context"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
)

// WaitSaved waits as a scrape does whose polls have ended, with one region for
// each write.
func WaitSaved(ctx context.Context, writes ...<-chan struct{}) error {
	store, err := ledger.Open("", log.NewNopLogger())
	if err != nil {
		return err
	}
	results := &Results{}
	for _, write := range writes {
		results.regions = append(results.regions, regionResult{region: &region{store: store}, outcome: &outcome{saving: write}})
	}
	results.waitSaved(ctx)
	return nil
}

// DateAfter returns the time of the API's clock at a time after an attempt.
func DateAfter(a crsapi.Attempt, now func() time.Time) time.Time {
	r := newRequestMetrics().of("")
	r.observe(a)
	return r.clock.Time(now())
}
