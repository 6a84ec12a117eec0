package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/apis/core"
	sigsyaml "sigs.k8s.io/yaml"
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

// renderChart returns the objects that `helm install` creates with values, in YAML.
func renderChart(t *testing.T, values string) []object {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	writeFile(t, file, values)
	out, err := helm(t, "template", "crs-exporter", chartDir, "--namespace=crs-exporter", "--values="+file)
	if err != nil {
		t.Fatal(err)
	}
	var objects []object
	documents := k8syaml.NewYAMLReader(bufio.NewReader(strings.NewReader(out)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := sigsyaml.Unmarshal(document, &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != "" {
			objects = append(objects, object{o.Kind, o.Metadata.Name, document})
		}
	}
}

// chartValues returns a file of values that the chart has for tests.
func chartValues(t *testing.T, name string) string {
	t.Helper()
	return readFile(t, filepath.Join(chartDir, "ci", name+"-values.yaml"))
}

func TestHelmLint(t *testing.T) {
	for _, name := range []string{"minimal", "full"} {
		if _, err := helm(t, "lint", "--strict", chartDir, "--values="+filepath.Join(chartDir, "ci", name+"-values.yaml")); err != nil {
			t.Error(err)
		}
	}
}

// TestHelmLikeKubernetes checks that the chart creates the objects of deploy/kubernetes, so that the tests of those
// hold for the chart too. Labels and selectors differ.
func TestHelmLikeKubernetes(t *testing.T) {
	want := loadCluster(t, "operator")
	got := admitAll(t, renderChart(t, chartValues(t, "minimal")+`
credentials: {existingSecret: crs-exporter-credentials}
serviceMonitor: {enabled: true}
prometheusRule: {enabled: true}
networkPolicy: {enabled: true}
`))
	checkSelectors(t, got)
	for _, c := range []*cluster{&want, &got} {
		c.deployment.Spec.Selector, c.deployment.Spec.Template.Labels = nil, nil
		c.service.Spec.Selector = nil
		c.policy.Spec.PodSelector.MatchLabels = nil
	}
	for name, specs := range map[string][2]any{
		"Deployment":      {got.deployment.Spec, want.deployment.Spec},
		"Service":         {got.service.Spec, want.service.Spec},
		"ServiceAccount":  {got.account.AutomountServiceAccountToken, want.account.AutomountServiceAccountToken},
		"NetworkPolicy":   {got.policy.Spec, want.policy.Spec},
		"ServiceMonitor":  {got.monitor.Spec.Endpoints, want.monitor.Spec.Endpoints},
		"PrometheusRule":  {got.rule.Spec, want.rule.Spec},
		"namespace":       {got.deployment.Namespace, want.deployment.Namespace},
		"service account": {got.account.Name, want.account.Name},
	} {
		if !reflect.DeepEqual(specs[0], specs[1]) {
			g, _ := sigsyaml.Marshal(specs[0])
			w, _ := sigsyaml.Marshal(specs[1])
			t.Errorf("%s: the chart has\n%s\ndeploy/kubernetes has\n%s", name, g, w)
		}
	}
}

// checkSelectors checks that the selectors of objects select the pod and the service.
func checkSelectors(t *testing.T, c cluster) {
	t.Helper()
	pod := c.deployment.Spec.Template.Labels
	selectors := map[string]map[string]string{
		"Deployment": c.deployment.Spec.Selector.MatchLabels, "Service": c.service.Spec.Selector, "NetworkPolicy": c.policy.Spec.PodSelector.MatchLabels,
	}
	for name, selector := range selectors {
		if !contains(pod, selector) || selector["app.kubernetes.io/instance"] == "" {
			t.Errorf("%s selects %v, the pod has %v", name, selector, pod)
		}
	}
	if selector := c.monitor.Spec.Selector.MatchLabels; !contains(c.service.Labels, selector) {
		t.Errorf("the ServiceMonitor selects %v, the service has %v", selector, c.service.Labels)
	}
}

func TestHelmMinimal(t *testing.T) {
	var kinds []string
	for _, o := range renderChart(t, chartValues(t, "minimal")) {
		admit(t, o)
		kinds = append(kinds, o.kind)
	}
	slices.Sort(kinds)
	if want := []string{"Deployment", "Service", "ServiceAccount"}; !slices.Equal(kinds, want) {
		t.Errorf("objects %v, want %v", kinds, want)
	}
}

func TestHelmFull(t *testing.T) {
	c := admitAll(t, renderChart(t, chartValues(t, "full")))
	checkSelectors(t, c)
	pod := c.deployment.Spec.Template
	container := pod.Spec.Containers[0]

	t.Run("restricted", func(t *testing.T) { checkRestricted(t, pod) })
	t.Run("rules", func(t *testing.T) {
		const load = `load 1m
  crs_backup_last_good_timestamp_seconds{instance="a", redisId="crs-weekly"} 100
  crs_backup_deadline_timestamp_seconds{instance="a", redisId="crs-weekly"} 1
  crs_backup_deadline_timestamp_seconds{instance="a", redisId="crs-never"} 1
  crs_backup_deadline_timestamp_seconds{instance="a", redisId="crs-daily"} 1
  crs_task_finished_before_timestamp_seconds{instance="a", redisId="crs-daily", taskName="importRdb"} 100
  crs_task_finished_before_timestamp_seconds{instance="a", redisId="crs-daily", taskName="resizeInstance"} 100
`
		store := promqltest.LoadedStorage(t, load)
		got := map[string]float64{}
		for _, r := range checkRules(t, c.rule).Groups[0].Rules {
			if strings.HasSuffix(r.Record, "_deadline_timestamp_seconds") {
				for _, s := range ask(t, store, r.Expr, time.Unix(60, 0)) {
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
		for name, labels := range map[string]map[string]string{"ServiceMonitor": c.monitor.Labels, "PrometheusRule": c.rule.Labels} {
			if !contains(labels, want) {
				t.Errorf("%s has %v, want %v", name, labels, want)
			}
		}
		for label, value := range pod.Labels {
			if strings.Contains(value, c.deployment.Labels["app.kubernetes.io/version"]) {
				t.Errorf("%s=%s restarts the pod at each new version of the chart", label, value)
			}
		}
	})
	t.Run("persistence", func(t *testing.T) {
		_, v := mounted(t, c.deployment, flagValue(t, container.Args, "state.file"))
		if v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName != c.claim.Name {
			t.Errorf("volume %+v, the claim is %s", v, c.claim.Name)
		}
	})
	t.Run("web configuration", func(t *testing.T) {
		_, v := mounted(t, c.deployment, flagValue(t, container.Args, "web.config.file"))
		if v.Secret == nil || v.Secret.SecretName != "crs-exporter-web" {
			t.Errorf("volume %+v", v)
		}
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
		if !maps.Equal(got, want) {
			t.Errorf("environment %v, want %v", got, want)
		}
	})
	t.Run("network policy", func(t *testing.T) {
		for to, want := range map[connection]bool{
			{"10.1.2.3", 3128, core.ProtocolTCP}:   true,
			{"169.254.0.23", 80, core.ProtocolTCP}: false, // the metadata service, which a Secret makes unnecessary
		} {
			if allowsEgress(t, c.policy, to) != want {
				t.Errorf("allows %v: %v, want %v", to, !want, want)
			}
		}
	})
}

// TestHelmNames checks that names and labels are short enough for Kubernetes.
func TestHelmNames(t *testing.T) {
	long := strings.Repeat("a", 70)
	for _, values := range []string{"nameOverride: " + long, "fullnameOverride: " + long, "nameOverride: crs\nglobal: {parent: chart}"} {
		c := admitAll(t, renderChart(t, chartValues(t, "full")+values+"\n"))
		checkSelectors(t, c)
	}
}

// TestHelmRole checks that a pod without a Secret can use the role of the node.
func TestHelmRole(t *testing.T) {
	c := admitAll(t, renderChart(t, chartValues(t, "minimal")+"networkPolicy: {enabled: true}\n"))
	if !allowsEgress(t, c.policy, connection{"169.254.0.23", 80, core.ProtocolTCP}) {
		t.Error("does not allow the metadata service")
	}
	for _, v := range c.deployment.Spec.Template.Spec.Volumes {
		if v.Secret != nil {
			t.Errorf("volume %+v", v)
		}
	}
}

// TestHelmArguments starts the exporter with the arguments of the container, on a simulated API, and runs its probe.
func TestHelmArguments(t *testing.T) {
	t.Parallel()
	exporter := buildExporter(t)
	for name, values := range map[string]string{
		"minimal": chartValues(t, "minimal"),
		"file":    chartValues(t, "minimal") + "credentials: {existingSecret: x}\n",
		"prefix":  chartValues(t, "minimal") + "web: {externalUrl: 'http://x/', routePrefix: /crs/exporter}\nserviceMonitor: {enabled: true}\n",
		"removed": chartValues(t, "minimal") + "web: {externalUrl: 'http://x/crs', routePrefix: /}\nserviceMonitor: {enabled: true}\n",
		"full":    chartValues(t, "full"),
	} {
		t.Run(name, func(t *testing.T) {
			c := admitAll(t, renderChart(t, values))
			container := c.deployment.Spec.Template.Spec.Containers[0]
			dir, address := t.TempDir(), freeAddress(t)
			// A password for every request, which a probe does not have.
			writeFile(t, dir+"/etc/crs_exporter_web/web-config.yml", "basic_auth_users: {x: $2a$04$"+strings.Repeat("a", 53)+"}\n")
			writeFile(t, dir+"/var/lib/crs_exporter/.keep", "")
			inDir := strings.NewReplacer("=/etc/", "="+dir+"/etc/", "=/var/", "="+dir+"/var/")
			args := []string{"--demo", "--web.listen-address=" + address}
			for _, a := range container.Args {
				args = append(args, inDir.Replace(a))
			}
			start(t, []string{"HOME=" + dir}, exporter, args...)
			eventually(t, "the probe succeeds", func() error {
				if http := container.LivenessProbe.HTTPGet; http != nil {
					paths := []string{http.Path, container.ReadinessProbe.HTTPGet.Path}
					for _, e := range c.monitor.Spec.Endpoints {
						paths = append(paths, e.Path)
					}
					var errs []error
					for _, path := range paths {
						errs = append(errs, get(t, "http://"+address+path, nil))
					}
					return errors.Join(errs...)
				}
				probe := container.LivenessProbe.Exec.Command
				return exec.CommandContext(t.Context(), exporter, append(probe[1:], "--web.listen-address="+address)...).Run()
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
	writeFile(t, chart+"/templates/zz.yaml", "kind: Notes\nnotes: {{ include (print $.Template.BasePath \"/NOTES.txt\") . | quote }}\n")
	out, err := helm(t, "template", "crs-exporter", chart, "--values="+chart+"/ci/full-values.yaml", "--show-only=templates/zz.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Notes string }
	if err := sigsyaml.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	c := admitAll(t, renderChart(t, chartValues(t, "full")))
	args := c.deployment.Spec.Template.Spec.Containers[0].Args
	if want := "/bin/crs_exporter --check '" + strings.Join(args, "' '") + "'\n"; !strings.Contains(got.Notes+"\n", want) {
		t.Errorf("the notes are\n%s\nwant\n%s", got.Notes, want)
	}
}

// openValues are the values that may have any key, because Kubernetes or the operator defines them.
var openValues = []string{
	"/affinity", "/global", "/podSecurityContext", "/resources/limits", "/resources/requests", "/securityContext",
	"/serviceMonitor/basicAuth", "/serviceMonitor/tlsConfig",
}

type valuesSchema struct {
	Type                 string
	Ref                  string `json:"$ref"`
	AdditionalProperties any
	Properties           map[string]valuesSchema
}

// TestHelmTypos checks that the chart refuses a key that it does not know, wherever it is, and names it.
func TestHelmTypos(t *testing.T) {
	var schema valuesSchema
	if err := json.Unmarshal([]byte(readFile(t, chartDir+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	var open, closed []string
	// typos returns an object with a key too many in each object that has a fixed set of keys.
	var typos func(path string, s valuesSchema) map[string]any
	typos = func(path string, s valuesSchema) map[string]any {
		if s.AdditionalProperties != false {
			open = append(open, path)
			return map[string]any{}
		}
		closed = append(closed, path)
		values := map[string]any{"typo": true}
		for key, property := range s.Properties {
			if property.Type == "object" {
				values[key] = typos(path+"/"+key, property)
			}
		}
		return values
	}
	b, err := json.Marshal(typos("", schema))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(open)
	if !slices.Equal(open, openValues) || len(closed) < 10 {
		t.Errorf("open values %v, want %v; closed values %v", open, openValues, closed)
	}
	message := refusal(t, string(b))
	for _, path := range closed {
		if want := "at '" + path + "': additional properties 'typo' not allowed"; !strings.Contains(message, want) {
			t.Errorf("no message %q in\n%s", want, message)
		}
	}
}

// refusal returns the error of the chart for values that it must refuse.
func refusal(t *testing.T, values string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	writeFile(t, file, values)
	_, err := helm(t, "template", "crs-exporter", chartDir, "--values="+filepath.Join(chartDir, "ci", "minimal-values.yaml"), "--values="+file)
	if err == nil {
		t.Fatalf("accepts %s", values)
	}
	return err.Error()
}

func TestHelmRefuses(t *testing.T) {
	for values, want := range map[string]string{
		"regions: []":                                             "at '/regions': minItems: got 0, want 1",
		"regions: ap-guangzhou":                                   "at '/regions': got string, want array",
		"regions: [ap_guangzhou]":                                 "at '/regions/0': 'ap_guangzhou' does not match pattern",
		"image: {repository: ''}":                                 "at '/image/repository': minLength: got 0, want 1",
		"api: 3.0":                                                "at '/api': value must be one of 'auto', '2.0', '3.0', 'tce'",
		"extraArgs: [crs.lookback=36h]":                           "at '/extraArgs/0': 'crs.lookback=36h' does not match pattern",
		"extraArgs: [--web.listen-address=:80]":                   "extraArgs must not have --web.listen-address: the chart has a value for it, or needs its default",
		"extraArgs: ['--web.external-url=http://x']":              "extraArgs must not have --web.external-url:",
		"web: {externalUrl: 'https://user:secret@x/crs'}":         "at '/web/externalUrl': 'https://user:secret@x/crs' does not match pattern",
		"web: {routePrefix: crs}":                                 "at '/web/routePrefix': 'crs' does not match pattern",
		"extraArgs: [--crs.region, gz]":                           "at '/extraArgs/1': 'gz' does not match pattern",
		"extraArgs: [--crs.region=gz]":                            "extraArgs must not have --crs.region:",
		"extraArgs: [--state.file=/state]":                        "extraArgs must not have --state.file:",
		`prometheusRule: {backupDeadlineExceptions: ["a\nb"]}`:    "at '/prometheusRule/backupDeadlineExceptions/0': 'a\\nb' does not match pattern",
		"persistence: {enabled: 'yes'}":                           "at '/persistence/enabled': got string, want boolean",
		"serviceMonitor: {interval: 60}":                          "at '/serviceMonitor/interval': got number, want string",
		"podAnnotations: {prometheus.io/port: 123}":               "at '/podAnnotations/prometheus.io~1port': got number, want string",
		"networkPolicy: {ingressFrom: []}":                        "at '/networkPolicy/ingressFrom': minItems: got 0, want 1",
		"credentials: {existingSecret: x, secretIdKey: id}":       "credentials.secretIdKey needs credentials.secretKeyKey",
		"credentials: {secretIdKey: id, secretKeyKey: key}":       "credentials.secretIdKey needs credentials.existingSecret",
		"credentials: {existingSecret: x, secretKeyKey: key}":     "credentials.secretKeyKey and credentials.tokenKey need credentials.secretIdKey",
		"webConfig: {existingSecret: x, key: ../web-config.yaml}": "at '/webConfig/key': '../web-config.yaml' does not match pattern",
	} {
		if got := refusal(t, values); !strings.Contains(got, want) {
			t.Errorf("%s: %s\nwant %s", values, got, want)
		}
	}
}

// TestHelmVersion checks that the chart installs the version of deploy/kubernetes by default.
func TestHelmVersion(t *testing.T) {
	var chart struct{ Version, AppVersion string }
	if err := sigsyaml.Unmarshal([]byte(readFile(t, chartDir+"/Chart.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	_, tag, _ := strings.Cut(loadCluster(t, "base").deployment.Spec.Template.Spec.Containers[0].Image, ":")
	if chart.AppVersion != tag || chart.Version != tag {
		t.Errorf("the chart has version %s for %s, deploy/kubernetes has %s", chart.Version, chart.AppVersion, tag)
	}
}
