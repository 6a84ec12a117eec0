package pages

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
)

const clockFormat = "2006-01-02 15:04:05"

func (p *pages) functions() template.FuncMap {
	return template.FuncMap{
		"utc":      func(t time.Time) string { return t.UTC().Format(clockFormat) },
		"local":    func(t time.Time) string { return t.In(p.zone).Format(clockFormat) },
		"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"zone":     p.zone.String,
		"span":     span,
		"count":    count,
		"sign":     func(status string) string { return cellOf(status).Sign },
		"root":     p.root,
		"link":     func(region, redisID string) string { return p.root() + "/" + linkTo(region, redisID) },
		"statuses": collector.StatusNames,
		"percent":  func(part float32) string { return strconv.Itoa(int(part*100+0.5)) + " %" },
	}
}

// root returns the path of the status page, without the slash at its end. A browser that
// has opened that page without its slash would resolve a relative link one level too high.
func (p *pages) root() string { return cmp.Or(p.ExternalPath, ".") }

// span returns a duration in its two largest units, such as 3 d 4 h.
func span(d time.Duration) string {
	units := []struct {
		time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	for i, unit := range units[:3] {
		if d < unit.Duration {
			continue
		}
		text := fmt.Sprintf("%d %s", d/unit.Duration, unit.name)
		if rest := d % unit.Duration / units[i+1].Duration; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, units[i+1].name)
		}
		return text
	}
	return fmt.Sprintf("%d s", max(0, d)/time.Second)
}

// count returns a number with its noun, such as 1 page or 2 pages.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// linkTo returns a relative link to the tasks of an instance.
func linkTo(region, redisID string) string {
	return "tasks?" + url.Values{"region": {region}, "redisId": {redisID}}.Encode()
}
