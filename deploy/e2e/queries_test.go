package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
)

const (
	readmeFile = "../../README.md"
	backups    = "backupInstance|AUTOBACKUP" // what rules, dashboard and documents mean by backups
)

// exposed returns the labels of each metric that Prometheus has of the exporter, and of its
// own ones. The metrics that rules record have all labels.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	// Prometheus and its service discovery add these.
	target := []string{"__name__", "job", "instance", "namespace", "cluster", "account", "pod"}
	all := map[string][]string{"up": target}
	everything := slices.Concat(target, []string{"alertname", "alertstate", "severity"})
	for _, m := range slices.Concat(collector.Metrics(), collector.OptionalMetrics(), collector.RegisteredMetrics()) {
		all[m.Name] = slices.Concat(target, m.Labels)
		all[m.Name+"_bucket"] = slices.Concat(target, m.Labels, []string{"le"})
		everything = append(everything, m.Labels...)
	}
	all["ALERTS"], all["ALERTS_FOR_STATE"] = everything, everything
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
		all[r.Record] = everything
	}
	return all
}

// selectors returns the parts of an expression that select series. It reports each metric,
// label and value in them that does not exist.
func selectors(t *testing.T, exposed map[string][]string, text string) [][]*labels.Matcher {
	t.Helper()
	expr, err := syntax.ParseExpr(text)
	if err != nil {
		t.Fatalf("Prometheus cannot parse %q: %v", text, err)
	}
	possible := map[string][]string{"status": {".+"}, "reason": {".+"}} // other labels may have any value
	for status := crsapi.Status(-1); status <= 4; status++ {
		possible["status"] = append(possible["status"], status.String())
	}
	for _, r := range crsapi.Reasons() {
		possible["reason"] = append(possible["reason"], string(r))
	}
	found := parser.ExtractSelectors(expr)
	for _, matchers := range found {
		metric := matchers[slices.IndexFunc(matchers, func(m *labels.Matcher) bool { return m.Name == model.MetricNameLabel })].Value
		for _, m := range matchers {
			if !slices.Contains(exposed[metric], m.Name) {
				t.Errorf("%s: no metric %s with a label %s is exposed or recorded", text, metric, m.Name)
			}
			for value := range strings.SplitSeq(m.Value, "|") {
				if values, ok := possible[m.Name]; ok && !slices.Contains(values, value) {
					t.Errorf("%s: label %s never has the value %q", text, m.Name, value)
				}
			}
			if m.Name == "taskName" && strings.Contains(strings.ToLower(m.Value), "backup") && m.Value != backups {
				t.Errorf("%s: %s are not the backups %s", text, m, backups)
			}
		}
	}
	return found
}

// TestNames checks that every metric and label in rules and runbooks exists.
func TestNames(t *testing.T) {
	known, runbooks := exposed(t), readFile(t, runbooksFile)
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
		selectors(t, known, r.Expr)
	}
	for _, m := range regexp.MustCompile(`(?m)^    (\S.*)$`).FindAllStringSubmatch(runbooks, -1) {
		selectors(t, known, m[1])
	}
	if !strings.Contains(runbooks, backups) {
		t.Errorf("the runbooks do not name backups: %s", backups)
	}
}

// evaluate returns the result of an expression at a time.
func evaluate(t *testing.T, store storage.Queryable, expr string, at time.Time) promql.Vector {
	t.Helper()
	q, err := promqltest.NewTestEngine(t, false, 0, 100_000).NewInstantQuery(t.Context(), store, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	vector, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(vector)
}

// texts returns samples as text.
func texts(samples promql.Vector) (all []string) {
	for _, s := range samples {
		all = append(all, fmt.Sprint(s.Metric, " ", s.F))
	}
	return all
}

// evalTime is the time of the last samples of the fixture.
var evalTime = time.Unix(400*600, 0)

// fixture is what one exporter exposes; # is its number. It has an instance in each state of
// its backups, and region b has native histograms. 1e308+1e308 is +Inf: nothing is owed.
const fixture = `  crs_up{region="a"} 1x400
  crs_api_info{region="a",api="2.0"} 1x400
  crs_region_seen_timestamp_seconds{region="a"} 0+600x400
  crs_poll_duration_seconds{region="a"} 0.4x400
  crs_api_requests_total{region="a"} 0+30x400
  crs_api_failures_total{region="a",reason="auth"} 0+1x400
  crs_api_failures_total{region="a",reason="throttled"} 0+3x400
  crs_api_request_duration_seconds_bucket{region="a",le="1"} 0+20x400
  crs_api_request_duration_seconds_bucket{region="a",le="+Inf"} 0+30x400
  crs_api_request_duration_seconds{region="b"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}+{{schema:0 sum:5 count:4 buckets:[1 2 1]}}x400
  crs_pages_info{region="a",url="https://host#/crs"} 1x400
  crs_instance_info{region="a",redisId="ok",redisName="orders host#",projectId="0"} 1x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="ok"} 2#2000x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="failing"} 150000x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="late"} 132000x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="stuck"} 236400x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="gone"} 1e308+1e308x400
  crs_backup_failing_since_timestamp_seconds{region="a",redisId="ok"} 200000x400
  crs_backup_failing_since_timestamp_seconds{region="a",redisId="failing"} 236400x400
  crs_backup_failing_since_timestamp_seconds{region="a",redisId="gone"} 236400x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="ok"} 3#2800x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="failing"} 250800x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="late"} 225600x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="stuck"} 330000x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="gone"} 1e308+1e308x400
  crs_task_finished_before_timestamp_seconds{region="a",redisId="stuck",taskName="backupInstance"} 220000x400
  crs_task_finished_before_timestamp_seconds{region="a",redisId="ok",taskName="AUTOBACKUP"} 239900x400
  crs_task_finished_before_timestamp_seconds{region="a",redisId="ok",taskName="importRdb"} 220000x400
  crs_task_finished_before_timestamp_seconds{region="a",redisId="gone",taskName="AUTOBACKUP"} 1e308+1e308x400
  crs_task_oldest_start_timestamp_seconds{region="a",redisId="stuck",taskName="backupInstance",status="executing"} 22000#x400
  crs_task_last_start_timestamp_seconds{region="a",redisId="stuck",taskName="backupInstance",status="executing"} 220000x400
  crs_task_last_duration_seconds{region="a",redisId="ok",taskName="AUTOBACKUP",status="succeeded"} 60x400
  crs_tasks{region="a",redisId="stuck",taskName="backupInstance",status="pending"} 0x400
  crs_tasks{region="a",redisId="stuck",taskName="backupInstance",status="executing"} 1x400
  crs_task_transitions_total{region="a",redisId="failing",taskName="backupInstance",status="failed"} 0+#x400
  crs_task_transitions_total{region="a",redisId="failing",taskName="backupInstance",status="error"} 0+1x400
  crs_task_transitions_total{region="a",redisId="failing",taskName="backupInstance",status="succeeded"} 0+1x400
`

// loadFixture returns what two exporters of account one, of which one knows another name
// of the instance, and one of account two expose, with the results of the shipped rules.
func loadFixture(t *testing.T) *teststorage.TestStorage {
	t.Helper()
	load := "load 10m\n"
	for i, account := range []string{"one", "one", "two"} {
		target := fmt.Sprintf(`{job="crs",account=%q,instance="host#",region`, account)
		load += strings.ReplaceAll(strings.ReplaceAll(fixture, "{region", target), "#", strconv.Itoa(i+1))
	}
	store := promqltest.LoadedStorage(t, load)
	evaluateRules(t, store, evalTime)
	return store
}

// evaluateRules stores the results of the shipped rules, and returns the alerts of which the
// conditions hold, each with its redisId.
func evaluateRules(t *testing.T, store *teststorage.TestStorage, at time.Time) (alerts []string) {
	t.Helper()
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
		app := store.Appender(t.Context())
		for _, s := range evaluate(t, store, r.Expr, at) {
			b := labels.NewBuilder(s.Metric).Set(model.MetricNameLabel, r.Record)
			if r.Alert != "" {
				alerts = append(alerts, r.Alert+" "+s.Metric.Get("redisId"))
				b.Set(model.MetricNameLabel, "ALERTS").Set("alertname", r.Alert)
				b.Set("alertstate", "firing").Set("severity", r.Labels["severity"])
			}
			if _, err := app.Append(0, b.Labels(), at.UnixMilli(), s.F); err != nil {
				t.Fatalf("%s: %v", b.Labels(), err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatalf("%s%s: %v", r.Record, r.Alert, err)
		}
	}
	return alerts
}

// TestReadme evaluates the alerts of the README, which have two lines at most, and its examples.
// Of the fixture's accounts it looks at the pair of exporters.
func TestReadme(t *testing.T) {
	store, known, readme := loadFixture(t), exposed(t), readFile(t, readmeFile)
	found := regexp.MustCompile("```promql\n((?:.+\n){1,2})```").FindAllStringSubmatch(readme, -1)
	found = append(found, regexp.MustCompile("(?m)\\? \\| `(.*)` \\|$").FindAllStringSubmatch(readme, -1)...)
	want := [][]string{
		{`{account="one", job="crs", redisId="failing", region="a"} 236400`},
		{`{account="one", job="crs", redisId="late", region="a"} 225600`},
		{`{account="one", job="crs", redisId="stuck", region="a", taskName="backupInstance"} 220000`},
		{`{account="one", job="crs", redisId="ok", redisName="orders host1", region="a"} 5`},
		{
			`{account="one", job="crs", redisId="failing", region="a"} 3`, `{account="one", job="crs", redisId="late", region="a"} -4`,
			`{account="one", job="crs", redisId="ok", region="a"} 23`, `{account="one", job="crs", redisId="stuck", region="a"} 25`,
		},
		{`{taskName="backupInstance"} 1008`}, // of both accounts
		{`{account="one", job="crs", redisId="stuck", region="a", taskName="backupInstance"} 220001`},
	}
	if len(found) != len(want) {
		t.Fatalf("the README has %d expressions, want %d", len(found), len(want))
	}
	for i, m := range found {
		expr := strings.ReplaceAll(m[1], `\|`, "|")
		selectors(t, known, expr)
		result := slices.DeleteFunc(evaluate(t, store, expr, evalTime), func(s promql.Sample) bool { return s.Metric.Get("account") == "two" })
		got := texts(result)
		for j := range got {
			got[j] = strings.Replace(got[j], "host2", "host1", 1) // either name is right
		}
		compare(t, expr, got, want[i])
	}
}
