package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"go.uber.org/goleak"
)

var listGauge = regexp.MustCompile(`^crs_(tasks|task_last_start_timestamp_seconds|task_oldest_start_timestamp_seconds|instance_info)\{`)

// truth returns the gauges that a region with these tasks must have.
func truth(region string, tasks []crsapi.Task) map[string]string {
	samples := map[string]string{}
	counts := map[string]int{}
	newest := map[string]crsapi.Task{}
	number := func(v int64) string { return strconv.FormatFloat(float64(v), 'g', -1, 64) }
	series := func(metric string, t crsapi.Task, status crsapi.Status) string {
		return fmt.Sprintf(`%s{redisId=%q,region=%q,status=%q,taskName=%q}`, metric, t.RedisID, region, status, t.TaskName)
	}
	extreme := func(name string, at int64, first bool) {
		if known, ok := samples[name]; ok {
			v, _ := strconv.ParseFloat(known, 64)
			if first == (int64(v) < at) {
				return
			}
		}
		samples[name] = number(at)
	}
	for _, t := range tasks {
		for status := crsapi.StatusError; status <= crsapi.StatusFailed; status++ {
			counts[series("crs_tasks", t, status)] += 0
		}
		counts[series("crs_tasks", t, t.Status)]++
		extreme(series("crs_task_last_start_timestamp_seconds", t, t.Status), t.StartTime.Unix(), false)
		if t.Status == crsapi.StatusPending || t.Status == crsapi.StatusExecuting {
			extreme(series("crs_task_oldest_start_timestamp_seconds", t, t.Status), t.StartTime.Unix(), true)
		}
		if known, ok := newest[t.RedisID]; !ok || t.StartTime.After(known.StartTime) {
			newest[t.RedisID] = t
		}
	}
	for name, n := range counts {
		samples[name] = number(int64(n))
	}
	for id, t := range newest {
		samples[fmt.Sprintf(`crs_instance_info{projectId=%q,redisId=%q,redisName=%q,region=%q}`, t.ProjectID, id, t.RedisName, region)] = "1"
	}
	return samples
}

// listed returns the gauges of a region's list in a scrape.
func listed(region string, samples map[string]string) map[string]string {
	list := map[string]string{}
	for name, value := range samples {
		if listGauge.MatchString(name) && strings.Contains(name, fmt.Sprintf("region=%q", region)) {
			list[name] = value
		}
	}
	return list
}

// difference returns a few of the series in which two sets of samples differ.
func difference(got, want map[string]string) string {
	var b strings.Builder
	names := map[string]string{}
	maps.Copy(names, want)
	maps.Copy(names, got)
	written := 0
	for name := range names {
		if g, w := got[name], want[name]; g != w && written < 5 {
			written++
			fmt.Fprintf(&b, "\n%s is %q, want %q", name, g, w)
		}
	}
	return b.String()
}

func up(samples map[string]string, region string) bool {
	return samples[fmt.Sprintf("crs_up{region=%q}", region)] == "1"
}

func failures(samples map[string]string, region string, reason crsapi.Reason) int {
	n, err := strconv.Atoi(samples[fmt.Sprintf("crs_api_failures_total{reason=%q,region=%q}", reason, region)])
	if err != nil {
		return -1
	}
	return n
}

// wantWhole checks that a region is up and shows exactly these tasks.
func wantWhole(t *testing.T, samples map[string]string, region string, tasks []crsapi.Task) {
	t.Helper()
	if !up(samples, region) {
		t.Errorf("%s is not up", region)
	}
	if d := difference(listed(region, samples), truth(region, tasks)); d != "" {
		t.Errorf("%s is up with wrong numbers:%s", region, d)
	}
}

// wantDown checks that a region is down, shows no list, and has failed since an
// earlier scrape for this reason only.
func wantDown(t *testing.T, samples, before map[string]string, region string, reason crsapi.Reason) {
	t.Helper()
	if value := samples[fmt.Sprintf("crs_up{region=%q}", region)]; value != "0" {
		t.Errorf("crs_up of %s is %q, want 0", region, value)
	}
	if list := listed(region, samples); len(list) != 0 {
		t.Errorf("%s is down and shows %d series of a list:%s", region, len(list), difference(list, nil))
	}
	wantReason(t, samples, before, region, reason)
}

func wantReason(t *testing.T, samples, before map[string]string, region string, reason crsapi.Reason) {
	t.Helper()
	for _, r := range crsapi.Reasons() {
		more := failures(samples, region, r) - max(failures(before, region, r), 0)
		if (more > 0) != (r == reason) || more < 0 {
			t.Errorf("%s: %d more failures with reason %s, want some with %q only", region, more, r, reason)
		}
	}
}

// wantCounters checks that a scrape has the transitions of an earlier scrape.
func wantCounters(t *testing.T, samples, before map[string]string) {
	t.Helper()
	for name, value := range before {
		if strings.HasPrefix(name, "crs_task_transitions_total{") && samples[name] != value {
			t.Errorf("%s is %q, want %q as before", name, samples[name], value)
		}
	}
}

// wantIdle waits until the simulator has no request in flight: it notices with a
// delay that a client has disconnected.
func wantIdle(t *testing.T, simulator *crsapitest.Simulator) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for simulator.InFlight("") != 0 {
		select {
		case <-tick.C:
		case <-limit:
			t.Errorf("%d requests are still in flight", simulator.InFlight(""))
			return
		}
	}
}

// faultCase is a fault that applies to a region's requests.
type faultCase struct {
	do crsapitest.Effect
	// reason is why the region must be down; empty if it must be up.
	reason crsapi.Reason
	rate   float64 // of the requests affected; 0 for all
	skip   int     // requests before the first that is affected
	count  int     // requests affected; 0 for no limit
}

// faultCases returns all cases of an API. A consistent response with an empty
// list is not among them: nothing shows that it is wrong.
func faultCases(api crsapi.API, elsewhere string) map[string]faultCase {
	const (
		auth, denied      = crsapi.ReasonAuth, crsapi.ReasonDenied
		throttled, server = crsapi.ReasonThrottled, crsapi.ReasonServer
		network, timeout  = crsapi.ReasonNetwork, crsapi.ReasonTimeout
		decode, refused   = crsapi.ReasonDecode, crsapi.ReasonAPI
	)
	cases := map[string]faultCase{
		"redirect to another host": {do: crsapitest.Redirect(elsewhere), reason: refused},

		"hang":                 {do: crsapitest.Hang, reason: timeout},
		"slow headers":         {do: crsapitest.SlowHeaders(50 * time.Millisecond), reason: timeout},
		"slow body":            {do: crsapitest.SlowBody(1, 50*time.Millisecond), reason: timeout},
		"reset before headers": {do: crsapitest.ResetBeforeHeaders, reason: network},
		"reset after headers":  {do: crsapitest.ResetAfterHeaders, reason: network},
		"reset in mid-body":    {do: crsapitest.ResetMidBody, reason: network},
		"closed in mid-body":   {do: crsapitest.ShortBody, reason: network},
		"huge header":          {do: crsapitest.Header("X-Huge", strings.Repeat("x", 1<<20)), reason: network},
		"endless body":         {do: crsapitest.EndlessBody, reason: decode},
		"gzip bomb":            {do: crsapitest.GzipBomb(1 << 30), reason: decode},

		"truncated":            {do: crsapitest.TruncatedJSON, reason: decode},
		"HTML":                 {do: crsapitest.HTTPStatus(http.StatusOK), reason: decode},
		"empty body":           {do: crsapitest.Body(""), reason: decode},
		"empty object":         {do: crsapitest.Body("{}"), reason: decode},
		"array":                {do: crsapitest.Body("[]"), reason: decode},
		"null":                 {do: crsapitest.Body("null"), reason: decode},
		"task set a number":    {do: crsapitest.Format{TaskSet: new("7")}, reason: decode},
		"task set an object":   {do: crsapitest.Format{TaskSet: new(`{"redisId":"crs-1"}`)}, reason: decode},
		"task set left out":    {do: crsapitest.Format{TaskSet: new("")}, reason: decode},
		"tasks null":           {do: crsapitest.Format{TaskSet: new("null")}, reason: decode},
		"total negative":       {do: totalOf(-1), reason: decode},
		"total very negative":  {do: totalOf(-1 << 62), reason: decode},
		"total huge":           {do: totalOf(1 << 62), reason: decode},
		"total zero":           {do: totalOf(0), reason: decode},
		"total too small":      {do: totalPlus(-7), reason: decode},
		"total too great":      {do: totalPlus(7), reason: decode},
		"total less by a page": {do: totalPlus(-20), reason: decode},
		"total more by a page": {do: totalPlus(20), reason: decode},
		"offset ignored":       {do: crsapitest.IgnoreOffset}, // windows of time need no offset

		"latency":         {do: crsapitest.Latency(20 * time.Millisecond)},
		"page cap":        {do: crsapitest.PageCap(7)},
		"offsets rounded": {do: crsapitest.RoundOffsets},
		"string total":    {do: crsapitest.Format{StringTotal: true}},
		"float progress":  {do: crsapitest.Format{FloatProgress: true}},
		"no Date":         {do: crsapitest.Header("Date", "")},

		"first page again for another": {do: crsapitest.IgnoreOffset, skip: 1, count: 1},

		"half: 502":           {do: crsapitest.HTTPStatus(http.StatusBadGateway), reason: server, rate: 0.5},
		"half: quota":         {do: crsapitest.APIError(4400), reason: throttled, rate: 0.5},
		"half: reset":         {do: crsapitest.ResetMidBody, reason: network, rate: 0.5},
		"half: truncated":     {do: crsapitest.TruncatedJSON, reason: decode, rate: 0.5},
		"half: revoked":       {do: crsapitest.APIError(4104), reason: auth, rate: 0.5},
		"half: one total off": {do: totalPlus(1), reason: decode, rate: 0.5},
		"half: a page short":  {do: crsapitest.PageCap(10), reason: decode, rate: 0.5},
		"half: same page":     {do: crsapitest.IgnoreOffset, rate: 0.5},
	}
	for status, reason := range map[int]crsapi.Reason{
		204: refused, 302: refused, 400: refused, 401: denied, 403: denied, 404: refused, 405: refused, 408: refused,
		413: refused, 429: throttled, 500: server, 501: server, 502: server, 503: server, 504: server, 599: server,
	} {
		cases[fmt.Sprintf("HTTP %d", status)] = faultCase{do: crsapitest.HTTPStatus(status), reason: reason}
	}
	maps.Copy(cases, map[bool]func() map[string]faultCase{true: faultCases20, false: faultCases30}[api == crsapi.API20]())
	return cases
}

// faultCases20 returns the cases that are about the format and the codes of API
// 2.0.
func faultCases20() map[string]faultCase {
	const (
		auth, denied      = crsapi.ReasonAuth, crsapi.ReasonDenied
		throttled, server = crsapi.ReasonThrottled, crsapi.ReasonServer
		decode, refused   = crsapi.ReasonDecode, crsapi.ReasonAPI
	)
	cases := map[string]faultCase{
		"envelope of API 3.0":    {do: crsapitest.Envelope("AuthFailure.SignatureFailure", "no"), reason: auth},
		"code an object":         {do: crsapitest.Body(`{"code":{}}`), reason: decode},
		"totalCount a word":      {do: crsapitest.Body(`{"code":0,"totalCount":"many","data":{"redisTaskSet":[]}}`), reason: decode},
		"totalCount null":        {do: crsapitest.Body(`{"code":0,"totalCount":null,"data":{"redisTaskSet":[]}}`), reason: decode},
		"totalCount not there":   {do: crsapitest.Body(`{"code":0,"data":{"redisTaskSet":[]}}`), reason: decode},
		"totalCount a fraction":  {do: crsapitest.Body(`{"code":0,"totalCount":0.5,"data":{"redisTaskSet":[]}}`), reason: decode},
		"data a word":            {do: crsapitest.Format{Data: new(`"x"`)}, reason: decode},
		"data null though tasks": {do: crsapitest.Format{Data: new("null")}, reason: decode},
		"string code":            {do: crsapitest.Format{StringCode: true}},
	}
	for code, reason := range map[int]crsapi.Reason{
		4000: refused, 4100: auth, 4101: denied, 4102: denied, 4103: denied, 4104: auth, 4105: auth, 4106: auth,
		4110: denied, 4200: auth, 4300: denied, 4400: throttled, 4420: throttled, 4480: throttled, 4500: auth,
		4600: refused, 5000: refused, 5100: server, 6000: server, 6100: refused, 6200: server, 11201: refused, -1: refused,
	} {
		cases[fmt.Sprintf("code %d", code)] = faultCase{do: crsapitest.APIError(code, "Some", "text"), reason: reason}
	}
	return cases
}

// faultCases30 returns the cases that are about the format and the codes of API
// 3.0.
func faultCases30() map[string]faultCase {
	const (
		auth, denied      = crsapi.ReasonAuth, crsapi.ReasonDenied
		throttled, server = crsapi.ReasonThrottled, crsapi.ReasonServer
		decode, refused   = crsapi.ReasonDecode, crsapi.ReasonAPI
	)
	cases := map[string]faultCase{
		"error of API 2.0":      {do: crsapitest.Body(`{"code":4100,"message":"no","codeDesc":"AuthFailure"}`), reason: auth},
		"list of API 2.0":       {do: crsapitest.Body(`{"code":0,"totalCount":0,"data":{"redisTaskSet":[]}}`), reason: decode},
		"error without a code":  {do: crsapitest.Body(`{"Response":{"Error":{}}}`), reason: decode},
		"error beside a list":   {do: crsapitest.Format{Response: new(`{"TotalCount":0,"Tasks":[],"Error":{"Code":"InternalError","Message":"x"}}`)}, reason: server},
		"Response null":         {do: crsapitest.Format{Response: new("null")}, reason: decode},
		"Response empty":        {do: crsapitest.Format{Response: new("{}")}, reason: decode},
		"Response a word":       {do: crsapitest.Format{Response: new(`"x"`)}, reason: decode},
		"TotalCount a word":     {do: crsapitest.Format{Response: new(`{"TotalCount":"many","Tasks":[]}`)}, reason: decode},
		"TotalCount null":       {do: crsapitest.Format{Null: []string{"TotalCount"}}, reason: decode},
		"TotalCount not there":  {do: crsapitest.Format{Response: new(`{"Tasks":[]}`)}, reason: decode},
		"TotalCount a fraction": {do: crsapitest.Format{Response: new(`{"TotalCount":0.5,"Tasks":[]}`)}, reason: decode},
		"Tasks null":            {do: crsapitest.Format{Null: []string{"Tasks"}}, reason: decode},

		"no EndTime":   {do: crsapitest.Format{EndTime: new("")}},
		"EndTime null": {do: crsapitest.Format{EndTime: new("null")}},
		"nulls":        {do: crsapitest.Format{Null: []string{"EndTime", "Progress", "RequestId"}}},
	}
	for code, reason := range map[string]crsapi.Reason{
		"AuthFailure.SignatureFailure": auth, "AuthFailure.SecretIdNotFound": auth, "AuthFailure.TokenFailure": auth,
		"AuthFailure.MFAFailure": auth, "AuthFailure.SignatureExpire": auth, "AuthFailure.InvalidAuthorization": auth,
		"AuthFailure.UnauthorizedOperation": denied, "UnauthorizedOperation": denied, "UnauthorizedOperation.NoCAMAuthed": denied,
		"InvalidParameter.PermissionDenied": denied, "IpInBlacklist": denied, "IpNotInWhitelist": denied,
		"RequestLimitExceeded": throttled, "RequestLimitExceeded.UinLimitExceeded": throttled, "RequestLimitExceeded.GlobalRegionUinLimitExceeded": throttled,
		"FailedOperation.SystemError": server, "InternalError": server, "InternalError.DbOperationFailed": server, "ServiceUnavailable": server,
		"ActionOffline": crsapi.ReasonRetired, "InvalidAction": refused, "NoSuchVersion": refused, "UnsupportedRegion": refused,
		"ResourceUnavailable.NoRedisService": refused, "InvalidParameterValue": refused, "LimitExceeded": refused, "InternalErrorless": refused,
	} {
		cases[code] = faultCase{do: crsapitest.Envelope(code, "text"), reason: reason}
	}
	return cases
}

// twoRegions returns two regions with three pages of 20 tasks each, as an API
// lists them. Short lists keep the tests fast.
func twoRegions(api crsapi.API) map[string][]crsapi.Task {
	return map[string][]crsapi.Task{
		guangzhou: through(api, crsapitest.Generate(50, 2, 1)), shanghai: through(api, crsapitest.Generate(46, 2, 2)),
	}
}

func TestFaults(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	setKey(t)
	var strayed atomic.Int64
	stray := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	defer stray.Close()

	tests := map[string]func(*testing.T){}
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
		for name, test := range faultCases(api, "http://localhost"+strings.TrimPrefix(stray.URL, "http://127.0.0.1")+crsapitest.Path) {
			tests[fmt.Sprintf("API %s: %s", api, name)] = func(t *testing.T) { testFault(t, api, test) }
		}
	}
	atOnce(t, tests)
	if n := strayed.Load(); n != 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
}

// testFault applies one fault to one of two regions.
func testFault(t *testing.T, api crsapi.API, test faultCase) {
	server := crsapitest.NewServer()
	defer server.Close()
	tasks := twoRegions(api)
	for region, list := range tasks {
		server.SetTasks(region, list)
	}
	// On a busy machine, another failure must not become a timeout.
	timeout := "2s"
	if test.reason == crsapi.ReasonTimeout {
		timeout = "500ms"
	}
	concurrency := "8"
	if test.skip > 0 {
		concurrency = "1" // so that the order of pages is fixed
	}
	exporter := start(t, append(readThrough(server, api), "--crs.rate-limit=0", "--crs.page-size=20", "--crs.concurrency="+concurrency, "--crs.region="+guangzhou,
		"--crs.region="+shanghai, "--crs.request-timeout="+timeout, "--scrape.timeout-offset=100ms")...)
	before := exporter.scrape()
	for region, list := range tasks {
		wantWhole(t, before, region, list)
	}

	server.Inject(crsapitest.Fault{Region: guangzhou, Skip: test.skip, Count: test.count, Rate: test.rate, Do: test.do})
	scrapes := 1
	if test.rate > 0 {
		scrapes = 4
	}
	var samples map[string]string
	for range scrapes {
		samples = exporter.scrape()
		wantWhole(t, samples, shanghai, tasks[shanghai])
		wantReason(t, samples, before, shanghai, "")
		wantCounters(t, samples, before)
		switch {
		case test.reason == "" || test.rate > 0 && up(samples, guangzhou):
			wantWhole(t, samples, guangzhou, tasks[guangzhou])
		case test.rate > 0:
			if list := listed(guangzhou, samples); len(list) != 0 {
				t.Errorf("down, with %d series of a list", len(list))
			}
		}
	}
	switch {
	case test.reason == "":
		wantReason(t, samples, before, guangzhou, "")
	case test.rate == 0:
		wantDown(t, samples, before, guangzhou, test.reason)
	}

	server.ClearFaults()
	exporter.scrape() // may join a poll that began before
	wantIdle(t, server.Simulator)
	samples = exporter.scrape()
	healed := exporter.scrape()
	for region, list := range tasks {
		wantWhole(t, healed, region, list)
		wantReason(t, healed, samples, region, "")
	}
	wantCounters(t, healed, before)
	wantIdle(t, server.Simulator)
	if err := exporter.wait(); err != nil {
		t.Errorf("the exporter returns %v", err)
	}
	if t.Failed() {
		t.Logf("log:\n%s", exporter.log)
	}
}

// closedPort is below the ports that the system gives to listeners, so that no
// other test gets it.
const closedPort = "127.0.0.1:1"

// TestNetworkFaults is about faults of the endpoint, which both regions share.
func TestNetworkFaults(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		secure := crsapitest.NewTLSServer()
		t.Cleanup(secure.Close)
		plain, args := simulateAPI(t, api, twoRegions(api))
		args = append(args[1:], "--crs.page-size=20", "--crs.request-timeout=1s") // without the endpoint
		tests := map[string]func(*testing.T){}
		for name, url := range map[string]string{
			// A label of 64 letters is not allowed: the resolver refuses it
			// without a DNS request.
			"no such host":          "http://" + strings.Repeat("x", 64) + ".invalid",
			"refused":               "http://" + closedPort,
			"TLS to a plain port":   strings.TrimSuffix(strings.Replace(plain.URL3, "http:", "https:", 1), "/"),
			"untrusted certificate": strings.TrimSuffix(secure.URL3, "/"),
		} {
			tests[name] = func(t *testing.T) {
				samples := start(t, slices.Concat(args, endpoints(url+crsapitest.Path, url+"/", api))...).scrape()
				for region := range twoRegions(api) {
					wantDown(t, samples, nil, region, crsapi.ReasonNetwork)
				}
			}
		}
		atOnce(t, tests)
		if n := plain.Requests("") + secure.Requests(""); n != 0 {
			t.Errorf("%d requests reached a server", n)
		}
	})
}

// TestOutage stops the API and starts it again at the same address.
func TestOutage(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		tasks := twoRegions(api)
		server, args := simulateAPI(t, api, tasks)
		exporter := start(t, append(args, "--crs.request-timeout=1s")...)
		before := exporter.scrape()

		server.Close()
		gone := exporter.scrape()
		for region := range tasks {
			wantDown(t, gone, before, region, crsapi.ReasonNetwork)
		}
		wantCounters(t, gone, before)

		again := server.Serve(listenAt(t, server.URL))
		defer again.Close()
		back := exporter.scrape()
		for region, list := range tasks {
			wantWhole(t, back, region, list)
			wantReason(t, back, gone, region, "")
		}
		wantIdle(t, server.Simulator)
	})
}

// listenAt listens at the address of a closed server.
func listenAt(t *testing.T, url string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", loopback.FindString(url))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func TestClockAnHourOff(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		for name, test := range map[string]struct {
			skew time.Duration
			code int
		}{
			"behind": {time.Hour, 4200},
			"ahead":  {-time.Hour, 4500},
		} {
			t.Run(name, func(t *testing.T) {
				tasks := twoRegions(api)
				server, args := simulateAPI(t, api, tasks)
				exporter := start(t, args...)
				before := exporter.scrape()

				server.SetClockSkew(test.skew)
				samples := exporter.scrape()
				for region := range tasks {
					wantDown(t, samples, before, region, crsapi.ReasonAuth)
					series := fmt.Sprintf("crs_api_clock_skew_seconds{region=%q}", region)
					seconds, err := strconv.ParseFloat(samples[series], 64)
					if off := seconds - test.skew.Seconds(); err != nil || off < -2 || off > 2 {
						t.Errorf("%s is %q, want about %v", series, samples[series], test.skew.Seconds())
					}
					answers := server.Answers(region, test.code)
					if api != crsapi.API20 {
						answers = server.NamedAnswers(region, "AuthFailure.SignatureExpire")
					}
					if answers == 0 {
						t.Error("no response says that the request expired")
					}
				}
				wantCounters(t, samples, before)

				server.SetClockSkew(0)
				healed := exporter.scrape()
				for region, list := range tasks {
					wantWhole(t, healed, region, list)
					want(t, healed, map[string]string{fmt.Sprintf("crs_api_clock_skew_seconds{region=%q}", region): "0"})
				}
			})
		}
	})
}

// totalOf returns an effect that sets totalCount to n.
func totalOf(n int) crsapitest.Effect {
	return crsapitest.Total(func(int) int { return n })
}

// totalPlus returns an effect that adds n to totalCount.
func totalPlus(n int) crsapitest.Effect {
	return crsapitest.Total(func(total int) int { return total + n })
}
