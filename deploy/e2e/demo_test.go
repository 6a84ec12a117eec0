package e2e

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest/demo"
	"github.com/prometheus/prometheus/util/teststorage"
)

// TestEachAlertHasItsExample evaluates the rules with what an exporter with an inventory shows
// of the demo, whatever the time of day when the demo starts, and two hours later.
func TestEachAlertHasItsExample(t *testing.T) {
	want := []string{
		"CRSBackupFailed crs-zhou0006", "CRSBackupFailed crs-zhou0008",
		"CRSBackupMissing crs-zhou0006", "CRSBackupMissing crs-zhou0009", "CRSBackupMissing crs-zhou0014", // which has no task
		"CRSBackupStuck crs-zhou0007", "CRSTaskFailed crs-zhou0010", "CRSTaskStatusUnknown crs-zhou0012", "CRSTaskStuck crs-zhou0011",
	}
	for hour := 0; hour < 24; hour += 3 {
		store := teststorage.New(t)
		for _, shown := range scrapeDemo(t, time.Duration(hour)*time.Hour+17*time.Minute) {
			compare(t, "alerts at "+shown.at.String(), evaluateShown(t, store, shown), want)
			if n := strings.Count(shown.text, "\ncrs_instance_info{"); n != 22 {
				t.Errorf("%d instances", n)
			}
		}
	}
}

// shown is what a scrape shows.
type shown struct {
	at   time.Time
	text string
}

// scrapeDemo starts the demo at a time of day, and scrapes it then and two hours later.
func scrapeDemo(t *testing.T, at time.Duration) (scrapes []shown) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(at)
		server := crsapitest.NewMemoryServer()
		defer server.Close()
		var configs []crsapi.Config
		for i, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			cfg := crsapi.DefaultConfig(api)
			cfg.Endpoint, cfg.Transport = []string{server.URL, server.URL3}[i], server.Client().Transport
			cfg.Credentials = credentials.Static{SecretID: demo.SecretID, SecretKey: demo.SecretKey}
			configs = append(configs, cfg)
		}
		e, err := collector.New(collector.Config{Regions: demo.Regions(), Dial: collector.DialAPIs(configs...), Inventory: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		start := time.Now()
		for range 2 {
			for n, region := range demo.Regions() {
				server.SetInstances(region, demo.Instances(region, n, start))
				server.SetTasks(region, demo.Tasks(region, n, 8*time.Hour, start, time.Now()))
			}
			e.Poll(t.Context())
			synctest.Wait() // for the inventory
			answer := httptest.NewRecorder()
			e.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			scrapes = append(scrapes, shown{time.Now(), answer.Body.String()})
			time.Sleep(2*time.Hour + 10*time.Minute) // no backup by hand has just failed
		}
	})
	return scrapes
}

// evaluateShown stores what a scrape shows, and returns the alerts of which the conditions hold.
func evaluateShown(t *testing.T, store *teststorage.TestStorage, shown shown) (alerts []string) {
	t.Helper()
	app := store.Appender(t.Context())
	for line := range strings.Lines(shown.text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		number, err := strconv.ParseFloat(value, 64)
		if strings.HasPrefix(line, "#") || err != nil {
			continue // the Go runtime has no labels
		}
		metric, err := syntax.ParseMetric(series + "}")
		if err == nil {
			_, err = app.Append(0, metric, shown.at.UnixMilli(), number)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	return evaluateRules(t, store, shown.at)
}
