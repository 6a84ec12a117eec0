package pages_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/prometheus/common/version"
)

var update = flag.Bool("update", false, "write the golden files")

// TestPages compares pages with golden files. No page polls: the lists are 42 seconds old.
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
		{"status_waiting", "/", func(s *site) {
			s.regions[guangzhou].read, s.regions[guangzhou].due = 7, 50
			for _, r := range s.regions {
				r.takes = time.Hour // no page waits for it
			}
			go s.exporter.Poll(s.Context())
			synctest.Wait()
		}},
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
				// The style sheet is the same on all pages.
				before, rest, _ := strings.Cut(s.page(test.path), "<style>")
				_, after, _ := strings.Cut(rest, "</style>")
				got := before + "<style></style>" + after
				path := filepath.Join("testdata", test.name+".html")
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(path); err != nil || string(want) != got {
					t.Errorf("%s differs (-update writes it), or %v. Got:\n%s", path, err, got)
				}
			})
		})
	}
}

// TestNothingIsGreen: where no list was read, the last poll failed or is not believed, or
// nothing matches, no page says that all backups are good.
func TestNothingIsGreen(t *testing.T) {
	all := some()
	good := map[string][]crsapi.Task{guangzhou: all[guangzhou][:7], shanghai: all[shanghai]} // the newest backups
	gone := map[string][]crsapi.Task{guangzhou: all[guangzhou][18:20]}                       // a deleted instance
	const allGood = `<span class="good">✓ all in order</span>.`
	down := func(s *site) { s.regions[shanghai].err = errors.New("refused") }
	bothDown := func(s *site) {
		down(s)
		s.regions[guangzhou].err = errors.New("refused")
	}
	as := func(*site) {}
	for name, test := range map[string]struct {
		tasks                  map[string][]crsapi.Task
		first, second          func(*site) // before these polls
		query                  string
		status, listed, backup string // what the pages say
	}{
		"all is well":         {good, as, as, "", `<p class="good">✓ None.</p>`, "of 9 tasks", "2 instances; " + allGood},
		"never read":          {good, bothDown, as, "", "<p>Not read yet.</p>", "<p>Not read yet.</p>", "<p>Not read yet.</p>"},
		"last poll failed":    {good, as, down, "", "<p>None so far", "of 9 tasks", "2 instances; no problem so far: not every"},
		"not believed":        {good, as, func(s *site) { s.regions[guangzhou].tasks = nil }, "", "<p>None so far", "of 2 tasks", "2 instances; no problem so far: not every"},
		"filter by region":    {good, down, as, "?region=ap-shanghai", "<p>None so far", "<p>Not read yet.</p>", "<p>Not read yet.</p>"},
		"nothing matches":     {good, as, as, "?redisId=crs-unknown", "✓ None.", "<p>No task matches.</p>", "<p>No instance matches.</p>"},
		"nothing matches yet": {good, down, as, "?redisId=crs-other", "<p>None so far", "<p>No task matches so far: not every list is current.</p>", "<p>No instance matches so far: not every list is current.</p>"},
		"empty lists":         {nil, as, as, "", "<p>No instance is listed.</p>", "<p>No task matches.</p>", "<p>No instance matches.</p>"},
		"no instance left":    {gone, as, as, "", "<p>No instance is listed.</p>", "of 2 tasks", "<p> Not shown: 1 closed or deleted instance.</p>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, test.tasks)
				for _, before := range []func(*site){test.first, test.second} {
					before(s)
					s.exporter.Poll(t.Context())
				}
				for path, want := range map[string]string{"/": test.status, "/tasks" + test.query: test.listed, "/backups" + test.query: test.backup} {
					page := s.page(path)
					if !strings.Contains(page, want) {
						t.Errorf("%s does not say %q:\n%s", path, want, page)
					}
					if strings.Contains(page, allGood) != strings.Contains(want, allGood) || strings.Contains(page, "✓ None") != strings.Contains(want, "✓ None") {
						t.Errorf("%s: says that all is good:\n%s", path, page)
					}
				}
			})
		})
	}
}

// TestHeaders: a page loads nothing, and is in no frame and no cache.
func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, some())
		_, rest, _ := strings.Cut(s.page("/"), "<style>")
		css, _, _ := strings.Cut(rest, "</style>")
		hash := sha256.Sum256([]byte(css))
		want := "[nosniff] [no-referrer] [no-store] [default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none']"
		for _, path := range []string{"/", "/tasks", "/backups", "/tasks?status=nonsense"} {
			h := s.get(path).Header()
			got := fmt.Sprint(h["X-Content-Type-Options"], h["Referrer-Policy"], h["Cache-Control"], h["Content-Security-Policy"])
			if got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
	})
}

// TestDelivery: a page is compressed for those who accept it, and may be read at 16 KiB a
// second, however large it is.
func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: fleet(0, 200, 30)})
		plain := s.page("/backups")
		for accepted, want := range map[string]string{"gzip, deflate, br": "gzip", "gzip;q=0": "", "": ""} {
			w := s.send("/backups", accepted)
			size := w.Body.Len()
			if w.Header().Get("Content-Encoding") != want || w.Header().Get("Content-Length") != strconv.Itoa(size) || w.Header().Get("Vary") != "Accept-Encoding" {
				t.Errorf("%q: %d bytes, %v", accepted, size, w.Header())
			}
			needed := time.Duration(size) * time.Second / (16 << 10)
			if left := time.Until(w.deadline); left < 10*time.Second+needed || left > 15*time.Second+needed {
				t.Errorf("%v for %d bytes", left, size)
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

// TestEscape puts markup into every field that the API has, and into every parameter.
func TestEscape(t *testing.T) {
	const markup = `"'><script src=x></script><b onclick=x>&amp;{{.}}`
	raw := regexp.MustCompile(`<script|<b[ >]|onclick=x>|"'>`)
	synctest.Test(t, func(t *testing.T) {
		tasks := []crsapi.Task{
			task(markup, markup, "backupInstance", 2*time.Hour, crsapi.StatusFailed),
			task(markup, markup, markup, time.Hour, crsapi.StatusExecuting), task(markup, markup, markup, time.Minute, 77),
		}
		s := newSite(t, map[string][]crsapi.Task{guangzhou: tasks})
		s.credentials = func() string { return markup }
		s.exporter.Poll(t.Context())
		s.regions[shanghai].err = errors.New(markup)
		s.exporter.Poll(t.Context())
		escaped := url.QueryEscape(markup)
		named := "?redisId=" + escaped + "&redisName=" + escaped
		for _, path := range []string{"/", "/tasks" + named + "&taskName=" + escaped, "/backups" + named} {
			page := s.page(path)
			if raw.MatchString(page) || !strings.Contains(page, "&lt;script") {
				t.Errorf("%s does not show the markup, or has it as it is:\n%s", path, page)
			}
		}
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

// TestSizes has more instances and days than a page shows, with names as long as the
// console allows. Longer ids make a page shorter, not larger.
func TestSizes(t *testing.T) {
	longIDs := fleet(0, 250, 30)
	for i := range longIDs {
		longIDs[i].RedisID += strings.Repeat("&", 100)
	}
	for _, test := range []struct {
		tasks       []crsapi.Task
		path        string
		least, most int // rows
	}{
		{fleet(0, 1_000, 40), "/backups", 200, 200},
		{fleet(0, 250, 31), "/backups?page=2", 50, 50},
		{fleet(0, 250, 31), "/backups?page=3", 0, 0},
		{longIDs, "/backups", 10, 100},
		{fleet(48*time.Hour, 250, 1), "/", 200, 200}, // problems
	} {
		synctest.Test(t, func(t *testing.T) {
			page := polled(t, map[string][]crsapi.Task{guangzhou: test.tasks}).page(test.path)
			rows := strings.Count(page, `<th scope="row"`)
			if rows < test.least || rows > test.most || len(page) > 1_000_000 {
				t.Errorf("%s: %d rows in %d bytes", test.path, rows, len(page))
			}
			if cells := strings.Count(page, `<td class="day`); cells != rows*30 && test.path != "/" {
				t.Errorf("%s: %d cells in %d rows", test.path, cells, rows)
			}
			if test.path == "/" && !strings.Contains(page, `<p>50 more: see <a href="./backups">`) {
				t.Errorf("the page does not say that there are more:\n%.3000s", page)
			}
		})
	}
}

// TestDayOfBackups has several backups in a day.
func TestDayOfBackups(t *testing.T) {
	const ok, bad = crsapi.StatusSucceeded, crsapi.StatusFailed
	days := map[string]struct {
		first, second crsapi.Status
		apart         time.Duration
		want          string
	}{
		"crs-b": {ok, bad, time.Hour, "failed"},
		"crs-c": {ok, bad, 0, "failed, then succeeded"}, // the order within a second says nothing
		"crs-e": {ok, 77, time.Hour, "unknown"},
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(17 * time.Hour) // in the API's zone it is the next day, in UTC it is not
		var tasks []crsapi.Task
		for id, day := range days {
			tasks = append(tasks, backup(id, 7*time.Hour, day.first), backup(id, 7*time.Hour-day.apart, day.second))
		}
		page := polled(t, map[string][]crsapi.Task{guangzhou: tasks}).page("/backups")
		for id, day := range days {
			_, row, _ := strings.Cut(page, ">"+id+"</a></th>")
			row, _, _ = strings.Cut(row, "</tr>")
			if strings.Count(row, `<td class="day`) != 2 || !strings.Contains(row, `aria-label="`+day.want+`"`) {
				t.Errorf("the row of %s is %s, want %q", id, row, day.want)
			}
		}
	})
}

// wantProblems wants the pages to say that instances without a name have these problems.
func (s *site) wantProblems(want map[string]string) {
	s.Helper()
	problem := regexp.MustCompile(`>(crs-[a-z-]+)</a></th><td><span class="(?:bad|busy)">[✗!] ([^<]*)</span>`)
	got := map[string]string{}
	for _, match := range problem.FindAllStringSubmatch(s.page("/"), -1) {
		got[match[1]] = match[2]
	}
	if !maps.Equal(got, want) {
		s.Errorf("the status page says %q, want %q", got, want)
	}
	if page := s.page("/backups"); !strings.Contains(page, fmt.Sprintf("✗ %d with a problem", len(want))) {
		s.Errorf("the calendar differs: want %q:\n%s", want, page)
	}
}

// TestProblems compares what the pages say with when the alerts fire: CRSBackupFailed,
// CRSBackupMissing, CRSBackupStuck.
func TestProblems(t *testing.T) {
	const ok, bad, running, pending = crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusExecuting, crsapi.StatusPending
	rules, err := os.ReadFile("../../deploy/prometheus/rules/crs.yml")
	if err != nil || !strings.Contains(string(rules), "crs_task_finished_before_timestamp_seconds[15m]) + 3 * 3600\n") {
		t.Errorf("the rules have another limit for unfinished tasks, or %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: {
			backup("crs-good", 26*time.Hour, ok),
			backup("crs-missing", 26*time.Hour+time.Second, ok),
			backup("crs-failed", 25*time.Hour, ok), task("crs-failed", "", "AUTOBACKUP", time.Hour, bad),
			backup("crs-failed-too-late", 28*time.Hour, ok), backup("crs-failed-too-late", time.Hour, bad),
			backup("crs-executes-for-long", 25*time.Hour, ok), backup("crs-executes-for-long", 3*time.Hour, running),
			backup("crs-is-pending-too-long", 25*time.Hour, ok), backup("crs-is-pending-too-long", 3*time.Hour+time.Second, pending),
		}})
		s.wantProblems(map[string]string{
			"crs-missing": "overdue", "crs-failed": "failed", "crs-failed-too-late": "overdue", "crs-is-pending-too-long": "does not end",
		})
	})
}

// TestNever: an instance without any task, and one without a backup that succeeded, as an
// inventory shows them.
func TestNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, map[string][]crsapi.Task{guangzhou: {backup("crs-good", time.Hour, crsapi.StatusSucceeded), backup("crs-failed", time.Hour, crsapi.StatusFailed)}},
			crsapi.Instance{RedisID: "crs-good", Created: bubbleStart.Add(-90 * 24 * time.Hour)},
			crsapi.Instance{RedisID: "crs-failed", Created: bubbleStart.Add(-3 * time.Hour)},
			crsapi.Instance{RedisID: "crs-empty", RedisName: "cache", Created: bubbleStart.Add(-30 * time.Hour)})
		for range 2 {
			s.exporter.Poll(t.Context())
			synctest.Wait()
		}
		for path, wanted := range map[string][]string{
			"/backups": {
				`crs-empty</a><br>cache</th><td>never<br><span class="busy">! overdue</span></td>`,
				`crs-failed</a></th><td>never<br><span class="bad">✗ failed</span></td>`, `crs-good</a></th><td>1 h ago</td>`,
			},
			"/": {`crs-empty</a><br>cache</th><td><span class="busy">! overdue</span></td><td>1999-12-31 20:00:00</td><td>never</td>`, "<dd>3 instances, read 0 s ago</dd>"},
		} {
			page := s.page(path)
			for _, want := range wanted {
				if !strings.Contains(page, want) {
					t.Errorf("%s does not have %s:\n%s", path, want, page)
				}
			}
		}
	})
}

// TestProblemsStay: as the alerts do, a problem outlives its tasks, and begins only when a
// poll has seen the list.
func TestProblemsStay(t *testing.T) {
	const ok, bad = crsapi.StatusSucceeded, crsapi.StatusFailed
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, map[string][]crsapi.Task{guangzhou: {
			backup("crs-a", 9*time.Hour, ok), backup("crs-a", time.Hour, bad), backup("crs-b", 25*time.Hour, ok), backup("crs-c", time.Hour, ok),
		}})
		failed := map[string]string{"crs-a": "failed"}
		time.Sleep(2 * time.Hour) // crs-b is overdue, unless it was backed up meanwhile
		s.wantProblems(failed)
		s.regions[guangzhou].tasks = []crsapi.Task{backup("crs-b", -time.Hour, ok)}
		s.exporter.Poll(t.Context())
		s.wantProblems(failed)
		page := s.page("/backups") // crs-c was in order when it left
		left := `crs-a</a></th><td>11 h ago<br><span class="bad">✗ failed</span><br>not listed</td>`
		if !strings.Contains(page, left) || !strings.Contains(page, "<p>2 instances; ") || strings.Contains(page, "Not shown") {
			t.Errorf("the calendar does not show crs-a, which is not listed, and crs-b:\n%s", page)
		}
	})
}
