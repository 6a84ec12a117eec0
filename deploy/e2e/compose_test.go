package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

const (
	composeFile    = "../compose.yaml"
	prometheusFile = "../prometheus/prometheus.yml"
	exporterPort   = 10991
	imageUID       = 65532 // of the Dockerfile's USER
)

// exporterFlags are the exporter's flags that files in deploy/ may use.
var exporterFlags = []string{
	"web.listen-address", "web.config.file", "web.systemd-socket", "web.telemetry-path", "web.external-url", "web.route-prefix",
	"crs.region", "crs.endpoint", "crs.method", "crs.page-size", "crs.concurrency", "crs.rate-limit",
	"crs.request-timeout", "crs.redis-id", "crs.task-type", "crs.lookback", "crs.utc-offset",
	"crs.credentials-file", "scrape.timeout-offset", "scrape.min-interval", "state.file", "log.level", "log.format",
	"crs.role-arn", "demo", "check", "healthcheck",
}

// TestExporterFlags checks that the exporter has all flags of the list.
func TestExporterFlags(t *testing.T) {
	help := run(t, buildExporter(t), "--help")
	for _, f := range exporterFlags {
		if !regexp.MustCompile(`--(\[no-\])?` + regexp.QuoteMeta(f) + `\b`).MatchString(help) {
			t.Errorf("crs_exporter --help does not list --%s", f)
		}
	}
}

// checkFlags reports arguments that are not flags of the exporter.
func checkFlags(t *testing.T, args []string) {
	t.Helper()
	for _, a := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if !strings.HasPrefix(a, "--") || !slices.Contains(exporterFlags, name) {
			t.Errorf("the exporter has no flag %q", a)
		}
	}
}

var pinned = regexp.MustCompile(`^[a-z0-9./_-]+:v?\d+\.\d+\.\d+$`)

// checkPinned reports an image whose tag is not an exact version.
func checkPinned(t *testing.T, image string) {
	t.Helper()
	if !pinned.MatchString(image) {
		t.Errorf("image %q has no exact version", image)
	}
}

// loadPrometheus loads a Prometheus configuration with the code of Prometheus.
func loadPrometheus(t *testing.T, file string) *config.Config {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(string(b), promslog.NewNopLogger())
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c
}

// shippedScrape returns the scrape configuration of the exporter in the shipped prometheus.yml.
func shippedScrape(t *testing.T) *config.ScrapeConfig {
	t.Helper()
	jobs := loadPrometheus(t, prometheusFile).ScrapeConfigs
	if len(jobs) != 1 {
		t.Fatalf("%s has %d scrape configurations, want only that of the exporter", prometheusFile, len(jobs))
	}
	return jobs[0]
}

func shippedScrapeInterval(t *testing.T) model.Duration { return shippedScrape(t).ScrapeInterval }
func shippedScrapeTimeout(t *testing.T) model.Duration  { return shippedScrape(t).ScrapeTimeout }
func shippedJob(t *testing.T) string                    { return shippedScrape(t).JobName }

// loadProject loads the compose file as `docker compose` does. env is the complete environment of the caller.
func loadProject(t *testing.T, env ...string) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{composeFile}, cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", composeFile, err)
	}
	return project
}

func TestComposeExporter(t *testing.T) {
	keys := []string{"TENCENTCLOUD_SECRET_ID=id", "TENCENTCLOUD_SECRET_KEY=key"}
	for name, tc := range map[string]struct {
		env  []string
		args []string
	}{
		"demo":        {nil, []string{"--demo"}},
		"one region":  {append(keys, "CRS_EXPORTER_ARGS=--crs.region=ap-guangzhou"), []string{"--crs.region=ap-guangzhou"}},
		"two regions": {append(keys, "CRS_EXPORTER_ARGS=--crs.region=ap-guangzhou --crs.region=ap-beijing"), []string{"--crs.region=ap-guangzhou", "--crs.region=ap-beijing"}},
	} {
		t.Run(name, func(t *testing.T) {
			exporter := loadProject(t, tc.env...).Services["exporter"]
			if !slices.Equal(exporter.Command[2:], tc.args) {
				t.Errorf("command %q, want it to end with %q", exporter.Command, tc.args)
			}
			checkFlags(t, exporter.Command)
			goMemLimit := exporter.Environment["GOMEMLIMIT"]
			if goMemLimit == nil {
				t.Fatal("GOMEMLIMIT is not set")
			}
			checkMemoryLimit(t, *goMemLimit, int64(exporter.MemLimit))
			for _, name := range []string{"TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"} {
				v := exporter.Environment[name]
				if given := len(tc.env) > 0; (v != nil && *v != "") != given {
					t.Errorf("%s is passed to the container: %v, want %v", name, v != nil, given)
				}
			}
		})
	}
}

// TestComposeState checks that the exporter can write its state file. A new named volume on a directory of the image has
// the owner of that directory; on any other path it belongs to root.
func TestComposeState(t *testing.T) {
	exporter := loadProject(t).Services["exporter"]
	dir := filepath.Dir(flagValue(t, exporter.Command, "state.file"))
	if v := exporter.Volumes; len(v) != 1 || v[0].Type != types.VolumeTypeVolume || v[0].Target != dir {
		t.Errorf("volumes %+v, want a named one on %s", v, dir)
	}
	copied := regexp.MustCompile(fmt.Sprintf(`(?m)^COPY .*--chown=%d:%[1]d \S+ %s$`, imageUID, dir))
	if !copied.MatchString(readFile(t, "../../Dockerfile")) {
		t.Errorf("the image has no directory %s of the user", dir)
	}
}

// TestMove checks that an exporter that moves keeps its labels, but for the instance.
func TestMove(t *testing.T) {
	target := labels.FromStrings("job", "crs", "instance", "10.0.0.1:10991", "namespace", "crs-exporter", "account", "a",
		"node", "n", "container", "crs-exporter", "endpoint", "metrics", "service", "crs-exporter", "pod", "crs-exporter-x")
	want := labels.FromStrings("job", "crs", "instance", "10.0.0.1:10991", "namespace", "crs-exporter", "account", "a")
	got := labels.NewBuilder(target)
	if !relabel.ProcessBuilder(got, shippedScrape(t).RelabelConfigs...) || !labels.Equal(got.Labels(), want) {
		t.Errorf("labels %s, want %s", got.Labels(), want)
	}
}

func TestComposeServices(t *testing.T) {
	project := loadProject(t)
	if names := project.ServiceNames(); !slices.Equal(names, []string{"alertmanager", "exporter", "grafana", "prometheus"}) {
		t.Errorf("services %v", names)
	}
	for name, s := range project.Services {
		t.Run(name, func(t *testing.T) {
			if s.Build == nil {
				checkPinned(t, s.Image)
			} else if b, err := os.ReadFile(filepath.Join(s.Build.Context, "Dockerfile")); err != nil {
				t.Error(err)
			} else if want := fmt.Sprintf("%d:%[1]d", imageUID); s.User != want || !strings.Contains(string(b), "\nUSER "+want+"\n") {
				t.Errorf("user %s, want %s as in the Dockerfile", s.User, want)
			}
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
				t.Errorf("read_only %v, cap_drop %v, security_opt %v", s.ReadOnly, s.CapDrop, s.SecurityOpt)
			}
			if uid, _, _ := strings.Cut(s.User, ":"); uid == "" || uid == "0" {
				t.Errorf("user %q, want a user other than root", s.User)
			}
			for _, p := range s.Ports {
				if p.HostIP != "127.0.0.1" {
					t.Errorf("port %s is not bound to 127.0.0.1", p.Published)
				}
			}
			for _, v := range s.Volumes {
				if v.Type != types.VolumeTypeBind {
					continue
				}
				if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
					t.Errorf("mount %s: read-only %v, %v", v.Source, v.ReadOnly, err)
				}
			}
			for _, arg := range s.Command {
				if file, ok := strings.CutPrefix(arg, "--config.file="); ok {
					inHost(t, s, file)
				}
			}
		})
	}
}

// TestComposePrometheus checks that Prometheus uses the shipped configuration and rules, and has the addresses of the
// exporter and Alertmanager.
func TestComposePrometheus(t *testing.T) {
	project := loadProject(t)
	file := inHost(t, project.Services["prometheus"], "/etc/prometheus/prometheus.yml")
	if shipped, err := filepath.Abs(prometheusFile); err != nil || file != shipped {
		t.Errorf("configuration %s, want %s (%v)", file, shipped, err)
	}
	c := loadPrometheus(t, file)
	rules := inHost(t, project.Services["prometheus"], "/etc/prometheus/"+filepath.Dir(c.RuleFiles[0]))
	if shipped, err := filepath.Abs(filepath.Dir(rulesFile)); err != nil || len(c.RuleFiles) != 1 || rules != shipped {
		t.Errorf("rules in %s, want %s (%v)", rules, shipped, err)
	}
	for name, configs := range map[string]discovery.Configs{
		"exporter":     shippedScrape(t).ServiceDiscoveryConfigs,
		"alertmanager": c.AlertingConfig.AlertmanagerConfigs[0].ServiceDiscoveryConfigs,
	} {
		want := model.LabelValue(fmt.Sprintf("%s:%d", name, project.Services[name].Ports[0].Target))
		static, ok := configs[0].(discovery.StaticConfig)
		if !ok || len(configs) != 1 || len(static) != 1 || !reflect.DeepEqual(static[0].Targets, []model.LabelSet{{model.AddressLabel: want}}) {
			t.Errorf("address of %s is %+v, want %s", name, configs[0], want)
		}
	}
}

// TestComposeGrafana checks that Grafana has the address of Prometheus and finds the dashboard.
func TestComposeGrafana(t *testing.T) {
	project := loadProject(t)
	grafana := project.Services["grafana"]
	inHost(t, grafana, "/etc/grafana/provisioning/datasources/prometheus.yaml")
	var providers grafanaProviders
	decodeStrict(t, inHost(t, grafana, "/etc/grafana/provisioning/dashboards/crs-exporter.yaml"), &providers)
	inHost(t, grafana, providers.Providers[0].Options.Path+"/"+filepath.Base(dashboardFile))
	inHost(t, grafana, *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
	want := fmt.Sprintf("http://prometheus:%d", project.Services["prometheus"].Ports[0].Target)
	if got := *grafana.Environment["PROMETHEUS_URL"]; got != want {
		t.Errorf("PROMETHEUS_URL is %s, want %s", got, want)
	}
}

// TestComposeVersions checks that the images have the versions that the end-to-end tests run, and that the programs have
// the flags used.
func TestComposeVersions(t *testing.T) {
	project := loadProject(t)
	for name, tc := range map[string]struct {
		modfile string
		tag     func(version string) string // image tag of a module version
	}{
		// Prometheus 3.16.0 has the module version v0.316.0.
		"prometheus":   {"prometheus.mod", func(v string) string { return regexp.MustCompile(`^v0\.3(\d\d)\.`).ReplaceAllString(v, "v3.$1.") }},
		"alertmanager": {"alertmanager.mod", func(v string) string { return v }},
	} {
		t.Run(name, func(t *testing.T) {
			module := "github.com/prometheus/" + name
			// Not go list, which names no folder for a module that is not downloaded yet.
			out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-modfile="+tc.modfile, "-json", module).Output()
			if err != nil {
				t.Fatalf("go mod download %s: %v", module, err)
			}
			var m struct{ Version, Dir string }
			if err := json.Unmarshal(out, &m); err != nil {
				t.Fatal(err)
			}
			s := project.Services[name]
			if want := "prom/" + name + ":" + tc.tag(m.Version); s.Image != want {
				t.Errorf("image %s, want %s", s.Image, want)
			}
			source, err := os.ReadFile(filepath.Join(m.Dir, "cmd", name, "main.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, arg := range s.Command {
				flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
				if !strings.Contains(string(source), `"`+flag+`"`) {
					t.Errorf("%s has no flag --%s", name, flag)
				}
			}
		})
	}
}

// inHost returns the file in this repository that is mounted at path in a service.
func inHost(t *testing.T, s types.ServiceConfig, path string) string {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target); ok && v.Type == types.VolumeTypeBind {
			file := filepath.Join(v.Source, rest)
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s in service %s: %v", path, s.Name, err)
			}
			return file
		}
	}
	t.Errorf("no mount at %s in service %s", path, s.Name)
	return ""
}
