package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

const alertmanagerFile = "../alertmanager/alertmanager.yml"

// shippedForTest copies the shipped files of Prometheus and Alertmanager and returns the
// new directory. It changes only addresses and times. The webhook is a URL without a path.
func shippedForTest(t *testing.T, exporter, alertmanager, webhook string) string {
	t.Helper()
	dir := t.TempDir()
	for file, changes := range map[string][][2]string{
		rulesFile: nil,
		prometheusFile: {
			{"scrape_interval: 1m", "scrape_interval: 2s"},
			{"scrape_timeout: 30s", "scrape_timeout: 2s"},
			{"evaluation_interval: 30s", "evaluation_interval: 1s"},
			{"'exporter:10991'", "'" + exporter + "'"},
			{"'alertmanager:9093'", "'" + alertmanager + "'"},
		},
		alertmanagerFile: {
			{"group_wait: 30s", "group_wait: 1s"},
			{"group_interval: 5m", "group_interval: 1s"},
			{"http://localhost:9095/pager", webhook + "/pager"},
			{"http://localhost:9095/tickets", webhook + "/tickets"},
		},
	} {
		content := readFile(t, file)
		for _, change := range changes {
			if strings.Count(content, change[0]) != 1 {
				t.Fatalf("%s must contain %q exactly once", file, change[0])
			}
			content = strings.Replace(content, change[0], change[1], 1)
		}
		writeFile(t, dir+strings.TrimPrefix(file, ".."), content)
	}
	return dir
}

// startAlertmanager starts Alertmanager with the copy of the shipped configuration in dir.
func startAlertmanager(t *testing.T, dir, address string) {
	t.Helper()
	start(t, nil, program(t, "alertmanager"), "--config.file="+dir+"/alertmanager/alertmanager.yml",
		"--storage.path="+t.TempDir(), "--web.listen-address="+address, "--cluster.listen-address=")
	eventually(t, "Alertmanager is ready", func() error { return get("http://"+address+"/-/ready", nil) })
}

// TestInhibition checks which alerts mute which others.
func TestInhibition(t *testing.T) {
	address, shipped := freeAddress(), severities(t)
	startAlertmanager(t, shippedForTest(t, "127.0.0.1:1", address, "http://127.0.0.1:1"), address)

	// The alerts that fire, each with its labels, and whether another one mutes it.
	want := map[string]bool{
		"CRSThrottled region=0": false, "CRSClock region=0": false,
		"CRSTaskFailed region=0 redisId=0": false, "CRSTaskStuck region=0 redisId=0": false,
	}
	for _, chain := range [][]string{
		{"CRSRequestsRefused region=%d", "CRSRegionUnwatched region=%[1]d", "CRSRegionPollFailing region=%[1]d"},
		{"CRSBackupFailed region=0 redisId=%d", "CRSBackupMissing region=0 redisId=%[1]d", "CRSBackupStuck region=0 redisId=%[1]d"},
	} {
		for i, first := range chain {
			for j, second := range chain[i+1:] {
				pair := 3*i + j
				want[fmt.Sprintf(first, pair)], want[fmt.Sprintf(second, pair)] = false, true
			}
		}
		// No label of a target is crossed.
		for _, label := range []string{"job", "namespace", "cluster", "account", "region"} {
			for i, alert := range chain {
				want[fmt.Sprintf(alert, 9)+fmt.Sprintf(" %s=x%d", label, i)] = false
			}
		}
	}
	type alert struct {
		Labels map[string]string `json:"labels"`
		Status struct{ State string }
	}
	var firing []alert
	for text := range want {
		name, rest, _ := strings.Cut(text, " ")
		if shipped[name] == "" {
			t.Errorf("no rule has the alert %s", name)
		}
		labels := map[string]string{"alertname": name, "text": text}
		for pair := range strings.FieldsSeq(rest) {
			label, value, _ := strings.Cut(pair, "=")
			labels[label] = value
		}
		firing = append(firing, alert{Labels: labels})
	}
	content, err := json.Marshal(firing)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post("http://"+address+"/api/v2/alerts", "application/json", bytes.NewReader(content))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("post alerts: %v, %v", resp, err)
	}
	eventually(t, "inhibited alerts", func() error {
		var known []alert
		if err := get("http://"+address+"/api/v2/alerts", &known); err != nil {
			return err
		}
		muted := map[string]bool{}
		for _, a := range known {
			if a.Status.State != "unprocessed" {
				muted[a.Labels["text"]] = a.Status.State == "suppressed"
			}
		}
		if !maps.Equal(muted, want) {
			return fmt.Errorf("muted are %v, want %v", muted, want)
		}
		return nil
	})
}

// TestAlertPath tests that a failed backup gives one page and one notification of the
// cure, although the API, the exporter and Prometheus fail in between: from the simulated API
// through the exporter's binary, Prometheus and Alertmanager with the shipped configuration
// to a webhook.
func TestAlertPath(t *testing.T) {
	t.Parallel()
	const region = "ap-guangzhou"
	api := crsapitest.NewServer()
	t.Cleanup(api.Close)
	task := func(name string, status crsapi.Status, age time.Duration) crsapi.Task {
		return crsapi.Task{
			RedisID: "crs-izbob1wh", RedisName: "for API test", ProjectID: "0",
			TaskName: name, Status: status, StartTime: time.Now().Add(-age).UTC().Truncate(time.Second),
		}
	}
	api.SetTasks(region, []crsapi.Task{
		task("importRdb", crsapi.StatusExecuting, time.Minute),
		task("backupInstance", crsapi.StatusExecuting, 2*time.Minute),
		task("backupInstance", crsapi.StatusSucceeded, 24*time.Hour),
	})
	notices := make(chan string, 100)
	webhook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var message struct {
			Alerts []struct {
				Status string
				Labels map[string]string
			}
		}
		if err := json.NewDecoder(req.Body).Decode(&message); err != nil {
			t.Error(err)
		}
		for _, a := range message.Alerts {
			notices <- fmt.Sprint(req.URL.Path, " ", a.Status, " ", a.Labels)
		}
	}))
	t.Cleanup(webhook.Close)
	wantNotices := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			select {
			case notice := <-notices:
				got = append(got, notice)
			case <-time.After(time.Minute):
			}
		}
		compare(t, "notifications", got, want)
	}
	prometheus, alertmanager, address := freeAddress(), freeAddress(), freeAddress()
	// until waits until an expression has a result.
	until := func(expr string) {
		t.Helper()
		eventually(t, expr, func() error {
			var response struct {
				Data struct{ Result []any }
			}
			err := get("http://"+prometheus+"/api/v1/query?query="+url.QueryEscape(expr), &response)
			if err == nil && len(response.Data.Result) == 0 {
				err = fmt.Errorf("no result")
			}
			return err
		})
	}
	dir, data := shippedForTest(t, address, alertmanager, webhook.URL), t.TempDir()
	startAlertmanager(t, dir, alertmanager)
	startExporter := func() (stop func()) {
		env := []string{"HOME=" + data, "TENCENTCLOUD_SECRET_ID=" + crsapitest.SecretID, "TENCENTCLOUD_SECRET_KEY=" + crsapitest.SecretKey}
		return start(t, env, exporter, "--web.listen-address="+address, "--state.file="+data+"/state",
			"--crs.endpoint="+api.URL, "--crs.v3-endpoint="+api.URL3, "--crs.region="+region)
	}
	startPrometheus := func() (stop func()) {
		return start(t, nil, program(t, "prometheus"), "--config.file="+dir+"/prometheus/prometheus.yml",
			"--storage.tsdb.path="+data+"/tsdb", "--web.listen-address="+prometheus)
	}
	stopExporter, stopPrometheus := startExporter(), startPrometheus()
	until(`crs:backup_deadline_timestamp_seconds{redisId="crs-izbob1wh"} > time()`)

	api.Update(region, func(tasks []crsapi.Task) []crsapi.Task {
		tasks[0].Status, tasks[1].Status = crsapi.StatusFailed, crsapi.StatusError
		return tasks
	})
	const page = "map[alertname:CRSBackupFailed job:crs redisId:crs-izbob1wh region:ap-guangzhou severity:critical]"
	wantNotices("/pager firing "+page,
		"/tickets firing map[alertname:CRSTaskFailed job:crs redisId:crs-izbob1wh region:ap-guangzhou severity:warning taskName:importRdb]")

	endOutage := api.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(http.StatusBadGateway)})
	until(`crs_up == 0`)
	stopExporter()
	until(`up == 0`)
	startExporter()
	until(`crs_backup_failing_since_timestamp_seconds and on () crs_up == 0`)
	stopPrometheus()
	startPrometheus()
	until(`absent(crs_tasks) and on () crs_up == 0`)
	endOutage()
	until(`crs_up == 1`)
	api.Add(region, task("backupInstance", crsapi.StatusSucceeded, 0))
	wantNotices("/pager resolved " + page)
}
