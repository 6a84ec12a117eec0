// Package crsapitest simulates the task list of Tencent Cloud Redis Store for
// tests of its clients, as net/http/httptest does for HTTP. A [Simulator] serves
// the same tasks over three APIs:
//
//   - GetRedisTaskList of API 2.0, at [Path]
//   - DescribeTaskList, DescribeTaskInfo and DescribeInstances of API 3.0, at the path /
//   - GetRedisTaskList of the vendor's private cloud (TCE), which has the
//     protocol of API 3.0, also at the path /
//
// It verifies each request as the documents say (signature, key, token, time,
// every parameter), applies filters and paging, returns errors with the
// documented codes as HTTP 200, and injects faults on demand. A [Server] serves
// it on a loopback port or in memory. The package follows the vendor's documents
// and shares no signing, encoding or decoding code with package crsapi, so that
// the same mistake cannot hide in both. It does not know which client calls it.
// Where the documents leave something open, there is a [Habit].
//
//	srv := crsapitest.NewServer()
//	defer srv.Close()
//	srv.SetTasks("ap-guangzhou", crsapitest.DocumentExample())
//	// send requests to srv.URL or srv.URL3, signed with crsapitest.SecretID and crsapitest.SecretKey
//
//	srv.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.Hang})
//	srv.Inject(crsapitest.Fault{Count: 1, Do: crsapitest.APIError(5100)})
//	srv.Inject(crsapitest.Fault{Rate: 0.5, Do: crsapitest.HTTPStatus(502)})
//	srv.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
//	srv.Inject(crsapitest.Fault{API: "3.0", Rate: 0.1, Do: crsapitest.IgnoreEnd})
//	srv.ClearFaults()
//
// The faults are:
//
//   - errors, other responses and retired APIs: [APIError], [Envelope],
//     [HTTPStatus], [Redirect], [Body], [RetiredEffect]
//   - what the documents leave open, and wrong pages: [Habit], [PageCap], [Total]
//   - slow and broken responses: [Latency], [SlowBody], [ConnEffect], [DateSkew]
//
// A test changes the list with [Simulator.SetTasks], [Simulator.Add] and
// [Simulator.Update], at any time, also from the hook of [Simulator.OnRequest].
// In a list that is sorted, a request that has only bounds on the submission time
// visits no tasks outside its page, so a list may have a million tasks.
//
// Of API 3.0, the simulator does not serve GET requests and does not check the
// host name of a request, except that it is signed.
package crsapitest
