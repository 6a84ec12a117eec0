package collector

import (
	"context"
	"fmt"
	"iter"
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
	Open(filter Filter) List
	// Pages returns how many pages a list has now. It costs one request.
	Pages(ctx context.Context, filter Filter) (int, error)
	// TaskMessage returns the vendor's reason why a task failed.
	TaskMessage(ctx context.Context, taskID int64) (string, error)
}

// Filter says which tasks a List has.
type Filter struct {
	RedisID   string        // all instances if empty
	TaskTypes []string      // all of them if empty
	Lookback  time.Duration // submitted within this duration; all if 0
}

// List is a list that is kept in step with the API, as mirror.Mirror describes.
type List interface {
	// Poll returns soon after ctx ends.
	Poll(ctx context.Context, full bool) (*mirror.Result, error)
	Verify(ctx context.Context, wait func(context.Context) error) error
	Progress() (read, due int)
	Len() int
	At(mirror.Key) []crsapi.Task
	All() iter.Seq[crsapi.Task]
	Tasks() Tasks
}

// Tasks are the tasks of a List at one moment, as mirror.Tasks describes.
type Tasks interface {
	Newest(from, to time.Time) iter.Seq[crsapi.Task]
}

// FromAPI returns the Source that sends requests to the API.
func FromAPI(client *crsapi.Client) Source { return apiSource{client} }

type apiSource struct{ *crsapi.Client }

func (s apiSource) Open(f Filter) List {
	return mirrored{mirror.New(mirror.Config{
		Lister: s.Client, RedisID: f.RedisID, TaskTypes: f.TaskTypes, Lookback: f.Lookback,
		PageSize: s.PageSize(), Concurrency: s.Concurrency(),
	})}
}

type mirrored struct{ *mirror.Mirror }

// Tasks implements List.
func (m mirrored) Tasks() Tasks { return m.Mirror.Tasks() }

// Pages implements Source.
func (s apiSource) Pages(ctx context.Context, f Filter) (int, error) {
	q := crsapi.Query{Limit: 1, RedisID: f.RedisID, TaskTypes: f.TaskTypes}
	if f.Lookback > 0 {
		q.BeginTime = time.Now().Add(-f.Lookback)
	}
	p, err := s.Page(ctx, q)
	if err != nil {
		return 0, fmt.Errorf("count the tasks: %w", err)
	}
	return (p.TotalCount + s.PageSize() - 1) / s.PageSize(), nil
}

// openList is a list of a region, with what changed in it since the last poll of
// the region that succeeded.
type openList struct {
	List
	redisIDs map[string]bool // whose tasks are shown; nil for all

	whole   bool // everything may have changed
	changed map[mirror.Key]struct{}
	unknown bool // the API does not know the instance: the list is empty
}

func (l *openList) poll(ctx context.Context, full bool) (*mirror.Result, error) {
	result, err := l.Poll(ctx, full)
	unknown := crsapi.IsUnknownInstance(err)
	if err != nil && !unknown {
		return result, err
	}
	l.whole = l.whole || unknown != l.unknown
	l.unknown = unknown
	if unknown {
		if full && len(result.Full) == 0 {
			result.Full = []mirror.Cause{mirror.Due}
		}
		return result, nil
	}
	l.whole = l.whole || result.Whole
	if l.changed == nil {
		l.changed = result.Changed
		return result, nil
	}
	for key := range result.Changed {
		l.changed[key] = struct{}{}
	}
	return result, nil
}

// has reports whether the tasks of an instance are shown. A server that ignores
// the filter lists an instance once for every instance requested.
func (l *openList) has(redisID string) bool {
	return !l.unknown && (l.redisIDs == nil || l.redisIDs[redisID])
}
