// Package crsapitest simulates GetRedisTaskList, the task list of Tencent Cloud
// Redis Store in API 2.0, for tests of its clients, as net/http/httptest does
// for HTTP. A [Simulator] verifies each request as the documents say (signature,
// key, token, Nonce, Timestamp, every parameter), applies filters and paging,
// returns errors with the documented codes as HTTP 200, and injects faults on
// demand. A [Server] serves it on a loopback port, over TLS, or in memory. The
// package follows the vendor's documents and shares no signing, encoding or
// decoding code with package crsapi, so that the same mistake cannot hide in
// both. It does not know which client calls it, and it does not know what the
// real API does beyond its documents.
//
//	srv := crsapitest.NewServer()
//	defer srv.Close()
//	srv.SetTasks("ap-guangzhou", crsapitest.DocumentExample())
//	// send requests to srv.URL, signed with crsapitest.SecretID and crsapitest.SecretKey
//
//	srv.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.Hang})
//	srv.Inject(crsapitest.Fault{Skip: 2, Count: 1, Do: crsapitest.APIError(5100)})
//	srv.Inject(crsapitest.Fault{Rate: 0.5, Do: crsapitest.HTTPStatus(502)})
//	srv.ClearFaults()
package crsapitest
