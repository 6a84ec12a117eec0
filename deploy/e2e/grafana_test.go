package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"
	"go.yaml.in/yaml/v3"
)

const (
	dashboardFile = "../grafana/dashboards/crs-exporter.json"
	runbooksFile  = "../prometheus/runbooks.md"
	runbooksURL   = "https://github.com/crs-exporter/crs_exporter/blob/main/deploy/prometheus/runbooks.md"
)

// exposed maps each metric of the exporter to its labels. Prometheus adds job and
// instance to each metric. TestExposed checks the table.
var exposed = map[string][]string{
	"crs_tasks":                                  {"region", "redisId", "taskName", "status"},
	"crs_task_transitions_total":                 {"region", "redisId", "taskName", "status"},
	"crs_task_last_start_timestamp_seconds":      {"region", "redisId", "taskName", "status"},
	"crs_task_oldest_start_timestamp_seconds":    {"region", "redisId", "taskName", "status"},
	"crs_task_last_duration_seconds":             {"region", "redisId", "taskName", "status"},
	"crs_backup_last_start_timestamp_seconds":    {"region", "redisId", "outcome"},
	"crs_instance_info":                          {"region", "redisId", "redisName", "projectId"},
	"crs_region_seen_timestamp_seconds":          {"region"},
	"crs_backup_last_good_timestamp_seconds":     {"region", "redisId"},
	"crs_backup_failing_since_timestamp_seconds": {"region", "redisId"},
	"crs_backup_deadline_timestamp_seconds":      {"region", "redisId"},
	"crs_task_finished_before_timestamp_seconds": {"region", "redisId", "taskName"},
	"crs_task_last_failure_timestamp_seconds":    {"region", "redisId", "taskName"},
	"crs_task_last_success_timestamp_seconds":    {"region", "redisId", "taskName"},
	"crs_up":                                      {"region"},
	"crs_pages_info":                              {"region", "url"},
	"crs_api_info":                                {"region", "api"},
	"crs_poll_duration_seconds":                   {"region"},
	"crs_poll_pages":                              {"region"},
	"crs_full_read_timestamp_seconds":             {"region"},
	"crs_poll_by_offset":                          {"region"},
	"crs_corrections_total":                       {"region"},
	"crs_poll_rejected_rows":                      {"region"},
	"crs_last_success_timestamp_seconds":          {"region"},
	"crs_api_requests_total":                      {"region"},
	"crs_api_failures_total":                      {"region", "reason"},
	"crs_api_request_duration_seconds":            {"region"},
	"crs_api_request_duration_seconds_bucket":     {"region", "le"},
	"crs_api_request_duration_seconds_sum":        {"region"},
	"crs_api_request_duration_seconds_count":      {"region"},
	"crs_api_clock_skew_seconds":                  {"region"},
	"crs_task_first_seen_delay_seconds":           {"region"},
	"crs_credentials_last_load_timestamp_seconds": {},
	"crs_credentials_expiry_timestamp_seconds":    {},
	"crs_state_errors_total":                      {},
	"crs_state_last_reset_timestamp_seconds":      {},
	"crs_log_lines_dropped_total":                 {},
	"crs_exporter_build_info":                     {"branch", "goarch", "goos", "goversion", "revision", "tags", "version"},
}

// closedSets maps labels to all their possible values.
var closedSets = map[string][]string{
	"status":  {"pending", "executing", "succeeded", "failed", "error", "unknown"},
	"outcome": {"succeeded", "failed"},
	"reason":  {"auth", "denied", "retired", "throttled", "timeout", "network", "server", "decode", "api"},
}

type dashboard struct {
	Links      []dashboardLink `json:"links"`
	Panels     []panel         `json:"panels"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
}

type dashboardLink struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

type variable struct {
	Type     string          `json:"type"`
	Name     string          `json:"name"`
	Query    json.RawMessage `json:"query"`
	Regex    string          `json:"regex"`
	AllValue string          `json:"allValue"`
}

// query returns the query of a variable. Grafana writes it as a string or as an object that contains the string.
func (v variable) query(t *testing.T) string {
	t.Helper()
	var s string
	if err := json.Unmarshal(v.Query, &s); err == nil {
		return s
	}
	var o struct{ Query string }
	if err := json.Unmarshal(v.Query, &o); err != nil {
		t.Fatalf("variable %s: query: %v", v.Name, err)
	}
	return o.Query
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Datasource  struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	GridPos     struct{ X, Y, W, H int }
	Links       []dashboardLink `json:"links"`
	Targets     []target        `json:"targets"`
	FieldConfig struct {
		Overrides []struct {
			Matcher struct {
				Options string `json:"options"`
			} `json:"matcher"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
	Options struct {
		SortBy []struct {
			DisplayName string `json:"displayName"`
		} `json:"sortBy"`
	} `json:"options"`
	Transformations []struct {
		Options struct {
			ExcludeByName map[string]bool   `json:"excludeByName"`
			RenameByName  map[string]string `json:"renameByName"`
		} `json:"options"`
	} `json:"transformations"`
}

type target struct {
	RefID        string `json:"refId"`
	Expr         string `json:"expr"`
	Format       string `json:"format"`
	Instant      bool   `json:"instant"`
	Interval     string `json:"interval"`
	LegendFormat string `json:"legendFormat"`
}

func loadDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return d
}

// queryPanels returns the panels that show data.
func (d dashboard) queryPanels() []panel {
	return slices.DeleteFunc(slices.Clone(d.Panels), func(p panel) bool { return p.Type == "row" })
}

func (d dashboard) variables() map[string]variable {
	out := make(map[string]variable, len(d.Templating.List))
	for _, v := range d.Templating.List {
		out[v.Name] = v
	}
	return out
}

var variableRef = regexp.MustCompile(`\$(\w+)`)

// interpolate replaces variables with values, as Grafana does when All is selected everywhere.
func (d dashboard) interpolate(t *testing.T, query string) string {
	t.Helper()
	vars := d.variables()
	return variableRef.ReplaceAllStringFunc(query, func(ref string) string {
		name := ref[1:]
		switch name {
		case "__rate_interval": // four times the Min step of a minute, but the fixture has a sample each 10m
			return "40m"
		case "__range":
			return "24h"
		}
		v, ok := vars[name]
		if !ok {
			t.Errorf("query %q uses $%s, but the dashboard has no such variable", query, name)
		}
		if v.Type == "constant" {
			return v.query(t)
		}
		return v.AllValue
	})
}

func parseQuery(t *testing.T, d dashboard, query string) parser.Expr {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(d.interpolate(t, query))
	if err != nil {
		t.Fatalf("Prometheus cannot parse %q: %v", query, err)
	}
	return expr
}

// alertLabels are the labels of ALERTS and ALERTS_FOR_STATE, which Prometheus makes.
var alertLabels = []string{"alertname", "alertstate", "severity", "region", "redisId", "taskName", "reason", "job", "instance"}

// checkNames reports every metric, label and closed-set value in expr that does not exist: the exporter does not
// expose it, and no shipped recording rule (recorded) creates it.
func checkNames(t *testing.T, recorded map[string][]string, expr parser.Expr) {
	t.Helper()
	known := map[string]bool{"job": true, "instance": true, "pod": true}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			names, ok := exposed[n.Name]
			if !ok {
				names, ok = recorded[n.Name]
			}
			if n.Name == "ALERTS" || n.Name == "ALERTS_FOR_STATE" {
				names, ok = alertLabels, true
			}
			if !ok {
				t.Errorf("%s: metric %q is neither exposed nor recorded", expr, n.Name)
			}
			for _, l := range names {
				known[l] = true
			}
			for _, m := range n.LabelMatchers {
				if m.Name != labels.MetricName && m.Name != "job" && m.Name != "instance" && !slices.Contains(names, m.Name) {
					t.Errorf("%s: %s has no label %q", expr, n.Name, m.Name)
				}
				values, closed := closedSets[m.Name]
				if !closed || m.Value == ".+" {
					continue
				}
				for v := range strings.SplitSeq(m.Value, "|") {
					if !slices.Contains(values, v) {
						t.Errorf("%s: label %s never has the value %q", expr, m.Name, v)
					}
				}
			}
		case *parser.Call:
			if n.Func.Name == "label_join" {
				known[n.Args[1].(*parser.StringLiteral).Val] = true
			}
		}
		return nil
	})
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		var used []string
		switch n := n.(type) {
		case *parser.AggregateExpr:
			used = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				used = append(slices.Clone(n.VectorMatching.MatchingLabels), n.VectorMatching.Include...)
			}
		}
		for _, l := range used {
			if !known[l] {
				t.Errorf("%s: no metric in it has label %q", expr, l)
			}
		}
		return nil
	})
}

// evalTime is the time of the last samples of the fixture.
const evalTime = 400 * 600

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

// evaluator runs queries with the engine of Prometheus at evalTime, on what two exporters
// of account one, of which one knows another name of the instance, and one of account two
// expose, and on the results of the shipped rules.
type evaluator struct {
	engine   *promql.Engine
	store    *teststorage.TestStorage
	recorded map[string][]string // labels by metric that a rule makes
}

func newEvaluator(t *testing.T) *evaluator {
	t.Helper()
	load := "load 10m\n"
	for _, exporter := range [][2]string{{"one", "host1"}, {"one", "host2"}, {"two", "host3"}} {
		target := fmt.Sprintf(`{job="crs",account=%q,instance=%q,`, exporter[0], exporter[1])
		for line := range strings.Lines(strings.ReplaceAll(fixture, "HOST", exporter[1])) {
			load += strings.Replace(line, "{", target, 1)
		}
	}
	e := &evaluator{
		engine:   promqltest.NewTestEngine(t, false, 0, 100_000),
		store:    promqltest.LoadedStorage(t, load),
		recorded: map[string][]string{},
	}
	for _, g := range shippedRules(t).Groups {
		for _, r := range g.Rules {
			app := e.store.Appender(t.Context())
			for _, s := range e.eval(t, r.Expr) {
				b := labels.NewBuilder(s.Metric).Set(labels.MetricName, r.Record)
				if r.Alert != "" {
					b.Set(labels.MetricName, "ALERTS").Set("alertname", r.Alert)
					b.Set("alertstate", "firing").Set("severity", r.Labels["severity"])
				}
				if _, err := app.Append(0, b.Labels(), evalTime*1000, s.F); err != nil {
					t.Fatalf("%s: %v", b.Labels(), err)
				}
				if r.Record != "" {
					e.recorded[r.Record] = slices.Collect(maps.Keys(s.Metric.Map()))
				}
			}
			if err := app.Commit(); err != nil {
				t.Fatalf("%s%s: %v", r.Record, r.Alert, err)
			}
		}
	}
	return e
}

func (e *evaluator) eval(t *testing.T, query string) promql.Vector {
	t.Helper()
	q, err := e.engine.NewInstantQuery(t.Context(), e.store, nil, query, time.Unix(evalTime, 0))
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return slices.Clone(v)
}

var legendRef = regexp.MustCompile(`\{\{(\w+)\}\}`)

// TestDashboardQueries checks that each query parses, names only what exists, and has a
// result; and that no series or name of a pair of exporters is there twice, while accounts
// are kept apart.
func TestDashboardQueries(t *testing.T) {
	d := loadDashboard(t)
	e := newEvaluator(t)
	for _, p := range d.queryPanels() {
		columns := map[string]bool{"Time": true}
		for _, q := range p.Targets {
			t.Run(p.Title+"/"+q.RefID, func(t *testing.T) {
				if q.Instant == (p.Type == "timeseries") || (q.Format == "table") != (p.Type == "table") {
					t.Errorf("instant %v, format %q in a panel of type %s", q.Instant, q.Format, p.Type)
				}
				checkNames(t, e.recorded, parseQuery(t, d, q.Expr))
				checkJob(t, q.Expr)
				got := e.eval(t, d.interpolate(t, q.Expr))
				if len(got) == 0 {
					t.Fatalf("no result: %s", q.Expr)
				}
				seen := map[string]bool{}
				for _, s := range got {
					apart := p.Type == "table" || strings.Contains(q.LegendFormat, "{{account}}")
					if apart && !s.Metric.Has("account") {
						t.Errorf("accounts are not kept apart: %s", s.Metric)
					}
					name := legendRef.ReplaceAllStringFunc(q.LegendFormat, func(ref string) string {
						return s.Metric.Get(strings.Trim(ref, "{}"))
					})
					if p.Type == "table" {
						name = labels.NewBuilder(s.Metric).Del("redisName", "url").Labels().String()
					}
					if seen[name] {
						t.Errorf("two series have the name %q", name)
					}
					seen[name] = true
					s.Metric.Range(func(l labels.Label) { columns[l.Name] = true })
				}
				columns["Value"] = true
				columns["Value #"+q.RefID] = true
			})
		}
		if p.Type == "table" {
			t.Run(p.Title+"/columns", func(t *testing.T) { checkColumns(t, p, columns) })
		}
	}
}

var selector = regexp.MustCompile(`\b(?:crs[:_]\w+|ALERTS)\b(?:\{[^}]*\})?`)

// checkJob checks that each selector of a query obeys the choice of a job.
func checkJob(t *testing.T, query string) {
	t.Helper()
	for _, s := range selector.FindAllString(query, -1) {
		if !strings.Contains(s, `job=~"$job`) {
			t.Errorf("%s is not limited to $job", s)
		}
	}
}

// checkColumns checks that the settings of a table name columns that its queries return.
func checkColumns(t *testing.T, p panel, columns map[string]bool) {
	t.Helper()
	// Not each alert has these, and none of the fixture has all.
	columns["reason"], columns["instance"] = true, true
	shown := map[string]bool{}
	for _, tr := range p.Transformations {
		for column, title := range tr.Options.RenameByName {
			shown[title] = true
			if !columns[column] {
				t.Errorf("no query returns the column %q", column)
			}
		}
		for column := range tr.Options.ExcludeByName {
			if !columns[column] {
				t.Errorf("no query returns the hidden column %q", column)
			}
		}
	}
	for _, o := range p.FieldConfig.Overrides {
		if !shown[o.Matcher.Options] {
			t.Errorf("an override is for %q, but there is no such column", o.Matcher.Options)
		}
	}
	for _, s := range p.Options.SortBy {
		if !shown[s.DisplayName] {
			t.Errorf("sorts by %q, but there is no such column", s.DisplayName)
		}
	}
}

// TestDashboardRateInterval checks that each query for a graph of a rate has a Min step of
// a minute. Without it, $__rate_interval is too short for a scrape interval of a minute,
// unless the data source knows that interval.
func TestDashboardRateInterval(t *testing.T) {
	for _, p := range loadDashboard(t).queryPanels() {
		for _, q := range p.Targets {
			rate := strings.Contains(q.Expr, "[$__rate_interval]")
			if want := strings.Contains(q.Expr, "_total") || strings.Contains(q.Expr, "rate("); p.Type == "timeseries" && rate != want {
				t.Errorf("panel %q does not use $__rate_interval: %s", p.Title, q.Expr)
			}
			if rate && q.Interval != "1m" {
				t.Errorf("panel %q, query %s has the interval %q", p.Title, q.RefID, q.Interval)
			}
		}
	}
}

// TestDashboardValues checks the numbers that matter. Each of the two accounts has them: a
// pair of exporters counts once.
func TestDashboardValues(t *testing.T) {
	d := loadDashboard(t)
	e := newEvaluator(t)
	for query, want := range map[string]string{
		"Backups of each instance/state":               "failing 4, failing 4, gone 0, gone 0, late 3, late 3, ok 1, ok 1, stuck 2, stuck 2",
		"Backups of each instance/name":                "ok 1, ok 1",
		"Backups failing/A":                            " 2",
		"Backups overdue/A":                            " 2",
		"Backups stuck/A":                              " 2",
		"Instances/A":                                  " 8",
		"Failures in the selected time range/failures": "failing 144, failing 144",
	} {
		t.Run(query, func(t *testing.T) {
			var got []string
			for _, p := range d.queryPanels() {
				for _, q := range p.Targets {
					if p.Title+"/"+q.RefID != query {
						continue
					}
					for _, s := range e.eval(t, d.interpolate(t, q.Expr)) {
						got = append(got, fmt.Sprintf("%s %v", s.Metric.Get("redisId"), s.F))
					}
				}
			}
			slices.Sort(got)
			if text := strings.Join(got, ", "); text != want {
				t.Errorf("got %s, want %s", text, want)
			}
		})
	}
}

var variableFunc = regexp.MustCompile(`^(label_values|query_result)\((.+)\)$`)

// TestDashboardVariables checks the queries of the variables, and evaluates redisId as
// Grafana does: it applies the regex to the lines of query_result.
func TestDashboardVariables(t *testing.T) {
	d := loadDashboard(t)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := variableFunc.FindStringSubmatch(v.query(t))
		if m == nil {
			t.Fatalf("not a variable query for Grafana's Prometheus data source: %q", v.query(t))
		}
		query := m[2]
		if m[1] == "label_values" {
			i := strings.LastIndex(query, ",")
			metric, _, _ := strings.Cut(query, "{")
			if label := strings.TrimSpace(query[i+1:]); label != "job" && !slices.Contains(exposed[metric], label) {
				t.Errorf("%s has no label %q", metric, label)
			}
			query = query[:i]
		}
		checkNames(t, nil, parseQuery(t, d, query))
	}
	v := d.variables()["redisId"]
	re := regexp.MustCompile(strings.ReplaceAll(strings.Trim(v.Regex, "/"), "(?<", "(?P<"))
	query := variableFunc.FindStringSubmatch(v.query(t))[2]
	got := newEvaluator(t).eval(t, d.interpolate(t, query))
	if len(got) != 1 {
		t.Fatalf("an instance with several names is there %d times", len(got))
	}
	m := re.FindStringSubmatch(got[0].Metric.String())
	if m == nil || m[re.SubexpIndex("value")] != "ok" || !strings.Contains(m[re.SubexpIndex("text")], "orders host") {
		t.Errorf("the regex finds %q in %s", m, got[0].Metric)
	}
}

func TestDashboardRunbookLinks(t *testing.T) {
	d := loadDashboard(t)
	shipped := alerts(t)
	for _, p := range d.queryPanels() {
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

func TestDashboardLayout(t *testing.T) {
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range loadDashboard(t).Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: no title, or two of this id", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && (p.Description == "" || p.Datasource.UID != "${datasource}") {
			t.Errorf("panel %q: description %q, data source %s", p.Title, p.Description, p.Datasource.UID)
		}
		g := p.GridPos
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
					t.Fatalf("panel %q overlaps %q or the 24 columns", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// decodeStrict decodes the YAML file into v. An unknown or duplicate key is an error.
func decodeStrict(t *testing.T, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Fatalf("%s: more than one document", file)
	}
}

// grafanaProviders and grafanaDatasources have the documented keys of Grafana's provisioning files.
type grafanaProviders struct {
	APIVersion int `yaml:"apiVersion"`
	Providers  []struct {
		Name                  string `yaml:"name"`
		OrgID                 int    `yaml:"orgId"`
		Folder                string `yaml:"folder"`
		FolderUID             string `yaml:"folderUid"`
		Type                  string `yaml:"type"`
		DisableDeletion       bool   `yaml:"disableDeletion"`
		UpdateIntervalSeconds int    `yaml:"updateIntervalSeconds"`
		AllowUIUpdates        bool   `yaml:"allowUiUpdates"`
		Options               struct {
			Path                      string `yaml:"path"`
			FoldersFromFilesStructure bool   `yaml:"foldersFromFilesStructure"`
		} `yaml:"options"`
	} `yaml:"providers"`
}

type grafanaDatasources struct {
	APIVersion  int `yaml:"apiVersion"`
	Datasources []struct {
		Name      string `yaml:"name"`
		UID       string `yaml:"uid"`
		Type      string `yaml:"type"`
		Access    string `yaml:"access"`
		URL       string `yaml:"url"`
		IsDefault bool   `yaml:"isDefault"`
		Editable  bool   `yaml:"editable"`
		JSONData  struct {
			HTTPMethod   string `yaml:"httpMethod"`
			TimeInterval string `yaml:"timeInterval"`
		} `yaml:"jsonData"`
	} `yaml:"datasources"`
}

func TestGrafanaProvisioning(t *testing.T) {
	var providers grafanaProviders
	decodeStrict(t, "../grafana/provisioning/dashboards/crs-exporter.yaml", &providers)
	if providers.APIVersion != 1 || len(providers.Providers) != 1 {
		t.Fatalf("providers: %+v", providers)
	}
	if p := providers.Providers[0]; p.Type != "file" || p.Options.Path != "/etc/grafana/dashboards" || p.AllowUIUpdates {
		t.Errorf("provider: %+v", p)
	}
	var sources grafanaDatasources
	decodeStrict(t, "../grafana/provisioning/datasources/prometheus.yaml", &sources)
	if sources.APIVersion != 1 || len(sources.Datasources) != 1 {
		t.Fatalf("data sources: %+v", sources)
	}
	s := sources.Datasources[0]
	if s.Type != "prometheus" || s.Access != "proxy" || s.URL != "${PROMETHEUS_URL}" || s.Editable {
		t.Errorf("data source: %+v", s)
	}
	if got := shippedScrapeInterval(t).String(); s.JSONData.TimeInterval != got {
		t.Errorf("timeInterval %s, but prometheus.yml scrapes every %s", s.JSONData.TimeInterval, got)
	}
}
