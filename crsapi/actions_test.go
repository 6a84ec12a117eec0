package crsapi_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// instances is the result of Client.Instances.
type instances struct {
	total int
	page  []crsapi.Instance // a zero one is a row that cannot be read
}

// TestOtherActions has the responses to requests for instances and for the message of a task.
func TestOtherActions(t *testing.T) {
	type action struct {
		name, sent string
		apis       []crsapi.API
		call       func(t *testing.T, c *crsapi.Client) (any, error)
	}
	list := &action{
		crsapi.ActionInstances,
		`{"Limit":1000,"Offset":2000,"OrderBy":"createtime","OrderType":0}`,
		bothOf3,
		func(t *testing.T, c *crsapi.Client) (any, error) {
			page, total, err := c.Instances(t.Context(), 2000)
			return instances{total, page}, err
		},
	}
	message := &action{
		crsapi.ActionTaskInfo,
		`{"TaskId":7}`,
		[]crsapi.API{three},
		func(t *testing.T, c *crsapi.Client) (any, error) { return c.TaskMessage(t.Context(), 7) },
	}
	page := func(total, rows string) string {
		return `{"Response":{"TotalCount":` + total + `,"InstanceSet":` + rows + `,"RequestId":"r"}}`
	}
	created := time.Date(2024, time.May, 10, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		*action
		body string // SECRETS are those of the request
		want any    // the result, or a crsapi.Reason
	}{
		{list, page("0", "[]"), instances{}},
		{list, page(`"3"`, "null"), instances{3, nil}},
		{
			list, page("1", `[{"InstanceId":"crs-a","InstanceName":"n","ProjectId":7,"Status":2,"Createtime":"2024-05-10 18:00:00","InstanceTags":[{"TagKey":"a"}]}]`),
			instances{1, []crsapi.Instance{{RedisID: "crs-a", RedisName: "n", ProjectID: "7", Created: created}}},
		},
		{
			list, page("3", `[{"InstanceId":"crs-a","Status":"-2","Createtime":"0000-00-00 00:00:00","ProjectId":null},{"InstanceId":"crs-b"},{"InstanceName":"n","Status":2},{"InstanceId":"crs-c","Status":-3}]`),
			instances{3, []crsapi.Instance{{RedisID: "crs-a", Isolated: true}, {}, {}, {RedisID: "crs-c", Isolated: true}}},
		},
		{
			list, page("2", `[{"InstanceId":"crs-a","Status":2,"InstanceName":"`+strings.Repeat("名", 100)+`"},{"InstanceId":"`+strings.Repeat("a", 257)+`","Status":2}]`),
			instances{2, []crsapi.Instance{{RedisID: "crs-a", RedisName: strings.Repeat("名", 85)}, {}}},
		},
		{list, `{"Response":{"InstanceSet":[],"RequestId":"r"}}`, crsapi.ReasonDecode},
		{list, page("1", `"x"`), crsapi.ReasonDecode},
		{list, envelope("UnauthorizedOperation.NoCAMAuthed"), crsapi.ReasonDenied},

		{message, `{"Response":{"Status":"failed","TaskMessage":"disk full","RequestId":"r"}}`, "disk full"},
		{message, `{"Response":{"TaskMessage":"` + strings.Repeat("名", 300) + `"}}`, strings.Repeat("名", 256)},
		{message, `{"Response":{"TaskMessage":"failed SECRETS"}}`, "failed [redacted] [redacted] [redacted] [redacted]"},
		{message, `{"Response":{"Status":"failed","RequestId":"r"}}`, ""},
		{message, `{"Response":{"TaskMessage":{"a":1}}}`, ""},
		{message, envelope("InvalidParameter.PermissionDenied"), crsapi.ReasonDenied},
		{message, `{"code":0,"message":"x"}`, crsapi.ReasonDecode},
	} {
		for _, api := range test.apis {
			synctest.Test(t, func(t *testing.T) {
				var seen recorder
				c := newClient(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
					sent := read(r)
					if action := r.Header.Get("X-TC-Action"); sent.body != test.sent || action != test.name {
						t.Errorf("action %s with %s", action, sent.body)
					}
					secrets := strings.Join([]string{canaryID, canaryKey, canaryToken, sent.signature}, " ")
					return respond(http.StatusOK, strings.ReplaceAll(test.body, "SECRETS", secrets))
				}), seen.in)
				got, err := test.call(t, c)
				if seen[0].Action != test.name {
					t.Errorf("an attempt of %s", seen[0].Action)
				}
				if reason, ok := test.want.(crsapi.Reason); ok {
					if text := wantError(t, err, reason).Error(); !strings.Contains(text, test.name+" ") {
						t.Errorf("text %q", text)
					}
				} else if err != nil || !reflect.DeepEqual(got, test.want) {
					t.Errorf("%s: got %+v, %v, want %+v", test.body, got, err, test.want)
				}
			})
		}
	}
	for call, want := range map[*action]map[crsapi.API]string{
		list:    {two: "instances: API 2.0 has no DescribeInstances"},
		message: {two: "task message: API 2.0 has no DescribeTaskInfo", tce: "task message: API tce has no DescribeTaskInfo"},
	} {
		for api, want := range want {
			if _, err := call.call(t, newClient(t, api, nil)); fmt.Sprint(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	}
}
