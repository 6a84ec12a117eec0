package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
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

	maxPageSize    = 1000
	maxConcurrency = 256
	maxLookback    = 10 * 365 * 24 * time.Hour
)

// config is what the flags and the environment say, checked.
type config struct {
	web           *web.FlagConfig
	telemetryPath string

	regions         []string
	endpoint        string
	method          string
	pageSize        int
	concurrency     int
	rateLimit       float64
	requestTimeout  time.Duration
	redisIDs        []string
	taskTypes       []string
	lookback        time.Duration
	utcOffset       time.Duration
	credentialsFile string
	roleARN         string
	credentials     credentials.Provider

	timeoutOffset time.Duration
	minInterval   time.Duration
	stateFile     string

	logLevel, logFormat string
	demo, healthcheck   bool
	checkOnly           bool
}

// parseFlags returns nil without an error where --help or --version was all
// that was asked for.
func parseFlags(ctx context.Context, args []string, stdout, stderr io.Writer) (*config, error) {
	var cfg config
	app := newApplication(&cfg)
	answered := false
	app.Terminate(func(int) { answered = true })
	app.UsageWriter(stdout).ErrorWriter(stderr)
	_, err := app.Parse(args)
	switch {
	case answered:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w; see --help", err)
	case cfg.healthcheck:
		return &cfg, nil
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if !cfg.demo {
		if cfg.credentials, err = findCredentials(ctx, credentials.Config{File: cfg.credentialsFile, RoleARN: cfg.roleARN}); err != nil {
			return nil, err
		}
	}
	return &cfg, nil
}

// newApplication returns the flags, which write to cfg.
func newApplication(cfg *config) *kingpin.Application {
	app := kingpin.New("crs_exporter", "Prometheus exporter for the tasks of Tencent Cloud's Redis (CRS): backups, restores and the rest.\n\n"+
		"The key pair never comes by a flag: set "+credentials.EnvSecretID+", "+credentials.EnvSecretKey+" and, for temporary credentials, "+credentials.EnvToken+", or write a credentials file.")
	app.Version(version.Print("crs_exporter"))
	app.HelpFlag.Short('h')

	set := settings{app}
	cfg.web = kingpinflag.AddFlags(app, ":10991")
	app.Flag("web.telemetry-path", "Path that the metrics are served at.").Default("/metrics").StringVar(&cfg.telemetryPath)
	app.Flag("crs.region", "Region to watch, as the API calls it (ap-guangzhou, gz, ...). Repeatable.").Envar(envRegion).PlaceHolder("REGION").StringsVar(&cfg.regions)
	app.Flag("crs.endpoint", "URL of the API.").Default(crsapi.DefaultConfig().Endpoint).StringVar(&cfg.endpoint)
	set.add("crs.method", "HTTP method that the API is asked by: GET or POST.", "GET", oneOf(&cfg.method, http.MethodGet, http.MethodPost))
	set.add("crs.page-size", "Tasks to a page.", "100", from1To(&cfg.pageSize, maxPageSize))
	set.add("crs.concurrency", "Requests in flight, per region.", "8", from1To(&cfg.concurrency, maxConcurrency))
	set.add("crs.rate-limit", "Requests a second, per region; 0 for no limit.", "20", rate(&cfg.rateLimit))
	set.add("crs.request-timeout", "How long one attempt at a request may take.", "5s", duration(&cfg.requestTimeout, time.Millisecond, time.Hour))
	app.Flag("crs.redis-id", "Watch only this instance. Repeatable.").PlaceHolder("ID").StringsVar(&cfg.redisIDs)
	app.Flag("crs.task-type", "Watch only tasks of this type: "+strings.Join(crsapi.TaskTypes(), ", ")+". Repeatable.").PlaceHolder("TYPE").StringsVar(&cfg.taskTypes)
	set.add("crs.lookback", "Watch only tasks submitted in this last while, such as 36h or 7d; 0 for all.", "0s", duration(&cfg.lookback, 0, maxLookback))
	set.add("crs.utc-offset", "Zone of the API's times, east of Greenwich.", "8h", duration(&cfg.utcOffset, -12*time.Hour, 14*time.Hour))
	app.Flag("crs.credentials-file", "INI file with secret_id and secret_key in [default], read where the environment has no key. Default: ~/.tencentcloud/credentials.").
		Envar(envCredentialsFile).PlaceHolder("FILE").StringVar(&cfg.credentialsFile)
	app.Flag("crs.role-arn", "Role to take on, maybe of another account, by the credentials that are found (qcs::cam::uin/...:roleName/...).").PlaceHolder("ARN").StringVar(&cfg.roleARN)
	set.add("scrape.timeout-offset", "Taken off the scrape's timeout, for the way there and back.", "500ms", duration(&cfg.timeoutOffset, 0, time.Hour))
	set.add("scrape.min-interval", "A poll younger than this answers the next scrape, too, for pairs of Prometheus; 0 to poll at every scrape.", "0s", duration(&cfg.minInterval, 0, time.Hour))
	app.Flag("state.file", "File that keeps the counters of transitions across restarts; off by default. One process and one account to a file.").PlaceHolder("FILE").StringVar(&cfg.stateFile)
	set.add("log.level", "Least level that is logged: debug, info, warn or error.", "info", oneOf(&cfg.logLevel, "debug", "info", "warn", "error"))
	set.add("log.format", "Form of the log: logfmt or json.", "logfmt", oneOf(&cfg.logFormat, "logfmt", "json"))
	app.Flag("demo", "Watch a simulated CRS with tasks that move; no account is needed.").BoolVar(&cfg.demo)
	app.Flag("check", "Ask each region once, print a table of what came of it and what to do about it, and exit with 0 or 1.").BoolVar(&cfg.checkOnly)
	app.Flag("healthcheck", "Ask the exporter that runs at --web.listen-address whether it is healthy, and exit with 0 or 1.").BoolVar(&cfg.healthcheck)

	return app
}

// settings adds flags whose errors name them, which kingpin's own do not.
type settings struct{ app *kingpin.Application }

func (s settings) add(name, help, preset string, set func(string) error) {
	s.app.Flag(name, help).Default(preset).SetValue(&setting{name, "", set})
}

type setting struct {
	name, text string
	set        func(string) error
}

// String implements kingpin.Value.
func (s *setting) String() string { return s.text }

// Set implements kingpin.Value.
func (s *setting) Set(text string) error {
	if err := s.set(text); err != nil {
		return fmt.Errorf("--%s must be %w, not %q", s.name, err, text)
	}
	s.text = text
	return nil
}

func oneOf(target *string, allowed ...string) func(string) error {
	return func(text string) error {
		if !slices.Contains(allowed, text) {
			return errors.New("one of " + strings.Join(allowed, ", "))
		}
		*target = text
		return nil
	}
}

func from1To(target *int, most int) func(string) error {
	return func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return fmt.Errorf("a number from 1 to %d", most)
		}
		*target = n
		return nil
	}
}

func rate(target *float64) func(string) error {
	return func(text string) error {
		r, err := strconv.ParseFloat(text, 64)
		if err != nil || !(r >= 0) || math.IsInf(r, 0) {
			return errors.New("0 or more requests a second")
		}
		*target = r
		return nil
	}
}

// duration takes what Go writes (1h30m, 500ms) and what Prometheus does (7d).
func duration(target *time.Duration, least, most time.Duration) func(string) error {
	return func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			var days model.Duration
			days, err = model.ParseDuration(text)
			d = time.Duration(days)
		}
		if err != nil || d < least || d > most {
			return fmt.Errorf("a duration such as 90s or 1h30m, from %s to %s", least, most)
		}
		*target = d
		return nil
	}
}

// servablePath is what a mux matches literally and a page links unescaped.
var servablePath = regexp.MustCompile(`^(/[A-Za-z0-9_.~-]+)+$`)

// check looks for what could not work, before anything listens.
func (c *config) check() error {
	if c.demo && len(c.regions) == 0 {
		c.regions = demoRegions()
	}
	client := crsapi.DefaultConfig()
	client.Region, client.Credentials, client.Endpoint = "any", credentials.Static{}, c.endpoint
	_, err := crsapi.NewClient(client)
	switch {
	case len(c.regions) == 0:
		return fmt.Errorf("no region to watch: give --crs.region or set %s", envRegion)
	case slices.Contains(c.regions, ""):
		return errors.New("--crs.region is empty")
	case len(slices.Compact(slices.Sorted(slices.Values(c.regions)))) < len(c.regions):
		return errors.New("--crs.region is given twice for the same region")
	case slices.Contains(c.redisIDs, ""):
		return errors.New("--crs.redis-id is empty")
	case c.utcOffset%time.Minute != 0:
		return errors.New("--crs.utc-offset must be whole minutes")
	case err != nil:
		return errors.New("--crs.endpoint must be an http or https URL of host and path alone")
	case !servablePath.MatchString(c.telemetryPath) || path.Clean(c.telemetryPath) != c.telemetryPath || c.telemetryPath == healthyPath || c.telemetryPath == readyPath:
		return fmt.Errorf("--web.telemetry-path must be like /metrics, and neither %s nor %s", healthyPath, readyPath)
	}
	for _, taskType := range c.taskTypes {
		if !slices.Contains(crsapi.TaskTypes(), taskType) {
			return fmt.Errorf("--crs.task-type must be one of %s, not %q", strings.Join(crsapi.TaskTypes(), ", "), taskType)
		}
	}
	for _, address := range *c.web.WebListenAddresses {
		if _, _, err := net.SplitHostPort(strings.TrimPrefix(address, "vsock://")); err != nil {
			return fmt.Errorf("--web.listen-address %q must be like :10991 or 127.0.0.1:10991", address)
		}
	}
	if err := web.Validate(*c.web.WebConfigFile); err != nil {
		return fmt.Errorf("--web.config.file: %w", err)
	}
	return nil
}

// findCredentials takes the first source that has any.
func findCredentials(ctx context.Context, from credentials.Config) (credentials.Provider, error) {
	found, err := credentials.Find(ctx, from)
	switch {
	case err == nil:
		return found, nil
	case errors.Is(err, credentials.ErrNotFound) && from.File == "":
		return nil, fmt.Errorf("no credentials: set %s and %s, or give --crs.credentials-file, or run with a role, or try --demo (%s)",
			credentials.EnvSecretID, credentials.EnvSecretKey, strings.TrimPrefix(err.Error(), credentials.ErrNotFound.Error()+": "))
	default:
		return nil, err
	}
}
