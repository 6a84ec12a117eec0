package crsapitest_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// asker3 is a client of API 3.0 for these tests. It shares no code with the
// simulator.
type asker3 struct {
	*asker
	action string
	signed string // SignedHeaders
	scope  string // date, service and end; empty for the right one
}

func newAsker3(srv *crsapitest.Server) *asker3 {
	a := &asker3{asker: newAsker(srv), action: "DescribeTaskList", signed: "content-type;host"}
	a.url, a.method = srv.URL3, http.MethodPost
	return a
}

func newServer3(t testing.TB) (*crsapitest.Server, *asker3) {
	t.Helper()
	srv, _ := newServer(t)
	return srv, newAsker3(srv)
}

// request3 returns a signed request. Pairs of name and value change its headers
// before it is signed; the value "-" removes a header.
func (a *asker3) request3(t testing.TB, body string, pairs ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), a.method, a.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-TC-Action", a.action)
	r.Header.Set("X-TC-Version", "2018-04-12")
	r.Header.Set("X-TC-Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	r.Header.Set("X-TC-Region", a.region)
	if a.token != "" {
		r.Header.Set("X-TC-Token", a.token)
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "-" {
			r.Header.Del(pairs[i])
		} else {
			r.Header.Set(pairs[i], pairs[i+1])
		}
	}
	r.Header.Set("Authorization", a.authorization(r, body))
	return r
}

func (a *asker3) authorization(r *http.Request, body string) string {
	canonical := r.Method + "\n/\n" + r.URL.RawQuery + "\n"
	for name := range strings.SplitSeq(a.signed, ";") {
		value := r.Header.Get(name)
		if strings.EqualFold(name, "host") {
			value = r.Host
		}
		canonical += name + ":" + strings.ToLower(strings.TrimSpace(value)) + "\n"
	}
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	mac := func(key, s string) string {
		h := hmac.New(sha256.New, []byte(key))
		_, _ = io.WriteString(h, s)
		return string(h.Sum(nil))
	}
	canonical += "\n" + a.signed + "\n" + sum(body)
	timestamp := r.Header.Get("X-TC-Timestamp")
	scope := a.scope
	if scope == "" {
		seconds, _ := strconv.ParseInt(timestamp, 10, 64)
		scope = time.Unix(seconds, 0).UTC().Format("2006-01-02") + "/redis/tc3_request"
	}
	key := "TC3" + a.key
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	signature := hex.EncodeToString([]byte(mac(key, "TC3-HMAC-SHA256\n"+timestamp+"\n"+scope+"\n"+sum(canonical))))
	return "TC3-HMAC-SHA256 Credential=" + a.id + "/" + scope + ", SignedHeaders=" + a.signed + ", Signature=" + signature
}

func (a *asker3) ask3(t testing.TB, body string, pairs ...string) response {
	t.Helper()
	return a.do(a.request3(t, body, pairs...))
}

// parsedPage3 is a response of an action of API 3.0.
type parsedPage3 struct {
	Error      *struct{ Code, Message string }
	TotalCount *int
	RequestId  string

	Tasks, RedisTaskSets []parsedRow3

	Status, StartTime, TaskType, InstanceId, TaskMessage *string
}

type parsedRow3 struct {
	TaskId, TaskID                               *int64
	StartTime, TaskType                          string
	EndTime                                      *string
	InstanceName, InstanceId, RedisName, RedisId *string
	ProjectId                                    *int
	Progress                                     float64
	Result, Status                               *int
}

func (r response) documented3(t testing.TB) parsedPage3 {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.StatusCode != http.StatusOK {
		t.Fatalf("status %d, body %.200q", r.StatusCode, r.body)
	}
	if kind := r.Header.Get("Content-Type"); kind != "application/json; charset=utf-8" {
		t.Fatalf("Content-Type %q", kind)
	}
	var page struct{ Response *parsedPage3 }
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&page); err != nil || page.Response == nil || page.Response.RequestId == "" {
		t.Fatalf("error %v in %.200q", err, r.body)
	}
	if page.Response.Error != nil && page.Response.Error.Message == "" {
		t.Fatalf("no message in %.200q", r.body)
	}
	return *page.Response
}

// code3 returns the code of the response, "" for success.
func (a *asker3) code3(t testing.TB, body string, pairs ...string) string {
	t.Helper()
	return a.ask3(t, body, pairs...).documented3(t).code()
}

func (p parsedPage3) code() string {
	if p.Error != nil {
		return p.Error.Code
	}
	return ""
}

// list3 requests a page and returns it as "total: id id".
func (a *asker3) list3(t testing.TB, body string) string {
	t.Helper()
	page := a.ask3(t, body).documented3(t)
	if page.Error != nil {
		t.Fatalf("%+v", *page.Error)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", *page.TotalCount)
	for _, row := range slices.Concat(page.Tasks, page.RedisTaskSets) {
		id := row.InstanceId
		if id == nil {
			id = row.RedisId
		}
		b.WriteString(" " + *id)
	}
	return b.String()
}
