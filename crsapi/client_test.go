package crsapi_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transportFunc responds to requests without a network, so that synctest can
// control the clock.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func apiError(code any, message string) string {
	return fmt.Sprintf(`{"code":%v,"message":%q,"codeDesc":"Desc"}`, code, message)
}

func envelope(code string) string {
	return fmt.Sprintf(`{"Response":{"Error":{"Code":%q,"Message":"m"},"RequestId":"r"}}`, code)
}

const (
	canaryID    = "AKIDcanary/id+1"
	canaryKey   = "canary-key+/=2"
	canaryToken = "canary token+/=3"
)

func TestConfigErrors(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		const endpointProblem = "must be an http or https URL with only a host and a path"
		for name, test := range map[string]struct {
			change  func(*crsapi.Config)
			field   string
			problem string
		}{
			"no region":         {func(c *crsapi.Config) { c.Region = "" }, "Region", "must not be empty"},
			"no credentials":    {func(c *crsapi.Config) { c.Credentials = nil }, "Credentials", "must not be nil"},
			"no endpoint":       {func(c *crsapi.Config) { c.Endpoint = "" }, "Endpoint", endpointProblem},
			"ftp":               {func(c *crsapi.Config) { c.Endpoint = "ftp://h/" }, "Endpoint", endpointProblem},
			"no scheme":         {func(c *crsapi.Config) { c.Endpoint = "redis.api.qcloud.com" }, "Endpoint", endpointProblem},
			"password":          {func(c *crsapi.Config) { c.Endpoint = "https://u:canary@h/" }, "Endpoint", endpointProblem},
			"password, bad URL": {func(c *crsapi.Config) { c.Endpoint = "https://u:canary@h:x/" }, "Endpoint", endpointProblem},
			"URL query":         {func(c *crsapi.Config) { c.Endpoint = "https://h/?a=canary" }, "Endpoint", endpointProblem},
			"URL fragment":      {func(c *crsapi.Config) { c.Endpoint = "https://h/#canary" }, "Endpoint", endpointProblem},
			"concurrency 0":     {func(c *crsapi.Config) { c.Concurrency = 0 }, "Concurrency", "must be from 1 to 256, not 0"},
			"concurrency 257":   {func(c *crsapi.Config) { c.Concurrency = 257 }, "Concurrency", "must be from 1 to 256, not 257"},
			"rate of zero":      {func(c *crsapi.Config) { c.Limiter = rate.NewLimiter(0, 1) }, "Limiter", "must allow more than 0 requests per second"},
			"rate not a number": {func(c *crsapi.Config) { c.Limiter = crsapi.NewLimiter(math.NaN()) }, "Limiter", "must allow more than 0 requests per second"},
			"no burst":          {func(c *crsapi.Config) { c.Limiter = rate.NewLimiter(1, 0) }, "Limiter", "must have a burst of 1 or more, not 0"},
			"timeout 0":         {func(c *crsapi.Config) { c.RequestTimeout = 0 }, "RequestTimeout", "must be from 1ms to 1h, not 0s"},
			"timeout too long":  {func(c *crsapi.Config) { c.RequestTimeout = time.Hour + 1 }, "RequestTimeout", "must be from 1ms to 1h, not 1h0m0.000000001s"},
			"offset too west":   {func(c *crsapi.Config) { c.UTCOffset = -13 * time.Hour }, "UTCOffset", "must be from -12h to 14h in whole minutes, not -13h0m0s"},
			"offset too east":   {func(c *crsapi.Config) { c.UTCOffset = 15 * time.Hour }, "UTCOffset", "must be from -12h to 14h in whole minutes, not 15h0m0s"},
			"offset in seconds": {func(c *crsapi.Config) { c.UTCOffset = time.Second }, "UTCOffset", "must be from -12h to 14h in whole minutes, not 1s"},
		} {
			t.Run(name, func(t *testing.T) {
				cfg := minimalConfig(api)
				test.change(&cfg)
				wantConfigError(t, cfg, test.field, test.problem)
			})
		}
	})
}

func wantConfigError(t *testing.T, cfg crsapi.Config, field, problem string) {
	t.Helper()
	_, err := crsapi.NewClient(cfg)
	var invalid *crsapi.ConfigError
	if !errors.As(err, &invalid) || *invalid != (crsapi.ConfigError{Field: field, Problem: problem}) {
		t.Fatalf("got %#v, want %s %s", err, field, problem)
	}
	if err.Error() != field+" "+problem {
		t.Errorf("text %q", err.Error())
	}
}

// TestConfigErrorsByAPI has what is invalid under one API only, or in other
// words.
func TestConfigErrorsByAPI(t *testing.T) {
	const (
		endpointProblem = "must be an http or https URL with only a host and a path"
		regionProblem   = "must have only letters, digits and hyphens, not "
	)
	api2, api3, tce := []crsapi.API{crsapi.API20}, []crsapi.API{crsapi.API30}, []crsapi.API{crsapi.APITCE}
	both3 := []crsapi.API{crsapi.API30, crsapi.APITCE}
	all := []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE}
	endpoint := func(s string) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Endpoint = s } }
	method := func(s string) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Method = s } }
	regionOf := func(s string) func(*crsapi.Config) { return func(c *crsapi.Config) { c.Region = s } }
	pageSize := func(n int) func(*crsapi.Config) { return func(c *crsapi.Config) { c.PageSize = n } }
	for name, test := range map[string]struct {
		apis    []crsapi.API
		change  func(*crsapi.Config)
		field   string // empty if valid
		problem string
	}{
		"no method, 2.0": {api2, method(""), "Method", `must be GET or POST, not ""`},
		"PUT, 2.0":       {api2, method("PUT"), "Method", `must be GET or POST, not "PUT"`},
		"no method, 3.0": {api3, method(""), "Method", `must be POST with API 3.0, not ""`},
		"GET, 3.0":       {api3, method(http.MethodGet), "Method", `must be POST with API 3.0, not "GET"`},
		"GET, tce":       {tce, method(http.MethodGet), "Method", `must be POST with API tce, not "GET"`},

		"page size 0, 2.0":    {api2, pageSize(0), "PageSize", "must be from 1 to 1000, not 0"},
		"page size 0, 3.0":    {both3, pageSize(0), "PageSize", "must be from 1 to 100, not 0"},
		"page size 1001, 2.0": {api2, pageSize(1001), "PageSize", "must be from 1 to 1000, not 1001"},
		"page size 101, 2.0":  {api2, pageSize(101), "", ""},
		"page size 101, 3.0":  {both3, pageSize(101), "PageSize", "must be from 1 to 100, not 101"},

		"path, 2.0":              {api2, endpoint("https://h/v2/index.php"), "", ""},
		"path, 3.0":              {api3, endpoint("https://h/v2/index.php"), "Endpoint", "must have the path / with API 3.0"},
		"path, tce":              {tce, endpoint("https://h/v2/index.php"), "Endpoint", "must have the path / with API tce"},
		"two slashes":            {api3, endpoint("https://h//"), "Endpoint", "must have the path / with API 3.0"},
		"no path":                {all, endpoint("https://h"), "", ""},
		"{region}, 3.0":          {both3, endpoint("https://redis.{region}.tencentcloudapi.com"), "", ""},
		"{region}, 2.0":          {api2, endpoint("https://redis.{region}.tencentcloudapi.com/"), "Endpoint", endpointProblem},
		"{region} in the path":   {api3, endpoint("https://h/{region}"), "Endpoint", "must have the path / with API 3.0"},
		"{region} in the query":  {all, endpoint("https://h/?r={region}"), "Endpoint", endpointProblem},
		"{region} as the port":   {all, endpoint("https://h:{region}/"), "Endpoint", endpointProblem},
		"{region} as a user":     {all, endpoint("https://{region}@h/"), "Endpoint", endpointProblem},
		"{region} as the scheme": {all, endpoint("{region}://h/"), "Endpoint", endpointProblem},
		"another name in braces": {all, endpoint("https://redis.{zone}.tencentcloudapi.com/"), "Endpoint", endpointProblem},
		"capitals in braces":     {all, endpoint("https://redis.{Region}.tencentcloudapi.com/"), "Endpoint", endpointProblem},
		"empty braces":           {all, endpoint("https://redis.{}.tencentcloudapi.com/"), "Endpoint", endpointProblem},
		"an open brace":          {all, endpoint("https://redis.{region.tencentcloudapi.com/"), "Endpoint", endpointProblem},
		"a blank at the end":     {all, endpoint("https://h/ "), "Endpoint", endpointProblem},
		"a wide blank":           {all, endpoint("https://h/\u3000"), "Endpoint", endpointProblem},
		"braces in the path":     {both3, func(c *crsapi.Config) { c.Endpoint = "https://h/{}" }, "Endpoint", "must have the path / with API "},

		"region with a dot":    {both3, regionOf("r.evil"), "Region", regionProblem + `"r.evil"`},
		"region with a slash":  {both3, regionOf("evil/"), "Region", regionProblem + `"evil/"`},
		"region with a CR":     {both3, regionOf("r\r\nX: y"), "Region", regionProblem + `"r\r\nX: y"`},
		"any region under 2.0": {api2, regionOf("r.1_x"), "", ""},
	} {
		for _, api := range test.apis {
			t.Run(name+"/"+string(api), func(t *testing.T) {
				cfg := minimalConfig(api)
				test.change(&cfg)
				if test.field != "" {
					problem := test.problem
					if strings.HasSuffix(problem, " ") {
						problem += string(api)
					}
					wantConfigError(t, cfg, test.field, problem)
				} else if _, err := crsapi.NewClient(cfg); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, api := range []crsapi.API{"", "1.0", "TCE"} {
		t.Run(fmt.Sprintf("API %q", api), func(t *testing.T) {
			cfg := minimalConfig(crsapi.API30)
			cfg.API = api
			wantConfigError(t, cfg, "API", fmt.Sprintf("must be 2.0, 3.0 or tce, not %q", api))
		})
	}
	t.Run("the private cloud has no default endpoint", func(t *testing.T) {
		cfg := minimalConfig(crsapi.APITCE)
		cfg.Endpoint = crsapi.DefaultConfig(crsapi.APITCE).Endpoint
		wantConfigError(t, cfg, "Endpoint", endpointProblem)
	})
}

func TestConfigLimits(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, change := range map[string]func(*crsapi.Config){
			"defaults": func(*crsapi.Config) {},
			"lowest": func(c *crsapi.Config) {
				c.PageSize, c.Concurrency, c.Limiter, c.RequestTimeout, c.UTCOffset = 1, 1, nil, time.Millisecond, -12*time.Hour
			},
			"highest": func(c *crsapi.Config) {
				c.PageSize, c.Concurrency, c.Limiter, c.RequestTimeout, c.UTCOffset = api.MaxPageSize(), 256, crsapi.NewLimiter(1e9), time.Hour, 14*time.Hour
			},
			"POST, no path": func(c *crsapi.Config) { c.Method, c.Endpoint = http.MethodPost, "http://h:8080" },
		} {
			t.Run(name, func(t *testing.T) {
				cfg := minimalConfig(api)
				change(&cfg)
				if _, err := crsapi.NewClient(cfg); err != nil {
					t.Error(err)
				}
			})
		}
	})
}
