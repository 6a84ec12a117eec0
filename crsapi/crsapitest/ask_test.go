package crsapitest_test

import (
	"bytes"
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

const region = "ap-guangzhou"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asker is a client for these tests. It shares no code with the simulator.
type asker struct {
	client *http.Client
	url    string
	method string
	sha1   bool
	id     string
	key    string
	token  string
	region string
	nonce  atomic.Int64
}

func newAsker(srv *crsapitest.Server) *asker {
	return &asker{
		client: srv.Client(),
		url:    srv.URL,
		method: http.MethodGet,
		id:     crsapitest.SecretID,
		key:    crsapitest.SecretKey,
		region: region,
	}
}

// params returns the parameters of a valid request. Pairs of name and value
// change it; the value "-" removes a parameter.
func (a *asker) params(pairs ...string) map[string]string {
	p := map[string]string{
		"Action":    "GetRedisTaskList",
		"Region":    a.region,
		"Timestamp": strconv.FormatInt(time.Now().Unix(), 10),
		"Nonce":     strconv.FormatInt(a.nonce.Add(1), 10),
		"SecretId":  a.id,
		"limit":     "100",
		"offset":    "0",
	}
	if !a.sha1 {
		p["SignatureMethod"] = "HmacSHA256"
	}
	if a.token != "" {
		p["Token"] = a.token
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "-" {
			delete(p, pairs[i])
		} else {
			p[pairs[i]] = pairs[i+1]
		}
	}
	return p
}

// signature signs p for the host of a.url, as documented.
func (a *asker) signature(p map[string]string) string {
	u, err := url.Parse(a.url)
	if err != nil {
		panic(err)
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		pairs = append(pairs, name+"="+p[name])
	}
	return a.sign(a.method+u.Hostname()+u.Path+"?"+strings.Join(pairs, "&"), p["SignatureMethod"])
}

func (a *asker) sign(text, method string) string {
	hash := sha256.New
	if method != "HmacSHA256" {
		hash = sha1.New
	}
	mac := hmac.New(hash, []byte(a.key))
	_, _ = io.WriteString(mac, text)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func encode(p map[string]string) string {
	v := url.Values{}
	for name, value := range p {
		v.Set(name, value)
	}
	return v.Encode()
}

// request returns a signed request.
func (a *asker) request(t testing.TB, pairs ...string) *http.Request {
	t.Helper()
	p := a.params(pairs...)
	p["Signature"] = a.signature(p)
	return a.raw(t, encode(p))
}

func (a *asker) raw(t testing.TB, encoded string) *http.Request {
	t.Helper()
	if a.method == http.MethodPost {
		r, err := http.NewRequestWithContext(t.Context(), a.method, a.url, strings.NewReader(encoded))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
	r, err := http.NewRequestWithContext(t.Context(), a.method, a.url+"?"+encoded, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// response is a response with the part of its body that arrived.
type response struct {
	*http.Response
	body []byte
	err  error // from Do, or from reading the body
}

func (a *asker) do(r *http.Request) response {
	res, err := a.client.Do(r)
	if err != nil {
		return response{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return response{res, body, err}
}

func (a *asker) ask(t testing.TB, pairs ...string) response {
	t.Helper()
	return a.do(a.request(t, pairs...))
}

// parsedPage is a response in the documented format.
type parsedPage struct {
	Code       int    `json:"code"`
	Message    string `json:"message"`
	CodeDesc   string `json:"codeDesc"`
	TotalCount int    `json:"totalCount"`
	Data       struct {
		Set []parsedRow `json:"redisTaskSet"`
	} `json:"data"`
}

type parsedRow struct {
	StartTime string `json:"startTime"`
	TaskName  string `json:"taskName"`
	RedisName string `json:"redisName"`
	RedisID   string `json:"redisId"`
	ProjectID int    `json:"projectId"`
	Status    int    `json:"status"`
	Progress  int    `json:"progress"`
}

func (r response) documented(t testing.TB) parsedPage {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.StatusCode != http.StatusOK {
		t.Fatalf("status %d, body %.200q", r.StatusCode, r.body)
	}
	var d parsedPage
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		t.Fatalf("%v in %.200q", err, r.body)
	}
	return d
}

// list requests a page and returns it as "total: id id".
func (a *asker) list(t testing.TB, pairs ...string) string {
	t.Helper()
	d := a.ask(t, pairs...).documented(t)
	if d.Code != 0 {
		t.Fatalf("code %d: %s", d.Code, d.Message)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", d.TotalCount)
	for _, r := range d.Data.Set {
		b.WriteString(" " + r.RedisID)
	}
	return b.String()
}

func (a *asker) code(t testing.TB, pairs ...string) int {
	t.Helper()
	return a.ask(t, pairs...).documented(t).Code
}

func newServer(t testing.TB) (*crsapitest.Server, *asker) {
	t.Helper()
	srv := crsapitest.NewServer()
	t.Cleanup(srv.Close)
	srv.SetTasks(region, nil)
	return srv, newAsker(srv)
}

// tasks returns tasks with the given ids, a minute apart, newest first.
func tasks(ids ...string) []crsapi.Task {
	var list []crsapi.Task
	at := time.Date(2024, time.March, 1, 12, 0, 0, 0, time.UTC)
	for i, id := range ids {
		list = append(list, crsapi.Task{
			RedisID: id, RedisName: "n", ProjectID: "0", TaskName: "backupInstance",
			StartTime: at.Add(-time.Duration(i) * time.Minute), Status: crsapi.StatusSucceeded, Progress: 1,
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

func newMemoryServer(t *testing.T) (*crsapitest.Server, *asker) {
	t.Helper()
	srv := crsapitest.NewMemoryServer()
	t.Cleanup(srv.Close)
	srv.SetTasks(region, nil)
	return srv, newAsker(srv)
}

// newDirectAsker returns an asker that calls sim without a server.
func newDirectAsker(sim *crsapitest.Simulator) *asker {
	return &asker{
		client: &http.Client{Transport: direct{sim}},
		url:    "http://redis.api.qcloud.com" + crsapitest.Path,
		method: http.MethodGet,
		id:     crsapitest.SecretID,
		key:    crsapitest.SecretKey,
		region: region,
	}
}

// direct is a transport that calls a handler without a connection.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// codes sends n requests and returns the codes of the responses.
func codes(t testing.TB, a *asker, n int) []int {
	t.Helper()
	var got []int
	for range n {
		got = append(got, a.code(t))
	}
	return got
}
