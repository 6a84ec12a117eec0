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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
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
	mu  sync.Mutex
	got []notified
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

// waitFor waits for the notification that an alert has a status.
func (r *receiver) waitFor(t *testing.T, alertname, status string) notified {
	t.Helper()
	var found notified
	eventually(t, "notification: "+alertname+" is "+status, func() error {
		for _, found = range r.of(alertname) {
			if found.Status == status {
				return nil
			}
		}
		return errors.New("no notification")
	})
	return found
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

// TestAlertPath tests that a failed backup gives one page and one notification of the
// cure, whatever fails in between: from the simulated API through the exporter's binary,
// Prometheus and Alertmanager with the shipped configuration to a webhook.
func TestAlertPath(t *testing.T) {
	t.Parallel()
	api := crsapitest.NewServer()
	t.Cleanup(api.Close)
	now := time.Now()
	api.SetTasks(region, []crsapi.Task{
		task("importRdb", crsapi.StatusExecuting, now.Add(-time.Minute)),
		task("backupInstance", crsapi.StatusExecuting, now.Add(-2*time.Minute)),
		task("backupInstance", crsapi.StatusSucceeded, now.Add(-24*time.Hour)),
	})
	webhook := &receiver{}
	webhookServer := httptest.NewServer(webhook)
	t.Cleanup(webhookServer.Close)
	prometheus, alertmanager, address := freeAddress(t), freeAddress(t), freeAddress(t)
	dir, data := shippedForTest(t, addresses{exporter: address, alertmanager: alertmanager, webhook: webhookServer.URL}), t.TempDir()
	startAlertmanager(t, dir, alertmanager)
	startExporter := func() (stop func()) {
		env := []string{"HOME=" + data, credentials.EnvSecretID + "=" + crsapitest.SecretID, credentials.EnvSecretKey + "=" + crsapitest.SecretKey}
		return start(t, env, exporter(t), "--web.listen-address="+address, "--state.file="+data+"/state",
			"--crs.endpoint="+api.URL, "--crs.v3-endpoint="+api.URL3, "--crs.region="+region)
	}
	startPrometheus := func() (stop func()) {
		stop = start(t, nil, program(t, "prometheus"), "--config.file="+dir+"/prometheus/prometheus.yml",
			"--storage.tsdb.path="+data+"/tsdb", "--web.listen-address="+prometheus, "--web.enable-lifecycle")
		until(t, prometheus, `crs:backup_deadline_timestamp_seconds{redisId="crs-izbob1wh"} > time()`)
		return stop
	}
	stopExporter, stopPrometheus := startExporter(), startPrometheus()
	if got := webhook.of("CRSBackupFailed"); len(got) != 0 {
		t.Fatalf("notified before any failure: %+v", got)
	}

	api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status, tasks[1].Status = crsapi.StatusFailed, crsapi.StatusError
		return tasks
	})
	firing := webhook.waitFor(t, "CRSBackupFailed", "firing")
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
	if got := webhook.waitFor(t, "CRSTaskFailed", "firing"); got.Receiver != "tickets" || got.Labels["taskName"] != "importRdb" {
		t.Errorf("notified %s about %v", got.Receiver, got.Labels)
	}

	// While the API fails, the exporter moves to another address and Prometheus restarts.
	endOutage := api.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(http.StatusBadGateway)})
	until(t, prometheus, `crs_up == bool 0`)
	stopExporter()
	old := address
	address = freeAddress(t)
	config := filepath.Join(dir, "prometheus", "prometheus.yml")
	writeFile(t, config, strings.Replace(readFile(t, config), old, address, 1))
	if err := request(t, http.MethodPost, "http://"+prometheus+"/-/reload", nil, nil); err != nil {
		t.Fatal(err)
	}
	startExporter()
	until(t, prometheus, fmt.Sprintf(`crs_backup_failing_since_timestamp_seconds{instance=%q}`, address))
	stopPrometheus()
	startPrometheus()
	until(t, prometheus, `absent(crs_tasks) and on () crs_up == bool 0`)
	endOutage()
	until(t, prometheus, `crs_up == 1`)
	// API 2.0 is retired. Under API 3.0 the task has another status.
	api.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
	until(t, prometheus, `crs_api_info{api="3.0"}`)
	until(t, prometheus, `crs_tasks{taskName="backupInstance", status="failed"} == 1`)
	// A backup that is executing is no cure.
	api.Add(region, task("backupInstance", crsapi.StatusExecuting, time.Now()))
	until(t, prometheus, `crs_tasks{taskName="backupInstance", status="executing"} == 1`)
	checkRulesHealth(t, prometheus)

	// There was exactly one firing alert all the time since then.
	window := fmt.Sprintf("[%ds:500ms]", int(time.Since(fired).Seconds()))
	for _, over := range []string{"min_over_time", "max_over_time"} {
		n, err := query(t, prometheus, over+`((count(ALERTS{alertname="CRSBackupFailed", alertstate="firing"}) or vector(0))`+window+")")
		if n != 1 || err != nil {
			t.Errorf("%s of the number of firing alerts is %v, %v; want 1", over, n, err)
		}
	}
	if got := webhook.of("CRSBackupFailed"); len(got) != 1 {
		t.Errorf("notified %d times before the cure, want once: %+v", len(got), got)
	}

	api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status = crsapi.StatusSucceeded
		return tasks
	})
	resolved := webhook.waitFor(t, "CRSBackupFailed", "resolved")
	if resolved.Fingerprint != firing.Fingerprint {
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
