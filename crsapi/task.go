package crsapi

import (
	"time"
)

// Status is a task's state as the API numbers it. Numbers beyond the
// documented five are data, not an error: they print as "unknown".
type Status int32

// The statuses that the document of GetRedisTaskList defines.
const (
	StatusError     Status = -1
	StatusPending   Status = 0
	StatusExecuting Status = 1
	StatusSucceeded Status = 2
	StatusFailed    Status = 3
)

// String returns pending, executing, succeeded, failed, error or unknown.
func (s Status) String() string {
	switch s {
	case StatusPending:
		return "pending"
	case StatusExecuting:
		return "executing"
	case StatusSucceeded:
		return "succeeded"
	case StatusFailed:
		return "failed"
	case StatusError:
		return "error"
	default:
		return "unknown"
	}
}

// Task names as the document gives them. Others occur and pass through.
const (
	NewInstance    = "newInstance"
	ResizeInstance = "resizeInstance"
	CloseInstance  = "closeInstance"
	CleanInstance  = "cleanInstance"
	StartInstance  = "startInstance"
	DeleteInstance = "deleteInstance"
	SetPassword    = "setPassword"
	ImportRdb      = "importRdb"
	ExportBackup   = "exportBackup"
	RestoreBackup  = "restoreBackup"
	RestoreStream  = "restoreStream"
	BackupInstance = "backupInstance"
)

// TaskTypes are the values that Query.TaskTypes takes: seven of the twelve
// names, with a prefix that the returned names do not have.
func TaskTypes() []string {
	return []string{
		"task_importRdb",
		"task_exportBackup",
		"task_restoreBackup",
		"task_restoreStream",
		"task_backupInstance",
		"task_cleanInstance",
		"task_resizeInstance",
	}
}

// Task is one row of redisTaskSet. The API gives a row no id: RedisID,
// TaskName and StartTime are all the identity there is, and two tasks may
// share it.
type Task struct {
	RedisID   string
	RedisName string
	ProjectID string // decimal; empty where the API gave none
	TaskName  string
	StartTime time.Time // submission, to the second, UTC
	Status    Status
	Progress  float32 // 0 uncompleted to 1 completed
}
