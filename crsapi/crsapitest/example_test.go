package crsapitest_test

import (
	"fmt"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func Example() {
	srv := crsapitest.NewServer()
	defer srv.Close()
	srv.SetTasks("ap-guangzhou", crsapitest.DocumentExample())

	// A new task appears while the second page is being asked for.
	srv.OnRequest(func(r crsapitest.Request) {
		if r.Seq == 2 {
			srv.Add(r.Region, crsapi.Task{RedisID: "crs-izbob1wh", TaskName: "backupInstance"})
		}
	})
	// Pages are capped, and every tenth request or so fails.
	srv.Inject(crsapitest.Fault{Do: crsapitest.PageCap(40)})
	srv.Inject(crsapitest.Fault{Rate: 0.1, Do: crsapitest.APIError(6000)})

	// Here a client would ask srv.URL.
	fmt.Println(srv.Requests("ap-guangzhou"), len(srv.Tasks("ap-guangzhou")))
	// Output: 0 9
}
