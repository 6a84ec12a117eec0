package crsapitest_test

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
	"go.uber.org/goleak"
)

const region = "ap-guangzhou"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// actions are the actions that list tasks, by API.
var actions = map[string]string{"2.0": "GetRedisTaskList", "3.0": "DescribeTaskList", "tce": "GetRedisTaskList"}

// eachAPI runs a test with a new simulator for each API.
func eachAPI(t *testing.T, test func(t *testing.T, srv *crsapitest.Server, c *client)) {
	for _, api := range slices.Sorted(maps.Keys(actions)) {
		t.Run("API "+api, func(t *testing.T) {
			srv, c := simulate(t, api)
			test(t, srv, c)
		})
	}
}

var nonce atomic.Int64

// client is a client of one API. It shares no code with the simulator. The signatures of
// package tc3 are known to be right.
type client struct {
	transport      http.RoundTripper
	api, action    string
	url, method    string
	id, key, token string
	region         string
	timestamp      string // empty for now
}

// simulate returns a simulator with an empty region, and a client.
func simulate(t testing.TB, api string) (*crsapitest.Server, *client) {
	srv := crsapitest.NewMemoryServer()
	t.Cleanup(srv.Close)
	srv.SetTasks(region, nil)
	return srv, connect(srv, api)
}

// connect returns a client of a server.
func connect(srv *crsapitest.Server, api string) *client {
	c := &client{
		transport: srv.Client().Transport, api: api, action: actions[api], url: srv.URL3, method: http.MethodPost,
		id: crsapitest.SecretID, key: crsapitest.SecretKey, region: region,
	}
	if api == "2.0" {
		c.url, c.method = srv.URL, http.MethodGet
	}
	return c
}

// now is the time of a request.
func (c *client) now() string { return cmp.Or(c.timestamp, strconv.FormatInt(time.Now().Unix(), 10)) }

// params returns the parameters of a valid request of API 2.0. Pairs of name and
// value change it; the value "-" removes a parameter.
func (c *client) params(pairs ...string) url.Values {
	p := url.Values{
		"Action":          {c.action},
		"Region":          {c.region},
		"Timestamp":       {c.now()},
		"Nonce":           {strconv.FormatInt(nonce.Add(1), 10)},
		"SecretId":        {c.id},
		"SignatureMethod": {"HmacSHA256"},
		"limit":           {"100"},
		"offset":          {"0"},
	}
	if c.token != "" {
		p.Set("Token", c.token)
	}
	for pair := range slices.Chunk(pairs, 2) {
		p.Set(pair[0], pair[1])
	}
	maps.DeleteFunc(p, func(_ string, values []string) bool { return values[0] == "-" })
	return p
}

// signature signs p for c.url, as documented.
func (c *client) signature(p url.Values) string {
	u := httptest.NewRequest(c.method, c.url, nil).URL
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		pairs = append(pairs, name+"="+p.Get(name))
	}
	method := sha1.New
	if p.Get("SignatureMethod") == "HmacSHA256" {
		method = sha256.New
	}
	mac := hmac.New(method, []byte(c.key))
	_, _ = io.WriteString(mac, c.method+u.Hostname()+u.Path+"?"+strings.Join(pairs, "&"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// request2 returns a signed request of API 2.0.
func (c *client) request2(pairs ...string) *http.Request {
	p := c.params(pairs...)
	p.Set("Signature", c.signature(p))
	return c.raw(p.Encode())
}

func (c *client) raw(encoded string) *http.Request {
	if c.method == http.MethodPost {
		r := httptest.NewRequest(c.method, c.url, strings.NewReader(encoded))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
	return httptest.NewRequest(c.method, c.url+"?"+encoded, nil)
}

// request3 returns a signed request of API 3.0. Pairs of name and value change its
// headers before it is signed; the value "-" removes a header.
func (c *client) request3(body string, pairs ...string) *http.Request {
	r := httptest.NewRequest(c.method, c.url, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-TC-Action", c.action)
	r.Header.Set("X-TC-Version", "2018-04-12")
	r.Header.Set("X-TC-Timestamp", c.now())
	r.Header.Set("X-TC-Region", c.region)
	if c.token != "" {
		r.Header.Set("X-TC-Token", c.token)
	}
	for pair := range slices.Chunk(pairs, 2) {
		r.Header.Set(pair[0], pair[1])
		if pair[1] == "-" {
			r.Header.Del(pair[0])
		}
	}
	seconds, _ := strconv.ParseInt(r.Header.Get("X-TC-Timestamp"), 10, 64)
	authorization, _ := tc3.Sign(tc3.Request{
		Service: "redis", Host: r.Host, ContentType: strings.ToLower(r.Header.Get("Content-Type")),
		Action: r.Header.Get("X-TC-Action"), Payload: []byte(body), Time: time.Unix(seconds, 0),
	}, c.id, c.key)
	r.Header.Set("Authorization", authorization)
	return r
}

// query is parameters of API 2.0, which a client of each API translates.
type query map[string]any

// stamp is a time as a parameter.
func stamp(at time.Time) string { return at.UTC().Add(8 * time.Hour).Format(time.DateTime) }

// request returns the request for a query.
func (c *client) request(q query) *http.Request {
	fields := query{"offset": 0, "limit": 100}
	maps.Copy(fields, q)
	var pairs []string
	body := map[string]any{}
	for name, value := range fields {
		pairs = append(pairs, name, fmt.Sprint(value))
		switch {
		case name == "taskType.0":
			body["TaskTypes"] = []string{map[any]string{"task_backupInstance": "012", "task_cleanInstance": "004"}[value]}
		case name == "taskStatus.0" && c.api == "3.0":
			body["Result"] = []int{map[any]int{0: 0, 1: 1, 2: 2, 3: 4}[value]}
		default:
			name = strings.ToUpper(name[:1]) + strings.TrimSuffix(name[1:], ".0")
			if c.api == "3.0" {
				name = strings.Replace(name, "Redis", "Instance", 1)
			}
			body[name] = value
		}
	}
	if c.api == "2.0" {
		return c.request2(pairs...)
	}
	text, _ := json.Marshal(body)
	return c.request3(string(text))
}

// response is a response with the part of its body that arrived.
type response struct {
	*http.Response
	body string
	err  error
}

func (c *client) do(r *http.Request) response {
	r.RequestURI = ""
	res, err := c.transport.RoundTrip(r)
	if err != nil {
		return response{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return response{res, string(body), err}
}

// result is a response of any API.
type result struct {
	code          string // of an error
	message, desc string
	list          string // "total: id id"
}

// fields returns the values of all fields of these names in the body, as JSON.
func (r response) fields(names string) (values []string) {
	for _, found := range regexp.MustCompile(`"(?:`+names+`)":("[^"]*"|-?\d+)`).FindAllStringSubmatch(r.body, -1) {
		values = append(values, found[1])
	}
	return values
}

// field returns the first of them, or "".
func (r response) field(names string) string { return append(r.fields(names), "")[0] }

func (r response) result(t testing.TB) result {
	t.Helper()
	if r.err != nil || r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/json; charset=utf-8" || !json.Valid([]byte(r.body)) {
		t.Fatalf("%v, error %v, body %.200q", r.Response, r.err, r.body)
	}
	text := func(names string) string { return strings.Trim(r.field(names), `"`) }
	a := result{code: text("code|Code"), message: text("message|Message"), desc: text("codeDesc"), list: r.field("totalCount|TotalCount") + ":"}
	if strings.HasPrefix(r.body, `{"Response":`) && (text("RequestId") == "" || a.code != "" && a.message == "") {
		t.Fatalf("no RequestId or no message in %.200q", r.body)
	}
	if a.code == "0" {
		a.code = ""
	}
	for _, id := range r.fields("redisId|RedisId|InstanceId") {
		a.list += " " + strings.Trim(id, `"`)
	}
	return a
}

// send sends a query.
func (c *client) send(t testing.TB, q query) result {
	t.Helper()
	return c.do(c.request(q)).result(t)
}

// newest is the time of the first task of a list.
var newest = time.Date(2024, time.March, 1, 12, 0, 0, 0, time.UTC)

// tasks returns tasks with the given ids, a minute apart, newest first.
func tasks(ids ...string) []crsapi.Task {
	var list []crsapi.Task
	for i, id := range ids {
		list = append(list, crsapi.Task{
			RedisID: id, RedisName: "n", ProjectID: "0", TaskName: "backupInstance",
			StartTime: newest.Add(-time.Duration(i) * time.Minute), Status: crsapi.StatusSucceeded, Progress: 1,
		})
	}
	return list
}

// numbered returns n tasks with the ids 0, 1, 2 and so on.
func numbered(n int) []crsapi.Task {
	var ids []string
	for i := range n {
		ids = append(ids, strconv.Itoa(i))
	}
	return tasks(ids...)
}
