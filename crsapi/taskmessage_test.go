package crsapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestTaskMessage(t *testing.T) {
	const id = 18215
	failedTask := func() crsapi.Task {
		task := crsapitest.DocumentExample()[0]
		task.Status, task.TaskID = crsapi.StatusFailed, id
		return task
	}
	denied := crsapitest.Envelope("InvalidParameter.PermissionDenied", "no permission")
	for name, test := range map[string]struct {
		set    string
		do     crsapitest.Effect
		ask    int64
		want   string
		reason crsapi.Reason // of the error
	}{
		"found":             {set: "disk full", ask: id, want: "disk full"},
		"long":              {set: strings.Repeat("名", 300), ask: id, want: strings.Repeat("名", 256)},
		"empty":             {do: crsapitest.Body(`{"Response":{"Status":"running","TaskMessage":"","RequestId":"r"}}`), ask: id, want: ""},
		"denied":            {do: denied, ask: id, reason: crsapi.ReasonDenied},
		"unknown task":      {ask: id + 1, reason: crsapi.ReasonAPI},
		"HTML":              {do: crsapitest.Body("<html>"), ask: id, reason: crsapi.ReasonDecode},
		"a response of 2.0": {do: crsapitest.Body(`{"code":0,"message":"x"}`), ask: id, reason: crsapi.ReasonDecode},
		"no message at all": {do: crsapitest.Body(`{"Response":{"Status":"failed","RequestId":"r"}}`), ask: id, want: ""},
		"a number":          {do: crsapitest.Body(`{"Response":{"TaskMessage":7}}`), ask: id, want: "7"},
		"an object":         {do: crsapitest.Body(`{"Response":{"TaskMessage":{"a":1}}}`), ask: id, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen recorder
				c, server := serve(t, three, []crsapi.Task{failedTask()}, seen.in)
				if test.set != "" {
					server.SetTaskMessage(region, id, test.set)
				}
				if test.do != nil {
					server.Inject(crsapitest.Fault{Action: crsapi.ActionTaskInfo, Do: test.do})
				}
				got, err := c.TaskMessage(t.Context(), test.ask)
				if got != test.want || (err != nil) != (test.reason != "") {
					t.Errorf("got %q, %v, want %q", got, err, test.want)
				}
				if test.reason != "" && !strings.HasPrefix(wantError(t, err, test.reason).Error(), "DescribeTaskInfo ") {
					t.Errorf("text %q", err)
				}
				if len(seen.attempts) == 0 || seen.attempts[0].Action != crsapi.ActionTaskInfo {
					t.Errorf("attempts %+v", seen.attempts)
				}
			})
		})
	}
}

func TestTaskMessageNeedsAPI3(t *testing.T) {
	for _, api := range []crsapi.API{two, tce} {
		want := fmt.Sprintf("task message: API %s has no DescribeTaskInfo", api)
		if got, err := newClient(t, api, nil).TaskMessage(t.Context(), 1); got != "" || err == nil || err.Error() != want {
			t.Errorf("got %q, %v, want %s", got, err, want)
		}
	}
}

// TestTaskMessageHasNoSecrets has a server that quotes every secret in the message.
func TestTaskMessageHasNoSecrets(t *testing.T) {
	c := newClient(t, three, transportFunc(func(r *http.Request) (*http.Response, error) {
		sent := read(r)
		if sent.body != `{"TaskId":7}` || r.Header.Get("X-TC-Action") != "DescribeTaskInfo" {
			t.Errorf("action %s with %s", r.Header.Get("X-TC-Action"), sent.body)
		}
		text := strings.Join([]string{"failed", canaryID, canaryKey, canaryToken, sent.signature}, "|")
		return respond(http.StatusOK, fmt.Sprintf(`{"Response":{"TaskMessage":%q}}`, text))
	}))
	const want = "failed|[redacted]|[redacted]|[redacted]|[redacted]"
	if got, err := c.TaskMessage(t.Context(), 7); err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
}
