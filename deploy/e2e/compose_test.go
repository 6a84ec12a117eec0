package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
)

const (
	exporterPort = 10991
	imageUID     = 65532 // of the Dockerfile's USER
)

var flagName = regexp.MustCompile(`--(?:\[no-\])?([a-z0-9.-]+)`)

// checkFlags reports arguments that are not flags of the exporter.
func checkFlags(t *testing.T, args []string) {
	t.Helper()
	var known []string
	for _, m := range flagName.FindAllStringSubmatch(run(t, exporter(t), "--help"), -1) {
		known = append(known, m[1])
	}
	for _, a := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if !strings.HasPrefix(a, "--") || !slices.Contains(known, name) {
			t.Errorf("the exporter has no flag %q", a)
		}
	}
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

var pinned = regexp.MustCompile(`^[a-z0-9./_-]+:v?\d+\.\d+\.\d+$`)

// checkPinned reports an image whose tag is not an exact version.
func checkPinned(t *testing.T, image string) {
	t.Helper()
	if !pinned.MatchString(image) {
		t.Errorf("image %q has no exact version", image)
	}
}

// loadProject loads the compose file as `docker compose` does. env is the complete
// environment of the caller.
func loadProject(t *testing.T, env ...string) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeExporter(t *testing.T) {
	for key, tc := range map[string]struct{ args, want string }{
		"":  {"", "--demo"},
		"x": {"CRS_EXPORTER_ARGS=--crs.region=gz --crs.region=bj", "--crs.region=gz --crs.region=bj"},
	} {
		exporter := loadProject(t, "TENCENTCLOUD_SECRET_KEY="+key, "TENCENTCLOUD_SECRET_ID="+key, tc.args).Services["exporter"]
		if got := strings.Join(exporter.Command, " "); !strings.HasSuffix(got, " "+tc.want) {
			t.Errorf("command %s, want it to end with %s", got, tc.want)
		}
		checkFlags(t, exporter.Command)
		checkMemoryLimit(t, *exporter.Environment["GOMEMLIMIT"], int64(exporter.MemLimit))
		for _, name := range []string{"TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"} {
			if v := exporter.Environment[name]; v == nil || *v != key {
				t.Errorf("%s is not that of the environment", name)
			}
		}

		// A new named volume on a directory of the image has the owner of that directory; on
		// any other path it belongs to root.
		state := filepath.Dir(flagValue(t, exporter.Command, "state.file"))
		if v := exporter.Volumes[0]; v.Type != types.VolumeTypeVolume || v.Target != state {
			t.Errorf("volume %+v, want a named one on %s", v, state)
		}
		image := readFile(t, filepath.Join(exporter.Build.Context, "Dockerfile"))
		copied := regexp.MustCompile(fmt.Sprintf(`(?m)^COPY .*--chown=%d:%[1]d \S+ %s$`, imageUID, state))
		if user := fmt.Sprintf("%d:%[1]d", imageUID); exporter.User != user || !strings.Contains(image, "\nUSER "+user+"\n") || !copied.MatchString(image) {
			t.Errorf("user %s, want %s as in the Dockerfile, which gives %s to this user", exporter.User, user, state)
		}
	}
}

func TestComposeServices(t *testing.T) {
	for name, s := range loadProject(t).Services {
		t.Run(name, func(t *testing.T) {
			if s.Build == nil {
				checkPinned(t, s.Image)
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
				if v.Type == types.VolumeTypeBind && !v.ReadOnly {
					t.Errorf("mount %s is not read-only", v.Source)
				}
			}
		})
	}
}

// TestComposeFiles checks that the services find the shipped files, and one another.
func TestComposeFiles(t *testing.T) {
	services := loadProject(t).Services
	prometheus, alertmanager, grafana := services["prometheus"], services["alertmanager"], services["grafana"]
	c := loadPrometheus(t)
	config := flagValue(t, prometheus.Command, "config.file")
	wantMount(t, prometheus, config, prometheusFile)
	wantMount(t, prometheus, filepath.Join(filepath.Dir(config), filepath.Dir(c.RuleFiles[0]), filepath.Base(rulesFile)), rulesFile)
	wantMount(t, alertmanager, flagValue(t, alertmanager.Command, "config.file"), alertmanagerFile)
	wantMount(t, grafana, "/etc/grafana/provisioning/datasources/prometheus.yaml", "../grafana/provisioning/datasources/prometheus.yaml")
	wantMount(t, grafana, "/etc/grafana/provisioning/dashboards/crs-exporter.yaml", "../grafana/provisioning/dashboards/crs-exporter.yaml")
	wantMount(t, grafana, *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], dashboardFile)
	provider, _ := loadProvisioning(t)
	wantMount(t, grafana, filepath.Join(provider.Options.Path, filepath.Base(dashboardFile)), dashboardFile)

	if got, want := *grafana.Environment["PROMETHEUS_URL"], fmt.Sprintf("http://prometheus:%d", prometheus.Ports[0].Target); got != want {
		t.Errorf("PROMETHEUS_URL is %s, want %s", got, want)
	}
	for name, configs := range map[string]discovery.Configs{
		"exporter":     shippedScrape(t).ServiceDiscoveryConfigs,
		"alertmanager": c.AlertingConfig.AlertmanagerConfigs[0].ServiceDiscoveryConfigs,
	} {
		address := model.LabelValue(fmt.Sprintf("%s:%d", name, services[name].Ports[0].Target))
		want := discovery.StaticConfig{{Targets: []model.LabelSet{{model.AddressLabel: address}}, Source: "0"}}
		if !reflect.DeepEqual(configs, discovery.Configs{want}) {
			t.Errorf("address of %s is %+v, want %s", name, configs[0], address)
		}
	}
}

// wantMount checks that a service has a file of this repository at path.
func wantMount(t *testing.T, s types.ServiceConfig, path, file string) {
	t.Helper()
	want, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target+"/"); ok && filepath.Join(v.Source, rest) == want {
			if _, err := os.Stat(want); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("%s does not have %s at %s", s.Name, file, path)
}

// TestComposeVersions checks that the images have the versions that these tests run, and
// that the programs have the flags used.
func TestComposeVersions(t *testing.T) {
	services := loadProject(t).Services
	for _, name := range []string{"prometheus", "alertmanager"} {
		t.Run(name, func(t *testing.T) {
			m := regexp.MustCompile(`github.com/prometheus/` + name + ` v(\S+)`).FindStringSubmatch(readFile(t, name+".mod"))
			// Prometheus 3.16.0 has the module version v0.316.0.
			version := regexp.MustCompile(`^0\.3(\d\d)\.`).ReplaceAllString(m[1], "3.$1.")
			if want := "prom/" + name + ":v" + version; services[name].Image != want {
				t.Errorf("image %s, want %s", services[name].Image, want)
			}
			help := run(t, program(t, name), "--help")
			for _, arg := range services[name].Command {
				if flag, _, _ := strings.Cut(arg, "="); !strings.Contains(help, flag+"=") {
					t.Errorf("%s has no flag %s", name, flag)
				}
			}
		})
	}
}
