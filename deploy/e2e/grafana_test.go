package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	"crs_tasks":                                   {"region", "redisId", "taskName", "status"},
	"crs_task_transitions_total":                  {"region", "redisId", "taskName", "status"},
	"crs_task_last_start_timestamp_seconds":       {"region", "redisId", "taskName", "status"},
	"crs_task_oldest_start_timestamp_seconds":     {"region", "redisId", "taskName", "status"},
	"crs_task_last_duration_seconds":              {"region", "redisId", "taskName", "status"},
	"crs_backup_last_start_timestamp_seconds":     {"region", "redisId", "outcome"},
	"crs_instance_info":                           {"region", "redisId", "redisName", "projectId"},
	"crs_backup_usual_interval_seconds":           {"region", "redisId"},
	"crs_instance_gone":                           {"region", "redisId"},
	"crs_instance_alive_since_timestamp_seconds":  {"region", "redisId"},
	"crs_instance_oldest_start_timestamp_seconds": {"region", "redisId"},
	"crs_region_seen_timestamp_seconds":           {"region"},
	"crs_backup_last_good_timestamp_seconds":      {"region", "redisId"},
	"crs_backup_failing_since_timestamp_seconds":  {"region", "redisId"},
	"crs_backup_deadline_timestamp_seconds":       {"region", "redisId"},
	"crs_task_finished_before_timestamp_seconds":  {"region", "redisId", "taskName"},
	"crs_task_last_failure_timestamp_seconds":     {"region", "redisId", "taskName"},
	"crs_task_last_success_timestamp_seconds":     {"region", "redisId", "taskName"},
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
	UID         string `json:"uid"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Editable    bool   `json:"editable"`
	Refresh     string `json:"refresh"`
	Time        struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"time"`
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

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type variable struct {
	Type       string          `json:"type"`
	Name       string          `json:"name"`
	Label      string          `json:"label"`
	Query      json.RawMessage `json:"query"`
	Regex      string          `json:"regex"`
	Refresh    int             `json:"refresh"`
	Multi      bool            `json:"multi"`
	IncludeAll bool            `json:"includeAll"`
	AllValue   string          `json:"allValue"`
	Datasource datasource      `json:"datasource"`
	Current    struct {
		Value any `json:"value"`
	} `json:"current"`
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
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	GridPos     struct{ X, Y, W, H int }
	Links       []dashboardLink `json:"links"`
	Panels      []panel         `json:"panels"`
	Targets     []target        `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
		Overrides []override `json:"overrides"`
	} `json:"fieldConfig"`
	Options struct {
		SortBy []struct {
			DisplayName string `json:"displayName"`
		} `json:"sortBy"`
	} `json:"options"`
	Transformations []struct {
		ID      string `json:"id"`
		Options struct {
			ExcludeByName map[string]bool   `json:"excludeByName"`
			IndexByName   map[string]int    `json:"indexByName"`
			RenameByName  map[string]string `json:"renameByName"`
		} `json:"options"`
	} `json:"transformations"`
}

type override struct {
	Matcher struct {
		ID      string `json:"id"`
		Options string `json:"options"`
	} `json:"matcher"`
	Properties []struct {
		ID    string          `json:"id"`
		Value json.RawMessage `json:"value"`
	} `json:"properties"`
}

type target struct {
	RefID        string     `json:"refId"`
	Datasource   datasource `json:"datasource"`
	Expr         string     `json:"expr"`
	Format       string     `json:"format"`
	Instant      bool       `json:"instant"`
	Range        bool       `json:"range"`
	LegendFormat string     `json:"legendFormat"`
}

func loadDashboard(t *testing.T) dashboard {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	if len(d.Panels) == 0 {
		t.Fatalf("%s has no panels", dashboardFile)
	}
	return d
}

// queryPanels returns all panels that show data, including those in collapsed rows.
func (d dashboard) queryPanels() []panel {
	var out []panel
	for _, p := range d.Panels {
		for _, p := range append([]panel{p}, p.Panels...) {
			if p.Type != "row" {
				out = append(out, p)
			}
		}
	}
	return out
}

func (d dashboard) variables() map[string]variable {
	out := make(map[string]variable, len(d.Templating.List))
	for _, v := range d.Templating.List {
		out[v.Name] = v
	}
	return out
}

// rateInterval is a value that nobody would write in a query, so a range in a parsed query shows whether it came from
// the variable.
const rateInterval = 25*time.Minute + time.Second

var variableRef = regexp.MustCompile(`\$(?:(\w+)|\{(\w+)(?::\w+)?\})`)

// interpolate replaces variables with values, as Grafana does when All is selected everywhere.
func (d dashboard) interpolate(t *testing.T, query string) string {
	t.Helper()
	vars := d.variables()
	return variableRef.ReplaceAllStringFunc(query, func(ref string) string {
		m := variableRef.FindStringSubmatch(ref)
		name := m[1] + m[2]
		switch name {
		case "__rate_interval":
			return fmt.Sprintf("%ds", int(rateInterval.Seconds()))
		case "__range":
			return "24h"
		}
		v, ok := vars[name]
		switch {
		case !ok:
			t.Errorf("query %q uses $%s, but the dashboard has no such variable", query, name)
			return ""
		case v.AllValue != "":
			return v.AllValue
		case v.Type == "constant":
			return v.query(t)
		default:
			s, _ := v.Current.Value.(string)
			return s
		}
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

// checkAlternatives reports every alternative of a selector like {__name__=~"a|b"} that the exporter does not expose.
func checkAlternatives(t *testing.T, expr parser.Expr, sel *parser.VectorSelector) {
	t.Helper()
	for _, m := range sel.LabelMatchers {
		if m.Name != labels.MetricName {
			continue
		}
		if len(m.SetMatches()) == 0 {
			t.Errorf("%s: the test cannot tell which metrics %s selects", expr, m)
		}
		for _, name := range m.SetMatches() {
			if _, ok := exposed[name]; !ok {
				t.Errorf("%s: metric %q is not exposed", expr, name)
			}
		}
	}
}

// checkNames reports every metric, label and closed-set value in expr that does not exist: the exporter does not
// expose it, and no shipped recording rule (recorded) creates it.
func checkNames(t *testing.T, recorded map[string][]string, expr parser.Expr) {
	t.Helper()
	known := map[string]bool{"job": true, "instance": true, "pod": true}
	made := map[string]bool{}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			if n.Name == "" {
				checkAlternatives(t, expr, n)
				return nil
			}
			names, ok := exposed[n.Name]
			if !ok {
				names, ok = recorded[n.Name]
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
			if n.Func.Name == "label_join" || n.Func.Name == "label_replace" {
				made[n.Args[1].(*parser.StringLiteral).Val] = true
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
			if !known[l] && !made[l] {
				t.Errorf("%s: no metric in it has label %q", expr, l)
			}
		}
		return nil
	})
}

// The fixture has instances in every backup state at evalTime. Region b has native histograms, region a has classic
// ones.
const (
	evalTime = 400 * 600
	fixture  = `load 10m
  crs_up{job="crs",region="a"} 1x400
  crs_up{job="crs",region="b"} 1x400
  crs_api_info{job="crs",region="a",api="2.0"} 1x400
  crs_api_info{job="crs",region="b",api="3.0"} 1x400
  crs_last_success_timestamp_seconds{job="crs",region="a"} 0+600x400
  crs_poll_duration_seconds{job="crs",region="a"} 0.4x400
  crs_poll_pages{job="crs",region="a"} 3x400
  crs_poll_rejected_rows{job="crs",region="a"} 0x400
  crs_api_clock_skew_seconds{job="crs",region="a"} -1x400
  crs_api_requests_total{job="crs",region="a"} 0+30x400
  crs_api_failures_total{job="crs",region="a",reason="auth"} 0+1x400
  crs_api_failures_total{job="crs",region="a",reason="server"} 0+1x400
  crs_api_request_duration_seconds_bucket{job="crs",region="a",le="0.1"} 0+20x400
  crs_api_request_duration_seconds_bucket{job="crs",region="a",le="1"} 0+30x400
  crs_api_request_duration_seconds_bucket{job="crs",region="a",le="+Inf"} 0+30x400
  crs_api_request_duration_seconds{job="crs",region="b"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}+{{schema:0 sum:5 count:4 buckets:[1 2 1]}}x400
  crs_exporter_build_info{job="crs",version="1.0.0",revision="abc",branch="main",goversion="go1.26.8",goos="linux",goarch="amd64",tags="unknown"} 1x400
  crs_pages_info{job="crs",region="a",instance="a:10991",url="https://example.com/crs"} 1x400
  crs_pages_info{job="crs",region="b",instance="b:10991",url="https://example.com/b"} 1x400
  crs_pages_info{job="crs",region="b",instance="b2:10991",url="https://example.com/b2"} 1x400
  crs_instance_info{job="crs",region="a",redisId="crs-ok",redisName="orders",projectId="0"} 1x400
  crs_instance_info{job="crs",region="a",redisId="crs-late",redisName="sessions",projectId="0"} 1x400
  crs_instance_info{job="crs",region="a",redisId="crs-failed",redisName="carts",projectId="7"} 1x400
  crs_instance_info{job="crs",region="b",redisId="crs-error",redisName="carts",projectId="7"} 1x400
  crs_instance_info{job="crs",region="b",redisId="crs-new",redisName="new \"one\"",projectId="7"} 1x400
  crs_instance_info{job="crs",region="b",redisId="crs-fixed",redisName="fixed",projectId="7"} 1x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="a",redisId="crs-ok",outcome="succeeded"} 236400x400
  crs_task_last_start_timestamp_seconds{job="crs",region="a",redisId="crs-ok",taskName="restoreBackup",status="failed"} 239000x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="a",redisId="crs-late",outcome="succeeded"} 132000x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="a",redisId="crs-failed",outcome="succeeded"} 150000x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="a",redisId="crs-failed",outcome="failed"} 236400x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="b",redisId="crs-error",outcome="failed"} 236400x400
  crs_instance_alive_since_timestamp_seconds{job="crs",region="b",redisId="crs-new"} 236400x400
  crs_instance_info{job="crs",region="b",redisId="crs-never",redisName="never",projectId="7"} 1x400
  crs_instance_oldest_start_timestamp_seconds{job="crs",region="b",redisId="crs-never"} 100000x400
  crs_instance_oldest_start_timestamp_seconds{job="crs",region="b",redisId="crs-error"} 100000x400
  crs_instance_info{job="crs",region="b",redisId="crs-gone",redisName="gone",projectId="7"} 1x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="b",redisId="crs-gone",outcome="failed"} 100000x400
  crs_instance_gone{job="crs",region="b",redisId="crs-gone"} 1x400
  crs_instance_gone{job="crs",region="b",redisId="crs-never"} 0x400
  crs_instance_gone{job="crs",region="b",redisId="crs-new"} 0x400
  crs_instance_gone{job="crs",region="b",redisId="crs-error"} 0x400
  crs_instance_gone{job="crs",region="b",redisId="crs-fixed"} 0x400
  crs_instance_gone{job="crs",region="a",redisId="crs-ok"} 0x400
  crs_instance_gone{job="crs",region="a",redisId="crs-late"} 0x400
  crs_instance_gone{job="crs",region="a",redisId="crs-failed"} 0x400
  crs_backup_usual_interval_seconds{job="crs",region="a",redisId="crs-ok"} 86400x400
  crs_task_last_duration_seconds{job="crs",region="b",redisId="crs-fixed",taskName="AUTOBACKUP",status="failed"} 30x400
  crs_task_last_duration_seconds{job="crs",region="b",redisId="crs-fixed",taskName="backupInstance",status="succeeded"} 60x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="b",redisId="crs-fixed",outcome="failed"} 236000x400
  crs_backup_last_start_timestamp_seconds{job="crs",region="b",redisId="crs-fixed",outcome="succeeded"} 236400x400
  crs_task_oldest_start_timestamp_seconds{job="crs",region="a",redisId="crs-ok",taskName="resizeInstance",status="executing"} 238200x400
  crs_tasks{job="crs",region="a",redisId="crs-ok",taskName="resizeInstance",status="executing"} 1x400
  crs_tasks{job="crs",region="a",redisId="crs-ok",taskName="resizeInstance",status="pending"} 0x400
  crs_tasks{job="crs",region="a",redisId="crs-ok",taskName="backupInstance",status="succeeded"} 3x400
  crs_task_transitions_total{job="crs",region="a",redisId="crs-failed",taskName="backupInstance",status="failed"} 0+1x400
  crs_task_transitions_total{job="crs",region="a",redisId="crs-ok",taskName="backupInstance",status="succeeded"} 0+1x400
`
)

// evaluator runs queries with the engine of Prometheus, at evalTime, on the fixture and on the results of the shipped
// recording rules.
type evaluator struct {
	engine   *promql.Engine
	store    *teststorage.TestStorage
	recorded map[string][]string // labels by metric, for results of the recording rules
}

func newEvaluator(t *testing.T) *evaluator {
	t.Helper()
	e := &evaluator{
		engine:   promqltest.NewTestEngine(t, false, 0, 100_000),
		store:    promqltest.LoadedStorage(t, fixture),
		recorded: map[string][]string{},
	}
	for _, g := range shippedRules(t).Groups {
		for _, r := range g.Rules {
			if r.Record == "" {
				continue
			}
			app := e.store.Appender(t.Context())
			for _, s := range e.eval(t, r.Expr) {
				b := labels.NewBuilder(s.Metric).Set(labels.MetricName, r.Record)
				for k, v := range r.Labels {
					b.Set(k, v)
				}
				ls := b.Labels()
				if _, err := app.Append(0, ls, evalTime*1000, s.F); err != nil {
					t.Fatalf("%s: %v", ls, err)
				}
				ls.Range(func(l labels.Label) {
					if names := e.recorded[r.Record]; l.Name != labels.MetricName && !slices.Contains(names, l.Name) {
						e.recorded[r.Record] = append(names, l.Name)
					}
				})
			}
			if err := app.Commit(); err != nil {
				t.Fatalf("%s: %v", r.Record, err)
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

func TestDashboardQueries(t *testing.T) {
	d := loadDashboard(t)
	e := newEvaluator(t)
	for _, p := range d.queryPanels() {
		refs := map[string]bool{}
		columns := map[string]bool{"Time": true}
		for _, q := range p.Targets {
			t.Run(p.Title+"/"+q.RefID, func(t *testing.T) {
				if refs[q.RefID] {
					t.Errorf("refId %q is used twice", q.RefID)
				}
				refs[q.RefID] = true
				if q.Instant == q.Range {
					t.Error("a target must be either instant or range")
				}
				if wantInstant := p.Type != "timeseries"; q.Instant != wantInstant {
					t.Errorf("instant is %v in a panel of type %s", q.Instant, p.Type)
				}
				if (q.Format == "table") != (p.Type == "table") {
					t.Errorf("format %q in a panel of type %s", q.Format, p.Type)
				}
				expr := parseQuery(t, d, q.Expr)
				checkNames(t, e.recorded, expr)
				got := e.eval(t, d.interpolate(t, q.Expr))
				if len(got) == 0 {
					t.Errorf("no result for the fixture: %s", q.Expr)
				}
				seen := map[string]bool{}
				for _, s := range got {
					for _, m := range legendRef.FindAllStringSubmatch(q.LegendFormat, -1) {
						if !s.Metric.Has(m[1]) {
							t.Errorf("legend {{%s}}: no such label in %s", m[1], s.Metric)
						}
					}
					name := legendRef.ReplaceAllStringFunc(q.LegendFormat, func(ref string) string {
						return s.Metric.Get(strings.Trim(ref, "{}"))
					})
					if p.Type != "table" && seen[name] {
						t.Errorf("two series have the name %q", name)
					}
					seen[name] = true
					s.Metric.Range(func(l labels.Label) { columns[l.Name] = true })
				}
				if len(p.Targets) == 1 {
					columns["Value"] = true
				} else {
					columns["Value #"+q.RefID] = true
				}
			})
		}
		if p.Type == "table" {
			t.Run(p.Title+"/columns", func(t *testing.T) { checkColumns(t, p, columns) })
		}
	}
}

// checkColumns compares the columns that a table's queries return with the column settings of the panel.
func checkColumns(t *testing.T, p panel, columns map[string]bool) {
	t.Helper()
	shown := map[string]bool{}
	for _, tr := range p.Transformations {
		if tr.ID != "organize" {
			continue
		}
		o := tr.Options
		for c := range columns {
			name, named := o.RenameByName[c]
			_, placed := o.IndexByName[c]
			switch {
			case o.ExcludeByName[c] && (named || placed):
				t.Errorf("column %q is hidden, but has a name or a position", c)
			case !o.ExcludeByName[c] && !(named && placed):
				t.Errorf("column %q has no name or no position", c)
			case named:
				shown[name] = true
			}
		}
		for c := range o.RenameByName {
			if !columns[c] {
				t.Errorf("renames column %q, but no query returns it", c)
			}
		}
		for c := range o.IndexByName {
			if !columns[c] {
				t.Errorf("sets the position of column %q, but no query returns it", c)
			}
		}
		for c := range o.ExcludeByName {
			if !columns[c] {
				t.Errorf("hides column %q, but no query returns it", c)
			}
		}
	}
	for _, o := range p.FieldConfig.Overrides {
		if o.Matcher.ID != "byName" || !shown[o.Matcher.Options] {
			t.Errorf("an override is for %q, but there is no such column", o.Matcher.Options)
		}
	}
	if len(p.Options.SortBy) == 0 {
		t.Error("no sort order for the rows")
	}
	for _, s := range p.Options.SortBy {
		if !shown[s.DisplayName] {
			t.Errorf("sorts by %q, but there is no such column", s.DisplayName)
		}
	}
}

func TestDashboardBackupState(t *testing.T) {
	d := loadDashboard(t)
	e := newEvaluator(t)
	byTitle := map[string]panel{}
	for _, p := range d.queryPanels() {
		byTitle[p.Title] = p
	}
	t.Run("table", func(t *testing.T) {
		const gone, ok, fresh, missing, failed = 0, 1, 2, 3, 4
		want := map[string]float64{
			"crs-ok": ok, "crs-fixed": ok, "crs-late": missing, "crs-never": missing,
			"crs-new": fresh, "crs-gone": gone, "crs-failed": failed, "crs-error": failed,
		}
		got := map[string]float64{}
		for _, q := range byTitle["Last backup of each instance"].Targets {
			if q.RefID != "state" {
				continue
			}
			for _, s := range e.eval(t, d.interpolate(t, q.Expr)) {
				got[s.Metric.Get("redisId")] = s.F
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	for title, want := range map[string]float64{"Instances": 8, "Last backup failed": 2, "Backup missing": 3} {
		t.Run(title, func(t *testing.T) {
			p := byTitle[title]
			if len(p.Targets) != 1 {
				t.Fatalf("%d targets", len(p.Targets))
			}
			got := e.eval(t, d.interpolate(t, p.Targets[0].Expr))
			if len(got) != 1 || got[0].F != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

var variableFunc = regexp.MustCompile(`^(label_values|query_result)\((.+)\)$`)

func TestDashboardVariables(t *testing.T) {
	d := loadDashboard(t)
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		if v.Type != "query" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			m := variableFunc.FindStringSubmatch(v.query(t))
			if m == nil {
				t.Fatalf("not a variable query for Grafana's Prometheus data source: %q", v.query(t))
			}
			query := m[2]
			if m[1] == "label_values" {
				i := strings.LastIndex(query, ",")
				label := strings.TrimSpace(query[i+1:])
				query = query[:i]
				expr := parseQuery(t, d, query)
				sel, ok := expr.(*parser.VectorSelector)
				if !ok {
					t.Fatalf("label_values needs a selector, got %s", expr)
				}
				if label != "job" && !slices.Contains(exposed[sel.Name], label) {
					t.Errorf("%s has no label %q", sel.Name, label)
				}
			}
			checkNames(t, nil, parseQuery(t, d, query))
		})
	}
	want := []string{"datasource", "job", "region", "redisId", "taskName", "backup"}
	if !slices.Equal(names, want) {
		t.Errorf("variables %v, want %v", names, want)
	}
}

// TestDashboardInstanceNames evaluates the variable redisId as Grafana does: it applies the regex to the lines of
// query_result.
func TestDashboardInstanceNames(t *testing.T) {
	d := loadDashboard(t)
	v := d.variables()["redisId"]
	re := regexp.MustCompile(strings.ReplaceAll(strings.Trim(v.Regex, "/"), "(?<", "(?P<"))
	query := variableFunc.FindStringSubmatch(v.query(t))[2]
	got := map[string]string{}
	for _, s := range newEvaluator(t).eval(t, d.interpolate(t, query)) {
		var pairs []string
		s.Metric.Range(func(l labels.Label) { pairs = append(pairs, l.Name+`="`+l.Value+`"`) })
		line := fmt.Sprintf("{%s} %v %d", strings.Join(pairs, ","), s.F, s.T)
		m := re.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("the regex does not match the line %s", line)
			continue
		}
		got[m[re.SubexpIndex("value")]] = m[re.SubexpIndex("text")]
	}
	want := map[string]string{
		"crs-ok": "orders  crs-ok", "crs-late": "sessions  crs-late", "crs-failed": "carts  crs-failed",
		"crs-never": "never  crs-never", "crs-gone": "gone  crs-gone",
		"crs-error": "carts  crs-error", "crs-new": `new "one"  crs-new`, "crs-fixed": "fixed  crs-fixed",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// alertNames returns the names of the shipped alerts.
func alertNames(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, g := range shippedRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				names = append(names, r.Alert)
			}
		}
	}
	return names
}

func TestDashboardRunbookLinks(t *testing.T) {
	d := loadDashboard(t)
	book, err := os.ReadFile(runbooksFile)
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for _, p := range d.queryPanels() {
		for _, l := range p.Links {
			alert, ok := strings.CutPrefix(l.Title, "Runbook: ")
			if !ok || l.URL != runbooksURL+"#"+strings.ToLower(alert) {
				t.Errorf("panel %q: link %q to %s", p.Title, l.Title, l.URL)
			}
			linked[alert] = true
		}
	}
	alerts := alertNames(t)
	for _, a := range alerts {
		if !linked[a] {
			t.Errorf("no panel links to the runbook of %s", a)
		}
		if !regexp.MustCompile(`(?m)^#+ ` + a + `$`).Match(book) {
			t.Errorf("runbooks.md has no section %s", a)
		}
	}
	for a := range linked {
		if !slices.Contains(alerts, a) {
			t.Errorf("a panel links to the runbook of %s, but there is no such alert", a)
		}
	}
	if len(d.Links) != 1 || d.Links[0].URL != runbooksURL {
		t.Errorf("the links of the dashboard are %v, want only runbooks.md", d.Links)
	}
}

func TestDashboardLayout(t *testing.T) {
	d := loadDashboard(t)
	ids, titles := map[int]bool{}, map[string]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || titles[p.Title] {
			t.Errorf("panel %d %q: duplicate id or title", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		g := p.GridPos
		if g.X < 0 || g.X+g.W > 24 || g.W <= 0 || g.H <= 0 {
			t.Errorf("panel %q is outside of the 24 columns: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("panels %q and %q overlap", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// The first screen has about 18 grid rows. It says which backups failed or are
// missing; the health of the exporter is one line of stats above.
func TestDashboardFirstScreen(t *testing.T) {
	d := loadDashboard(t)
	const line, screen = 3, 18
	for _, p := range d.Panels {
		bottom := p.GridPos.Y + p.GridPos.H
		switch {
		case strings.Contains(p.Title, "ackup") && !strings.HasPrefix(p.Title, "Duration") && bottom > screen:
			t.Errorf("%q ends at grid row %d", p.Title, bottom)
		case p.GridPos.Y < line && (p.Type != "stat" || bottom > line):
			t.Errorf("%q is in the line of stats", p.Title)
		}
	}
}

// validUnits are the ids of the Grafana value formats that this dashboard may use.
var validUnits = []string{"none", "short", "s", "reqps", "dateTimeAsLocal"}

// TestDashboardLint implements the rules of grafana/dashboard-linter, with the same names. It omits
// template-instance-rule and target-instance-rule, because an account has one exporter and its address has no meaning
// and changes with every pod. It omits target-logql-rule and target-logql-auto-rule, because they are for Loki.
func TestDashboardLint(t *testing.T) {
	d := loadDashboard(t)
	vars := d.variables()
	const ds = "${datasource}"
	eachTarget := func(t *testing.T, f func(t *testing.T, p panel, expr parser.Expr)) {
		t.Helper()
		for _, p := range d.queryPanels() {
			for _, q := range p.Targets {
				f(t, p, parseQuery(t, d, q.Expr))
			}
		}
	}
	rules := map[string]func(t *testing.T){
		"template-datasource-rule": func(t *testing.T) {
			v := vars["datasource"]
			if v.Type != "datasource" || v.query(t) != "prometheus" || v.Label != "Data source" {
				t.Errorf("the data source variable is %+v", v)
			}
		},
		"template-job-rule": func(t *testing.T) {
			v := vars["job"]
			if v.Type != "query" || v.Datasource.UID != ds || v.Label != "Job" || !v.Multi || v.AllValue != ".+" {
				t.Errorf("the job variable is %+v", v)
			}
		},
		"template-label-promql-rule": func(t *testing.T) {
			for _, v := range vars {
				if v.Type == "query" && (!variableFunc.MatchString(v.query(t)) || v.Datasource.UID != ds) {
					t.Errorf("variable %s: %s", v.Name, v.query(t))
				}
			}
		},
		"template-on-time-change-reload-rule": func(t *testing.T) {
			for _, v := range vars {
				if v.Type == "query" && v.Refresh != 2 {
					t.Errorf("variable %s has refresh %d", v.Name, v.Refresh)
				}
			}
		},
		"panel-datasource-rule": func(t *testing.T) {
			for _, p := range d.queryPanels() {
				if p.Datasource.UID != ds {
					t.Errorf("panel %q has data source %q", p.Title, p.Datasource.UID)
				}
				for _, q := range p.Targets {
					if q.Datasource.UID != ds {
						t.Errorf("panel %q, target %s has data source %q", p.Title, q.RefID, q.Datasource.UID)
					}
				}
			}
		},
		"panel-title-description-rule": func(t *testing.T) {
			for _, p := range d.queryPanels() {
				if p.Title == "" || p.Description == "" {
					t.Errorf("panel %d: title %q, description %q", p.ID, p.Title, p.Description)
				}
			}
		},
		"panel-units-rule": func(t *testing.T) {
			for _, p := range d.queryPanels() {
				if u := p.FieldConfig.Defaults.Unit; !slices.Contains(validUnits, u) {
					t.Errorf("panel %q has unit %q", p.Title, u)
				}
				for _, o := range p.FieldConfig.Overrides {
					for _, prop := range o.Properties {
						var u string
						if prop.ID == "unit" && (json.Unmarshal(prop.Value, &u) != nil || !slices.Contains(validUnits, u)) {
							t.Errorf("panel %q, column %q has unit %s", p.Title, o.Matcher.Options, prop.Value)
						}
					}
				}
			}
		},
		"panel-no-targets-rule": func(t *testing.T) {
			for _, p := range d.queryPanels() {
				if len(p.Targets) == 0 {
					t.Errorf("panel %q has no query", p.Title)
				}
			}
		},
		"target-promql-rule": func(t *testing.T) {
			eachTarget(t, func(*testing.T, panel, parser.Expr) {})
		},
		"target-rate-interval-rule": func(t *testing.T) {
			eachTarget(t, func(t *testing.T, p panel, expr parser.Expr) {
				parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
					m, ok := n.(*parser.MatrixSelector)
					if !ok || m.Range == rateInterval {
						return nil
					}
					// Only increase in a table may use the whole range of the dashboard.
					call, ok := path[len(path)-1].(*parser.Call)
					if !ok || call.Func.Name != "increase" || p.Type != "table" {
						t.Errorf("panel %q: %s should use $__rate_interval", p.Title, expr)
					}
					return nil
				})
			})
		},
		"target-job-rule": func(t *testing.T) {
			for _, p := range d.queryPanels() {
				for _, q := range p.Targets {
					for _, m := range regexp.MustCompile(`crs[:_]\w+(.{0,15})`).FindAllStringSubmatch(q.Expr, -1) {
						if !strings.HasPrefix(m[1], `{job=~"$job"`) {
							t.Errorf("panel %q, target %s: %s has no job=~\"$job\"", p.Title, q.RefID, m[0])
						}
					}
				}
			}
		},
		"target-counter-agg-rule": func(t *testing.T) {
			eachTarget(t, func(t *testing.T, p panel, expr parser.Expr) {
				parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
					sel, ok := n.(*parser.VectorSelector)
					if !ok || !strings.HasSuffix(sel.Name, "_total") {
						return nil
					}
					if len(path) >= 2 {
						if call, ok := path[len(path)-2].(*parser.Call); ok && slices.Contains([]string{"rate", "irate", "increase"}, call.Func.Name) {
							return nil
						}
					}
					t.Errorf("panel %q: counter %s is used without rate, irate or increase", p.Title, sel.Name)
					return nil
				})
			})
		},
		"target-histogram-rule": func(t *testing.T) {
			eachTarget(t, func(t *testing.T, p panel, expr parser.Expr) {
				parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
					sel, ok := n.(*parser.VectorSelector)
					if !ok || !strings.HasSuffix(sel.Name, "_bucket") {
						return nil
					}
					for _, n := range path {
						if call, ok := n.(*parser.Call); ok && call.Func.Name == "histogram_quantile" {
							return nil
						}
					}
					t.Errorf("panel %q: %s is used without histogram_quantile", p.Title, sel.Name)
					return nil
				})
			})
		},
		"uneditable-dashboard": func(t *testing.T) {
			if d.Editable {
				t.Error("the dashboard is editable")
			}
		},
	}
	for name, rule := range rules {
		t.Run(name, rule)
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
	if err := filepath.WalkDir("../grafana", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !slices.Contains([]string{
			"../grafana/dashboards/crs-exporter.json",
			"../grafana/provisioning/dashboards/crs-exporter.yaml",
			"../grafana/provisioning/datasources/prometheus.yaml",
		}, path) {
			t.Errorf("no test reads the file %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
