package crsapi

import (
	"time"
)

// Status is the state of a task, with the numbers of the API. Numbers other than
// the documented five are valid and print as "unknown".
type Status int32

// The documented statuses.
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

// TaskTypes returns the valid values of Query.TaskTypes: seven of the twelve
// documented task names, with the prefix "task_", which names in responses do
// not have.
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

// Task is one task of the list. Tasks have no ID: RedisID, TaskName and
// StartTime identify a task, but two tasks may have the same.
type Task struct {
	RedisID   string // of the instance, never empty
	RedisName string // of the instance
	ProjectID string // decimal; empty if the response has none
	// TaskName is one of newInstance, resizeInstance, closeInstance,
	// cleanInstance, startInstance, deleteInstance, setPassword, importRdb,
	// exportBackup, restoreBackup, restoreStream and backupInstance, or a name
	// that is not documented.
	TaskName  string
	StartTime time.Time // submission time, in UTC, with a resolution of one second
	Status    Status
	Progress  float32   // from 0 to 1, which is complete
	EndTime   time.Time // end of execution, in UTC, with a resolution of one second; zero if unknown, as always with API 2.0
	TaskID    int64     // distinguishes tasks of one list; 0 if unknown, as always with API 2.0
}
