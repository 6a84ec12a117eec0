package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const alertmanagerFile = "../alertmanager/alertmanager.yml"

func TestAmtool(t *testing.T) {
	amtool := program(t, "amtool")
	run(t, amtool, "check-config", alertmanagerFile)
	for severity, want := range map[string]string{"critical": "pager", "warning": "tickets"} {
		got := run(t, amtool, "config", "routes", "test", "--config.file="+alertmanagerFile, "severity="+severity)
		if strings.TrimSpace(got) != want {
			t.Errorf("%s goes to %q, want %s", severity, got, want)
		}
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
	shipped := alerts(t)
	var firing []alert
	for text := range want {
		name, rest, _ := strings.Cut(text, " ")
		if _, ok := shipped[name]; !ok {
			t.Errorf("no rule has the alert %s", name)
		}
		labels := map[string]string{"alertname": name, "text": text}
		for pair := range strings.FieldsSeq(rest) {
			label, value, _ := strings.Cut(pair, "=")
			labels[label] = value
		}
		firing = append(firing, alert{labels})
	}
	if err := request(t, http.MethodPost, "http://"+address+"/api/v2/alerts", firing, nil); err != nil {
		t.Fatal(err)
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
