package crsapi

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Query holds every input parameter of GetRedisTaskList. The zero value asks
// for all tasks.
type Query struct {
	// Limit is the length of a page, from 1 on, and Offset the number of
	// records to pass over. Client.Sweep sets both itself.
	Limit, Offset int

	RedisID   string
	RedisName string

	// BeginTime and EndTime bound the submission time, both ends included,
	// to the second. The zero time leaves a bound out.
	BeginTime, EndTime time.Time

	Statuses  []Status
	TaskTypes []string // out of TaskTypes()
}

func (q Query) validate() error {
	switch {
	case q.Limit < 1:
		return errors.New("limit is below 1")
	case q.Offset < 0:
		return errors.New("offset is negative")
	}
	for _, t := range q.TaskTypes {
		if !slices.Contains(TaskTypes(), t) {
			return fmt.Errorf("%q is none of the API's task types", t)
		}
	}
	return nil
}

// params returns the action's own parameters.
func (q Query) params(zone *time.Location) map[string]string {
	p := map[string]string{
		"limit":  strconv.Itoa(q.Limit),
		"offset": strconv.Itoa(q.Offset),
	}
	// The document's table lists redisId twice; the second is redisName, as
	// its example has it.
	if q.RedisID != "" {
		p["redisId"] = q.RedisID
	}
	if q.RedisName != "" {
		p["redisName"] = q.RedisName
	}
	if !q.BeginTime.IsZero() {
		p["beginTime"] = q.BeginTime.In(zone).Format(timeLayout)
	}
	if !q.EndTime.IsZero() {
		p["endTime"] = q.EndTime.In(zone).Format(timeLayout)
	}
	for i, s := range q.Statuses {
		p["taskStatus."+strconv.Itoa(i)] = strconv.Itoa(int(s))
	}
	for i, t := range q.TaskTypes {
		p["taskType."+strconv.Itoa(i)] = t
	}
	return p
}
