package crsapitest

import (
	"hash/fnv"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// Habit is an Effect: one way in which a real server may behave where the documents are
// unclear, or against them. See [PageCap] and [Format] for other open points.
type Habit int

const (
	// IgnoreBegin ignores beginTime.
	IgnoreBegin Habit = iota
	// IgnoreEnd ignores endTime.
	IgnoreEnd
	// IgnoreStatuses ignores taskStatus, under API 3.0 Result.
	IgnoreStatuses
	// ExclusiveBegin does not list tasks of the second beginTime.
	ExclusiveBegin
	// ExclusiveEnd does not list tasks of the second endTime.
	ExclusiveEnd
	// EndOfTask lets endTime bound the EndTime of a task instead of its
	// submission time. A task without an EndTime has not ended and is listed, as in
	// a database that stores 0000-00-00 00:00:00 for its end. The documents of API
	// 2.0 exclude this, but it works there too.
	EndOfTask
	// EndOfRun is EndOfTask, but that a task that has not ended is never within.
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

	// ShuffleTies puts tasks that were submitted in the same second in a
	// random order, a new one for each request, as a database that sorts by
	// time alone may do. When such tasks are on two pages, one can come twice
	// and another never, although each total is right. The order depends only
	// on [Simulator.Seed], on [Request.Seq] and on the tasks.
	ShuffleTies
	// UnsortedRows puts the tasks in a random order, the same for all requests,
	// as a server that does not sort. A task keeps its place among the others
	// while the list changes. The order depends on [Simulator.Seed].
	UnsortedRows
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

	// TypePrefix writes taskName with the prefix that it has in a filter,
	// task_backupInstance, and TaskType as the SDK's constant, FLOW_BACKUPINSTANCE.
	TypePrefix
	// TypeConstant writes both as the constant without FLOW_, BACKUPINSTANCE.
	TypeConstant
	// TypeNumber writes both as a number, 12.
	TypeNumber
	// NumbersAsText writes every number of the JSON as a string.
	NumbersAsText
	// ZeroStart writes the startTime of a pending task as 0000-00-00 00:00:00.
	ZeroStart
)

// habits is a set of them.
type habits uint64

func (s habits) has(h Habit) bool { return s&(1<<h) != 0 }

func (h Habit) apply(x *exchange) {
	x.habits |= 1 << h
	if x.dialect != nil && !x.dialect.list {
		return
	}
	f := x.query.filter
	begin, end := f.begin != math.MinInt64, f.end != math.MaxInt64
	if h == RefuseEndAlone && end && !begin || h == RefuseBounds && (begin || end) || h == RefuseLimitAbove50 && x.query.limit > 50 {
		x.render = func(x *exchange, p *reply) {
			if x.api == api2 {
				renderRefusal(invalid("a parameter", "is not valid"))(x, p)
				return
			}
			renderRefusal3(refuse3("InvalidParameterValue", "The value of a parameter is not valid."))(x, p)
			p.code = new(4000)
		}
	}
}

// change changes what f means.
func (s habits) change(f *filter) {
	if s.has(IgnoreBegin) {
		f.begin = math.MinInt64
	}
	if s.has(IgnoreEnd) {
		f.end = math.MaxInt64
	}
	if s.has(IgnoreStatuses) {
		f.statuses = 0
	}
	if s.has(ExclusiveBegin) && f.begin != math.MinInt64 {
		f.begin++
	}
	if f.end == math.MaxInt64 {
		return
	}
	if s.has(ExclusiveEnd) {
		f.end--
	}
	f.endOfTask, f.ended, f.fractions = s.has(EndOfTask) || s.has(EndOfRun), s.has(EndOfRun), s.has(HiddenFractions)
}

// within reports whether a task is within the end of the bounds.
func (f *filter) within(t *crsapi.Task) bool {
	at := t.StartTime.Unix()
	switch {
	case f.endOfTask && t.EndTime.IsZero():
		return !f.ended
	case f.endOfTask:
		return t.EndTime.Unix() <= f.end
	case f.fractions && at == f.end:
		return identity(t)%4 == 0 // of a task without a fraction
	}
	return at <= f.end
}

// identity is a hash of what identifies a task.
func identity(t *crsapi.Task) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, t.RedisID+"/"+t.TaskName)
	return mix(h.Sum64(), uint64(t.StartTime.Unix()))
}

// place returns the offset and the limit of a page.
func (s habits) place(q taskQuery, most int) (offset, limit int) {
	limit = q.limit
	if most > 0 {
		limit = min(limit, most)
	}
	switch {
	case s.has(IgnoreOffset):
		return 0, limit
	case s.has(PageNumbers):
		return q.offset * limit, limit
	case s.has(RoundOffsets):
		return q.offset - q.offset%limit, limit
	}
	return q.offset, limit
}

// appendType appends the type of a task.
func (e rowEncoder) appendType(b []byte, name string) []byte {
	code, ok := codes[name]
	constant := ""
	if ok {
		if constant = flows[code].constant; constant == "" {
			constant = strings.ToUpper(name)
		}
	}
	switch v2 := e.dialect == nil; {
	case ok && e.habits.has(TypeNumber):
		return strconv.AppendInt(b, int64(code), 10)
	case ok && e.habits.has(TypeConstant):
		return appendString(b, constant)
	case ok && e.habits.has(TypePrefix) && v2:
		return appendString(b, "task_"+taskName(name))
	case ok && e.habits.has(TypePrefix):
		return appendString(b, "FLOW_"+constant)
	case v2:
		return appendString(b, taskName(name))
	default:
		return appendString(b, taskType(name))
	}
}

// appendStart appends the submission time of a task.
func (e rowEncoder) appendStart(b []byte, t *crsapi.Task) []byte {
	if e.habits.has(ZeroStart) && t.Status == crsapi.StatusPending {
		return append(b, noTime...)
	}
	b = append(b, '"')
	b = t.StartTime.In(e.zone).AppendFormat(b, timeLayout)
	return append(b, '"')
}

// number is a member of an object whose value is a number.
var number = regexp.MustCompile(`(\w":)(-?[0-9][-+.0-9eE]*)`)

// finish changes the JSON of a response.
func (s habits) finish(p *reply) {
	if s.has(NumbersAsText) && p.status == 200 {
		p.body = number.ReplaceAll(p.body, []byte(`$1"$2"`))
	}
}
