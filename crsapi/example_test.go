package crsapi_test

import (
	"context"
	"fmt"
	"log"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func ExampleClient_Page() {
	server := crsapitest.NewServer() // a simulator with the tasks of Tencent's document
	defer server.Close()
	server.SetTasks("ap-guangzhou", crsapitest.DocumentExample())

	cfg := crsapi.DefaultConfig(crsapi.API20)
	cfg.Region = "ap-guangzhou"
	cfg.Endpoint = server.URL // leave the default for the real API
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	client, err := crsapi.NewClient(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer client.CloseIdleConnections()

	page, err := client.Page(context.Background(), crsapi.Query{Limit: 2})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(page.Tasks), "of", page.TotalCount)
	for _, task := range page.Tasks {
		fmt.Println(task.StartTime.Format("2006-01-02 15:04:05"), task.RedisID, task.TaskName, task.Status)
	}
	// Output:
	// 2 of 9
	// 2017-02-10 08:56:18 crs-izbob1wh restoreBackup succeeded
	// 2017-02-10 07:02:36 crs-izbob1wh backupInstance succeeded
}
