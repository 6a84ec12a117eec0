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
	const file = "../../deploy/prometheus/rules/crs.yml"
	rules, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`crs_task_finished_before_timestamp_seconds\[15m\]\) \+ (\d+) \* 3600\n`).FindSubmatch(rules)
	if match == nil {
		t.Fatalf("%s has no limit for unfinished tasks", file)
	}
	hours, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(hours) * time.Hour
}

// TestProblems compares what the pages say with when the alerts fire: CRSBackupFailed,
// CRSBackupMissing, CRSBackupStuck.
func TestProblems(t *testing.T) {
	const (
		ok, bad           = crsapi.StatusSucceeded, crsapi.StatusFailed
		pending, executes = crsapi.StatusPending, crsapi.StatusExecuting
		hour              = time.Hour
	)
	limit := hoursOfTheRules(t)
	type step struct {
		age    time.Duration
		name   string
		status crsapi.Status
	}
	for name, test := range map[string]struct {
		tasks []step
		want  string // empty if all is in order
	}{
		"good":                         {[]step{{26 * hour, "backupInstance", ok}}, ""},
		"missing":                      {[]step{{26*hour + time.Second, "backupInstance", ok}}, "overdue"},
		"failed":                       {[]step{{25 * hour, "backupInstance", ok}, {hour, "AUTOBACKUP", bad}}, "failed"},
		"failed, then good":            {[]step{{25 * hour, "backupInstance", ok}, {2 * hour, "backupInstance", bad}, {hour, "backupInstance", ok}}, ""},
		"failed after the deadline":    {[]step{{28 * hour, "backupInstance", ok}, {hour, "backupInstance", bad}}, "overdue"},
		"failed before the deadline":   {[]step{{40 * hour, "backupInstance", ok}, {16 * hour, "backupInstance", bad}}, "failed"},
		"created, and no backup":       {[]step{{27 * hour, "newInstance", ok}}, "overdue"},
		"new":                          {[]step{{25 * hour, "newInstance", ok}}, ""},
		"executes for long":            {[]step{{25 * hour, "backupInstance", ok}, {limit, "backupInstance", executes}}, ""},
		"executes for too long":        {[]step{{25 * hour, "backupInstance", ok}, {limit + time.Second, "backupInstance", executes}}, "does not end"},
		"pending for long":             {[]step{{25 * hour, "backupInstance", ok}, {limit, "AUTOBACKUP", pending}}, ""},
		"pending for too long":         {[]step{{25 * hour, "backupInstance", ok}, {limit + time.Second, "AUTOBACKUP", pending}}, "does not end"},
		"an import runs for too long":  {[]step{{25 * hour, "backupInstance", ok}, {9 * hour, "importInstance", executes}}, ""},
		"a backup that began in time":  {[]step{{27 * hour, "backupInstance", ok}, {2 * hour, "backupInstance", executes}}, ""},
		"a backup that began too late": {[]step{{29 * hour, "backupInstance", ok}, {hour, "backupInstance", executes}}, "overdue"},
		"deleted":                      {[]step{{48 * hour, "backupInstance", bad}, {47 * hour, "deleteInstance", ok}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tasks []crsapi.Task
				for _, s := range test.tasks {
					tasks = append(tasks, crsapi.Task{RedisID: "crs-a", RedisName: "carts", TaskName: s.name, StartTime: bubbleStart.Add(-s.age), Status: s.status})
				}
				s := polled(t, map[string][]crsapi.Task{guangzhou: tasks})
				s.wantProblem(test.want)
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
	synctest.Test(t, func(t *testing.T) {
		of := func(redisID string, age time.Duration, status crsapi.Status) crsapi.Task {
			return crsapi.Task{RedisID: redisID, TaskName: "backupInstance", StartTime: time.Now().Add(-age), Status: status}
		}
		failing := of("crs-a", time.Hour, crsapi.StatusFailed)
		s := polled(t, map[string][]crsapi.Task{guangzhou: {of("crs-a", 9*time.Hour, crsapi.StatusSucceeded), failing, of("crs-b", 25*time.Hour, crsapi.StatusSucceeded), of("crs-c", time.Hour, crsapi.StatusSucceeded)}})
		gz := s.regions[guangzhou]
		all := gz.tasks
		s.wantProblem("failed")
		time.Sleep(2 * time.Hour) // crs-b is overdue, unless it was backed up meanwhile
		s.wantProblem("failed")
		gz.tasks = nil // an empty list is not believed
		s.exporter.Poll(t.Context())
		s.wantProblem("failed")
		gz.tasks = []crsapi.Task{of("crs-b", time.Hour, crsapi.StatusSucceeded)}
		s.exporter.Poll(t.Context())
		s.wantProblem("failed")
		page := s.page("/backups") // crs-c was in order when it left
		if !strings.Contains(page, `crs-a</a></th><td>11 h ago<br><span class="bad">✗ failed</span><br>not listed</td>`) || !strings.Contains(page, "<p>2 instances; ") || strings.Contains(page, "Not shown") {
			t.Errorf("the calendar does not show crs-a, which is not listed, and crs-b:\n%s", page)
		}
		time.Sleep(7*24*time.Hour + time.Second)
		gz.tasks = append(all[:3], of("crs-a", time.Minute, crsapi.StatusSucceeded), of("crs-b", time.Minute, crsapi.StatusSucceeded))
		s.exporter.Poll(t.Context())
		s.wantProblem("")
	})
}

// TestDoubtIsNotGreen: an empty list is not believed if instances in use were listed before.
func TestDoubtIsNotGreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: some()[guangzhou][:7], shanghai: some()[shanghai]})
		green := map[string]string{"/": `<p class="good">✓ None.</p>`, "/backups": `2 instances; <span class="good">✓ all in order</span>`}
		for path, want := range green {
			if page := s.page(path); !strings.Contains(page, want) {
				t.Errorf("%s does not say %q:\n%s", path, want, page)
			}
		}
		s.regions[guangzhou].tasks = nil
		s.exporter.Poll(t.Context())
		for path, want := range map[string]string{"/": "<p>None so far: not every list", "/backups": "2 instances; no problem so far: not every list"} {
			if page := s.page(path); !strings.Contains(page, want) || strings.Contains(page, green[path]) {
				t.Errorf("%s does not say %q:\n%s", path, want, page)
			}
		}
	})
}
