// Package crsapi is a client for API 2.0 of Tencent Cloud Redis (CRS): it signs
// and sends the action GetRedisTaskList, which lists the tasks of all instances
// of one region, and returns typed tasks or a typed error. It retries transient
// failures with a new signature, respects a rate limit, and promises that no
// error contains a secret. It does not know what the tasks are used for, and
// where credentials come from is left to package credentials. The source for
// everything here is Tencent's public documentation of GetRedisTaskList and of
// the common parameters, signature and error codes of API 2.0.
package crsapi
