package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"
)

const dashboardFile = "../grafana/dashboards/crs-exporter.json"

type dashboard struct {
	Links      []dashboardLink
	Panels     []panel
	Templating struct{ List []variable }
}

type dashboardLink struct{ Title, URL string }

type variable struct {
	Type, Name, Regex, AllValue string
	Query                       any // a string, or an object that contains it
}

type panel struct {
	Type, Title     string
	Datasource      struct{ UID string }
	Links           []dashboardLink
	Targets         []target
	Transformations []struct {
		Options struct {
			ExcludeByName map[string]bool
			RenameByName  map[string]string
		}
	}
	FieldConfig struct {
		Overrides []struct{ Matcher struct{ Options string } }
	}
	Options struct {
		SortBy []struct{ DisplayName string }
	}
}

type target struct {
	RefID, Expr, Format, Interval, LegendFormat string
	Instant                                     bool
}

func loadDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	d.Panels = slices.DeleteFunc(d.Panels, func(p panel) bool { return p.Type == "row" })
	return d
}

// interpolate replaces variables with values, as Grafana does when All is selected
// everywhere.
func (d dashboard) interpolate(query string) string {
	// $__rate_interval is four times the Min step of a minute, but the fixture has a sample each 10m.
	query = strings.NewReplacer("$__rate_interval", "40m", "$__range", "24h").Replace(query)
	for _, v := range d.Templating.List {
		value := v.AllValue
		if v.Type == "constant" {
			value = fmt.Sprint(v.Query)
		}
		query = strings.ReplaceAll(query, "$"+v.Name, value)
	}
	return query
}

// evalTime is the time of the last samples of the fixture.
var evalTime = time.Unix(400*600, 0)

// fixture is what one exporter exposes. It has an instance in each state of its backups,
// and region b has native histograms. 1e308+1e308 is +Inf: nothing is owed.
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
  crs_pages_info{region="a",url="https://HOST/crs"} 1x400
  crs_instance_info{region="a",redisId="ok",redisName="orders HOST",projectId="0"} 1x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="ok"} 236400x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="failing"} 150000x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="late"} 132000x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="stuck"} 236400x400
  crs_backup_last_good_timestamp_seconds{region="a",redisId="gone"} 1e308+1e308x400
  crs_backup_failing_since_timestamp_seconds{region="a",redisId="ok"} 236000x400
  crs_backup_failing_since_timestamp_seconds{region="a",redisId="failing"} 236400x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="ok"} 330000x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="failing"} 250000x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="late"} 226000x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="stuck"} 330000x400
  crs_backup_deadline_timestamp_seconds{region="a",redisId="gone"} 1e308+1e308x400
  crs_task_finished_before_timestamp_seconds{region="a",redisId="stuck",taskName="backupInstance"} 220000x400
  crs_task_oldest_start_timestamp_seconds{region="a",redisId="stuck",taskName="backupInstance",status="executing"} 220000x400
  crs_task_last_start_timestamp_seconds{region="a",redisId="stuck",taskName="backupInstance",status="executing"} 220000x400
  crs_task_last_duration_seconds{region="a",redisId="ok",taskName="AUTOBACKUP",status="succeeded"} 60x400
  crs_tasks{region="a",redisId="stuck",taskName="backupInstance",status="pending"} 0x400
  crs_tasks{region="a",redisId="stuck",taskName="backupInstance",status="executing"} 1x400
  crs_task_transitions_total{region="a",redisId="failing",taskName="backupInstance",status="failed"} 0+1x400
`

// loadFixture returns what two exporters of account one, of which one knows another name
// of the instance, and one of account two expose, with the results of the shipped rules.
func loadFixture(t *testing.T) *teststorage.TestStorage {
	t.Helper()
	load := "load 10m\n"
	for _, exporter := range [][2]string{{"one", "host1"}, {"one", "host2"}, {"two", "host3"}} {
		target := fmt.Sprintf(`{job="crs",account=%q,instance=%q,`, exporter[0], exporter[1])
		for line := range strings.Lines(strings.ReplaceAll(fixture, "HOST", exporter[1])) {
			load += strings.Replace(line, "{", target, 1)
		}
	}
	store := promqltest.LoadedStorage(t, load)
	for _, r := range parseRules(t, readFile(t, rulesFile)) {
		app := store.Appender(t.Context())
		for _, s := range evaluate(t, store, r.Expr, evalTime) {
			b := labels.NewBuilder(s.Metric).Set(labels.MetricName, r.Record)
			if r.Alert != "" {
				b.Set(labels.MetricName, "ALERTS").Set("alertname", r.Alert)
				b.Set("alertstate", "firing").Set("severity", r.Labels["severity"])
			}
			if _, err := app.Append(0, b.Labels(), evalTime.UnixMilli(), s.F); err != nil {
				t.Fatalf("%s: %v", b.Labels(), err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatalf("%s%s: %v", r.Record, r.Alert, err)
		}
	}
	return store
}

// values are the numbers that matter, by panel and query. Each of the two accounts has
// them: a pair of exporters counts once.
var values = map[string]string{
	"Backups of each instance/state":               "failing 4, failing 4, gone 0, gone 0, late 3, late 3, ok 1, ok 1, stuck 2, stuck 2",
	"Backups of each instance/name":                "ok 1, ok 1",
	"Backups failing/A":                            " 2",
	"Backups overdue/A":                            " 2",
	"Backups stuck/A":                              " 2",
	"Instances/A":                                  " 8",
	"Failures in the selected time range/failures": "failing 144, failing 144",
}

// TestDashboard checks that each query names only what exists, obeys the choice of a job
// and has a result; that no series or name of a pair of exporters is there twice, while
// accounts are kept apart; that the settings of tables name columns that are there; and that
// links go to runbooks of alerts.
func TestDashboard(t *testing.T) {
	d, known, shipped, store := loadDashboard(t), exposed(t), alerts(t), loadFixture(t)
	if d.Links[0].URL != runbooksURL {
		t.Errorf("the dashboard links to %v, want runbooks.md", d.Links)
	}
	checked := 0
	for _, p := range d.Panels {
		for _, l := range p.Links {
			alert := strings.TrimPrefix(l.Title, "Runbook: ")
			if _, ok := shipped[alert]; !ok || l.URL != runbooksURL+"#"+strings.ToLower(alert) {
				t.Errorf("%s: link %q to %s", p.Title, l.Title, l.URL)
			}
		}
		columns := []string{"Time", "Value", "reason", "instance"} // some alerts have the last two
		for _, q := range p.Targets {
			expr := d.interpolate(q.Expr)
			result := evaluate(t, store, expr, evalTime)
			columns = append(columns, "Value #"+q.RefID)
			var numbers []string
			for _, s := range result {
				s.Metric.Range(func(l labels.Label) { columns = append(columns, l.Name) })
				numbers = append(numbers, fmt.Sprintf("%s %v", s.Metric.Get("redisId"), s.F))
			}
			name := p.Title + "/" + q.RefID
			t.Run(name, func(t *testing.T) {
				for _, s := range selectors(t, known, expr) {
					if !slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == "job" }) {
						t.Errorf("%s is not limited to $job", s)
					}
				}
				if q.Instant == (p.Type == "timeseries") || (q.Format == "table") != (p.Type == "table") || p.Datasource.UID != "${datasource}" {
					t.Errorf("instant %v, format %q, data source %s in a panel of type %s", q.Instant, q.Format, p.Datasource.UID, p.Type)
				}
				// Without a Min step of a minute, $__rate_interval is too short for a scrape interval
				// of a minute, unless the data source knows that interval.
				if strings.Contains(q.Expr, "$__rate_interval") != (q.Interval == "1m") {
					t.Errorf("the interval is %q: %s", q.Interval, q.Expr)
				}
				checkSeries(t, p, q, result)
				if want, ok := values[name]; ok {
					checked++
					slices.Sort(numbers)
					if got := strings.Join(numbers, ", "); got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				}
			})
		}
		var named, titles []string
		for _, tr := range p.Transformations {
			named = slices.AppendSeq(named, maps.Keys(tr.Options.ExcludeByName))
			named = slices.AppendSeq(named, maps.Keys(tr.Options.RenameByName))
			titles = slices.AppendSeq(titles, maps.Values(tr.Options.RenameByName))
		}
		for _, column := range named {
			if !slices.Contains(columns, column) {
				t.Errorf("%s hides or renames the column %q, which no query returns", p.Title, column)
			}
		}
		var used []string
		for _, o := range p.FieldConfig.Overrides {
			used = append(used, o.Matcher.Options)
		}
		for _, s := range p.Options.SortBy {
			used = append(used, s.DisplayName)
		}
		for _, title := range used {
			if p.Type == "table" && !slices.Contains(titles, title) {
				t.Errorf("%s formats or sorts the column %q, which is not there", p.Title, title)
			}
		}
	}
	if checked != len(values) {
		t.Errorf("only %d queries have the names in %v", checked, values)
	}
}

func checkSeries(t *testing.T, p panel, q target, result promql.Vector) {
	t.Helper()
	if len(result) == 0 {
		t.Error("no result")
	}
	seen := map[string]bool{}
	for _, s := range result {
		if apart := p.Type == "table" || strings.Contains(q.LegendFormat, "{{account}}"); apart && !s.Metric.Has("account") {
			t.Errorf("accounts are not kept apart: %s", s.Metric)
		}
		name := labels.NewBuilder(s.Metric).Del("redisName", "url").Labels().String()
		if p.Type != "table" {
			name = q.LegendFormat
			s.Metric.Range(func(l labels.Label) { name = strings.ReplaceAll(name, "{{"+l.Name+"}}", l.Value) })
		}
		if seen[name] {
			t.Errorf("two series have the name %q", name)
		}
		seen[name] = true
	}
}

// TestDashboardVariables checks the queries of the variables, and evaluates redisId as
// Grafana does: it applies the regex to the lines of query_result.
func TestDashboardVariables(t *testing.T) {
	d, known, store := loadDashboard(t), exposed(t), loadFixture(t)
	query := regexp.MustCompile(`^(?:query_result\((.+)\)|label_values\((.+), (\w+)\))$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		object, _ := v.Query.(map[string]any)
		m := query.FindStringSubmatch(d.interpolate(fmt.Sprint(object["query"])))
		if m == nil {
			t.Fatalf("not a variable query for Grafana's Prometheus data source: %v", v.Query)
		}
		selectors(t, known, m[1]+m[2])
		result := evaluate(t, store, m[1]+m[2], evalTime)
		if len(result) == 0 || m[3] != "" && !result[0].Metric.Has(m[3]) {
			t.Errorf("variable %s has no values", v.Name)
		}
		if v.Name != "redisId" {
			continue
		}
		found := regexp.MustCompile(strings.Trim(v.Regex, "/")).FindStringSubmatch(result[0].Metric.String())
		if len(result) != 1 || len(found) != 3 || found[1] != "ok" || !strings.Contains(found[2], "orders host") {
			t.Errorf("the regex finds %q in %v, which must be one instance with one of its names", found, result)
		}
	}
}
