package collector_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// writeFunc is a log.
type writeFunc func(p []byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

// Nothing waits for a log whose writes block. What does not fit into the queue, or cannot be
// written, is counted.
func TestBlockedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queue = 1000
		var lines []string
		blocked := make(chan struct{})
		l := collector.NewLogWriter(writeFunc(func(p []byte) (int, error) {
			<-blocked
			if string(p) == "lost\n" {
				return 0, errors.New("no space left on device")
			}
			lines = append(lines, string(p))
			return len(p), nil
		}))
		fmt.Fprintln(l, "lost")
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
		close(blocked)
		synctest.Wait()
		if len(lines) != queue || lines[0] != "queued 0\n" || lines[queue-1] != "queued 999\n" || testutil.ToFloat64(l) != 2 {
			t.Errorf("%d lines, %v lines are counted", len(lines), testutil.ToFloat64(l))
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
