package collector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/client_golang/prometheus"
)

// A series has shown its first 0 only to scrapes that have got the response.
func TestOnlyADeliveredResponseShowsASeries(t *testing.T) {
	request := func(e *collector.Exporter, method, target string) {
		e.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
	}
	tests := []struct {
		name  string
		visit func(t *testing.T, e *collector.Exporter)
		shows bool
	}{
		{"a poll alone", func(t *testing.T, e *collector.Exporter) { e.Poll(t.Context()) }, false},
		{"a scrape", func(t *testing.T, e *collector.Exporter) { scrape(t, e) }, true},
		{"a scrape of the counter alone", func(_ *testing.T, e *collector.Exporter) {
			request(e, http.MethodGet, "/metrics?name[]=crs_up&name[]=crs_task_transitions_total")
		}, true},
		{"a scrape of another metric", func(_ *testing.T, e *collector.Exporter) {
			request(e, http.MethodGet, "/metrics?name[]=crs_up")
		}, false},
		{"a request for the header", func(_ *testing.T, e *collector.Exporter) {
			request(e, http.MethodHead, "/metrics")
		}, false},
		{"a scraper that disconnects during the response", func(_ *testing.T, e *collector.Exporter) {
			ctx, disconnect := context.WithCancel(context.Background())
			w := &brokenWriter{httptest.NewRecorder(), disconnect}
			e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil).WithContext(ctx))
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := &fakeSource{list: list(task("crs-a", clean, "2017-02-10 03:00:00", crsapi.StatusSucceeded))}
			e := watch(t, source)
			e.Poll(t.Context())
			source.set(list(task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)), nil)
			scrape(t, e)
			test.visit(t, e)
			want := "0"
			if test.shows {
				want = "1"
			}
			poll(t, e, time.Minute).want(t, samples{transitions("crs-a", backup, "failed"): want})
		})
	}
}

// brokenWriter is a connection that breaks at the first byte.
type brokenWriter struct {
	http.ResponseWriter
	disconnect func()
}

func (w *brokenWriter) Write([]byte) (int, error) {
	w.disconnect()
	return 0, io.ErrClosedPipe
}

// answeredAfter returns how long a scrape of a region that hangs waits.
func answeredAfter(t *testing.T, header string, offset time.Duration) (waited time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(t, collector.Config{TimeoutOffset: offset}, map[string]collector.Source{
			guangzhou: &fakeSource{delay: time.Hour},
		})
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		if header != "" {
			r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", header)
		}
		w := httptest.NewRecorder()
		begin := time.Now()
		e.Handler().ServeHTTP(w, r)
		waited = time.Since(begin)
		if w.Code != http.StatusOK {
			t.Errorf("status %d", w.Code)
		}
		got := parse(w.Body.String())
		if waited < maxPoll {
			got.want(t, samples{
				`crs_up{region="ap-guangzhou"}`:                                  "0",
				`crs_poll_pages{region="ap-guangzhou"}`:                          "",
				`crs_api_failures_total{reason="timeout",region="ap-guangzhou"}`: "0",
			})
		}
	})
	return waited
}

func TestScrapeTimeout(t *testing.T) {
	const half = 500 * time.Millisecond
	tests := []struct {
		header       string
		offset, want time.Duration
	}{
		{"", 0, 10 * time.Second},
		{"", 0, 10 * time.Second},
		{"soon", 0, 10 * time.Second},
		{"10s", 0, 10 * time.Second},
		{"0", 0, 10 * time.Second},
		{"-0", 0, 10 * time.Second},
		{"-5", 0, 10 * time.Second},
		{"NaN", 0, 10 * time.Second},
		{"Inf", 0, 10 * time.Second},
		{"-Inf", 0, 10 * time.Second},
		{"1e999", 0, 10 * time.Second},
		{"1e-12", 0, 10 * time.Second},
		{"3", 0, 3 * time.Second},
		{"2.5", 0, 2500 * time.Millisecond},
		{"1e-3", 0, time.Millisecond},
		{"300", 0, 5 * time.Minute},
		{"300", half, 5*time.Minute - half},
		{"301", half, 5*time.Minute - half},
		{"1e300", half, 5*time.Minute - half},
		{"10", half, 9500 * time.Millisecond},
		{"", half, 9500 * time.Millisecond},
		{"nonsense", half, 9500 * time.Millisecond},
		{"120", half, 119500 * time.Millisecond},
		{"0.6", half, 100 * time.Millisecond},
		{"0.5", half, 250 * time.Millisecond},
		{"0.2", half, 100 * time.Millisecond},
		{"1", time.Minute, 500 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s less %s", test.header, test.offset), func(t *testing.T) {
			if got := answeredAfter(t, test.header, test.offset); got != test.want {
				t.Errorf("answered after %s, want %s", got, test.want)
			}
		})
	}
}

func FuzzScrapeTimeout(f *testing.F) {
	for _, header := range []string{"", "10", "2.5", "-1", "NaN", "1e300", "1e700", "0x1p-2", "١٠"} {
		f.Add(header, int64(500*time.Millisecond))
	}
	f.Fuzz(func(t *testing.T, header string, offset int64) {
		margin := time.Duration(uint64(offset) % uint64(time.Hour))
		if got := answeredAfter(t, header, margin); got < 0 || got > maxPoll {
			t.Errorf("a timeout of %q less %s gives %s", header, margin, got)
		}
	})
}

// deadlineWriter records the write deadline.
type deadlineWriter struct {
	http.ResponseWriter
	deadline time.Time
}

func (w *deadlineWriter) SetWriteDeadline(deadline time.Time) error {
	w.deadline = deadline
	return nil
}

func TestSlowReadersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(t, collector.Config{TimeoutOffset: time.Second}, map[string]collector.Source{
			guangzhou: &fakeSource{list: list(), delay: 2 * time.Second},
		})
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "30")
		w := &deadlineWriter{ResponseWriter: httptest.NewRecorder()}
		begin := time.Now()
		e.Handler().ServeHTTP(w, r)
		if got := w.deadline.Sub(begin); got != 35*time.Second {
			t.Errorf("the response must be written within %s, want 35s", got)
		}
	})
}

// Over a real connection: a client that disconnects does not end the poll, which
// the next scrape gets.
func TestScraperThatDisconnects(t *testing.T) {
	var logged bytes.Buffer
	began, finish := make(chan struct{}), make(chan struct{})
	// With MinInterval the next scrape gets the same poll also if it has ended.
	e := newExporter(t, collector.Config{Logger: logTo(&logged), MinInterval: time.Hour}, map[string]collector.Source{
		guangzhou: sourceFunc(func(ctx context.Context, _ crsapi.Query) (swept, error) {
			close(began) // a second sweep would panic
			select {
			case <-finish:
				return list(someTask), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}),
	})
	left := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		e.Handler().ServeHTTP(w, r)
	}))
	defer server.Close()
	ctx, disconnect := context.WithCancel(t.Context())
	go func() {
		<-began
		disconnect()
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if response, err := client.Do(r); err == nil {
		response.Body.Close()
		t.Error("the request was answered")
	}
	<-left // the handler did not wait for the poll
	got := make(chan samples)
	go func() { got <- scrape(t, e) }()
	finish <- struct{}{}
	if !(<-got).up(guangzhou) {
		t.Error("down for the next scrape")
	}
	wantEqual(t, "failures", failures(t, e, guangzhou), samples{})
	if strings.Contains(logged.String(), "level=error") {
		t.Errorf("logged %s", logged.String())
	}
}

func TestNoResponseForADisconnectedScraper(t *testing.T) {
	e := watch(t, always(list()))
	ctx, disconnect := context.WithCancel(t.Context())
	disconnect()
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil).WithContext(ctx))
	if w.Body.Len() > 0 {
		t.Errorf("wrote %d bytes", w.Body.Len())
	}
}

func TestErrorsOfTheResponseAreLogged(t *testing.T) {
	var logged bytes.Buffer
	e := newExporter(t, collector.Config{Logger: logTo(&logged)}, map[string]collector.Source{guangzhou: always(list())})
	w := &brokenWriter{httptest.NewRecorder(), func() {}}
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := logged.String(); !strings.Contains(got, "level=debug msg=\"error encoding and sending metric family: io: read/write on closed pipe\"\n") {
		t.Errorf("logged %q", got)
	}
}

func TestRegister(t *testing.T) {
	e := watch(t, always(list()))
	c := prometheus.NewGauge(prometheus.GaugeOpts{Name: "some_gauge"})
	if err := e.Register(c); err != nil {
		t.Fatal(err)
	}
	c.Set(7)
	scrape(t, e).want(t, samples{"some_gauge": "7"})
	var twice prometheus.AlreadyRegisteredError
	if err := e.Register(c); !errors.As(err, &twice) {
		t.Errorf("registered twice: %v", err)
	}
}

func TestHealthyAndReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(t, collector.Config{}, map[string]collector.Source{
			guangzhou: &fakeSource{list: list(), delay: time.Second},
			shanghai:  &fakeSource{err: errors.New("strange"), delay: 2 * time.Second},
		})
		get := func(h http.Handler) string {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			return fmt.Sprint(w.Code, " ", w.Header().Get("Content-Type"), " ", w.Body)
		}
		want := func(when string, code int, ready string) {
			t.Helper()
			if got := get(e.Healthy()); got != "200 text/plain; charset=utf-8 healthy\n" {
				t.Errorf("%s: healthy says %q", when, got)
			}
			if got := get(e.Ready()); got != fmt.Sprintf("%d text/plain; charset=utf-8 %s\n", code, ready) {
				t.Errorf("%s: ready says %q, want %d %q", when, got, code, ready)
			}
		}
		want("before", 503, "waiting for the first poll of ap-guangzhou, ap-shanghai")
		go e.Poll(t.Context())
		time.Sleep(1500 * time.Millisecond)
		want("one has succeeded", 503, "waiting for the first poll of ap-shanghai")
		time.Sleep(time.Second)
		want("the other has failed", 200, "ready")
	})
}
