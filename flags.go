package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kingpin/v2"
	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest/demo"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
)

const (
	envCredentialsFile = "TENCENTCLOUD_CREDENTIALS_FILE"
	envRegion          = "TENCENTCLOUD_REGION"

	apiAuto crsapi.API = "auto" // of --crs.api
)

// settings are the flags. The packages that use a setting validate it; see flagError.
type settings struct {
	web           *web.FlagConfig
	telemetryPath string
	externalPath  string // path of --web.external-url, as /crs; empty for none
	routePrefix   string // as /crs; empty for none

	apiChoice  crsapi.API
	api        crsapi.Config // of API 2.0; configs has those in use
	v3Endpoint string
	rateLimit  float64
	given      struct{ endpoint, v3Endpoint, rateLimit bool } // as a flag

	collector   collector.Config
	credentials credentials.Config

	logLevel, logFormat      string
	demo, check, healthcheck bool
	demoRetireAfter          time.Duration
}

// newApplication returns the flags, which write to s.
func newApplication(s *settings) *kingpin.Application {
	app := kingpin.New("crs_exporter", "Prometheus exporter for the tasks of Tencent Cloud's Redis (CRS): backups, restores and others.\n\n"+
		"Secrets are not accepted as flags: set "+credentials.EnvSecretID+", "+credentials.EnvSecretKey+" and, for temporary credentials, "+credentials.EnvToken+", or use a credentials file.")
	app.Version(version.Print("crs_exporter"))
	app.HelpFlag.Short('h')

	s.api = crsapi.DefaultConfig(crsapi.API20)
	s.api.UserAgent = "crs_exporter/" + version.Version
	s.web = kingpinflag.AddFlags(app, ":10991")
	app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").StringVar(&s.telemetryPath)
	app.Flag("web.external-url", "URL under which browsers reach the exporter, for links to its pages from alerts and dashboards (crs_pages_info). Its path is the default of --web.route-prefix.").
		PlaceHolder("URL").StringVar(&s.collector.PagesURL)
	app.Flag("web.route-prefix", "Prefix of all paths of the exporter. Default: the path of --web.external-url.").PlaceHolder("PATH").StringVar(&s.routePrefix)
	app.Flag("crs.region", "Region to watch, as the API calls it (ap-guangzhou, gz, ...). Repeatable; commas or blanks separate several regions.").
		Envar(envRegion).PlaceHolder("REGION").StringsVar(&s.collector.Regions)
	app.Flag("crs.api", "API to read the list through: 2.0, 3.0, tce for a private cloud (TCE), or auto for 2.0 and, where that is retired, 3.0.").
		Default(string(apiAuto)).EnumVar((*string)(&s.apiChoice), string(apiAuto), string(crsapi.API20), string(crsapi.API30), string(crsapi.APITCE))
	app.Flag("crs.endpoint", "URL of API 2.0.").Default(s.api.Endpoint).IsSetByUser(&s.given.endpoint).StringVar(&s.api.Endpoint)
	app.Flag("crs.v3-endpoint", "URL of API 3.0 or of the private cloud; {region} in the host is replaced by the region. If only --crs.endpoint is set, API 3.0 is not used.").
		Default(crsapi.DefaultConfig(crsapi.API30).Endpoint).IsSetByUser(&s.given.v3Endpoint).StringVar(&s.v3Endpoint)
	app.Flag("crs.method", "HTTP method for requests of API 2.0: GET or POST.").Default(s.api.Method).StringVar(&s.api.Method)
	app.Flag("crs.page-size", "Tasks per page; API 3.0 has at most 100.").Default("100").IntVar(&s.api.PageSize)
	app.Flag("crs.concurrency", "Requests in flight, per region.").Default("8").IntVar(&s.api.Concurrency)
	app.Flag("crs.rate-limit", "Requests per second to one host, of all regions together; 0 for no limit. Default: 20 with API 2.0, 50 with the others.").
		PlaceHolder("N").IsSetByUser(&s.given.rateLimit).Float64Var(&s.rateLimit)
	app.Flag("crs.request-timeout", "Timeout of one HTTP request.").Default("5s").DurationVar(&s.api.RequestTimeout)
	app.Flag("crs.sync", "How much of the lists a scrape reads: full (every page), incremental (what may have changed, and a share of the rest), or auto (every page if that takes less than half of the scrape timeout).").
		Default(string(collector.SyncAuto)).EnumVar((*string)(&s.collector.Sync), string(collector.SyncAuto), string(collector.SyncFull), string(collector.SyncIncremental))
	app.Flag("crs.full-sync-interval", "Each page is read again within this time.").Default("15m").DurationVar(&s.collector.FullSyncInterval)
	app.Flag("crs.redis-id", "Watch only this instance. Repeatable. More than 50 need a key that may list the region.").PlaceHolder("ID").StringsVar(&s.collector.RedisIDs)
	app.Flag("crs.task-type", "Watch only tasks of this type: "+strings.Join(crsapi.API20.TaskTypes(), ", ")+". Repeatable.").PlaceHolder("TYPE").StringsVar(&s.collector.TaskTypes)
	app.Flag("crs.lookback", "Watch only tasks submitted within this duration, such as 36h or 7d; 0 for all.").Default("0s").DurationVar(&s.collector.Lookback)
	app.Flag("crs.inventory", "Interval between readings of all instances of each region, through API 3.0, to find those without any backup: from 1m to 1h, or 0 for never. Needs the permission redis:DescribeInstances.").
		Default("0s").DurationVar(&s.collector.Inventory)
	app.Flag("crs.utc-offset", "Time zone of the API's times, as an offset from UTC.").Default("8h").DurationVar(&s.api.UTCOffset)
	app.Flag("crs.failure-reasons", "Log the vendor's reason of each new failure of a task, with API 3.0.").Default("true").BoolVar(&s.collector.FailureReasons)
	app.Flag("crs.credentials-file", "INI file with secret_id and secret_key in [default], used if the environment has no key. Default: ~/.tencentcloud/credentials.").
		Envar(envCredentialsFile).PlaceHolder("FILE").StringVar(&s.credentials.File)
	app.Flag("crs.role-arn", "ARN of a CAM role to assume, for example in another account (qcs::cam::uin/...:roleName/...).").PlaceHolder("ARN").StringVar(&s.credentials.RoleARN)
	app.Flag("scrape.timeout-offset", "Safety margin subtracted from the scrape timeout.").Default("500ms").DurationVar(&s.collector.TimeoutOffset)
	app.Flag("scrape.min-interval", "A poll younger than this also answers the next scrape, for pairs of Prometheus servers; 0 to poll at every scrape.").
		Default("0s").DurationVar(&s.collector.MinInterval)
	app.Flag("state.file", "File that keeps the facts and the transition counters across restarts; off by default. Use one file per process and account.").PlaceHolder("FILE").StringVar(&s.collector.StateFile)
	app.Flag("log.level", "Log level: debug, info, warn or error.").Default("info").EnumVar(&s.logLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Log format: logfmt or json.").Default("logfmt").EnumVar(&s.logFormat, "logfmt", "json")
	app.Flag("demo", "Watch a simulated CRS with changing tasks; needs no account.").BoolVar(&s.demo)
	app.Flag("demo.retire-after", "With --demo: retire API 2.0 after this duration; 0 for never.").Default("0s").DurationVar(&s.demoRetireAfter)
	app.Flag("check", "Poll each region once, print the results with advice, and exit with 0 or 1. Use --crs.api=3.0 to check API 3.0.").BoolVar(&s.check)
	app.Flag("healthcheck", "Check the health of the exporter at the first TCP address of --web.listen-address, and exit with 0 or 1. With --web.systemd-socket, set --web.listen-address to an address of the socket.").
		BoolVar(&s.healthcheck)
	return app
}

// parseFlags returns nil without an error if the arguments only ask for --help or
// --version.
func parseFlags(args []string, stdout, stderr io.Writer) (*settings, error) {
	s := &settings{}
	app := newApplication(s)
	exits := false
	app.Terminate(func(int) { exits = true })
	_, err := app.UsageWriter(stdout).ErrorWriter(stderr).Parse(args)
	switch {
	case exits:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s%w; see --help", invalidFlag(app, args), err)
	}
	if err := s.parsePaths(); err != nil || s.healthcheck {
		return s, err
	}
	s.collector.Regions = strings.FieldsFunc(strings.Join(s.collector.Regions, ","), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	for i, id := range s.collector.RedisIDs {
		s.collector.RedisIDs[i] = strings.TrimSpace(id)
	}
	if s.demo && len(s.collector.Regions) == 0 {
		s.collector.Regions = demo.Regions()
	}
	if len(s.collector.Regions) == 0 { // before credentials are searched for
		return nil, fmt.Errorf("--crs.region or %s must name at least one region", envRegion)
	}
	s.credentials.File = credentials.Trim(s.credentials.File)
	s.credentials.PrivateCloud = s.apiChoice == crsapi.APITCE
	if err := web.Validate(*s.web.WebConfigFile); err != nil {
		return nil, fmt.Errorf("--web.config.file: %w", err)
	}
	return s, s.validateAPI()
}

// invalidFlag returns the flag whose value is invalid, such as "--crs.page-size: ", for
// kingpin's errors do not name it. It is empty if the value is not to blame.
func invalidFlag(app *kingpin.Application, args []string) string {
	parsed, err := app.ParseContext(args)
	if err != nil {
		return ""
	}
	for _, element := range parsed.Elements {
		if flag, ok := element.Clause.(*kingpin.FlagClause); ok && flag.Model().Value.Set(*element.Value) != nil {
			return "--" + flag.Model().Name + ": "
		}
	}
	return ""
}

var (
	externalURL = regexp.MustCompile(`^(https?://[^/?#@\s]+)((/[^/?#@]+)*)/*$`)
	// servablePath has only characters that a mux matches literally and a page links
	// without escaping, and no element that a mux would clean.
	servablePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+$`)
)

// parsePaths reads --web.external-url and --web.route-prefix as Prometheus does.
func (s *settings) parsePaths() error {
	parts := externalURL.FindStringSubmatch(s.collector.PagesURL)
	if parts != nil {
		s.collector.PagesURL = parts[1] + parts[2]
		s.externalPath = parts[2]
		s.routePrefix = cmp.Or(s.routePrefix, s.externalPath)
	}
	s.routePrefix = strings.TrimRight("/"+strings.Trim(s.routePrefix, "/"), "/")
	taken := []string{collector.HealthyPath, collector.ReadyPath, "/tasks", "/backups"}
	switch {
	case parts == nil && s.collector.PagesURL != "": // it may have a password
		return errors.New("--web.external-url must be like https://example.com/crs, without user, query and fragment")
	case s.routePrefix != "" && !servablePath.MatchString(s.routePrefix):
		return fmt.Errorf("--web.route-prefix, by default the path of --web.external-url, must be like /crs, not %q", s.routePrefix)
	case !servablePath.MatchString(s.telemetryPath) || slices.Contains(taken, s.telemetryPath):
		return fmt.Errorf("--web.telemetry-path must be like /metrics, and none of %s", strings.Join(taken, ", "))
	}
	return nil
}

// validateAPI validates what --crs.api requires of other flags.
func (s *settings) validateAPI() error {
	without2 := s.apiChoice == crsapi.API30 || s.apiChoice == crsapi.APITCE
	public3 := !s.given.v3Endpoint && !s.demo
	switch {
	case s.demoRetireAfter != 0 && !s.demo:
		return errors.New("--demo.retire-after needs --demo")
	case !(s.rateLimit >= 0 && s.rateLimit <= 1e6): // NaN fails every comparison
		return errors.New("--crs.rate-limit must be from 0 to 1000000")
	case without2 && s.given.endpoint && public3:
		return fmt.Errorf("--crs.endpoint is for API 2.0 only: use --crs.v3-endpoint with --crs.api=%s", s.apiChoice)
	case s.apiChoice == crsapi.APITCE && public3:
		return errors.New("--crs.api=tce needs --crs.v3-endpoint, the URL of the private cloud's API")
	}
	return nil
}

// configs returns the configurations of the APIs that regions are read through, in the
// order in which a region switches from one to the next.
func (s *settings) configs() (all []crsapi.Config) {
	apis := []crsapi.API{s.apiChoice}
	if s.apiChoice == apiAuto {
		apis = []crsapi.API{crsapi.API20, crsapi.API30}
		if s.given.endpoint && !s.given.v3Endpoint && !s.demo {
			apis = apis[:1] // with a custom endpoint, the public one is never used
		}
	}
	for _, api := range apis {
		cfg, preset := s.api, crsapi.DefaultConfig(api)
		cfg.API, cfg.Limiter = api, preset.Limiter
		if s.given.rateLimit {
			cfg.Limiter = crsapi.NewLimiter(s.rateLimit)
		}
		if api != crsapi.API20 {
			cfg.Endpoint, cfg.Method, cfg.PageSize = s.v3Endpoint, preset.Method, min(cfg.PageSize, api.MaxPageSize())
		}
		all = append(all, cfg)
	}
	return all
}

// warnings returns messages about settings with less effect than the user may expect.
func (s *settings) warnings(configs []crsapi.Config) (all []string) {
	last := configs[len(configs)-1]
	if last.PageSize < s.api.PageSize {
		all = append(all, fmt.Sprintf("--crs.page-size is reduced to %d with API %s, which has no larger pages", last.PageSize, last.API))
	}
	if last.API == crsapi.API30 && s.collector.Lookback > collector.MaxLookback30 {
		all = append(all, "API 3.0 lists the tasks of the last 30 days: a longer --crs.lookback has no effect there")
	}
	if !s.demo && slices.ContainsFunc(configs, func(cfg crsapi.Config) bool { return strings.HasPrefix(cfg.Endpoint, "http://") }) {
		all = append(all, "the endpoint is plain http: others on the network can read tasks and key id")
	}
	return all
}

// demoPages returns what to open in a browser, on this machine unless there is an
// external URL.
func (s *settings) demoPages() string {
	base := s.collector.PagesURL
	if base == "" {
		host, port, _ := net.SplitHostPort((*s.web.WebListenAddresses)[0])
		if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
			host = "localhost"
		}
		base = "http://" + net.JoinHostPort(host, port) + s.routePrefix
	}
	return "Demo of a simulated account, no real one is needed. Status: " + base + "/\n" +
		"  calendar of backups: " + base + "/backups\n" +
		"  tasks: " + base + "/tasks\n" +
		"  metrics for Prometheus: " + base + s.telemetryPath
}

// flagError returns the error of an invalid field of a Config with the name of its flag,
// which has the same letters.
func flagError(err error) error {
	var invalid *crsapi.ConfigError
	if !errors.As(err, &invalid) {
		return err
	}
	for _, flag := range newApplication(&settings{}).Model().Flags {
		_, name, _ := strings.Cut(flag.Name, ".")
		if plural := strings.ToLower(invalid.Field); name != "" && strings.TrimSuffix(plural, "s") == strings.ReplaceAll(name, "-", "") {
			return fmt.Errorf("--%s %s", strings.TrimSuffix(flag.Name+" or "+flag.Envar, " or "), invalid.Problem)
		}
	}
	return err
}
