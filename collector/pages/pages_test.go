package pages_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/common/version"
)

var update = flag.Bool("update", false, "write the golden files")

// TestPages compares pages with golden files.
func TestPages(t *testing.T) {
	defer func(v string) { version.Version = v }(version.Version)
	version.Version = "1.2.3"
	poll := func(s *site) {
		s.exporter.Poll(s.Context())
		time.Sleep(42 * time.Second)
	}
	for _, test := range []struct {
		name, path string
		before     func(*site)
	}{
		{"status", "/", poll},
		{"tasks", "/tasks", poll},
		{"tasks_filtered", "/tasks?region=ap-guangzhou&redisName=CART&status=failed&status=error&since=7d", poll},
		{"backups", "/backups", poll},
		{"status_waiting", "/", func(*site) {}},
		{"status_down", "/", func(s *site) {
			s.exporter.Poll(s.Context())
			time.Sleep(15 * time.Minute)
			s.regions[guangzhou].err = fmt.Errorf("page of 100 tasks at offset 0: %w", &crsapi.Error{
				Reason: crsapi.ReasonDenied, CodeDesc: "AuthFailure.UnauthorizedOperation", Message: "not authorized for the API or the resource",
			})
			s.exporter.Poll(s.Context())
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, some())
				test.before(s)
				wantGolden(t, test.name, s.page(test.path))
			})
		})
	}
}

func wantGolden(t *testing.T, name, got string) {
	t.Helper()
	// The style sheet is the same on all pages.
	before, rest, _ := strings.Cut(got, "<style>")
	_, after, _ := strings.Cut(rest, "</style>")
	got = before + "<style></style>" + after
	path := filepath.Join("testdata", name+".html")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs (-update writes it). Got:\n%s", path, got)
	}
}

// TestFirstReading shows the progress of a list that no scrape can wait for.
func TestFirstReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		gz := s.regions[guangzhou]
		gz.read, gz.due, gz.wait = 7, 50, make(chan struct{})
		go s.exporter.Poll(t.Context())
		synctest.Wait()
		page := s.page("/")
		if !strings.Contains(page, "<dd>being read: 7 of about 50</dd>") || !strings.Contains(page, "waiting for the first poll") || !strings.Contains(page, "<p>None so far: not every") {
			t.Errorf("no progress, or green:\n%s", page)
		}
		close(gz.wait)
	})
}

// TestNothingIsGreen: where no list was read, or nothing matches, no page says that all
// backups are good.
func TestNothingIsGreen(t *testing.T) {
	all := some()
	good := map[string][]crsapi.Task{guangzhou: all[guangzhou][:7], shanghai: all[shanghai]} // the newest backups
	gone := map[string][]crsapi.Task{guangzhou: all[guangzhou][18:20]}                       // a deleted instance
	const allGood = `<span class="good">✓ all in order</span>.`
	for name, test := range map[string]struct {
		tasks                  map[string][]crsapi.Task
		down                   []string // regions
		query                  string
		status, listed, backup string // what the pages say
	}{
		"all is well":         {good, nil, "", `<p class="good">✓ None.</p>`, "of 9 tasks", "2 instances; " + allGood},
		"never read":          {good, []string{guangzhou, shanghai}, "", "<p>Not read yet.</p>", "<p>Not read yet.</p>", "<p>Not read yet.</p>"},
		"one region not read": {good, []string{shanghai}, "", "<p>None so far: not every list is current.</p>", "of 7 tasks", "1 instance; no problem so far: not every list is current."},
		"filter by region":    {good, []string{shanghai}, "?region=ap-shanghai", "<p>None so far", "<p>Not read yet.</p>", "<p>Not read yet.</p>"},
		"nothing matches":     {good, nil, "?redisId=crs-unknown", "✓ None.", "<p>No task matches.</p>", "<p>No instance matches.</p>"},
		"nothing matches yet": {good, []string{shanghai}, "?redisId=crs-other", "<p>None so far", "<p>No task matches so far: not every list is current.</p>", "<p>No instance matches so far: not every list is current.</p>"},
		"empty lists":         {nil, nil, "", "<p>No instance is listed.</p>", "<p>No task matches.</p>", "<p>No instance matches.</p>"},
		"no instance left":    {gone, nil, "", "<p>No instance is listed.</p>", "of 2 tasks", "<p> Not shown: 1 closed or deleted instance.</p>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, test.tasks)
				for _, region := range test.down {
					s.regions[region].err = errors.New("refused")
				}
				s.exporter.Poll(t.Context())
				for path, want := range map[string]string{"/": test.status, "/tasks" + test.query: test.listed, "/backups" + test.query: test.backup} {
					page := s.page(path)
					if !strings.Contains(page, want) {
						t.Errorf("%s does not say %q:\n%s", path, want, page)
					}
					if strings.Contains(page, allGood) != strings.Contains(want, allGood) || strings.Contains(page, "✓ None") != strings.Contains(want, "✓ None") {
						t.Errorf("%s: says that all is good:\n%s", path, page)
					}
					if strings.Contains(page, "succeeded: 0") && strings.Contains(page, `class="succeeded"`) {
						t.Errorf("%s: no task is green", path)
					}
				}
			})
		})
	}
}

// TestStaleIsNotGreen: after a failed poll, a backup may have failed unseen.
func TestStaleIsNotGreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: some()[guangzhou][:7]})
		s.regions[guangzhou].err = errors.New("refused")
		s.exporter.Poll(t.Context())
		for path, want := range map[string]string{"/": "<p>None so far: not every", "/backups": "1 instance; no problem so far: not every"} {
			if page := s.page(path); !strings.Contains(page, want) {
				t.Errorf("%s does not say %q:\n%s", path, want, page)
			}
		}
	})
}

// TestHeaders: a page loads nothing, and is in no frame and no cache.
func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		_, rest, _ := strings.Cut(s.page("/"), "<style>")
		css, _, _ := strings.Cut(rest, "</style>")
		hash := sha256.Sum256([]byte(css))
		for _, path := range []string{"/", "/tasks", "/backups", "/tasks?status=nonsense"} {
			header := s.get(path).Header()
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff",
				"Referrer-Policy":        "no-referrer",
				"Cache-Control":          "no-store",
				"Content-Security-Policy": "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
					"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			} {
				if got := header.Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", path, name, got, want)
				}
			}
		}
	})
}

func TestMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: 405, http.MethodPut: 405, http.MethodDelete: 405} {
			for _, path := range []string{"/", "/tasks", "/backups"} {
				if got := s.send(method, path, "").Code; got != want {
					t.Errorf("%s %s: status %d, want %d", method, path, got, want)
				}
			}
		}
	})
}

// TestGzip compresses a page for those who accept it.
func TestGzip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: fleet(bubbleStart, 200, 30)})
		plain := s.page("/backups")
		for accepted, want := range map[string]string{"gzip, deflate, br": "gzip", "gzip;q=0": "", "": ""} {
			w := s.send(http.MethodGet, "/backups", accepted)
			size := w.Body.Len()
			if w.Header().Get("Content-Encoding") != want || w.Header().Get("Content-Length") != strconv.Itoa(size) || w.Header().Get("Vary") != "Accept-Encoding" {
				t.Errorf("%q: %d bytes, %v", accepted, size, w.Header())
			}
			if want == "" {
				continue
			}
			unzipped, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(unzipped)
			if err != nil || string(got) != plain || size > len(plain)/10 {
				t.Errorf("%d of %d bytes, another page, or %v", size, len(plain), err)
			}
		}
	})
}

// TestWriteDeadline: a page may be read at 16 KiB a second, however large it is.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: fleet(bubbleStart, 200, 30)})
		for path, most := range map[string]time.Duration{"/": 15 * time.Second, "/backups": time.Minute + 10*time.Second} {
			w := s.get(path)
			needed := time.Duration(w.Body.Len()) * time.Second / (16 << 10)
			if left := time.Until(w.deadline); left < 10*time.Second+needed || left > most {
				t.Errorf("%s: %v for %d bytes", path, left, w.Body.Len())
			}
		}
	})
}

// TestEscape puts markup into every field that the API has, and into every parameter.
func TestEscape(t *testing.T) {
	const markup = `"'><script src=x></script><b onclick=x>&amp;{{.}}`
	synctest.Test(t, func(t *testing.T) {
		var tasks []crsapi.Task
		for i, status := range []crsapi.Status{crsapi.StatusFailed, crsapi.StatusExecuting, 77} {
			for _, name := range []string{markup, "backupInstance"} {
				tasks = append(tasks, crsapi.Task{
					RedisID: markup, RedisName: markup, ProjectID: markup, TaskName: name,
					StartTime: bubbleStart.Add(-time.Hour - time.Duration(i)*time.Minute), Status: status,
				})
			}
		}
		s := newSite(t, map[string][]crsapi.Task{guangzhou: tasks})
		s.credentials = func() string { return markup }
		s.exporter.Poll(t.Context())
		s.regions[shanghai].err = errors.New(markup)
		s.exporter.Poll(t.Context())
		escaped := url.QueryEscape(markup)
		for path, n := range map[string]int{
			"/": 4, "/tasks": 15, "/backups": 2,
			"/tasks?redisId=" + escaped + "&redisName=" + escaped + "&taskName=" + escaped: 12,
			"/backups?redisId=" + escaped + "&redisName=" + escaped:                        4,
		} {
			page := s.page(path)
			for _, raw := range []string{"<script", "<b ", "<b>", "onclick=x>", `"'>`} {
				if strings.Contains(page, raw) {
					t.Errorf("%s: the page has %q", path, raw)
				}
			}
			if got := strings.Count(page, "&lt;script"); got != n {
				t.Errorf("%s: the markup shows %d times, want %d", path, got, n)
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

// TestNoRequests: pages poll nothing, and do not wait for a poll.
func TestNoRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, some())
		gz := s.regions[guangzhou]
		gz.wait = make(chan struct{})
		go s.exporter.Poll(t.Context())
		synctest.Wait()
		begin := time.Now()
		for _, path := range []string{"/", "/tasks", "/backups"} {
			if !strings.Contains(s.page(path), "crs-failed") {
				t.Errorf("%s does not show the last list", path)
			}
		}
		if gz.polls != 2 || time.Since(begin) != 0 {
			t.Errorf("%d polls, and %v", gz.polls, time.Since(begin))
		}
		close(gz.wait)
	})
}

// TestOneAtATime: while a page is made, other requests wait 5 s for their turn.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, some())
		leave := make(chan struct{})
		s.credentials = func() string {
			<-leave
			return ""
		}
		go s.get("/")
		synctest.Wait()
		begin := time.Now()
		w := s.get("/tasks")
		if took := time.Since(begin); w.Code != http.StatusServiceUnavailable || took != 5*time.Second || w.Header().Get("Retry-After") == "" {
			t.Errorf("status %d after %v", w.Code, took)
		}
		close(leave)
		s.page("/tasks")
	})
}

// TestManyProblems: the status page shows 200 instances.
func TestManyProblems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := polled(t, map[string][]crsapi.Task{guangzhou: fleet(bubbleStart.AddDate(0, 0, -2), 250, 1)}).page("/")
		if n := strings.Count(page, `<th scope="row"`); n != 200 || !strings.Contains(page, `<p>50 more: see <a href="backups">`) {
			t.Errorf("%d instances:\n%.3000s", n, page)
		}
	})
}

// TestCalendarSize has more instances and days than a page shows, with names as long as
// the console allows.
func TestCalendarSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: fleet(bubbleStart, 1_000, 40)})
		for path, rows := range map[string]int{"/backups": 200, "/backups?page=5": 200, "/backups?page=6": 0, "/backups?redisId=crs-00000007": 1} {
			page := s.page(path)
			if got := strings.Count(page, `<tr><th scope="row"`); got != rows {
				t.Errorf("%s: %d rows, want %d", path, got, rows)
			}
			if got := strings.Count(page, `<td class="day`); got != rows*30 {
				t.Errorf("%s: %d cells", path, got)
			}
			if len(page) > 1_000_000 {
				t.Errorf("%s has %d bytes", path, len(page))
			}
		}
	})
}

// TestLongIDs: ids that no console would show make a page shorter, not larger.
func TestLongIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := fleet(bubbleStart, 250, 30)
		for i := range tasks {
			tasks[i].RedisID += strings.Repeat("&", 100)
		}
		page := polled(t, map[string][]crsapi.Task{guangzhou: tasks}).page("/backups")
		if got := strings.Count(page, `<tr><th scope="row"`); got < 10 || got >= 100 || len(page) > 1_000_000 {
			t.Errorf("%d rows and %d bytes", got, len(page))
		}
	})
}

// TestDayOfBackups has several backups in a day.
func TestDayOfBackups(t *testing.T) {
	const ok, bad, running = crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusExecuting
	for name, test := range map[string]struct {
		first, second crsapi.Status
		apart         time.Duration
		want          string
	}{
		"failed, then succeeded": {bad, ok, time.Hour, "failed, then succeeded"},
		"succeeded, then failed": {ok, bad, time.Hour, "failed"},
		"the same second":        {ok, bad, 0, "failed, then succeeded"},
		"failed, then running":   {bad, running, time.Hour, "running"},
		"unknown":                {ok, 77, time.Hour, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := bubbleStart.Add(-7 * time.Hour)
				task := crsapi.Task{RedisID: "crs-a", TaskName: "backupInstance", StartTime: at, Status: test.first}
				later := task
				later.StartTime, later.Status = at.Add(test.apart), test.second
				page := polled(t, map[string][]crsapi.Task{guangzhou: {task, later}}).page("/backups")
				if n := strings.Count(page, `<td class="day`); n != 1 || !strings.Contains(page, `aria-label="`+test.want+`"`) {
					t.Errorf("%d cells, want %q:\n%s", n, test.want, page)
				}
			})
		})
	}
}
