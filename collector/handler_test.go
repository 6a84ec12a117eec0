package collector_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
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
			w := &brokenWriter{httptest.NewRecorder(), "crs_", disconnect}
			e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil).WithContext(ctx))
		}, false},
		{"a scraper that gets all about tasks, and not the rest", func(_ *testing.T, e *collector.Exporter) {
			w := &brokenWriter{httptest.NewRecorder(), "go_goroutines", func() {}}
			e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		}, false},
		{"a scraper whose last bytes stay in a buffer", func(_ *testing.T, e *collector.Exporter) {
			w := &brokenWriter{httptest.NewRecorder(), "", func() {}}
			e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
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

// brokenWriter is a connection that breaks when a text is to be written, or when it
// is flushed if that is empty.
type brokenWriter struct {
	*httptest.ResponseRecorder
	at         string
	disconnect func()
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.at != "" && bytes.Contains(b, []byte(w.at)) {
		return 0, w.error()
	}
	return w.ResponseRecorder.Write(b)
}

func (w *brokenWriter) FlushError() error { return w.error() }

func (w *brokenWriter) error() error {
	w.disconnect()
	return io.ErrClosedPipe
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

// stuckWriter is a client that does not read: each write waits until unstuck is
// closed.
type stuckWriter struct {
	*httptest.ResponseRecorder
	stuck   chan<- struct{} // gets a value at the first write
	unstuck <-chan struct{}
	writes  int
}

func (w *stuckWriter) Write(b []byte) (int, error) {
	w.writes++
	if w.writes == 1 {
		w.stuck <- struct{}{}
	}
	<-w.unstuck
	return w.ResponseRecorder.Write(b)
}

// Clients that do not read take no place of others, and no memory for more than
// three answers.
func TestClientsThatDoNotRead(t *testing.T) {
	var tasks []crsapi.Task
	for i := range 500 { // several chunks
		tasks = append(tasks, task(fmt.Sprintf("crs-%d", i), backup, "2017-02-10 03:00:00", crsapi.StatusFailed))
	}
	e := watch(t, always(list(tasks...)))
	handler := e.Handler()
	request := func() *http.Request { return httptest.NewRequest(http.MethodGet, "/metrics", nil) }
	const clients = 45
	stuck, unstuck := make(chan struct{}), make(chan struct{})
	writers, aborted := make([]*stuckWriter, clients), make([]bool, clients)
	var waiting sync.WaitGroup
	for i := range writers {
		writers[i] = &stuckWriter{ResponseRecorder: httptest.NewRecorder(), stuck: stuck, unstuck: unstuck}
		waiting.Go(func() {
			defer func() { aborted[i] = recover() == http.ErrAbortHandler }()
			handler.ServeHTTP(writers[i], request())
		})
		<-stuck // each has a poll, and so an answer, of its own
	}
	isWhole := func(w *httptest.ResponseRecorder) bool {
		return strings.Contains(w.Body.String(), "crs_up") && strings.Contains(w.Body.String(), "\npromhttp_")
	}
	for range 18 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request())
		if w.Code != http.StatusOK || !isWhole(w) {
			t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
		}
	}
	close(unstuck)
	waiting.Wait()
	whole := 0
	for i, w := range writers {
		switch {
		case isWhole(w.ResponseRecorder) && !aborted[i]:
			whole++
		case isWhole(w.ResponseRecorder) || !aborted[i] || w.writes != 1:
			t.Errorf("a client that was cut got %d chunks, aborted %t", w.writes, aborted[i])
		}
	}
	if whole != 2 {
		t.Errorf("%d clients got all, want 2 beside the last scrape", whole)
	}
}

// Both parts of an answer are one gzip stream: browsers read no second one.
func TestCompressedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(t, collector.Config{MinInterval: time.Hour}, map[string]collector.Source{guangzhou: always(list(someTask))})
		handler := e.Handler()
		get := func(method, accept, encoding string) (http.Header, string) {
			r := httptest.NewRequest(method, "/metrics", nil)
			r.Header.Set("Accept", accept)
			r.Header.Set("Accept-Encoding", encoding)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Header().Get("Content-Encoding") != "gzip" {
				return w.Header(), w.Body.String()
			}
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			z.Multistream(false)
			body, err := io.ReadAll(z)
			if err != nil || w.Body.Len() > 0 {
				t.Errorf("%v, %d bytes after the stream", err, w.Body.Len())
			}
			return w.Header(), string(body)
		}
		for _, accept := range []string{textFormat, openMetricsFormat} {
			_, plain := get(http.MethodGet, accept, "identity")
			header, unzipped := get(http.MethodGet, accept, "gzip")
			if withoutRuntime(plain) != withoutRuntime(unzipped) || !strings.Contains(unzipped, "go_goroutines ") {
				t.Errorf("compressed:\n%s\nplain:\n%s", unzipped, plain)
			}
			if got := header.Values("Vary"); !slices.Equal(got, []string{"Accept", "Accept-Encoding"}) {
				t.Errorf("Vary: %q", got)
			}
		}
		if header, body := get(http.MethodHead, textFormat, ""); body != "" || header.Get("Content-Type") == "" {
			t.Errorf("HEAD returns %d bytes, header %v", len(body), header)
		}
	})
}

func TestTooManyScrapesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watch(t, &fakeSource{list: list(), delay: time.Second})
		handler := e.Handler()
		codes := make(chan int, 100)
		for range 42 {
			go func() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				if (w.Code == http.StatusServiceUnavailable) != (w.Header().Get("Retry-After") == "1") {
					t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
				}
				codes <- w.Code
			}()
		}
		synctest.Wait()
		if len(codes) != 2 || <-codes != http.StatusServiceUnavailable || <-codes != http.StatusServiceUnavailable {
			t.Errorf("%d scrapes were refused at once, want 2", len(codes))
		}
		for range 40 {
			if code := <-codes; code != http.StatusOK {
				t.Errorf("status %d for a scrape that waited", code)
			}
		}
		if got := scrape(t, e); !got.up(guangzhou) {
			t.Error("down afterwards")
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
	w := &brokenWriter{httptest.NewRecorder(), "", func() {}}
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := logged.String(); !strings.Contains(got, "level=debug msg=\"cannot write the response\" err=\"io: read/write on closed pipe\"\n") {
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

// longList is a list whose full reading outlives a scrape.
type longList struct{ collector.List }

func (longList) Progress() (read, due int) { return 1, 300 }

type longSource struct{ *fakeSource }

func (s longSource) Open(f collector.Filter) collector.List { return longList{s.fakeSource.Open(f)} }

// A list of any length must not keep a Kubernetes Service from its exporter.
func TestReadyWhileALongListIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watch(t, longSource{&fakeSource{list: list(), delay: time.Minute}})
		code := func() int {
			w := httptest.NewRecorder()
			e.Ready().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			return w.Code
		}
		if got := code(); got != http.StatusServiceUnavailable {
			t.Errorf("status %d before the first poll", got)
		}
		go e.Poll(t.Context())
		synctest.Wait()
		if got := code(); got != http.StatusOK {
			t.Errorf("status %d while the list is read", got)
		}
	})
}
