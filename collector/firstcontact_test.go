package collector_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/go-kit/log"
)

// TestFirstContact meets servers that read the documents in every way that these leave
// open, one at a time, through API 2.0 and 3.0. Nobody has met the real API. Within
// three scrapes the list is seen whole and right, or the region is down and the log says
// what to change. No scrape has a wrong number.
func TestFirstContact(t *testing.T) {
	both := []crsapi.API{crsapi.API20, crsapi.API30}
	two, three := both[:1], both[1:]
	for _, test := range []struct {
		point, reading string
		apis           []crsapi.API
		do             crsapitest.Effect
		empty          bool // no tasks
	}{
		{"endTime", "end included", both, crsapitest.All(), false},
		{"endTime", "end excluded", both, crsapitest.ExclusiveEnd, false},
		{"endTime", "bounds ignored", both, crsapitest.All(crsapitest.IgnoreBegin, crsapitest.IgnoreEnd), false},
		{"endTime", "end of the task, unfinished never within", both, crsapitest.EndOfRun, false},
		{"endTime", "end of the task, unfinished within", both, crsapitest.EndOfTask, false},
		{"endTime", "refused without beginTime", both, crsapitest.RefuseEndAlone, false},
		{"endTime", "bounds refused", both, crsapitest.RefuseBounds, false},
		{"endTime", "hidden fractions of a second", both, crsapitest.HiddenFractions, false},
		{"order", "oldest first", both, crsapitest.OldestFirst, false},
		{"offset", "number of a page", both, crsapitest.PageNumbers, false},
		{"limit", "cut to 20", both, crsapitest.PageCap(20), false},
		{"limit", "above 50 refused", both, crsapitest.RefuseLimitAbove50, false},
		{"totalCount", "text", both, crsapitest.TotalAsText, false},
		{"totalCount", "within data", two, crsapitest.TotalInData, false},
		{"totalCount", "of the page", both, crsapitest.TotalOfPage, false},
		{"rows", "numbers as text", both, crsapitest.NumbersAsText, false},
		{"rows", "type with the prefix", both, crsapitest.TypePrefix, false},
		{"rows", "type as the constant", both, crsapitest.TypeConstant, false},
		{"rows", "type as a number", both, crsapitest.TypeNumber, false},
		{"rows", "EndTime of the unfinished empty", three, crsapitest.EmptyEnd, false},
		{"rows", "EndTime of the unfinished null", three, crsapitest.NullEnd, false},
		{"rows", "EndTime of the unfinished zeros", three, crsapitest.All(), false},
		{"rows", "startTime of the waiting zeros", both, crsapitest.ZeroStart, false},
		{"empty list", "null", both, crsapitest.NullRows, true},
		{"empty list", "absent", both, crsapitest.NoRows, true},
		{"empty list", "[]", both, crsapitest.All(), true},
	} {
		for _, api := range test.apis {
			t.Run(fmt.Sprintf("%s/%s/API %s", test.point, test.reading, api), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					contact := newFirstContact(t, api, test.do)
					if !test.empty {
						contact.server.SetTasks(guangzhou, contact.tasks)
					}
					up := false
					for i := range 3 {
						if i > 0 {
							time.Sleep(15 * time.Second)
						}
						if up = contact.scrape(); !up {
							continue
						}
						switch {
						case test.empty:
							contact.want(nil, 0)
						case test.do == crsapitest.ZeroStart:
							contact.want(slices.DeleteFunc(slices.Clone(contact.tasks), func(t crsapi.Task) bool { return t.Status == crsapi.StatusPending }), 1)
						default:
							contact.want(contact.tasks, 0)
						}
					}
					t.Logf("up %t, requests of the scrapes %v", up, contact.requests)
					if says := regexp.MustCompile(`(?m)^level=(error|warn) .*--crs\.[a-z]`); !up && !says.Match(contact.log.Bytes()) {
						t.Errorf("the region is down, and the log does not say what to change:\n%s", contact.log.String())
					}
				})
			})
		}
	}
}

// firstContact is an Exporter that has not met its server yet.
type firstContact struct {
	t        *testing.T
	server   *crsapitest.Server
	exporter *collector.Exporter
	tasks    []crsapi.Task // newest first
	log      bytes.Buffer
	last     string // exposition
	requests []int  // of each scrape
}

func newFirstContact(t *testing.T, api crsapi.API, habit crsapitest.Effect) *firstContact {
	t.Helper()
	c := &firstContact{t: t, server: crsapitest.NewMemoryServer()}
	t.Cleanup(c.server.Close)
	c.server.SetTasks(guangzhou, nil)
	c.server.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.Latency(20*time.Millisecond), habit)})

	at := time.Now().Add(-time.Minute).Truncate(time.Second).UTC()
	for i := range 650 {
		if i%10 > 0 { // else it is of the same second as the one before
			at = at.Add(-7 * time.Minute)
		}
		task := crsapi.Task{
			RedisID: fmt.Sprintf("crs-%d", i%13), RedisName: "name", ProjectID: "7", TaskName: []string{"backupInstance", "AUTOBACKUP", "cleanInstance"}[i%3],
			StartTime: at, EndTime: at.Add(3 * time.Minute), Status: crsapi.StatusSucceeded, Progress: 1,
		}
		switch i {
		case 0:
			task.Status, task.EndTime, task.Progress = crsapi.StatusPending, time.Time{}, 0
		case 1, 40:
			task.Status, task.EndTime, task.Progress = crsapi.StatusExecuting, time.Time{}, 0.5
		case 3, 400, 604: // backups
			task.Status = crsapi.StatusFailed
		}
		c.tasks = append(c.tasks, task)
	}

	c.exporter = c.watch(api, credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey})
	return c
}

// watch returns an Exporter of the server.
func (c *firstContact) watch(api crsapi.API, keys credentials.Provider) *collector.Exporter {
	c.t.Helper()
	cfg := crsapi.DefaultConfig(api)
	cfg.Region, cfg.Limiter, cfg.Credentials = guangzhou, nil, keys
	cfg.Endpoint, cfg.Transport = c.server.URL, c.server.Client().Transport
	if api != crsapi.API20 {
		cfg.Endpoint = c.server.URL3
	}
	exporter, err := collector.New(collector.Config{
		Regions: []string{guangzhou}, TimeoutOffset: 500 * time.Millisecond,
		Logger: log.NewLogfmtLogger(log.NewSyncWriter(&c.log)),
		Dial: func(_ string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
			cfg.Observe = observe
			client, err := crsapi.NewClient(cfg)
			return []collector.Source{collector.FromAPI(client)}, err
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(exporter.Close)
	return exporter
}

// scrape scrapes as Prometheus does, and reports whether the region is up.
func (c *firstContact) scrape() (up bool) {
	before := c.server.Requests(guangzhou)
	r := httptest.NewRequestWithContext(c.t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	w := httptest.NewRecorder()
	c.exporter.Handler().ServeHTTP(w, r)
	if c.last = w.Body.String(); w.Code != http.StatusOK {
		c.t.Fatalf("status %d: %s", w.Code, c.last)
	}
	c.requests = append(c.requests, c.server.Requests(guangzhou)-before)
	return strings.Contains(c.last, `crs_up{region="ap-guangzhou"} 1`)
}

// want requires the last scrape to show exactly these tasks, and so many rejected rows.
func (c *firstContact) want(tasks []crsapi.Task, rejected int) {
	c.t.Helper()
	got, want := map[string]int{}, map[string]int{}
	sample := regexp.MustCompile(`(?m)^crs_tasks\{redisId="(.*)",region="ap-guangzhou",status="(.*)",taskName="(.*)"\} (.*)$`)
	for _, s := range sample.FindAllStringSubmatch(c.last, -1) {
		if n, _ := strconv.Atoi(s[4]); n > 0 {
			// API 2.0 may call an automatic backup by the name of the others.
			got[s[1]+" "+s[2]+" "+strings.Replace(s[3], "AUTOBACKUP", "backupInstance", 1)] += n
		}
	}
	for _, t := range tasks {
		want[t.RedisID+" "+t.Status.String()+" "+strings.Replace(t.TaskName, "AUTOBACKUP", "backupInstance", 1)]++
	}
	for series := range want {
		got[series] -= want[series]
	}
	maps.DeleteFunc(got, func(_ string, n int) bool { return n == 0 })
	if len(got) > 0 {
		c.t.Errorf("scrape %d is wrong by %v", len(c.requests), got)
	}
	if line := fmt.Sprintf("crs_poll_rejected_rows{region=\"ap-guangzhou\"} %d\n", rejected); !strings.Contains(c.last, line) {
		c.t.Errorf("scrape %d does not have %s", len(c.requests), line)
	}
}

// badKeys has another key after each refusal, none of which is good.
type badKeys struct{ refused atomic.Int64 }

func (k *badKeys) Key(context.Context) (credentials.Key, error) {
	return credentials.Key{SecretID: fmt.Sprint("AKID", k.refused.Load()), SecretKey: "k"}, nil
}

func (k *badKeys) Refused(credentials.Key) { k.refused.Add(1) }

// TestRefusedKeyCostsTwoRequests a scrape at most: with the key, and with one that takes
// its place.
func TestRefusedKeyCostsTwoRequests(t *testing.T) {
	for name, test := range map[string]struct {
		keys credentials.Provider
		most int
	}{
		"the same key": {credentials.Static{SecretID: "AKIDnobody", SecretKey: "k"}, 1},
		"new bad keys": {new(badKeys), 2},
	} {
		for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
			t.Run(name+"/API "+string(api), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newFirstContact(t, api, crsapitest.All())
					c.exporter = c.watch(api, test.keys)
					for range 5 {
						if c.scrape() {
							t.Error("up with a refused key")
						}
						time.Sleep(15 * time.Second)
					}
					if most := slices.Max(c.requests); most > test.most || slices.Min(c.requests) == 0 {
						t.Errorf("requests of the scrapes %v, want 1 to %d each", c.requests, test.most)
					}
				})
			})
		}
	}
}

// 25 regions of 1,000 tasks each share the rate at a server whose end bound sees hidden
// fractions of a second, so that their lists are read by limit and offset only. Each list
// is whole by the third scrape, and stays so.
func TestRegionsByOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		longAfter()
		s := limited(t, crsapi.API20, 20)
		var regions []string
		for i := range 25 {
			regions = append(regions, fmt.Sprintf("r%d", i))
			s.SetTasks(regions[i], succeeded(1000))
		}
		s.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.Latency(20*time.Millisecond), crsapitest.HiddenFractions)})
		e := s.watch(t, collector.Config{}, regions...)
		for n := 1; n <= 20; n++ {
			got := scrape(t, e)
			if up := len(got.of("crs_up").nonzero()); n >= 3 && up != 25 {
				t.Errorf("scrape %d: %d of 25 regions are up", n, up)
			}
			if by := len(got.of("crs_poll_by_offset").nonzero()); n == 20 && by != 25 {
				t.Errorf("%d regions are read by offset", by)
			}
			time.Sleep(15 * time.Second)
		}
	})
}
