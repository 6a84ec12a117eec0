package main

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxQueuedLines limits the lines that wait to be written, about 200 KB.
	maxQueuedLines = 1000
	// flushTimeout is how long the process waits at its end for its last lines.
	flushTimeout = 2 * time.Second
)

// newLogger returns the logger of the settings. Each record is one Write to w.
func (s *settings) newLogger(w io.Writer) log.Logger {
	encode := log.NewLogfmtLogger
	if s.logFormat == "json" {
		encode = log.NewJSONLogger
	}
	return level.NewFilter(encode(w), level.Allow(level.ParseDefault(s.logLevel, level.InfoValue())))
}

// logWriter writes lines in a goroutine of its own, so that nobody waits for a
// log that is not read. A line that does not fit in the queue, or that cannot be
// written, is dropped and counted. It is safe for concurrent use.
type logWriter struct {
	lines   chan []byte
	dropped atomic.Uint64
	closing chan struct{}
	done    chan struct{} // closed when the goroutine has ended
}

// newLogWriter returns a logWriter that writes to w until flush. When lines can
// be written again, a record of newLogger(w) says how many were dropped.
func newLogWriter(w io.Writer, newLogger func(io.Writer) log.Logger) *logWriter {
	l := &logWriter{
		lines:   make(chan []byte, maxQueuedLines),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	whole := &wholeLines{w: w}
	notice := level.Warn(log.With(newLogger(whole), "ts", log.DefaultTimestampUTC))
	go l.drain(whole, notice)
	return l
}

// Write queues p, which is one line. It neither blocks nor fails.
func (l *logWriter) Write(p []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(p):
	default:
		l.dropped.Add(1)
	}
	return len(p), nil
}

// flush writes the lines in the queue, but waits at most flushTimeout. Later
// lines are lost. Only a goroutine whose write blocks is left behind.
func (l *logWriter) flush() {
	close(l.closing)
	within(flushTimeout, l.done)
}

func (l *logWriter) drain(w io.Writer, notice log.Logger) {
	defer close(l.done)
	var told uint64 // dropped lines that a notice has reported
	write := func(line []byte) {
		if _, err := w.Write(line); err != nil {
			l.dropped.Add(1)
			return
		}
		// The lines before the gap are written first.
		if n := l.dropped.Load(); n > told && len(l.lines) == 0 {
			if notice.Log("msg", "log lines were dropped, because they could not be written", "lines", n-told) == nil {
				told = n
			}
		}
	}
	for {
		select {
		case line := <-l.lines:
			write(line)
		case <-l.closing:
			if len(l.lines) == 0 {
				return
			}
		}
	}
}

// wholeLines begins a new line after a write that was cut, for example by a full
// disk.
type wholeLines struct {
	w   io.Writer
	cut bool
}

// Write implements io.Writer.
func (l *wholeLines) Write(line []byte) (int, error) {
	if l.cut {
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.w.Write(line)
	if n > 0 {
		l.cut = line[n-1] != '\n'
	}
	return n, err
}

// within waits until done is closed, but at most for limit.
func within(limit time.Duration, done <-chan struct{}) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// logMetrics describes what logWriter.collector exposes.
func logMetrics() []collector.Metric {
	return []collector.Metric{{
		Name: "crs_log_lines_dropped_total", Type: "counter",
		Help: "Lines of the log that could not be written, because nobody reads the log or its disk is full.",
	}}
}

func (l *logWriter) collector() prometheus.Collector {
	m := logMetrics()[0]
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, func() float64 {
		return float64(l.dropped.Load())
	})
}
