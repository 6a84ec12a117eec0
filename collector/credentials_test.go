package collector_test

import (
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
)

func TestCredentialsCollector(t *testing.T) {
	const load, expiry = "crs_credentials_last_load_timestamp_seconds", "crs_credentials_expiry_timestamp_seconds"
	at := time.Unix(1_700_000_000, 500_000_000)
	var lastLoad, expires time.Time
	e := watch(t, &fakeSource{list: list()})
	if err := e.Register(collector.NewCredentialsCollector(func() (time.Time, time.Time) { return lastLoad, expires })); err != nil {
		t.Fatal(err)
	}
	scrape(t, e).want(t, samples{load: "", expiry: ""})
	lastLoad = at
	scrape(t, e).want(t, samples{load: "1.7000000005e+09", expiry: ""})
	expires = at.Add(time.Hour)
	scrape(t, e).want(t, samples{load: "1.7000000005e+09", expiry: "1.7000036005e+09"})
}
