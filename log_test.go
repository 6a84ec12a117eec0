package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

var errNoSpace = errors.New("no space left on device")

// sink is a log that can stall, or fail after room bytes.
type sink struct {
	bytes.Buffer
	stalled chan struct{} // Write waits until it is closed; nil for not stalled
	full    bool
	room    int // bytes that are written before it is full
}

func (s *sink) Write(p []byte) (int, error) {
	if s.stalled != nil {
		<-s.stalled
	}
	if !s.full {
		return s.Buffer.Write(p)
	}
	n, _ := s.Buffer.Write(p[:min(len(p), s.room)])
	s.room -= n
	if n < len(p) {
		return n, errNoSpace
	}
	return n, nil
}

func writeLines(w io.Writer, name string, n int) {
	for i := range n {
		if _, err := fmt.Fprintf(w, "%s%d\n", name, i); err != nil {
			panic(err)
		}
	}
}

func wantDropped(t *testing.T, l *logWriter, n float64) {
	t.Helper()
	if got := testutil.ToFloat64(l.collector()); got != n {
		t.Errorf("%v lines are counted, want %v", got, n)
	}
}

// TestLogWithoutReader fills the queue while a write stalls. The reader comes back
// later.
func TestLogWithoutReader(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &sink{stalled: make(chan struct{})}
				l := newLogWriter(out, (&settings{logFormat: format}).newLogger)
				wantDropped(t, l, 0)
				writeLines(l, "first", 1)
				synctest.Wait() // the goroutine has taken it
				writeLines(l, "queued", maxQueuedLines)
				wantDropped(t, l, 0)
				writeLines(l, "lost", 5)
				wantDropped(t, l, 5)
				close(out.stalled)
				synctest.Wait()
				writeLines(l, "later", 1)
				l.flush()
				wantDropped(t, l, 5)

				lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
				if len(lines) != maxQueuedLines+3 || lines[maxQueuedLines] != fmt.Sprintf("queued%d", maxQueuedLines-1) || lines[maxQueuedLines+2] != "later0" {
					t.Fatalf("%d lines, the last ones %q", len(lines), lines[max(0, len(lines)-3):])
				}
				notice := lines[maxQueuedLines+1]
				if format == "json" {
					var fields map[string]any
					if err := json.Unmarshal([]byte(notice), &fields); err != nil || fields["lines"] != 5.0 || fields["level"] != "warn" || fields["ts"] == nil {
						t.Errorf("notice %s: %v", notice, err)
					}
				} else if !strings.HasPrefix(notice, `level=warn ts=2000-01-01T00:00:00Z msg="log lines were dropped`) || !strings.HasSuffix(notice, " lines=5") {
					t.Errorf("notice %s", notice)
				}
			})
		})
	}
}

// TestLogOnAFullDisk drops what cannot be written. A line that was cut harms no
// other.
func TestLogOnAFullDisk(t *testing.T) {
	for name, test := range map[string]struct {
		room int
		want string
	}{
		"no byte":  {0, ""},
		"3 bytes":  {3, "los\n"},
		"one line": {6, "lost0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &sink{}
				l := newLogWriter(out, (&settings{}).newLogger)
				for i := range 2 {
					writeLines(l, "fine", 1)
					synctest.Wait()
					out.full, out.room = true, test.room
					writeLines(l, "lost", 4)
					synctest.Wait()
					dropped := 4 - strings.Count(test.want, "lost")
					wantDropped(t, l, float64((i+1)*dropped))
					out.full = false
					writeLines(l, "again", 1)
					synctest.Wait()
					want := "fine0\n" + test.want + "again0\n" +
						fmt.Sprintf("level=warn ts=2000-01-01T00:00:00Z msg=\"log lines were dropped, because they could not be written\" lines=%d\n", dropped)
					if got := out.String(); got != want {
						t.Errorf("the log is %q, want %q", got, want)
					}
					out.Reset()
				}
				l.flush()
			})
		})
	}
}

// TestLogFlush is the end of the process: queued lines are written, but a log that
// nobody reads does not delay it for longer than flushTimeout.
func TestLogFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
		l := newLogWriter(out, (&settings{}).newLogger)
		writeLines(l, "last", 100)
		l.flush()
		if n := strings.Count(out.String(), "last"); n != 100 {
			t.Errorf("%d lines are written", n)
		}

		stalled := &sink{stalled: make(chan struct{})}
		l = newLogWriter(stalled, (&settings{}).newLogger)
		writeLines(l, "last", 100)
		began := time.Now()
		l.flush()
		if took := time.Since(began); took != flushTimeout {
			t.Errorf("it took %s", took)
		}
		writeLines(l, "late", 2*maxQueuedLines) // does not block either
		close(stalled.stalled)
	})
}
