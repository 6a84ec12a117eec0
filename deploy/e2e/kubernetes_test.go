package e2e

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil" // keeps the module in go.mod; the tests read its CRDs
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // registers the types, their defaults and conversions
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"

	externalcorev1 "k8s.io/api/core/v1"
)

const (
	rulesFile          = "../prometheus/rules/crs.yml"
	prometheusRuleFile = "../kubernetes/operator/prometheusrule.yaml"
	policyFile         = "../kubernetes/base/networkpolicy.yaml"
)

// shippedRules parses the rules of deploy/prometheus with the code of Prometheus.
func shippedRules(t *testing.T) *rulefmt.RuleGroups {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil || len(groups.Groups) == 0 {
		t.Fatalf("%s has no rules", rulesFile)
	}
	return groups
}

// object is one Kubernetes object in YAML, as kubectl would send it to the API server.
type object struct {
	kind, name string
	yaml       []byte
}

// build runs kustomize on a directory of deploy/kubernetes, as `kubectl apply -k` does.
func build(t *testing.T, dir string) []object {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("../kubernetes", dir))
	if err != nil {
		t.Fatalf("kustomize build %s: %v", dir, err)
	}
	var out []object
	for _, r := range resources.Resources() {
		b, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, object{r.GetKind(), r.GetName(), b})
	}
	return out
}

// admit handles a built-in object as the API server does before it stores it: it decodes it strictly, sets the
// defaults, converts it to the internal type and validates it. It returns the internal object.
func admit(t *testing.T, o object) runtime.Object {
	t.Helper()
	codecs := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict)
	obj, gvk, err := codecs.UniversalDeserializer().Decode(o.yaml, nil, nil)
	if err != nil {
		t.Fatalf("%s %s: %v", o.kind, o.name, err)
	}
	legacyscheme.Scheme.Default(obj)
	internal, err := legacyscheme.Scheme.ConvertToVersion(obj, runtime.InternalGroupVersioner)
	if err != nil {
		t.Fatalf("%s: %v", gvk, err)
	}
	var errs field.ErrorList
	switch o := internal.(type) {
	case *apps.Deployment:
		errs = appsvalidation.ValidateDeployment(o, podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	case *core.ConfigMap:
		errs = corevalidation.ValidateConfigMap(o)
	case *core.Namespace:
		errs = corevalidation.ValidateNamespace(o)
	case *core.PersistentVolumeClaim:
		errs = corevalidation.ValidatePersistentVolumeClaim(o, corevalidation.ValidationOptionsForPersistentVolumeClaim(o, nil))
	case *core.Secret:
		errs = corevalidation.ValidateSecret(o)
	case *core.Service:
		// As the API server does on a cluster with one IP family.
		policy := core.IPFamilyPolicySingleStack
		o.Spec.IPFamilyPolicy, o.Spec.IPFamilies = &policy, []core.IPFamily{core.IPv4Protocol}
		errs = corevalidation.ValidateServiceCreate(o)
	case *core.ServiceAccount:
		errs = corevalidation.ValidateServiceAccount(o)
	case *networking.NetworkPolicy:
		errs = networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{})
	default:
		t.Fatalf("%s %s: no validation for a %T", gvk, internal, o)
	}
	for _, err := range errs {
		t.Errorf("%s %s: %v", o.kind, o.name, err)
	}
	return internal
}

// crd returns the schema of a kind from the CRDs of the operator's release.
func crd(t *testing.T, plural string) *apiextensions.JSONSchemaProps {
	t.Helper()
	const operator = "github.com/prometheus-operator/prometheus-operator"
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", operator).Output()
	if err != nil {
		t.Fatalf("go list -m %s: %v", operator, err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "example/prometheus-operator-crd/monitoring.coreos.com_"+plural+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var def apiextensionsv1.CustomResourceDefinition
	if err := sigsyaml.Unmarshal(b, &def); err != nil {
		t.Fatal(err)
	}
	if len(def.Spec.Versions) != 1 || def.Spec.Versions[0].Name != "v1" {
		t.Fatalf("%s has versions %v", plural, def.Spec.Versions)
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(def.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		t.Fatal(err)
	}
	return &props
}

// admitCustom validates a custom resource of the operator with its CRD, as the API server does, and decodes it as the
// operator does.
func admitCustom(t *testing.T, o object, plural string, into any) {
	t.Helper()
	props := crd(t, plural)
	var content map[string]any
	if err := sigsyaml.UnmarshalStrict(o.yaml, &content); err != nil {
		t.Fatalf("%s %s: %v", o.kind, o.name, err)
	}
	structural, err := schema.NewStructural(props)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pruning.PruneWithOptions(runtime.DeepCopyJSON(content), structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		t.Errorf("%s %s: unknown field %s", o.kind, o.name, path)
	}
	validator, _, err := crdvalidation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range crdvalidation.ValidateCustomResource(nil, content, validator) {
		t.Errorf("%s %s: %v", o.kind, o.name, err)
	}
	if err := sigsyaml.UnmarshalStrict(o.yaml, into); err != nil {
		t.Errorf("%s %s: %v", o.kind, o.name, err)
	}
}

// cluster has the objects that `kubectl apply -k deploy/kubernetes/operator` or the Helm chart creates. Objects that are
// not created are nil or empty.
type cluster struct {
	namespace  *core.Namespace
	account    *core.ServiceAccount
	deployment *apps.Deployment
	service    *core.Service
	policy     *networking.NetworkPolicy
	configMap  *core.ConfigMap
	claim      *core.PersistentVolumeClaim
	monitor    monitoringv1.ServiceMonitor
	rule       monitoringv1.PrometheusRule
}

func loadCluster(t *testing.T, dir string) cluster {
	t.Helper()
	c := admitAll(t, build(t, dir))
	if c.namespace == nil || c.account == nil || c.deployment == nil || c.service == nil || c.policy == nil {
		t.Fatalf("kustomize build %s: objects are missing: %+v", dir, c)
	}
	return c
}

// admitAll handles objects as the API server does; see admit and admitCustom.
func admitAll(t *testing.T, objects []object) cluster {
	t.Helper()
	var c cluster
	for _, o := range objects {
		switch o.kind {
		case "ServiceMonitor":
			admitCustom(t, o, "servicemonitors", &c.monitor)
			continue
		case "PrometheusRule":
			admitCustom(t, o, "prometheusrules", &c.rule)
			continue
		}
		switch o := admit(t, o).(type) {
		case *core.Namespace:
			c.namespace = o
		case *core.ServiceAccount:
			c.account = o
		case *apps.Deployment:
			c.deployment = o
		case *core.Service:
			c.service = o
		case *core.ConfigMap:
			c.configMap = o
		case *core.PersistentVolumeClaim:
			c.claim = o
		case *networking.NetworkPolicy:
			c.policy = o
		default:
			t.Errorf("unexpected object %T", o)
		}
	}
	return c
}

func TestKubernetesBase(t *testing.T) {
	c := loadCluster(t, "base")
	if c.monitor.Name != "" || c.rule.Name != "" {
		t.Error("base must not need the Prometheus operator")
	}
	for kind, ns := range map[string]string{
		"ServiceAccount": c.account.Namespace, "Deployment": c.deployment.Namespace,
		"Service": c.service.Namespace, "NetworkPolicy": c.policy.Namespace,
	} {
		if ns != c.namespace.Name {
			t.Errorf("%s is in namespace %q, want %q", kind, ns, c.namespace.Name)
		}
	}
	pod := c.deployment.Spec.Template
	if len(pod.Spec.Containers) != 1 {
		t.Fatalf("%d containers", len(pod.Spec.Containers))
	}
	container := pod.Spec.Containers[0]
	ports := map[string]int32{}
	for _, p := range container.Ports {
		ports[p.Name] = p.ContainerPort
	}

	t.Run("one process at a time", func(t *testing.T) {
		if c.deployment.Spec.Replicas != 1 || c.deployment.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
			t.Errorf("replicas %d, strategy %s", c.deployment.Spec.Replicas, c.deployment.Spec.Strategy.Type)
		}
	})
	t.Run("restricted", func(t *testing.T) {
		if c.namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			t.Errorf("namespace labels %v", c.namespace.Labels)
		}
		checkRestricted(t, pod)
		s := container.SecurityContext
		if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Error("the root file system is writable")
		}
		if u := pod.Spec.SecurityContext.RunAsUser; u == nil || *u != imageUID {
			t.Errorf("does not run as the user of the image, %d", imageUID)
		}
		if a := pod.Spec.AutomountServiceAccountToken; a == nil || *a {
			t.Error("a token for the API server is mounted")
		}
	})
	t.Run("resources", func(t *testing.T) {
		for _, name := range []core.ResourceName{core.ResourceCPU, core.ResourceMemory} {
			if container.Resources.Requests.Name(name, "").IsZero() || container.Resources.Limits.Name(name, "").IsZero() {
				t.Errorf("%s has no request or no limit", name)
			}
		}
	})
	t.Run("probes", func(t *testing.T) {
		for path, probe := range map[string]*core.Probe{"/-/healthy": container.LivenessProbe, "/-/ready": container.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || ports[probe.HTTPGet.Port.StrVal] != exporterPort {
				t.Errorf("no probe for %s on port %d: %+v", path, exporterPort, probe)
			}
		}
	})
	t.Run("flags", func(t *testing.T) { checkFlags(t, container.Args) })
	t.Run("image", func(t *testing.T) { checkPinned(t, container.Image) })
	t.Run("service", func(t *testing.T) {
		if !contains(pod.Labels, c.service.Spec.Selector) {
			t.Errorf("the service selects %v, the pod has %v", c.service.Spec.Selector, pod.Labels)
		}
		if !c.service.Spec.PublishNotReadyAddresses {
			t.Error("Prometheus cannot scrape a pod that is not ready")
		}
		if p := c.service.Spec.Ports; len(p) != 1 || ports[p[0].TargetPort.StrVal] != exporterPort || p[0].Port != exporterPort {
			t.Errorf("service ports %+v", p)
		}
	})
	t.Run("network policy", func(t *testing.T) {
		if !contains(pod.Labels, c.policy.Spec.PodSelector.MatchLabels) || len(c.policy.Spec.PolicyTypes) != 2 {
			t.Errorf("policy %v for %v", c.policy.Spec.PolicyTypes, c.policy.Spec.PodSelector.MatchLabels)
		}
		for _, rule := range c.policy.Spec.Ingress {
			for _, p := range rule.Ports {
				if p.Port == nil || ports[p.Port.StrVal] != exporterPort {
					t.Errorf("allows ingress to port %v", p.Port)
				}
			}
			if len(rule.From) == 0 || len(rule.Ports) == 0 {
				t.Errorf("allows ingress from everywhere or to every port: %+v", rule)
			}
		}
	})
	t.Run("egress", func(t *testing.T) { testEgress(t, c.policy) })
	t.Run("memory limit of Go", func(t *testing.T) {
		env := map[string]string{}
		for _, e := range container.Env {
			env[e.Name] = e.Value
		}
		checkMemoryLimit(t, env["GOMEMLIMIT"], container.Resources.Limits.Memory().Value())
	})
	t.Run("credentials", func(t *testing.T) {
		b, err := os.ReadFile("../kubernetes/secret.example.yaml")
		if err != nil {
			t.Fatal(err)
		}
		secret, ok := admit(t, object{"Secret", "example", b}).(*core.Secret)
		if !ok || secret.Namespace != c.namespace.Name {
			t.Fatalf("the example is not a Secret in namespace %s", c.namespace.Name)
		}
		mount, v := mounted(t, c.deployment, flagValue(t, container.Args, "crs.credentials-file"))
		if v.Secret == nil || v.Secret.SecretName != secret.Name || len(secret.Data[v.Secret.Items[0].Key]) == 0 {
			t.Errorf("volume %+v does not have the key of the example", v)
		}
		if mount.SubPath != "" || !mount.ReadOnly {
			t.Errorf("mount %+v: must be read-only and without subPath, which does not update when the Secret changes", mount)
		}
	})
	t.Run("state", func(t *testing.T) {
		mount, v := mounted(t, c.deployment, flagValue(t, container.Args, "state.file"))
		if v.EmptyDir == nil || mount.ReadOnly {
			t.Errorf("volume %+v, mount %+v", v, mount)
		}
		if group := pod.Spec.SecurityContext.FSGroup; group == nil || *group != imageUID {
			t.Error("the group of the volume is not that of the user")
		}
	})
}

// flagValue returns the value of a flag.
func flagValue(t *testing.T, args []string, name string) string {
	t.Helper()
	for _, a := range args {
		if value, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return value
		}
	}
	t.Fatalf("no --%s in %q", name, args)
	return ""
}

// mounted returns what the container has mounted at the folder of a file.
func mounted(t *testing.T, d *apps.Deployment, file string) (core.VolumeMount, core.Volume) {
	t.Helper()
	for _, m := range d.Spec.Template.Spec.Containers[0].VolumeMounts {
		for _, v := range d.Spec.Template.Spec.Volumes {
			if m.MountPath == filepath.Dir(file) && v.Name == m.Name {
				return m, v
			}
		}
	}
	t.Fatalf("nothing is mounted for %s", file)
	return core.VolumeMount{}, core.Volume{}
}

// checkRestricted checks that a namespace with the restricted pod security standard admits a pod.
func checkRestricted(t *testing.T, pod core.PodTemplateSpec) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var spec externalcorev1.PodSpec
	if err := corev1.Convert_core_PodSpec_To_v1_PodSpec(&pod.Spec, &spec, nil); err != nil {
		t.Fatal(err)
	}
	level := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &spec) {
		if !r.Allowed {
			t.Errorf("%s: %s", r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
}

// connection is one that a pod wants to open.
type connection struct {
	address  string
	port     int32
	protocol core.Protocol
}

// allowsEgress reports whether a policy lets a connection to an address out. It ignores selectors, which
// match pods only.
func allowsEgress(t *testing.T, policy *networking.NetworkPolicy, c connection) bool {
	t.Helper()
	address := netip.MustParseAddr(c.address)
	in := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(address) }
	for _, rule := range policy.Spec.Egress {
		if len(rule.To) == 0 || len(rule.Ports) == 0 {
			t.Errorf("allows egress to everywhere or to every port: %+v", rule)
		}
		ports := slices.ContainsFunc(rule.Ports, func(p networking.NetworkPolicyPort) bool {
			return p.Port != nil && p.Port.IntVal == c.port && p.EndPort == nil && *p.Protocol == c.protocol
		})
		peers := slices.ContainsFunc(rule.To, func(p networking.NetworkPolicyPeer) bool {
			return p.IPBlock != nil && in(p.IPBlock.CIDR) && !slices.ContainsFunc(p.IPBlock.Except, in)
		})
		if ports && peers {
			return true
		}
	}
	return false
}

func testEgress(t *testing.T, policy *networking.NetworkPolicy) {
	nodeDNS := []connection{{"169.254.20.10", 53, core.ProtocolUDP}, {"169.254.20.10", 53, core.ProtocolTCP}}
	public := []connection{{"203.0.113.7", 443, core.ProtocolTCP}, {"2001:db8::7", 443, core.ProtocolTCP}}
	proxy := connection{"10.1.2.3", 3128, core.ProtocolTCP}
	for _, c := range slices.Concat(nodeDNS, public) {
		if !allowsEgress(t, policy, c) {
			t.Errorf("does not allow %v", c)
		}
	}
	for _, c := range []connection{
		proxy,
		{"169.254.20.10", 443, core.ProtocolTCP},
		{"169.254.20.11", 53, core.ProtocolUDP},
		{"169.254.0.23", 80, core.ProtocolTCP}, // the metadata service
		{"169.254.0.23", 443, core.ProtocolTCP},
		{"169.254.169.254", 443, core.ProtocolTCP},
		{"203.0.113.7", 53, core.ProtocolUDP},
		{"203.0.113.7", 80, core.ProtocolTCP},
		{"10.0.0.1", 443, core.ProtocolTCP},
		{"100.64.0.1", 443, core.ProtocolTCP},
		{"172.16.0.1", 443, core.ProtocolTCP},
		{"192.168.0.1", 443, core.ProtocolTCP},
		{"fd00::1", 443, core.ProtocolTCP},
		{"fe80::1", 443, core.ProtocolTCP},
	} {
		if allowsEgress(t, policy, c) {
			t.Errorf("allows %v", c)
		}
	}
	// The example in the comment is a rule for a private address and changes nothing else.
	example := uncomment(t, readFile(t, policyFile), "# - to:", "protocol: TCP")
	example = strings.Replace(example, "metadata:\n", "metadata:\n  namespace: "+policy.Namespace+"\n", 1) // as kustomize does
	changed, ok := admit(t, object{"NetworkPolicy", "example", []byte(example)}).(*networking.NetworkPolicy)
	if !ok || !allowsEgress(t, changed, proxy) {
		t.Errorf("the example does not allow %v", proxy)
	}
	if n := len(policy.Spec.Egress); !reflect.DeepEqual(changed.Spec.Egress[:n], policy.Spec.Egress) || len(changed.Spec.Egress) != n+1 {
		t.Error("the example is not one more rule")
	}
}

// checkMemoryLimit checks that Go collects garbage more often before the process reaches its limit in bytes: at no more
// than nine tenths of it, which leaves room for memory that Go does not count, and at no less than three quarters.
func checkMemoryLimit(t *testing.T, goMemLimit string, limit int64) {
	t.Helper()
	number, ok := strings.CutSuffix(goMemLimit, "MiB")
	mebibytes, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		t.Fatalf("GOMEMLIMIT is %q, want a number of MiB", goMemLimit)
	}
	if got := mebibytes << 20; got < limit*3/4 || got > limit*9/10 {
		t.Errorf("GOMEMLIMIT is %s, the process may use %d MiB", goMemLimit, limit>>20)
	}
}

func TestKubernetesOperator(t *testing.T) {
	c := loadCluster(t, "operator")
	t.Run("monitor", func(t *testing.T) {
		if c.monitor.Namespace != c.namespace.Name || !contains(c.service.Labels, c.monitor.Spec.Selector.MatchLabels) {
			t.Errorf("the monitor selects %v, the service has %v", c.monitor.Spec.Selector.MatchLabels, c.service.Labels)
		}
		if len(c.monitor.Spec.Endpoints) != 1 || c.monitor.Spec.Endpoints[0].Port != c.service.Spec.Ports[0].Name {
			t.Fatalf("endpoints %+v", c.monitor.Spec.Endpoints)
		}
		e := c.monitor.Spec.Endpoints[0]
		interval, timeout := shippedScrapeInterval(t), shippedScrapeTimeout(t)
		if parseDuration(t, string(e.Interval)) != time.Duration(interval) || parseDuration(t, string(e.ScrapeTimeout)) != time.Duration(timeout) {
			t.Errorf("interval %s and timeout %s, prometheus.yml has %s and %s", e.Interval, e.ScrapeTimeout, interval, timeout)
		}
		r := e.RelabelConfigs
		if len(r) != 2 || r[0].TargetLabel != "job" || r[0].Replacement == nil || *r[0].Replacement != shippedJob(t) {
			t.Fatalf("relabelings are %+v, the job in prometheus.yml is %s", r, shippedJob(t))
		}
		if shipped := shippedScrape(t).RelabelConfigs[0]; r[1].Action != string(shipped.Action) || r[1].Regex != shipped.Regex.String() {
			t.Errorf("drops %+v, prometheus.yml drops %+v", r[1], shipped)
		}
	})
	t.Run("rules", func(t *testing.T) {
		if c.rule.Namespace != c.namespace.Name {
			t.Errorf("namespace is %q, want %q", c.rule.Namespace, c.namespace.Name)
		}
		checkRules(t, c.rule)
	})
}

// checkRules parses the rules of a PrometheusRule as Prometheus does.
func checkRules(t *testing.T, rule monitoringv1.PrometheusRule) *rulefmt.RuleGroups {
	t.Helper()
	spec, err := sigsyaml.Marshal(rule.Spec)
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(spec, false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	if len(errs) > 0 {
		t.Fatalf("Prometheus rejects the rules of the PrometheusRule: %v", errs)
	}
	return groups
}

// contains reports whether labels has every label of selector. It is false for an empty selector, which would select
// everything.
func contains(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

func parseDuration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := model.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(d)
}
