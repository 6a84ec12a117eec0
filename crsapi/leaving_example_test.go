package crsapi_test

import (
	"context"
	"fmt"
	"log"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func ExampleClient_Tasks() {
	server := crsapitest.NewServer()
	defer server.Close()
	server.SetTasks("ap-guangzhou", crsapitest.DocumentExample())

	cfg := crsapi.DefaultConfig(crsapi.API20)
	cfg.Region, cfg.Endpoint = "ap-guangzhou", server.URL
	cfg.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	cfg.PageSize = 4
	client, err := crsapi.NewClient(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer client.CloseIdleConnections()

	count := map[crsapi.Status]int{}
	for task, err := range client.Tasks(context.Background(), crsapi.Query{}) {
		if err != nil {
			log.Fatal(err)
		}
		count[task.Status]++
	}
	fmt.Println(count[crsapi.StatusSucceeded], "tasks succeeded")
	// Output: 9 tasks succeeded
}
