// Package crsapi speaks API 2.0 of Tencent's Cloud Redis Store: the action
// GetRedisTaskList, its signature, its paging and its errors, as Tencent's
// documents describe them.
package crsapi
