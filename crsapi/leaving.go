package crsapi

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Everything in this file goes once nothing uses it.

// RejectedRow is a row that could not be read. It is listed and counts in
// Page.TotalCount.
type RejectedRow struct {
	Index     int       // of the row among all rows of the page
	StartTime time.Time // zero if it could not be read
	// Hash is equal for equal rows, as long as the process runs. The status, the
	// progress and the end, which change while a task runs, do not matter.
	Hash uint64
}

// StatusFilters returns the statuses that one Query can combine. The private cloud
// filters by one status only, and has none.
func (a API) StatusFilters() []Status { return slices.Clone(dialects[a].filters) }

// IsRegionName reports whether name has only letters, digits and hyphens, so that it
// may be part of a host name. That of an empty name is true.
func IsRegionName(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// maxTaskPages limits the requests of one iteration over Tasks.
const maxTaskPages = 10_000

// Tasks iterates over all tasks that match q, page by page, from q.Offset on.
// Rows that cannot be read are skipped. After an error, the iteration ends. The
// errors are those of Page, wrapped, or an *Error if there are more than 10,000
// pages. Each use of the iterator sends the requests again.
//
// The list may change between two pages. Then Tasks may return a task twice or
// not at all: a new task at the front of the list moves the others to higher
// offsets, and a task that leaves the list moves them to lower ones.
func (c *Client) Tasks(ctx context.Context, q Query) iter.Seq2[Task, error] {
	q.Statuses, q.TaskTypes = slices.Clone(q.Statuses), slices.Clone(q.TaskTypes)
	if q.Limit == 0 {
		q.Limit = c.cfg.PageSize
	}
	return func(yield func(Task, error) bool) {
		q := q
		for range maxTaskPages {
			p, err := c.Page(ctx, q)
			if err != nil {
				yield(Task{}, fmt.Errorf("list tasks of region %s: page at offset %d: %w", c.cfg.Region, q.Offset, err))
				return
			}
			for _, task := range p.Tasks {
				if !yield(task, nil) {
					return
				}
			}
			rows := len(p.Tasks) + len(p.Rejected)
			if rows == 0 || q.Offset+rows >= p.TotalCount {
				return
			}
			// The server may return smaller pages than requested. Offsets stay
			// multiples of the page size: some servers round them down to one.
			q.Limit = min(q.Limit, rows)
			q.Offset += rows
		}
		yield(Task{}, fmt.Errorf("list tasks of region %s: %w", c.cfg.Region, decodeError("more than %d pages", maxTaskPages)))
	}
}
