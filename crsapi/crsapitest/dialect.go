package crsapitest

// The APIs, as Fault.API and Request.API name them.
const (
	api2   = "2.0"
	api3   = "3.0"
	apiTCE = "tce"
)

// dialect is one action of the protocol of API 3.0: its name and the names of
// its fields.
type dialect struct {
	api, action string
	list        bool // the action lists tasks

	instanceID, instanceName string
	status, taskID, tasks    string
}

// dialectOf returns the dialect of an action, or nil.
func dialectOf(action string) *dialect {
	switch action {
	case "DescribeTaskList":
		return &dialect{
			api: api3, action: action, list: true,
			instanceID: "InstanceId", instanceName: "InstanceName",
			status: "Result", taskID: "TaskId", tasks: "Tasks",
		}
	case "DescribeTaskInfo":
		info := *dialectOf("DescribeTaskList")
		info.action, info.list = action, false
		return &info
	case "GetRedisTaskList":
		return &dialect{
			api: apiTCE, action: action, list: true,
			instanceID: "RedisId", instanceName: "RedisName",
			status: "Status", taskID: "TaskID", tasks: "RedisTaskSets",
		}
	default:
		return nil
	}
}

// documented reports whether a filter of the action can name a flow.
func (d *dialect) documented(f flow) bool {
	if d.api == apiTCE {
		return f.name != ""
	}
	return f.constant != ""
}
