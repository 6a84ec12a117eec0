package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/prometheus/common/version"
)

var updatePages = flag.Bool("update-pages", false, "write the golden files of the pages")

// site is the pages of an exporter of two regions, in a bubble.
type site struct {
	*testing.T
	server   *crsapitest.Server
	settings *settings
	exporter *collector.Exporter
	handler  http.Handler
}

// newSite returns pages of tasks through API 3.0. The exporter has not polled yet.
func newSite(t *testing.T, tasks map[string][]crsapi.Task) *site {
	t.Helper()
	return newSiteThrough(t, crsapi.API30, "cvm-role", tasks)
}

func newSiteThrough(t *testing.T, api crsapi.API, source string, tasks map[string][]crsapi.Task) *site {
	t.Helper()
	server, s, _ := inMemory(t, "--crs.rate-limit=0", "--crs.api="+string(api))
	s.api.Endpoint, s.v3Endpoint = server.URL, server.URL3
	for _, region := range []string{guangzhou, shanghai} {
		server.SetTasks(region, tasks[region])
	}
	exporter, err := s.newExporter(s.dialer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exporter.Close)
	status := func() credentials.Status {
		return credentials.Status{Source: source, LastLoad: bubbleStart, Expiry: bubbleStart.Add(6 * time.Hour)}
	}
	return &site{t, server, s, exporter, newMux(s.routePrefix, s.telemetryPath, exporter, s.newPages(exporter, status))}
}

// bubbleStart is the time at which a bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *site) get(path string) *httptest.ResponseRecorder {
	s.Helper()
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// page returns a page that must exist.
func (s *site) page(path string) string {
	s.Helper()
	w := s.get(path)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		s.Fatalf("%s: status %d, %s: %.300s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	return w.Body.String()
}

// some are tasks of two regions: with every status, failed and missing backups, a
// deleted instance, and several backups in a day.
func some() map[string][]crsapi.Task {
	at := func(days int, clock string) time.Time {
		d, err := time.ParseDuration(clock)
		if err != nil {
			panic(err)
		}
		// Midnight in the API's zone is 16:00 of the day before in UTC.
		return bubbleStart.Add(-8*time.Hour - time.Duration(days)*24*time.Hour + d)
	}
	var id int64
	task := func(instance, name, what string, days int, clock string, status crsapi.Status) crsapi.Task {
		id++
		t := crsapi.Task{
			RedisID: instance, RedisName: name, ProjectID: "0", TaskName: what,
			StartTime: at(days, clock), Status: status, Progress: 1, TaskID: id,
		}
		switch status {
		case crsapi.StatusPending:
			t.Progress = 0
		case crsapi.StatusExecuting:
			t.Progress = 0.25
		default:
			t.EndTime = t.StartTime.Add(95 * time.Second)
		}
		return t
	}
	const ok, bad, running, pending = crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusExecuting, crsapi.StatusPending
	var gz []crsapi.Task
	for days := 6; days > 0; days-- {
		gz = append(gz, task("crs-good", "sessions", "backupInstance", days, "1h", ok))
	}
	gz = append(gz,
		task("crs-good", "sessions", "backupInstance", 0, "1h", ok),
		task("crs-good", "sessions", "resizeInstance", 0, "7h30m", running),
		task("crs-failed", "carts", "backupInstance", 2, "1h", ok),
		task("crs-failed", "carts", "backupInstance", 1, "1h", bad),
		task("crs-failed", "carts", "backupInstance", 1, "1h10m", ok),
		task("crs-failed", "carts", "backupInstance", 0, "1h", bad),
		task("crs-missing", "ranking", "backupInstance", 3, "2h", ok),
		task("crs-stuck", "mail", "backupInstance", 3, "2h", ok),
		task("crs-stuck", "mail", "backupInstance", 0, "3h", running),
		task("crs-stuck", "mail", "backupInstance", 0, "7h50m", pending),
		task("crs-under-way", "mail", "backupInstance", 3, "2h", ok),
		task("crs-under-way", "mail", "backupInstance", 0, "7h50m", pending),
		task("crs-deleted", "old", "backupInstance", 5, "1h", bad),
		task("crs-deleted", "old", "deleteInstance", 4, "1h", ok),
		task("crs-never", "", "setPassword", 4, "9h", ok),
	)
	return map[string][]crsapi.Task{
		guangzhou: newestFirst(gz),
		shanghai:  newestFirst([]crsapi.Task{task("crs-other", "search", "AUTOBACKUP", 0, "3h", ok), task("crs-other", "search", "AUTOBACKUP", 1, "3h", bad)}),
	}
}

// TestPages compares the pages with golden files.
func TestPages(t *testing.T) {
	defer func(v string) { version.Version = v }(version.Version)
	version.Version = "1.2.3"
	for _, test := range []struct{ name, path string }{
		{"status", "/"},
		{"tasks", "/tasks"},
		{"tasks_filtered", "/tasks?region=ap-guangzhou&redisName=CART&status=failed&status=error&since=7d"},
		{"backups", "/backups"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, some())
				s.exporter.Poll(t.Context())
				time.Sleep(42 * time.Second)
				wantPage(t, test.name, s.page(test.path))
			})
		})
	}
	t.Run("status before the first poll", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			wantPage(t, "status_waiting", newSite(t, some()).page("/"))
		})
	})
	t.Run("status after failures", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, some())
			s.exporter.Poll(t.Context())
			time.Sleep(15 * time.Minute)
			s.server.Inject(crsapitest.Fault{Region: guangzhou, Do: crsapitest.APIError(4101)})
			s.exporter.Poll(t.Context())
			wantPage(t, "status_down", s.page("/"))
		})
	})
}

func wantPage(t *testing.T, name, got string) {
	t.Helper()
	// The style sheet has no data and is the same on all pages.
	before, rest, _ := strings.Cut(got, "<style>")
	css, after, found := strings.Cut(rest, "</style>")
	if !found || css != pagesCSS {
		t.Errorf("%s: the style sheet is not as it was written, so the policy forbids it:\n%s", name, css)
	}
	got = before + "<style></style>" + after
	path := filepath.Join("testdata", "pages", name+".html")
	if *updatePages {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("%s differs (-update-pages writes it). Got:\n%s", path, got)
	}
}

func newestFirst(tasks []crsapi.Task) []crsapi.Task {
	slices.SortStableFunc(tasks, func(a, b crsapi.Task) int { return b.StartTime.Compare(a.StartTime) })
	return tasks
}

// TestStatusOfBothAPIs: where API 2.0 is retired and its successor fails, the advice
// is about the successor.
func TestStatusOfBothAPIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSiteThrough(t, apiAuto, "file", some())
		s.server.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
		s.server.Inject(crsapitest.Fault{API: "3.0", Do: crsapitest.APIError(4101)})
		s.exporter.Poll(t.Context())
		page := s.page("/")
		for _, want := range []string{"API 2.0: ", "; API 3.0: ", "Attach a CAM policy that allows redis:DescribeTaskList and"} {
			if strings.Count(page, want) != 2 { // of each region
				t.Errorf("the page does not say %q twice", want)
			}
		}
		if strings.Contains(page, "use --crs.api=3.0") {
			t.Error("the page advises to use API 3.0, which is in use")
		}
	})
}

// TestStatusWhileAListIsRead: a list that no scrape can wait for.
func TestStatusWhileAListIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, map[string][]crsapi.Task{guangzhou: fleet(bubbleStart, 1_000, 5)})
		s.server.Inject(crsapitest.Fault{Do: crsapitest.Latency(3 * time.Second)})
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Second)
		defer cancel()
		s.exporter.Poll(ctx)
		page := s.page("/")
		if !regexp.MustCompile(`<dd>in progress: [1-9][0-9]* of about 5[0-9] pages</dd>`).MatchString(page) || !strings.Contains(page, "waiting for the first poll") {
			t.Errorf("no progress:\n%s", page)
		}
	})
}

// TestPageHeaders: nothing but the page itself may be loaded or may frame it.
func TestPageHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		for _, path := range []string{"/", "/tasks", "/backups", "/tasks?status=nonsense"} {
			header := s.get(path).Header()
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff",
				"Referrer-Policy":        "no-referrer",
				"Cache-Control":          "no-store",
			} {
				if got := header.Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", path, name, got, want)
				}
			}
			policy := regexp.MustCompile(`^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$`)
			if got := header.Get("Content-Security-Policy"); !policy.MatchString(got) {
				t.Errorf("%s: the policy is %q", path, got)
			}
		}
		for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: 405, http.MethodPut: 405, http.MethodDelete: 405} {
			for _, path := range []string{"/", "/tasks", "/backups"} {
				w := httptest.NewRecorder()
				s.handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
				if w.Code != want {
					t.Errorf("%s %s: status %d, want %d", method, path, w.Code, want)
				}
			}
		}
	})
}

// TestPagesEscape puts markup into every field that the API has, and into every
// parameter.
func TestPagesEscape(t *testing.T) {
	const markup = `"'><script src=x></script><b onclick=x>&amp;{{.}}`
	synctest.Test(t, func(t *testing.T) {
		at := bubbleStart.Add(-time.Hour)
		var tasks []crsapi.Task
		for i, status := range []crsapi.Status{crsapi.StatusFailed, crsapi.StatusExecuting, 77} {
			tasks = append(tasks, crsapi.Task{
				RedisID: markup, RedisName: markup, ProjectID: markup, TaskName: markup,
				StartTime: at.Add(time.Duration(-i) * time.Minute), Status: status, TaskID: int64(i + 1),
			})
			backup := tasks[len(tasks)-1]
			backup.TaskName, backup.TaskID = "backupInstance", int64(i+11)
			tasks = append(tasks, backup)
		}
		s := newSiteThrough(t, crsapi.API20, markup, map[string][]crsapi.Task{guangzhou: tasks})
		s.exporter.Poll(t.Context())
		escaped := url.QueryEscape(markup)
		for path, n := range map[string]int{
			"/": 1, "/tasks": 3, "/backups": 1,
			"/tasks?redisId=" + escaped + "&redisName=" + escaped + "&taskName=" + escaped: 3,
			"/backups?redisId=" + escaped + "&redisName=" + escaped:                        2,
		} {
			body := s.page(path)
			for _, raw := range []string{"<script", "<b ", "<b>", "onclick=x>", `"'>`} {
				if strings.Contains(body, raw) {
					t.Errorf("%s: the page has %q", path, raw)
				}
			}
			if got := strings.Count(body, "&lt;script"); got < n {
				t.Errorf("%s: the markup shows %d times, want at least %d", path, got, n)
			}
		}
		for _, name := range []string{"region", "status", "since", "until", "page", escaped} {
			w := s.get("/tasks?" + name + "=" + escaped)
			if w.Code != 400 || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s: status %d, %s", name, w.Code, w.Header().Get("Content-Type"))
			}
		}
	})
}

func TestBadParameters(t *testing.T) {
	long := strings.Repeat("x", maxParameter+1)
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		s.exporter.Poll(t.Context())
		for query, want := range map[string]string{
			"/tasks?region=gz":               `region must be one of ap-guangzhou, ap-shanghai, not "gz"`,
			"/tasks?status=done":             `status must be one of pending, executing, succeeded, failed, error, unknown, not "done"`,
			"/tasks?since=yesterday":         `since must be a duration such as 24h or 7d, a day such as 2026-01-31, or a time such as 2026-01-31T08:00:00Z, not "yesterday"`,
			"/tasks?since=-1h":               `since must be a duration`,
			"/tasks?since=2026-02-30":        `since must be a duration`,
			"/tasks?until=1x":                `until must be a duration`,
			"/tasks?day=1999":                `since must be a duration`,
			"/tasks?day=2000-01-01&since=1d": `day replaces since and until: give only one of them`,
			"/tasks?page=0":                  `page must be a number from 1 to 1000000, not "0"`,
			"/tasks?page=1000001":            `page must be`,
			"/tasks?page=x":                  `page must be`,
			"/tasks?redisid=crs-a":           `unknown parameter "redisid": use region, redisId,`,
			"/tasks?redisId=a&redisId=b":     `redisId is given 2 times`,
			"/tasks?redisName=" + long:       `redisName has more than 256 bytes`,
			"/tasks?%zz":                     `the parameters of the URL cannot be read`,
			"/tasks?status=" + long:          `status has more than 256 bytes`,
			"/backups?region=gz":             `region must be one of`,
			"/backups?page=-1":               `page must be`,
			"/backups?since=1d":              `unknown parameter "since": use region, redisId, redisName, page`,
			"/tasks?region=" + long[:250]:    `region must be one of`,
			"/tasks?status=failed&status=x":  `status must be one of`,
		} {
			w := s.get(query)
			body := w.Body.String()
			if w.Code != http.StatusBadRequest || !strings.HasPrefix(body, "bad request: "+want) || strings.Count(body, "\n") != 1 || len(body) > 250 {
				t.Errorf("%.60s: status %d, %q, want %q", query, w.Code, body, want)
			}
		}
	})
}

// rowsOf returns the submission times of the rows of a page of tasks.
func rowsOf(page string) (rows []string) {
	for _, match := range regexp.MustCompile(`<tr><td><time datetime="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		rows = append(rows, match[1])
	}
	return rows
}

// TestFilters counts the rows of some filters.
func TestFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		s.exporter.Poll(t.Context())
		for query, n := range map[string]int{
			"":                                    23,
			"region=ap-shanghai":                  2,
			"redisId=crs-good":                    8,
			"redisId=crs-goo":                     0,
			"redisName=SESS":                      8,
			"redisName=s":                         14, // sessions, carts and search
			"taskName=AUTOBACKUP":                 2,
			"taskName=backup":                     0,
			"status=failed":                       4,
			"status=failed&status=executing":      6,
			"status=pending":                      2,
			"status=error":                        0,
			"since=1h":                            3,
			"day=1999-12-31":                      4,
			"since=24h":                           7,
			"since=0s":                            0,
			"until=5d":                            3,
			"since=2000-01-01":                    7,
			"since=1999-12-31&until=1999-12-31":   4,
			"since=1999-12-31T17:00:00Z":          7,
			"until=1999-12-31T17:00:00Z":          18,
			"since=1999-12-31T23:30:00Z":          3,
			"redisId=&region=&status=&page=":      23,
			"status=failed&redisName=carts&page=": 2,
		} {
			if got := rowsOf(s.page("/tasks?" + query)); len(got) != n {
				t.Errorf("%s: %d rows, want %d: %s", query, len(got), n, got)
			}
		}
	})
}

// TestPaging follows the links from the newest to the oldest page while tasks are
// submitted, which must neither repeat nor hide one.
func TestPaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := crsapitest.Generate(250, 5, 1)
		shift := bubbleStart.Sub(tasks[0].StartTime) - time.Hour
		for i := range tasks {
			tasks[i].StartTime = tasks[i].StartTime.Add(shift).Truncate(time.Second)
			if !tasks[i].EndTime.IsZero() {
				tasks[i].EndTime = tasks[i].EndTime.Add(shift)
			}
		}
		s := newSite(t, map[string][]crsapi.Task{guangzhou: tasks[:150], shanghai: tasks[150:]})
		s.exporter.Poll(t.Context())
		next := regexp.MustCompile(`<a href="([^"]+)" rel="next">`)
		var seen []string
		path, n := "/tasks?since=2000d", 0
		for path != "" {
			page := s.page(path)
			rows := rowsOf(page)
			if len(rows) > tasksPerPage {
				t.Fatalf("%d rows on a page", len(rows))
			}
			seen = append(seen, rows...)
			if n++; n > 3 {
				t.Fatal("more than 3 pages")
			}
			path = ""
			if match := next.FindStringSubmatch(page); match != nil {
				path = "/tasks" + html.UnescapeString(match[1])
			}
			time.Sleep(time.Minute)
			added := tasks[0]
			added.StartTime, added.TaskID, added.EndTime = time.Now(), 100_000+int64(n), time.Time{}
			s.server.Update(guangzhou, func(all []crsapi.Task) []crsapi.Task { return append([]crsapi.Task{added}, all...) })
			s.exporter.Poll(t.Context())
		}
		if len(seen) != len(tasks) || !slices.IsSortedFunc(seen, func(a, b string) int { return strings.Compare(b, a) }) {
			t.Errorf("%d rows, want %d, newest first", len(seen), len(tasks))
		}
		if page := s.page("/tasks?page=9"); !strings.Contains(page, "This page has no task.") {
			t.Errorf("a page after the last:\n%s", page)
		}
	})
}

// TestPagesCostNothing: pages send no request, and are served while a poll waits
// for the API.
func TestPagesCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		s.exporter.Poll(t.Context())
		requests := 0
		s.server.OnRequest(func(crsapitest.Request) { requests++ })
		get := func() {
			for _, path := range []string{"/", "/tasks", "/backups"} {
				if page := s.page(path); path != "/" && !strings.Contains(page, "crs-failed") {
					t.Errorf("%s has no task", path)
				}
			}
		}
		get()
		if requests != 0 {
			t.Errorf("%d requests", requests)
		}
		s.server.Inject(crsapitest.Fault{Do: crsapitest.Latency(time.Minute)})
		go s.exporter.Poll(t.Context())
		synctest.Wait()
		begin := time.Now()
		get()
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("pages waited %v for a poll", waited)
		}
	})
}

// TestPagesInTurn: while a page is made, others wait for a limited time.
func TestPagesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		p := s.settings.newPages(s.exporter, func() credentials.Status { return credentials.Status{} })
		p.slot <- struct{}{}
		w := httptest.NewRecorder()
		begin := time.Now()
		p.tasks().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/tasks", nil))
		if took := time.Since(begin); w.Code != http.StatusServiceUnavailable || took != maxPageWait || w.Header().Get("Retry-After") == "" {
			t.Errorf("status %d after %v", w.Code, took)
		}
		<-p.slot
		w = httptest.NewRecorder()
		p.tasks().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/tasks", nil))
		if w.Code != http.StatusOK {
			t.Errorf("status %d when no page is made", w.Code)
		}
	})
}

// TestCalendarIsSmall has the backups of 1,000 instances for more days than are
// shown, with names as long as the console allows.
func TestCalendarIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, map[string][]crsapi.Task{guangzhou: fleet(bubbleStart, 1_000, 40)})
		s.exporter.Poll(t.Context())
		for path, rows := range map[string]int{"/backups": 200, "/backups?page=5": 200, "/backups?page=6": 0, "/backups?redisId=crs-00000007": 1} {
			page := s.page(path)
			if got := strings.Count(page, "<tr><th scope=\"row\""); got != rows {
				t.Errorf("%s: %d rows, want %d", path, got, rows)
			}
			if got := strings.Count(page, `<td class="day`); got != rows*maxDays {
				t.Errorf("%s: %d cells", path, got)
			}
			if len(page) > 1_000_000 {
				t.Errorf("%s has %d bytes", path, len(page))
			}
		}
	})
}

// TestLongIDs: ids that no console would give make pages shorter, not larger.
func TestLongIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := fleet(bubbleStart, 250, 30)
		for i := range tasks {
			tasks[i].RedisID += strings.Repeat("&", 100)
		}
		s := newSite(t, map[string][]crsapi.Task{guangzhou: tasks})
		s.exporter.Poll(t.Context())
		page := s.page("/backups")
		if got := strings.Count(page, "<tr><th scope=\"row\""); got < 10 || got >= 100 || len(page) > 1_000_000 {
			t.Errorf("%d rows and %d bytes", got, len(page))
		}
	})
}

// fleet returns a backup of each instance for each day, newest first.
func fleet(now time.Time, instances, days int) []crsapi.Task {
	var tasks []crsapi.Task
	for day := range days {
		for i := range instances {
			status := crsapi.StatusSucceeded
			if (day+i)%17 == 0 {
				status = crsapi.StatusFailed
			}
			tasks = append(tasks, crsapi.Task{
				RedisID: fmt.Sprintf("crs-%08d", i), RedisName: fmt.Sprintf("%056d", i), ProjectID: "0", TaskName: "backupInstance",
				StartTime: now.Add(-time.Hour - time.Duration(day)*24*time.Hour - time.Duration(i)*time.Second),
				Status:    status, Progress: 1, TaskID: int64(day*instances + i + 1),
			})
		}
	}
	return tasks
}
