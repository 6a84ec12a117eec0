// Command crs_exporter serves the tasks of Tencent Cloud's Redis (CRS), backups
// above all, as metrics for Prometheus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/collector/pages"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest/demo"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	sloggokit "github.com/tjhop/slog-gokit"
	"golang.org/x/sync/errgroup"
)

const (
	// drainTimeout is how long shutdown waits for scrapes in flight. Kubernetes allows
	// twice that.
	drainTimeout = 15 * time.Second
	// flushTimeout is how long the end of the process waits for the last log lines.
	flushTimeout = 2 * time.Second
)

func main() {
	setVersion()
	signal.Ignore(syscall.SIGHUP) // changed credentials are read without it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		signal.Ignore(syscall.SIGPIPE)
		lines := collector.NewLogWriter(os.Stderr)
		fmt.Fprintln(lines, "crs_exporter: error:", err)
		lines.Close(flushTimeout) // stderr may be blocked
		os.Exit(1)
	}
}

// setVersion gives a build without -ldflags, such as go install's, the version of its module.
func setVersion() {
	if info, ok := debug.ReadBuildInfo(); ok && version.Version == "" {
		version.Version = strings.Trim(strings.TrimPrefix(info.Main.Version, "v"), "()")
	}
}

// run is the whole program. It ends when ctx does, and then returns nil.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parseFlags(args, stdout, stderr)
	if err != nil || s == nil {
		return err
	}
	if s.healthcheck {
		return collector.CheckHealth(ctx, *s.web.WebListenAddresses, s.routePrefix)
	}

	status := func() credentials.Status { return credentials.Status{Source: "demo"} }
	if s.demo {
		account := demo.Start(demo.Config{Regions: s.collector.Regions, UTCOffset: s.api.UTCOffset, RetireAfter: s.demoRetireAfter})
		defer account.Close()
		s.api.Endpoint, s.v3Endpoint = account.URL, account.URL3
		s.api.Credentials = credentials.Static{SecretID: demo.SecretID, SecretKey: demo.SecretKey}
	} else {
		keys, err := credentials.Find(ctx, s.credentials)
		if errors.Is(err, credentials.ErrNotFound) && s.credentials.File == "" {
			return fmt.Errorf("%w; set %s and %s, or use --crs.credentials-file, or run with a role, or try --demo", err, credentials.EnvSecretID, credentials.EnvSecretKey)
		} else if err != nil {
			return err
		}
		s.api.Credentials, status = keys, keys.Status
	}

	logs := stderr
	if s.check { // runs beside an exporter with the same flags
		logs, s.collector.StateFile = io.Discard, ""
	} else {
		signal.Ignore(syscall.SIGPIPE) // a broken stderr ends no exporter
	}
	lines := collector.NewLogWriter(logs)
	defer lines.Close(flushTimeout)
	unstamped := collector.NewLogger(lines, s.logFormat, s.logLevel)
	logger := log.With(unstamped, "time", log.DefaultTimestampUTC)
	configs := s.configs()
	for _, warning := range s.warnings(configs) {
		level.Warn(logger).Log("msg", warning)
	}

	s.collector.Dial, s.collector.Logger = collector.DialAPIs(configs...), logger
	s.collector.StateScope = fmt.Sprint(s.api.Endpoint, s.v3Endpoint, s.api.UTCOffset, s.credentials.RoleARN)
	exporter, err := collector.New(s.collector)
	if err != nil {
		return flagError(err)
	}
	defer exporter.Close()
	if s.check {
		return exporter.Check(ctx, status().Source, stdout, stderr)
	}
	times := func() (lastLoad, expiry time.Time) { return status().LastLoad, status().Expiry }
	if err := errors.Join(exporter.Register(lines), exporter.Register(collector.NewCredentialsCollector(times))); err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("GET "+s.telemetryPath, exporter.Handler())
	mux.Handle("GET "+collector.HealthyPath, exporter.Healthy())
	mux.Handle("GET "+collector.ReadyPath, exporter.Ready())
	mux.Handle("GET /", pages.New(pages.Config{ // and /tasks, /backups
		Exporter: exporter, MetricsPath: s.telemetryPath, ExternalPath: s.externalPath, UTCOffset: s.api.UTCOffset,
		Credentials: func() (source string, expiry time.Time) { return status().Source, status().Expiry },
	}))

	level.Info(logger).Log("msg", "starting crs_exporter", "version", version.Info(), "build", version.BuildContext())
	if s.demo {
		fmt.Fprintln(stdout, s.demoPages())
	}
	// The toolkit's log records have their own time, with the same key.
	slogger := slog.New(sloggokit.NewGoKitHandler(unstamped, slog.LevelDebug))
	return serve(ctx, s.web, collector.WithPrefix(s.routePrefix, mux), exporter, logger, slogger)
}

// serve serves until ctx ends or the server fails.
func serve(ctx context.Context, flags *web.FlagConfig, handler http.Handler, exporter *collector.Exporter, logger log.Logger, slogger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second, // the handler of scrapes sets its own deadline
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          stdlog.New(log.NewStdlibAdapter(level.Debug(logger)), "", 0),
	}
	group, serving := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := web.ListenAndServe(server, flags, slogger); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve at --web.listen-address: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		exporter.Poll(serving) // a scraper that waits for readiness sends no scrape
		return nil
	})
	group.Go(func() error {
		<-serving.Done()
		if ctx.Err() != nil { // and not because the server failed
			level.Info(logger).Log("msg", "shutting down, waiting for scrapes in flight", "timeout", drainTimeout)
		}
		if err := drain(server, exporter); err != nil {
			level.Warn(logger).Log("msg", "shutdown timed out, closing open connections", "err", err, "close", server.Close())
		}
		return nil
	})
	return group.Wait()
}

// drain waits for scrapes in flight. Scrapes that wait for the API for longer than half
// of the timeout are answered without it.
func drain(server *http.Server, exporter *collector.Exporter) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	endPolls := time.AfterFunc(drainTimeout/2, exporter.Close)
	defer endPolls.Stop()
	return server.Shutdown(ctx)
}
