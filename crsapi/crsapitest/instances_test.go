package crsapitest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestInstances: filters, order and paging of DescribeInstances, its rows, and how effects
// change them.
func TestInstances(t *testing.T) {
	srv, c := simulate(t, "3.0")
	c.action = "DescribeInstances"
	created := time.Date(2024, time.May, 10, 10, 0, 0, 0, time.UTC)
	srv.SetInstances(region, []crsapi.Instance{
		{RedisID: "b", RedisName: "two", ProjectID: "7", Created: created.Add(time.Hour)},
		{RedisID: "a", RedisName: "one", Created: created, Isolated: true},
		{RedisID: "c", RedisName: "two", ProjectID: "0"},
	})
	ids := func(body string) string { return c.do(c.request3(body)).result(t).list }
	for body, want := range map[string]string{
		`{}`:                                     "3: b a c",
		`{"OrderBy":"createtime","OrderType":0}`: "3: c a b",
		`{"OrderBy":"instancename"}`:             "3: b c a",
		`{"OrderBy":"projectId"}`:                "3: b c a",
		`{"OrderBy":"type"}`:                     "3: b a c",
		`{"Limit":2}`:                            "3: b a",
		`{"Limit":2,"Offset":3}`:                 "3: c", // a multiple of Limit
		`{"Offset":40}`:                          "3:",
		`{"InstanceId":"a"}`:                     "1: a",
		`{"InstanceIds":["a","c"]}`:              "2: a c",
		`{"InstanceName":"two"}`:                 "2: b c",
		`{"ProjectIds":[7]}`:                     "1: b",
		`{"Status":[-2,1]}`:                      "1: a",
	} {
		if got := ids(body); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	first := `{"Response":{"TotalCount":1,"InstanceSet":[{"InstanceId":"b","InstanceName":"two","ProjectId":7,"Region":"ap-guangzhou","Status":2,"Createtime":"2024-05-10 19:00:00"}],` +
		`"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"}}`
	if got := c.do(c.request3(`{"InstanceId":"b"}`)).body; got != first {
		t.Errorf("got %s", got)
	}
	for want, effect := range map[string]crsapitest.Effect{
		`"TotalCount":9,"InstanceSet":[]`:   crsapitest.Total(func(int) int { return 9 }),
		`"TotalCount":"0","InstanceSet":[]`: crsapitest.NumbersAsText,
		`"TotalCount":0,"InstanceSet":null`: crsapitest.NullRows,
		`"TotalCount":0,"InstanceSet":[]`:   crsapitest.DenyUnfiltered, // of the list only
		"AuthFailure.UnauthorizedOperation": crsapitest.APIError(4101),
		`"Code":"ActionOffline"`:            crsapitest.RetiredForbidden,
	} {
		stop := srv.Inject(crsapitest.Fault{Action: c.action, Do: effect})
		if got := c.do(c.request3(`{"InstanceId":"x"}`)).body; !strings.Contains(got, want) {
			t.Errorf("%s: got %s", want, got)
		}
		stop()
	}
	srv.Inject(crsapitest.Fault{Do: crsapitest.PageCap(2)})
	if got := ids("{}"); got != "3: b a" {
		t.Errorf("a capped page has %s", got)
	}
	srv.ClearFaults()
	srv.SetInstances(region, make([]crsapi.Instance, 1001))
	if got := strings.Count(c.do(c.request3(`{"Limit":2000}`)).body, "InstanceId"); got != 1000 {
		t.Errorf("a page of %d instances", got)
	}
}
