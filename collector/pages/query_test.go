package pages_test

import (
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestBadParameters(t *testing.T) {
	long := strings.Repeat("x", 257)
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, some())
		for query, want := range map[string]string{
			"/tasks?page=0":                  `page must be`,
			"/tasks?region=gz":               `region must be one of ap-guangzhou, ap-shanghai, not "gz"`,
			"/tasks?status=done":             `status must be one of pending, executing, succeeded, failed, error, unknown, not "done"`,
			"/tasks?since=yesterday":         `since must be a duration such as 24h or 7d, a day such as 2026-01-31, or a time such as 2026-01-31T08:00:00Z, not "yesterday"`,
			"/tasks?day=2000-01-01&since=1d": `day replaces since and until: give only one of them`,
			"/tasks?page=1000001":            `page must be a number from 1 to 1000000, not "1000001"`,
			"/tasks?redisid=crs-a":           `unknown parameter "redisid": use region, redisId,`,
			"/tasks?redisId=a&redisId=b":     `redisId is given 2 times`,
			"/tasks?until=2000-01-32":        `until must be a duration`,
			"/tasks?%zz":                     `the parameters of the URL cannot be read`,
			"/tasks?status=" + long:          `status has more than 256 bytes`,
			"/backups?since=1d":              `unknown parameter "since": use region, redisId, redisName, page`,
			"/tasks?region=" + long[:250]:    `region must be one of`,
		} {
			w := s.get(query)
			body, kind := w.Body.String(), w.Header().Get("Content-Type")
			if w.Code != http.StatusBadRequest || kind != "text/plain; charset=utf-8" || !strings.HasPrefix(body, "bad request: "+want) || strings.Count(body, "\n") != 1 || len(body) > 250 {
				t.Errorf("%.60s: status %d, %s, %q, want %q", query, w.Code, kind, body, want)
			}
		}
	})
}

// taskRow is the begin of a row of a page of tasks, with the time of the submission.
var taskRow = regexp.MustCompile(`<tr><td><time datetime="[^"]+"`)

// TestFilters counts the rows of some filters.
func TestFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := polled(t, some())
		for query, n := range map[string]int{
			"":                                23,
			"redisId=crs-goo":                 0,
			"redisId=%E3%80%80crs-good%09":    8, // pasted with a wide blank and a tab
			"redisName=rank":                  1,
			"taskName=AUTOBACKUP":             2,
			"taskName=backup":                 0,
			"status=failed&status=executing":  5,
			"day=1999-12-31":                  5,
			"since=0s":                        0,
			"until=5d":                        3,
			"until=1999-12-31T17:00:00Z":      18,
			"since=2000-01-01T07:30:00+08:00": 2, // as typed in the address bar
			"redisId=&region=&status=&page=":  23,
		} {
			if got := taskRow.FindAllString(s.page("/tasks?"+query), -1); len(got) != n {
				t.Errorf("%s: %d rows, want %d: %s", query, len(got), n, got)
			}
		}
		if page := s.page("/tasks?since=2000-01-01T07:30:00+08:00"); !strings.Contains(page, `name="since" value="2000-01-01T07:30:00&#43;08:00"`) {
			t.Errorf("the form has another time:\n%s", page)
		}
		if page := s.page("/tasks?page=2"); !strings.Contains(page, `<a href="?status=failed"`) {
			t.Errorf("another status does not begin at the first page:\n%s", page)
		}
	})
}

// TestPaging follows the links from the newest to the oldest page while tasks are
// submitted. No page may repeat or hide one.
func TestPaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := fleet(0, 25, 10)
		s := newSite(t, map[string][]crsapi.Task{guangzhou: tasks[:150], shanghai: tasks[150:]})
		next := regexp.MustCompile(`<a href="([^"]+)" rel="next">`)
		var seen []string
		path, n := "/tasks?since=2000d", 0
		for path != "" {
			s.exporter.Poll(t.Context())
			page := s.page(path)
			rows := taskRow.FindAllString(page, -1)
			seen = append(seen, rows...)
			if n++; n > 3 || len(rows) > 100 {
				t.Fatalf("page %d with %d rows", n, len(rows))
			}
			path = ""
			if match := next.FindStringSubmatch(page); match != nil {
				path = "/tasks" + html.UnescapeString(match[1])
			}
			time.Sleep(time.Minute)
			added := backup("crs-new", -time.Since(bubbleStart), crsapi.StatusSucceeded)
			s.regions[guangzhou].tasks = append(s.regions[guangzhou].tasks, added)
		}
		if len(seen) != len(tasks) || !slices.IsSortedFunc(seen, func(a, b string) int { return strings.Compare(b, a) }) {
			t.Errorf("%d rows, want %d, newest first", len(seen), len(tasks))
		}
		last := regexp.MustCompile(`This page has no task[^$]*<a href="\?page=3[^"]*" rel="prev">`)
		if page := s.page("/tasks?page=9"); !last.MatchString(page) {
			t.Errorf("a page after the last:\n%s", page)
		}
	})
}
