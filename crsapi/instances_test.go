package crsapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestInstances(t *testing.T) {
	page := func(total, rows string) string {
		return `{"Response":{"TotalCount":` + total + `,"InstanceSet":` + rows + `,"RequestId":"r"}}`
	}
	created := time.Date(2024, time.May, 10, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		body   string
		total  int
		want   []crsapi.Instance // a zero one is a row that cannot be read
		reason crsapi.Reason     // of the error
	}{
		{body: page("0", "[]")},
		{body: page(`"3"`, "null"), total: 3},
		{
			body: page("1", `[{"InstanceId":"crs-a","InstanceName":"n","ProjectId":7,"Status":2,"Createtime":"2024-05-10 18:00:00","Size":1024,"InstanceTags":[{"TagKey":"a"}]}]`), total: 1,
			want: []crsapi.Instance{{RedisID: "crs-a", RedisName: "n", ProjectID: "7", Created: created}},
		},
		{
			body: page("3", `[{"InstanceId":"crs-a","Status":"-2","Createtime":"0000-00-00 00:00:00","ProjectId":null},{"InstanceId":"crs-b"},{"Status":2},{"InstanceId":"crs-c","Status":-3}]`), total: 3,
			want: []crsapi.Instance{{RedisID: "crs-a", Isolated: true}, {}, {}, {RedisID: "crs-c", Isolated: true}},
		},
		{
			body: page("1", `[{"InstanceId":"crs-a","Status":2,"InstanceName":"`+strings.Repeat("名", 100)+`"}]`), total: 1,
			want: []crsapi.Instance{{RedisID: "crs-a", RedisName: strings.Repeat("名", 85)}},
		},
		{body: page("1", `[{"InstanceId":"`+strings.Repeat("a", 257)+`","Status":2}]`), total: 1, want: []crsapi.Instance{{}}},
		{body: `{"Response":{"InstanceSet":[],"RequestId":"r"}}`, reason: crsapi.ReasonDecode},
		{body: page("1", `"x"`), reason: crsapi.ReasonDecode},
		{body: envelope("UnauthorizedOperation.NoCAMAuthed"), reason: crsapi.ReasonDenied},
	} {
		for _, api := range bothOf3 {
			synctest.Test(t, func(t *testing.T) {
				var seen recorder
				c := newClient(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
					if sent := read(r); sent.body != `{"Limit":1000,"Offset":2000,"OrderBy":"createtime","OrderType":0}` || r.Header.Get("X-TC-Action") != "DescribeInstances" {
						t.Errorf("action %s with %s", r.Header.Get("X-TC-Action"), sent.body)
					}
					return respond(http.StatusOK, test.body)
				}), seen.in)
				got, total, err := c.Instances(t.Context(), 2000)
				if test.reason != "" {
					wantError(t, err, test.reason)
					return
				}
				if err != nil || total != test.total || !slices.Equal(got, test.want) || seen.attempts[0].Action != crsapi.ActionInstances {
					t.Errorf("%s: got %+v, %v", test.body, got, err)
				}
			})
		}
	}
	if _, _, err := newClient(t, two, nil).Instances(t.Context(), 0); fmt.Sprint(err) != "instances: API 2.0 has no DescribeInstances" {
		t.Errorf("got %v", err)
	}
}
