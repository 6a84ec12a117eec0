package crsapitest

import (
	"math"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// Habit is an Effect: one way in which a real server may behave where the documents are
// unclear, or against them. See [PageCap] for another one. DescribeTaskInfo and
// DescribeInstances have only NumbersAsText, and the latter NullRows.
type Habit int

const (
	// IgnoreBegin ignores beginTime.
	IgnoreBegin Habit = iota
	// IgnoreEnd ignores endTime.
	IgnoreEnd
	// ExclusiveEnd does not list tasks of the second endTime.
	ExclusiveEnd
	// EndOfTask lets endTime bound the EndTime of a task instead of its
	// submission time. A task without an EndTime has not ended and is listed, as in
	// a database that stores 0000-00-00 00:00:00 for its end. The documents of API
	// 2.0 exclude this, but it works there too.
	EndOfTask
	// EndOfRun is EndOfTask, but does not list a task that has not ended.
	EndOfRun
	// HiddenFractions gives most tasks a fraction of a second that no row shows.
	// endTime is the begin of its second, so most tasks of that second are later.
	HiddenFractions
	// RefuseEndAlone refuses endTime without beginTime, with 4000, under API 3.0
	// InvalidParameterValue.
	RefuseEndAlone
	// RefuseBounds refuses beginTime and endTime in that way.
	RefuseBounds
	// RefuseLimitAbove50 refuses a limit above 50 in that way.
	RefuseLimitAbove50
	// RefuseUnknown responds with 5000 InstanceNotExists, under API 3.0
	// ResourceNotFound.InstanceNotExists, to a request for an instance if the region
	// has no task of it. Without it the list is empty.
	RefuseUnknown
	// DenyUnfiltered denies a request for the tasks of all instances, with 4102
	// SecretidNotAuthAccessResource, under API 3.0
	// AuthFailure.UnauthorizedOperation. The documents do not say what a policy for
	// single instances does to it.
	DenyUnfiltered

	// OldestFirst reverses the order.
	OldestFirst
	// RoundOffsets rounds the offset down to a multiple of the limit, or of
	// the [PageCap] if that is smaller. API 3.0 always rounds it down to a
	// multiple of the limit.
	RoundOffsets
	// IgnoreOffset returns the first page for every offset.
	IgnoreOffset
	// PageNumbers treats the offset as a page number, which is what the document of
	// API 2.0 calls it.
	PageNumbers

	// TotalOfPage has the number of rows of the page as totalCount.
	TotalOfPage
	// TotalInData has totalCount within data, and none beside it. API 2.0 only.
	TotalInData
	// TotalAsText writes totalCount as a string.
	TotalAsText
	// NumbersAsText writes every number of the JSON as a string.
	NumbersAsText
	// NullRows writes null instead of an empty list.
	NullRows
	// NoRows leaves out an empty list.
	NoRows

	// TypePrefix writes taskName with the prefix that it has in a filter,
	// task_backupInstance, and TaskType as the SDK's constant, FLOW_BACKUPINSTANCE.
	TypePrefix
	// TypeConstant writes both as the constant without FLOW_, BACKUPINSTANCE.
	TypeConstant
	// TypeNumber writes both as a number, 12.
	TypeNumber
	// ZeroStart writes the startTime of a pending task as 0000-00-00 00:00:00.
	ZeroStart
	// EmptyEnd writes the EndTime of a task that has not ended as an empty string,
	// instead of 0000-00-00 00:00:00.
	EmptyEnd
	// NullEnd writes the EndTime of a task that has not ended as null.
	NullEnd
)

// habits is a set of them.
type habits uint64

func (s habits) has(h Habit) bool { return s&(1<<h) != 0 }

func (h Habit) apply(x *exchange) {
	x.habits |= 1 << h
	if x.request.Action == actionInfo || x.request.Action == actionInstances {
		return
	}
	if refused := h.refuse(x); refused != nil {
		x.render = refused
	}
}

// refuse returns the response to a request that the habit refuses, or nil.
func (h Habit) refuse(x *exchange) render {
	q := &x.query
	begin, end := q.begin != math.MinInt64, q.end != math.MaxInt64
	switch {
	case h == RefuseEndAlone && end && !begin,
		h == RefuseBounds && (begin || end),
		h == RefuseLimitAbove50 && q.limit > 50:
		if x.request.API == api2 {
			return invalid("a parameter", "is not valid")
		}
		return envelope("InvalidParameterValue", "The value of a parameter is not valid.")
	case h == RefuseUnknown && q.redisID != "" && !x.list.hasInstance(q.redisID):
		if x.request.API == api2 {
			return apiError(5000, "InstanceNotExists", "the instance does not exist")
		}
		return envelope("ResourceNotFound.InstanceNotExists", "The instance does not exist.")
	case h == DenyUnfiltered && q.redisID == "":
		return apiError(4102, "SecretidNotAuthAccessResource", "you are not authorized to perform operation (redis)\nresource (*) has no permission")
	}
	return nil
}

// changeBounds changes what the bounds of a query mean.
func (s habits) changeBounds(q *query) {
	if s.has(IgnoreBegin) {
		q.begin = math.MinInt64
	}
	end := q.end
	switch {
	case end == math.MaxInt64:
	case s.has(IgnoreEnd):
		q.end = math.MaxInt64
	case s.has(ExclusiveEnd):
		q.end--
	case s.has(EndOfTask) || s.has(EndOfRun):
		q.end = math.MaxInt64
		q.within = func(t *crsapi.Task) bool {
			if t.EndTime.IsZero() {
				return !s.has(EndOfRun)
			}
			return t.EndTime.Unix() <= end
		}
	case s.has(HiddenFractions):
		q.within = func(t *crsapi.Task) bool {
			return t.StartTime.Unix() < end || hash(t, 0)%4 == 0 // has no fraction
		}
	}
}

// changePage changes which page a query means. A page has at most so many rows, if most is
// not 0.
func (s habits) changePage(q *query, most int) {
	if most > 0 {
		q.limit = min(q.limit, most)
	}
	switch {
	case s.has(IgnoreOffset):
		q.offset = 0
	case s.has(PageNumbers):
		q.offset *= q.limit
	case s.has(RoundOffsets):
		q.offset -= q.offset % q.limit
	}
}
