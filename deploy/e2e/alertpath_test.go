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
	"regexp"
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

// alertPath is an exporter, a Prometheus and an Alertmanager with the shipped
// configuration, which lies in dir. The exporter polls a simulated API.
type alertPath struct {
	exporter        exporterUnderTest
	webhook         *receiver
	prometheus      string // host and port
	dir             string
	startExporter   func() (stop func()) // with the same state file
	startPrometheus func() (stop func()) // with the same storage
}

// newAlertPath starts Alertmanager. The API lists tasks.
func newAlertPath(t *testing.T, tasks ...crsapi.Task) *alertPath {
	t.Helper()
	p := &alertPath{exporter: newExporterUnderTest(t), webhook: newReceiver(t), prometheus: freeAddress(t)}
	p.exporter.api.SetTasks(region, tasks)
	alertmanager := freeAddress(t)
	p.dir = shippedForTest(t, addresses{exporter: p.exporter.address, alertmanager: alertmanager, webhook: p.webhook.URL})
	startAlertmanager(t, p.dir, alertmanager)
	data := t.TempDir()
	p.startExporter = func() (stop func()) { return p.exporter.start(t, "--state.file="+data+"/state") }
	p.startPrometheus = func() (stop func()) {
		stop = start(t, nil, program(t, "prometheus"),
			"--config.file="+p.dir+"/prometheus/prometheus.yml",
			"--storage.tsdb.path="+data+"/tsdb",
			"--web.listen-address="+p.prometheus,
			"--web.enable-lifecycle")
		until(t, p.prometheus, `crs:backup_deadline_timestamp_seconds{redisId="crs-izbob1wh"} > time()`)
		return stop
	}
	return p
}

// moveTo gives the exporter another address in Prometheus, which reloads its
// configuration.
func (p *alertPath) moveTo(t *testing.T, address string) {
	t.Helper()
	file := filepath.Join(p.dir, "prometheus", "prometheus.yml")
	writeFile(t, file, strings.Replace(readFile(t, file), p.exporter.address, address, 1))
	p.exporter.address = address
	resp, err := client(t).Post("http://"+p.prometheus+"/-/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("reload: %s", resp.Status)
	}
}

// TestAlertPath tests that a failed backup gives one page and one notification of the
// cure, whatever fails in between.
func TestAlertPath(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := newAlertPath(t,
		task("importRdb", crsapi.StatusExecuting, now.Add(-time.Minute)),
		task("backupInstance", crsapi.StatusExecuting, now.Add(-2*time.Minute)),
		task("backupInstance", crsapi.StatusSucceeded, now.Add(-24*time.Hour)))
	stopExporter, stopPrometheus := p.startExporter(), p.startPrometheus()
	if got := p.webhook.of("CRSBackupFailed"); len(got) != 0 {
		t.Fatalf("notified before any failure: %+v", got)
	}

	p.exporter.api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status, tasks[1].Status = crsapi.StatusFailed, crsapi.StatusError
		return tasks
	})
	firing := waitForNotification(t, p.webhook, "CRSBackupFailed", "firing")
	fired := time.Now()
	wantLabels := map[string]string{
		"alertname": "CRSBackupFailed", "severity": "critical", "job": "crs", "region": region, "redisId": redisID,
	}
	if !maps.Equal(firing.Labels, wantLabels) || firing.Receiver != "pager" {
		t.Errorf("notified %s\n%v, want pager\n%v", firing.Receiver, firing.Labels, wantLabels)
	}
	if got, want := firing.Annotations["description"], "for API test (crs-izbob1wh) in ap-guangzhou, since "; !strings.HasPrefix(got, want) {
		t.Errorf("description %q, want %q and so on", got, want)
	}
	if got := waitForNotification(t, p.webhook, "CRSTaskFailed", "firing"); got.Receiver != "tickets" || got.Labels["taskName"] != "importRdb" {
		t.Errorf("notified %s about %v", got.Receiver, got.Labels)
	}

	// While the API fails, the exporter moves and Prometheus restarts.
	endOutage := p.exporter.api.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(http.StatusBadGateway)})
	until(t, p.prometheus, `crs_up == bool 0`)
	stopExporter()
	p.moveTo(t, freeAddress(t))
	p.startExporter()
	until(t, p.prometheus, fmt.Sprintf(`crs_backup_failing_since_timestamp_seconds{instance=%q}`, p.exporter.address))
	stopPrometheus()
	p.startPrometheus()
	until(t, p.prometheus, `absent(crs_tasks) and on () crs_up == bool 0`)
	endOutage()
	until(t, p.prometheus, `crs_up == 1`)
	// API 2.0 is retired. Under API 3.0 the task has another status.
	p.exporter.api.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
	until(t, p.prometheus, `crs_api_info{api="3.0"}`)
	until(t, p.prometheus, `crs_tasks{taskName="backupInstance", status="failed"} == 1`)
	// A backup that is executing is no cure.
	p.exporter.api.Add(region, task("backupInstance", crsapi.StatusExecuting, time.Now()))
	until(t, p.prometheus, `crs_tasks{taskName="backupInstance", status="executing"} == 1`)
	checkRulesHealth(t, p.prometheus)

	// There was exactly one firing alert all the time since then.
	window := fmt.Sprintf("[%ds:500ms]", int(time.Since(fired).Seconds()))
	for _, over := range []string{"min_over_time", "max_over_time"} {
		n, err := query(t, p.prometheus, over+`((count(ALERTS{alertname="CRSBackupFailed", alertstate="firing"}) or vector(0))`+window+")")
		if n != 1 || err != nil {
			t.Errorf("%s of the number of firing alerts is %v, %v; want 1", over, n, err)
		}
	}
	if got := p.webhook.of("CRSBackupFailed"); len(got) != 1 {
		t.Errorf("notified %d times before the cure, want once: %+v", len(got), got)
	}

	p.exporter.api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status = crsapi.StatusSucceeded
		return tasks
	})
	resolved := waitForNotification(t, p.webhook, "CRSBackupFailed", "resolved")
	if resolved.Fingerprint != firing.Fingerprint {
		t.Errorf("resolved alert %+v, fired alert %+v", resolved, firing)
	}
	if got := p.webhook.of("CRSBackupFailed"); len(got) != 2 {
		t.Errorf("notified %d times in total, want twice: %+v", len(got), got)
	}
}

// TestRegionPath tests that a refused key gives one page, and an empty list one more.
// The alerts on regions wait for minutes, here for as many seconds.
func TestRegionPath(t *testing.T) {
	t.Parallel()
	backup := task("backupInstance", crsapi.StatusSucceeded, time.Now().Add(-time.Hour))
	p := newAlertPath(t, backup)
	rules := filepath.Join(p.dir, "prometheus", "rules", "crs.yml")
	hurried := regexp.MustCompile(`(for: \d+)m`).ReplaceAllString(readFile(t, rules), "${1}s")
	writeFile(t, rules, strings.ReplaceAll(hurried, "55 * 60", "15"))
	p.startExporter()
	p.startPrometheus()

	accept := p.exporter.api.Inject(crsapitest.Fault{Do: crsapitest.APIError(4100)})
	for _, alert := range []string{"CRSRequestsRefused", "CRSRegionUnwatched", "CRSRegionPollFailing"} {
		until(t, p.prometheus, fmt.Sprintf(`count_over_time(ALERTS{alertname=%q, alertstate="firing"}[10s]) > 5`, alert))
	}
	refused := waitForNotification(t, p.webhook, "CRSRequestsRefused", "firing")
	if refused.Receiver != "pager" || refused.Labels["reason"] != "auth" {
		t.Errorf("notified %s about %v, want pager about auth", refused.Receiver, refused.Labels)
	}
	if got := p.webhook.of("CRSRegionUnwatched"); len(got) != 0 {
		t.Errorf("a second page for the refused key: %+v", got)
	}
	accept()
	waitForNotification(t, p.webhook, "CRSRequestsRefused", "resolved")

	p.exporter.api.SetTasks(region, nil)
	unwatched := waitForNotification(t, p.webhook, "CRSRegionUnwatched", "firing")
	if unwatched.Receiver != "pager" {
		t.Errorf("notified %s about an empty list, want pager", unwatched.Receiver)
	}
	p.exporter.api.SetTasks(region, []crsapi.Task{backup})
	waitForNotification(t, p.webhook, "CRSRegionUnwatched", "resolved")
	for _, alert := range []string{"CRSRequestsRefused", "CRSRegionUnwatched"} {
		if got := p.webhook.of(alert); len(got) != 2 {
			t.Errorf("notified %d times about %s, want twice: %+v", len(got), alert, got)
		}
	}
}

// checkRulesHealth reports the rules whose last evaluation failed. For example, a join
// fails only when it finds two matching series.
func checkRulesHealth(t *testing.T, prometheus string) {
	t.Helper()
	var response struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := get(t, "http://"+prometheus+"/api/v1/rules", &response); err != nil {
		t.Fatal(err)
	}
	for _, g := range response.Data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
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
		// Of a first list, only a task of the future has crs_task_first_seen_delay_seconds.
		backup := task("backupInstance", status, time.Now().Add(time.Minute-time.Duration(i)*time.Hour))
		if status == crsapi.StatusSucceeded || status == crsapi.StatusFailed {
			backup.EndTime = backup.StartTime.Add(time.Minute)
		}
		tasks = append(tasks, backup)
	}
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
