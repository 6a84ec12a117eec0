package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const imageUID = 65532 // of the Dockerfile's USER

// checkProcess checks that the exporter accepts the arguments, and its memory limit. Go
// collects garbage more often before the process reaches the limit.
func checkProcess(t *testing.T, args []string, goMemLimit string, limit int64) {
	t.Helper()
	run(t, exporter, append(slices.Clone(args), "--version")...)
	if goMemLimit != "GOMEMLIMIT=450MiB" || limit != 512<<20 {
		t.Errorf("%s, the process may use %d MiB", goMemLimit, limit>>20)
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

// loadServices loads the compose file as `docker compose` does. env is the complete
// environment of the caller.
func loadServices(t *testing.T, env ...string) types.Services {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project.Services
}

func TestComposeExporter(t *testing.T) {
	for key, tc := range map[string]struct{ args, want string }{
		"":  {"", " --demo"},
		"x": {"CRS_EXPORTER_ARGS=--crs.region=gz --crs.region=bj", " --crs.region=gz --crs.region=bj"},
	} {
		exporter := loadServices(t, "TENCENTCLOUD_SECRET_KEY="+key, "TENCENTCLOUD_SECRET_ID="+key, tc.args)["exporter"]
		if got := strings.Join(exporter.Command, " "); !strings.HasSuffix(got, tc.want) {
			t.Errorf("command %s, want it to end with %s", got, tc.want)
		}
		env := exporter.Environment
		checkProcess(t, exporter.Command, "GOMEMLIMIT="+*env["GOMEMLIMIT"], int64(exporter.MemLimit))
		if *env["TENCENTCLOUD_SECRET_ID"] != key || *env["TENCENTCLOUD_SECRET_KEY"] != key {
			t.Errorf("environment %v, want the key of the caller", env)
		}
	}

	// A new named volume on a directory of the image has the owner of that directory; on
	// any other path it belongs to root.
	exporter := loadServices(t)["exporter"]
	state := filepath.Dir(flagValue(t, exporter.Command, "state.file"))
	if v := exporter.Volumes[0]; v.Type != types.VolumeTypeVolume || v.Target != state {
		t.Errorf("volume %+v, want a named one on %s", v, state)
	}
	image := readFile(t, filepath.Join(exporter.Build.Context, "Dockerfile"))
	user := fmt.Sprintf("%d:%[1]d", imageUID)
	copied := regexp.MustCompile(`(?m)^COPY .*--chown=` + user + ` \S+ ` + state + `$`)
	if exporter.User != user || !strings.Contains(image, "\nUSER "+user+"\n") || !copied.MatchString(image) {
		t.Errorf("user %s, want %s as in the Dockerfile, which gives %s to this user", exporter.User, user, state)
	}
}

func TestComposeServices(t *testing.T) {
	ports := map[string]string{"exporter": "10991", "prometheus": "9090", "alertmanager": "9093", "grafana": "3000"}
	pinned := regexp.MustCompile(`^[a-z0-9./_-]+:v?\d+\.\d+\.\d+$`)
	for name, s := range loadServices(t) {
		t.Run(name, func(t *testing.T) {
			if s.Build == nil && !pinned.MatchString(s.Image) {
				t.Errorf("image %q has no exact version", s.Image)
			}
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
				t.Errorf("read_only %v, cap_drop %v, security_opt %v", s.ReadOnly, s.CapDrop, s.SecurityOpt)
			}
			if uid, _, _ := strings.Cut(s.User, ":"); uid == "" || uid == "0" {
				t.Errorf("user %q, want a user other than root", s.User)
			}
			p := s.Ports[0]
			if len(s.Ports) != 1 || p.HostIP != "127.0.0.1" || p.Published != ports[name] || fmt.Sprint(p.Target) != ports[name] {
				t.Errorf("ports %+v, want %s, only on this machine", s.Ports, ports[name])
			}
			for _, v := range s.Volumes {
				if v.Type == types.VolumeTypeBind && !v.ReadOnly {
					t.Errorf("mount %s is not read-only", v.Source)
				}
			}
		})
	}
}

// TestComposeFiles checks that the services find the shipped files. TestAlertPath checks that
// Prometheus has the addresses of the other services.
func TestComposeFiles(t *testing.T) {
	services, c := loadServices(t), loadPrometheus(t, readFile(t, prometheusFile))
	prometheus, alertmanager, grafana := services["prometheus"], services["alertmanager"], services["grafana"]
	config := flagValue(t, prometheus.Command, "config.file")
	wantFile(t, prometheus, config, readFile(t, prometheusFile))
	rules := filepath.Join(filepath.Dir(config), filepath.Dir(c.RuleFiles[0]), filepath.Base(rulesFile))
	wantFile(t, prometheus, rules, readFile(t, rulesFile))
	wantFile(t, alertmanager, flagValue(t, alertmanager.Command, "config.file"), readFile(t, alertmanagerFile))
	home := *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	wantFile(t, grafana, home, readFile(t, dashboardFile))
	const provisioning = "/etc/grafana/provisioning/"
	wantFile(t, grafana, provisioning+"dashboards/crs-exporter.yaml", " path: "+filepath.Dir(home)+"\n")
	wantFile(t, grafana, provisioning+"datasources/prometheus.yaml", " url: ${PROMETHEUS_URL}\n")
	interval := c.ScrapeConfigs[0].ScrapeInterval.String() // Grafana computes $__rate_interval from it
	wantFile(t, grafana, provisioning+"datasources/prometheus.yaml", " timeInterval: "+interval+"\n")
	if got := *grafana.Environment["PROMETHEUS_URL"]; got != "http://prometheus:9090" {
		t.Errorf("PROMETHEUS_URL is %s", got)
	}
}

// wantFile checks that a service has a file at path, which contains text.
func wantFile(t *testing.T, s types.ServiceConfig, path, text string) {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target+"/"); ok {
			if !strings.Contains(readFile(t, filepath.Join(v.Source, rest)), text) {
				t.Errorf("%s of %s does not contain %s", path, s.Name, text)
			}
			return
		}
	}
	t.Errorf("%s does not have %s", s.Name, path)
}

// TestComposeVersions checks that the images have the versions that these tests run, and
// that the programs have the flags used.
func TestComposeVersions(t *testing.T) {
	services := loadServices(t)
	for _, name := range []string{"prometheus", "alertmanager"} {
		m := regexp.MustCompile(`github.com/prometheus/` + name + ` v(\S+)`).FindStringSubmatch(readFile(t, name+".mod"))
		// Prometheus 3.16.0 has the module version v0.316.0.
		version := regexp.MustCompile(`^0\.3(\d\d)\.`).ReplaceAllString(m[1], "3.$1.")
		if want := "prom/" + name + ":v" + version; services[name].Image != want {
			t.Errorf("image %s, want %s", services[name].Image, want)
		}
		run(t, program(t, name), append(slices.Clone(services[name].Command), "--version")...)
	}
}
