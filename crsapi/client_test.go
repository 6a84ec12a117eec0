package crsapi_test

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"golang.org/x/time/rate"
)

// TestConfigErrors has invalid fields, and valid ones next to them.
func TestConfigErrors(t *testing.T) {
	const (
		badURL  = "Endpoint must be an http or https URL with only a host and a path"
		badPath = "Endpoint must have the path / with API"
		badRate = "Limiter must allow more than 0 requests per second"
		badZone = "UTCOffset must be from -12h to 14h in whole minutes, not "
	)
	of2 := []crsapi.API{two}
	region := func(s string) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Region = s } }
	endpoint := func(s string) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Endpoint = s } }
	method := func(s string) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Method = s } }
	pageSize := func(n int) func(*crsapi.Config) { return func(c *crsapi.Config) { c.PageSize = n } }
	limiter := func(l *rate.Limiter) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Limiter = l } }
	concurrency := func(n int) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Concurrency = n } }
	timeout := func(d time.Duration) func(*crsapi.Config) { return func(c *crsapi.Config) { c.RequestTimeout = d } }
	offset := func(d time.Duration) func(*crsapi.Config) { return func(c *crsapi.Config) { c.UTCOffset = d } }
	for name, test := range map[string]struct {
		apis   []crsapi.API
		change func(*crsapi.Config)
		want   string // empty if valid; API is the API
	}{
		"defaults":       {allAPIs, func(*crsapi.Config) {}, ""},
		"no API":         {allAPIs, func(c *crsapi.Config) { c.API = "" }, `API must be 2.0, 3.0 or tce, not ""`},
		"no credentials": {allAPIs, func(c *crsapi.Config) { c.Credentials = nil }, "Credentials must not be nil"},

		"no region":        {allAPIs, region(""), "Region must not be empty"},
		"region with a CR": {bothOf3, region("r\r\nX: y"), `Region must have only letters, digits and hyphens, not "r\r\nX: y"`},
		"any region, 2.0":  {of2, region("r.1_x"), ""},

		"no endpoint":          {allAPIs, endpoint(""), badURL},
		"no scheme":            {allAPIs, endpoint("redis.api.qcloud.com"), badURL},
		"password":             {allAPIs, endpoint("https://u:canary@h/"), badURL},
		"URL query":            {allAPIs, endpoint("https://h/?a=canary"), badURL},
		"URL fragment":         {allAPIs, endpoint("https://h/#canary"), badURL},
		"path, 3.0":            {bothOf3, endpoint("https://h/v2/index.php"), badPath},
		"no path":              {allAPIs, endpoint("http://h:8080"), ""},
		"{region}, 2.0":        {of2, endpoint("https://redis.{region}.tencentcloudapi.com/"), badURL},
		"{region} in the path": {bothOf3, endpoint("https://h/{region}"), badPath},
		"{region} as the port": {allAPIs, endpoint("https://h:{region}/"), badURL},
		"a space at the end":   {allAPIs, endpoint("https://h/ "), badURL},

		"no method, 2.0": {of2, method(""), `Method must be GET or POST, not ""`},
		"POST":           {allAPIs, method(http.MethodPost), ""},
		"GET, 3.0":       {bothOf3, method(http.MethodGet), `Method must be POST with API, not "GET"`},

		"page size 0, 2.0":  {of2, pageSize(0), "PageSize must be from 1 to 1000, not 0"},
		"page size 1000":    {of2, pageSize(1000), ""},
		"page size 101":     {bothOf3, pageSize(101), "PageSize must be from 1 to 100, not 101"},
		"concurrency 0":     {allAPIs, concurrency(0), "Concurrency must be from 1 to 256, not 0"},
		"concurrency 256":   {allAPIs, concurrency(256), ""},
		"concurrency 257":   {allAPIs, concurrency(257), "Concurrency must be from 1 to 256, not 257"},
		"no limit":          {allAPIs, limiter(nil), ""},
		"rate of zero":      {allAPIs, limiter(rate.NewLimiter(0, 1)), badRate},
		"rate not a number": {allAPIs, limiter(crsapi.NewLimiter(math.NaN())), badRate},
		"no burst":          {allAPIs, limiter(rate.NewLimiter(1, 0)), "Limiter must have a burst of 1 or more, not 0"},
		"timeout 0":         {allAPIs, timeout(0), "RequestTimeout must be from 1ms to 1h, not 0s"},
		"timeout too long":  {allAPIs, timeout(time.Hour + 1), "RequestTimeout must be from 1ms to 1h, not 1h0m0.000000001s"},
		"offset -12h":       {allAPIs, offset(-12 * time.Hour), ""},
		"offset too west":   {allAPIs, offset(-13 * time.Hour), badZone + "-13h0m0s"},
		"offset too east":   {allAPIs, offset(15 * time.Hour), badZone + "15h0m0s"},
		"offset in seconds": {allAPIs, offset(time.Second), badZone + "1s"},
	} {
		for _, api := range test.apis {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				cfg := minimalConfig(api)
				test.change(&cfg)
				_, err := crsapi.NewClient(cfg)
				if test.want == "" && err == nil {
					return
				}
				want := strings.ReplaceAll(test.want, "with API", "with API "+string(api))
				field, problem, _ := strings.Cut(want, " ")
				var invalid *crsapi.ConfigError
				if !errors.As(err, &invalid) || *invalid != (crsapi.ConfigError{Field: field, Problem: problem}) || err.Error() != want {
					t.Errorf("got %#v, want %s", err, want)
				}
			})
		}
	}
}
