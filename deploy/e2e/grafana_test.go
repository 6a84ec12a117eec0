package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

const dashboardFile = "../grafana/dashboards/crs-exporter.json"

type dashboard struct {
	Links      []struct{ URL string }
	Panels     []panel
	Templating struct {
		List []struct {
			Type, Name, Regex, AllValue string
			Query                       any // a string, or an object that contains it
		}
	}
}

type panel struct {
	Type, Title string
	Datasource  struct{ UID string }
	Links       []struct{ Title, URL string }
	Targets     []target
}

type target struct {
	RefID, Expr, Format, Interval, LegendFormat string
	Instant                                     bool
}

func loadDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
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

// values are the numbers that matter, by panel and query. Each of the two accounts has
// them: a pair of exporters counts once.
var values = map[string]string{
	"Backups of each instance/state":               "failing 4, failing 4, gone 0, gone 0, late 3, late 3, ok 1, ok 1, stuck 2, stuck 2",
	"Backups of each instance/name":                "ok 1, ok 1",
	"Backups failing/A":                            " 2",
	"Backups overdue/A":                            " 2",
	"Backups stuck/A":                              " 2",
	"Instances/A":                                  " 8",
	"Failures in the selected time range/failures": "failing 432, failing 576",
}

// TestDashboard checks that each query names only what exists, obeys the choice of a job
// and has a result; that no series or name of a pair of exporters is there twice, while
// accounts are kept apart; and that links go to runbooks of alerts.
func TestDashboard(t *testing.T) {
	d, known, shipped, store := loadDashboard(t), exposed(t), severities(t), loadFixture(t)
	if d.Links[0].URL != runbooksURL {
		t.Errorf("the dashboard links to %v, want runbooks.md", d.Links)
	}
	got := map[string]string{}
	for _, p := range d.Panels {
		for _, l := range p.Links {
			alert := strings.TrimPrefix(l.Title, "Runbook: ")
			if shipped[alert] == "" || l.URL != runbooksURL+"#"+strings.ToLower(alert) {
				t.Errorf("%s: link %q to %s", p.Title, l.Title, l.URL)
			}
		}
		for _, q := range p.Targets {
			name, expr := p.Title+"/"+q.RefID, d.interpolate(q.Expr)
			for _, matchers := range selectors(t, known, expr) {
				if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return m.Name == "job" }) {
					t.Errorf("%s: %s is not limited to $job", name, matchers)
				}
			}
			if q.Instant == (p.Type == "timeseries") || (q.Format == "table") != (p.Type == "table") || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: instant %v, format %q, data source %s in a panel of type %s", name, q.Instant, q.Format, p.Datasource.UID, p.Type)
			}
			// Without a Min step of a minute, $__rate_interval is too short for a scrape interval
			// of a minute, unless the data source knows that interval.
			if strings.Contains(q.Expr, "$__rate_interval") != (q.Interval == "1m") {
				t.Errorf("%s: the interval is %q: %s", name, q.Interval, q.Expr)
			}
			result := evaluate(t, store, expr, evalTime)
			checkSeries(t, name, p, q, result)
			var numbers []string
			for _, s := range result {
				numbers = append(numbers, fmt.Sprintf("%s %v", s.Metric.Get("redisId"), s.F))
			}
			if values[name] != "" {
				slices.Sort(numbers)
				got[name] = strings.Join(numbers, ", ")
			}
		}
	}
	if !maps.Equal(got, values) {
		t.Errorf("got %v\nwant %v", got, values)
	}
}

func checkSeries(t *testing.T, query string, p panel, q target, result promql.Vector) {
	t.Helper()
	if len(result) == 0 {
		t.Errorf("%s: no result", query)
	}
	seen := map[string]bool{}
	for _, s := range result {
		if apart := p.Type == "table" || strings.Contains(q.LegendFormat, "{{account}}"); apart && !s.Metric.Has("account") {
			t.Errorf("%s: accounts are not kept apart: %s", query, s.Metric)
		}
		name := labels.NewBuilder(s.Metric).Del("redisName", "url").Labels().String()
		if p.Type != "table" {
			name = q.LegendFormat
			s.Metric.Range(func(l labels.Label) { name = strings.ReplaceAll(name, "{{"+l.Name+"}}", l.Value) })
		}
		if seen[name] {
			t.Errorf("%s: two series have the name %q", query, name)
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
