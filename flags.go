package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode"

	"github.com/alecthomas/kingpin/v2"
	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
)

const (
	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"

	envCredentialsFile = "TENCENTCLOUD_CREDENTIALS_FILE"
	envRegion          = "TENCENTCLOUD_REGION"
)

// settings is what flags and environment say. The packages that use a setting
// validate it; see settingError.
type settings struct {
	web           *web.FlagConfig
	telemetryPath string
	externalURL   string // without a slash at its end; empty if it is not set
	routePrefix   string // without a slash at its end; empty for none

	apiChoice  string        // see apiChoices
	api        crsapi.Config // of API 2.0; configOf has that of another
	v3Endpoint string
	rateLimit  *float64 // nil for that of the API
	given      given

	collector   collector.Config
	credentials credentials.Config

	logLevel, logFormat      string
	demo, check, healthcheck bool
	demoRetireAfter          time.Duration // 0 for never
}

// parseFlags returns nil without an error if the arguments only ask for --help
// or --version.
func parseFlags(args []string, stdout, stderr io.Writer) (*settings, error) {
	s := &settings{}
	app := newApplication(s)
	answered := false
	app.Terminate(func(int) { answered = true })
	app.UsageWriter(stdout).ErrorWriter(stderr)
	_, err := app.Parse(args)
	switch {
	case answered:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w; see --help", err)
	}
	if err := s.takePrefix(); err != nil {
		return nil, err
	}
	if s.healthcheck {
		return s, nil
	}
	if !s.given.credentialsFile {
		s.credentials.File = credentials.Trim(s.credentials.File)
	}
	if err := s.takeRegions(); err != nil {
		return nil, err
	}
	if err := s.validateAPI(); err != nil {
		return nil, err
	}
	return s, s.validateWeb()
}

// takeRegions splits the regions of the environment variable, and names the flag
// or the variable, whichever was used, if a name cannot be one.
func (s *settings) takeRegions() error {
	origin, advice := "--crs.region", "repeat the flag for each region"
	if !s.given.region {
		origin, advice = envRegion, "separate regions by commas or blanks, and use no quotes"
		s.collector.Regions = strings.FieldsFunc(strings.Join(s.collector.Regions, " "), func(r rune) bool {
			return r == ',' || unicode.IsSpace(r)
		})
	}
	for _, name := range s.collector.Regions {
		if !crsapi.IsRegionName(name) { // for an empty one, collector.New has an error
			return fmt.Errorf("%s must have only letters, digits and hyphens in the name of a region, not %q: %s", origin, name, advice)
		}
	}
	return nil
}

// newApplication returns the flags, which write to s.
func newApplication(s *settings) *kingpin.Application {
	app := kingpin.New("crs_exporter", "Prometheus exporter for the tasks of Tencent Cloud's Redis (CRS): backups, restores and others.\n\n"+
		"Secrets are not accepted as flags: set "+credentials.EnvSecretID+", "+credentials.EnvSecretKey+" and, for temporary credentials, "+credentials.EnvToken+", or use a credentials file.")
	app.Version(version.Print("crs_exporter"))
	app.VersionFlag.Help("Show the version, and exit.")
	app.HelpFlag.Short('h').Help("Show this help, and exit.")
	app.GetFlag("help-man").Help("Show this help as a manual page, and exit.")
	app.GetFlag("completion-script-bash").Help(`Completion for bash: eval "$(crs_exporter --completion-script-bash)"`)
	app.GetFlag("completion-script-zsh").Help(`Completion for zsh: eval "$(crs_exporter --completion-script-zsh)"`)
	app.UsageTemplate(helpTemplate).UsageFuncs(template.FuncMap{"groups": groupFlags, "label": flagLabel, "wrap": wrapHelp})

	s.api = crsapi.DefaultConfig(crsapi.API20)
	s.api.UserAgent = "crs_exporter/" + version.Version
	s.web = kingpinflag.AddFlags(app, ":10991")
	app.GetFlag("web.config.file").PlaceHolder("FILE")
	app.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").StringVar(&s.telemetryPath)
	app.Flag("web.external-url", "URL under which browsers reach the exporter, for links to its pages from alerts and dashboards (crs_pages_info). Its path is the default of --web.route-prefix.").
		PlaceHolder("URL").StringVar(&s.externalURL)
	app.Flag("web.route-prefix", "Prefix of all paths of the exporter. Default: the path of --web.external-url.").PlaceHolder("PATH").StringVar(&s.routePrefix)
	app.Flag("crs.region", "Region to watch, as the API calls it (ap-guangzhou, gz, ...). Repeatable; in the variable, commas or blanks separate regions.").
		Envar(envRegion).PlaceHolder("REGION").IsSetByUser(&s.given.region).StringsVar(&s.collector.Regions)
	add(app, "crs.api", "API to read the list through: 2.0, 3.0, tce for a private cloud (TCE), or auto for 2.0 and, where that is retired, 3.0.", &s.apiChoice, oneOf(apiChoices()...), apiAuto)
	app.Flag("crs.endpoint", "URL of API 2.0.").Default(s.api.Endpoint).IsSetByUser(&s.given.endpoint).StringVar(&s.api.Endpoint)
	app.Flag("crs.v3-endpoint", "URL of API 3.0 or of the private cloud; {region} in the host stands for the region. If only --crs.endpoint is set, API 3.0 is not used.").
		Default(crsapi.DefaultConfig(crsapi.API30).Endpoint).IsSetByUser(&s.given.v3Endpoint).StringVar(&s.v3Endpoint)
	app.Flag("crs.method", "HTTP method for requests of API 2.0: GET or POST.").Default(s.api.Method).IsSetByUser(&s.given.method).StringVar(&s.api.Method)
	add(app, "crs.page-size", "Tasks per page; API 3.0 has at most 100.", &s.api.PageSize, number, strconv.Itoa(s.api.PageSize))
	add(app, "crs.concurrency", "Requests in flight, per region.", &s.api.Concurrency, number, strconv.Itoa(s.api.Concurrency))
	app.Flag("crs.rate-limit", "Requests per second to one host, of all regions together; 0 for no limit. Default: 20 with API 2.0, 50 with the others.").
		PlaceHolder("N").SetValue(&flagValue[*float64]{name: "crs.rate-limit", target: &s.rateLimit, parse: perSecond})
	add(app, "crs.request-timeout", "Timeout of one HTTP request.", &s.api.RequestTimeout, duration, short(s.api.RequestTimeout))
	add(app, "crs.sync", "How lists are read: full (every page at every scrape), incremental (only what may have changed), or auto (full as long as that takes less than half of a scrape).", &s.collector.Sync, syncMode, string(collector.SyncAuto))
	add(app, "crs.full-sync-interval", "How long a list that is read incrementally goes without a full reading, which runs in the background.", &s.collector.FullSyncInterval, duration, "15m")
	app.Flag("crs.redis-id", "Watch only this instance. Repeatable.").PlaceHolder("ID").StringsVar(&s.collector.RedisIDs)
	app.Flag("crs.task-type", "Watch only tasks of this type: "+strings.Join(crsapi.API20.TaskTypes(), ", ")+". Repeatable.").PlaceHolder("TYPE").StringsVar(&s.collector.TaskTypes)
	add(app, "crs.lookback", "Watch only tasks submitted within this duration, such as 36h or 7d; 0 for all.", &s.collector.Lookback, duration, "0s")
	add(app, "crs.utc-offset", "Time zone of the API's times, as an offset from UTC.", &s.api.UTCOffset, duration, short(s.api.UTCOffset))
	app.Flag("crs.failure-reasons", "Log the vendor's reason of each new failure of a task, with API 3.0.").Default("true").BoolVar(&s.collector.FailureReasons)
	app.Flag("crs.credentials-file", "INI file with secret_id and secret_key in [default], used if the environment has no key. Default: ~/.tencentcloud/credentials.").
		Envar(envCredentialsFile).PlaceHolder("FILE").IsSetByUser(&s.given.credentialsFile).StringVar(&s.credentials.File)
	app.Flag("crs.role-arn", "ARN of a CAM role to assume, for example in another account (qcs::cam::uin/...:roleName/...).").PlaceHolder("ARN").StringVar(&s.credentials.RoleARN)
	add(app, "scrape.timeout-offset", "Safety margin subtracted from the scrape timeout.", &s.collector.TimeoutOffset, duration, "500ms")
	add(app, "scrape.min-interval", "A poll younger than this also answers the next scrape, for pairs of Prometheus servers; 0 to poll at every scrape.", &s.collector.MinInterval, duration, "0s")
	app.Flag("state.file", "File that keeps the transition counters across restarts; off by default. Use one file per process and account.").PlaceHolder("FILE").StringVar(&s.collector.StateFile)
	add(app, "log.level", "Log level: debug, info, warn or error.", &s.logLevel, oneOf("debug", "info", "warn", "error"), "info")
	add(app, "log.format", "Log format: logfmt or json.", &s.logFormat, oneOf("logfmt", "json"), "logfmt")
	app.Flag("demo", "Watch a simulated CRS with changing tasks; needs no account.").BoolVar(&s.demo)
	add(app, "demo.retire-after", "With --demo: retire API 2.0 after this duration; 0 for never.", &s.demoRetireAfter, duration, "0s")
	app.Flag("check", "Poll each region once through each API, print a table of the results, with advice, and exit with 0 or 1.").BoolVar(&s.check)
	app.Flag("healthcheck", "Check the health of the exporter at each --web.listen-address, and exit with 0 or 1. With --web.systemd-socket, give the addresses of the socket as --web.listen-address here.").BoolVar(&s.healthcheck)
	return app
}

// add adds a flag whose errors name it, which kingpin's own do not.
func add[T any](app *kingpin.Application, name, help string, target *T, parse func(string) (T, error), preset string) {
	app.Flag(name, help).Default(preset).SetValue(&flagValue[T]{name: name, target: target, parse: parse})
}

type flagValue[T any] struct {
	name, text string
	target     *T
	parse      func(string) (T, error)
}

// String implements kingpin.Value.
func (v *flagValue[T]) String() string { return v.text }

// Set implements kingpin.Value.
func (v *flagValue[T]) Set(text string) error {
	value, err := v.parse(text)
	if err != nil {
		return fmt.Errorf("--%s must be %w, not %q", v.name, err, text)
	}
	*v.target, v.text = value, text
	return nil
}

func syncMode(text string) (collector.Sync, error) {
	var names []string
	for _, s := range collector.Syncs() {
		names = append(names, string(s))
	}
	name, err := oneOf(names...)(text)
	return collector.Sync(name), err
}

func number(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		err = errors.New("a whole number")
	}
	return n, err
}

func perSecond(text string) (*float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0) || math.IsInf(n, 0) { // NaN fails every comparison
		return nil, errors.New("a number of 0 or more")
	}
	return &n, nil
}

// duration accepts Go's form (1h30m, 500ms) and that of Prometheus (7d).
func duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	days, err := model.ParseDuration(text)
	if err != nil {
		err = errors.New("a duration such as 90s, 1h30m or 7d")
	}
	return time.Duration(days), err
}

func short(d time.Duration) string { return model.Duration(d).String() }

func oneOf(allowed ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		if !slices.Contains(allowed, text) {
			return "", errors.New("one of " + strings.Join(allowed, ", "))
		}
		return text, nil
	}
}

// flagOf maps the fields that a *crsapi.ConfigError can name to their flags.
var flagOf = map[string]string{
	"Regions":          "--crs.region or " + envRegion,
	"Region":           "--crs.region",
	"Endpoint":         "--crs.endpoint",
	"V3Endpoint":       "--crs.v3-endpoint",
	"Method":           "--crs.method",
	"PageSize":         "--crs.page-size",
	"Concurrency":      "--crs.concurrency",
	"RequestTimeout":   "--crs.request-timeout",
	"RedisIDs":         "--crs.redis-id",
	"TaskTypes":        "--crs.task-type",
	"Lookback":         "--crs.lookback",
	"FullSyncInterval": "--crs.full-sync-interval",
	"UTCOffset":        "--crs.utc-offset",
	"TimeoutOffset":    "--scrape.timeout-offset",
	"MinInterval":      "--scrape.min-interval",
}

// settingError names the flag instead of the field.
func settingError(err error) error {
	var invalid *crsapi.ConfigError
	if errors.As(err, &invalid) {
		if flag, ok := flagOf[invalid.Field]; ok {
			return errors.New(flag + " " + invalid.Problem)
		}
	}
	return err
}

// servablePath has only characters that a mux matches literally and a page
// links without escaping.
var servablePath = regexp.MustCompile(`^(/[A-Za-z0-9_.~-]+)+$`)

// takePrefix reads --web.external-url and --web.route-prefix as Prometheus does.
func (s *settings) takePrefix() error {
	if s.externalURL != "" {
		u, err := url.Parse(s.externalURL)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "":
			return errors.New("--web.external-url must be like https://example.com/crs, without user, query and fragment") // it may have a password
		}
		u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
		s.externalURL = u.String()
		s.collector.PagesURL = s.externalURL
		if s.routePrefix == "" {
			s.routePrefix = u.Path
		}
	}
	s.routePrefix = strings.Trim(s.routePrefix, "/")
	if s.routePrefix == "" {
		return nil
	}
	s.routePrefix = "/" + s.routePrefix
	if !servablePath.MatchString(s.routePrefix) || path.Clean(s.routePrefix) != s.routePrefix {
		return fmt.Errorf("--web.route-prefix, by default the path of --web.external-url, must be like /crs, not %q", s.routePrefix)
	}
	return nil
}

// validateWeb validates what the web server uses.
func (s *settings) validateWeb() error {
	telemetry := s.telemetryPath
	if taken := []string{healthyPath, readyPath, tasksPath, backupsPath}; !servablePath.MatchString(telemetry) || path.Clean(telemetry) != telemetry || slices.Contains(taken, telemetry) {
		return fmt.Errorf("--web.telemetry-path must be like /metrics, and none of %s", strings.Join(taken, ", "))
	}
	for _, address := range *s.web.WebListenAddresses {
		if _, _, err := net.SplitHostPort(strings.TrimPrefix(address, vsockScheme)); err != nil {
			return fmt.Errorf("--web.listen-address must be like :10991 or 127.0.0.1:10991, not %q", address)
		}
	}
	if err := web.Validate(*s.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	return nil
}
