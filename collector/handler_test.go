package collector_test

import (
	"compress/gzip"
	"errors"
	"io"
	"log"
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
)

// A series has shown its first 0 only to scrapes that have got the response.
func TestOnlyADeliveredResponseShowsASeries(t *testing.T) {
	visit := func(method, target string) func(*collector.Exporter) {
		return func(e *collector.Exporter) { serve(e.Handler(), httptest.NewRequest(method, target, nil)) }
	}
	connect := func(write, flush func() error) func(*collector.Exporter) {
		return func(e *collector.Exporter) {
			e.Handler().ServeHTTP(&client{ResponseRecorder: httptest.NewRecorder(), write: write, flush: flush}, request())
		}
	}
	for _, test := range []struct {
		name  string
		visit func(e *collector.Exporter)
		want  string // of the counter
	}{
		{"a poll alone", func(e *collector.Exporter) { e.Poll(t.Context()) }, "0"},
		{"a scrape", visit(http.MethodGet, "/metrics"), "1"},
		{"a scrape of the counter alone", visit(http.MethodGet, "/metrics?name[]=crs_up&name[]=crs_task_transitions_total"), "1"},
		{"a scrape of another metric", visit(http.MethodGet, "/metrics?name[]=crs_up"), "0"},
		{"a request for the header", visit(http.MethodHead, "/metrics"), "0"},
		{"a scraper that disconnects during the response", connect(breaks, works), "0"},
		{"a scraper whose last bytes stay in a buffer", connect(works, breaks), "0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := &fakeSource{list: list(task("crs-a", clean, "2017-02-10 03:00:00", crsapi.StatusSucceeded))}
			e := watch(t, source)
			e.Poll(t.Context())
			source.set(list(task("crs-a", backup, "2017-02-10 03:00:00", crsapi.StatusFailed)), nil)
			scrape(t, e)
			test.visit(e)
			poll(t, e, time.Minute).want(t, samples{transitions("crs-a", backup, "failed"): test.want})
		})
	}
}

// client is a scraper whose connection a test holds up or breaks.
type client struct {
	*httptest.ResponseRecorder
	write, flush func() error
	deadline     time.Time // of writes
}

func (c *client) Write(b []byte) (int, error) {
	if err := c.write(); err != nil {
		return 0, err
	}
	return c.ResponseRecorder.Write(b)
}

func (c *client) FlushError() error { return c.flush() }

func (c *client) SetWriteDeadline(deadline time.Time) error {
	c.deadline = deadline
	return nil
}

func works() error  { return nil }
func breaks() error { return io.ErrClosedPipe }

// A scrape of a region that hangs waits for its own timeout, less the offset.
func TestScrapeTimeout(t *testing.T) {
	const half, most = 500 * time.Millisecond, 5 * time.Minute
	for _, test := range []struct {
		header       string
		offset, want time.Duration
	}{
		{"", half, 9500 * time.Millisecond},
		{"NaN", half, 9500 * time.Millisecond},
		{"Inf", half, 9500 * time.Millisecond},
		{"1e-12", half, 9500 * time.Millisecond},
		{"2.5", 0, 2500 * time.Millisecond},
		{"300", 0, most},
		{"1e300", half, most - half},
		{"0.6", half, 100 * time.Millisecond},
		{"0.5", half, 250 * time.Millisecond},
		{"1", time.Minute, half},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newExporter(t, collector.Config{TimeoutOffset: test.offset}, sources{guangzhou: &fakeSource{delay: time.Hour}})
			begin := time.Now()
			w := serve(e.Handler(), request("X-Prometheus-Scrape-Timeout-Seconds", test.header))
			if took := time.Since(begin); took != test.want || w.Code != http.StatusOK {
				t.Errorf("timeout %q less %s: status %d after %s, want %s", test.header, test.offset, w.Code, took, test.want)
			}
			if test.want < most {
				parse(w.Body.String()).want(t, samples{`crs_up{region="ap-guangzhou"}`: "0", failuresOf(crsapi.ReasonTimeout): "0"})
			}
		})
	}
}

// Clients that do not read take no place of others. They get their whole answer, or are
// cut off five seconds after their timeout.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := watch(t, &fakeSource{list: list(someTask), delay: 2 * time.Second}).Handler()
		wantWhole := func(w *httptest.ResponseRecorder) {
			if text := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(text, "crs_up") || !strings.Contains(text, "\npromhttp_") {
				t.Errorf("status %d, %d bytes", w.Code, len(text))
			}
		}
		letGo := make(chan struct{})
		waits := func() error {
			<-letGo
			return nil
		}
		var all sync.WaitGroup
		for range 45 { // each has a poll of its own
			begin, w := time.Now(), &client{ResponseRecorder: httptest.NewRecorder(), write: waits, flush: works}
			all.Go(func() {
				handler.ServeHTTP(w, request("X-Prometheus-Scrape-Timeout-Seconds", "30"))
				wantWhole(w.ResponseRecorder)
			})
			time.Sleep(3 * time.Second)
			synctest.Wait() // it waits for its reader
			if got := w.deadline.Sub(begin); got != 35*time.Second {
				t.Errorf("the response must be written within %s, want 35s", got)
			}
		}
		wantWhole(serve(handler, request()))
		close(letGo)
		all.Wait()
	})
}

func TestCompressedAnswers(t *testing.T) {
	handler := newExporter(t, collector.Config{MinInterval: time.Hour}, sources{guangzhou: &fakeSource{list: list(someTask)}}).Handler()
	for _, accept := range []string{textFormat, openMetricsFormat} {
		plain := serve(handler, request("Accept", accept)).Body.String()
		for encoding, want := range map[string]bool{
			"": false, "GZIP": true, "deflate, gzip;q=1.0, *;q=0": true, "gzip; q=0.000, *": false, "*": true, "*;q=0": false, "gzip;q=much": false,
		} {
			w := serve(handler, request("Accept", accept, "Accept-Encoding", encoding))
			compressed := w.Header().Get("Content-Encoding") == "gzip"
			body := io.Reader(w.Body)
			if compressed {
				z, err := gzip.NewReader(body)
				if err != nil {
					t.Fatal(err)
				}
				body = z
			}
			text, err := io.ReadAll(body)
			if err != nil || compressed != want || withoutRuntime(string(text)) != withoutRuntime(plain) {
				t.Errorf("Accept-Encoding %q: compressed is %t, %v:\n%s\nplain:\n%s", encoding, compressed, err, text, plain)
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
}

// Scrapes that join a poll share an answer. Those of another format, of other metrics or
// of another poll do not. The 0 of a new series counts as shown to each of them.
func TestSharedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(running)}
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
		for _, want := range []string{"0", "1"} {
			source.set(list(running, other), nil)
			time.Sleep(time.Minute)
			for range 2 {
				parse(get("/metrics", textFormat)).want(t, samples{transitions("crs-b", clean, "failed"): want})
			}
		}
	})
}

func TestTooManyScrapesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := watch(t, &fakeSource{list: list(), delay: time.Second}).Handler()
		answers := make(chan int, 101)
		scrape := func() { answers <- serve(handler, request()).Code }
		for range 100 {
			go scrape()
		}
		synctest.Wait()
		if w := serve(handler, request()); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || len(answers) > 0 {
			t.Errorf("status %d, header %v, %d answers before", w.Code, w.Header(), len(answers))
		}
		time.Sleep(2 * time.Second)
		go scrape()
		for range cap(answers) {
			if code := <-answers; code != http.StatusOK {
				t.Errorf("status %d", code)
			}
		}
	})
}

// A list of any length must not keep a Kubernetes Service from its exporter.
func TestHealthyAndReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newExporter(t, collector.Config{}, sources{
			guangzhou: &fakeSource{list: list(), delay: time.Second},
			"long":    &fakeSource{delay: time.Minute, due: 300},
			shanghai:  &fakeSource{err: errors.New("strange"), delay: 2 * time.Second},
		})
		want := func(when string, code int, ready string) {
			t.Helper()
			if w := serve(e.Healthy(), request()); w.Code != http.StatusOK || w.Body.String() != "healthy\n" {
				t.Errorf("%s: %d %q", when, w.Code, w.Body)
			}
			if w := serve(e.Ready(), request()); w.Code != code || w.Body.String() != ready+"\n" {
				t.Errorf("%s: %d %q, want %d %q", when, w.Code, w.Body, code, ready)
			}
		}
		want("before", 503, "waiting for the first poll of ap-guangzhou, ap-shanghai, long")
		go e.Poll(t.Context())
		time.Sleep(1500 * time.Millisecond)
		want("one has succeeded, and one is read", 503, "waiting for the first poll of ap-shanghai")
		time.Sleep(time.Second)
		want("the other has failed", 200, "ready")
		poll(t, e, time.Second).want(t, samples{`crs_reading_pages{region="long"}`: "300", `crs_reading_pages_read{region="long"}`: "150"})
	})
}

// Served paths and redirects; the tests of the program have the paths without a trick.
func TestWithPrefix(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(http.ResponseWriter, *http.Request) {})
	for _, test := range []struct {
		prefix, path string
		status       int
		redirect     string
	}{
		{"", "//metrics", 404, ""},
		{"", "/x/../metrics", 404, ""},
		{"/ops/crs", "/ops/crs/metrics", 200, ""},
		{"/ops/crs", "/ops/crs//metrics", 404, ""},
		{"/ops/crs", "/ops/crsx", 404, ""},
		{"/ops/crs", "/", 302, "./ops/crs/"},
		{"/ops/crs", "/ops/crs", 302, "./crs/"},
	} {
		w := serve(collector.WithPrefix(test.prefix, mux), httptest.NewRequest(http.MethodGet, "http://host"+test.path, nil))
		if got := w.Header().Get("Location"); w.Code != test.status || got != test.redirect {
			t.Errorf("%q below %q: %d %q, want %d %q", test.path, test.prefix, w.Code, got, test.status, test.redirect)
		}
	}
}

func TestCheckHealth(t *testing.T) {
	status, path := http.StatusOK, ""
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		w.WriteHeader(status)
	})
	server, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	defer server.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	address := server.Listener.Addr().String()
	for _, test := range []struct {
		status    int
		addresses string
		healthy   bool
	}{
		{200, "vsock://:1 " + address + " 127.0.0.1:1", true},
		{200, address[strings.LastIndex(address, ":"):], true},
		{401, address, true},
		{500, address, false},
		{200, secure.Listener.Addr().String(), true},
		{200, "127.0.0.1:1", false},
		{200, "127.0.0.1:no", false},
		{200, "vsock://:10991", false},
	} {
		status = test.status
		err := collector.CheckHealth(t.Context(), strings.Fields(test.addresses), "/crs")
		if (err == nil) != test.healthy || path != "/crs/-/healthy" {
			t.Errorf("%q, status %d: %v, path %s", test.addresses, status, err, path)
		}
	}
}
