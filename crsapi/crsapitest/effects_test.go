package crsapitest_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestEffects sends API 2.0 and 3.0 a request that shows the effect.
func TestEffects(t *testing.T) {
	const offline = `200  {"Response":{"Error":{"Code":"ActionOffline","Message":"The API has been taken offline."},"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"}}`
	envelope := strings.NewReplacer("ActionOffline", "AuthFailure.SignatureFailure", "The API has been taken offline.", "no").Replace(offline)
	both := func(text string) [2]string { return [2]string{text, text} }
	refused := [2]string{`"code":4000,"message":"(11201)`, `"InvalidParameterValue"`}
	three := [2]string{`"totalCount":3`, `"TotalCount":3`}
	newest1, oldest1 := [2]string{`[{"startTime":"2024-03-01 20:00:00"`, `[{"TaskId":1,`}, [2]string{`[{"startTime":"2024-03-01 19:58:00"`, `[{"TaskId":3,`}
	for name, test := range map[string]struct {
		do    crsapitest.Effect
		query query
		want  [2]string // in the responses of API 2.0 and 3.0: status, Location and body
	}{
		"envelope":          {crsapitest.Envelope("AuthFailure.SignatureFailure", "no"), nil, both(envelope)},
		"retired, envelope": {crsapitest.RetiredEnvelope, nil, both(offline)},
		"retired, 4300":     {crsapitest.RetiredForbidden, nil, [2]string{`{"code":4300,"message":"请求被拒绝，该接口只允许特定账户调用。","codeDesc":"RequestForbidden"}`, offline}},
		"retired, 6100":     {crsapitest.RetiredVersion, nil, [2]string{`{"code":6100,"message":"本版本内不支持的接口或者接口已经被废弃","codeDesc":""}`, offline}},
		"error":             {crsapitest.APIError(4400), nil, [2]string{`{"code":4400,"message":"request quota exceeded","codeDesc":"RequestLimitExceeded"}`, `{"Response":{"Error":{"Code":"RequestLimitExceeded"`}},
		"unknown error":     {crsapitest.APIError(9999), nil, [2]string{`{"code":9999,"message":"failed","codeDesc":""}`, `{"Response":{"Error":{"Code":"Code9999"`}},
		"HTTP status":       {crsapitest.HTTPStatus(502), nil, both("502  <html>\r\n<head><title>502 Bad Gateway</title></head>")},
		"redirect":          {crsapitest.Redirect("https://elsewhere.example/"), nil, both("307 https://elsewhere.example/ <html>")},
		"body":              {crsapitest.Body("not JSON"), nil, both("200  not JSON")},

		"end alone":           {crsapitest.RefuseEndAlone, query{"endTime": stamp(newest)}, refused},
		"end with a begin":    {crsapitest.RefuseEndAlone, query{"beginTime": stamp(newest), "endTime": stamp(newest)}, [2]string{`"totalCount":1`, `"TotalCount":1`}},
		"any end":             {crsapitest.RefuseBounds, query{"endTime": stamp(newest)}, refused},
		"end excluded":        {crsapitest.ExclusiveEnd, query{"endTime": stamp(newest)}, [2]string{`"totalCount":2`, `"TotalCount":2`}},
		"begin ignored":       {crsapitest.IgnoreBegin, query{"beginTime": stamp(newest)}, three},
		"end ignored":         {crsapitest.IgnoreEnd, query{"endTime": stamp(newest.Add(-time.Hour))}, three},
		"end of the task":     {crsapitest.EndOfTask, query{"endTime": stamp(newest.Add(-time.Hour))}, three},
		"end of the run":      {crsapitest.EndOfRun, query{"endTime": stamp(newest)}, [2]string{`"totalCount":0`, `"TotalCount":0`}},
		"hidden fraction":     {crsapitest.HiddenFractions, query{"endTime": stamp(newest.Add(-time.Minute))}, [2]string{`"totalCount":1`, `"TotalCount":1`}},
		"no hidden fraction":  {crsapitest.HiddenFractions, query{"endTime": stamp(newest)}, three},
		"limit 51":            {crsapitest.RefuseLimitAbove50, query{"limit": 51}, refused},
		"limit 50":            {crsapitest.RefuseLimitAbove50, query{"limit": 50}, three},
		"unknown instance":    {crsapitest.RefuseUnknown, query{"redisId": "x"}, [2]string{`"codeDesc":"InstanceNotExists"`, `"ResourceNotFound.InstanceNotExists"`}},
		"list denied":         {crsapitest.DenyUnfiltered, query{}, [2]string{`"code":4102`, `"AuthFailure.UnauthorizedOperation"`}},
		"instance not denied": {crsapitest.DenyUnfiltered, query{"redisId": "a"}, [2]string{`"totalCount":1`, `"TotalCount":1`}},
		"oldest first":        {crsapitest.OldestFirst, query{}, oldest1},
		"page cap":            {crsapitest.PageCap(1), query{}, [2]string{`"progress":0.5}]`, `"Result":0}]`}},
		"offset rounded":      {crsapitest.RoundOffsets, query{"offset": 1, "limit": 2}, newest1},
		"offset ignored":      {crsapitest.IgnoreOffset, query{"offset": 2, "limit": 2}, newest1},
		"page 1":              {crsapitest.PageNumbers, query{"offset": 1, "limit": 2}, oldest1},
		"total of the page":   {crsapitest.TotalOfPage, query{"limit": 2}, [2]string{`"totalCount":2`, `"TotalCount":2`}},
		"total changed":       {crsapitest.Total(func(total int) int { return total - 5 }), query{}, [2]string{`"totalCount":-2`, `"TotalCount":-2`}},
		"total in data":       {crsapitest.TotalInData, query{}, [2]string{`"codeDesc":"Success","data":{"totalCount":3,"redisTaskSet":[{`, `"TotalCount":3`}},
		"total as text":       {crsapitest.TotalAsText, query{}, [2]string{`"totalCount":"3"`, `"TotalCount":"3"`}},
		"progress as text":    {crsapitest.NumbersAsText, query{}, [2]string{`"projectId":"0","status":"0","progress":"0.5"`, `"ProjectId":"0","Progress":"0.5","Result":"0"`}},
		"null rows":           {crsapitest.NullRows, query{"redisId": "x"}, [2]string{`"data":{"redisTaskSet":null}}`, `"Tasks":null}}`}},
		"no rows":             {crsapitest.NoRows, query{"redisId": "x"}, [2]string{`"data":{}}`, `"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"}}`}},
		"prefix":              {crsapitest.TypePrefix, query{}, [2]string{`"taskName":"task_backupInstance"`, `"TaskType":"FLOW_BACKUPINSTANCE"`}},
		"constant":            {crsapitest.TypeConstant, query{}, [2]string{`"taskName":"BACKUPINSTANCE"`, `"TaskType":"BACKUPINSTANCE"`}},
		"number":              {crsapitest.TypeNumber, query{}, [2]string{`"taskName":12`, `"TaskType":12`}},
		"zero start":          {crsapitest.ZeroStart, query{}, [2]string{`[{"startTime":"0000-00-00 00:00:00"`, `[{"TaskId":1,"StartTime":"0000-00-00 00:00:00"`}},
		"zero end":            {crsapitest.All(), query{}, [2]string{"", `"EndTime":"0000-00-00 00:00:00"`}},
		"empty end":           {crsapitest.EmptyEnd, query{}, [2]string{"", `"EndTime":""`}},
		"null end":            {crsapitest.NullEnd, query{}, [2]string{"", `"EndTime":null`}},
	} {
		srv, _ := simulate(t, "2.0")
		list := tasks("a", "b", "c")
		list[0].Status, list[0].Progress = crsapi.StatusPending, 0.5
		list[1].TaskName, list[2].TaskName = "importRdb", "new"
		for i := range list {
			list[i].TaskID = int64(i + 1)
		}
		srv.SetTasks(region, list)
		srv.Inject(crsapitest.Fault{Do: crsapitest.All(test.do, crsapitest.DateSkew(-time.Hour))})
		for i, api := range []string{"2.0", "3.0"} {
			c := connect(srv, api)
			res := c.do(c.request(test.query))
			if text := fmt.Sprint(res.StatusCode, " ", res.Header.Get("Location"), " ", res.body); !strings.Contains(text, test.want[i]) {
				t.Errorf("%s, API %s: %s, want %s", name, api, text, test.want[i])
			}
			date, err := http.ParseTime(res.Header.Get("Date"))
			if skew := time.Until(date).Round(time.Minute); err != nil || skew != -time.Hour {
				t.Errorf("%s, API %s: Date differs by %v, error %v", name, api, skew, err)
			}
		}
	}
}

// TestFaults: which requests a fault affects.
func TestFaults(t *testing.T) {
	failed := crsapitest.HTTPStatus(502)
	statuses := func(c *client, n int) (got []int) { // of n requests
		for range n {
			got = append(got, c.do(c.request(query{})).StatusCode)
		}
		return got
	}
	eachAPI(t, func(t *testing.T, srv *crsapitest.Server, c *client) {
		srv.SetTasks("ap-other", nil)
		other := map[string]string{"2.0": "3.0", "3.0": "tce", "tce": "2.0"}[c.api]
		for name, test := range map[string]struct {
			fault crsapitest.Fault
			want  []int
		}{
			"other region": {crsapitest.Fault{Region: "ap-other"}, []int{200, 200}},
			"other API":    {crsapitest.Fault{API: other}, []int{200, 200}},
			"other action": {crsapitest.Fault{Action: "DescribeTaskInfo"}, []int{200, 200}},
			"count":        {crsapitest.Fault{Count: 2}, []int{502, 502, 200}},
		} {
			test.fault.Do = failed
			remove := srv.Inject(test.fault)
			got := statuses(c, len(test.want))
			remove()
			if after := statuses(c, 1); !slices.Equal(got, test.want) || after[0] != 200 {
				t.Errorf("%s: %d, want %d; %d after it was removed", name, got, test.want, after)
			}
		}
		srv.Inject(crsapitest.Fault{Rate: 0.5, Do: failed})
		if n := len(slices.DeleteFunc(statuses(c, 200), func(status int) bool { return status == 200 })); n < 70 || n > 130 {
			t.Errorf("%d of 200 failed", n)
		}
		srv.ClearFaults()
		srv.Inject(crsapitest.Fault{Do: failed})
		srv.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(503)})
		if got := statuses(c, 1); got[0] != 503 {
			t.Errorf("the last fault does not win: %d", got)
		}
	})
}

// TestEchoSecrets: with it, every response has what the request had, except the
// SecretKey. Without it, none has.
func TestEchoSecrets(t *testing.T) {
	secrets := regexp.MustCompile(`canary|(?i)signature( |=|%3D)+[0-9a-f]{8}`)
	for name, do := range map[string]crsapitest.Effect{
		"page": crsapitest.All(), "error": crsapitest.APIError(4100), "envelope": crsapitest.Envelope("AuthFailure", "no"),
		"HTML": crsapitest.HTTPStatus(502), "redirect": crsapitest.Redirect("https://elsewhere.example/"),
	} {
		eachAPI(t, func(t *testing.T, srv *crsapitest.Server, c *client) {
			c.id, c.key, c.token = "AKIDcanary", "secret-key-of-test", "canary-token"
			srv.SetAccount(crsapitest.Account{SecretID: c.id, SecretKey: c.key, Token: c.token})
			for _, echo := range []bool{true, false} {
				srv.ClearFaults()
				srv.Inject(crsapitest.Fault{Do: do})
				if echo {
					srv.EchoSecrets(true)
				}
				res := c.do(c.request(query{}))
				header, location := res.Header.Get("X-Debug-Request"), res.Header.Get("Location")
				if secrets.MatchString(header) != echo || secrets.MatchString(res.body) != (echo && name != "page") || strings.Contains(header+location+res.body, c.key) {
					t.Errorf("%s, %t: header %s, body %s", name, echo, header, res.body)
				}
				if name == "redirect" && secrets.MatchString(location) != echo {
					t.Errorf("%t: Location %s", echo, location)
				}
			}
		})
	}
}
