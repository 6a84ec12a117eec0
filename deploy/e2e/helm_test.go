package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const chartDir = "../helm/crs-exporter"

// template returns what `helm template` writes with the chart's own file of values for
// tests, and more values. Helm cannot reach a cluster or the user's settings.
func template(t *testing.T, file, values string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir+"/values.yaml", values)
	cmd := exec.CommandContext(t.Context(), program(t, "helm"), "template", "crs-exporter", chartDir, "--namespace="+namespace,
		"--values="+chartDir+"/ci/"+file+"-values.yaml", "--values="+dir+"/values.yaml")
	cmd.Env = []string{"HOME=" + dir}
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("helm template: %w\n%s", err, exit.Stderr)
	}
	return string(out), err
}

// install returns the objects that `helm install` creates.
func install(t *testing.T, file, values string) cluster {
	t.Helper()
	out, err := template(t, file, values)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, regexp.MustCompile(`(?m)^---\n`).Split(out, -1)...)
}

// TestHelmLint checks Chart.yaml, of which other commands of Helm accept more than lint does.
func TestHelmLint(t *testing.T) {
	run(t, program(t, "helm"), "lint", "--strict", chartDir, "--values="+chartDir+"/ci/full-values.yaml")
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
	if l := got.deployment.Labels; l["helm.sh/chart"] != "crs-exporter-"+l["app.kubernetes.io/version"] {
		t.Errorf("the chart does not have the version of the exporter: %v", l)
	}
	objects := func(c cluster) map[string]string {
		c.deployment.Spec.Selector, c.deployment.Spec.Template.Labels = nil, nil
		c.service.Spec.Selector = nil
		c.policy.Spec.PodSelector.MatchLabels = nil
		return map[string]string{
			"Deployment": toYAML(t, c.deployment.Spec), "Service": toYAML(t, c.service.Spec), "NetworkPolicy": toYAML(t, c.policy.Spec),
			"ServiceAccount": toYAML(t, []any{c.account.Name, c.account.Namespace, c.account.AutomountServiceAccountToken}),
			"ServiceMonitor": toYAML(t, c.monitor.Spec.Endpoints), "PrometheusRule": toYAML(t, c.rule.Spec),
		}
	}
	kubernetes := objects(want)
	for kind, spec := range objects(got) {
		if spec != kubernetes[kind] {
			t.Errorf("%s: the chart has\n%s\ndeploy/kubernetes has\n%s", kind, spec, kubernetes[kind])
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
	metadata := c.policy.Spec.Egress[2]
	if metadata.To[0].IPBlock.CIDR != "169.254.0.23/32" || metadata.Ports[0].Port.IntVal != 80 {
		t.Errorf("egress to %+v, want the service that has the role", metadata)
	}
	if v := c.deployment.Spec.Template.Spec.Volumes; len(v) != 1 {
		t.Errorf("volumes %+v, want only the state", v)
	}
}

func TestHelmFull(t *testing.T) {
	c := install(t, "full", "")
	container := c.container()
	exprs := func(text string) (all []string) {
		for _, r := range parseRules(t, text) {
			all = append(all, strings.Join(strings.Fields(r.Expr), " "))
		}
		return all
	}
	const (
		backup = "last_over_time(crs_backup_deadline_timestamp_seconds[15m])"
		weekly = `last_over_time(crs_backup_last_good_timestamp_seconds{redisId=~"crs-weekly|crs-test"}[15m]) + 8 * 86400 or `
		never  = `Inf * last_over_time(crs_backup_deadline_timestamp_seconds{redisId="crs-never"}[15m]) or `
		task   = "last_over_time(crs_task_finished_before_timestamp_seconds[15m]) + 3 * 3600"
		long   = `last_over_time(crs_task_finished_before_timestamp_seconds{taskName="importRdb"}[15m]) + 12 * 3600 or `
	)
	rules := strings.NewReplacer(backup, weekly+never+backup, task, long+task).Replace(readFile(t, rulesFile))
	compare(t, "rules", exprs(toYAML(t, c.rule.Spec)), exprs(rules))
	if m := c.configMap; m.Data[filepath.Base(dashboardFile)] != readFile(t, dashboardFile) || m.Namespace != "grafana" ||
		m.Labels["grafana_dashboard"] != "1" {
		t.Errorf("the dashboard differs from %s, or has namespace %s and labels %v", dashboardFile, m.Namespace, m.Labels)
	}

	common := map[string]string{"release": "kube-prometheus-stack", "example.com/team": "databases"}
	if !selects(common, c.monitor.Labels) || !selects(common, c.rule.Labels) {
		t.Errorf("labels %v and %v, want %v", c.monitor.Labels, c.rule.Labels, common)
	}
	for label, value := range c.deployment.Spec.Template.Labels {
		if strings.Contains(value, c.deployment.Labels["app.kubernetes.io/version"]) {
			t.Errorf("%s=%s restarts the pod at each new version of the chart", label, value)
		}
	}

	_, state := c.mounted(t, flagValue(t, container.Args, "state.file"))
	if state.PersistentVolumeClaim == nil || state.PersistentVolumeClaim.ClaimName != c.claim.Name {
		t.Errorf("volume %+v, the claim is %s", state, c.claim.Name)
	}
	_, web := c.mounted(t, flagValue(t, container.Args, "web.config.file"))
	if web.Secret == nil || web.Secret.SecretName != "crs-exporter-web" {
		t.Errorf("volume %+v", web)
	}

	e := c.monitor.Spec.Endpoints[0]
	if e.Path != "/crs/metrics" || e.Scheme == nil || e.Scheme.String() != "https" || e.TLSConfig == nil || e.BasicAuth == nil {
		t.Errorf("endpoint %+v", e)
	}

	var credentials []string
	for _, e := range container.Env {
		if e.ValueFrom != nil {
			credentials = append(credentials, e.Name+" "+e.ValueFrom.SecretKeyRef.Name+" "+e.ValueFrom.SecretKeyRef.Key)
		}
	}
	want := []string{"TENCENTCLOUD_SECRET_ID crs-key id", "TENCENTCLOUD_SECRET_KEY crs-key key", "TENCENTCLOUD_TOKEN crs-key token"}
	compare(t, "credentials", credentials, want)
	if strings.Contains(strings.Join(container.Args, " "), "--crs.credentials-file") {
		t.Errorf("there is no credentials file for %q", container.Args)
	}
	// The example has the same rule for a proxy. A Secret makes the role of the node unnecessary.
	example := decode(t, uncomment(t, readFile(t, "../kubernetes/base/networkpolicy.yaml"), "# - to:", "protocol: TCP")).policy
	if got, want := toYAML(t, c.policy.Spec.Egress), toYAML(t, example.Spec.Egress); got != want {
		t.Errorf("egress %s, want %s", got, want)
	}
}

// TestHelmOldValues has values without a group that the chart had not yet, as
// `helm upgrade --reuse-values` gives them, and a variable that the chart sets, too.
func TestHelmOldValues(t *testing.T) {
	c := install(t, "minimal", "web: null\nextraEnv: [{name: GOMEMLIMIT, value: 1GiB}]\n")
	if env := c.container().Env; len(env) != 1 || env[0].Value != "1GiB" {
		t.Errorf("environment %+v, want one GOMEMLIMIT", env)
	}
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
		"plain":   {"minimal", "serviceMonitor: {enabled: true}"},
		"prefix":  {"minimal", "web: {externalUrl: 'http://x/', routePrefix: /crs/exporter}\nserviceMonitor: {enabled: true}\n"},
		"removed": {"minimal", "web: {externalUrl: 'http://x/crs', routePrefix: /}\nserviceMonitor: {enabled: true}\n"},
		"full":    {"full", ""}, // with a password for every request, which a probe does not have
	} {
		t.Run(name, func(t *testing.T) {
			c := install(t, tc.file, tc.values)
			dir, address := t.TempDir(), freeAddress()
			writeFile(t, dir+"/etc/crs_exporter_web/web-config.yml", "basic_auth_users: {x: $2a$04$"+strings.Repeat("a", 53)+"}\n")
			writeFile(t, dir+"/var/lib/crs_exporter/.keep", "")
			inDir := strings.NewReplacer("=/etc/", "="+dir+"/etc/", "=/var/", "="+dir+"/var/")
			args := []string{"--demo", "--web.listen-address=" + address}
			for _, a := range c.container().Args {
				args = append(args, inDir.Replace(a))
			}
			start(t, []string{"HOME=" + dir}, exporter, args...)
			eventually(t, "the probe succeeds", func() error {
				live, ready := c.container().LivenessProbe, c.container().ReadinessProbe
				if live.Exec != nil {
					args := append(live.Exec.Command[1:], "--web.listen-address="+address)
					return exec.CommandContext(t.Context(), exporter, args...).Run()
				}
				return errors.Join(get("http://"+address+live.HTTPGet.Path, nil), get("http://"+address+ready.HTTPGet.Path, nil),
					get("http://"+address+c.monitor.Spec.Endpoints[0].Path, nil))
			})
		})
	}
}

// TestHelmRefuses checks that Helm refuses wrong values, and an unknown key in all objects
// but those that Kubernetes or the operator defines.
func TestHelmRefuses(t *testing.T) {
	refused := map[string]string{
		"typo: true":                                              "at '': additional properties 'typo' not allowed",
		"regions: []":                                             "at '/regions': minItems: got 0, want 1",
		"regions: [ap_guangzhou]":                                 "at '/regions/0': 'ap_guangzhou' does not match pattern",
		"image: {repository: ''}":                                 "at '/image/repository': minLength: got 0, want 1",
		"api: 3.0":                                                "at '/api': value must be one of 'auto', '2.0', '3.0', 'tce'",
		"extraArgs: [crs.lookback=36h]":                           "at '/extraArgs/0': 'crs.lookback=36h' does not match pattern",
		"extraArgs: [--crs.region, gz]":                           "at '/extraArgs/1': 'gz' does not match pattern",
		"extraArgs: [--web.listen-address=:80]":                   "extraArgs must not have --web.listen-address:",
		"extraArgs: [--state.file=/state]":                        "extraArgs must not have --state.file:",
		"web: {externalUrl: 'https://user:secret@x/crs'}":         "at '/web/externalUrl': 'https://user:secret@x/crs' does not match pattern",
		"web: {routePrefix: crs}":                                 "at '/web/routePrefix': 'crs' does not match pattern",
		`prometheusRule: {backupDeadlineExceptions: ["a\nb"]}`:    "at '/prometheusRule/backupDeadlineExceptions/0': ",
		"networkPolicy: {ingressFrom: []}":                        "at '/networkPolicy/ingressFrom': minItems: got 0, want 1",
		"credentials: {existingSecret: x, secretIdKey: id}":       "credentials.secretIdKey needs credentials.secretKeyKey",
		"credentials: {secretIdKey: id, secretKeyKey: key}":       "credentials.secretIdKey needs credentials.existingSecret",
		"credentials: {existingSecret: x, secretKeyKey: key}":     "credentials.secretKeyKey and credentials.tokenKey need credentials.secretIdKey",
		"webConfig: {existingSecret: x, key: ../web-config.yaml}": "at '/webConfig/key': '../web-config.yaml' does not match pattern",
	}
	for object := range strings.FieldsSeq("image credentials persistence web webConfig service serviceMonitor prometheusRule dashboard " +
		"networkPolicy serviceAccount resources livenessProbe readinessProbe") {
		refused[object+": {typo: true}"] = "at '/" + object + "': additional properties 'typo' not allowed"
	}
	for values, want := range refused {
		_, err := template(t, "minimal", values)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", values, err, want)
		}
	}
}
