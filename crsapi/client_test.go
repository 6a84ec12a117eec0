package crsapi_test

import (
	"errors"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"golang.org/x/time/rate"
)

// TestConfigErrors has invalid values of fields, and valid ones next to them.
func TestConfigErrors(t *testing.T) {
	const (
		badURL  = "must be an http or https URL with only a host and a path"
		badPath = "must have the path / with API"
		badRate = "must allow more than 0 requests per second"
		badZone = "must be from -12h to 14h in whole minutes, not "
	)
	of2 := []crsapi.API{two}
	for _, test := range []struct {
		apis  []crsapi.API
		field string
		value any    // nil for the zero value
		want  string // empty if valid; API is the API
	}{
		{allAPIs, "API", nil, `must be 2.0, 3.0 or tce, not ""`},
		{allAPIs, "Credentials", nil, "must not be nil"},

		{allAPIs, "Region", "", "must not be empty"},
		{bothOf3, "Region", "r\r\nX: y", `must have only letters, digits and hyphens, not "r\r\nX: y"`},
		{of2, "Region", "r.1_x", ""},

		{allAPIs, "Endpoint", "", badURL},
		{allAPIs, "Endpoint", "redis.api.qcloud.com", badURL},
		{allAPIs, "Endpoint", "https://u:canary@h/", badURL},
		{allAPIs, "Endpoint", "https://h/?a=canary", badURL},
		{allAPIs, "Endpoint", "https://h/#canary", badURL},
		{allAPIs, "Endpoint", "https://h/ ", badURL},
		{allAPIs, "Endpoint", "https://h:{region}/", badURL},
		{of2, "Endpoint", "https://redis.{region}.tencentcloudapi.com/", badURL},
		{bothOf3, "Endpoint", "https://h/v2/index.php", badPath},
		{bothOf3, "Endpoint", "https://h/{region}", badPath},
		{allAPIs, "Endpoint", "http://h:8080", ""},

		{of2, "Method", "", `must be GET or POST, not ""`},
		{bothOf3, "Method", http.MethodGet, `must be POST with API, not "GET"`},
		{allAPIs, "Method", http.MethodPost, ""},

		{of2, "PageSize", 0, "must be from 1 to 1000, not 0"},
		{of2, "PageSize", 1000, ""},
		{bothOf3, "PageSize", 101, "must be from 1 to 100, not 101"},
		{allAPIs, "Concurrency", 0, "must be from 1 to 256, not 0"},
		{allAPIs, "Concurrency", 256, ""},
		{allAPIs, "Concurrency", 257, "must be from 1 to 256, not 257"},
		{allAPIs, "Limiter", nil, ""},
		{allAPIs, "Limiter", rate.NewLimiter(0, 1), badRate},
		{allAPIs, "Limiter", crsapi.NewLimiter(math.NaN()), badRate},
		{allAPIs, "Limiter", rate.NewLimiter(1, 0), "must have a burst of 1 or more, not 0"},
		{allAPIs, "RequestTimeout", time.Duration(0), "must be from 1ms to 1h, not 0s"},
		{allAPIs, "RequestTimeout", time.Hour + 1, "must be from 1ms to 1h, not 1h0m0.000000001s"},
		{allAPIs, "UTCOffset", -12 * time.Hour, ""},
		{allAPIs, "UTCOffset", -13 * time.Hour, badZone + "-13h0m0s"},
		{allAPIs, "UTCOffset", 15 * time.Hour, badZone + "15h0m0s"},
		{allAPIs, "UTCOffset", time.Second, badZone + "1s"},
	} {
		for _, api := range test.apis {
			cfg := minimalConfig(api)
			field := reflect.ValueOf(&cfg).Elem().FieldByName(test.field)
			if field.SetZero(); test.value != nil {
				field.Set(reflect.ValueOf(test.value))
			}
			_, err := crsapi.NewClient(cfg)
			want := crsapi.ConfigError{Field: test.field, Problem: strings.ReplaceAll(test.want, "with API", "with API "+string(api))}
			var invalid *crsapi.ConfigError
			if test.want != "" && (!errors.As(err, &invalid) || *invalid != want || err.Error() != want.Field+" "+want.Problem) || test.want == "" && err != nil {
				t.Errorf("API %s, %s %v: got %#v, want %q", api, test.field, test.value, err, test.want)
			}
		}
	}
}
