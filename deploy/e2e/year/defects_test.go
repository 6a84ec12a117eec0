package year

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// The tests of the judge do not depend on the shipped rules. These two alerts tell two kinds of
// faults as they should.
const (
	failing    = "backup failed, repeated by hand"
	failedRule = `
      - alert: CRSBackupFailed
        expr: |
          max without (instance, outcome) (crs_backup_last_start_timestamp_seconds{outcome="failed"})
          > max without (instance, outcome) (crs_backup_last_start_timestamp_seconds{outcome="succeeded"})
        labels: {severity: critical}
`
	hanging   = "backup hangs, then succeeds"
	stuckRule = `
      - alert: CRSBackupStuck
        expr: time() - min without (instance, status) (crs_task_oldest_start_timestamp_seconds) > 3 * 3600
        labels: {severity: warning}
`
)

// TestJudge plays rules with a defect. The judge must tell each one, and nothing else.
func TestJudge(t *testing.T) {
	instead := func(of, old, now string) string {
		if !strings.Contains(of, old) {
			t.Fatalf("the rule has no %q", old)
		}
		return strings.Replace(of, old, now, 1)
	}
	backupFails := func(old, now string) string { return instead(failedRule, old, now) + stuckRule }
	backupHangs := func(old, now string) string { return failedRule + instead(stuckRule, old, now) }
	expr := failedRule[strings.Index(failedRule, "expr:"):strings.Index(failedRule, "        labels:")]
	const labels = "labels:"
	tests := []struct {
		name  string
		rules string
		wants map[string]int
	}{
		{"none", failedRule + stuckRule, map[string]int{}},
		{"renamed", backupFails("CRSBackupFailed", "CRSOther"), map[string]int{
			missed + ": " + failing: 1, unexplained + ": CRSOther at " + failing: 1,
		}},
		{"late", backupFails(labels, "for: 45m\n        labels:"), map[string]int{late + ": " + failing: 1}},
		{"after a day", backupFails(labels, "for: 1d\n        labels:"), map[string]int{missed + ": " + failing: 1}},
		{"ends late", backupFails(labels, "keep_firing_for: 2h\n        labels:"), map[string]int{
			firedOn + ": CRSBackupFailed at " + failing: 1,
		}},
		{"ends early", backupHangs("3 * 3600", "3 * 3600 < 4 * 3600"), map[string]int{cleared + ": " + hanging: 1}},
		{"comes and goes", backupHangs("3 * 3600", "3 * 3600 and on () (vector(time()) % 7200 < 3600)"), map[string]int{
			late + ": " + hanging: 1, cleared + ": " + hanging: 5, again + ": " + hanging: 1,
		}},
		{"fires for a region", backupFails(expr, `expr: crs_up{region="ap-beijing"}`+"\n"), map[string]int{
			missed + ": " + failing: 1, unexplained + ": CRSBackupFailed at nothing": 1,
		}},
		{"fires for all", backupFails(expr, "expr: max without (instance, redisName) (crs_instance_info)\n"), map[string]int{
			early + ": CRSBackupFailed at " + failing:       1,
			unexplained + ": CRSBackupFailed at " + hanging: 1,
			unexplained + ": CRSBackupFailed at renamed":    1,
		}},
		// Alertmanager inhibits only alerts of the same job.
		{"two pages", backupFails("", strings.NewReplacer("CRSBackupFailed", "CRSBackupMissing", "critical}", "critical, job: other}").Replace(failedRule)),
			map[string]int{pages + ": " + failing: 1}},
	}
	var rules []string
	for _, test := range tests {
		rules = append(rules, "groups:\n  - name: judged\n    rules:"+test.rules)
	}
	judged := perform(t, newScenario(options{Seed: 1, Days: 3, Instances: 3, Coarse: true, Script: []string{failing, hanging, "renamed"}}), rules...)
	for i, j := range judged {
		if !maps.Equal(j.counts, tests[i].wants) {
			t.Errorf("%s: got %v, want %v\n%s", tests[i].name, j.counts, tests[i].wants, j.report())
		}
	}
}

// TestGapWhenTheDataIsLost tells an alert that ended with the data of Prometheus from one
// that had ended before.
func TestGapWhenTheDataIsLost(t *testing.T) {
	hour := func(n float64) time.Time { return begin.Add(time.Duration(n * float64(time.Hour))) }
	for from, want := range map[float64]string{2: cleared, 5.95: forgotten, 6: forgotten, 7: cleared} {
		v := &verdict{
			judgement: &judgement{notices: &notices{lost: []span{{hour(6), hour(7)}}}, counts: map[string]int{}},
			fault:     &fault{kind: "backup failed", cured: hour(24)},
		}
		v.gap(span{hour(from), hour(9)})
		if !maps.Equal(v.counts, map[string]int{want + ": backup failed": 1}) {
			t.Errorf("a gap from hour %v: got %v, want %q", from, v.counts, want)
		}
	}
}
