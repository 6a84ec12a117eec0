package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

const alertmanagerFile = "../alertmanager/alertmanager.yml"

// startAlertmanager starts Alertmanager with the copy of the shipped configuration in dir.
func startAlertmanager(t *testing.T, dir, address string) {
	t.Helper()
	start(t, nil, program(t, "alertmanager"),
		"--config.file="+dir+"/alertmanager/alertmanager.yml",
		"--storage.path="+t.TempDir(),
		"--web.listen-address="+address,
		"--cluster.listen-address=")
	eventually(t, "Alertmanager is ready", func() error { return get("http://"+address+"/-/ready", nil) })
}

// TestInhibition checks which alerts mute which others.
func TestInhibition(t *testing.T) {
	address := freeAddress(t)
	startAlertmanager(t, shippedForTest(t, "127.0.0.1:1", address, "http://127.0.0.1:1"), address)

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
	shipped := severities(t)
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
		firing = append(firing, alert{labels})
	}
	post(t, "http://"+address+"/api/v2/alerts", firing)
	eventually(t, "inhibited alerts", func() error {
		var known []struct {
			alert
			Status struct{ State string }
		}
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
