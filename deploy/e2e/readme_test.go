package e2e

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// The tests in this file hold what collector/METRICS.md and deploy/README.md say of other
// programs.

// TestCreatedSamples checks which settings of Prometheus keep the created samples of
// counters out of its database.
func TestCreatedSamples(t *testing.T) {
	t.Parallel()
	exporter := newExporterUnderTest(t)
	exporter.api.SetTasks(region, []crsapi.Task{task("backupInstance", crsapi.StatusSucceeded, time.Now())})
	exporter.start(t)
	var jobs strings.Builder
	for job, setting := range map[string]string{
		"default": "",
		"text":    "scrape_protocols: [PrometheusText0.0.4], ",
		"proto":   "scrape_protocols: [PrometheusProto], ",
	} {
		fmt.Fprintf(&jobs, "- {job_name: %s, %sstatic_configs: [{targets: ['%s']}]}\n", job, setting, exporter.address)
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	writeFile(t, file, "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"+jobs.String())
	created := map[string]float64{}
	for feature, prefix := range map[string]string{"extra-scrape-metrics": "", "created-timestamp-zero-ingestion": "start timestamps, "} {
		prometheus := freeAddress(t)
		start(t, nil, program(t, "prometheus"), "--config.file="+file, "--storage.tsdb.path="+t.TempDir(),
			"--web.listen-address="+prometheus, "--enable-feature="+feature)
		for _, job := range []string{"default", "text", "proto"} {
			until(t, prometheus, `count(crs_task_transitions_total{job="`+job+`"}) == 5`)
			n, err := query(t, prometheus, `count(crs_task_transitions_created{job="`+job+`"}) or vector(0)`)
			if err != nil {
				t.Fatal(err)
			}
			created[prefix+job] = n
		}
	}
	want := map[string]float64{
		"default": 5, "text": 0, "proto": 0,
		"start timestamps, default": 0, "start timestamps, text": 0, "start timestamps, proto": 0,
	}
	if !maps.Equal(created, want) {
		t.Errorf("created samples of 5 counters: %v, want %v", created, want)
	}
}

// TestOldTLS checks which settings of Go let the exporter connect to old servers.
func TestOldTLS(t *testing.T) {
	t.Parallel()
	exporter := buildExporter(t)
	api := crsapitest.New()
	api.SetTasks(region, crsapitest.DocumentExample())
	rsa := tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA}}
	tripleDES := tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}
	tls11 := tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	for name, tc := range map[string]struct {
		server  *tls.Config
		godebug string
		works   bool
	}{
		"current":                     {&tls.Config{}, "", true},
		"RSA key exchange":            {&rsa, "", false},
		"RSA key exchange, tlsrsakex": {&rsa, "tlsrsakex=1", true},
		"3DES, tlsrsakex":             {&tripleDES, "tlsrsakex=1", false},
		"3DES, both":                  {&tripleDES, "tlsrsakex=1,tls3des=1", true},
		"TLS 1.1, all settings":       {&tls11, "tlsrsakex=1,tls3des=1,tls10server=1", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(api)
			server.TLS = tc.server.Clone()
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // the exporter reports failed handshakes
			server.StartTLS()
			t.Cleanup(server.Close)
			ca := filepath.Join(t.TempDir(), "ca.pem")
			writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
			cmd := exec.CommandContext(t.Context(), exporter, "--check", "--crs.api=2.0", "--crs.region="+region, "--crs.endpoint="+server.URL+crsapitest.Path)
			cmd.Env = []string{
				"HOME=" + t.TempDir(), "GODEBUG=" + tc.godebug, "SSL_CERT_FILE=" + ca,
				credentials.EnvSecretID + "=" + crsapitest.SecretID, credentials.EnvSecretKey + "=" + crsapitest.SecretKey,
			}
			out, err := cmd.CombinedOutput()
			if works := err == nil; works != tc.works {
				t.Errorf("works: %v, want %v\n%s", works, tc.works, out)
			}
			if !tc.works && !strings.Contains(string(out), "tls: ") {
				t.Errorf("not because of TLS:\n%s", out)
			}
		})
	}
}
