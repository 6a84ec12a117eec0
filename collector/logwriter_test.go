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

func wantDropped(t *testing.T, l *collector.LogWriter, n float64) {
	t.Helper()
	if got := testutil.ToFloat64(l); got != n {
		t.Errorf("%v lines are counted, want %v", got, n)
	}
}

// TestBlockedLog fills the queue while a write blocks, and then unblocks it.
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
		wantDropped(t, l, 0)
		fmt.Fprintln(l, "dropped")
		wantDropped(t, l, 1)
		close(out.blocked)
		synctest.Wait()
		fmt.Fprintln(l, "last")
		l.Close(time.Second)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != queue+2 || lines[0] != "first" || lines[queue] != "queued 999" || lines[queue+1] != "last" {
			t.Errorf("%d lines, the last one is %q", len(lines), lines[len(lines)-1])
		}
		wantDropped(t, l, 1)
	})
}

// TestCloseOfABlockedLog: it takes no longer than its timeout, and later lines do not
// block either.
func TestCloseOfABlockedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{blocked: make(chan struct{})}
		l := collector.NewLogWriter(out)
		fmt.Fprintln(l, "line")
		begin := time.Now()
		l.Close(3 * time.Second)
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("it took %s", took)
		}
		for range 2000 {
			fmt.Fprintln(l, "late")
		}
		close(out.blocked)
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
		wantDropped(t, l, 4)
		out.err = nil
		fmt.Fprintln(l, "again")
		l.Close(time.Second)
		if out.String() != "again\n" {
			t.Errorf("the log is %q", &out.Buffer)
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
