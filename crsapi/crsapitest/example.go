package crsapitest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// DocumentExample returns the nine tasks of the document's example, newest
// first. Served at UTC+8, they produce the response in the document.
func DocumentExample() []crsapi.Task {
	zone := time.FixedZone("", int(defaultUTCOffset/time.Second))
	task := func(day, hour, minute, second int, name string) crsapi.Task {
		return crsapi.Task{
			RedisID:   "crs-izbob1wh",
			RedisName: "for API test",
			ProjectID: "0",
			TaskName:  name,
			StartTime: time.Date(2017, time.February, day, hour, minute, second, 0, zone).UTC(),
			Status:    crsapi.StatusSucceeded,
			Progress:  1,
		}
	}
	return []crsapi.Task{
		task(10, 16, 56, 18, "restoreBackup"),
		task(10, 15, 2, 36, "backupInstance"),
		task(10, 14, 59, 29, "backupInstance"),
		task(9, 19, 0, 24, "backupInstance"),
		task(8, 19, 9, 26, "backupInstance"),
		task(8, 17, 21, 32, "restoreBackup"),
		task(8, 16, 46, 34, "backupInstance"),
		task(8, 15, 38, 16, "cleanInstance"),
		task(8, 15, 35, 25, "backupInstance"),
	}
}

// Generate returns n realistic tasks of this many instances, newest first. The
// same seed gives the same tasks. Most are backups that succeeded. Only the
// newest 1 % may be pending or executing. The submission times go back from the
// end of 2024 with gaps of less than a minute, and some tasks share a second.
func Generate(n, instances int, seed uint64) []crsapi.Task {
	random := rand.New(rand.NewPCG(seed, 0))
	names := []string{
		"newInstance", "resizeInstance", "cleanInstance", "setPassword",
		"importRdb", "exportBackup", "restoreBackup", "restoreStream",
	}
	tasks := make([]crsapi.Task, n)
	at := time.Date(2024, time.December, 31, 23, 59, 59, 0, time.UTC)
	for i := range tasks {
		on := random.IntN(instances)
		t := crsapi.Task{
			RedisID:   fmt.Sprintf("crs-%08x", uint32(on)*0x9e3779b1), // an odd factor, so each is unique
			RedisName: fmt.Sprintf("redis %d", on),
			ProjectID: strconv.Itoa(1000 * (on % 4)),
			TaskName:  "backupInstance",
			StartTime: at,
			Status:    crsapi.StatusSucceeded,
			Progress:  1,
		}
		if random.IntN(10) >= 7 {
			t.TaskName = names[random.IntN(len(names))]
		}
		switch roll := random.IntN(100); {
		case i <= n/100 && roll < 20:
			t.Status, t.Progress = crsapi.StatusPending, 0
		case i <= n/100 && roll < 60:
			t.Status, t.Progress = crsapi.StatusExecuting, 0
		case roll < 3:
			t.Status, t.Progress = crsapi.StatusFailed, 0
		case roll < 4:
			t.Status, t.Progress = crsapi.StatusError, 0
		}
		tasks[i] = t
		at = at.Add(-time.Duration(random.IntN(60)) * time.Second)
	}
	return tasks
}
