// Package crsapitest simulates the side of Tencent's Cloud Redis Store that
// answers GetRedisTaskList of API 2.0, in the manner of net/http/httptest.
//
// A [Simulator] verifies each request as the documents demand (signature, key,
// token, Nonce, Timestamp, every parameter), filters and pages, and answers
// errors with the documented codes as HTTP 200. A [Server] puts one behind a
// loopback listener, TLS, or a connection that never leaves the process:
//
//	srv := crsapitest.NewServer()
//	defer srv.Close()
//	srv.SetTasks("ap-guangzhou", crsapitest.DocumentExample())
//	// ask srv.URL with crsapitest.SecretID and crsapitest.SecretKey
//
// Misbehaviour comes on demand, by region, count and rate:
//
//	srv.Inject(crsapitest.Fault{Region: "ap-beijing", Do: crsapitest.Hang()})
//	srv.Inject(crsapitest.Fault{Skip: 2, Count: 1, Do: crsapitest.APIError(5100)})
//	srv.Inject(crsapitest.Fault{Rate: 0.5, Do: crsapitest.HTTPStatus(502)})
//	srv.Heal()
//
// It is written from the vendor's documents and shares none of a client's
// signing, encoding or decoding, so that the two cannot be wrong alike. It
// treats all callers the same.
package crsapitest
