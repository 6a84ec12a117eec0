package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	namespace          = "crs-exporter"
	prometheusRuleFile = "../kubernetes/operator/prometheusrule.yaml"
)

// cluster has the objects that `kubectl apply -k deploy/kubernetes/operator` or the Helm
// chart creates. An object that is not created has no name.
type cluster struct {
	kinds      []string // sorted
	namespace  core.Namespace
	account    core.ServiceAccount
	secret     core.Secret
	deployment apps.Deployment
	service    core.Service
	policy     networking.NetworkPolicy
	configMap  core.ConfigMap
	claim      core.PersistentVolumeClaim
	monitor    monitoringv1.ServiceMonitor
	rule       monitoringv1.PrometheusRule
}

// decode decodes objects in YAML, each with fields that its kind has, and with a valid name
// and labels. What a field may contain is checked only as far as its type says.
func decode(t *testing.T, documents ...string) cluster {
	t.Helper()
	var c cluster
	kinds := map[string]meta.Object{
		"v1/Namespace": &c.namespace, "v1/ServiceAccount": &c.account, "v1/Secret": &c.secret, "v1/Service": &c.service,
		"v1/ConfigMap": &c.configMap, "v1/PersistentVolumeClaim": &c.claim, "apps/v1/Deployment": &c.deployment,
		"networking.k8s.io/v1/NetworkPolicy": &c.policy, "monitoring.coreos.com/v1/ServiceMonitor": &c.monitor,
		"monitoring.coreos.com/v1/PrometheusRule": &c.rule,
	}
	for _, document := range documents {
		content, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(content, &kind); err != nil {
			t.Fatal(err)
		}
		if kind.Kind == "" {
			continue // only comments
		}
		object := kinds[kind.APIVersion+"/"+kind.Kind]
		if object == nil || object.GetName() != "" {
			t.Fatalf("%s: unexpected, or there are two", kind.Kind)
		}
		strict, err := json.UnmarshalStrict(content, object, json.DisallowUnknownFields)
		if err != nil || len(strict) > 0 {
			t.Fatalf("%s: %v %v", kind.Kind, err, strict)
		}
		invalid := validation.IsDNS1035Label(object.GetName())
		for name, value := range object.GetLabels() {
			invalid = slices.Concat(invalid, validation.IsQualifiedName(name), validation.IsValidLabelValue(value))
		}
		if len(invalid) > 0 {
			t.Errorf("%s %s with labels %v: %v", kind.Kind, object.GetName(), object.GetLabels(), invalid)
		}
		c.kinds = append(c.kinds, kind.Kind)
	}
	slices.Sort(c.kinds)
	return c
}

// kustomize builds a folder of deploy/kubernetes, as `kubectl apply -k` does.
func kustomize(t *testing.T, folder string) cluster {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("../kubernetes", folder))
	if err != nil {
		t.Fatalf("kustomize build %s: %v", folder, err)
	}
	var documents []string
	for _, r := range resources.Resources() {
		documents = append(documents, r.MustYaml())
	}
	return decode(t, documents...)
}

// TestKubernetes checks what TestHelmLikeKubernetes cannot: it compares the rest with the chart.
func TestKubernetes(t *testing.T) {
	c := kustomize(t, "operator")
	kinds := []string{"Deployment", "Namespace", "NetworkPolicy", "PrometheusRule", "Service", "ServiceAccount", "ServiceMonitor"}
	if !slices.Equal(c.kinds, kinds) {
		t.Errorf("operator has %v, want %v", c.kinds, kinds)
	}
	for _, o := range []meta.Object{&c.account, &c.deployment, &c.service, &c.policy, &c.monitor, &c.rule} {
		if o.GetNamespace() != namespace {
			t.Errorf("%T is in namespace %q, want %q", o, o.GetNamespace(), namespace)
		}
	}
	if c.namespace.Name != namespace || c.namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace %s has the labels %v", c.namespace.Name, c.namespace.Labels)
	}
	checkSelectors(t, c)

	// The namespace must admit the pod.
	pod, container := c.deployment.Spec.Template, c.container()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
		if !r.Allowed {
			t.Errorf("%s: %s", r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
	user, volumes := ptr.Deref(pod.Spec.SecurityContext.RunAsUser, 0), ptr.Deref(pod.Spec.SecurityContext.FSGroup, 0)
	if user != imageUID || volumes != imageUID {
		t.Errorf("user %d, group of volumes %d, want %d, the user of the image", user, volumes, imageUID)
	}
	checkProcess(t, container.Args, container.Env[0].Name+"="+container.Env[0].Value, container.Resources.Limits.Memory().Value())

	var closed []string
	for _, peer := range c.policy.Spec.Egress[1].To {
		closed = append(closed, peer.IPBlock.Except...)
	}
	private := []string{"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"}
	compare(t, "networks that the policy excludes", closed, private)

	secret := decode(t, readFile(t, "../kubernetes/secret.example.yaml")).secret
	mount, v := c.mounted(t, flagValue(t, container.Args, "crs.credentials-file"))
	if secret.Namespace != namespace || v.Secret.SecretName != secret.Name || secret.StringData[v.Secret.Items[0].Key] == "" {
		t.Errorf("volume %+v does not have the key of the example", v.Secret)
	}
	if mount.SubPath != "" || !mount.ReadOnly {
		t.Errorf("mount %+v: must be read-only and without subPath, which does not update when the Secret changes", mount)
	}
	if mount, v := c.mounted(t, flagValue(t, container.Args, "state.file")); v.EmptyDir == nil || mount.ReadOnly {
		t.Errorf("volume %+v, mount %+v", v, mount)
	}

	e, shipped := c.monitor.Spec.Endpoints[0], loadPrometheus(t, readFile(t, prometheusFile)).ScrapeConfigs[0]
	job, drop, dropped := e.RelabelConfigs[0], e.RelabelConfigs[1], shipped.RelabelConfigs[0]
	got := fmt.Sprintln(e.Interval, e.ScrapeTimeout, job.TargetLabel, ptr.Deref(job.Replacement, ""), drop.Action, drop.Regex)
	want := fmt.Sprintln(shipped.ScrapeInterval, shipped.ScrapeTimeout, "job", shipped.JobName, dropped.Action, dropped.Regex)
	if got != want {
		t.Errorf("the ServiceMonitor has %sprometheus.yml has %s", got, want)
	}
}

// container returns the container of the exporter.
func (c cluster) container() core.Container { return c.deployment.Spec.Template.Spec.Containers[0] }

// mounted returns what the container has mounted at the folder of a file.
func (c cluster) mounted(t *testing.T, file string) (core.VolumeMount, core.Volume) {
	t.Helper()
	for _, m := range c.container().VolumeMounts {
		for _, v := range c.deployment.Spec.Template.Spec.Volumes {
			if m.MountPath == filepath.Dir(file) && v.Name == m.Name {
				return m, v
			}
		}
	}
	t.Fatalf("nothing is mounted for %s", file)
	return core.VolumeMount{}, core.Volume{}
}

// checkSelectors checks that the selectors of objects select the pod and the service.
func checkSelectors(t *testing.T, c cluster) {
	t.Helper()
	pod := c.deployment.Spec.Template.Labels
	for name, by := range map[string]struct{ selector, labels map[string]string }{
		"Deployment":     {c.deployment.Spec.Selector.MatchLabels, pod},
		"Service":        {c.service.Spec.Selector, pod},
		"NetworkPolicy":  {c.policy.Spec.PodSelector.MatchLabels, pod},
		"ServiceMonitor": {c.monitor.Spec.Selector.MatchLabels, c.service.Labels},
	} {
		if !selects(by.selector, by.labels) {
			t.Errorf("%s selects %v, not %v", name, by.selector, by.labels)
		}
	}
	if got, want := c.monitor.Spec.Endpoints[0].Port, c.service.Spec.Ports[0].Name; got != want {
		t.Errorf("the ServiceMonitor has port %s, the service %s", got, want)
	}
}

// selects reports whether a selector selects what has these labels, but not everything.
func selects(selector, with map[string]string) bool {
	return len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(with))
}
