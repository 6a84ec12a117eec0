package collector

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"golang.org/x/time/rate"
)

// Source is one region through one API.
type Source interface {
	API() crsapi.API
	// Limiter limits the requests to the host, for all Sources that have it; nil
	// for no limit.
	Limiter() *rate.Limiter
	// Open returns a list. It sends no request.
	Open(f Filter) List
	// Instances returns a page of the instances, as crsapi.Client.Instances does.
	Instances(ctx context.Context, offset int) (page []crsapi.Instance, total int, err error)
	// TaskMessage returns the vendor's reason why a task failed.
	TaskMessage(ctx context.Context, taskID int64) (string, error)
}

// Filter says which tasks a List has.
type Filter struct {
	RedisID   string        // all instances if empty
	TaskTypes []string      // all of them if empty
	Lookback  time.Duration // submitted within this duration; all if 0
}

// List is a copy of a list, as mirror.Mirror describes.
type List interface {
	Poll(ctx context.Context, inTurn int) (*mirror.Result, error)
	Progress() (read, due int)
}

// FromAPI returns the Source that sends requests to the API.
func FromAPI(client *crsapi.Client) Source { return apiSource{client} }

type apiSource struct{ *crsapi.Client }

// Open implements Source.
func (s apiSource) Open(f Filter) List {
	return mirror.New(mirror.Config{
		Lister: s.Client, RedisID: f.RedisID, TaskTypes: f.TaskTypes, Lookback: f.Lookback,
		PageSize: s.PageSize(), Concurrency: s.Concurrency(),
	})
}

// DialAPIs returns a Config.Dial that reads each region through the APIs of these
// configurations, in this order. It sets their Region and Observe. Of an invalid Endpoint of another API
// than 2.0, the *crsapi.ConfigError names the field V3Endpoint. All regions share the
// Limiter of an API, unless {region} in the Endpoint gives each region its own host: the
// quota belongs to the host.
func DialAPIs(configs ...crsapi.Config) func(region string, observe func(crsapi.Attempt)) ([]Source, error) {
	return func(region string, observe func(crsapi.Attempt)) ([]Source, error) {
		var sources []Source
		for _, cfg := range configs {
			cfg.Region, cfg.Observe = region, observe
			if cfg.Limiter != nil && strings.Contains(cfg.Endpoint, "{region}") {
				cfg.Limiter = crsapi.NewLimiter(float64(cfg.Limiter.Limit()))
			}
			client, err := crsapi.NewClient(cfg)
			if invalid := (*crsapi.ConfigError)(nil); errors.As(err, &invalid) && invalid.Field == "Endpoint" && cfg.API != crsapi.API20 {
				return nil, &crsapi.ConfigError{Field: "V3Endpoint", Problem: invalid.Problem}
			} else if err != nil {
				return nil, err
			}
			sources = append(sources, FromAPI(client))
		}
		return sources, nil
	}
}
