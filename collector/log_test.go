package collector_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// What goes on is logged once: its begin and its end.
func TestLog(t *testing.T) {
	type step struct {
		list *mirror.Result
		err  error
		want string // begin of the only line, without the region
	}
	many := func(n int) *mirror.Result { return list(slices.Repeat([]crsapi.Task{someTask}, n)...) }
	const (
		first = `level=info msg="first poll succeeded" api=2.0 tasks=`
		empty = `level=warn msg="the list has become empty though the API reports success" tasks_before=`
		few   = `level=warn msg="the API lists no task of some watched instances: it does not know them in this region, or they have none" instances=1 redis_ids=crs-a`
	)
	for name, steps := range map[string][]step{
		"polls fail": {
			{many(1), nil, first + "1 instances=1"},
			{many(1), nil, ""},
			{nil, &crsapi.Error{Reason: crsapi.ReasonNetwork}, `level=error msg="poll failed" reason=network err=`},
			{nil, &crsapi.Error{Reason: crsapi.ReasonNetwork}, ""},
			{nil, &crsapi.Error{Reason: crsapi.ReasonAuth}, `level=error msg="poll failed" reason=auth err=`},
			{many(1), nil, `level=info msg="poll recovered" tasks=1`},
		},
		"down from the start": {
			{nil, errors.New("strange"), `level=error msg="poll failed" reason=decode err=strange`},
			{many(1), nil, `level=info msg="poll recovered" tasks=1`},
		},
		"rows are rejected": {
			{many(1), nil, first},
			{&mirror.Result{Tasks: many(1).Tasks, Rejected: 2}, nil, `level=warn msg="cannot read some rows of the list" rejected=2`},
			{&mirror.Result{Tasks: many(1).Tasks, Rejected: 3}, nil, ""},
			{many(1), nil, `level=info msg="all rows of the list can be read again"`},
			{&mirror.Result{Tasks: many(1).Tasks, Corrections: 2}, nil, `level=warn msg="old pages had changed: the list was corrected" corrections=2`},
		},
		"the list becomes empty": {
			{many(40), nil, first},
			{many(0), nil, empty + "40"},
			{many(0), nil, ""},
			{many(1), nil, `level=info msg="the list has tasks again" tasks=1`},
			{many(0), nil, few}, // the one task left the list
			{many(0), nil, ""},
			{many(10), nil, ""},
			{many(0), nil, empty + "10"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			source := &fakeSource{}
			e := newExporter(t, collector.Config{Logger: logTo(&logged), RedisIDs: []string{"crs-a"}}, sources{guangzhou: source})
			for i, step := range steps {
				logged.Reset()
				source.set(step.list, step.err)
				e.Poll(t.Context())
				got := strings.Replace(logged.String(), "region=ap-guangzhou ", "", 1)
				if !strings.HasPrefix(got, step.want) || (step.want == "") != (got == "") || strings.Count(got, "\n") > 1 {
					t.Errorf("poll %d logged %q, want %q", i, got, step.want)
				}
			}
		})
	}
}

// Nothing waits for a log whose writes block. What does not fit into the queue, or cannot be
// written, is counted.
func TestBlockedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queue = 1000
		r, w := io.Pipe()
		l := collector.NewLogWriter(w)
		fmt.Fprintln(l, "line", 0)
		synctest.Wait() // its write blocks
		for i := range queue {
			fmt.Fprintln(l, "line", i+1)
		}
		fmt.Fprintln(l, "dropped")
		begin := time.Now()
		l.Close(3 * time.Second)
		if took := time.Since(begin); took != 3*time.Second || testutil.ToFloat64(l) != 1 {
			t.Errorf("Close took %s, %v lines are counted", took, testutil.ToFloat64(l))
		}
		lines := bufio.NewReader(r)
		for i := range queue {
			if line, err := lines.ReadString('\n'); line != fmt.Sprintln("line", i) {
				t.Fatalf("line %d is %q, %v", i, line, err)
			}
		}
		_ = r.CloseWithError(errors.New("no space left on device")) // for the last line
		synctest.Wait()
		if n := testutil.ToFloat64(l); n != 2 {
			t.Errorf("%v lines are counted", n)
		}
		for range 2 * queue {
			fmt.Fprintln(l, "late")
		}
	})
}

func TestLogger(t *testing.T) {
	for _, test := range []struct{ format, lowest, want string }{
		{"logfmt", "info", "level=info msg=\"a b\"\n"},
		{"json", "debug", `{"level":"info","msg":"a b"}` + "\n"},
		{"json", "error", ""},
	} {
		var out bytes.Buffer
		level.Info(collector.NewLogger(&out, test.format, test.lowest)).Log("msg", "a b")
		if out.String() != test.want {
			t.Errorf("%s from %s: %q", test.format, test.lowest, &out)
		}
	}
}
