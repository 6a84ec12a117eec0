package crsapi_test

import (
	"errors"
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
		"found":               {set: "disk full", ask: id, want: "disk full"},
		"several lines":       {set: " disk\r\nfull\x00", ask: id, want: " disk  full "},
		"long":                {set: strings.Repeat("名", 300), ask: id, want: strings.Repeat("名", 256)},
		"empty":               {do: crsapitest.Body(`{"Response":{"Status":"running","TaskMessage":"","RequestId":"r"}}`), ask: id, want: ""},
		"null":                {set: "disk full", do: crsapitest.Format{Null: []string{"TaskMessage"}}, ask: id, want: ""},
		"denied":              {do: denied, ask: id, reason: crsapi.ReasonDenied},
		"unknown task":        {ask: id + 1, reason: crsapi.ReasonAPI},
		"throttled":           {do: crsapitest.Envelope("RequestLimitExceeded", ""), ask: id, reason: crsapi.ReasonThrottled},
		"retired":             {do: crsapitest.RetiredEnvelope, ask: id, reason: crsapi.ReasonRetired},
		"HTML":                {do: crsapitest.Body("<html>"), ask: id, reason: crsapi.ReasonDecode},
		"a response of 2.0":   {do: crsapitest.Body(`{"code":0,"message":"x"}`), ask: id, reason: crsapi.ReasonDecode},
		"no message at all":   {do: crsapitest.Body(`{"Response":{"Status":"failed","RequestId":"r"}}`), ask: id, want: ""},
		"message of an error": {do: crsapitest.Body(`{"Response":{"TaskMessage":"x","Error":{"Code":"InternalError"}}}`), ask: id, reason: crsapi.ReasonServer},
		"a number":            {do: crsapitest.Body(`{"Response":{"TaskMessage":7}}`), ask: id, want: "7"},
		"an object":           {do: crsapitest.Body(`{"Response":{"TaskMessage":{"a":1}}}`), ask: id, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen recorder
				c, server := serve(t, crsapi.API30, []crsapi.Task{failedTask()}, func(cfg *crsapi.Config) { cfg.Observe = seen.observe })
				if test.set != "" {
					server.SetTaskMessage(region, id, test.set)
				}
				if test.do != nil {
					server.Inject(crsapitest.Fault{Action: crsapi.ActionTaskInfo, Do: test.do})
				}
				got, err := c.TaskMessage(t.Context(), test.ask)
				var failed *crsapi.Error
				switch {
				case test.reason == "" && (err != nil || got != test.want):
					t.Errorf("got %q, %v, want %q", got, err, test.want)
				case test.reason != "" && (!errors.As(err, &failed) || failed.Reason != test.reason || got != ""):
					t.Errorf("got %q, %v, want reason %s", got, err, test.reason)
				case test.reason != "" && !strings.HasPrefix(err.Error(), fmt.Sprintf("message of task %d: DescribeTaskInfo ", test.ask)):
					t.Errorf("text %q", err)
				}
				if len(seen.attempts) == 0 || seen.attempts[0].Action != crsapi.ActionTaskInfo {
					t.Errorf("attempts %+v", seen.attempts)
				}
			})
		})
	}
}

// TestTaskMessageOfATaskThatSucceeded has a message set that is not for it.
func TestTaskMessageOfATaskThatSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := serve(t, crsapi.API30, crsapitest.DocumentExample(), nil)
		server.SetTaskMessage(region, 0, "disk full")
		tasks, err := readAll(t, c, crsapi.Query{})
		if err != nil || len(tasks) == 0 {
			t.Fatalf("%d tasks, %v", len(tasks), err)
		}
		for _, task := range tasks {
			if got, err := c.TaskMessage(t.Context(), task.TaskID); got != "" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
}

func TestTaskMessageNeedsAPI3(t *testing.T) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.APITCE} {
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
				t.Error("a request was sent")
				return respond(500, "")
			})
		})
		want := fmt.Sprintf("task message: API %s has no DescribeTaskInfo", api)
		if got, err := c.TaskMessage(t.Context(), 1); got != "" || err == nil || err.Error() != want {
			t.Errorf("got %q, %v, want %s", got, err, want)
		}
	}
}

// TestTaskMessageHasNoSecrets makes the server put every secret in the message.
func TestTaskMessageHasNoSecrets(t *testing.T) {
	var signature string
	c := newTestClient(t, crsapi.API30, func(cfg *crsapi.Config) {
		cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
			sent := read(r)
			signature = sent.signature
			if sent.body != `{"TaskId":7}` || r.Header.Get("X-TC-Action") != "DescribeTaskInfo" {
				t.Errorf("action %s with %s", r.Header.Get("X-TC-Action"), sent.body)
			}
			text := strings.Join([]string{"failed", canaryID, canaryKey, canaryToken, signature}, "|")
			return respond(http.StatusOK, fmt.Sprintf(`{"Response":{"TaskMessage":%q}}`, text))
		})
	})
	got, err := c.TaskMessage(t.Context(), 7)
	if err != nil || !strings.HasPrefix(got, "failed|") {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, secret := range []string{canaryID, canaryKey, canaryToken, signature} {
		if secret == "" || strings.Contains(got, secret) {
			t.Errorf("%q shows %q", got, secret)
		}
	}
}
