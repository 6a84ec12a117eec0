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

// TestInhibition checks which alerts mute which others.
func TestInhibition(t *testing.T) {
	address := freeAddress(t)
	dir := shippedForTest(t, addresses{exporter: "127.0.0.1:1", alertmanager: address, webhook: "http://127.0.0.1:1"})
	startAlertmanager(t, dir, address)

	// The alerts that fire, each with its labels, and whether another one mutes it.
	want := map[string]bool{
		"CRSRequestsRefused region=refused":   false,
		"CRSRegionUnwatched region=refused":   true,
		"CRSRegionPollFailing region=refused": true,

		"CRSRegionUnwatched region=unwatched":   false,
		"CRSRegionPollFailing region=unwatched": true,
		"CRSRegionPollFailing region=failing":   false,
		"CRSThrottled region=failing":           false,
		"CRSClock region=failing":               false,

		"CRSBackupFailed region=r redisId=failed":   false,
		"CRSBackupMissing region=r redisId=failed":  true,
		"CRSBackupStuck region=r redisId=failed":    true,
		"CRSTaskFailed region=r redisId=failed":     false,
		"CRSTaskStuck region=r redisId=failed":      false,
		"CRSBackupMissing region=r redisId=missing": false,
		"CRSBackupStuck region=r redisId=missing":   true,
		"CRSBackupStuck region=r redisId=stuck":     false,
		"CRSBackupMissing region=s redisId=failed":  false,
		"CRSBackupStuck region=s redisId=missing":   false,
	}
	// No target label is crossed.
	for _, label := range []string{"job", "namespace", "cluster", "account"} {
		want["CRSRequestsRefused region="+label+" "+label+"=a"] = false
		want["CRSRegionUnwatched region="+label+" "+label+"=b"] = false
		want["CRSRegionPollFailing region="+label+" "+label+"=c"] = false
		want["CRSBackupFailed region="+label+" redisId=i "+label+"=a"] = false
		want["CRSBackupMissing region="+label+" redisId=i "+label+"=b"] = false
		want["CRSBackupStuck region="+label+" redisId=i "+label+"=c"] = false
	}
	type alert struct {
		Labels map[string]string `json:"labels"`
	}
	var firing []alert
	for text := range want {
		name, rest, _ := strings.Cut(text, " ")
		if _, shipped := alerts(t)[name]; !shipped {
			t.Errorf("no rule has the alert %s", name)
		}
		labels := map[string]string{"alertname": name, "text": text}
		for pair := range strings.FieldsSeq(rest) {
			label, value, _ := strings.Cut(pair, "=")
			labels[label] = value
		}
		firing = append(firing, alert{labels})
	}
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
		var wrong []string
		for _, a := range known {
			state := "active"
			if want[a.Labels["text"]] {
				state = "suppressed"
			}
			if a.Status.State != state {
				wrong = append(wrong, a.Labels["text"]+" is "+a.Status.State)
			}
		}
		if len(wrong) > 0 || len(known) != len(want) {
			slices.Sort(wrong)
			return fmt.Errorf("%d of %d alerts: %s", len(known), len(want), strings.Join(wrong, "\n"))
		}
		return nil
	})
}
