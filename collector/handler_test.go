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
	visit := func(method, target string) func(*testing.T, *collector.Exporter) {
		return func(_ *testing.T, e *collector.Exporter) {
			serve(e.Handler(), httptest.NewRequest(method, target, nil))
		}
	}
	breaks := func(at string) func(*testing.T, *collector.Exporter) {
		return func(_ *testing.T, e *collector.Exporter) {
			ctx, disconnect := context.WithCancel(context.Background())
			e.Handler().ServeHTTP(&brokenWriter{httptest.NewRecorder(), at, disconnect}, request().WithContext(ctx))
		}
	}
	for _, test := range []struct {
		name  string
		visit func(t *testing.T, e *collector.Exporter)
		shows bool
	}{
		{"a poll alone", func(t *testing.T, e *collector.Exporter) { e.Poll(t.Context()) }, false},
		{"a scrape", func(t *testing.T, e *collector.Exporter) { scrape(t, e) }, true},
		{"a scrape of the counter alone", visit(http.MethodGet, "/metrics?name[]=crs_up&name[]=crs_task_transitions_total"), true},
		{"a scrape of another metric", visit(http.MethodGet, "/metrics?name[]=crs_up"), false},
		{"a request for the header", visit(http.MethodHead, "/metrics"), false},
		{"a scraper that disconnects during the response", breaks("crs_"), false},
		{"a scraper that gets all about tasks, and not the rest", breaks("go_goroutines"), false},
		{"a scraper whose last bytes stay in a buffer", breaks(""), false},
	} {
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
		e := newExporter(t, collector.Config{TimeoutOffset: offset}, sources{guangzhou: &fakeSource{delay: time.Hour}})
		begin := time.Now()
		w := serve(e.Handler(), request("X-Prometheus-Scrape-Timeout-Seconds", header))
		if waited = time.Since(begin); w.Code != http.StatusOK {
			t.Errorf("status %d", w.Code)
		}
		if waited < maxPoll {
			parse(w.Body.String()).want(t, samples{
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
	for _, header := range []string{"", "soon", "10s", "0", "-0", "-5", "NaN", "Inf", "-Inf", "1e999", "1e-12"} {
		if got := answeredAfter(t, header, half); got != 9500*time.Millisecond {
			t.Errorf("timeout %q: answered after %s, want the default", header, got)
		}
	}
	for _, test := range []struct {
		header       string
		offset, want time.Duration
	}{
		{"3", 0, 3 * time.Second},
		{"2.5", 0, 2500 * time.Millisecond},
		{"1e-3", 0, time.Millisecond},
		{"300", 0, 5 * time.Minute},
		{"300", half, 5*time.Minute - half},
		{"301", half, 5*time.Minute - half},
		{"1e300", half, 5*time.Minute - half},
		{"10", half, 9500 * time.Millisecond},
		{"0.6", half, 100 * time.Millisecond},
		{"0.5", half, 250 * time.Millisecond},
		{"0.2", half, 100 * time.Millisecond},
		{"1", time.Minute, 500 * time.Millisecond},
	} {
		if got := answeredAfter(t, test.header, test.offset); got != test.want {
			t.Errorf("timeout %s less %s: answered after %s, want %s", test.header, test.offset, got, test.want)
		}
	}
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
		e := watch(t, &fakeSource{list: list(), delay: 2 * time.Second})
		w := &deadlineWriter{ResponseWriter: httptest.NewRecorder()}
		begin := time.Now()
		e.Handler().ServeHTTP(w, request("X-Prometheus-Scrape-Timeout-Seconds", "30"))
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

// Clients that do not read take no place of others.
func TestClientsThatDoNotRead(t *testing.T) {
	var tasks []crsapi.Task
	for i := range 50 {
		tasks = append(tasks, task(fmt.Sprintf("crs-%d", i), backup, "2017-02-10 03:00:00", crsapi.StatusFailed))
	}
	handler := watch(t, &fakeSource{list: list(tasks...)}).Handler()
	const clients = 45
	stuck, unstuck := make(chan struct{}), make(chan struct{})
	writers := make([]*stuckWriter, clients)
	var waiting sync.WaitGroup
	for i := range writers {
		writers[i] = &stuckWriter{ResponseRecorder: httptest.NewRecorder(), stuck: stuck, unstuck: unstuck}
		waiting.Go(func() { handler.ServeHTTP(writers[i], request()) })
		<-stuck // each has a poll, and so an answer, of its own
	}
	isWhole := func(w *httptest.ResponseRecorder) bool {
		return strings.Contains(w.Body.String(), "crs_up") && strings.Contains(w.Body.String(), "\npromhttp_")
	}
	for range 18 {
		w := serve(handler, request())
		if w.Code != http.StatusOK || !isWhole(w) {
			t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
		}
	}
	close(unstuck)
	waiting.Wait()
	for i, w := range writers {
		if !isWhole(w.ResponseRecorder) {
			t.Errorf("client %d got %d bytes", i, w.Body.Len())
		}
	}
}

func TestCompressedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := newExporter(t, collector.Config{MinInterval: time.Hour}, sources{guangzhou: &fakeSource{list: list(someTask)}}).Handler()
		// body returns the text of a response, and whether it was compressed.
		body := func(w *httptest.ResponseRecorder) (text string, compressed bool) {
			if w.Header().Get("Content-Encoding") != "gzip" {
				return w.Body.String(), false
			}
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			z.Multistream(false)
			unzipped, err := io.ReadAll(z)
			if err != nil || w.Body.Len() > 0 {
				t.Errorf("%v, %d bytes after the stream", err, w.Body.Len())
			}
			return string(unzipped), true
		}
		for _, accept := range []string{textFormat, openMetricsFormat} {
			plain, _ := body(serve(handler, request("Accept", accept)))
			for encoding, want := range map[string]bool{
				"": false, "gzip": true, "GZIP": true, "identity": false, "deflate, gzip;q=1.0, *;q=0": true, "gzip;q=0": false,
				"gzip; q=0.000, *": false, "*": true, "*;q=0": false, "gzip;q=much": false, "x-gzip": false, " , ,gzip": true,
			} {
				w := serve(handler, request("Accept", accept, "Accept-Encoding", encoding))
				text, compressed := body(w)
				if compressed != want {
					t.Errorf("Accept-Encoding %q: compressed is %t", encoding, compressed)
				}
				if withoutRuntime(text) != withoutRuntime(plain) || !strings.Contains(text, "go_goroutines ") {
					t.Errorf("Accept-Encoding %q:\n%s\nplain:\n%s", encoding, text, plain)
				}
				if got := w.Header().Values("Vary"); !slices.Equal(got, []string{"Accept", "Accept-Encoding"}) {
					t.Errorf("Vary: %q", got)
				}
			}
		}
		r := request("Accept", textFormat)
		r.Method = http.MethodHead
		if w := serve(handler, r); w.Body.Len() > 0 || w.Header().Get("Content-Type") == "" {
			t.Errorf("HEAD returns %d bytes, header %v", w.Body.Len(), w.Header())
		}
	})
}

// Scrapes that join a poll share an answer. Those of another format, of other metrics or
// of another poll do not.
func TestSharedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(someTask)}
		handler := newExporter(t, collector.Config{MinInterval: time.Minute}, sources{guangzhou: source}).Handler()
		get := func(target, accept string) string {
			r := httptest.NewRequest(http.MethodGet, target, nil)
			r.Header.Set("Accept", accept)
			return serve(handler, r).Body.String()
		}
		first := get("/metrics", textFormat)
		if get("/metrics", textFormat) != first { // also of the runtime
			t.Error("encoded twice")
		}
		if text := get("/metrics", openMetricsFormat); !strings.HasSuffix(text, "# EOF\n") {
			t.Errorf("not OpenMetrics: %s", text)
		}
		if text := get("/metrics?name[]=crs_up", openMetricsFormat); strings.Contains(text, "crs_tasks") {
			t.Errorf("not only crs_up: %s", text)
		}
		get("/metrics", textFormat)
		time.Sleep(time.Minute)
		source.set(list(), nil)
		if text := get("/metrics", textFormat); strings.Contains(text, "crs_tasks") || !strings.Contains(first, "crs_tasks") {
			t.Errorf("an old list: %s", text)
		}
	})
}

func TestTooManyScrapesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := watch(t, &fakeSource{list: list(), delay: time.Second}).Handler()
		codes := make(chan int, 102)
		for range 102 {
			go func() {
				w := serve(handler, request())
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
		for range 100 {
			if code := <-codes; code != http.StatusOK {
				t.Errorf("status %d for a scrape that waited", code)
			}
		}
		parse(serve(handler, request()).Body.String()).wantUp(t)
	})
}

// The poll goes on, as TestScrapesWaitToTheirOwnDeadlines shows.
func TestNoResponseForADisconnectedScraper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watch(t, &fakeSource{list: list(), delay: time.Minute})
		ctx, disconnect := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, disconnect)
		begin := time.Now()
		if w := serve(e.Handler(), request().WithContext(ctx)); w.Body.Len() > 0 || time.Since(begin) != time.Second {
			t.Errorf("wrote %d bytes after %s", w.Body.Len(), time.Since(begin))
		}
	})
}

func TestErrorsOfTheResponseAreLogged(t *testing.T) {
	var logged bytes.Buffer
	e := newExporter(t, collector.Config{Logger: logTo(&logged)}, sources{guangzhou: &fakeSource{list: list()}})
	e.Handler().ServeHTTP(&brokenWriter{httptest.NewRecorder(), "", func() {}}, request())
	if got := logged.String(); !strings.Contains(got, "level=debug msg=\"cannot write the response\" err=\"io: read/write on closed pipe\"\n") {
		t.Errorf("logged %q", got)
	}
}

func TestRegister(t *testing.T) {
	e := watch(t, &fakeSource{list: list()})
	c := prometheus.NewGauge(prometheus.GaugeOpts{Name: "some_gauge"})
	if err := e.Register(c); err != nil {
		t.Fatal(err)
	}
	c.Set(7)
	scrape(t, e).want(t, samples{"some_gauge": "7"})
}

func TestHealthyAndReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(t, collector.Config{}, sources{
			guangzhou: &fakeSource{list: list(), delay: time.Second},
			shanghai:  &fakeSource{err: errors.New("strange"), delay: 2 * time.Second},
		})
		want := func(when string, code int, ready string) {
			t.Helper()
			for _, test := range []struct {
				h    http.Handler
				code int
				text string
			}{{e.Healthy(), 200, "healthy"}, {e.Ready(), code, ready}} {
				w := serve(test.h, request())
				if w.Code != test.code || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Body.String() != test.text+"\n" {
					t.Errorf("%s: %d %v %q, want %d %s", when, w.Code, w.Header(), w.Body, test.code, test.text)
				}
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

// longList is a list whose first reading outlives a scrape.
type longList struct{ collector.List }

func (longList) Progress() (read, due int) { return 1, 300 }

// A list of any length must not keep a Kubernetes Service from its exporter.
func TestReadyWhileALongListIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fakeSource{list: list(), delay: time.Minute}
		e := newExporter(t, collector.Config{}, sources{guangzhou: &openSource{
			open: func(f collector.Filter) collector.List { return longList{slow.Open(f)} },
		}})
		go e.Poll(t.Context())
		synctest.Wait()
		if w := serve(e.Ready(), request()); w.Code != http.StatusOK {
			t.Errorf("status %d while the list is read", w.Code)
		}
		poll(t, e, time.Second).want(t, samples{
			`crs_reading_pages{region="ap-guangzhou"}`: "300", `crs_reading_pages_read{region="ap-guangzhou"}`: "1",
		})
	})
}
