package pages_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// hoursOfTheRules returns how long a task may take by the alert rules.
func hoursOfTheRules(t *testing.T) time.Duration {
	rules, err := os.ReadFile("../../deploy/prometheus/rules/crs.yml")
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`crs_task_finished_before_timestamp_seconds\[15m\]\) \+ (\d+) \* 3600\n`).FindSubmatch(rules)
	if match == nil {
		t.Fatal("the rules have no limit for unfinished tasks")
	}
	hours, _ := strconv.Atoi(string(match[1]))
	return time.Duration(hours) * time.Hour
}

// TestProblems compares what the pages say with when the alerts fire: CRSBackupFailed,
// CRSBackupMissing, CRSBackupStuck.
func TestProblems(t *testing.T) {
	const ok, bad = crsapi.StatusSucceeded, crsapi.StatusFailed
	limit := hoursOfTheRules(t)
	backup := func(age time.Duration, status crsapi.Status) crsapi.Task {
		return task("crs-a", "carts", "backupInstance", age, status)
	}
	lastGood := backup(25*time.Hour, ok)
	for name, test := range map[string]struct {
		tasks []crsapi.Task
		want  string // empty if all is in order
	}{
		"good":                      {[]crsapi.Task{backup(26*time.Hour, ok)}, ""},
		"missing":                   {[]crsapi.Task{backup(26*time.Hour+time.Second, ok)}, "overdue"},
		"failed":                    {[]crsapi.Task{lastGood, task("crs-a", "carts", "AUTOBACKUP", time.Hour, bad)}, "failed"},
		"failed after the deadline": {[]crsapi.Task{backup(28*time.Hour, ok), backup(time.Hour, bad)}, "overdue"},
		"executes for long":         {[]crsapi.Task{lastGood, backup(limit, crsapi.StatusExecuting)}, ""},
		"executes for too long":     {[]crsapi.Task{lastGood, backup(limit+time.Second, crsapi.StatusExecuting)}, "does not end"},
		"pending for too long":      {[]crsapi.Task{lastGood, backup(limit+time.Second, crsapi.StatusPending)}, "does not end"},
		"deleted":                   {[]crsapi.Task{backup(48*time.Hour, bad), task("crs-a", "carts", "deleteInstance", 47*time.Hour, ok)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				polled(t, map[string][]crsapi.Task{guangzhou: test.tasks}).wantProblem(test.want)
			})
		})
	}
}

// wantProblem wants the pages to say that crs-a, and nothing else, has a problem; none if
// it is empty.
func (s *site) wantProblem(kind string) {
	s.Helper()
	match := regexp.MustCompile(`<span class="(?:bad|busy)">[✗!] ([^<]*)</span>(?:<br>not listed)?</td>`).FindStringSubmatch(s.page("/"))
	got := ""
	if match != nil {
		got = match[1]
	}
	if got != kind {
		s.Errorf("the status page says %q, want %q", got, kind)
	}
	if page := s.page("/backups"); strings.Contains(page, "✗ 1 with a problem") != (kind != "") {
		s.Errorf("the calendar differs: want %q:\n%s", kind, page)
	}
}

// TestProblemsStay: as the alerts do, a problem outlives its tasks, and begins only when a
// poll has seen the list.
func TestProblemsStay(t *testing.T) {
	const ok, bad = crsapi.StatusSucceeded, crsapi.StatusFailed
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: {
			task("crs-a", "", "backupInstance", 9*time.Hour, ok), task("crs-a", "", "backupInstance", time.Hour, bad),
			task("crs-b", "", "backupInstance", 25*time.Hour, ok), task("crs-c", "", "backupInstance", time.Hour, ok),
		}})
		s.wantProblem("failed")
		time.Sleep(2 * time.Hour) // crs-b is overdue, unless it was backed up meanwhile
		s.wantProblem("failed")
		gz := s.regions[guangzhou]
		gz.tasks = []crsapi.Task{task("crs-b", "", "backupInstance", -time.Hour, ok)}
		s.exporter.Poll(t.Context())
		s.wantProblem("failed")
		page := s.page("/backups") // crs-c was in order when it left
		if !strings.Contains(page, `crs-a</a></th><td>11 h ago<br><span class="bad">✗ failed</span><br>not listed</td>`) || !strings.Contains(page, "<p>2 instances; ") || strings.Contains(page, "Not shown") {
			t.Errorf("the calendar does not show crs-a, which is not listed, and crs-b:\n%s", page)
		}
	})
}
