package crsapi

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// timeLayout is the format of times in requests and responses. They carry no
// time zone.
const timeLayout = "2006-01-02 15:04:05"

// Query holds the input parameters of a request for tasks. The zero value asks
// for all tasks. Fields that are set must all match.
type Query struct {
	// Limit is the number of tasks per page; 0 means Config.PageSize. Offset is
	// the number of tasks to skip. It should be a multiple of Limit.
	Limit, Offset int

	RedisID   string // instance ID, such as crs-izbob1wh
	RedisName string // name of the instance

	// BeginTime and EndTime limit the submission time of tasks. Both are
	// included, with a resolution of one second. The zero time means no limit.
	// The document of API 3.0 does not say which time EndTime limits there.
	BeginTime, EndTime time.Time

	// Statuses are documented ones. API 3.0 has no StatusError, and the private
	// cloud takes only one status.
	Statuses  []Status
	TaskTypes []string // values of API.TaskTypes
}

func (q Query) validate(api API) error {
	switch {
	case q.Limit < 1:
		return errors.New("Limit must not be negative")
	case q.Limit > api.MaxPageSize():
		return fmt.Errorf("Limit must not be above %d", api.MaxPageSize())
	case q.Offset < 0:
		return errors.New("Offset must not be negative")
	case api == APITCE && len(q.Statuses) > 1:
		return errors.New("the private cloud cannot filter by more than one status")
	}
	for _, s := range q.Statuses {
		if s < StatusError || s > StatusFailed || api == API30 && s == StatusError {
			return fmt.Errorf("API %s cannot filter by status %d", api, s)
		}
	}
	for _, t := range q.TaskTypes {
		if !slices.Contains(api.TaskTypes(), t) {
			return fmt.Errorf("API %s has no task type %q", api, t)
		}
	}
	return nil
}
