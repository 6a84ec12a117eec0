package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const imageUID = 65532 // of the Dockerfile's USER

// checkProcess checks the arguments and the memory limit of the exporter. Go collects
// garbage more often before the process reaches the limit.
func checkProcess(t *testing.T, args []string, goMemLimit string, limit int64) {
	t.Helper()
	help := run(t, exporter, "--help")
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		known := strings.Replace(regexp.QuoteMeta(name), "--", `--(\[no-\])?`, 1) + `[=\s]`
		if !regexp.MustCompile(known).MatchString(help) {
			t.Errorf("the exporter has no flag %q", a)
		}
	}
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

// checkPinned reports an image whose tag is not an exact version.
func checkPinned(t *testing.T, image string) {
	t.Helper()
	if !regexp.MustCompile(`^[a-z0-9./_-]+:v?\d+\.\d+\.\d+$`).MatchString(image) {
		t.Errorf("image %q has no exact version", image)
	}
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
		"":  {"", "--demo"},
		"x": {"CRS_EXPORTER_ARGS=--crs.region=gz --crs.region=bj", "--crs.region=gz --crs.region=bj"},
	} {
		exporter := loadServices(t, "TENCENTCLOUD_SECRET_KEY="+key, "TENCENTCLOUD_SECRET_ID="+key, tc.args)["exporter"]
		if got := strings.Join(exporter.Command, " "); !strings.HasSuffix(got, " "+tc.want) {
			t.Errorf("command %s, want it to end with %s", got, tc.want)
		}
		checkProcess(t, exporter.Command, "GOMEMLIMIT="+*exporter.Environment["GOMEMLIMIT"], int64(exporter.MemLimit))
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
		user := fmt.Sprintf("%d:%[1]d", imageUID)
		copied := regexp.MustCompile(`(?m)^COPY .*--chown=` + user + ` \S+ ` + state + `$`)
		if exporter.User != user || !strings.Contains(image, "\nUSER "+user+"\n") || !copied.MatchString(image) {
			t.Errorf("user %s, want %s as in the Dockerfile, which gives %s to this user", exporter.User, user, state)
		}
	}
}

func TestComposeServices(t *testing.T) {
	ports := map[string]string{"exporter": "10991", "prometheus": "9090", "alertmanager": "9093", "grafana": "3000"}
	for name, s := range loadServices(t) {
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

// TestComposeFiles checks that the services find the shipped files. TestInhibition checks that
// Prometheus has the addresses of the other services.
func TestComposeFiles(t *testing.T) {
	services, c := loadServices(t), loadPrometheus(t, readFile(t, prometheusFile))
	prometheus, alertmanager, grafana := services["prometheus"], services["alertmanager"], services["grafana"]
	config := flagValue(t, prometheus.Command, "config.file")
	wantMount(t, prometheus, config, prometheusFile)
	wantMount(t, prometheus, filepath.Join(filepath.Dir(config), filepath.Dir(c.RuleFiles[0]), filepath.Base(rulesFile)), rulesFile)
	wantMount(t, alertmanager, flagValue(t, alertmanager.Command, "config.file"), alertmanagerFile)
	home := *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	wantMount(t, grafana, home, dashboardFile)
	interval := c.ScrapeConfigs[0].ScrapeInterval.String() // Grafana computes $__rate_interval from it
	for file, parts := range map[string][]string{
		"dashboards/crs-exporter.yaml": {" path: " + filepath.Dir(home) + "\n"},
		"datasources/prometheus.yaml":  {" url: ${PROMETHEUS_URL}\n", " timeInterval: " + interval + "\n"},
	} {
		wantMount(t, grafana, "/etc/grafana/provisioning/"+file, "../grafana/provisioning/"+file)
		for _, part := range parts {
			if !strings.Contains(readFile(t, "../grafana/provisioning/"+file), part) {
				t.Errorf("%s does not contain %s", file, part)
			}
		}
	}
	if got := *grafana.Environment["PROMETHEUS_URL"]; got != "http://prometheus:9090" {
		t.Errorf("PROMETHEUS_URL is %s", got)
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
	services := loadServices(t)
	for _, name := range []string{"prometheus", "alertmanager"} {
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
	}
}
