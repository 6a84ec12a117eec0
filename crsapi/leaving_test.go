package crsapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// pagesOf returns a client of a server that returns a list of so many tasks, in
// pages of at most size, and a counter of its requests.
func pagesOf(t *testing.T, api crsapi.API, total, size int) (*crsapi.Client, *[]string) {
	t.Helper()
	var requests []string
	c := newTestClient(t, api, func(cfg *crsapi.Config) {
		cfg.PageSize = 3
		cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
			sent := read(r)
			offset, limit := sent.int("Offset"), sent.int("Limit")
			requests = append(requests, fmt.Sprintf("%d+%d", offset, limit))
			var rows []string
			for i := offset; i < min(total, offset+min(limit, size)); i++ {
				rows = append(rows, rowJSON(api, "redisId", strconv.Quote(strconv.Itoa(i))))
			}
			return respond(http.StatusOK, listJSON(api, total, rows...))
		})
	})
	return c, &requests
}

func TestTasks(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, test := range map[string]struct {
			total, size int
			query       crsapi.Query
			first       int
			want        string // requests as offset+limit
		}{
			"empty list":        {0, 9, crsapi.Query{}, 0, "[0+3]"},
			"one page":          {2, 9, crsapi.Query{}, 0, "[0+3]"},
			"full page":         {3, 9, crsapi.Query{}, 0, "[0+3]"},
			"three pages":       {8, 9, crsapi.Query{}, 0, "[0+3 3+3 6+3]"},
			"limit of a query":  {8, 9, crsapi.Query{Limit: 5}, 0, "[0+5 5+5]"},
			"offset of a query": {8, 9, crsapi.Query{Offset: 3}, 3, "[3+3 6+3]"},
			"offset at the end": {8, 9, crsapi.Query{Offset: 8}, 8, "[8+3]"},
			"small pages":       {5, 2, crsapi.Query{}, 0, "[0+3 2+2 4+2]"},
		} {
			t.Run(name, func(t *testing.T) {
				c, requests := pagesOf(t, api, test.total, test.size)
				all := c.Tasks(t.Context(), test.query)
				for range 2 { // an iterator can be used again
					next := test.first
					*requests = nil
					for task, err := range all {
						if err != nil || task.RedisID != strconv.Itoa(next) {
							t.Fatalf("task %d is %+v, %v", next, task, err)
						}
						next++
					}
					if got := fmt.Sprint(*requests); next != test.total || got != test.want {
						t.Errorf("%d tasks with requests %s, want %d with %s", next, got, test.total, test.want)
					}
				}
			})
		}
	})
}

func TestTasksStops(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		c, requests := pagesOf(t, api, 8, 9)
		for range c.Tasks(t.Context(), crsapi.Query{}) {
			break
		}
		if len(*requests) != 1 {
			t.Errorf("requests %v, want one", *requests)
		}
	})
}

func TestTasksCopiesTheQuery(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		var sent []string
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
				params := read(r).params
				for _, name := range []string{"taskStatus.0", "TaskStatus", "Result"} {
					if status, ok := params[name]; ok {
						sent = append(sent, strings.Trim(status, "[]"))
					}
				}
				return respond(http.StatusOK, listJSON(api, 0))
			})
		})
		q := crsapi.Query{Statuses: []crsapi.Status{crsapi.StatusFailed}}
		all := c.Tasks(t.Context(), q)
		q.Statuses[0] = crsapi.StatusPending
		for range all {
			t.Error("a task in an empty list")
		}
		if want := dialects[api].failed; fmt.Sprint(sent) != fmt.Sprint([]int{want}) {
			t.Errorf("sent status %v, want %d", sent, want)
		}
	})
}

func TestTasksFails(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		bodies := []string{listJSON(api, 4, rowJSON(api), "null"), apiError(4103, "no")}
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) {
				body := bodies[0]
				bodies = bodies[1:]
				return respond(http.StatusOK, body)
			})
		})
		var tasks int
		var errs []error
		for _, err := range c.Tasks(t.Context(), crsapi.Query{Limit: 2}) {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			tasks++
		}
		var failed *crsapi.Error
		if tasks != 1 || len(errs) != 1 || !errors.As(errs[0], &failed) || failed.Code != 4103 {
			t.Fatalf("%d tasks, errors %v", tasks, errs)
		}
		want := fmt.Sprintf("list tasks of region ap-guangzhou: page at offset 2: %s %s: API error 4103 (Desc): no", dialects[api].action, dialects[api].host)
		if errs[0].Error() != want {
			t.Errorf("got  %v\nwant %s", errs[0], want)
		}
	})
}

func TestTasksIsLimited(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		body := listJSON(api, 10_000_000, rowJSON(api))
		c := newTestClient(t, api, func(cfg *crsapi.Config) {
			cfg.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return respond(http.StatusOK, body) })
		})
		var last error
		for _, err := range c.Tasks(t.Context(), crsapi.Query{}) {
			last = err
		}
		var failed *crsapi.Error
		if !errors.As(last, &failed) || failed.Reason != crsapi.ReasonDecode || !strings.Contains(last.Error(), "more than 10000 pages") {
			t.Errorf("got %v", last)
		}
	})
}
