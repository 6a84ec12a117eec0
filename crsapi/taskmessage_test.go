package crsapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// TestTaskMessage also has a server that quotes every secret.
func TestTaskMessage(t *testing.T) {
	for _, test := range []struct {
		body   string // SECRETS are those of the request
		want   string
		reason crsapi.Reason // of the error
	}{
		{`{"Response":{"Status":"failed","TaskMessage":"disk full","RequestId":"r"}}`, "disk full", ""},
		{`{"Response":{"TaskMessage":"` + strings.Repeat("名", 300) + `"}}`, strings.Repeat("名", 256), ""},
		{`{"Response":{"TaskMessage":"failed SECRETS"}}`, "failed [redacted] [redacted] [redacted] [redacted]", ""},
		{`{"Response":{"Status":"failed","RequestId":"r"}}`, "", ""},
		{`{"Response":{"TaskMessage":{"a":1}}}`, "", ""},
		{envelope("InvalidParameter.PermissionDenied"), "", crsapi.ReasonDenied},
		{`{"code":0,"message":"x"}`, "", crsapi.ReasonDecode},
	} {
		synctest.Test(t, func(t *testing.T) {
			var seen recorder
			c := newClient(t, three, transportFunc(func(r *http.Request) (*http.Response, error) {
				sent := read(r)
				if sent.body != `{"TaskId":7}` || r.Header.Get("X-TC-Action") != "DescribeTaskInfo" {
					t.Errorf("action %s with %s", r.Header.Get("X-TC-Action"), sent.body)
				}
				secrets := strings.Join([]string{canaryID, canaryKey, canaryToken, sent.signature}, " ")
				return respond(http.StatusOK, strings.ReplaceAll(test.body, "SECRETS", secrets))
			}), seen.in)
			got, err := c.TaskMessage(t.Context(), 7)
			if got != test.want || (err != nil) != (test.reason != "") || seen.attempts[0].Action != crsapi.ActionTaskInfo {
				t.Errorf("%s: got %q, %v, want %q", test.body, got, err, test.want)
			}
			if test.reason != "" && !strings.Contains(wantError(t, err, test.reason).Error(), "DescribeTaskInfo ") {
				t.Errorf("text %q", err)
			}
		})
	}
	for _, api := range []crsapi.API{two, tce} {
		want := fmt.Sprintf("task message: API %s has no DescribeTaskInfo", api)
		if got, err := newClient(t, api, nil).TaskMessage(t.Context(), 1); got != "" || err == nil || err.Error() != want {
			t.Errorf("got %q, %v, want %s", got, err, want)
		}
	}
}
