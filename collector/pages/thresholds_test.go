package pages

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestThresholdsOfTheRules compares the thresholds of the pages with the alert rules.
func TestThresholdsOfTheRules(t *testing.T) {
	const file = "../../deploy/prometheus/rules/crs.yml"
	rules, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("crs_backup_usual_interval_seconds) >= %g * 3600) * %g + %g * 3600 or\n", minUsual.Hours(), usualTolerance, backupMayLast.Hours()),
		fmt.Sprintf(" %g * 3600 * group without (instance, pod) (crs_instance_gone)\n", maxBackupAge.Hours()),
		fmt.Sprintf(` %g * 3600 * group without () (crs:task_unfinished_timestamp_seconds{status="pending"})`, maxPending.Hours()),
		fmt.Sprintf(` %g * 3600 * group without () (crs:task_unfinished_timestamp_seconds{status="executing"})`, maxExecuting.Hours()),
	} {
		if !strings.Contains(string(rules), want) {
			t.Errorf("%s does not contain %q, by the constants of status.go", file, want)
		}
	}
}
