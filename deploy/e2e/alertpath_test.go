package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

type addresses struct {
	exporter, alertmanager string // host and port
	webhook                string // URL without a path
}

// shippedForTest copies the shipped files of Prometheus and Alertmanager and returns the
// new directory. It changes only what the table says: addresses and times. It does not
// change the rules.
func shippedForTest(t *testing.T, a addresses) string {
	t.Helper()
	substitutions := []struct{ file, shipped, tested string }{
		{"prometheus/prometheus.yml", "scrape_interval: 1m", "scrape_interval: 2s"},
		{"prometheus/prometheus.yml", "scrape_timeout: 30s", "scrape_timeout: 2s"},
		{"prometheus/prometheus.yml", "evaluation_interval: 30s", "evaluation_interval: 1s"},
		{"prometheus/prometheus.yml", "'exporter:10991'", "'" + a.exporter + "'"},
		{"prometheus/prometheus.yml", "'alertmanager:9093'", "'" + a.alertmanager + "'"},
		{"alertmanager/alertmanager.yml", "group_wait: 30s", "group_wait: 1s"},
		{"alertmanager/alertmanager.yml", "group_interval: 5m", "group_interval: 1s"},
		{"alertmanager/alertmanager.yml", "http://localhost:9095/pager", a.webhook + "/pager"},
		{"alertmanager/alertmanager.yml", "http://localhost:9095/tickets", a.webhook + "/tickets"},
	}
	dir := t.TempDir()
	for _, shipped := range []string{"prometheus", "alertmanager"} {
		if err := os.CopyFS(filepath.Join(dir, shipped), os.DirFS(filepath.Join("..", shipped))); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range substitutions {
		path := filepath.Join(dir, s.file)
		content := readFile(t, path)
		if strings.Count(content, s.shipped) != 1 {
			t.Fatalf("%s must contain %q exactly once", s.file, s.shipped)
		}
		writeFile(t, path, strings.Replace(content, s.shipped, s.tested, 1))
	}
	return dir
}

// notified is one notification about one alert.
type notified struct {
	Receiver    string            `json:"-"`
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	Fingerprint string            `json:"fingerprint"`
}

// receiver is the webhook that gets the notifications. It is safe for concurrent use.
type receiver struct {
	URL string
	mu  sync.Mutex
	got []notified
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	r.URL = srv.URL
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var message struct {
		Alerts []notified `json:"alerts"`
	}
	if err := json.NewDecoder(req.Body).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range message.Alerts {
		a.Receiver = strings.TrimPrefix(req.URL.Path, "/")
		r.got = append(r.got, a)
	}
}

// of returns the notifications about an alert, in order.
func (r *receiver) of(alertname string) []notified {
	r.mu.Lock()
	defer r.mu.Unlock()
	var got []notified
	for _, a := range r.got {
		if a.Labels["alertname"] == alertname {
			got = append(got, a)
		}
	}
	return got
}

// exporterUnderTest is the exporter's binary. It polls the simulator.
type exporterUnderTest struct {
	path    string
	address string
	api     *crsapitest.Server
}

func (e exporterUnderTest) start(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	stop = start(t, []string{
		"HOME=" + t.TempDir(),
		credentials.EnvSecretID + "=" + crsapitest.SecretID,
		credentials.EnvSecretKey + "=" + crsapitest.SecretKey,
	}, e.path, append(args,
		"--web.listen-address="+e.address,
		"--crs.endpoint="+e.api.URL,
		"--crs.v3-endpoint="+e.api.URL3,
		"--crs.region="+region)...)
	eventually(t, "the exporter is healthy", func() error { return get(t, "http://"+e.address+"/-/healthy", nil) })
	return stop
}

func newExporterUnderTest(t *testing.T) exporterUnderTest {
	t.Helper()
	api := crsapitest.NewServer()
	t.Cleanup(api.Close)
	return exporterUnderTest{path: buildExporter(t), address: freeAddress(t), api: api}
}

const (
	region  = "ap-guangzhou"
	redisID = "crs-izbob1wh"
)

func task(name string, status crsapi.Status, submitted time.Time) crsapi.Task {
	return crsapi.Task{
		RedisID: redisID, RedisName: "for API test", ProjectID: "0",
		TaskName: name, Status: status, StartTime: submitted.UTC().Truncate(time.Second),
	}
}

// query runs a query in Prometheus. The result must be exactly one sample.
func query(t *testing.T, prometheus, expr string) (float64, error) {
	t.Helper()
	var response struct {
		Data struct {
			Result model.Vector `json:"result"`
		} `json:"data"`
	}
	if err := get(t, "http://"+prometheus+"/api/v1/query?query="+url.QueryEscape(expr), &response); err != nil {
		return 0, err
	}
	if n := len(response.Data.Result); n != 1 {
		return 0, fmt.Errorf("%s: %d samples", expr, n)
	}
	return float64(response.Data.Result[0].Value), nil
}

// until waits until the value of an expression is greater than 0.
func until(t *testing.T, prometheus, expr string) {
	t.Helper()
	eventually(t, expr, func() error {
		v, err := query(t, prometheus, expr)
		if err == nil && !(v > 0) {
			err = fmt.Errorf("value is %v", v)
		}
		return err
	})
}

// TestAlertPath tests the complete path. A task fails in the simulated API. The shipped
// configuration must send one notification when the alert fires and one when it resolves.
func TestAlertPath(t *testing.T) {
	t.Run("API 2.0 is retired", func(t *testing.T) {
		t.Parallel()
		testAlertPath(t, "auto", "error")
	})
	t.Run("API 3.0", func(t *testing.T) {
		t.Parallel()
		testAlertPath(t, "3.0", "failed")
	})
}

// testAlertPath reads the list as --crs.api says. There, the backup fails with the given
// status.
func testAlertPath(t *testing.T, api, backupFailed string) {
	exporter := newExporterUnderTest(t)
	now := time.Now()
	exporter.api.SetTasks(region, []crsapi.Task{
		task("importRdb", crsapi.StatusExecuting, now.Add(-time.Minute)),
		task("AUTOBACKUP", crsapi.StatusExecuting, now.Add(-2*time.Minute)), // backupInstance under API 2.0
		task("backupInstance", crsapi.StatusSucceeded, now.Add(-24*time.Hour)),
	})
	webhook := newReceiver(t)
	alertmanager, prometheus := freeAddress(t), freeAddress(t)
	dir := shippedForTest(t, addresses{exporter: exporter.address, alertmanager: alertmanager, webhook: webhook.URL})
	stopExporter := exporter.start(t, "--crs.api="+api)
	startAlertmanager(t, dir, alertmanager)
	start(t, nil, program(t, "prometheus"),
		"--config.file="+dir+"/prometheus/prometheus.yml",
		"--storage.tsdb.path="+t.TempDir(),
		"--web.listen-address="+prometheus)
	until(t, prometheus, `crs_up{job="crs", region="ap-guangzhou"} == 1`)
	until(t, prometheus, `crs:backup_max_age_seconds{redisId="crs-izbob1wh"} == 26 * 3600`)
	if got := webhook.of("CRSBackupFailed"); len(got) != 0 {
		t.Fatalf("notified before any failure: %+v", got)
	}

	// Both executing tasks fail.
	exporter.api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status, tasks[1].Status = crsapi.StatusFailed, crsapi.StatusError
		return tasks
	})
	firing := waitForNotification(t, webhook, "CRSBackupFailed", "firing")
	fired := time.Now()
	wantLabels := map[string]string{
		"alertname": "CRSBackupFailed", "severity": "critical", "job": "crs", "region": region,
		"redisId": redisID,
	}
	if !maps.Equal(firing.Labels, wantLabels) || firing.Receiver != "pager" {
		t.Errorf("notified %s\n%v, want pager\n%v", firing.Receiver, firing.Labels, wantLabels)
	}
	if want := "Backup of for API test (crs-izbob1wh) in ap-guangzhou failed"; firing.Annotations["summary"] != want {
		t.Errorf("summary %q, want %q", firing.Annotations["summary"], want)
	}
	if want := "submitted at " + now.Add(-2*time.Minute).UTC().Format("2006-01-02 15:04:05"); !strings.Contains(firing.Annotations["description"], want) {
		t.Errorf("description %q does not contain %q", firing.Annotations["description"], want)
	}
	if got := waitForNotification(t, webhook, "CRSTaskFailed", "firing"); got.Receiver != "tickets" || got.Labels["taskName"] != "importRdb" {
		t.Errorf("notified %s about %v", got.Receiver, got.Labels)
	}
	until(t, prometheus, `increase(crs_task_transitions_total{taskName="importRdb", status="failed"}[1m])`)

	// The API fails in two ways. During each failure the exporter restarts.
	for name, failure := range map[string]crsapitest.Effect{"hangs": crsapitest.Hang, "502": crsapitest.HTTPStatus(http.StatusBadGateway)} {
		t.Log("failure of the API:", name)
		failed := `count_over_time(crs_up{region="ap-guangzhou"}[2m]) - sum_over_time(crs_up{region="ap-guangzhou"}[2m])`
		before, err := query(t, prometheus, failed)
		if err != nil {
			t.Fatal(err)
		}
		clearFault := exporter.api.Inject(crsapitest.Fault{Do: failure})
		until(t, prometheus, fmt.Sprintf("%s >= %v", failed, before+2))
		listed := fmt.Sprintf(`crs_task_last_start_timestamp_seconds{taskName!="importRdb", status=%q}`, backupFailed)
		if _, err := query(t, prometheus, listed); err == nil {
			t.Error("the list is still exposed, although the API fails")
		}
		stopExporter()
		until(t, prometheus, `up{job="crs"} == bool 0`)
		stopExporter = exporter.start(t, "--crs.api="+api)
		until(t, prometheus, `up{job="crs"} == 1`)
		clearFault()
		until(t, prometheus, `crs_up{region="ap-guangzhou"} == 1`)
		until(t, prometheus, listed)
	}
	// The API reports success and lists no task.
	var hidden []crsapi.Task
	exporter.api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		hidden = tasks
		return nil
	})
	until(t, prometheus, `crs:region_emptied{region="ap-guangzhou"} == 1`)
	until(t, prometheus, `absent(crs_tasks)`)
	exporter.api.SetTasks(region, hidden)
	until(t, prometheus, `crs:region_emptied{region="ap-guangzhou"} == bool 0`)
	until(t, prometheus, fmt.Sprintf(`crs_tasks{taskName!="importRdb", status=%q} == 1`, backupFailed))
	// API 2.0 is retired. The region switches to API 3.0, where the task has another
	// name and another status.
	exporter.api.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
	until(t, prometheus, `crs_api_info{region="ap-guangzhou", api="3.0"}`)
	until(t, prometheus, `crs_task_last_start_timestamp_seconds{taskName="AUTOBACKUP", status="failed"}`)
	until(t, prometheus, `absent(crs_task_last_start_timestamp_seconds{status="error"})`)
	checkRulesHealth(t, prometheus)
	// There was exactly one firing alert all the time since then.
	alert := `(count(ALERTS{alertname="CRSBackupFailed", alertstate="firing"}) or vector(0))`
	window := fmt.Sprintf("[%ds:500ms]", int(time.Since(fired).Seconds()))
	for _, over := range []string{"min_over_time", "max_over_time"} {
		if n, err := query(t, prometheus, over+"("+alert+window+")"); n != 1 || err != nil {
			t.Errorf("%s of the number of firing alerts is %v, %v; want 1", over, n, err)
		}
	}
	if got := webhook.of("CRSBackupFailed"); len(got) != 1 {
		t.Errorf("notified %d times by the end of the outage, want once: %+v", len(got), got)
	}

	// A newer backup that is still executing does not resolve the alert.
	exporter.api.Add(region, task("backupInstance", crsapi.StatusExecuting, now.Add(-30*time.Second)))
	until(t, prometheus, `crs_tasks{taskName="backupInstance", status="executing"} == 1`)
	until(t, prometheus, `crs:task_unfinished_timestamp_seconds{taskName="backupInstance", status="executing"}`)
	if got := webhook.of("CRSBackupFailed"); len(got) != 1 {
		t.Errorf("notified %d times while a backup is executing, want once: %+v", len(got), got)
	}
	exporter.api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status = crsapi.StatusSucceeded
		return tasks
	})
	resolved := waitForNotification(t, webhook, "CRSBackupFailed", "resolved")
	if resolved.Fingerprint != firing.Fingerprint || !resolved.StartsAt.Equal(firing.StartsAt) {
		t.Errorf("resolved alert %+v, fired alert %+v", resolved, firing)
	}
	if got := webhook.of("CRSBackupFailed"); len(got) != 2 {
		t.Errorf("notified %d times in total, want twice: %+v", len(got), got)
	}
}

// checkRulesHealth reports the rules whose last evaluation failed. For example, a join
// fails only when it finds two matching series.
func checkRulesHealth(t *testing.T, prometheus string) {
	t.Helper()
	var response struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name      string `json:"name"`
					Health    string `json:"health"`
					LastError string `json:"lastError"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	if err := get(t, "http://"+prometheus+"/api/v1/rules", &response); err != nil {
		t.Fatal(err)
	}
	evaluated := 0
	for _, g := range response.Data.Groups {
		for _, r := range g.Rules {
			evaluated++
			if r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	shipped := 0
	for _, g := range shippedRules(t).Groups {
		shipped += len(g.Rules)
	}
	if evaluated != shipped {
		t.Errorf("Prometheus evaluates %d rules, want all %d shipped rules", evaluated, shipped)
	}
}

// waitForNotification waits until the webhook is notified that an alert has a status.
func waitForNotification(t *testing.T, r *receiver, alertname, status string) notified {
	t.Helper()
	var found notified
	eventually(t, "notification: "+alertname+" is "+status, func() error {
		for _, a := range r.of(alertname) {
			if a.Status == status {
				found = a
				return nil
			}
		}
		return errors.New("no notification")
	})
	return found
}

// TestExposed compares the table of exposed metrics, which the tests of rules and
// dashboard use, with a scrape of the exporter's binary.
func TestExposed(t *testing.T) {
	exporter := newExporterUnderTest(t)
	var tasks []crsapi.Task
	for i, status := range []crsapi.Status{-1, 0, 1, 2, 3, 99} {
		backup := task("backupInstance", status, time.Now().Add(-time.Duration(i)*time.Hour))
		if status == crsapi.StatusSucceeded || status == crsapi.StatusFailed {
			backup.EndTime = backup.StartTime.Add(time.Minute)
		}
		tasks = append(tasks, backup)
	}
	// The usual interval needs four finished backups.
	tasks = append(tasks,
		task("backupInstance", crsapi.StatusSucceeded, time.Now().Add(-24*time.Hour)),
		task("newInstance", crsapi.StatusSucceeded, time.Now().Add(-48*time.Hour)))
	exporter.api.SetTasks(region, tasks)
	// Only API 2.0 has the status error, and only API 3.0 has durations.
	families := map[string]*dto.MetricFamily{}
	for _, api := range []string{"2.0", "3.0"} {
		stop := exporter.start(t, "--crs.api="+api, "--web.external-url=http://"+exporter.address)
		for name, family := range scrape(t, exporter.address) {
			if families[name] == nil {
				families[name] = family
			} else {
				families[name].Metric = append(families[name].Metric, family.Metric...)
			}
		}
		stop()
	}
	got := map[string][]string{}
	values := map[string][]string{}
	for name, family := range families {
		if !strings.HasPrefix(name, "crs_") {
			continue
		}
		for _, m := range family.Metric {
			for _, l := range m.Label {
				if !slices.Contains(got[name], l.GetName()) {
					got[name] = append(got[name], l.GetName())
				}
				if !slices.Contains(values[l.GetName()], l.GetValue()) {
					values[l.GetName()] = append(values[l.GetName()], l.GetValue())
				}
			}
		}
		slices.Sort(got[name])
		if family.GetType() == dto.MetricType_HISTOGRAM {
			got[name+"_sum"], got[name+"_count"] = got[name], got[name]
			got[name+"_bucket"] = append([]string{"le"}, got[name]...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exposed)) {
		want := slices.Sorted(slices.Values(exposed[name]))
		if !slices.Equal(got[name], want) {
			t.Errorf("%s has labels %v, want %v", name, got[name], want)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is exposed, but not in the table", name)
	}
	for label, want := range closedSets {
		if !slices.Equal(slices.Sorted(slices.Values(values[label])), slices.Sorted(slices.Values(want))) {
			t.Errorf("label %s has the values %v, want %v", label, values[label], want)
		}
	}
}

// scrape returns the metrics of the exporter once its list is read.
func scrape(t *testing.T, address string) map[string]*dto.MetricFamily {
	t.Helper()
	var families map[string]*dto.MetricFamily
	eventually(t, "a scrape", func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
		if err != nil {
			return err
		}
		resp, err := client(t).Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err = parser.TextToMetricFamilies(resp.Body)
		if err == nil && families["crs_tasks"] == nil {
			err = errors.New("no crs_tasks yet")
		}
		return err
	})
	return families
}
