package collector_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"pgregory.net/rapid"
)

const maxPoll = 5 * time.Minute

func TestScrapesShareAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: time.Second}
		e := watch(t, source)
		var scrapes sync.WaitGroup
		for i := range 20 {
			scrapes.Go(func() {
				time.Sleep(time.Duration(i) * 40 * time.Millisecond)
				if !poll(t, e, time.Minute).up(guangzhou) {
					t.Error("down")
				}
			})
		}
		begin := time.Now()
		scrapes.Wait()
		if source.count() != 1 || time.Since(begin) != time.Second {
			t.Errorf("%d sweeps in %s, want 1 in 1s", source.count(), time.Since(begin))
		}
		poll(t, e, time.Minute)
		if source.count() != 2 {
			t.Errorf("%d sweeps, want a new one for a scrape after the poll", source.count())
		}
	})
}

func TestDisconnectDoesNotEndThePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: 3 * time.Second}
		e := watch(t, source)
		ctx, disconnect := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, disconnect)
		begin := time.Now()
		results := e.Poll(ctx)
		if took := time.Since(begin); took != time.Second || exposed(t, results).up(guangzhou) {
			t.Errorf("answered after %s", took)
		}
		if !poll(t, e, time.Minute).up(guangzhou) || time.Since(begin) != 3*time.Second {
			t.Errorf("the second scrape did not get the poll of the first, at %s", time.Since(begin))
		}
		if source.count() != 1 || source.ended[0] != nil {
			t.Errorf("%d sweeps, the first ended with %v", source.count(), source.ended[0])
		}
		wantEqual(t, "failures", failures(t, e, guangzhou), samples{})
	})
}

// A poll that no scrape waits for any more still updates the counters.
func TestPollWithoutWaitingScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask), delay: 30 * time.Second}
		e := watch(t, source)
		poll(t, e, time.Second)
		time.Sleep(time.Minute)
		if status := e.Status()[0]; status.Tasks != 1 || status.Duration != 30*time.Second || status.Err != nil {
			t.Errorf("status %+v", status)
		}
		source.set(nil, errors.New("down"))
		source.setDelay(0)
		got := poll(t, e, time.Second)
		got.want(t, samples{transitions("crs-a", backup, "failed"): "0", `crs_up{region="ap-guangzhou"}`: "0"})
	})
}

func TestScrapesWaitToTheirOwnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: &fakeList{tasks: []crsapi.Task{someTask}, pages: 7, rejected: 2}, delay: 5 * time.Second}
		e := watch(t, source)
		before := poll(t, e, time.Minute)
		source.set(list(someTask), nil)
		var scrapes sync.WaitGroup
		scrapes.Go(func() {
			begin := time.Now()
			got := poll(t, e, time.Second)
			if took := time.Since(begin); took != time.Second {
				t.Errorf("the short scrape took %s", took)
			}
			want := samples{`crs_up{region="ap-guangzhou"}`: "0"}
			for series, value := range before {
				if before.listed()[series] == "" && series != `crs_up{region="ap-guangzhou"}` {
					want[series] = value
				}
			}
			if len(want) != 5+1+1+4 {
				t.Errorf("%v was exposed before", before)
			}
			wantEqual(t, "the short scrape", got, want)
		})
		scrapes.Go(func() {
			got := poll(t, e, 10*time.Second)
			got.want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", `crs_poll_pages{region="ap-guangzhou"}`: "1"})
		})
		scrapes.Wait()
		if source.count() != 2 {
			t.Errorf("%d sweeps, want 1 for both", source.count()-1)
		}
		wantEqual(t, "failures", failures(t, e, guangzhou), samples{})
	})
}

// A region that takes longer than a scrape waits: the scrape says so without
// harm to the other region, and the next one joins the same poll.
func TestSlowRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fakeSource{list: list(someTask)}
		e := newExporter(t, collector.Config{}, map[string]collector.Source{
			guangzhou: slow, shanghai: &fakeSource{list: list(someTask), delay: time.Second},
		})
		if got := poll(t, e, 10*time.Second); !got.up(guangzhou) || !got.up(shanghai) {
			t.Error("down at first")
		}
		slow.setDelay(25 * time.Second)
		begin := time.Now()
		for range 2 {
			got := poll(t, e, 10*time.Second)
			if got.up(guangzhou) || !got.up(shanghai) {
				t.Errorf("%s up: %t, %s up: %t; want only the latter", guangzhou, got.up(guangzhou), shanghai, got.up(shanghai))
			}
			if n := len(got.in(guangzhou).transitions()); n != 5 {
				t.Errorf("%d counters of the slow region, want 5", n)
			}
		}
		if took := time.Since(begin); took != 20*time.Second {
			t.Errorf("two scrapes took %s, want 20s", took)
		}
		if !poll(t, e, 10*time.Second).up(guangzhou) || time.Since(begin) != 25*time.Second || slow.count() != 2 {
			t.Errorf("%d sweeps, the last ended after %s", slow.count(), time.Since(begin))
		}
		wantEqual(t, "failures of the slow region", failures(t, e, guangzhou), samples{})
		wantEqual(t, "failures of the other", failures(t, e, shanghai), samples{})
	})
}

// Scrapes that wait for one region must not get an old list of another.
func TestListIsNewThoughAnotherRegionHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &fakeSource{delay: time.Hour}
		other := &fakeSource{list: list(someTask), delay: time.Second}
		e := newExporter(t, collector.Config{}, map[string]collector.Source{guangzhou: hanging, shanghai: other})
		var scrapes sync.WaitGroup
		for i := range 4 {
			scrapes.Go(func() {
				time.Sleep(time.Duration(i) * 6 * time.Second)
				begin := time.Now()
				got := poll(t, e, 10*time.Second)
				end, err := strconv.ParseFloat(got[`crs_last_success_timestamp_seconds{region="ap-shanghai"}`], 64)
				if err != nil || !got.up(shanghai) || end < float64(begin.Unix()) {
					t.Errorf("up: %t, list of %f, scrape began at %d: %v", got.up(shanghai), end, begin.Unix(), err)
				}
			})
		}
		scrapes.Wait()
		if hanging.count() != 1 || other.count() != 4 {
			t.Errorf("%d sweeps of the region that hangs and %d of the other, want 1 and 4", hanging.count(), other.count())
		}
	})
}

func TestPollHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{delay: 24 * time.Hour}
		e := watch(t, source)
		begin := time.Now()
		for range 40 {
			poll(t, e, 7*time.Second)
		}
		// The scrape at 280 s is the last that ended before the limit.
		if source.count() != 1 || time.Since(begin) != 280*time.Second {
			t.Fatalf("%d sweeps after %s", source.count(), time.Since(begin))
		}
		got := poll(t, e, time.Minute)
		if took := time.Since(begin); took != maxPoll {
			t.Errorf("the poll ended after %s", took)
		}
		wantEqual(t, "after the limit", got, samples{
			`crs_api_info{api="2.0",region="ap-guangzhou"}`:    "1",
			`crs_up{region="ap-guangzhou"}`:                    "0",
			`crs_poll_duration_seconds{region="ap-guangzhou"}`: "300",
			`crs_poll_pages{region="ap-guangzhou"}`:            "0",
			`crs_poll_rejected_rows{region="ap-guangzhou"}`:    "0",
		})
		if err := e.Status()[0].Err; !errors.Is(err, context.DeadlineExceeded) || !errors.Is(source.ended[0], context.DeadlineExceeded) {
			t.Errorf("the poll ended with %v, the sweep with %v", err, source.ended[0])
		}
		source.set(list(someTask), nil)
		source.setDelay(time.Second)
		if !poll(t, e, time.Minute).up(guangzhou) || source.count() != 2 {
			t.Error("down after the region recovered")
		}
		wantEqual(t, "failures", failures(t, e, guangzhou), samples{"timeout": "1"})
	})
}

func TestMinInterval(t *testing.T) {
	tests := []struct {
		name string
		err  error
	}{
		{"after success", nil},
		{"after failure", &crsapi.Error{Reason: crsapi.ReasonServer, Requested: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := &fakeSource{list: &fakeList{tasks: []crsapi.Task{someTask}, pages: 4}, err: test.err, delay: 10 * time.Second}
				e := newExporter(t, collector.Config{MinInterval: 30 * time.Second}, map[string]collector.Source{guangzhou: source})
				first := poll(t, e, time.Minute)
				source.set(list(), nil)
				time.Sleep(30*time.Second - 1)
				wantEqual(t, "within the interval", poll(t, e, time.Minute), first)
				if source.count() != 1 {
					t.Errorf("%d sweeps within the interval, want 1", source.count())
				}
				time.Sleep(time.Nanosecond)
				poll(t, e, time.Minute).want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", `crs_poll_pages{region="ap-guangzhou"}`: "1"})
				if source.count() != 2 {
					t.Errorf("%d sweeps after the interval, want 2", source.count())
				}
			})
		})
	}
}

func TestCloseEndsPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		returned := false
		source := sourceFunc(func(ctx context.Context, _ crsapi.Query) (swept, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // to cut the connection
			returned = true
			return &fakeList{pages: 3}, fmt.Errorf("list tasks: %w", ctx.Err())
		})
		e := newExporter(t, collector.Config{Logger: logTo(&logged)}, map[string]collector.Source{guangzhou: source})
		answered := make(chan samples)
		go func() { answered <- poll(t, e, time.Hour) }()
		synctest.Wait()
		begin := time.Now()
		e.Close()
		if took := time.Since(begin); took != time.Second || !returned {
			t.Errorf("Close took %s and did not wait for the poll", took)
		}
		wantEqual(t, "the scrape that waited", <-answered, samples{`crs_up{region="ap-guangzhou"}`: "0", `crs_api_info{api="2.0",region="ap-guangzhou"}`: "1"})
		if status := e.Status()[0]; !reflect.DeepEqual(status, collector.RegionStatus{Region: guangzhou, API: crsapi.API20}) || logged.Len() > 0 {
			t.Errorf("status %+v, logged %q; want no trace of the poll", status, logged.String())
		}
		wantEqual(t, "failures", failures(t, e, guangzhou), samples{})
	})
}

func TestNoPollAfterClose(t *testing.T) {
	source := &fakeSource{list: list(someTask)}
	e := watch(t, source)
	before := poll(t, e, time.Minute)
	status := e.Status()[0]
	e.Close()
	after := poll(t, e, time.Minute)
	if after.up(guangzhou) || source.count() != 1 || len(after.listed()) != 0 || !reflect.DeepEqual(e.Status()[0], status) {
		t.Errorf("%d sweeps, status %+v, exposed %v", source.count(), e.Status()[0], after)
	}
	wantEqual(t, "counters", after.transitions(), before.transitions())
	wantEqual(t, "failures", failures(t, e, guangzhou), samples{})
}

func TestFailuresOfPolls(t *testing.T) {
	apiError := func(reason crsapi.Reason, requested bool) error {
		return fmt.Errorf("list tasks: %w", &crsapi.Error{Reason: reason, Requested: requested})
	}
	tests := []struct {
		name string
		err  error
		want samples
	}{
		{"a failed request, which is already counted", apiError(crsapi.ReasonAuth, true), samples{}},
		{"totals that do not add up", apiError(crsapi.ReasonDecode, false), samples{"decode": "1"}},
		{"timeout between requests", apiError(crsapi.ReasonTimeout, false), samples{"timeout": "1"}},
		{"plain timeout", context.DeadlineExceeded, samples{"timeout": "1"}},
		{"cancelled by something other than Close", context.Canceled, samples{"timeout": "1"}},
		{"another error", errors.New("strange"), samples{"decode": "1"}},
		{"unknown reason", apiError("strange", false), samples{"api": "1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := &fakeSource{list: &fakeList{pages: 3, rejected: 2}, err: test.err}
			e := watch(t, source)
			got := poll(t, e, time.Minute)
			got.want(t, samples{
				`crs_up{region="ap-guangzhou"}`:                 "0",
				`crs_poll_pages{region="ap-guangzhou"}`:         "3",
				`crs_poll_rejected_rows{region="ap-guangzhou"}`: "2",
			})
			if n := len(got); n != 5 {
				t.Errorf("%d series, want 5: %v", n, got)
			}
			if err := e.Status()[0].Err; !errors.Is(err, test.err) {
				t.Errorf("status has error %v", err)
			}
			wantEqual(t, "failures", failures(t, e, guangzhou), test.want)
		})
	}
}

func TestEachInstanceIsRequested(t *testing.T) {
	tasks := []crsapi.Task{
		task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
		task("crs-b", backup, "2017-02-10 01:00:00", crsapi.StatusSucceeded),
	}
	t.Run("in parallel", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			source := &fakeSource{list: &fakeList{tasks: tasks, pages: 2, rejected: 1}, delay: time.Second}
			e := newExporter(t, collector.Config{
				RedisIDs:  []string{"crs-b", "crs-a", "crs-b"},
				TaskTypes: []string{"task_cleanInstance", "task_backupInstance", "task_cleanInstance"},
			}, map[string]collector.Source{guangzhou: source})
			begin := time.Now()
			got := poll(t, e, time.Minute)
			if took := time.Since(begin); took != time.Second {
				t.Errorf("took %s, want 1s", took)
			}
			got.want(t, samples{`crs_poll_pages{region="ap-guangzhou"}`: "4", `crs_poll_rejected_rows{region="ap-guangzhou"}`: "2"})
			var ids []string
			for _, q := range source.queries {
				ids = append(ids, q.RedisID)
				if !slices.Equal(q.TaskTypes, []string{"task_backupInstance", "task_cleanInstance"}) || !q.BeginTime.IsZero() || !q.EndTime.IsZero() {
					t.Errorf("query %+v", q)
				}
			}
			slices.Sort(ids)
			if !slices.Equal(ids, []string{"crs-a", "crs-b"}) {
				t.Errorf("requested %v", ids)
			}
		})
	})
	t.Run("the first failure ends the others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			source := sourceFunc(func(ctx context.Context, q crsapi.Query) (swept, error) {
				if q.RedisID == "crs-b" {
					return &fakeList{pages: 5}, &crsapi.Error{Reason: crsapi.ReasonDecode}
				}
				<-ctx.Done()
				return nil, ctx.Err()
			})
			e := newExporter(t, collector.Config{RedisIDs: []string{"crs-a", "crs-b"}}, map[string]collector.Source{guangzhou: source})
			poll(t, e, time.Minute).want(t, samples{
				`crs_up{region="ap-guangzhou"}`: "0", `crs_poll_pages{region="ap-guangzhou"}`: "5",
			})
			wantEqual(t, "failures", failures(t, e, guangzhou), samples{"decode": "1"})
		})
	})
}

func TestLookback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list()}
		e := newExporter(t, collector.Config{Lookback: 48 * time.Hour}, map[string]collector.Source{guangzhou: source})
		poll(t, e, time.Minute)
		time.Sleep(time.Hour)
		poll(t, e, time.Minute)
		now, q := time.Now(), source.queries[1]
		if !q.BeginTime.Equal(now.Add(-48*time.Hour)) || !q.EndTime.IsZero() || q.RedisID != "" {
			t.Errorf("requested %+v at %s", q, now)
		}
	})
}

// machine is a plan of scrapes, sweeps and Close, and a model of what the
// exporter must do with it. All times are offsets from the start. No two events
// of a plan are at the same time.
type machine struct {
	minInterval time.Duration
	closeAt     time.Duration // never if 0
	regions     []string
	sweeps      map[string][]plannedSweep // by region, in order; the last repeats
	scrapes     []plannedScrape           // ordered by time
}

type plannedSweep struct {
	takes time.Duration
	err   error
}

type plannedScrape struct{ at, timeout time.Duration }

func (m *machine) sweep(region string, n int) plannedSweep {
	sweeps := m.sweeps[region]
	return sweeps[min(n, len(sweeps)-1)]
}

// modelPoll is a poll of the model.
type modelPoll struct {
	number     int // of the sweep, from 0
	begin, end time.Duration
	err        error
	closed     bool          // Close ended it
	success    time.Duration // end of the last success; -1 if none
}

// polls returns the polls of a region, and for each scrape the one joined, nil
// after Close.
func (m *machine) polls(region string) (all, joined []*modelPoll) {
	for _, s := range m.scrapes {
		var last *modelPoll
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		switch {
		case last != nil && s.at < last.end,
			last != nil && !last.closed && s.at-last.end < m.minInterval:
			joined = append(joined, last)
			continue
		case m.closeAt > 0 && s.at > m.closeAt:
			joined = append(joined, nil)
			continue
		}
		plan := m.sweep(region, len(all))
		p := &modelPoll{number: len(all), begin: s.at, end: s.at + plan.takes, err: plan.err, success: -1}
		if plan.takes > maxPoll {
			p.end, p.err = s.at+maxPoll, context.DeadlineExceeded
		}
		if m.closeAt > 0 && p.end > m.closeAt {
			p.end, p.closed = m.closeAt, true
		}
		if last != nil {
			p.success = last.success
		}
		if p.err == nil && !p.closed {
			p.success = p.end
		}
		all, joined = append(all, p), append(joined, p)
	}
	return all, joined
}

// listLength identifies the sweep that a list is from.
func listLength(number int) int { return 20 + number }

// answer returns what a scrape answered at a time shows of a region.
func (m *machine) answer(region string, all []*modelPoll, joined *modelPoll, at time.Duration, epoch time.Time) samples {
	label := fmt.Sprintf("{region=%q}", region)
	want := samples{"crs_up" + label: "0"}
	shown := joined
	if shown == nil || shown.closed || shown.end > at {
		shown = nil
		for _, p := range all {
			if p.end <= at && !p.closed {
				shown = p
			}
		}
	} else if shown.err == nil {
		want["crs_up"+label] = "1"
		want[fmt.Sprintf("crs_tasks{redisId=%q,region=%q,status=%q,taskName=%q}", "crs-a", region, "pending", backup)] = strconv.Itoa(listLength(shown.number))
	}
	if shown == nil {
		return want
	}
	pages := 100 + shown.number
	if shown.err == context.DeadlineExceeded {
		pages = 0
	}
	want["crs_poll_pages"+label] = strconv.Itoa(pages)
	want["crs_poll_rejected_rows"+label] = "0"
	want["crs_poll_duration_seconds"+label] = decimal((shown.end - shown.begin).Seconds())
	if shown.success >= 0 {
		want["crs_last_success_timestamp_seconds"+label] = decimal(float64(epoch.Add(shown.success).UnixNano()) / 1e9)
	}
	return want
}

// decimal writes a number as an exposition does.
func decimal(value float64) string {
	if value == 0 {
		return "0"
	}
	return strconv.FormatFloat(value, 'g', -1, 64)
}

var machineFamilies = []string{
	"crs_up", "crs_poll_pages", "crs_poll_rejected_rows", "crs_poll_duration_seconds", "crs_last_success_timestamp_seconds",
}

// run executes the plan and compares.
func (m *machine) run(t *testing.T) (problems []string) {
	var mu sync.Mutex
	problem := func(format string, values ...any) {
		mu.Lock()
		defer mu.Unlock()
		problems = append(problems, fmt.Sprintf(format, values...))
	}
	sources := map[string]collector.Source{}
	for _, region := range m.regions {
		calls, running := 0, 0
		sources[region] = sourceFunc(func(ctx context.Context, _ crsapi.Query) (swept, error) {
			mu.Lock()
			n := calls
			calls, running = calls+1, running+1
			if running > 1 {
				problems = append(problems, "two polls of "+region+" at once")
			}
			mu.Unlock()
			defer func() {
				mu.Lock()
				running--
				mu.Unlock()
			}()
			plan := m.sweep(region, n)
			timer := time.NewTimer(plan.takes)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			if plan.err != nil {
				return &fakeList{pages: 100 + n}, plan.err
			}
			l := &fakeList{pages: 100 + n}
			for range listLength(n) {
				l.tasks = append(l.tasks, task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusPending))
			}
			return l, nil
		})
	}
	e := newExporter(t, collector.Config{MinInterval: m.minInterval}, sources)
	epoch := time.Now()
	all, joined := map[string][]*modelPoll{}, map[string][]*modelPoll{}
	for _, region := range m.regions {
		all[region], joined[region] = m.polls(region)
	}
	var running sync.WaitGroup
	for i, s := range m.scrapes {
		running.Go(func() {
			time.Sleep(s.at)
			got := poll(t, e, s.timeout)
			at := time.Since(epoch)
			end := s.at
			for _, region := range m.regions {
				if p := joined[region][i]; p != nil {
					end = max(end, p.end)
				}
			}
			if end = min(end, s.at+s.timeout); at != end {
				problem("scrape %d was answered at %s, want %s", i, at, end)
			}
			for _, region := range m.regions {
				got := got.in(region)
				for series := range got {
					name, _, _ := strings.Cut(series, "{")
					if !slices.Contains(machineFamilies, name) && !strings.Contains(series, `crs_tasks{redisId="crs-a",region="`+region+`",status="pending"`) {
						delete(got, series)
					}
				}
				if want := m.answer(region, all[region], joined[region][i], at, epoch); fmt.Sprint(got) != fmt.Sprint(want) {
					problem("scrape %d at %s of %s: got %v, want %v", i, s.at, region, got, want)
				}
			}
		})
	}
	if m.closeAt > 0 {
		running.Go(func() {
			time.Sleep(m.closeAt)
			e.Close()
			if at := time.Since(epoch); at != m.closeAt {
				problem("Close at %s ended at %s", m.closeAt, at)
			}
		})
	}
	running.Wait()
	time.Sleep(2 * maxPoll) // until all polls have ended
	for i, region := range m.regions {
		var last *modelPoll
		failed := map[crsapi.Reason]int{}
		for _, p := range all[region] {
			if p.closed {
				continue
			}
			last = p
			switch {
			case errors.Is(p.err, context.DeadlineExceeded):
				failed[crsapi.ReasonTimeout]++
			case p.err != nil && !errors.Is(p.err, errRequested):
				failed[crsapi.ReasonDecode]++
			}
		}
		status := e.Status()[i]
		if status.Region != region || (last == nil) != status.End.IsZero() ||
			last != nil && (status.End.Sub(epoch) != last.end || !errors.Is(status.Err, last.err)) {
			problem("status %+v, want that of %+v", status, last)
		}
		got, want := failures(t, e, region), samples{}
		for reason, n := range failed {
			want[string(reason)] = strconv.Itoa(n)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			problem("failures of %s: got %v, want %v", region, got, want)
		}
	}
	return problems
}

var errRequested = &crsapi.Error{Reason: crsapi.ReasonServer, Requested: true}

func drawMachine(t *rapid.T) *machine {
	luck := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	span := func(choices ...time.Duration) time.Duration {
		limit := choices[luck.IntN(len(choices))]
		return time.Duration(1+luck.Int64N(int64(limit/time.Millisecond))) * time.Millisecond
	}
	m := &machine{sweeps: map[string][]plannedSweep{}}
	m.regions = []string{"ap-a", "ap-b", "ap-c"}[:1+luck.IntN(3)]
	if luck.IntN(2) == 0 {
		m.minInterval = span(time.Second, time.Minute)
	}
	for _, region := range m.regions {
		for range 1 + luck.IntN(10) {
			s := plannedSweep{takes: span(100*time.Millisecond, 5*time.Second, 20*time.Second, 10*time.Minute)}
			switch luck.IntN(6) {
			case 0:
				s.err = errRequested
			case 1:
				s.err = errors.New("strange")
			}
			m.sweeps[region] = append(m.sweeps[region], s)
		}
	}
	at := time.Duration(0)
	for i := range 1 + luck.IntN(20) {
		at += span(10*time.Millisecond, time.Second, 15*time.Second, 3*time.Minute)
		// The nanoseconds keep events apart.
		m.scrapes = append(m.scrapes, plannedScrape{
			at:      at + time.Duration(1+i),
			timeout: span(time.Second, 10*time.Second, maxPoll) + 100*time.Nanosecond,
		})
	}
	if luck.IntN(2) == 0 {
		m.closeAt = span(at+time.Second) + 500*time.Nanosecond
	}
	return m
}

// TestPollStateMachine compares random plans with the model: at most one poll of
// a region at a time, every scrape answered at the end of its polls or at its
// deadline, with the list of the poll that it joined, or with what remains of
// the last poll that ended.
func TestPollStateMachine(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := drawMachine(r)
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = m.run(t) })
		for _, p := range problems {
			r.Error(p)
		}
	})
}
