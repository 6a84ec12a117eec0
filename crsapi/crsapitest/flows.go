package crsapitest

import (
	"fmt"
	"strings"
)

// A flow is a kind of task. Its index in flows is its code.
type flow struct {
	constant string // in the vendor's SDKs, without FLOW_; empty if the public cloud has none
	name     string // taskName of API 2.0; empty if it has none
}

const (
	backupCode     = 12 // a backup by hand
	autoBackupCode = 17 // a backup by schedule
)

// flows are the task types of DescribeTaskList (TaskTypes in the vendor's SDKs)
// and of the private cloud's GetRedisTaskList, with the names of API 2.0. The
// documents mention no task with any of the missing codes.
var flows = [...]flow{
	1:  {"CREATE", "newInstance"},
	2:  {"RESIZE", "resizeInstance"},
	3:  {"CLOSE", "closeInstance"},
	4:  {"CLEAN", "cleanInstance"},
	5:  {"STARTUP", "startInstance"},
	6:  {"DELETE", "deleteInstance"},
	7:  {"SETPWD", "setPassword"},
	8:  {"", "importRdb"},
	9:  {"EXPORTBACKUP", "exportBackup"},
	10: {"RESTOREBACKUP", "restoreBackup"},
	11: {"", "restoreStream"},
	12: {"BACKUPINSTANCE", "backupInstance"},
	13: {"MIGRATEINSTANCE", ""},
	14: {"DELBACKUP", ""},
	16: {"EXCHANGEINSTANCE", ""},
	17: {"AUTOBACKUP", ""},
	22: {"MIGRATECHECK", ""},
	23: {"MIGRATETASK", ""},
	25: {"CLEANDB", ""},
	26: {"CLONEBACKUP", ""},
	27: {"CHANGEVIP", ""},
	28: {"EXPORSHR", ""},
	29: {"ADDNODES", ""},
	31: {"CHANGENET", ""},
	33: {"MODIFYINSTACEREADONLY", ""},
	34: {"MODIFYINSTANCEPARAMS", ""},
	35: {"MODIFYINSTANCEPASSWORDFREE", ""},
	36: {"SWITCHINSTANCEVIP", ""},
	37: {"MODIFYINSTANCEACCOUNT", ""},
	38: {"MODIFYINSTANCEBANDWIDTH", ""},
	39: {"ENABLEINSTANCE_REPLICATE", ""},
	40: {"DISABLEINSTANCE_REPLICATE", ""},
	41: {"UpgradeArch", ""},
	42: {"DowngradeArch", ""},
	43: {"UpgradeVersion", ""},
	44: {"MODIFYCONNECTIONCONFIG", ""},
	45: {"CLEARNETWORK", ""},
	46: {"REMOVE_BACKUP_FILE", ""},
	47: {"UPGRADE_SUPPORT_MULTI_AZ", ""},
	48: {"SHUTDOWN_MASTER", ""},
	49: {"CHANGE_REPLICA_TO_MASTER", ""},
	50: {"CODE_ADD_REPLICATION_INSTANCE", ""},
	52: {"OPEN_WAN", ""},
	53: {"CLOSE_WAN", ""},
	54: {"UPDATE_WAN", ""},
	55: {"CODE_DELETE_REPLICATION_INSTANCE", ""},
	56: {"CODE_CHANGE_MASTER_INSTANCE", ""},
	57: {"CODE_CHANGE_INSTANCE_ROLE", ""},
	58: {"MIGRATE_NODE", ""},
	59: {"SWITCH_NODE", ""},
	60: {"UPGRADE_SMALL_VERSION", ""},
	61: {"UPGRADE_PROXY_VERSION", ""},
	62: {"MODIFY_INSTANCE_NETWORK", ""},
	63: {"MIGRATE_PROXY_NODE", ""},
	66: {"MIGRATION_INSTANCE_ZONE", ""},
	67: {"UPGRADE_INSTANCE_CACHE_AND_PROXY", ""},
	69: {"MODIFY_PROXY_NUM", ""},
	70: {"MODIFYBACKUPMOD", ""},
}

// codes maps both names of a flow, and its code as text, to its code.
var codes = func() map[string]int {
	m := make(map[string]int)
	for code, f := range flows {
		m[codeTexts[code]] = code
		for _, name := range []string{f.constant, f.name} {
			if name != "" {
				m[name] = code
			}
		}
	}
	return m
}()

var codeTexts = func() (texts [len(flows)]string) {
	for code := range texts {
		texts[code] = fmt.Sprintf("%03d", code)
	}
	return texts
}()

// constant returns the constant of a flow, or one like it.
func constant(code int) string {
	if f := flows[code]; f.constant == "" {
		return strings.ToUpper(f.name)
	}
	return flows[code].constant
}

// taskName returns the taskName of a task under API 2.0.
func taskName(name string) string {
	switch code, ok := codes[name]; {
	case !ok:
		return name
	case code == autoBackupCode:
		return flows[backupCode].name
	case flows[code].name != "":
		return flows[code].name
	default:
		return name
	}
}

// flowText is the TaskType of DescribeTaskInfo. The documents have one example
// of it, the text of cleanInstance.
func flowText(name string) string {
	if code, ok := codes[name]; ok && flows[code].name == "cleanInstance" {
		return "redis缓存清空流程"
	}
	return "redis " + name + " 流程"
}
