package collector_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// facts returns the samples that do not only say what the list holds now.
func (s samples) facts() samples {
	return s.of("crs_region_seen_timestamp_seconds",
		"crs_backup_last_good_timestamp_seconds", "crs_backup_failing_since_timestamp_seconds", "crs_backup_deadline_timestamp_seconds",
		"crs_task_finished_before_timestamp_seconds", "crs_task_last_failure_timestamp_seconds", "crs_task_last_success_timestamp_seconds")
}

const (
	seenSeries     = `crs_region_seen_timestamp_seconds{region="ap-guangzhou"}`
	goodSeries     = `crs_backup_last_good_timestamp_seconds{redisId=%q,region="ap-guangzhou"}`
	failingSeries  = `crs_backup_failing_since_timestamp_seconds{redisId=%q,region="ap-guangzhou"}`
	deadlineSeries = `crs_backup_deadline_timestamp_seconds{redisId=%q,region="ap-guangzhou"}`
	beforeSeries   = `crs_task_finished_before_timestamp_seconds{redisId=%q,region="ap-guangzhou",taskName=%q}`
	failureSeries  = `crs_task_last_failure_timestamp_seconds{redisId=%q,region="ap-guangzhou",taskName=%q}`
	successSeries  = `crs_task_last_success_timestamp_seconds{redisId=%q,region="ap-guangzhou",taskName=%q}`
)

// at writes a time some hours from now.
func at(hours float64) string {
	return decimal(math.Round(float64(time.Now().Unix()) + hours*3600))
}

const second = 1.0 / 3600

// Facts stay while polls fail, across restarts, and through another API. They are forgotten
// with what they are of. Counters are not.
func TestFactsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStateful(t)
		tasks := []crsapi.Task{backupOf("crs-a", 20*time.Hour, crsapi.StatusSucceeded), backupOf("crs-a", time.Hour, crsapi.StatusFailed)}
		s.scrape(tasks[0])
		s.scrape(tasks[0])
		time.Sleep(time.Hour)
		got := s.scrape(tasks...)
		facts, counters := got.facts(), got.transitions()
		failing := fmt.Sprintf(failingSeries, "crs-a")
		wantEqual(t, "facts", facts, samples{
			fmt.Sprintf(goodSeries, "crs-a"):            at(-21),
			fmt.Sprintf(deadlineSeries, "crs-a"):        at(5),
			fmt.Sprintf(beforeSeries, "crs-a", backup):  at(0),
			fmt.Sprintf(failureSeries, "crs-a", backup): at(0),
			fmt.Sprintf(successSeries, "crs-a", backup): at(-21),
			seenSeries: at(0),
			failing:    at(-1),
		})
		wantEqual(t, "counters", counters.nonzero(), failedOnce)
		down := func(what string, want samples) {
			t.Helper()
			s.source.set(nil, errors.New("down"))
			time.Sleep(time.Minute)
			got := scrape(t, s.e)
			wantEqual(t, what, got.facts(), want)
			wantEqual(t, what, got.transitions(), counters)
		}
		down("the poll fails", facts)
		s.restart()
		s.source.delay = time.Hour
		got = poll(t, s.e, time.Millisecond)
		wantEqual(t, "before the first poll has ended", got.facts(), facts)
		wantEqual(t, "before the first poll has ended", got.transitions(), counters)
		s.restart()
		s.source.delay = 0
		down("the first poll after a restart fails", facts)
		s.source.api = crsapi.API30
		s.restart()
		down("another API", facts)
		s.scrape(tasks...).want(t, samples{seenSeries: at(0), failing: facts[failing]})
		s.scrape().want(t, samples{seenSeries: at(0), `crs_up{region="ap-guangzhou"}`: "1"})
		time.Sleep(time.Minute)
		for range 2 { // an empty list is not believed, however often it is seen
			s.scrape().want(t, samples{seenSeries: at(-1.0 / 60), `crs_up{region="ap-guangzhou"}`: "1"})
		}

		s.cfg.RedisIDs = []string{"crs-a", "crs-b"}
		s.restart()
		down("other filters", samples{})
		start := tasks[1].StartTime.Unix()
		s.scrape(tasks[1]).want(t, samples{fmt.Sprintf(goodSeries, "crs-a"): decimal(float64(start - 1)), failing: decimal(float64(start))})
	})
}
