package crsapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ActionInstances is the action of Client.Instances.
//
// Source: "DescribeInstances" of redis 2018-04-12.
const ActionInstances = "DescribeInstances"

// MaxInstances is the maximum number of instances of a page.
const MaxInstances = 1000

// Instance is an instance of a region, with or without tasks.
type Instance struct {
	RedisID   string // instance ID; empty if the row is invalid
	RedisName string
	ProjectID string    // decimal; empty if unknown
	Created   time.Time // in UTC, in whole seconds; zero if unknown
	Isolated  bool      // closed, or about to be deleted
}

// Instances requests the page that begins after offset instances, a multiple of
// MaxInstances, oldest instance first, and the number of instances on all pages. API 2.0
// does not have it. Retries and errors are as for Page, but the request does not count for
// Config.Concurrency.
func (c *Client) Instances(ctx context.Context, offset int) (page []Instance, total int, err error) {
	if c.dialect.v2 {
		return nil, 0, fmt.Errorf("instances: API %s has no %s", c.cfg.API, ActionInstances)
	}
	params := map[string]any{"Limit": MaxInstances, "Offset": offset, "OrderBy": "createtime", "OrderType": 0}
	r, err := c.fetch(ctx, call{ActionInstances, params, false})
	return r.instances, r.page.TotalCount, err
}

// instanceRow is a row of the response.
type instanceRow struct {
	InstanceID   text `json:"InstanceId"`
	InstanceName text
	ProjectID    text `json:"ProjectId"`
	Createtime   text `json:",case:ignore"`
	Status       text
}

// instance returns the row as an Instance. Its time is read as UTC.
func (r *instanceRow) instance() Instance {
	status, err := strconv.Atoi(r.Status.integer())
	if err != nil || r.InstanceID == "" || len(r.InstanceID) > maxLabel {
		return Instance{}
	}
	return Instance{
		RedisID: string(r.InstanceID), RedisName: r.InstanceName.name(), ProjectID: r.ProjectID.projectID(),
		Created: r.Createtime.time(), Isolated: status == -2 || status == -3,
	}
}

// name returns the name of an instance, cut to the length of a label.
func (t text) name() string {
	if len(t) > maxLabel {
		return strings.ToValidUTF8(string(t[:maxLabel]), "") // a character may be cut
	}
	return string(t)
}

func (t text) projectID() string {
	project, err := strconv.ParseInt(t.integer(), 10, 64)
	if err != nil {
		return ""
	}
	return string(shared(strconv.AppendInt(nil, project, 10)))
}
