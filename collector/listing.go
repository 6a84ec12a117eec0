package collector

import (
	"context"
	"errors"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	// fewInstances are asked for one by one without a look at the whole region,
	// which could hardly cost less.
	fewInstances = 8
	// chooseAgain is how often the way to ask is chosen again: lists grow.
	chooseAgain = time.Hour
	// chooseAfterFailure is how long after a failure it is tried again.
	chooseAfterFailure = time.Minute
	// deniedFor is how long a refusal to list the whole region is remembered.
	deniedFor = 24 * time.Hour
)

// listing is the lists of a region through one source. Watched instances are asked
// for in the way that costs less: by one list of the whole region, from which the
// others are removed here, or by one list for each. Both show the same tasks,
// if a key that may list the region sees there all instances that it may ask for.
type listing struct {
	source  Source
	queries queries
	syncing *syncing
	logger  log.Logger

	lists    []*openList
	together bool      // one list of the whole region
	again    time.Time // when to choose again; zero before the first choice
	denied   bool      // the whole region may not be listed
}

func newListing(source Source, queries queries, syncing *syncing, logger log.Logger) *listing {
	l := &listing{source: source, queries: queries, syncing: syncing, logger: logger}
	l.open(len(queries.redisIDs) == 0)
	return l
}

// open opens new lists.
func (l *listing) open(together bool) {
	l.together = together
	if together {
		l.lists = []*openList{l.queries.openRegion(l.source)}
	} else {
		l.lists = l.queries.openEach(l.source)
	}
}

// choose chooses the way to ask. An error says that no list can be read now.
func (l *listing) choose(ctx context.Context) error {
	n := len(l.queries.redisIDs)
	if n == 0 || time.Now().Before(l.again) || !l.together && n <= fewInstances && l.syncing.fits(n) {
		return nil
	}
	pages, err := l.source.Pages(ctx, l.queries.filter())
	if err != nil {
		switch reason, _ := reasonOf(err); reason {
		case crsapi.ReasonRetired, crsapi.ReasonAuth:
			return err
		case crsapi.ReasonDenied:
			l.refused(err)
		default:
			if !l.again.IsZero() {
				l.again = time.Now().Add(chooseAfterFailure)
			}
		}
		return nil // the lists may be readable still
	}
	together := l.syncing.together(n, pages, l.together, l.again.IsZero())
	l.denied, l.again = false, time.Now().Add(chooseAgain)
	if together == l.together {
		return nil
	}
	l.open(together)
	msg := "each instance is asked for"
	if together {
		msg = "the instances are read from the list of the whole region, which costs less than asking for each"
	}
	level.Info(l.logger).Log("msg", msg, "instances", n, "pages", pages)
	return nil
}

// refused notes that the whole region may not be listed. Each instance is asked for
// then, which is said once.
func (l *listing) refused(err error) {
	l.again = time.Now().Add(deniedFor)
	if l.together {
		l.open(false)
	}
	if l.denied {
		return
	}
	l.denied = true
	level.Warn(l.logger).Log("msg", "the key may not list the whole region: each instance is asked for", "instances", len(l.queries.redisIDs), "err", err)
	if l.outOfTime() {
		level.Warn(l.logger).Log("msg", "a scrape has no time to ask for each instance: raise --crs.rate-limit or the scrape timeout, or allow the key to list the whole region")
	}
}

// outOfTime reports whether a scrape has no time to ask for each instance.
func (l *listing) outOfTime() bool {
	return !l.together && !l.syncing.inTime(len(l.queries.redisIDs))
}

// isRefusal reports whether err may be about the whole region only.
func (l *listing) isRefusal(err error) bool {
	var failed *crsapi.Error
	return l.together && len(l.queries.redisIDs) > 0 && errors.As(err, &failed) && failed.Reason == crsapi.ReasonDenied
}
