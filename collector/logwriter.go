package collector

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// maxQueuedLines limits the lines that wait to be written, about 200 KB.
const maxQueuedLines = 1000

// LogWriter writes log lines in its own goroutine: a blocked stderr blocks no caller.
// A line that does not fit into the queue, or whose write fails, is dropped and counted.
// It is safe for concurrent use. As a prometheus.Collector it has the number of dropped
// lines.
type LogWriter struct {
	prometheus.Collector
	lines   chan []byte
	dropped atomic.Uint64
	closing chan struct{}
	done    chan struct{} // closed when the goroutine has ended
}

// NewLogWriter returns a LogWriter that writes to w until Close.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{lines: make(chan []byte, maxQueuedLines), closing: make(chan struct{}), done: make(chan struct{})}
	l.Collector = prometheus.NewCounterFunc(droppedLinesMetric.counter(), func() float64 { return float64(l.dropped.Load()) })
	go l.run(w)
	return l
}

// Write queues p, which is one line. It neither blocks nor fails.
func (l *LogWriter) Write(p []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(p):
	default:
		l.dropped.Add(1)
	}
	return len(p), nil
}

// Close waits until the queued lines are written, at most for the timeout. Later lines
// are lost.
func (l *LogWriter) Close(timeout time.Duration) {
	close(l.closing)
	select {
	case <-l.done:
	case <-time.After(timeout):
	}
}

func (l *LogWriter) run(w io.Writer) {
	defer close(l.done)
	for {
		select {
		case line := <-l.lines:
			if _, err := w.Write(line); err != nil {
				l.dropped.Add(1)
			}
		case <-l.closing:
			if len(l.lines) == 0 {
				return
			}
		}
	}
}

// NewLogger returns a logger of the format logfmt or json without records below a level.
// Each record is one Write to w.
func NewLogger(w io.Writer, format, lowest string) log.Logger {
	encode := log.NewLogfmtLogger
	if format == "json" {
		encode = log.NewJSONLogger
	}
	return level.NewFilter(encode(w), level.Allow(level.ParseDefault(lowest, level.InfoValue())))
}
