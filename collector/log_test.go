package collector_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
)

func logTo(w io.Writer) log.Logger { return log.NewLogfmtLogger(log.NewSyncWriter(w)) }

func TestLogOfChanges(t *testing.T) {
	var logged bytes.Buffer
	source := &fakeSource{}
	e := newExporter(t, collector.Config{Logger: logTo(&logged)}, map[string]collector.Source{guangzhou: source})
	apiError := func(reason crsapi.Reason) error {
		return &crsapi.Error{Reason: reason, Requested: true, Err: errors.New("details")}
	}
	polls := []struct {
		list swept
		err  error
		want string
	}{
		{list(someTask), nil, `level=info region=ap-guangzhou msg="first poll succeeded" api=2.0 tasks=1 instances=1`},
		{list(someTask), nil, ""},
		{nil, apiError(crsapi.ReasonNetwork), `level=error region=ap-guangzhou msg="poll failed" reason=network err=`},
		{nil, apiError(crsapi.ReasonNetwork), ""},
		{nil, apiError(crsapi.ReasonAuth), `level=error region=ap-guangzhou msg="poll failed" reason=auth err=`},
		{nil, apiError(crsapi.ReasonAuth), ""},
		{list(someTask), nil, `level=info region=ap-guangzhou msg="poll recovered" tasks=1`},
		{&fakeList{rejected: 2}, nil, `level=warn region=ap-guangzhou msg="cannot read some rows of the list" rejected=2`},
		{&fakeList{rejected: 3}, nil, ""},
		{list(someTask), nil, `level=info region=ap-guangzhou msg="all rows of the list can be read again"`},
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

func TestLogOfARegionThatIsDownFromTheStart(t *testing.T) {
	var logged bytes.Buffer
	source := &fakeSource{err: errors.New("strange")}
	e := newExporter(t, collector.Config{Logger: logTo(&logged)}, map[string]collector.Source{guangzhou: source})
	e.Poll(t.Context())
	e.Poll(t.Context())
	want := `level=error region=ap-guangzhou msg="poll failed" reason=decode err=strange` + "\n"
	if logged.String() != want {
		t.Errorf("logged %q, want %q", logged.String(), want)
	}
	logged.Reset()
	source.set(list(someTask), nil)
	e.Poll(t.Context())
	if want := `level=info region=ap-guangzhou msg="poll recovered" tasks=1` + "\n"; logged.String() != want {
		t.Errorf("logged %q, want %q", logged.String(), want)
	}
}

// A list of many tasks that becomes empty is told once, and its return too.
func TestLogOfAListThatBecomesEmpty(t *testing.T) {
	var logged bytes.Buffer
	source := &fakeSource{}
	e := newExporter(t, collector.Config{Logger: logTo(&logged), RedisIDs: []string{"crs-a"}}, map[string]collector.Source{guangzhou: source})
	many := func(n int) swept {
		l := &fakeList{}
		for i := range n {
			l.tasks = append(l.tasks, task("crs-a", backup, "2017-02-10 01:00:"+strconv.Itoa(10+i), crsapi.StatusSucceeded))
		}
		return l
	}
	const (
		empty = `level=warn region=ap-guangzhou msg="the list has become empty though the API reports success" tasks_before=`
		back  = `level=info region=ap-guangzhou msg="the list has tasks again" tasks=`
		few   = `level=warn region=ap-guangzhou msg="the API lists no task of some watched instances: it does not know them in this region, or they have none" instances=1 redis_ids=crs-a`
	)
	for i, poll := range []struct {
		list swept
		want string
	}{
		{many(40), "level=info region=ap-guangzhou msg=\"first poll succeeded\""},
		{many(0), empty + "40"},
		{many(0), ""},
		{many(1), back + "1"},
		{many(0), few}, // the one task left the list
		{many(0), ""},
		{many(10), ""},
		{many(0), empty + "10"},
		{&fakeList{rejected: 3}, `level=warn region=ap-guangzhou msg="cannot read some rows`},
		{many(10), ""},
	} {
		logged.Reset()
		source.set(poll.list, nil)
		e.Poll(t.Context())
		got := logged.String()
		if i == 9 {
			if !strings.Contains(got, back+"10") {
				t.Errorf("logged %q", got)
			}
			continue
		}
		if !strings.HasPrefix(got, poll.want) || (poll.want == "") != (got == "") || strings.Count(got, "\n") > 1 {
			t.Errorf("poll %d logged %q, want %q", i, got, poll.want)
		}
	}
}

// A line names some instances of many.
func TestLogOfManyUnlistedInstances(t *testing.T) {
	var logged bytes.Buffer
	ids := []string{"crs-a"}
	for i := range 30 {
		ids = append(ids, fmt.Sprintf("crs-b%02d", i))
	}
	e := newExporter(t, collector.Config{Logger: logTo(&logged), RedisIDs: ids}, map[string]collector.Source{guangzhou: always(list(someTask))})
	e.Poll(t.Context())
	e.Poll(t.Context())
	if text := logged.String(); strings.Count(text, "instances=30") != 1 || !strings.Contains(text, `redis_ids="crs-b00,crs-b01,`) && !strings.Contains(text, `redis_ids=crs-b00,crs-b01,`) ||
		!strings.Contains(text, "crs-b19,...") || strings.Contains(text, "crs-b20") {
		t.Errorf("logged %q", text)
	}
}
