package crsapitest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func Example() {
	srv := crsapitest.NewServer()
	defer srv.Close()
	srv.SetTasks("ap-guangzhou", crsapitest.DocumentExample())

	// A new task appears before the second page.
	srv.OnRequest(func(r crsapitest.Request) {
		if r.Seq == 2 {
			srv.Add(r.Region, crsapi.Task{RedisID: "crs-izbob1wh", TaskName: "backupInstance"})
		}
	})
	// Pages have at most 40 rows, and about 10 % of the requests fail.
	srv.Inject(crsapitest.Fault{Do: crsapitest.PageCap(40)})
	srv.Inject(crsapitest.Fault{Rate: 0.1, Do: crsapitest.APIError(6000)})

	// A client would send its requests to srv.URL here.
	fmt.Println(srv.Requests("ap-guangzhou"), len(srv.Tasks("ap-guangzhou")))
	// Output: 0 9
}

func TestDocumentExample(t *testing.T) {
	want, err := os.ReadFile("testdata/example.json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, want); err != nil {
		t.Fatal(err)
	}
	srv, a := newServer(t)
	noise := tasks("crs-other")
	failed := crsapitest.DocumentExample()[0]
	failed.Status = crsapi.StatusFailed
	noise = append(noise, failed)
	srv.SetTasks(region, append(noise, crsapitest.DocumentExample()...))
	res := a.ask(t, "limit", "10", "beginTime", "2016-12-28 00:03:52", "endTime", "2017-02-11 00:03:52",
		"redisId", "crs-izbob1wh", "redisName", "for API test", "taskStatus.0", "2",
		"taskType.0", "task_restoreBackup", "taskType.1", "task_backupInstance", "taskType.2", "task_cleanInstance")
	if res.err != nil || !bytes.Equal(res.body, compact.Bytes()) {
		t.Errorf("error %v, body\n%s\nwant\n%s", res.err, res.body, compact.Bytes())
	}
	if kind := res.Header.Get("Content-Type"); kind != "application/json; charset=utf-8" {
		t.Errorf("Content-Type %q", kind)
	}
	if length := res.ContentLength; length != int64(compact.Len()) {
		t.Errorf("Content-Length %d, want %d", length, compact.Len())
	}
}

func TestGenerate(t *testing.T) {
	list := crsapitest.Generate(5000, 20, 7)
	again := crsapitest.Generate(5000, 20, 7)
	if !slices.Equal(list, again) {
		t.Error("the same seed gives a different list")
	}
	if slices.Equal(list, crsapitest.Generate(5000, 20, 8)) {
		t.Error("a different seed gives the same list")
	}
	if len(list) != 5000 || !slices.IsSortedFunc(list, func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) }) {
		t.Errorf("%d tasks, or not newest first", len(list))
	}
	ids, taskNames, statuses := map[string]int{}, map[string]int{}, map[crsapi.Status]int{}
	for _, task := range list {
		ids[task.RedisID]++
		taskNames[task.TaskName]++
		statuses[task.Status]++
	}
	if len(ids) != 20 || len(taskNames) < 5 || len(statuses) != 5 || statuses[crsapi.StatusSucceeded] < 4500 {
		t.Errorf("%d instances, names %v, statuses %v", len(ids), taskNames, statuses)
	}
}
