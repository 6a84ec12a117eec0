package collector

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// maxClockSkew is below the smallest limit in the API's documents, five minutes: a clock
// that drifts is reported before requests are refused.
const maxClockSkew = time.Minute

// Problem is a fact that an operator should know, with advice.
type Problem struct{ What, Advice string }

// Problems returns what the last poll found.
func (s RegionStatus) Problems() []Problem {
	var all []Problem
	add := func(when bool, what, advice string) {
		if when {
			all = append(all, Problem{what, advice})
		}
	}
	if s.Err != nil {
		err, api := s.Err, s.API
		if both := (*bothFailed)(nil); errors.As(err, &both) { // the successor's failure can be fixed
			err, api = both.successorErr, both.successor
		}
		add(true, s.Err.Error(), cmp.Or(crsapi.Advice(err, api), "See the error above."))
	}
	add(s.Err == nil && s.Tasks == 0 && s.Rejected == 0 && len(s.Inventory.Instances) == 0, "the API lists no task in this region",
		"A region whose name is wrong looks like this: compare --crs.region or TENCENTCLOUD_REGION with the regions of the console. "+
			"If --crs.redis-id, --crs.task-type or --crs.lookback is set, it may exclude all tasks.")
	add(s.ByOffset != "", "the list is read by limit and offset only: "+s.ByOffset,
		"The numbers are correct. A poll of a list that changes may cost more requests than usual.")
	for _, note := range s.Notes {
		add(true, note, "The numbers are correct.")
	}
	add(len(s.Unlisted) > 0, fmt.Sprintf("the API lists no task of %d watched instances: %s", len(s.Unlisted), strings.Join(s.Unlisted, ", ")),
		"It does not know them in this region, or they have no task: compare --crs.redis-id with the instances of the region in the console.")
	add(s.Inventory.Err != nil, fmt.Sprint(s.Inventory.Err), crsapi.Advice(s.Inventory.Err, crsapi.API30))
	direction := "behind"
	if s.ClockSkew < 0 {
		direction = "ahead of"
	}
	add(s.ClockSkew.Abs() > maxClockSkew, fmt.Sprintf("the local clock is %s %s the API's", s.ClockSkew.Abs().Round(time.Second), direction),
		"Set the clock with NTP: the API refuses requests whose time differs too much from its own.")
	add(s.Rejected > 0, fmt.Sprintf("%d rows of the list could not be read", s.Rejected),
		"Only crs_poll_rejected_rows counts them. If they stay, the API has changed: report it.")
	return all
}
