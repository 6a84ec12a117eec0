// Command crs_exporter serves the tasks of Tencent Cloud's Redis (CRS),
// backups above all, as metrics for Prometheus.
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
	"strings"
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

// drainTimeout is how long scrapes under way have once the exporter is told to
// end; what Kubernetes grants is twice that.
const drainTimeout = 15 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crs_exporter: error:", err)
		os.Exit(1)
	}
}

// run is the whole program. It ends when ctx does, and then returns nil.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := parseFlags(ctx, args, stdout, stderr)
	if err != nil || cfg == nil {
		return err
	}
	if cfg.healthcheck {
		return checkHealth(ctx, (*cfg.web.WebListenAddresses)[0])
	}
	unstamped := newLogger(stderr, cfg)
	logger := log.With(unstamped, "ts", log.DefaultTimestampUTC)
	// The toolkit's records bring a time of their own.
	slogger := slog.New(sloggokit.NewGoKitHandler(unstamped, slog.LevelDebug))

	var simulation *demo
	if cfg.demo {
		simulation = startDemo(ctx, cfg)
		defer simulation.stop()
	}
	if cfg.checkOnly {
		return checkRegions(ctx, cfg, stdout)
	}
	exporter, err := newExporter(cfg, logger)
	if err != nil {
		return err
	}
	defer exporter.Close()
	if !cfg.demo && strings.HasPrefix(cfg.endpoint, "http://") {
		level.Warn(logger).Log("msg", "the endpoint is plain http: tasks and key id can be read on the way")
	}
	if renewing, ok := cfg.credentials.(interface {
		Status() credentials.Status
	}); ok {
		if err := exporter.Register(newCredentialsCollector(renewing.Status)); err != nil {
			return err
		}
	}
	handler, err := newMux(cfg, exporter)
	if err != nil {
		return err
	}
	server := newServer(handler, stdlog.New(log.NewStdlibAdapter(level.Debug(logger)), "", 0))
	level.Info(logger).Log("msg", "starting crs_exporter", "version", version.Info(), "build", version.BuildContext())
	if simulation != nil {
		simulation.announce(logger)
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := web.ListenAndServe(server, cfg.web, slogger)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve: %w", err)
	})
	group.Go(func() error {
		<-ctx.Done()
		level.Info(logger).Log("msg", "ending: scrapes under way are answered first", "at_most", drainTimeout)
		// ctx is done, which is why this is not its child.
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		// Scrapes that wait for the API longer than that are answered without it.
		give := time.AfterFunc(drainTimeout/2, exporter.Close)
		defer give.Stop()
		if err := server.Shutdown(drain); err != nil {
			level.Warn(logger).Log("msg", "connections were cut that would not end", "err", err, "close", server.Close())
		}
		return nil
	})
	group.Go(func() error {
		// Readiness must not wait for a scrape: where the scraper waits for
		// readiness, neither would ever come.
		first, cancel := context.WithTimeout(ctx, collector.DefaultScrapeTimeout)
		defer cancel()
		exporter.Poll(first)
		return nil
	})
	return group.Wait()
}

func newExporter(cfg *config, logger log.Logger) (*collector.Exporter, error) {
	return collector.New(collector.Config{
		Regions:       cfg.regions,
		RedisIDs:      cfg.redisIDs,
		TaskTypes:     cfg.taskTypes,
		Lookback:      cfg.lookback,
		TimeoutOffset: cfg.timeoutOffset,
		MinInterval:   cfg.minInterval,
		StateFile:     cfg.stateFile,
		StateScope:    fmt.Sprint(cfg.endpoint, cfg.utcOffset, cfg.roleARN),
		Logger:        logger,
		Dial: func(region string, observe func(crsapi.Attempt)) (collector.Source, error) {
			client, err := newClient(cfg, region, observe)
			if err != nil {
				return nil, err
			}
			return collector.FromAPI(client), nil
		},
	})
}

func newClient(cfg *config, region string, observe func(crsapi.Attempt)) (*crsapi.Client, error) {
	return crsapi.NewClient(crsapi.Config{
		Region:         region,
		Credentials:    cfg.credentials,
		Endpoint:       cfg.endpoint,
		Method:         cfg.method,
		PageSize:       cfg.pageSize,
		Concurrency:    cfg.concurrency,
		RateLimit:      cfg.rateLimit,
		RequestTimeout: cfg.requestTimeout,
		UTCOffset:      cfg.utcOffset,
		UserAgent:      "crs_exporter/" + version.Version,
		Observe:        observe,
	})
}

func newLogger(w io.Writer, cfg *config) log.Logger {
	encode := log.NewLogfmtLogger
	if cfg.logFormat == "json" {
		encode = log.NewJSONLogger
	}
	return level.NewFilter(encode(log.NewSyncWriter(w)), level.Allow(level.ParseDefault(cfg.logLevel, level.InfoValue())))
}
