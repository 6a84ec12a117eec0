package collector_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// A scrape that ends early, by its deadline or because its client disconnects, shows no
// list. The poll goes on, updates the counters, and serves a later scrape.
func TestScrapesWaitToTheirOwnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: &mirror.Result{Tasks: []crsapi.Task{someTask}, Pages: 7, Rejected: 2}, delay: 5 * time.Second}
		e := watch(t, source)
		before := poll(t, e, time.Minute)
		source.set(list(someTask, other), nil)
		begin := time.Now()
		got := poll(t, e, time.Second)
		want := before.where(func(series, _ string) bool { return before.listed()[series] == "" })
		want[`crs_up{region="ap-guangzhou"}`] = "0"
		wantEqual(t, "the short scrape", got, want)
		ctx, disconnect := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, disconnect)
		if got := exposed(t, e.Poll(ctx)); time.Since(begin) != 2*time.Second || got.up(guangzhou) {
			t.Errorf("a short scrape, and one without its client, ended after %s", time.Since(begin))
		}
		poll(t, e, 10*time.Second).want(t, samples{
			`crs_up{region="ap-guangzhou"}`: "1", `crs_poll_pages{region="ap-guangzhou"}`: "1", transitions("crs-b", clean, "failed"): "0",
		})
		if len(source.filters) != 2 || source.ended[1] != nil {
			t.Errorf("%d polls, want 1 for all; it ended with %v", len(source.filters)-1, source.ended[1])
		}
		// A poll that no scrape waits for.
		source.set(list(), nil)
		poll(t, e, time.Second)
		time.Sleep(time.Minute)
		if status := e.Status()[0]; status.Tasks != 0 || status.Duration != 5*time.Second || status.Err != nil {
			t.Errorf("status %+v", status)
		}
		wantEqual(t, "failures", failures(t, e), samples{})
	})
}

// A poll ends when no answer has come for five minutes.
func TestPollHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{delay: day}
		e := watch(t, source)
		begin := time.Now()
		for range 40 {
			poll(t, e, 7*time.Second)
		}
		poll(t, e, time.Minute).want(t, samples{
			`crs_up{region="ap-guangzhou"}`: "0", `crs_poll_duration_seconds{region="ap-guangzhou"}`: "300",
		})
		if took := time.Since(begin); took != maxPoll || len(source.filters) != 1 || !errors.Is(source.ended[0], context.DeadlineExceeded) {
			t.Errorf("%d polls after %s, ended with %v", len(source.filters), took, source.ended)
		}
		source.set(list(someTask), nil)
		source.delay = 12 * time.Minute
		go func() {
			for range 3 { // answers of the API
				time.Sleep(4*time.Minute - time.Second)
				source.observe(crsapi.Attempt{})
			}
		}()
		poll(t, e, time.Hour).wantUp(t)
		wantEqual(t, "failures", failures(t, e), samples{failuresOf(crsapi.ReasonTimeout): "1"})
	})
}

// A poll answers the scrapes within the interval, whether it succeeded or not.
func TestMinInterval(t *testing.T) {
	for _, err := range []error{nil, &crsapi.Error{Reason: crsapi.ReasonServer, Requested: true}} {
		synctest.Test(t, func(t *testing.T) {
			source := &fakeSource{list: &mirror.Result{Tasks: []crsapi.Task{someTask}, Pages: 4}, err: err, delay: 10 * time.Second}
			e := newExporter(t, collector.Config{MinInterval: 30 * time.Second}, sources{guangzhou: source})
			first := poll(t, e, time.Minute)
			source.set(list(), nil)
			time.Sleep(30*time.Second - 1)
			wantEqual(t, "within the interval", poll(t, e, time.Minute), first)
			time.Sleep(time.Nanosecond)
			poll(t, e, time.Minute).want(t, samples{`crs_up{region="ap-guangzhou"}`: "1", `crs_poll_pages{region="ap-guangzhou"}`: "1"})
		})
	}
}

// Close ends a poll in progress and waits for it. The poll leaves no trace, and none begins
// after it.
func TestCloseEndsPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		source := &fakeSource{list: list(someTask)}
		e := newExporter(t, collector.Config{Logger: logTo(&logged)}, sources{guangzhou: source})
		before, status := poll(t, e, time.Minute), e.Status()[0]
		logged.Reset()
		returned := false
		source.answer = func(ctx context.Context, _ collector.Filter) (*mirror.Result, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // to cut the connection
			returned = true
			return &mirror.Result{Pages: 3}, fmt.Errorf("list tasks: %w", ctx.Err())
		}
		answered := make(chan samples)
		go func() { answered <- poll(t, e, time.Hour) }()
		synctest.Wait()
		begin := time.Now()
		e.Close()
		if took := time.Since(begin); took != time.Second || !returned {
			t.Errorf("Close took %s and did not wait for the poll", took)
		}
		for _, after := range []samples{<-answered, poll(t, e, time.Minute)} {
			after.want(t, samples{`crs_up{region="ap-guangzhou"}`: "0"})
			wantEqual(t, "the list", after.listed(), samples{})
			wantEqual(t, "counters", after.transitions(), before.transitions())
		}
		if logged.Len() > 0 || !reflect.DeepEqual(e.Status()[0], status) || len(source.filters) != 2 {
			t.Errorf("%d polls, status %+v, logged %q", len(source.filters), e.Status()[0], &logged)
		}
		wantEqual(t, "failures", failures(t, e), samples{})
	})
}

func TestFailuresOfPolls(t *testing.T) {
	for _, test := range []struct {
		err  error
		want samples
	}{
		{fmt.Errorf("list tasks: %w", &crsapi.Error{Reason: crsapi.ReasonAuth, Requested: true}), samples{}}, // the request is already counted
		{&crsapi.Error{Reason: crsapi.ReasonDecode}, samples{failuresOf(crsapi.ReasonDecode): "1"}},
		{&crsapi.Error{Reason: "unknown"}, samples{failuresOf(crsapi.ReasonAPI): "1"}},
		{context.DeadlineExceeded, samples{failuresOf(crsapi.ReasonTimeout): "1"}},
		{context.Canceled, samples{failuresOf(crsapi.ReasonTimeout): "1"}}, // but not by Close
		{errors.New("strange"), samples{failuresOf(crsapi.ReasonDecode): "1"}},
	} {
		e := watch(t, &fakeSource{list: &mirror.Result{Pages: 3, Rejected: 2}, err: test.err})
		got := poll(t, e, time.Minute)
		got.want(t, samples{
			`crs_up{region="ap-guangzhou"}`: "0", `crs_poll_pages{region="ap-guangzhou"}`: "3", `crs_poll_rejected_rows{region="ap-guangzhou"}`: "2",
		})
		if err := e.Status()[0].Err; !errors.Is(err, test.err) || len(got) != 6 {
			t.Errorf("status has error %v, exposed %v", err, got)
		}
		wantEqual(t, test.err.Error(), failures(t, e), test.want)
	}
}

// Watched instances are requested in parallel, each once. Of what is found the sums count,
// the oldest full reading, and each note once. The list of an instance that fails ends the
// poll. What the others found stays then, and what they corrected counts: no later poll tells
// it again.
func TestResultsOfSeveralLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const by, note = "endTime is ignored", "the limit is 10"
		old := beijing("2017-02-10 01:00:00")
		lists := map[string]*mirror.Result{
			"crs-a": {FullRead: old.Add(time.Hour), Notes: []string{note}, Pages: 2, Rejected: 1},
			"crs-b": {FullRead: old, ByOffset: by, Notes: []string{note}, Pages: 3, Corrections: 2},
			"crs-c": {FullRead: old.Add(time.Minute), Rejected: 2, Corrections: 3},
		}
		var logged strings.Builder
		var failing error
		source := &fakeSource{answer: func(ctx context.Context, f collector.Filter) (*mirror.Result, error) {
			time.Sleep(time.Second)
			if failing != nil && f.RedisID != "crs-b" {
				<-ctx.Done()
				return lists[f.RedisID], ctx.Err()
			}
			return lists[f.RedisID], failing
		}}
		e := newExporter(t, collector.Config{
			RedisIDs:  []string{"crs-b", "crs-a", "crs-c", "crs-b"},
			TaskTypes: []string{"task_cleanInstance", "task_backupInstance", "task_cleanInstance"},
			Lookback:  90 * day,
			Logger:    logTo(&logged),
		}, sources{guangzhou: source})
		begin := time.Now()
		for n, err := range []error{nil, nil, errors.New("down")} {
			failing = err
			got := scrape(t, e)
			if got.up(guangzhou) != (err == nil) {
				t.Errorf("poll %d: up is %t", n, got.up(guangzhou))
			}
			got.want(t, samples{
				`crs_poll_pages{region="ap-guangzhou"}`:                  "5",
				`crs_poll_rejected_rows{region="ap-guangzhou"}`:          "3",
				`crs_corrections_total{region="ap-guangzhou"}`:           fmt.Sprint(5 * (n + 1)),
				`crs_full_read_timestamp_seconds{region="ap-guangzhou"}`: decimal(float64(old.Unix())),
				`crs_poll_by_offset{region="ap-guangzhou"}`:              "1",
			})
			status := e.Status()[0]
			if !reflect.DeepEqual(status.Notes, []string{note}) || status.ByOffset != by {
				t.Errorf("status %+v", status)
			}
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("3 polls took %s", took)
		}
		failing = nil
		lists["crs-b"] = lists["crs-a"]
		scrape(t, e).want(t, samples{`crs_poll_by_offset{region="ap-guangzhou"}`: "0"})
		for _, text := range []string{
			`level=warn region=ap-guangzhou msg="the list is read by limit and offset only, which costs more requests" because="endTime is ignored"`,
			`level=warn region=ap-guangzhou msg="the limit is 10"`,
			`level=info region=ap-guangzhou msg="the list is read by beginTime and endTime again"`,
		} {
			if strings.Count(logged.String(), text+"\n") != 1 {
				t.Errorf("not once %q in %s", text, logged.String())
			}
		}
		types := []string{"task_backupInstance", "task_cleanInstance"}
		if f := source.filters[0]; !slices.Equal(f.TaskTypes, types) || f.Lookback != 90*day {
			t.Errorf("requested %v", f)
		}
		wantEqual(t, "failures", failures(t, e), samples{failuresOf(crsapi.ReasonDecode): "1"})
	})
}

func TestDelayOfANewTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const series = `crs_task_first_seen_delay_seconds{region="ap-guangzhou"}`
		ago := func(age time.Duration) crsapi.Task { return backupOf("crs-a", age, crsapi.StatusSucceeded) }
		first, future := ago(2*time.Hour), ago(-8*time.Hour)
		source := &fakeSource{list: list(first)}
		e := watch(t, source)
		// A task of the first list may have been listed for long, unless it is of the future.
		scrape(t, e).want(t, samples{series: ""})
		shown(t, future).want(t, samples{series: "-28800"})
		for _, step := range []struct {
			wait   time.Duration
			newest crsapi.Task
			want   string
		}{
			{0, ago(time.Hour), "3600"},
			{0, ago(time.Hour), "3600"}, // a minute later
			{0, ago(time.Minute), "180"},
			{0, first, "180"},                                 // the newest left
			{29 * time.Minute, ago(-20 * time.Minute), "180"}, // it may have been listed for long
			{0, ago(-30 * time.Minute), "240"},
			{29 * time.Minute, future, "-24960"},
		} {
			time.Sleep(step.wait)
			source.set(list(step.newest, first), nil)
			scrape(t, e).want(t, samples{series: step.want})
			time.Sleep(time.Minute)
		}
		source.set(nil, errors.New("strange"))
		scrape(t, e).want(t, samples{series: "-24960"})
	})
}
