package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../helm/crs-exporter"

// helm runs Helm, which cannot reach a cluster or the user's settings.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, "helm"), args...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("helm %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	return string(out), err
}

// install returns the objects that `helm install` creates with the chart's own file of
// values for tests, and more values.
func install(t *testing.T, file, values string) cluster {
	t.Helper()
	more := filepath.Join(t.TempDir(), "values.yaml")
	writeFile(t, more, values)
	out, err := helm(t, "template", "crs-exporter", chartDir, "--namespace="+namespace, "--values="+valuesFile(file), "--values="+more)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, regexp.MustCompile(`(?m)^---\n`).Split(out, -1)...)
}

func valuesFile(name string) string { return chartDir + "/ci/" + name + "-values.yaml" }

func TestHelmLint(t *testing.T) {
	for _, name := range []string{"minimal", "full"} {
		if _, err := helm(t, "lint", "--strict", chartDir, "--values="+valuesFile(name)); err != nil {
			t.Error(err)
		}
	}
}

// TestHelmLikeKubernetes checks that the chart creates the objects of deploy/kubernetes, so
// that the tests of those hold for the chart too. Labels and selectors differ.
func TestHelmLikeKubernetes(t *testing.T) {
	want := kustomize(t, "operator")
	got := install(t, "minimal", `
credentials: {existingSecret: crs-exporter-credentials}
serviceMonitor: {enabled: true}
prometheusRule: {enabled: true}
networkPolicy: {enabled: true}
`)
	checkSelectors(t, got)
	objects := func(c cluster) map[string]any {
		c.deployment.Spec.Selector, c.deployment.Spec.Template.Labels = nil, nil
		c.service.Spec.Selector = nil
		c.policy.Spec.PodSelector.MatchLabels = nil
		return map[string]any{
			"Deployment": c.deployment.Spec, "Service": c.service.Spec, "NetworkPolicy": c.policy.Spec,
			"ServiceAccount": []any{c.account.Name, c.account.Namespace, c.account.AutomountServiceAccountToken},
			"ServiceMonitor": c.monitor.Spec.Endpoints, "PrometheusRule": c.rule.Spec,
		}
	}
	kubernetes := objects(want)
	for kind, spec := range objects(got) {
		if g, w := toYAML(t, spec), toYAML(t, kubernetes[kind]); g != w {
			t.Errorf("%s: the chart has\n%s\ndeploy/kubernetes has\n%s", kind, g, w)
		}
	}
}

func toYAML(t *testing.T, v any) string {
	t.Helper()
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestHelmMinimal checks the objects without a Secret: the pod can use the role of the node.
func TestHelmMinimal(t *testing.T) {
	if got, want := install(t, "minimal", "").kinds, []string{"Deployment", "Service", "ServiceAccount"}; !slices.Equal(got, want) {
		t.Errorf("objects %v, want %v", got, want)
	}
	c := install(t, "minimal", "networkPolicy: {enabled: true}")
	checkEgress(t, c.policy, map[connection]bool{{"169.254.0.23", 80, core.ProtocolTCP}: true}) // the metadata service
	for _, v := range c.deployment.Spec.Template.Spec.Volumes {
		if v.Secret != nil {
			t.Errorf("volume %+v", v)
		}
	}
}

func TestHelmFull(t *testing.T) {
	c := install(t, "full", "")
	checkSelectors(t, c)
	pod, container := c.deployment.Spec.Template, c.container()
	checkRestricted(t, pod)

	t.Run("rules", func(t *testing.T) {
		const load = `load 1m
  crs:region_seen_timestamp_seconds 100000
  crs_backup_last_good_timestamp_seconds{instance="a", redisId="crs-weekly"} 100
  crs_backup_deadline_timestamp_seconds{instance="a", redisId="crs-weekly"} 1
  crs_backup_deadline_timestamp_seconds{instance="a", redisId="crs-never"} 1
  crs_backup_deadline_timestamp_seconds{instance="a", redisId="crs-daily"} 1
  crs_task_finished_before_timestamp_seconds{instance="a", redisId="crs-daily", taskName="importRdb"} 100
  crs_task_finished_before_timestamp_seconds{instance="a", redisId="crs-daily", taskName="resizeInstance"} 100
`
		store := promqltest.LoadedStorage(t, load)
		got := map[string]float64{}
		for _, r := range parseRules(t, c.rule).Groups[0].Rules {
			if strings.HasSuffix(r.Record, "_deadline_timestamp_seconds") {
				for _, s := range evaluate(t, store, r.Expr, time.Unix(60, 0)) {
					got[s.Metric.String()] = s.F
				}
			}
		}
		want := map[string]float64{
			`{redisId="crs-weekly"}`: 100 + 8*86400, `{redisId="crs-never"}`: math.Inf(1), `{redisId="crs-daily"}`: 1,
			`{redisId="crs-daily", taskName="importRdb"}`: 100 + 12*3600, `{redisId="crs-daily", taskName="resizeInstance"}`: 100 + 3*3600,
		}
		if !maps.Equal(got, want) {
			t.Errorf("deadlines %v, want %v", got, want)
		}
	})
	t.Run("dashboard", func(t *testing.T) {
		if got := c.configMap.Data; !maps.Equal(got, map[string]string{filepath.Base(dashboardFile): readFile(t, dashboardFile)}) {
			t.Errorf("the dashboard differs from %s", dashboardFile)
		}
		if c.configMap.Namespace != "grafana" || c.configMap.Labels["grafana_dashboard"] != "1" {
			t.Errorf("namespace %s, labels %v", c.configMap.Namespace, c.configMap.Labels)
		}
	})
	t.Run("labels", func(t *testing.T) {
		want := map[string]string{"release": "kube-prometheus-stack", "example.com/team": "databases"}
		if !contains(c.monitor.Labels, want) || !contains(c.rule.Labels, want) {
			t.Errorf("labels %v and %v, want %v", c.monitor.Labels, c.rule.Labels, want)
		}
		for label, value := range pod.Labels {
			if strings.Contains(value, c.deployment.Labels["app.kubernetes.io/version"]) {
				t.Errorf("%s=%s restarts the pod at each new version of the chart", label, value)
			}
		}
	})
	t.Run("volumes", func(t *testing.T) {
		if _, v := c.mounted(t, flagValue(t, container.Args, "state.file")); v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName != c.claim.Name {
			t.Errorf("volume %+v, the claim is %s", v, c.claim.Name)
		}
		if _, v := c.mounted(t, flagValue(t, container.Args, "web.config.file")); v.Secret == nil || v.Secret.SecretName != "crs-exporter-web" {
			t.Errorf("volume %+v", v)
		}
	})
	t.Run("web configuration", func(t *testing.T) {
		if e := c.monitor.Spec.Endpoints[0]; e.Path != "/crs/metrics" || e.Scheme == nil || e.Scheme.String() != "https" || e.TLSConfig == nil || e.BasicAuth == nil {
			t.Errorf("endpoint %+v", e)
		}
	})
	t.Run("credentials", func(t *testing.T) {
		got := map[string]string{}
		for _, e := range container.Env {
			if e.ValueFrom != nil {
				got[e.Name] = e.ValueFrom.SecretKeyRef.Name + " " + e.ValueFrom.SecretKeyRef.Key
			}
		}
		want := map[string]string{"TENCENTCLOUD_SECRET_ID": "crs-key id", "TENCENTCLOUD_SECRET_KEY": "crs-key key", "TENCENTCLOUD_TOKEN": "crs-key token"}
		if !maps.Equal(got, want) || slices.ContainsFunc(container.Args, func(a string) bool { return strings.HasPrefix(a, "--crs.credentials-file") }) {
			t.Errorf("environment %v, want %v, and no credentials file in %q", got, want, container.Args)
		}
	})
	t.Run("network policy", func(t *testing.T) {
		checkEgress(t, c.policy, map[connection]bool{
			{"10.1.2.3", 3128, core.ProtocolTCP}:   true,
			{"169.254.0.23", 80, core.ProtocolTCP}: false, // the metadata service, which a Secret makes unnecessary
		})
	})
}

// TestHelmNames checks that names and labels are short enough for Kubernetes.
func TestHelmNames(t *testing.T) {
	long := strings.Repeat("a", 70)
	for _, values := range []string{"nameOverride: " + long, "fullnameOverride: " + long, "nameOverride: crs\nglobal: {parent: chart}"} {
		checkSelectors(t, install(t, "full", values))
	}
}

// TestHelmArguments starts the exporter with the arguments of the container, on a simulated
// API, and runs its probes.
func TestHelmArguments(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ file, values string }{
		"prefix":  {"minimal", "web: {externalUrl: 'http://x/', routePrefix: /crs/exporter}\nserviceMonitor: {enabled: true}\n"},
		"removed": {"minimal", "web: {externalUrl: 'http://x/crs', routePrefix: /}\nserviceMonitor: {enabled: true}\n"},
		"full":    {"full", ""}, // with a password for every request, which a probe does not have
	} {
		t.Run(name, func(t *testing.T) {
			c := install(t, tc.file, tc.values)
			dir, address := t.TempDir(), freeAddress(t)
			writeFile(t, dir+"/etc/crs_exporter_web/web-config.yml", "basic_auth_users: {x: $2a$04$"+strings.Repeat("a", 53)+"}\n")
			writeFile(t, dir+"/var/lib/crs_exporter/.keep", "")
			inDir := strings.NewReplacer("=/etc/", "="+dir+"/etc/", "=/var/", "="+dir+"/var/")
			args := []string{"--demo", "--web.listen-address=" + address}
			for _, a := range c.container().Args {
				args = append(args, inDir.Replace(a))
			}
			start(t, []string{"HOME=" + dir}, exporter(t), args...)
			eventually(t, "the probe succeeds", func() error {
				live, ready := c.container().LivenessProbe, c.container().ReadinessProbe
				if live.Exec != nil {
					args := append(live.Exec.Command[1:], "--web.listen-address="+address)
					return exec.CommandContext(t.Context(), exporter(t), args...).Run()
				}
				var errs []error
				for _, path := range []string{live.HTTPGet.Path, ready.HTTPGet.Path, c.monitor.Spec.Endpoints[0].Path} {
					errs = append(errs, get(t, "http://"+address+path, nil))
				}
				return errors.Join(errs...)
			})
		})
	}
}

// TestHelmNotes checks that the notes show the arguments of the container.
func TestHelmNotes(t *testing.T) {
	chart := filepath.Join(t.TempDir(), "chart")
	if err := os.CopyFS(chart, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	// Only `helm install` prints notes, and it needs a cluster.
	writeFile(t, chart+"/templates/zz.yaml", "notes: {{ include (print $.Template.BasePath \"/NOTES.txt\") . | quote }}\n")
	out, err := helm(t, "template", "crs-exporter", chart, "--values="+valuesFile("full"), "--show-only=templates/zz.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Notes string }
	if err := yaml.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	args := install(t, "full", "").container().Args
	if want := "/bin/crs_exporter --check '" + strings.Join(args, "' '") + "'\n"; !strings.Contains(got.Notes+"\n", want) {
		t.Errorf("the notes are\n%s\nwant\n%s", got.Notes, want)
	}
}

type valuesSchema struct {
	Type                 string
	AdditionalProperties any
	Properties           map[string]valuesSchema
}

// TestHelmSchema checks which objects in the values may have any key, because Kubernetes or
// the operator defines them. Helm refuses an unknown key in all others.
func TestHelmSchema(t *testing.T) {
	var schema valuesSchema
	if err := json.Unmarshal([]byte(readFile(t, chartDir+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var open []string
	var visit func(path string, s valuesSchema)
	visit = func(path string, s valuesSchema) {
		if s.Type == "object" && s.AdditionalProperties != false {
			open = append(open, path)
		}
		for key, property := range s.Properties {
			visit(path+"/"+key, property)
		}
	}
	visit("", schema)
	slices.Sort(open)
	want := []string{
		"/affinity", "/global", "/podSecurityContext", "/resources/limits", "/resources/requests", "/securityContext",
		"/serviceMonitor/basicAuth", "/serviceMonitor/tlsConfig",
	}
	if !slices.Equal(open, want) {
		t.Errorf("values that may have any key: %v, want %v", open, want)
	}
}

func TestHelmRefuses(t *testing.T) {
	for values, want := range map[string]string{
		"web: {typo: true}":                                       "at '/web': additional properties 'typo' not allowed",
		"regions: []":                                             "at '/regions': minItems: got 0, want 1",
		"regions: [ap_guangzhou]":                                 "at '/regions/0': 'ap_guangzhou' does not match pattern",
		"image: {repository: ''}":                                 "at '/image/repository': minLength: got 0, want 1",
		"api: 3.0":                                                "at '/api': value must be one of 'auto', '2.0', '3.0', 'tce'",
		"extraArgs: [crs.lookback=36h]":                           "at '/extraArgs/0': 'crs.lookback=36h' does not match pattern",
		"extraArgs: [--crs.region, gz]":                           "at '/extraArgs/1': 'gz' does not match pattern",
		"extraArgs: [--web.listen-address=:80]":                   "extraArgs must not have --web.listen-address: the chart has a value for it, or needs its default",
		"extraArgs: ['--web.external-url=http://x']":              "extraArgs must not have --web.external-url:",
		"extraArgs: [--crs.region=gz]":                            "extraArgs must not have --crs.region:",
		"extraArgs: [--state.file=/state]":                        "extraArgs must not have --state.file:",
		"web: {externalUrl: 'https://user:secret@x/crs'}":         "at '/web/externalUrl': 'https://user:secret@x/crs' does not match pattern",
		"web: {routePrefix: crs}":                                 "at '/web/routePrefix': 'crs' does not match pattern",
		`prometheusRule: {backupDeadlineExceptions: ["a\nb"]}`:    "at '/prometheusRule/backupDeadlineExceptions/0': 'a\\nb' does not match pattern",
		"networkPolicy: {ingressFrom: []}":                        "at '/networkPolicy/ingressFrom': minItems: got 0, want 1",
		"credentials: {existingSecret: x, secretIdKey: id}":       "credentials.secretIdKey needs credentials.secretKeyKey",
		"credentials: {secretIdKey: id, secretKeyKey: key}":       "credentials.secretIdKey needs credentials.existingSecret",
		"credentials: {existingSecret: x, secretKeyKey: key}":     "credentials.secretKeyKey and credentials.tokenKey need credentials.secretIdKey",
		"webConfig: {existingSecret: x, key: ../web-config.yaml}": "at '/webConfig/key': '../web-config.yaml' does not match pattern",
	} {
		file := filepath.Join(t.TempDir(), "values.yaml")
		writeFile(t, file, values)
		_, err := helm(t, "template", "crs-exporter", chartDir, "--values="+valuesFile("minimal"), "--values="+file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", values, err, want)
		}
	}
}

// TestHelmVersion checks that the chart installs the version of deploy/kubernetes by default.
func TestHelmVersion(t *testing.T) {
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal([]byte(readFile(t, chartDir+"/Chart.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	container := kustomize(t, "base").container()
	_, tag, _ := strings.Cut(container.Image, ":")
	if chart.AppVersion != tag || chart.Version != tag {
		t.Errorf("the chart has version %s for %s, deploy/kubernetes has %s", chart.Version, chart.AppVersion, tag)
	}
}
