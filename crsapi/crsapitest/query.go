package crsapitest

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// query is what a request asks for.
type query struct {
	limit, offset      int
	redisID, redisName string // empty for any
	begin, end         int64  // of the submission, in UNIX seconds, both included
	statuses           []crsapi.Status
	types              []int // codes of flows

	taskID    int64                // of DescribeTaskInfo
	instances *parametersInstances // of DescribeInstances

	// within replaces the end of the bounds, if it is not nil.
	within func(t *crsapi.Task) bool
}

// anyTask is a query without filters.
func anyTask() query { return query{begin: math.MinInt64, end: math.MaxInt64} }

// onlyBounds reports whether the query has no filter except begin and end.
func (q *query) onlyBounds() bool {
	return q.redisID == "" && q.redisName == "" && q.statuses == nil && q.types == nil && q.within == nil
}

func (q *query) match(t *crsapi.Task) bool {
	at := t.StartTime.Unix()
	switch {
	case at < q.begin || at > q.end:
		return false
	case q.within != nil && !q.within(t):
		return false
	case q.redisID != "" && q.redisID != t.RedisID:
		return false
	case q.redisName != "" && q.redisName != t.RedisName:
		return false
	case q.statuses != nil && !slices.Contains(q.statuses, t.Status):
		return false
	case q.types != nil:
		code, ok := codes[t.TaskName]
		return ok && slices.Contains(q.types, code)
	}
	return true
}

// hash returns a hash of what identifies a task, and of n.
func hash(t *crsapi.Task, n int) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%s/%d/%d", t.RedisID, t.TaskName, t.StartTime.Unix(), n)
	return h.Sum64()
}
