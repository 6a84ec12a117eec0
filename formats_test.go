package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// What Prometheus 3 sends for each of its scrape_protocols, and by default.
const (
	acceptProto   = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
	acceptDefault = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)

var typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) `)

// TestFamiliesOnce parses a scrape in each format that Prometheus can ask for. Each
// family is in it once.
func TestFamiliesOnce(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	exporter := start(t, append(args, "--state.file="+filepath.Join(t.TempDir(), "state"))...)
	for name, test := range map[string]struct {
		accept string
		want   expfmt.FormatType
	}{
		"none":                           {"", expfmt.TypeTextPlain},
		"a browser":                      {"text/html,*/*;q=0.8", expfmt.TypeTextPlain},
		"default of Prometheus":          {acceptDefault, expfmt.TypeOpenMetrics},
		"default with native histograms": {acceptProto + acceptDefault, expfmt.TypeProtoDelim},
		"OpenMetricsText2.0.0":           {"application/openmetrics-text;version=2.0.0;escaping=allow-utf-8;q=0.7,*/*;q=0.6", expfmt.TypeTextPlain},
		"OpenMetricsText1.0.0":           {"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,*/*;q=0.6", expfmt.TypeOpenMetrics},
		"OpenMetricsText0.0.1":           {"application/openmetrics-text;version=0.0.1;q=0.7,*/*;q=0.6", expfmt.TypeOpenMetrics},
		"PrometheusText1.0.0":            {"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.7,*/*;q=0.6", expfmt.TypeTextPlain},
		"PrometheusText0.0.4":            {"text/plain;version=0.0.4;q=0.7,*/*;q=0.6", expfmt.TypeTextPlain},
		"PrometheusProto":                {acceptProto + "*/*;q=0.6", expfmt.TypeProtoDelim},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, exporter.url+"/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.accept != "" {
				req.Header.Set("Accept", test.accept)
			}
			resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				t.Fatal(err)
			}
			format := expfmt.ResponseFormat(resp.Header)
			if format.FormatType() != test.want {
				t.Errorf("the format is %q", format)
			}
			var names []string
			decoder := expfmt.NewDecoder(bytes.NewReader(body), format)
			for {
				var family dto.MetricFamily
				if err := decoder.Decode(&family); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("format %q: %v", format, err)
				}
				names = append(names, family.GetName())
			}
			if format.FormatType() != expfmt.TypeProtoDelim {
				names = nil // a parser may join what is there twice
				for _, match := range typeLine.FindAllSubmatch(body, -1) {
					names = append(names, string(match[1]))
				}
			}
			seen := map[string]bool{}
			for _, name := range names {
				// Prometheus and others store a family under its name in OpenMetrics.
				family := strings.TrimSuffix(name, "_total")
				if seen[family] {
					t.Errorf("the family %s is there twice", family)
				}
				seen[family] = true
			}
			for _, family := range []string{
				"crs_tasks", "crs_task_transitions", "crs_up", "crs_api_failures", "crs_log_lines_dropped", "crs_state_errors",
				"go_goroutines", "go_memstats_alloc_bytes", "go_memstats_heap_alloc_bytes", "process_start_time_seconds", "promhttp_metric_handler_requests",
			} {
				if !seen[family] {
					t.Errorf("no family %s", family)
				}
			}
			if !bytes.Contains(body, []byte("go_memstats_alloc_bytes_total")) {
				t.Error("no go_memstats_alloc_bytes_total")
			}
		})
	}
}
