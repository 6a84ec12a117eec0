package pages

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/prometheus/common/model"
)

const (
	maxValue = 256 // bytes of a parameter
	maxPage  = 1_000_000
)

// badRequest is an error in the parameters of a request.
type badRequest string

// Error implements error.
func (b badRequest) Error() string { return "bad request: " + string(b) }

func badRequestf(format string, args ...any) error { return badRequest(fmt.Sprintf(format, args...)) }

// query is the parameters of a request. None is empty, and only status has several values.
type query struct {
	url.Values
	page int // from 1
}

// readQuery reads a query that may have these parameters, and one of these regions.
func readQuery(raw string, names, regions []string) (q query, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, badRequestf("the parameters of the URL cannot be read")
	}
	q.Values = url.Values{}
	allowed := map[string][]string{"region": regions, "status": collector.StatusNames()}
	for name, all := range values {
		if !slices.Contains(names, name) {
			return q, badRequestf("unknown parameter %.50q: use %s", name, strings.Join(names, ", "))
		}
		if len(all) > 1 && name != "status" || len(all) > len(allowed["status"]) {
			return q, badRequestf("%s is given %d times", name, len(all))
		}
		for _, value := range all {
			if len(value) > maxValue {
				return q, badRequestf("%s has more than %d bytes", name, maxValue)
			}
			value = strings.TrimSpace(value) // pasted values often have blanks around them
			if value == "" {
				continue // a form sends empty fields too
			}
			if choice, ok := allowed[name]; ok && !slices.Contains(choice, value) {
				return q, badRequestf("%s must be one of %s, not %.50q", name, strings.Join(choice, ", "), value)
			}
			q.Add(name, value)
		}
	}
	q.page, err = strconv.Atoi(cmp.Or(q.Get("page"), "1"))
	if err != nil || q.page < 1 || q.page > maxPage {
		return q, badRequestf("page must be a number from 1 to %d, not %.50q", maxPage, q.Get("page"))
	}
	return q, nil
}

// moment reads a time: a duration before now, a day in a zone, or a time. For a day, it
// returns its begin plus ofDay.
func (q query) moment(name string, now time.Time, zone *time.Location, ofDay time.Duration) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := model.ParseDuration(text); err == nil {
		return now.Add(-time.Duration(ago)), nil
	}
	withPlus := strings.Replace(text, " ", "+", 1) // in a URL, the + of an offset means a blank
	if at, err := time.Parse(time.RFC3339, withPlus); err == nil {
		q.Set(name, withPlus)
		return at, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, zone); err == nil {
		return day.Add(ofDay), nil
	}
	return time.Time{}, badRequestf("%s must be a duration such as 24h or 7d, a day such as 2026-01-31, or a time such as 2026-01-31T08:00:00Z, not %.50q", name, text)
}

// instances returns a function that reports whether the query names an instance.
func (q query) instances() func(redisID, redisName string) bool {
	id, part := q.Get("redisId"), strings.ToLower(q.Get("redisName"))
	return func(redisID, redisName string) bool {
		return (id == "" || redisID == id) && (part == "" || strings.Contains(strings.ToLower(redisName), part))
	}
}

// Chosen reports whether a parameter has a value.
func (q query) Chosen(name, value string) bool { return slices.Contains(q.Values[name], value) }

// With returns a link to the same page with other values of a parameter, or without
// it. It leads to the first page, unless the page is what changes.
func (q query) With(name string, values ...string) string {
	changed := maps.Clone(q.Values)
	changed.Del("page")
	changed.Del(name)
	if len(values) > 0 {
		changed[name] = values
	}
	return "?" + changed.Encode()
}

// pager says which of all rows a page has, and links to other pages.
type pager struct {
	Total, Number, Pages, First, Last int
	Newest, Newer, Older, Oldest      string // empty if there is no such page
}

func newPager(q query, rows, size int) pager {
	n := q.page
	p := pager{Total: rows, Number: n, Pages: max(1, (rows+size-1)/size), First: (n-1)*size + 1, Last: min(n*size, rows)}
	link := func(n int) string { return q.With("page", strconv.Itoa(n)) }
	if n > 1 {
		p.Newest, p.Newer = link(1), link(min(n-1, p.Pages))
	}
	if n < p.Pages {
		p.Older, p.Oldest = link(n+1), link(p.Pages)
	}
	return p
}
