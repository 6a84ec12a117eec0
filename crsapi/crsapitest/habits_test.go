package crsapitest_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestHabits asks a server with each habit for what it does in its own way, through API
// 2.0 and 3.0. TestReadsAreScans has the others.
func TestHabits(t *testing.T) {
	const end2, end3 = "2024-03-01 20:00:00", `"EndTime":"2024-03-01 20:00:00"`
	refused2, refused3 := []string{`"code":4000`, "(11201)"}, []string{`"InvalidParameterValue"`}
	for name, test := range map[string]struct {
		habit        crsapitest.Habit
		pairs        []string // parameters of API 2.0
		body         string   // of API 3.0
		want2, want3 []string // parts of the responses
	}{
		"end alone":        {crsapitest.RefuseEndAlone, []string{"endTime", end2}, `{` + end3 + `}`, refused2, refused3},
		"end with a begin": {crsapitest.RefuseEndAlone, []string{"endTime", end2, "beginTime", end2}, `{` + end3 + `,"BeginTime":"2024-03-01 20:00:00"}`, []string{`"totalCount":1`}, []string{`"TotalCount":1`}},
		"any end":          {crsapitest.RefuseBounds, []string{"endTime", end2}, `{` + end3 + `}`, refused2, refused3},
		"any begin":        {crsapitest.RefuseBounds, []string{"beginTime", end2}, `{"BeginTime":"2024-03-01 20:00:00"}`, refused2, refused3},
		"no bounds":        {crsapitest.RefuseBounds, nil, `{}`, []string{`"totalCount":3`}, []string{`"TotalCount":3`}},
		"limit 51":         {crsapitest.RefuseLimitAbove50, []string{"limit", "51"}, `{"Limit":51}`, refused2, refused3},
		"limit 50":         {crsapitest.RefuseLimitAbove50, []string{"limit", "50"}, `{"Limit":50}`, []string{`"totalCount":3`}, []string{`"TotalCount":3`}},
		"page 1":           {crsapitest.PageNumbers, []string{"limit", "2", "offset", "1"}, `{"Limit":2,"Offset":1}`, []string{`"redisTaskSet":[{"startTime":"2024-03-01 19:58:00"`}, []string{`"StartTime":"2024-03-01 19:58:00"`}},
		"total of a page":  {crsapitest.TotalOfPage, []string{"limit", "2"}, `{"Limit":2}`, []string{`"totalCount":2`}, []string{`"TotalCount":2`}},
		"total in data":    {crsapitest.TotalInData, nil, `{}`, []string{`"codeDesc":"Success","data":{"totalCount":3,"redisTaskSet":[{`}, []string{`"TotalCount":3`}},
		"prefix":           {crsapitest.TypePrefix, nil, `{}`, []string{`"taskName":"task_backupInstance"`, `"taskName":"task_importRdb"`, `"taskName":"new"`}, []string{`"TaskType":"FLOW_BACKUPINSTANCE"`, `"TaskType":"FLOW_IMPORTRDB"`, `"TaskType":"new"`}},
		"constant":         {crsapitest.TypeConstant, nil, `{}`, []string{`"taskName":"BACKUPINSTANCE"`, `"taskName":"IMPORTRDB"`, `"taskName":"new"`}, []string{`"TaskType":"BACKUPINSTANCE"`}},
		"number":           {crsapitest.TypeNumber, nil, `{}`, []string{`"taskName":12`, `"taskName":8`, `"taskName":"new"`}, []string{`"TaskType":12`}},
		"numbers as text":  {crsapitest.NumbersAsText, nil, `{}`, []string{`"code":"0"`, `"totalCount":"3"`, `"status":"0"`, `"progress":"0.5"`, `"redisName":"a\":5,"`}, []string{`"TotalCount":"3"`, `"Result":"2"`, `"Progress":"0.5"`, `"TaskId":"`}},
		"zero start":       {crsapitest.ZeroStart, nil, `{}`, []string{`"startTime":"0000-00-00 00:00:00"`, `"startTime":"2024-03-01 19:59:00"`}, []string{`"StartTime":"0000-00-00 00:00:00"`, `"StartTime":"2024-03-01 19:59:00"`}},
		"no page":          {crsapitest.OldestFirst, nil, `{}`, []string{`"redisTaskSet":[{"startTime":"2024-03-01 19:58:00"`}, []string{`"Tasks":[{"TaskId":1,`}},
	} {
		t.Run(name, func(t *testing.T) {
			srv, a := newServer(t)
			list := tasks("a", "b", "c")
			list[0].Status, list[0].Progress = crsapi.StatusPending, 0.5
			list[0].RedisName = `a":5,`
			list[1].TaskName, list[2].TaskName = "importRdb", "new"
			srv.SetTasks(region, list)
			srv.Inject(crsapitest.Fault{Do: test.habit})
			for api, got := range map[string]response{"2.0": a.ask(t, test.pairs...), "3.0": newAsker3(srv).ask3(t, test.body)} {
				want := test.want2
				if api == "3.0" {
					want = test.want3
				}
				for _, part := range want {
					if !strings.Contains(string(got.body), part) {
						t.Errorf("API %s: got %s, want %s", api, got.body, part)
					}
				}
			}
		})
	}
}

// TestHiddenFractions: most tasks of the second of endTime are later than it.
func TestHiddenFractions(t *testing.T) {
	srv, a := newServer(t)
	list := numbered(400)
	for i := range list {
		list[i].StartTime = list[i%2].StartTime // of two seconds
	}
	list[1].StartTime = list[0].StartTime.Add(-time.Minute)
	srv.SetTasks(region, list)
	srv.Inject(crsapitest.Fault{Do: crsapitest.HiddenFractions})
	total := func(end string) (n int) {
		found := regexp.MustCompile(`"totalCount":(\d+)`).FindSubmatch(a.ask(t, "endTime", end).body)
		_, _ = fmt.Sscan(string(found[1]), &n)
		return n
	}
	if earlier, both, after := total("2024-03-01 19:59:00"), total("2024-03-01 20:00:00"), total("2024-03-01 20:00:01"); earlier < 20 || earlier > 100 || both < 220 || both > 300 || after != 400 {
		t.Errorf("%d, %d and %d tasks up to the seconds of 200 tasks each", earlier, both, after)
	}
}
