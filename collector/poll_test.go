package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const (
	guangzhou = "ap-guangzhou"
	shanghai  = "ap-shanghai"
)

// someTask is enough of a list where its content does not matter.
var someTask = task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded)

func (rs *Results) up(region string) bool {
	for _, r := range rs.regions {
		if r.region.name == region {
			return r.outcome != nil && r.outcome.list != nil
		}
	}
	panic("no region " + region)
}

// pollWithin polls like a scrape that waits so long.
func pollWithin(t *testing.T, e *Exporter, patience time.Duration) *Results {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return e.Poll(ctx)
}

// failures returns the failure counters of a region that are not zero.
func failures(e *Exporter, region string) map[crsapi.Reason]float64 {
	got := map[crsapi.Reason]float64{}
	for _, r := range e.regions {
		for reason, counter := range r.api.failures {
			if n := testutil.ToFloat64(counter); n > 0 && r.name == region {
				got[reason] = n
			}
		}
	}
	return got
}

func wantFailures(t *testing.T, e *Exporter, region string, want map[crsapi.Reason]float64) {
	t.Helper()
	if got := failures(e, region); !maps.Equal(got, want) {
		t.Errorf("failures of %s are %v, want %v", region, got, want)
	}
}

func TestPollIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: time.Second}
		e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
		var scrapes sync.WaitGroup
		for i := range 20 {
			scrapes.Go(func() {
				time.Sleep(time.Duration(i) * 40 * time.Millisecond)
				if !e.Poll(t.Context()).up(guangzhou) {
					t.Error("down")
				}
			})
		}
		begin := time.Now()
		scrapes.Wait()
		if source.count() != 1 || time.Since(begin) != time.Second {
			t.Errorf("%d sweeps in %s, want 1 in 1s", source.count(), time.Since(begin))
		}
		e.Poll(t.Context())
		if source.count() != 2 {
			t.Errorf("%d sweeps, want a new one for a scrape after the poll", source.count())
		}
	})
}

func TestPollAsksRegionsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestExporter(t, Config{}, map[string]Source{
			guangzhou: &fakeSource{list: list(someTask), delay: 3 * time.Second},
			shanghai:  &fakeSource{list: list(someTask), delay: 2 * time.Second},
		})
		begin := time.Now()
		rs := e.Poll(t.Context())
		if took := time.Since(begin); took != 3*time.Second || !rs.up(guangzhou) || !rs.up(shanghai) {
			t.Errorf("took %s, want 3s and both up", took)
		}
		for _, r := range rs.regions {
			if want := map[string]time.Duration{guangzhou: 3 * time.Second, shanghai: 2 * time.Second}[r.region.name]; r.outcome.duration != want {
				t.Errorf("the poll of %s took %s, want %s", r.region.name, r.outcome.duration, want)
			}
		}
	})
}

func TestPollSurvivesAScraperThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: time.Second}
		e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
		ctx, cancel := context.WithCancel(t.Context())
		var scrapes sync.WaitGroup
		scrapes.Go(func() {
			begin := time.Now()
			e.Poll(ctx)
			if took := time.Since(begin); took != time.Second/2 {
				t.Errorf("the scraper that left was held for %s", took)
			}
		})
		scrapes.Go(func() {
			if !e.Poll(t.Context()).up(guangzhou) {
				t.Error("down for the scraper that stayed")
			}
		})
		time.Sleep(time.Second / 2)
		cancel()
		scrapes.Wait()
		if source.count() != 1 || source.ended[0] != nil {
			t.Errorf("%d sweeps, the first ended by %v", source.count(), source.ended[0])
		}
		wantFailures(t, e, guangzhou, nil)
	})
}

func TestPollOfScrapersWithShortAndLongDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: 5 * time.Second}
		e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
		before := e.Poll(t.Context()).regions[0].outcome
		var scrapes sync.WaitGroup
		scrapes.Go(func() {
			rs := pollWithin(t, e, time.Second)
			if rs.up(guangzhou) {
				t.Error("up before the poll has ended")
			}
			o := rs.regions[0].outcome
			if o.tally != before.tally || o.lastSuccess != before.lastSuccess || o.duration != before.duration {
				t.Errorf("got %+v, want what stays of %+v", o, before)
			}
		})
		scrapes.Go(func() {
			if !pollWithin(t, e, 10*time.Second).up(guangzhou) {
				t.Error("down for the scraper with the long deadline")
			}
		})
		scrapes.Wait()
		if source.count() != 2 {
			t.Errorf("%d sweeps, want 1 for both", source.count()-1)
		}
		wantFailures(t, e, guangzhou, nil)
	})
}

func TestPollOfARegionThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &fakeSource{list: list(someTask)}
		e := newTestExporter(t, Config{}, map[string]Source{
			guangzhou: hanging,
			shanghai:  &fakeSource{list: list(someTask), delay: time.Second},
		})
		rs := pollWithin(t, e, 10*time.Second)
		if !rs.up(guangzhou) || !rs.up(shanghai) {
			t.Error("down at first")
		}
		hanging.take(time.Hour)
		begin := time.Now()
		rs = pollWithin(t, e, 10*time.Second)
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("answered after %s", took)
		}
		if rs.up(guangzhou) || !rs.up(shanghai) {
			t.Errorf("guangzhou up: %t, shanghai up: %t; want only the latter", rs.up(guangzhou), rs.up(shanghai))
		}
		if o := rs.regions[0].outcome; o.tally == nil || o.lastSuccess.IsZero() {
			t.Error("the counters of the region that hangs are gone")
		}
		if cause := hanging.ended[1]; !errors.Is(cause, context.DeadlineExceeded) {
			t.Errorf("the sweep was ended for %v", cause)
		}
		wantFailures(t, e, guangzhou, map[crsapi.Reason]float64{crsapi.ReasonTimeout: 1})
		wantFailures(t, e, shanghai, nil)

		hanging.take(0)
		if !pollWithin(t, e, 10*time.Second).up(guangzhou) {
			t.Error("the region hangs no more, but is down")
		}
	})
}

// While one region hangs, scrapes that overlap keep its poll alive; they must
// not be given lists of the other regions that are as old as that poll.
func TestPollIsFreshThoughAnotherRegionHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &fakeSource{delay: time.Hour}
		lively := &fakeSource{list: list(someTask), delay: time.Second}
		e := newTestExporter(t, Config{}, map[string]Source{guangzhou: hanging, shanghai: lively})
		var scrapes sync.WaitGroup
		for i := range 4 {
			scrapes.Go(func() {
				begin := time.Now().Add(time.Duration(i) * 6 * time.Second)
				time.Sleep(time.Until(begin))
				rs := pollWithin(t, e, 10*time.Second)
				if o := rs.regions[1].outcome; !rs.up(shanghai) || o.end.Before(begin) {
					t.Errorf("up: %t, the list is of %s, the scrape began at %s", rs.up(shanghai), o.end, begin)
				}
			})
		}
		scrapes.Wait()
		if hanging.count() != 1 || lively.count() != 4 {
			t.Errorf("%d sweeps of the region that hangs and %d of the other, want 1 and 4", hanging.count(), lively.count())
		}
	})
}

func TestPollThatScrapersKeepJoiningIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &fakeSource{delay: 24 * time.Hour}
		e := newTestExporter(t, Config{}, map[string]Source{guangzhou: hanging})
		var scrapes sync.WaitGroup
		for i := range 70 {
			scrapes.Go(func() {
				time.Sleep(time.Duration(i) * 5 * time.Second)
				pollWithin(t, e, 9*time.Second)
			})
		}
		scrapes.Wait()
		if hanging.count() != 2 || !errors.Is(hanging.ended[0], context.DeadlineExceeded) {
			t.Errorf("%d sweeps, want 2, the first ended by its bound and not %v", hanging.count(), hanging.ended[0])
		}
		wantFailures(t, e, guangzhou, map[crsapi.Reason]float64{crsapi.ReasonTimeout: 2})
	})
}

func TestPollThatNobodyWantsAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: time.Second}
		var logged bytes.Buffer
		e := newTestExporter(t, Config{MinInterval: time.Hour, Logger: log.NewLogfmtLogger(&logged)}, map[string]Source{guangzhou: source})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		if e.Poll(ctx).up(guangzhou) {
			t.Error("up")
		}
		synctest.Wait()
		if !errors.Is(source.ended[0], context.Canceled) {
			t.Errorf("the sweep was ended for %v", source.ended[0])
		}
		if e.regions[0].polled() || logged.Len() > 0 {
			t.Errorf("the poll counts as one that ended, or was logged: %s", logged.String())
		}
		wantFailures(t, e, guangzhou, nil)
		if !e.Poll(t.Context()).up(guangzhou) || source.count() != 2 {
			t.Errorf("%d sweeps, want a second one that succeeds", source.count())
		}
	})
}

func TestPollMinInterval(t *testing.T) {
	tests := []struct {
		name string
		err  error
	}{
		{"of a success", nil},
		{"of a failure", &crsapi.Error{Reason: crsapi.ReasonServer, Requested: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := &fakeSource{list: list(someTask), err: test.err, delay: 10 * time.Second}
				e := newTestExporter(t, Config{MinInterval: 30 * time.Second}, map[string]Source{guangzhou: source})
				first := e.Poll(t.Context())
				time.Sleep(30*time.Second - 1)
				if second := e.Poll(t.Context()); source.count() != 1 || second.regions[0] != first.regions[0] {
					t.Errorf("%d sweeps within the interval, want 1 and its answer", source.count())
				}
				time.Sleep(time.Nanosecond)
				if e.Poll(t.Context()).up(guangzhou) != (test.err == nil) || source.count() != 2 {
					t.Errorf("%d sweeps after the interval, want 2", source.count())
				}
			})
		})
	}
}

// stubborn is a Source that does not care about its context.
type stubborn struct {
	mu           sync.Mutex
	running, max int
	takes        time.Duration
}

func (s *stubborn) Sweep(context.Context, crsapi.Query) (List, error) {
	s.mu.Lock()
	s.running++
	s.max = max(s.max, s.running)
	takes := s.takes
	s.mu.Unlock()
	time.Sleep(takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	return list(someTask), nil
}

func TestPollOfASourceThatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &stubborn{takes: time.Minute}
		e := newTestExporter(t, Config{}, map[string]Source{
			guangzhou: source,
			shanghai:  &fakeSource{list: list(someTask)},
		})
		for range 3 {
			begin := time.Now()
			rs := pollWithin(t, e, 10*time.Second)
			if took := time.Since(begin); took > 10*time.Second || rs.up(guangzhou) || !rs.up(shanghai) {
				t.Errorf("took %s, guangzhou up: %t, shanghai up: %t", took, rs.up(guangzhou), rs.up(shanghai))
			}
		}
		time.Sleep(time.Minute)
		source.mu.Lock()
		source.takes = time.Second
		source.mu.Unlock()
		if !pollWithin(t, e, 10*time.Second).up(guangzhou) {
			t.Error("down though it answers again")
		}
		if source.max != 1 {
			t.Errorf("%d sweeps at once, want 1", source.max)
		}
		// The first came to its end too late, the other two had no turn.
		wantFailures(t, e, guangzhou, map[crsapi.Reason]float64{crsapi.ReasonTimeout: 2})
	})
}

func TestPollEndsWithTheExporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: time.Hour}
		e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
		answered := make(chan *Results)
		go func() { answered <- e.Poll(t.Context()) }()
		synctest.Wait()
		e.Close()
		if (<-answered).up(guangzhou) {
			t.Error("up")
		}
		if e.Poll(t.Context()).up(guangzhou) || source.count() != 1 {
			t.Errorf("%d sweeps, want none after Close", source.count())
		}
		wantFailures(t, e, guangzhou, nil)
	})
}

func TestPollAfterTheExporterHasEnded(t *testing.T) {
	source := &fakeSource{list: list(someTask)}
	e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
	e.Poll(t.Context())
	e.Close()
	rs := e.Poll(t.Context())
	if rs.up(guangzhou) || source.count() != 1 || rs.regions[0].outcome.tally == nil {
		t.Errorf("up: %t after %d sweeps, want down, none, and the counters", rs.up(guangzhou), source.count())
	}
	wantFailures(t, e, guangzhou, nil)
	e.Close()
}

func TestPollCountsFailures(t *testing.T) {
	apiError := func(reason crsapi.Reason, requested bool) error {
		return fmt.Errorf("list tasks: %w", &crsapi.Error{Reason: reason, Requested: requested})
	}
	tests := []struct {
		name string
		err  error
		want map[crsapi.Reason]float64
	}{
		{"a failed request was counted as it failed", apiError(crsapi.ReasonAuth, true), nil},
		{"totals never add up", apiError(crsapi.ReasonDecode, false), map[crsapi.Reason]float64{crsapi.ReasonDecode: 1}},
		{"no time between requests", apiError(crsapi.ReasonTimeout, false), map[crsapi.Reason]float64{crsapi.ReasonTimeout: 1}},
		{"a plain timeout", context.DeadlineExceeded, map[crsapi.Reason]float64{crsapi.ReasonTimeout: 1}},
		{"anything else", errors.New("strange"), map[crsapi.Reason]float64{crsapi.ReasonDecode: 1}},
		{"no reason of the closed set", apiError("strange", false), map[crsapi.Reason]float64{crsapi.ReasonAPI: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := &fakeSource{list: &fakeList{pages: 3, rejected: 2}, err: test.err}
			e := newTestExporter(t, Config{}, map[string]Source{guangzhou: source})
			rs := e.Poll(t.Context())
			if o := rs.regions[0].outcome; rs.up(guangzhou) || o.pages != 3 || o.rejected != 2 {
				t.Errorf("up: %t, pages %d, rejected %d; want down with 3 and 2", rs.up(guangzhou), o.pages, o.rejected)
			}
			wantFailures(t, e, guangzhou, test.want)
		})
	}
}

func TestPollObservesRequests(t *testing.T) {
	var observe func(crsapi.Attempt)
	e, err := New(Config{
		Regions: []string{guangzhou, shanghai},
		Dial: func(region string, o func(crsapi.Attempt)) (Source, error) {
			if region == guangzhou {
				observe = o
			}
			return always(list()), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	if n := testutil.CollectAndCount(e.registry, apiClockSkewMetric.Name); n != 0 {
		t.Errorf("the clock skew has %d series before it is known", n)
	}
	observe(crsapi.Attempt{Duration: 20 * time.Millisecond, HasClockSkew: true, ClockSkew: -90 * time.Second})
	observe(crsapi.Attempt{Duration: 30 * time.Millisecond, Reason: crsapi.ReasonThrottled})
	err = testutil.GatherAndCompare(e.registry, strings.NewReader(`
# HELP crs_api_requests_total `+apiRequestsMetric.Help+`
# TYPE crs_api_requests_total counter
crs_api_requests_total{region="ap-guangzhou"} 2
crs_api_requests_total{region="ap-shanghai"} 0
# HELP crs_api_clock_skew_seconds `+apiClockSkewMetric.Help+`
# TYPE crs_api_clock_skew_seconds gauge
crs_api_clock_skew_seconds{region="ap-guangzhou"} -90
`), apiRequestsMetric.Name, apiClockSkewMetric.Name)
	if err != nil {
		t.Error(err)
	}
	wantFailures(t, e, guangzhou, map[crsapi.Reason]float64{crsapi.ReasonThrottled: 1})
	wantFailures(t, e, shanghai, nil)
}

func TestPollAsksEachInstance(t *testing.T) {
	rows := []crsapi.Task{
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-b", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
	}
	t.Run("side by side", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			source := &fakeSource{list: &fakeList{tasks: rows, pages: 2, rejected: 1}, delay: time.Second}
			e := newTestExporter(t, Config{
				RedisIDs: []string{"crs-b", "crs-a", "crs-b"}, TaskTypes: []string{"task_backupInstance"},
			}, map[string]Source{guangzhou: source})
			begin := time.Now()
			o := e.Poll(t.Context()).regions[0].outcome
			if took := time.Since(begin); took != time.Second || o.list.tasks != 2 || o.pages != 4 || o.rejected != 2 {
				t.Errorf("took %s: %d tasks on %d pages, %d rejected", took, o.list.tasks, o.pages, o.rejected)
			}
			var ids []string
			for _, q := range source.queries {
				ids = append(ids, q.RedisID)
				if !slices.Equal(q.TaskTypes, []string{"task_backupInstance"}) || !q.BeginTime.IsZero() || !q.EndTime.IsZero() {
					t.Errorf("query %+v", q)
				}
			}
			slices.Sort(ids)
			if !slices.Equal(ids, []string{"crs-a", "crs-b"}) {
				t.Errorf("asked for %v", ids)
			}
		})
	})
	t.Run("the first failure ends the others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			source := sourceFunc(func(ctx context.Context, q crsapi.Query) (List, error) {
				if q.RedisID == "crs-b" {
					return nil, &crsapi.Error{Reason: crsapi.ReasonDecode}
				}
				<-ctx.Done()
				return nil, ctx.Err()
			})
			e := newTestExporter(t, Config{RedisIDs: []string{"crs-a", "crs-b"}}, map[string]Source{guangzhou: source})
			if e.Poll(t.Context()).up(guangzhou) {
				t.Error("up")
			}
			wantFailures(t, e, guangzhou, map[crsapi.Reason]float64{crsapi.ReasonDecode: 1})
		})
	})
}

func TestPollLooksBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list()}
		e := newTestExporter(t, Config{Lookback: 48 * time.Hour}, map[string]Source{guangzhou: source})
		e.Poll(t.Context())
		time.Sleep(time.Hour)
		e.Poll(t.Context())
		now := time.Now()
		q := source.queries[1]
		if !q.BeginTime.Equal(now.Add(-48*time.Hour)) || !q.EndTime.Equal(now.Add(24*time.Hour)) || q.RedisID != "" {
			t.Errorf("asked for %+v at %s", q, now)
		}
	})
}

func TestPollLogsWhatChanges(t *testing.T) {
	var logged bytes.Buffer
	source := &fakeSource{}
	e := newTestExporter(t, Config{Logger: log.NewLogfmtLogger(&logged)}, map[string]Source{guangzhou: source})
	apiError := func(reason crsapi.Reason) error {
		return &crsapi.Error{Reason: reason, Requested: true, Err: errors.New("details")}
	}
	polls := []struct {
		list List
		err  error
		want string
	}{
		{list(someTask), nil, `level=info region=ap-guangzhou msg="first poll succeeded" tasks=1 instances=1`},
		{list(someTask), nil, ""},
		{nil, apiError(crsapi.ReasonNetwork), `level=error region=ap-guangzhou msg="poll failed" reason=network err=`},
		{nil, apiError(crsapi.ReasonNetwork), ""},
		{nil, apiError(crsapi.ReasonAuth), `level=error region=ap-guangzhou msg="poll failed" reason=auth err=`},
		{nil, apiError(crsapi.ReasonAuth), ""},
		{list(someTask), nil, `level=info region=ap-guangzhou msg="poll succeeds again" tasks=1`},
		{&fakeList{rejected: 2}, nil, `level=warn region=ap-guangzhou msg="rows of the list could not be read" rejected=2`},
		{&fakeList{rejected: 3}, nil, ""},
		{list(someTask), nil, `level=info region=ap-guangzhou msg="all rows of the list could be read again"`},
		{list(someTask), nil, ""},
	}
	for i, poll := range polls {
		logged.Reset()
		source.set(poll.list, poll.err)
		e.Poll(t.Context())
		got := logged.String()
		if !strings.HasPrefix(got, poll.want) || (poll.want == "") != (got == "") || strings.Count(got, "\n") > 1 {
			t.Errorf("poll %d logged %q, want %q", i, got, poll.want)
		}
	}
}

func TestPollLogsARegionThatIsDownFromTheStart(t *testing.T) {
	var logged bytes.Buffer
	source := &fakeSource{err: errors.New("strange")}
	e := newTestExporter(t, Config{Logger: log.NewLogfmtLogger(&logged)}, map[string]Source{guangzhou: source})
	e.Poll(t.Context())
	e.Poll(t.Context())
	want := `level=error region=ap-guangzhou msg="poll failed" reason=decode err=strange` + "\n"
	if logged.String() != want {
		t.Errorf("logged %q, want %q", logged.String(), want)
	}
}

func TestNewIsStrict(t *testing.T) {
	dial := func(string, func(crsapi.Attempt)) (Source, error) { return always(list()), nil }
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"dial", Config{Regions: []string{"a"}}, "collector: no way to a region"},
		{"no region", Config{}, "collector: no region to watch"},
		{"empty region", Config{Regions: []string{""}}, "collector: the name of a region is empty"},
		{"region twice", Config{Regions: []string{"a", "b", "a"}}, `collector: region "a" is given twice`},
		{"empty instance", Config{Regions: []string{"a"}, RedisIDs: []string{""}}, "collector: the ID of an instance is empty"},
		{"lookback", Config{Regions: []string{"a"}, Lookback: -1}, "collector: lookback -1ns is negative"},
		{"offset", Config{Regions: []string{"a"}, TimeoutOffset: -1}, "collector: timeout offset -1ns is negative"},
		{"interval", Config{Regions: []string{"a"}, MinInterval: -1}, "collector: minimum interval -1ns is negative"},
		{"task type", Config{Regions: []string{"a"}, TaskTypes: []string{backup}}, `collector: "backupInstance" is no task type that the API can filter by`},
		{"source", Config{Regions: []string{"a"}, Dial: func(string, func(crsapi.Attempt)) (Source, error) {
			return nil, errors.New("no key")
		}}, "region a: no key"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.cfg.Dial == nil && test.name != "dial" {
				test.cfg.Dial = dial
			}
			if _, err := New(test.cfg); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
