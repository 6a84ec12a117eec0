package collector_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// TestFirstContact meets servers that read the documents in every way that these leave
// open, one at a time, through API 2.0 and 3.0. Nobody has met the real API. Within
// three scrapes the list is seen whole and right, or the region is down and the log says
// what to change. No scrape has a wrong number.
func TestFirstContact(t *testing.T) {
	both := []crsapi.API{crsapi.API20, crsapi.API30}
	two, three := both[:1], both[1:]
	for _, test := range []struct {
		point, reading string
		apis           []crsapi.API
		do             crsapitest.Effect
		empty          bool // no tasks
	}{
		{"endTime", "end included", both, crsapitest.All(), false},
		{"endTime", "end excluded", both, crsapitest.ExclusiveEnd, false},
		{"endTime", "bounds ignored", both, crsapitest.All(crsapitest.IgnoreBegin, crsapitest.IgnoreEnd), false},
		{"endTime", "end of the task, unfinished never within", both, crsapitest.EndOfRun, false},
		{"endTime", "end of the task, unfinished within", both, crsapitest.EndOfTask, false},
		{"endTime", "refused without beginTime", both, crsapitest.RefuseEndAlone, false},
		{"endTime", "bounds refused", both, crsapitest.RefuseBounds, false},
		{"endTime", "hidden fractions of a second", both, crsapitest.HiddenFractions, false},
		{"order", "oldest first", both, crsapitest.OldestFirst, false},
		{"offset", "number of a page", both, crsapitest.PageNumbers, false},
		{"limit", "cut to 20", both, crsapitest.PageCap(20), false},
		{"limit", "above 50 refused", both, crsapitest.RefuseLimitAbove50, false},
		{"totalCount", "text", both, crsapitest.TotalAsText, false},
		{"totalCount", "within data", two, crsapitest.TotalInData, false},
		{"totalCount", "of the page", both, crsapitest.TotalOfPage, false},
		{"rows", "numbers as text", both, crsapitest.NumbersAsText, false},
		{"rows", "type with the prefix", both, crsapitest.TypePrefix, false},
		{"rows", "type as the constant", both, crsapitest.TypeConstant, false},
		{"rows", "type as a number", both, crsapitest.TypeNumber, false},
		{"rows", "EndTime of the unfinished empty", three, crsapitest.EmptyEnd, false},
		{"rows", "EndTime of the unfinished null", three, crsapitest.NullEnd, false},
		{"rows", "EndTime of the unfinished zeros", three, crsapitest.All(), false},
		{"rows", "startTime of the waiting zeros", both, crsapitest.ZeroStart, false},
		{"empty list", "null", both, crsapitest.NullRows, true},
		{"empty list", "absent", both, crsapitest.NoRows, true},
		{"empty list", "[]", both, crsapitest.All(), true},
	} {
		for _, api := range test.apis {
			t.Run(fmt.Sprintf("%s/%s/API %s", test.point, test.reading, api), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var logged bytes.Buffer
					s, tasks, rejected := newSimulator(t, api), accountOfAWeek(), "0"
					if test.empty {
						tasks = nil
					}
					s.SetTasks(guangzhou, tasks)
					s.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.Latency(20*time.Millisecond), test.do)})
					if test.do == crsapitest.ZeroStart {
						tasks, rejected = tasks[1:], "1"
					}
					e := s.watch(t, collector.Config{Logger: logTo(&logged)})
					up := false
					for n := range 3 {
						got := scrape(t, e)
						if up = got.up(guangzhou); up {
							got.want(t, samples{`crs_poll_rejected_rows{region="ap-guangzhou"}`: rejected})
							if shown, want := taskCounts(got), taskCounts(described(tasks)); !maps.Equal(shown, want) {
								t.Errorf("scrape %d: got %v, want %v", n, shown, want)
							}
						}
						time.Sleep(15 * time.Second)
					}
					if says := regexp.MustCompile(`(?m)^level=(error|warn) .*--crs\.[a-z]`); !up && !says.Match(logged.Bytes()) {
						t.Errorf("the region is down, and the log does not say what to change:\n%s", &logged)
					}
				})
			})
		}
	}
}

// taskCounts returns the tasks that are listed. API 2.0 may call an automatic backup by the
// name of the others.
func taskCounts(s samples) map[string]float64 {
	counts := map[string]float64{}
	for series, value := range s.of("crs_tasks").nonzero() {
		n, _ := strconv.ParseFloat(value, 64)
		counts[strings.Replace(series, "AUTOBACKUP", backup, 1)] += n
	}
	return counts
}

// accountOfAWeek returns tasks, newest first. The newest is pending.
func accountOfAWeek() (tasks []crsapi.Task) {
	at := time.Now().Add(-time.Minute).Truncate(time.Second).UTC()
	for i := range 650 {
		if i%10 > 0 { // else it is of the same second as the one before
			at = at.Add(-7 * time.Minute)
		}
		task := crsapi.Task{
			RedisID: fmt.Sprintf("crs-%d", i%13), RedisName: "name", ProjectID: "7", TaskName: []string{backup, "AUTOBACKUP", clean}[i%3],
			StartTime: at, EndTime: at.Add(3 * time.Minute), Status: crsapi.StatusSucceeded, Progress: 1,
		}
		switch i {
		case 0:
			task.Status, task.EndTime, task.Progress = crsapi.StatusPending, time.Time{}, 0
		case 1, 40:
			task.Status, task.EndTime, task.Progress = crsapi.StatusExecuting, time.Time{}, 0.5
		case 3, 400, 604: // backups
			task.Status = crsapi.StatusFailed
		}
		tasks = append(tasks, task)
	}
	return tasks
}

// badKeys has another key after each refusal, none of which is good.
type badKeys struct{ refused atomic.Int64 }

func (k *badKeys) Key(context.Context) (credentials.Key, error) {
	return credentials.Key{SecretID: fmt.Sprint("AKID", k.refused.Load()), SecretKey: "k"}, nil
}

func (k *badKeys) Refused(credentials.Key) { k.refused.Add(1) }

// A refused key costs two requests a scrape at most: with the key, and with one that takes
// its place.
func TestRefusedKeyCostsTwoRequests(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for most, keys := range map[int]credentials.Provider{1: credentials.Static{SecretID: "AKIDnobody", SecretKey: "k"}, 2: new(badKeys)} {
			s := newSimulator(t, api)
			s.keys = keys
			s.SetTasks(guangzhou, nil)
			e := s.watch(t, collector.Config{})
			for range 5 {
				before := s.Requests(guangzhou)
				if scrape(t, e).up(guangzhou) {
					t.Error("up with a refused key")
				}
				if sent := s.Requests(guangzhou) - before; sent < 1 || sent > most {
					t.Errorf("%d requests of a scrape, want 1 to %d", sent, most)
				}
				time.Sleep(15 * time.Second)
			}
		}
	})
}
