package e2e

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
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

func TestKubernetes(t *testing.T) {
	base := []string{"Deployment", "Namespace", "NetworkPolicy", "Service", "ServiceAccount"}
	if got := kustomize(t, "base").kinds; !slices.Equal(got, base) {
		t.Errorf("base has %v, want %v", got, base)
	}
	c := kustomize(t, "operator")
	if want := slices.Sorted(slices.Values(append(base, "PrometheusRule", "ServiceMonitor"))); !slices.Equal(c.kinds, want) {
		t.Errorf("operator has %v, want %v", c.kinds, want)
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

	pod, container := c.deployment.Spec.Template, c.container()
	if n := ptr.Deref(c.deployment.Spec.Replicas, 0); n != 1 || c.deployment.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
		t.Errorf("replicas %d, strategy %s: want one process at a time", n, c.deployment.Spec.Strategy.Type)
	}

	checkRestricted(t, pod)
	user, volumes := ptr.Deref(pod.Spec.SecurityContext.RunAsUser, 0), ptr.Deref(pod.Spec.SecurityContext.FSGroup, 0)
	if user != imageUID || volumes != imageUID {
		t.Errorf("user %d, group of volumes %d, want %d, the user of the image", user, volumes, imageUID)
	}
	if !ptr.Deref(container.SecurityContext.ReadOnlyRootFilesystem, false) || ptr.Deref(pod.Spec.AutomountServiceAccountToken, true) {
		t.Error("the root file system is writable, or a token for the API server is mounted")
	}
	checkPinned(t, container.Image)
	requests, limits := container.Resources.Requests, container.Resources.Limits
	if requests.Cpu().IsZero() || limits.Cpu().IsZero() || requests.Memory().IsZero() {
		t.Errorf("requests %v, limits %v", requests, limits)
	}
	checkProcess(t, container.Args, container.Env[0].Name+"="+container.Env[0].Value, limits.Memory().Value())

	port := container.Ports[0]
	for path, probe := range map[string]*core.Probe{"/-/healthy": container.LivenessProbe, "/-/ready": container.ReadinessProbe} {
		if probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != port.Name {
			t.Errorf("the probe for %s is %s on port %s", path, probe.HTTPGet.Path, &probe.HTTPGet.Port)
		}
	}
	if p := c.service.Spec.Ports[0]; port.ContainerPort != 10991 || p.Port != 10991 || p.TargetPort.StrVal != port.Name {
		t.Errorf("port %+v of the service, %+v of the pod", p, port)
	}
	if !c.service.Spec.PublishNotReadyAddresses {
		t.Error("Prometheus cannot scrape a pod that is not ready")
	}
	for _, rule := range c.policy.Spec.Ingress {
		if len(rule.From) != 1 || len(rule.Ports) != 1 || rule.Ports[0].Port.StrVal != port.Name {
			t.Errorf("allows ingress %+v", rule)
		}
	}

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
	job, drop := e.RelabelConfigs[0], e.RelabelConfigs[1]
	got := []string{string(e.Interval), string(e.ScrapeTimeout), job.TargetLabel, ptr.Deref(job.Replacement, ""), drop.Action, drop.Regex}
	dropped := shipped.RelabelConfigs[0]
	want := []string{
		shipped.ScrapeInterval.String(), shipped.ScrapeTimeout.String(), "job", shipped.JobName,
		string(dropped.Action), dropped.Regex.String(),
	}
	if !slices.Equal(got, want) {
		t.Errorf("monitor %q, prometheus.yml has %q", got, want)
	}
	parseRules(t, toYAML(t, c.rule.Spec))
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
	for name, selector := range map[string]map[string]string{
		"Deployment": c.deployment.Spec.Selector.MatchLabels, "Service": c.service.Spec.Selector,
		"NetworkPolicy": c.policy.Spec.PodSelector.MatchLabels,
	} {
		if !selects(selector, pod) {
			t.Errorf("%s selects %v, the pod has %v", name, selector, pod)
		}
	}
	if selector := c.monitor.Spec.Selector.MatchLabels; !selects(selector, c.service.Labels) {
		t.Errorf("the ServiceMonitor selects %v, the service has %v", selector, c.service.Labels)
	}
	if got, want := c.monitor.Spec.Endpoints[0].Port, c.service.Spec.Ports[0].Name; got != want {
		t.Errorf("the ServiceMonitor has port %s, the service %s", got, want)
	}
}

// selects reports whether a selector selects what has these labels, but not everything.
func selects(selector, with map[string]string) bool {
	return len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(with))
}

// checkRestricted checks that a namespace with the restricted pod security standard admits
// a pod.
func checkRestricted(t *testing.T, pod core.PodTemplateSpec) {
	t.Helper()
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
}

// checkEgress checks which connections a policy allows and forbids, such as "TCP 10.1.2.3:443".
// It ignores selectors, which match pods only.
func checkEgress(t *testing.T, policy networking.NetworkPolicy, allowed, forbidden []string) {
	t.Helper()
	for _, connection := range slices.Concat(allowed, forbidden) {
		protocol, address, _ := strings.Cut(connection, " ")
		to := netip.MustParseAddrPort(address)
		contains := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(to.Addr()) }
		got := slices.ContainsFunc(policy.Spec.Egress, func(rule networking.NetworkPolicyEgressRule) bool {
			return slices.ContainsFunc(rule.Ports, func(p networking.NetworkPolicyPort) bool {
				return p.Port.IntVal == int32(to.Port()) && p.EndPort == nil && string(*p.Protocol) == protocol
			}) && slices.ContainsFunc(rule.To, func(p networking.NetworkPolicyPeer) bool {
				return p.IPBlock != nil && contains(p.IPBlock.CIDR) && !slices.ContainsFunc(p.IPBlock.Except, contains)
			})
		})
		if got != slices.Contains(allowed, connection) {
			t.Errorf("allows %s: %v", connection, got)
		}
	}
	for _, rule := range policy.Spec.Egress {
		if len(rule.To) == 0 || len(rule.Ports) == 0 {
			t.Errorf("allows egress to everywhere or to every port: %+v", rule)
		}
	}
}

const (
	metadata = "TCP 169.254.0.23:80" // of the node, with its role
	proxy    = "TCP 10.1.2.3:3128"
)

func TestKubernetesEgress(t *testing.T) {
	policy := kustomize(t, "base").policy
	if len(policy.Spec.PolicyTypes) != 2 {
		t.Errorf("the policy is for %v", policy.Spec.PolicyTypes)
	}
	allowed := []string{
		"UDP 169.254.20.10:53", "TCP 169.254.20.10:53", // the DNS cache of the node
		"TCP 203.0.113.7:443", "TCP [2001:db8::7]:443",
	}
	forbidden := []string{
		metadata, "TCP 169.254.0.23:443", "TCP 169.254.20.10:443", "UDP 169.254.20.11:53", "UDP 203.0.113.7:53", "TCP 203.0.113.7:80",
		"TCP 10.0.0.1:443", "TCP 100.64.0.1:443", "TCP 172.16.0.1:443", "TCP 192.168.0.1:443", "TCP [fd00::1]:443", "TCP [fe80::1]:443",
	}
	checkEgress(t, policy, allowed, append(forbidden, proxy))
	// The example in the comment is a rule for a private address and changes nothing else.
	example := decode(t, uncomment(t, readFile(t, "../kubernetes/base/networkpolicy.yaml"), "# - to:", "protocol: TCP")).policy
	checkEgress(t, example, append(allowed, proxy), forbidden)
}
