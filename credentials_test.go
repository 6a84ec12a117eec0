package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCredentialsMetrics(t *testing.T) {
	at := time.Unix(1_700_000_000, 500_000_000)
	for name, test := range map[string]struct {
		status credentials.Status
		want   map[string]string
	}{
		"not read yet": {credentials.Status{Source: "cvm-role"}, nil},
		"file":         {credentials.Status{LastLoad: at}, map[string]string{"last_load": "1.7000000005e+09"}},
		"role":         {credentials.Status{LastLoad: at, Expiry: at.Add(time.Hour)}, map[string]string{"last_load": "1.7000000005e+09", "expiry": "1.7000036005e+09"}},
	} {
		t.Run(name, func(t *testing.T) {
			var want strings.Builder
			for _, m := range credentialsMetrics() {
				if value, ok := test.want[strings.TrimSuffix(strings.TrimPrefix(m.Name, "crs_credentials_"), "_timestamp_seconds")]; ok {
					want.WriteString("# HELP " + m.Name + " " + m.Help + "\n# TYPE " + m.Name + " " + m.Type + "\n" + m.Name + " " + value + "\n")
				}
			}
			collector := newCredentialsCollector(func() credentials.Status { return test.status })
			if err := testutil.CollectAndCompare(collector, strings.NewReader(want.String())); err != nil {
				t.Error(err)
			}
			if problems, err := testutil.CollectAndLint(collector); err != nil || len(problems) > 0 {
				t.Errorf("%v, %v", problems, err)
			}
		})
	}
}

// TestKeyIsRotated revokes the key in use, and writes another into the file.
func TestKeyIsRotated(t *testing.T) {
	server, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	t.Setenv(credentials.EnvSecretID, "")
	t.Setenv(credentials.EnvSecretKey, "")
	path := filepath.Join(t.TempDir(), "credentials")
	put := func(id, key string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, credentialsFile(id, key), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	put(crsapitest.SecretID, crsapitest.SecretKey, time.Now().Add(-time.Hour))
	exporter := start(t, append(args, "--crs.credentials-file="+path)...)
	const up = `crs_up{region="ap-guangzhou"}`
	want(t, exporter.scrape(), map[string]string{up: "1"})

	server.RevokeAccount(crsapitest.SecretID)
	want(t, exporter.scrape(), map[string]string{up: "0"})
	want(t, exporter.scrape(), map[string]string{up: "0"})

	server.SetAccount(crsapitest.Account{SecretID: "AKIDnext", SecretKey: "next"})
	put("AKIDnext", "next", time.Now().Add(-time.Minute))
	// The file is looked at once a second.
	for deadline := time.Now().Add(20 * time.Second); exporter.scrape()[up] != "1"; {
		if time.Now().After(deadline) {
			t.Fatal("the new key is never used")
		}
	}
}
