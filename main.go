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
	"syscall"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	sloggokit "github.com/tjhop/slog-gokit"
	"golang.org/x/sync/errgroup"
)

// drainTimeout is how long scrapes in flight have at shutdown. Kubernetes allows
// twice that.
const drainTimeout = 15 * time.Second

func main() {
	stampVersion()
	// A log whose reader has gone must not end the watch, and neither must a
	// SIGHUP that is meant to reload something.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// From then on a signal has its default effect: a second one ends the process.
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		printed := make(chan struct{})
		go func() {
			defer close(printed)
			fmt.Fprintln(os.Stderr, "crs_exporter: error:", err)
		}()
		within(flushTimeout, printed) // maybe nobody reads it
		os.Exit(1)
	}
}

// run is the whole program. It ends when ctx does, and then returns nil.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parseFlags(args, stdout, stderr)
	if err != nil || s == nil {
		return err
	}
	if s.healthcheck {
		return checkHealth(ctx, s.routePrefix, *s.web.WebListenAddresses...)
	}
	status := func() credentials.Status { return credentials.Status{Source: "demo"} }
	if s.demo {
		simulation := startDemo(ctx, s)
		defer simulation.stop()
	}
	renewer, err := s.findCredentials(ctx)
	if err != nil {
		return err
	}
	if renewer != nil {
		status = renewer.Status
	}
	if s.check {
		return checkRegions(ctx, s, status().Source, stdout, stderr)
	}

	lines := newLogWriter(stderr, s.newLogger)
	defer lines.flush()
	unstamped := s.newLogger(lines)
	logger := log.With(unstamped, "ts", log.DefaultTimestampUTC)
	for _, warning := range s.warnings() {
		level.Warn(logger).Log("msg", warning)
	}
	s.collector.Logger = logger
	exporter, err := s.newExporter(s.dialer())
	if err != nil {
		return err
	}
	defer exporter.Close()
	if err := exporter.Register(lines.collector()); err != nil {
		return err
	}
	if renewer != nil {
		if err := exporter.Register(newCredentialsCollector(renewer.Status)); err != nil {
			return err
		}
	}
	handler := newMux(s.routePrefix, s.telemetryPath, exporter, s.newPages(exporter, status))
	level.Info(logger).Log("msg", "starting crs_exporter", "version", version.Info(), "build", version.BuildContext())
	if s.demo {
		announceDemo(logger, s)
	}
	// The toolkit's log records have their own time.
	slogger := slog.New(sloggokit.NewGoKitHandler(unstamped, slog.LevelDebug))
	return serve(ctx, s, handler, exporter, logger, slogger)
}

// serve serves until ctx ends or the server fails.
func serve(ctx context.Context, s *settings, handler http.Handler, exporter *collector.Exporter, logger log.Logger, slogger *slog.Logger) error {
	server := newServer(handler, stdlog.New(log.NewStdlibAdapter(level.Debug(logger)), "", 0))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := web.ListenAndServe(server, s.web, slogger)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve: %w", err)
	})
	group.Go(func() error {
		<-ctx.Done()
		level.Info(logger).Log("msg", "shutting down, waiting for scrapes in flight", "timeout", drainTimeout)
		// ctx has ended, so this context must not be its child.
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		// Scrapes that wait for the API longer than that are answered without it.
		forceClose := time.AfterFunc(drainTimeout/2, exporter.Close)
		defer forceClose.Stop()
		if err := server.Shutdown(drain); err != nil {
			level.Warn(logger).Log("msg", "shutdown timed out, closing open connections", "err", err, "close", server.Close())
		}
		return nil
	})
	group.Go(func() error {
		// A scraper that waits for readiness sends no scrape, so the first poll
		// must not wait for one.
		exporter.Poll(ctx)
		return nil
	})
	return group.Wait()
}

// newExporter returns an Exporter as the settings say, or an error that names
// the flag.
func (s *settings) newExporter(dial func(string, func(crsapi.Attempt)) ([]collector.Source, error)) (*collector.Exporter, error) {
	cfg := s.collector
	cfg.Dial = dial
	cfg.StateScope = s.stateScope
	exporter, err := collector.New(cfg)
	return exporter, settingError(err)
}
