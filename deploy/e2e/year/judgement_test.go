package year

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// judged is a rule file that tells two kinds of faults as it should. The tests of the
// judge do not depend on the shipped rules.
const judged = `
groups:
  - name: judged
    rules:
      - alert: CRSBackupFailed
        expr: |
          max without (instance, outcome) (crs_backup_last_start_timestamp_seconds{outcome="failed"})
          > max without (instance, outcome) (crs_backup_last_start_timestamp_seconds{outcome="succeeded"})
        labels: {severity: critical}
      - alert: CRSBackupStuck
        expr: time() - min without (instance, status) (crs_task_oldest_start_timestamp_seconds) > 3 * 3600
        labels: {severity: warning}
`

// TestJudge plays rules with a defect. The judge must tell each one, and nothing else.
func TestJudge(t *testing.T) {
	const (
		failing = "backup failed, repeated by hand"
		hanging = "backup hangs, then succeeds"
	)
	instead := func(old, now string) string {
		if !strings.Contains(judged, old) {
			t.Fatalf("the rules have no %q", old)
		}
		return strings.Replace(judged, old, now, 1)
	}
	expr := judged[strings.Index(judged, "expr: |"):strings.Index(judged, "        labels: {severity: critical}")]
	const critical = "labels: {severity: critical}"
	tests := []struct {
		name  string
		rules string
		wants map[string]int
	}{
		{"none", judged, map[string]int{}},
		{"renamed", instead("CRSBackupFailed", "CRSOther"), map[string]int{
			missed + ": " + failing: 1, unexplained + ": CRSOther at " + failing: 1,
		}},
		{"never fires", instead(expr, "expr: vector(1) == 2\n"), map[string]int{missed + ": " + failing: 1}},
		{"late", instead(critical, "for: 45m\n        "+critical), map[string]int{late + ": " + failing: 1}},
		{"after a day", instead(critical, "for: 1d\n        "+critical), map[string]int{missed + ": " + failing: 1}},
		{"ends late", instead(critical, "keep_firing_for: 2h\n        "+critical), map[string]int{
			firedOn + ": CRSBackupFailed at " + failing: 1,
		}},
		{"ends early", instead("3 * 3600", "3 * 3600 < 4 * 3600"), map[string]int{cleared + ": " + hanging: 1}},
		{"comes and goes", instead("3 * 3600", "3 * 3600 and on () (vector(time()) % 7200 < 3600)"), map[string]int{
			late + ": " + hanging: 1, cleared + ": " + hanging: 5, again + ": " + hanging: 1,
		}},
		{"fires for a region", instead(expr, `expr: crs_up{region="ap-beijing"}`+"\n"), map[string]int{
			missed + ": " + failing: 1, unexplained + ": CRSBackupFailed at nothing": 1,
		}},
		{"fires for all", instead(expr, "expr: max without (instance, redisName) (crs_instance_info)\n"), map[string]int{
			early + ": CRSBackupFailed at " + failing:       1,
			unexplained + ": CRSBackupFailed at " + hanging: 1,
			unexplained + ": CRSBackupFailed at renamed":    1,
		}},
		// Alertmanager inhibits only alerts of the same job.
		{"two pages", judged + strings.NewReplacer("CRSBackupFailed", "CRSBackupMissing", "critical}", "critical, job: other}").
			Replace(judged[strings.Index(judged, "      - alert: CRSBackupFailed"):strings.Index(judged, "      - alert: CRSBackupStuck")]), map[string]int{pages + ": " + failing: 1}},
	}
	sc := newScenario(options{Seed: 1, Days: 3, Instances: 3, Coarse: true, Script: failing + ";" + hanging + ";renamed"})
	recording := filepath.Join(t.TempDir(), "recording")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "rules.yml")
			if err := os.WriteFile(file, []byte(test.rules), 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := perform(t, sc, recording, file)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprint(j.counts), fmt.Sprint(test.wants); got != want {
				t.Errorf("got %s, want %s\n%s", got, want, j.report())
			}
		})
	}
}

// TestGapWhenTheDataIsLost tells an alert that ended with the data of Prometheus from one
// that had ended before.
func TestGapWhenTheDataIsLost(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	lost := span{at(6 * time.Hour), at(7 * time.Hour)}
	tests := []struct {
		name     string
		from, to time.Time
		want     string
	}{
		{"with the data", at(6 * time.Hour), at(7 * time.Hour), dataLost},
		{"at the last evaluation before", at(6*time.Hour - 4*time.Minute), at(9 * time.Hour), dataLost},
		{"hours before", at(2 * time.Hour), at(9 * time.Hour), cleared},
		{"ends before", at(2 * time.Hour), at(3 * time.Hour), cleared},
		{"afterwards", at(7 * time.Hour), at(9 * time.Hour), cleared},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := &verdict{
				judgement: &judgement{counts: map[string]int{}, lost: []span{lost}},
				tally:     &tally{problems: map[string]int{}},
				fault:     &fault{kind: "backup failed", cured: at(24 * time.Hour)},
			}
			v.gap(span{test.from, test.to})
			if want := map[string]int{test.want + ": backup failed": 1}; !maps.Equal(v.counts, want) {
				t.Errorf("got %v, want %v", v.counts, want)
			}
		})
	}
}
