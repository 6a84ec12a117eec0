package crsapi_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestReasons(t *testing.T) {
	want := []crsapi.Reason{"auth", "denied", "retired", "throttled", "timeout", "network", "server", "decode", "api"}
	if got := crsapi.Reasons(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestErrorText(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
				return respond(200, `{"code":4000,"message":"(11201)\nwrong \u0007limit","codeDesc":"Desc"}`)
			})
		})
		_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
		want := dialects[api].action + " " + dialects[api].host + ": API error 4000 (Desc): (11201) wrong  limit"
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
}
