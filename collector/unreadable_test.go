package collector_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// rewriting changes the text of the rows on their way.
type rewriting struct {
	http.RoundTripper
	old, new []byte
}

func (r rewriting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, r.old, r.new)))
	return resp, err
}

// TestUnreadableRowThatMoves has one row that cannot be read, whose progress is
// another one in each response. Scrapes stay whole.
func TestUnreadableRowThatMoves(t *testing.T) {
	const broken = "crs-broken"
	for _, test := range []struct {
		name string
		at   int // index of the row in the list
		old  func(crsapi.Task) string
		new  string
	}{
		{"no time, newest", 0, hongKongTime, "0000-00-00 00:00:00"},
		{"no time, on the second page", 130, hongKongTime, "0000-00-00 00:00:00"},
		{"no time, oldest", 239, hongKongTime, "0000-00-00 00:00:00"},
		{"no instance, newest", 0, func(crsapi.Task) string { return `"` + broken + `"` }, "{}"},
		{"no instance, on the second page", 130, func(crsapi.Task) string { return `"` + broken + `"` }, "{}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, api crsapi.API) {
				server := crsapitest.NewMemoryServer()
				t.Cleanup(server.Close)
				tasks := make([]crsapi.Task, 240)
				for i := range tasks {
					tasks[i] = crsapi.Task{
						RedisID: fmt.Sprint("crs-", i%40), TaskName: backup, Status: crsapi.StatusSucceeded, Progress: 1,
						StartTime: time.Now().UTC().Truncate(time.Second).Add(-time.Duration(i) * time.Minute),
					}
				}
				odd := &tasks[test.at]
				odd.RedisID, odd.Status, odd.Progress = broken, crsapi.StatusExecuting, 0
				server.SetTasks(guangzhou, tasks)
				server.OnRequest(func(crsapitest.Request) {
					server.Update(guangzhou, func(tasks []crsapi.Task) []crsapi.Task {
						tasks[test.at].Progress += 1.0 / 1024
						return tasks
					})
				})
				e := newExporter(t, collector.Config{
					TimeoutOffset: 500 * time.Millisecond,
					Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
						cfg := simulatedConfig(server, region, api, observe)
						cfg.Transport = rewriting{cfg.Transport, []byte(test.old(*odd)), []byte(test.new)}
						client, err := crsapi.NewClient(cfg)
						return []collector.Source{collector.FromAPI(client)}, err
					},
				}, map[string]collector.Source{guangzhou: nil})
				for range 10 {
					got := scrape(t, e)
					got.want(t, samples{
						`crs_up{region="ap-guangzhou"}`:                        "1",
						`crs_poll_rejected_rows{region="ap-guangzhou"}`:        "1",
						`crs_corrections_total{region="ap-guangzhou"}`:         "0",
						fmt.Sprintf(tasksSeries, "crs-7", "succeeded", backup): "6",
					})
				}
			})
		})
	}
}

func hongKongTime(t crsapi.Task) string {
	return t.StartTime.In(time.FixedZone("", 8*60*60)).Format(time.DateTime)
}
