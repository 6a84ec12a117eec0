package collector_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// sink is a log whose writes can block or fail.
type sink struct {
	bytes.Buffer
	blocked chan struct{} // Write waits until it is closed; nil for not blocked
	err     error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.blocked != nil {
		<-s.blocked
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.Buffer.Write(p)
}

// Nothing waits for a log whose writes block. What does not fit into the queue is counted.
func TestBlockedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queue = 1000
		out := &sink{blocked: make(chan struct{})}
		l := collector.NewLogWriter(out)
		fmt.Fprintln(l, "first")
		synctest.Wait() // its write blocks
		for i := range queue {
			fmt.Fprintln(l, "queued", i)
		}
		fmt.Fprintln(l, "dropped")
		begin := time.Now()
		l.Close(3 * time.Second)
		if took := time.Since(begin); took != 3*time.Second || testutil.ToFloat64(l) != 1 {
			t.Errorf("Close took %s, %v lines are counted", took, testutil.ToFloat64(l))
		}
		close(out.blocked)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != queue+1 || lines[0] != "first" || lines[queue] != "queued 999" {
			t.Errorf("%d lines, the last one is %q", len(lines), lines[len(lines)-1])
		}
		for range 2 * queue {
			fmt.Fprintln(l, "late")
		}
	})
}

func TestBrokenLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{err: errors.New("no space left on device")}
		l := collector.NewLogWriter(out)
		for range 4 {
			fmt.Fprintln(l, "lost")
		}
		synctest.Wait()
		out.err = nil
		for range 20 {
			fmt.Fprintln(l, "again")
		}
		l.Close(time.Second)
		if strings.Count(out.String(), "again\n") != 20 || testutil.ToFloat64(l) != 4 {
			t.Errorf("the log is %q, %v lines are counted", &out.Buffer, testutil.ToFloat64(l))
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
