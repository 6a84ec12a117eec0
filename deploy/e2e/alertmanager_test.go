package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAmtool(t *testing.T) {
	amtool := program(t, "amtool")
	t.Run("check-config", func(t *testing.T) { run(t, amtool, "check-config", alertmanagerFile) })
	receivers := map[string]string{"critical": "pager", "warning": "tickets"}
	for name, r := range alerts(t) {
		t.Run("route "+name, func(t *testing.T) {
			got := run(t, amtool, "config", "routes", "test", "--config.file="+alertmanagerFile,
				"alertname="+name, "severity="+r.Labels["severity"], "region=ap-guangzhou")
			if want := receivers[r.Labels["severity"]]; strings.TrimSpace(got) != want {
				t.Errorf("receiver %q, want %s", got, want)
			}
		})
	}
}

// startAlertmanager starts Alertmanager with the copy of the shipped configuration in dir.
func startAlertmanager(t *testing.T, dir, address string) {
	t.Helper()
	start(t, nil, program(t, "alertmanager"),
		"--config.file="+dir+"/alertmanager/alertmanager.yml",
		"--storage.path="+t.TempDir(),
		"--web.listen-address="+address,
		"--cluster.listen-address=")
	eventually(t, "Alertmanager is ready", func() error { return get(t, "http://"+address+"/-/ready", nil) })
}

// get requests url and decodes the JSON response into v. If v is nil, it ignores the body.
func get(t *testing.T, url string, v any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client(t).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	if v == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// client returns a client that keeps no connections open, and so leaks no goroutine.
func client(t *testing.T) *http.Client {
	t.Helper()
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

func TestInhibition(t *testing.T) {
	address := freeAddress(t)
	dir := shippedForTest(t, addresses{exporter: "127.0.0.1:1", alertmanager: address, webhook: "http://127.0.0.1:1"})
	startAlertmanager(t, dir, address)

	type alert struct {
		Labels map[string]string `json:"labels"`
	}
	var firing []alert
	add := func(name, job, region, redisID string) {
		labels := map[string]string{
			"alertname": name, "severity": alerts(t)[name].Labels["severity"], "job": job, "region": region,
		}
		if redisID != "" {
			labels["redisId"] = redisID
		}
		firing = append(firing, alert{labels})
	}
	for name, regions := range map[string][]string{
		"CRSCredentialsRejected": {"a", "d"},
		"CRSAPIRetired":          {"e"},
		"CRSRegionUnwatched":     {"a", "b", "e"},
		"CRSRegionPollFailing":   {"a", "b", "c", "d", "e"},
	} {
		for _, region := range regions {
			add(name, "crs", region, "")
		}
	}
	// Each alert on a backup with each other one, and alone.
	for name, instances := range map[string][]string{
		"CRSBackupFailed":  {"all", "failed-missing", "failed-stuck", "failed"},
		"CRSBackupMissing": {"all", "failed-missing", "missing-stuck", "missing"},
		"CRSBackupStuck":   {"all", "failed-stuck", "missing-stuck", "stuck"},
		// Other tasks are other causes.
		"CRSTaskFailed":       {"all"},
		"CRSInstanceUnlisted": {"all"},
	} {
		for _, redisID := range instances {
			add(name, "crs", "f", redisID)
		}
	}
	// The same instance, in another job or region.
	add("CRSBackupMissing", "other", "f", "failed")
	add("CRSBackupStuck", "crs", "g", "missing")
	// A region with the same name in the job of another account.
	add("CRSRegionPollFailing", "other", "a", "")
	body, err := json.Marshal(firing)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/api/v2/alerts", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("post alerts: %s", resp.Status)
	}
	want := []string{
		"CRSBackupMissing crs f all", "CRSBackupMissing crs f failed-missing",
		"CRSBackupStuck crs f all", "CRSBackupStuck crs f failed-stuck", "CRSBackupStuck crs f missing-stuck",
		"CRSRegionPollFailing crs a", "CRSRegionPollFailing crs b", "CRSRegionPollFailing crs d", "CRSRegionPollFailing crs e",
		"CRSRegionUnwatched crs a", "CRSRegionUnwatched crs e",
	}
	eventually(t, "inhibited alerts", func() error {
		var known []struct {
			alert
			Status struct {
				State string `json:"state"`
			} `json:"status"`
		}
		if err := get(t, "http://"+address+"/api/v2/alerts", &known); err != nil {
			return err
		}
		var inhibited []string
		active := 0
		for _, a := range known {
			switch a.Status.State {
			case "suppressed":
				inhibited = append(inhibited, strings.TrimSpace(strings.Join([]string{
					a.Labels["alertname"], a.Labels["job"], a.Labels["region"], a.Labels["redisId"],
				}, " ")))
			case "active":
				active++
			}
		}
		slices.Sort(inhibited)
		if !slices.Equal(inhibited, want) || active+len(inhibited) != len(firing) {
			return fmt.Errorf("inhibited %q, want %q; %d of %d alerts are active", inhibited, want, active, len(firing))
		}
		return nil
	})
}
