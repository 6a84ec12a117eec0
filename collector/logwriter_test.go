package collector_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

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
