// Package pages serves what an Exporter knows as HTML: the status of each region, the
// tasks of the lists, and a calendar of the backups. No page sends a request to the API.
// The pages need no script and no other host, and follow the browser's light or dark
// setting.
//
//	/         each region: up, or the reason with advice; API, age and size of the list,
//	          cost of the last poll; and the instances whose backups fail, are overdue or
//	          do not end, by the conditions of the shipped alerts without your exceptions
//	/tasks    the tasks, newest first, with counts by status
//	/backups  days across and instances down, those with the worst backups first
//
// Filters are parameters of the URL. An unknown name or value gives status 400.
//
//	region     one region
//	redisId    one instance
//	redisName  a part of the name, in any case
//	taskName   one name                                              /tasks only
//	status     one or several                                        /tasks only
//	since      a duration such as 24h or 7d before now, a day of     /tasks only
//	until      the API's zone such as 2026-01-31, or a time such as  /tasks only
//	           2026-01-31T08:00:00Z
//	day        since and until the same day                          /tasks only
//
// The failed tasks of the last day: /tasks?status=failed&status=error&since=24h
//
// A page shows at most 100 tasks or 200 instances, and has links to the others.
package pages
