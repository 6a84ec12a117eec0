package collector_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestRequestsOfEachRegion(t *testing.T) {
	source := &fakeSource{list: list()}
	e := newExporter(t, collector.Config{}, sources{guangzhou: source, shanghai: {list: list()}})
	before := scrape(t, e)
	wantEqual(t, "the clock skew before it is known", before.of("crs_api_clock_skew_seconds"), samples{})
	if got := before.of("crs_api_failures_total"); len(got) != 2*len(crsapi.Reasons()) || len(got.nonzero()) != 0 {
		t.Errorf("at first the failures are %v, want a 0 for each region and reason", got)
	}

	source.observe(crsapi.Attempt{Duration: 20 * time.Millisecond, HasClockSkew: true, ClockSkew: -90 * time.Second})
	source.observe(crsapi.Attempt{Duration: 30 * time.Millisecond, Reason: crsapi.ReasonThrottled})
	source.observe(crsapi.Attempt{Action: crsapi.ActionTaskInfo, Reason: crsapi.ReasonDenied}) // harms no list
	after := scrape(t, e)
	wantEqual(t, "requests", after.of("crs_api_requests_total", "crs_api_clock_skew_seconds", "crs_api_request_duration_seconds_sum"), samples{
		`crs_api_requests_total{region="ap-guangzhou"}`:               "3",
		`crs_api_requests_total{region="ap-shanghai"}`:                "0",
		`crs_api_clock_skew_seconds{region="ap-guangzhou"}`:           "-90",
		`crs_api_request_duration_seconds_sum{region="ap-guangzhou"}`: "0.05",
		`crs_api_request_duration_seconds_sum{region="ap-shanghai"}`:  "0",
	})
	wantEqual(t, "failures", after.of("crs_api_failures_total").nonzero(), samples{
		`crs_api_failures_total{reason="throttled",region="ap-guangzhou"}`: "1",
	})
}

func TestDelayOfANewTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const series = `crs_task_first_seen_delay_seconds{region="ap-guangzhou"}`
		ago := func(age time.Duration) crsapi.Task { return backupOf("crs-a", age, crsapi.StatusSucceeded) }
		first, future := ago(2*time.Hour), ago(-8*time.Hour)
		source := &fakeSource{list: list(first)}
		e := watch(t, source)
		// A task of the first list may have been listed for long, unless it is of the future.
		scrape(t, e).want(t, samples{series: ""})
		shown(t, future).want(t, samples{series: "-28800"})
		for _, step := range []struct {
			wait   time.Duration
			newest crsapi.Task
			want   string
		}{
			{0, ago(time.Hour), "3600"},
			{0, ago(time.Hour), "3600"}, // a minute later
			{0, ago(time.Minute), "180"},
			{0, first, "180"},                                 // the newest left
			{29 * time.Minute, ago(-20 * time.Minute), "180"}, // it may have been listed for long
			{0, ago(-30 * time.Minute), "240"},
			{29 * time.Minute, future, "-24960"},
		} {
			time.Sleep(step.wait)
			source.set(list(step.newest, first), nil)
			scrape(t, e).want(t, samples{series: step.want})
			time.Sleep(time.Minute)
		}
		source.set(nil, errors.New("strange"))
		scrape(t, e).want(t, samples{series: "-24960"})
	})
}
