package collector_test

import (
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCredentialsCollector(t *testing.T) {
	at := time.Unix(1_700_000_000, 500_000_000)
	for name, test := range map[string]struct {
		lastLoad, expiry time.Time
		want             map[string]string
	}{
		"not read yet": {time.Time{}, time.Time{}, nil},
		"file":         {at, time.Time{}, map[string]string{"last_load": "1.7000000005e+09"}},
		"role":         {at, at.Add(time.Hour), map[string]string{"last_load": "1.7000000005e+09", "expiry": "1.7000036005e+09"}},
	} {
		t.Run(name, func(t *testing.T) {
			var want strings.Builder
			for _, m := range collector.RegisteredMetrics() {
				if value, ok := test.want[strings.TrimSuffix(strings.TrimPrefix(m.Name, "crs_credentials_"), "_timestamp_seconds")]; ok {
					want.WriteString("# HELP " + m.Name + " " + m.Help + "\n# TYPE " + m.Name + " " + m.Type + "\n" + m.Name + " " + value + "\n")
				}
			}
			c := collector.NewCredentialsCollector(func() (time.Time, time.Time) { return test.lastLoad, test.expiry })
			if err := testutil.CollectAndCompare(c, strings.NewReader(want.String())); err != nil {
				t.Error(err)
			}
			if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
				t.Errorf("%v, %v", problems, err)
			}
		})
	}
}
