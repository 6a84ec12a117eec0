package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/prometheus/common/model"
)

// shippedForTest copies the shipped files of Prometheus and Alertmanager and returns the
// new directory. It changes only addresses and times. It does not change the rules. The
// webhook is a URL without a path.
func shippedForTest(t *testing.T, exporter, alertmanager, webhook string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir+"/prometheus/rules/crs.yml", readFile(t, rulesFile))
	for file, changes := range map[string][][2]string{
		"prometheus/prometheus.yml": {
			{"scrape_interval: 1m", "scrape_interval: 2s"},
			{"scrape_timeout: 30s", "scrape_timeout: 2s"},
			{"evaluation_interval: 30s", "evaluation_interval: 1s"},
			{"'exporter:10991'", "'" + exporter + "'"},
			{"'alertmanager:9093'", "'" + alertmanager + "'"},
		},
		"alertmanager/alertmanager.yml": {
			{"group_wait: 30s", "group_wait: 1s"},
			{"group_interval: 5m", "group_interval: 1s"},
			{"http://localhost:9095/pager", webhook + "/pager"},
			{"http://localhost:9095/tickets", webhook + "/tickets"},
		},
	} {
		content := readFile(t, "../"+file)
		for _, change := range changes {
			if strings.Count(content, change[0]) != 1 {
				t.Fatalf("%s must contain %q exactly once", file, change[0])
			}
			content = strings.Replace(content, change[0], change[1], 1)
		}
		writeFile(t, dir+"/"+file, content)
	}
	return dir
}

// notified is one notification about one alert.
type notified struct {
	Receiver string `json:"-"`
	Status   string
	Labels   map[string]string
}

// receiver is the webhook that gets the notifications. It is safe for concurrent use.
type receiver struct {
	mu  sync.Mutex
	got []notified
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var message struct{ Alerts []notified }
	if err := json.NewDecoder(req.Body).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range message.Alerts {
		a.Receiver = req.URL.Path
		r.got = append(r.got, a)
	}
}

// of returns the notifications about an alert, in order.
func (r *receiver) of(alertname string) []notified {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.got), func(a notified) bool { return a.Labels["alertname"] != alertname })
}

// waitFor waits for so many notifications about an alert and returns them.
func (r *receiver) waitFor(t *testing.T, count int, alertname string) (got []notified) {
	t.Helper()
	eventually(t, "notification about "+alertname, func() error {
		if got = r.of(alertname); len(got) < count {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	return got
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
func query(prometheus, expr string) (float64, error) {
	var response struct {
		Data struct {
			Result model.Vector `json:"result"`
		} `json:"data"`
	}
	if err := get("http://"+prometheus+"/api/v1/query?query="+url.QueryEscape(expr), &response); err != nil {
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
		v, err := query(prometheus, expr)
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
	dir, data := shippedForTest(t, address, alertmanager, webhookServer.URL), t.TempDir()
	startAlertmanager(t, dir, alertmanager)
	startExporter := func() (stop func()) {
		env := []string{"HOME=" + data, "TENCENTCLOUD_SECRET_ID=" + crsapitest.SecretID, "TENCENTCLOUD_SECRET_KEY=" + crsapitest.SecretKey}
		return start(t, env, exporter, "--web.listen-address="+address, "--state.file="+data+"/state",
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
	webhook.waitFor(t, 1, "CRSBackupFailed")
	fired := time.Now()
	if got := webhook.waitFor(t, 1, "CRSTaskFailed")[0]; got.Receiver != "/tickets" || got.Labels["taskName"] != "importRdb" {
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
	post(t, "http://"+prometheus+"/-/reload", nil)
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

	// There was exactly one firing alert all the time since then.
	window := fmt.Sprintf("[%ds:500ms]", int(time.Since(fired).Seconds()))
	for _, over := range []string{"min_over_time", "max_over_time"} {
		n, err := query(prometheus, over+`((count(ALERTS{alertname="CRSBackupFailed", alertstate="firing"}) or vector(0))`+window+")")
		if n != 1 || err != nil {
			t.Errorf("%s of the number of firing alerts is %v, %v; want 1", over, n, err)
		}
	}

	api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status = crsapi.StatusSucceeded
		return tasks
	})
	labels := map[string]string{
		"alertname": "CRSBackupFailed", "severity": "critical", "job": "crs", "region": region, "redisId": redisID,
	}
	want := []notified{{"/pager", "firing", labels}, {"/pager", "resolved", labels}}
	if got := webhook.waitFor(t, 2, "CRSBackupFailed"); !reflect.DeepEqual(got, want) {
		t.Errorf("notified %+v, want %+v", got, want)
	}
}
