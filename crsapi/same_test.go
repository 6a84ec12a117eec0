package crsapi_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"pgregory.net/rapid"
)

// anyTask generates tasks that each API can list under the same name, except
// for AUTOBACKUP, whose name under API 2.0 nobody knows.
func anyTask() *rapid.Generator[crsapi.Task] {
	names := []string{
		"newInstance", "resizeInstance", "closeInstance", "cleanInstance", "startInstance", "deleteInstance",
		"setPassword", "importRdb", "exportBackup", "restoreBackup", "restoreStream", "backupInstance",
		"AUTOBACKUP", "MODIFYINSTANCEACCOUNT", "UpgradeArch", "not documented",
	}
	return rapid.Custom(func(t *rapid.T) crsapi.Task {
		at := func(label string) time.Time {
			return time.Unix(rapid.Int64Range(1e8, 4e9).Draw(t, label), 0).UTC()
		}
		task := crsapi.Task{
			RedisID:   rapid.StringN(1, 20, 256).Draw(t, "RedisID"),
			RedisName: rapid.StringN(0, 60, 256).Draw(t, "RedisName"),
			ProjectID: rapid.SampledFrom([]string{"", "0", "1000123"}).Draw(t, "ProjectID"),
			TaskName:  rapid.SampledFrom(names).Draw(t, "TaskName"),
			StartTime: at("StartTime"),
			// Result 4 means failed under API 3.0 only.
			Status:   rapid.SampledFrom([]crsapi.Status{-1, 0, 1, 2, 3, -2, 5, 17, 1 << 30}).Draw(t, "Status"),
			Progress: rapid.Float32Range(0, 1).Draw(t, "Progress"),
		}
		if rapid.Bool().Draw(t, "ended") {
			task.EndTime = at("EndTime")
		}
		return task
	})
}

// TestAPIsListTheSameTasks lists any tasks through each API: only what the
// documents say may differ.
func TestAPIsListTheSameTasks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tasks := rapid.SliceOfN(anyTask(), 0, 12).Draw(rt, "tasks")
		size := rapid.IntRange(1, 15).Draw(rt, "page size")
		offset := time.Duration(rapid.IntRange(-12*60, 14*60).Draw(rt, "UTC offset")) * time.Minute
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30, crsapi.APITCE} {
			var problem string // rapid cannot fail inside of a bubble
			failf := func(format string, args ...any) { problem = cmp.Or(problem, fmt.Sprintf(format, args...)) }
			synctest.Test(t, func(t *testing.T) {
				c, server := serve(t, api, tasks, func(cfg *crsapi.Config) { cfg.PageSize, cfg.UTCOffset = size, offset })
				server.SetUTCOffset(offset)
				got, err := readAll(t, c, crsapi.Query{})
				if err != nil {
					failf("API %s: %v", api, err)
				}
				ids := map[int64]bool{}
				for i := range got {
					ids[got[i].TaskID] = true
					got[i].TaskID = 0
				}
				if _, zero := ids[0]; api == crsapi.API20 && len(ids) > 1 || api != crsapi.API20 && (zero || len(ids) != len(got)) {
					failf("API %s: TaskIDs %v of %d tasks", api, ids, len(got))
				}
				want := slices.Clone(tasks)
				for i := range want {
					if api != crsapi.API30 {
						want[i].EndTime = time.Time{}
					} else if want[i].Status == crsapi.StatusError {
						want[i].Status = crsapi.StatusFailed
					}
					if api == crsapi.API20 && want[i].TaskName == "AUTOBACKUP" {
						want[i].TaskName = "backupInstance" // as the simulator says
					}
				}
				if !slices.Equal(got, want) {
					failf("API %s:\ngot  %+v\nwant %+v", api, got, want)
				}
			})
			if problem != "" {
				rt.Fatal(problem)
			}
		}
	})
}

// TestTaskTypesByAPI filters by each type in each API: the same tasks match, but
// that API 3.0 calls automatic backups by another name.
func TestTaskTypesByAPI(t *testing.T) {
	tasks := crsapitest.Generate(300, 5, 7)
	for i := range tasks {
		if i%3 == 0 {
			tasks[i].TaskName = "AUTOBACKUP"
		}
	}
	count := func(api crsapi.API, taskType string) map[string]int {
		counts := map[string]int{}
		synctest.Test(t, func(t *testing.T) {
			c, _ := serve(t, api, tasks, nil)
			tasks, err := readAll(t, c, crsapi.Query{TaskTypes: []string{taskType}})
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range tasks {
				counts[task.TaskName]++
			}
		})
		return counts
	}
	for _, taskType := range crsapi.API30.TaskTypes() {
		if taskType == "task_backupInstance" {
			continue
		}
		two, three, tce := count(crsapi.API20, taskType), count(crsapi.API30, taskType), count(crsapi.APITCE, taskType)
		name := taskType[len("task_"):]
		if len(two) != 1 || len(three) != 1 || len(tce) != 1 || two[name] == 0 || two[name] != three[name] || two[name] != tce[name] {
			t.Errorf("%s: API 2.0 %v, API 3.0 %v, TCE %v", taskType, two, three, tce)
		}
	}
	if three := count(crsapi.API30, "task_backupInstance"); len(three) != 2 || three["AUTOBACKUP"] != 100 || three["backupInstance"] == 0 {
		t.Errorf("backups of API 3.0: %v, want both kinds", three)
	}
}
