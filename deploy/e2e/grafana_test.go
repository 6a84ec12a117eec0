package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"
	"go.yaml.in/yaml/v3"
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
	Query                       any
}

// query returns the query of a variable. Grafana writes it as a string or as an object
// that contains the string.
func (v variable) query() string {
	if object, ok := v.Query.(map[string]any); ok {
		return fmt.Sprint(object["query"])
	}
	return fmt.Sprint(v.Query)
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

func (d dashboard) variable(name string) variable {
	for _, v := range d.Templating.List {
		if v.Name == name {
			return v
		}
	}
	return variable{}
}

var variableRef = regexp.MustCompile(`\$(\w+)`)

// interpolate replaces variables with values, as Grafana does when All is selected
// everywhere. An unknown variable becomes nothing.
func (d dashboard) interpolate(query string) string {
	return variableRef.ReplaceAllStringFunc(query, func(ref string) string {
		switch v := d.variable(ref[1:]); {
		case ref == "$__rate_interval": // four times the Min step of a minute, but the fixture has a sample each 10m
			return "40m"
		case ref == "$__range":
			return "24h"
		case v.Type == "constant":
			return v.query()
		default:
			return v.AllValue
		}
	})
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
	for _, r := range shippedRules(t) {
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

// eachQuery runs a test for each query of the dashboard and its result. The name of the
// test is the title of the panel and the letter or name of the query.
func eachQuery(t *testing.T, test func(t *testing.T, p panel, q target, result promql.Vector)) {
	d, store := loadDashboard(t), loadFixture(t)
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			t.Run(p.Title+"/"+q.RefID, func(t *testing.T) {
				test(t, p, q, evaluate(t, store, d.interpolate(q.Expr), evalTime))
			})
		}
	}
}

var (
	legendRef = regexp.MustCompile(`\{\{(\w+)\}\}`)
	selector  = regexp.MustCompile(`\b(?:crs[:_]\w+|ALERTS)\b(?:\{[^}]*\})?`)
)

// TestDashboardQueries checks that each query names only what exists, obeys the choice of
// a job and has a result; and that no series or name of a pair of exporters is there
// twice, while accounts are kept apart.
func TestDashboardQueries(t *testing.T) {
	d, known := loadDashboard(t), exposed(t)
	eachQuery(t, func(t *testing.T, p panel, q target, result promql.Vector) {
		checkNames(t, known, d.interpolate(q.Expr))
		for _, s := range selector.FindAllString(q.Expr, -1) {
			if !strings.Contains(s, `job=~"$job`) {
				t.Errorf("%s is not limited to $job", s)
			}
		}
		table := p.Type == "table"
		if q.Instant == (p.Type == "timeseries") || (q.Format == "table") != table || p.Datasource.UID != "${datasource}" {
			t.Errorf("instant %v, format %q, data source %s in a panel of type %s", q.Instant, q.Format, p.Datasource.UID, p.Type)
		}
		// Without a Min step of a minute, $__rate_interval is too short for a scrape interval
		// of a minute, unless the data source knows that interval.
		rate := strings.Contains(q.Expr, "_total") || strings.Contains(q.Expr, "rate(")
		if p.Type == "timeseries" && rate && (!strings.Contains(q.Expr, "[$__rate_interval]") || q.Interval != "1m") {
			t.Errorf("a rate with the interval %q: %s", q.Interval, q.Expr)
		}
		if len(result) == 0 {
			t.Fatal("no result")
		}
		seen := map[string]bool{}
		for _, s := range result {
			if apart := table || strings.Contains(q.LegendFormat, "{{account}}"); apart && !s.Metric.Has("account") {
				t.Errorf("accounts are not kept apart: %s", s.Metric)
			}
			name := legendRef.ReplaceAllStringFunc(q.LegendFormat, func(ref string) string {
				return s.Metric.Get(strings.Trim(ref, "{}"))
			})
			if table {
				name = labels.NewBuilder(s.Metric).Del("redisName", "url").Labels().String()
			}
			if seen[name] {
				t.Errorf("two series have the name %q", name)
			}
			seen[name] = true
		}
	})
}

// TestDashboardTables checks that the settings of tables name columns that are there.
func TestDashboardTables(t *testing.T) {
	columns := map[string][]string{}
	eachQuery(t, func(_ *testing.T, p panel, q target, result promql.Vector) {
		columns[p.Title] = append(columns[p.Title], "Time", "Value", "Value #"+q.RefID)
		for _, s := range result {
			s.Metric.Range(func(l labels.Label) { columns[p.Title] = append(columns[p.Title], l.Name) })
		}
	})
	for _, p := range loadDashboard(t).Panels {
		if p.Type != "table" {
			continue
		}
		// Some alerts have these, but none of the fixture.
		there := append(columns[p.Title], "reason", "instance")
		var titles []string
		for _, tr := range p.Transformations {
			for column := range tr.Options.ExcludeByName {
				if !slices.Contains(there, column) {
					t.Errorf("%s hides the column %q, which no query returns", p.Title, column)
				}
			}
			for column, title := range tr.Options.RenameByName {
				if !slices.Contains(there, column) {
					t.Errorf("%s renames the column %q, which no query returns", p.Title, column)
				}
				titles = append(titles, title)
			}
		}
		for _, o := range p.FieldConfig.Overrides {
			if !slices.Contains(titles, o.Matcher.Options) {
				t.Errorf("%s has an override for %q, but no such column", p.Title, o.Matcher.Options)
			}
		}
		for _, s := range p.Options.SortBy {
			if !slices.Contains(titles, s.DisplayName) {
				t.Errorf("%s sorts by %q, but has no such column", p.Title, s.DisplayName)
			}
		}
	}
}

// TestDashboardValues checks the numbers that matter. Each of the two accounts has them: a
// pair of exporters counts once.
func TestDashboardValues(t *testing.T) {
	want := map[string]string{
		"Backups of each instance/state":               "failing 4, failing 4, gone 0, gone 0, late 3, late 3, ok 1, ok 1, stuck 2, stuck 2",
		"Backups of each instance/name":                "ok 1, ok 1",
		"Backups failing/A":                            " 2",
		"Backups overdue/A":                            " 2",
		"Backups stuck/A":                              " 2",
		"Instances/A":                                  " 8",
		"Failures in the selected time range/failures": "failing 144, failing 144",
	}
	eachQuery(t, func(t *testing.T, p panel, q target, result promql.Vector) {
		expected, ok := want[p.Title+"/"+q.RefID]
		if !ok {
			return
		}
		delete(want, p.Title+"/"+q.RefID)
		var got []string
		for _, s := range result {
			got = append(got, fmt.Sprintf("%s %v", s.Metric.Get("redisId"), s.F))
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); text != expected {
			t.Errorf("got %s, want %s", text, expected)
		}
	})
	if len(want) > 0 {
		t.Errorf("no such queries: %v", want)
	}
}

var variableFunc = regexp.MustCompile(`^(?:query_result\((.+)\)|label_values\((.+), (\w+)\))$`)

// TestDashboardVariables checks the queries of the variables, and evaluates redisId as
// Grafana does: it applies the regex to the lines of query_result.
func TestDashboardVariables(t *testing.T) {
	d, known, store := loadDashboard(t), exposed(t), loadFixture(t)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := variableFunc.FindStringSubmatch(d.interpolate(v.query()))
		if m == nil {
			t.Fatalf("not a variable query for Grafana's Prometheus data source: %q", v.query())
		}
		checkNames(t, known, m[1]+m[2])
		result := evaluate(t, store, m[1]+m[2], evalTime)
		if len(result) == 0 || m[3] != "" && !result[0].Metric.Has(m[3]) {
			t.Errorf("variable %s has no values", v.Name)
		}
		if v.Name != "redisId" {
			continue
		}
		if len(result) != 1 {
			t.Fatalf("an instance with several names is there %d times", len(result))
		}
		re := regexp.MustCompile(strings.Trim(v.Regex, "/"))
		found := re.FindStringSubmatch(result[0].Metric.String())
		if found == nil || found[re.SubexpIndex("value")] != "ok" || !strings.Contains(found[re.SubexpIndex("text")], "orders host") {
			t.Errorf("the regex finds %q in %s", found, result[0].Metric)
		}
	}
}

func TestDashboardRunbookLinks(t *testing.T) {
	d, shipped := loadDashboard(t), alerts(t)
	for _, p := range d.Panels {
		for _, l := range p.Links {
			alert := strings.TrimPrefix(l.Title, "Runbook: ")
			if _, ok := shipped[alert]; !ok || l.URL != runbooksURL+"#"+strings.ToLower(alert) {
				t.Errorf("panel %q: link %q to %s", p.Title, l.Title, l.URL)
			}
		}
	}
	if len(d.Links) != 1 || d.Links[0].URL != runbooksURL {
		t.Errorf("the links of the dashboard are %v, want only runbooks.md", d.Links)
	}
}

// grafanaProvider and grafanaDatasource have some keys of Grafana's provisioning files.
type grafanaProvider struct {
	Type           string
	AllowUIUpdates bool `yaml:"allowUiUpdates"`
	Options        struct{ Path string }
}

type grafanaDatasource struct {
	Type, Access, URL string
	Editable          bool
	JSONData          struct {
		TimeInterval string `yaml:"timeInterval"`
	} `yaml:"jsonData"`
}

func loadProvisioning(t *testing.T) (grafanaProvider, grafanaDatasource) {
	t.Helper()
	var providers struct{ Providers [1]grafanaProvider }
	var datasources struct{ Datasources [1]grafanaDatasource }
	for file, v := range map[string]any{"dashboards/crs-exporter.yaml": &providers, "datasources/prometheus.yaml": &datasources} {
		if err := yaml.Unmarshal([]byte(readFile(t, "../grafana/provisioning/"+file)), v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return providers.Providers[0], datasources.Datasources[0]
}

func TestGrafanaProvisioning(t *testing.T) {
	provider, source := loadProvisioning(t)
	if provider.Type != "file" || provider.AllowUIUpdates {
		t.Errorf("provider: %+v", provider)
	}
	if source.Type != "prometheus" || source.Access != "proxy" || source.URL != "${PROMETHEUS_URL}" || source.Editable {
		t.Errorf("data source: %+v", source)
	}
	if got, want := source.JSONData.TimeInterval, shippedScrape(t).ScrapeInterval.String(); got != want {
		t.Errorf("timeInterval %s, but prometheus.yml scrapes every %s", got, want)
	}
}
