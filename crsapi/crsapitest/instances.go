package crsapitest

import (
	"slices"
	"strings"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const (
	actionInstances = "DescribeInstances"

	maxLimitInstances = 1000
)

// SetInstances sets the instances of a region, and creates the region if necessary.
// DescribeInstances serves them; the list of tasks does not depend on them.
func (s *Simulator) SetInstances(region string, instances []crsapi.Instance) {
	l := s.create(region)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.instances = slices.Clone(instances)
}

// parametersInstances are those of DescribeInstances. A field that is nil was not sent.
type parametersInstances struct {
	Limit, Offset *int64
	InstanceID    *string `json:"InstanceId"`
	InstanceName  *string
	InstanceIDs   []string `json:"InstanceIds"`
	ProjectIDs    []int64  `json:"ProjectIds"`
	Status        []int64
	OrderBy       *string
	OrderType     *int64

	// The documents have these too. They have no effect.
	SearchKey                           *string
	SearchKeys, EngineName, BillingMode []string
	TagKeys                             []string
	Type                                *int64
	TypeVersion, AzMode                 *string
	InstanceTags                        []struct{ TagKey, TagValue string }
}

// instanceOrders compare instances by the values of OrderBy that have an effect.
var instanceOrders = map[string]func(a, b crsapi.Instance) int{
	"createtime":   func(a, b crsapi.Instance) int { return a.Created.Compare(b.Created) },
	"instancename": func(a, b crsapi.Instance) int { return strings.Compare(a.RedisName, b.RedisName) },
	"projectId":    func(a, b crsapi.Instance) int { return strings.Compare(a.ProjectID, b.ProjectID) },
	"type":         func(_, _ crsapi.Instance) int { return 0 },
	"curDeadline":  func(_, _ crsapi.Instance) int { return 0 },
}

// query returns the query, or what is wrong with a value.
func (p *parametersInstances) query() (q query, problem string) {
	q.instances = p
	q.limit, q.offset, problem = paging(p.Limit, p.Offset)
	switch {
	case problem != "":
		return q, problem
	case p.InstanceID != nil && *p.InstanceID == "":
		return q, "InstanceId must not be empty"
	case p.OrderBy != nil && instanceOrders[*p.OrderBy] == nil:
		return q, "OrderBy must be projectId, createtime, instancename, type or curDeadline"
	case p.OrderType != nil && *p.OrderType != 0 && *p.OrderType != 1:
		return q, "OrderType must be 0 or 1"
	case slices.ContainsFunc(p.Status, func(n int64) bool { return !slices.Contains([]int64{0, 1, 2, -2, -3}, n) }):
		return q, "Status must hold 0, 1, 2, -2 or -3"
	}
	return q, ""
}

// instanceStatus returns isolated or running.
func instanceStatus(in crsapi.Instance) int64 {
	if in.Isolated {
		return -2
	}
	return 2
}

func (p *parametersInstances) match(in crsapi.Instance) bool {
	project, _ := projectID(in.ProjectID).(int64)
	return (p.InstanceID == nil || *p.InstanceID == in.RedisID) && (p.InstanceName == nil || *p.InstanceName == in.RedisName) &&
		(p.InstanceIDs == nil || slices.Contains(p.InstanceIDs, in.RedisID)) && (p.ProjectIDs == nil || slices.Contains(p.ProjectIDs, project)) &&
		(p.Status == nil || slices.Contains(p.Status, instanceStatus(in)))
}

// find returns the instances that match, in order: the newest first, unless the request
// says otherwise.
func (p *parametersInstances) find(all []crsapi.Instance) []crsapi.Instance {
	found := slices.DeleteFunc(slices.Clone(all), func(in crsapi.Instance) bool { return !p.match(in) })
	order, sign := "createtime", -1
	if p.OrderBy != nil {
		order = *p.OrderBy
	}
	if p.OrderType != nil && *p.OrderType == 0 {
		sign = 1
	}
	slices.SortStableFunc(found, func(a, b crsapi.Instance) int { return sign * instanceOrders[order](a, b) })
	return found
}

type (
	instances3 struct {
		TotalCount  any
		InstanceSet any    `json:",omitzero"`
		RequestID   string `json:"RequestId"`
	}
	instanceRow3 struct {
		InstanceID   string `json:"InstanceId"`
		InstanceName string
		ProjectID    any `json:"ProjectId,omitzero"`
		Region       string
		Status       int64
		Createtime   string
	}
)

// instancePage responds to DescribeInstances.
func (x *exchange) instancePage() *response {
	x.list.mu.RLock()
	found := x.query.instances.find(x.list.instances)
	x.list.mu.RUnlock()
	q := x.query
	q.limit = min(q.limit, maxLimitInstances)
	q.offset -= q.offset % q.limit
	if x.pageCap > 0 {
		q.limit = min(q.limit, x.pageCap)
	}
	rows := []any{}
	for _, in := range found[min(q.offset, len(found)):min(q.offset+q.limit, len(found))] {
		created := noTime
		if !in.Created.IsZero() {
			created = x.format(in.Created)
		}
		rows = append(rows, instanceRow3{in.RedisID, in.RedisName, projectID(in.ProjectID), x.request.Region, instanceStatus(in), created})
	}
	total := len(found)
	if x.total != nil {
		total = x.total(total)
	}
	var set any = rows
	if len(rows) == 0 && x.habits.has(NullRows) {
		set = null
	}
	return x.json(struct{ Response instances3 }{instances3{total, set, requestID}})
}
