package crsapitest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestServers3(t *testing.T) {
	for name, start := range map[string]func() *crsapitest.Server{
		"TCP":    crsapitest.NewServer,
		"TLS":    crsapitest.NewTLSServer,
		"memory": crsapitest.NewMemoryServer,
	} {
		t.Run(name, func(t *testing.T) {
			srv := start()
			defer srv.Close()
			srv.SetTasks(region, tasks("a"))
			base := strings.TrimSuffix(srv.URL, crsapitest.Path)
			if name == "memory" {
				base = "http://redis.tencentcloudapi.com"
			}
			if srv.URL3 != base+"/" {
				t.Errorf("URL3 %s", srv.URL3)
			}
			if got := newAsker3(srv).list3(t, "{}"); got != "1: a" {
				t.Error(got)
			}
			if got := newAsker(srv).list(t); got != "1: a" {
				t.Error(got)
			}
		})
	}
}

func TestFaultsOfOneAPI(t *testing.T) {
	srv, a2 := newServer(t)
	a3, info, tce := newAsker3(srv), newAsker3(srv), newAsker3(srv)
	info.action, tce.action = "DescribeTaskInfo", "GetRedisTaskList"
	task := tasks("a")
	task[0].TaskID = 7
	srv.SetTasks(region, task)
	ask := func() [4]bool {
		return [4]bool{
			a2.ask(t).StatusCode == 200, a3.ask3(t, "{}").StatusCode == 200,
			info.ask3(t, `{"TaskId":7}`).StatusCode == 200, tce.ask3(t, "{}").StatusCode == 200,
		}
	}
	for _, test := range []struct {
		fault crsapitest.Fault
		want  [4]bool
	}{
		{crsapitest.Fault{}, [4]bool{}},
		{crsapitest.Fault{API: "2.0"}, [4]bool{false, true, true, true}},
		{crsapitest.Fault{API: "3.0"}, [4]bool{true, false, false, true}},
		{crsapitest.Fault{API: "tce"}, [4]bool{true, true, true, false}},
		{crsapitest.Fault{Action: "DescribeTaskInfo"}, [4]bool{true, true, false, true}},
		{crsapitest.Fault{Action: "GetRedisTaskList"}, [4]bool{false, true, true, false}},
		{crsapitest.Fault{Action: "GetRedisTaskList", API: "tce"}, [4]bool{true, true, true, false}},
		{crsapitest.Fault{API: "3.0", Region: "ap-other"}, [4]bool{true, true, true, true}},
		{crsapitest.Fault{API: "3.0", Skip: 1}, [4]bool{true, true, false, true}},
		{crsapitest.Fault{API: "3.0", Count: 1}, [4]bool{true, false, true, true}},
	} {
		remove := srv.Inject(crsapitest.Fault{
			API: test.fault.API, Action: test.fault.Action, Region: test.fault.Region, Skip: test.fault.Skip, Count: test.fault.Count,
			Do: crsapitest.HTTPStatus(502),
		})
		if got := ask(); got != test.want {
			t.Errorf("%+v: %v, want %v", test.fault, got, test.want)
		}
		remove()
	}
}

func TestRetired(t *testing.T) {
	const offline = "ActionOffline"
	for _, test := range []struct {
		do   crsapitest.Effect
		want string
	}{
		{crsapitest.RetiredForbidden, `{"code":4300,"message":"请求被拒绝，该接口只允许特定账户调用。","codeDesc":"RequestForbidden"}`},
		{crsapitest.RetiredVersion, `{"code":6100,"message":"本版本内不支持的接口或者接口已经被废弃","codeDesc":""}`},
		{crsapitest.RetiredEnvelope, `{"Response":{"Error":{"Code":"ActionOffline","Message":"The API has been taken offline."},"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"}}`},
	} {
		srv, a2 := newServer(t)
		srv.SetTasks("ap-other", nil)
		a3 := newAsker3(srv)
		remove := srv.Inject(crsapitest.Fault{API: "2.0", Region: region, Do: test.do})
		if body := string(a2.ask(t).body); body != test.want {
			t.Errorf("%s, want %s", body, test.want)
		}
		if got := a3.code3(t, "{}"); got != "" {
			t.Errorf("API 3.0: %s", got)
		}
		a2.region = "ap-other"
		if code := a2.code(t); code != 0 {
			t.Errorf("another region: %d", code)
		}
		// A request that is not valid does not learn that the API is retired.
		a2.region, a2.key = region, "wrong"
		if code := a2.code(t); code != 4100 {
			t.Errorf("invalid request: %d", code)
		}
		remove()
		srv.Inject(crsapitest.Fault{API: "3.0", Do: test.do})
		a2.key = crsapitest.SecretKey
		if got, code := a3.code3(t, "{}"), a2.code(t); got != offline || code != 0 {
			t.Errorf("API 3.0 retired: %q, API 2.0 %d", got, code)
		}
		want := 1
		if test.do == crsapitest.RetiredEnvelope {
			want = 2 // API 2.0 sent one too
		}
		if n := srv.NamedAnswers(region, offline); n != want {
			t.Errorf("%d counted, want %d", n, want)
		}
	}
}

// APIError must have a meaning in API 3.0, so that the same fault tests both.
func TestAPIErrors3(t *testing.T) {
	srv, a := newServer3(t)
	for code, want := range map[int]string{
		4000: "InvalidParameter", 4100: "AuthFailure.SignatureFailure", 4101: "AuthFailure.UnauthorizedOperation",
		4102: "AuthFailure.UnauthorizedOperation", 4103: "AuthFailure.UnauthorizedOperation", 4110: "AuthFailure.UnauthorizedOperation",
		4104: "AuthFailure.SecretIdNotFound", 4105: "AuthFailure.TokenFailure", 4106: "AuthFailure.MFAFailure",
		4200: "AuthFailure.SignatureExpire", 4500: "AuthFailure.SignatureExpire", 4300: "UnauthorizedOperation",
		4400: "RequestLimitExceeded", 4420: "RequestLimitExceeded", 4480: "RequestLimitExceeded", 4600: "UnsupportedProtocol",
		5000: "ResourceNotFound", 5100: "FailedOperation", 6000: "InternalError", 6100: "NoSuchVersion", 6200: "ServiceUnavailable",
		9999: "Code9999",
	} {
		remove := srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(code)})
		if got := a.code3(t, "{}"); got != want {
			t.Errorf("%d: %s, want %s", code, got, want)
		}
		if n := srv.Answers(region, code); n != 1 {
			t.Errorf("%d: %d counted", code, n)
		}
		remove()
	}
	srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(6000, "Desc", "other text")})
	if page := a.ask3(t, "{}").documented3(t); page.code() != "InternalError" || page.Error.Message != "other text" {
		t.Errorf("%+v", page.Error)
	}
	for _, code := range []string{"AuthFailure.UnauthorizedOperation", "InvalidParameter.PermissionDenied", "UnauthorizedOperation.NoCAMAuthed"} {
		srv.Inject(crsapitest.Fault{API: "3.0", Do: crsapitest.Envelope(code, "no permission")})
		if got := a.code3(t, "{}"); got != code {
			t.Error(got)
		}
	}
}

// The effects that replace or delay a response apply to each API.
func TestEffects3(t *testing.T) {
	srv, a := newServer3(t)
	srv.SetTasks(region, numbered(10))
	a.client = &http.Client{
		Transport:     srv.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	whole := a.ask3(t, "{}").body
	inject := func(effects ...crsapitest.Effect) {
		srv.ClearFaults()
		srv.Inject(crsapitest.Fault{API: "3.0", Do: crsapitest.All(effects...)})
		srv.Client().CloseIdleConnections()
	}
	for name, effect := range map[string]crsapitest.Effect{
		"short":                crsapitest.ShortBody,
		"reset before headers": crsapitest.ResetBeforeHeaders,
		"reset after headers":  crsapitest.ResetAfterHeaders,
		"reset mid-body":       crsapitest.ResetMidBody,
	} {
		inject(effect)
		if res := a.ask3(t, "{}"); res.err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	inject(crsapitest.TruncatedJSON)
	if res := a.ask3(t, "{}"); res.err != nil || !bytes.Equal(res.body, whole[:len(whole)/2]) {
		t.Errorf("truncated: %v", res.err)
	}
	for name, effect := range map[string]crsapitest.Effect{
		"slow body":    crsapitest.SlowBody(100, time.Millisecond),
		"slow headers": crsapitest.SlowHeaders(time.Microsecond),
		"latency":      crsapitest.Latency(time.Millisecond),
	} {
		inject(effect)
		if res := a.ask3(t, "{}"); res.err != nil || !bytes.Equal(res.body, whole) {
			t.Errorf("%s: %v", name, res.err)
		}
	}
	for name, effect := range map[string]crsapitest.Effect{"502": crsapitest.HTTPStatus(502), "307": crsapitest.Redirect("https://elsewhere.example/")} {
		inject(effect)
		if res := a.ask3(t, "{}"); fmt.Sprint(res.StatusCode) != name {
			t.Errorf("%s: %v", name, res.Response)
		}
	}
	inject(crsapitest.Body("body"), crsapitest.Header("X-Test", "1"), crsapitest.Header("Date", ""))
	if res := a.ask3(t, "{}"); string(res.body) != "body" || res.Header.Get("X-Test") != "1" || res.Header.Get("Date") != "" {
		t.Errorf("%s %v", res.body, res.Header)
	}
	inject(crsapitest.DateSkew(time.Hour))
	if date, err := http.ParseTime(a.ask3(t, "{}").Header.Get("Date")); err != nil || time.Until(date) < 59*time.Minute {
		t.Errorf("Date %v, error %v", date, err)
	}
	for _, test := range []struct {
		effect     crsapitest.Effect
		body, want string
	}{
		{crsapitest.PageCap(3), `{"Limit":4,"Offset":4}`, "10: 4 5 6"},
		{crsapitest.All(crsapitest.PageCap(3), crsapitest.RoundOffsets), `{"Limit":4,"Offset":4}`, "10: 3 4 5"},
		{crsapitest.IgnoreOffset, `{"Limit":2,"Offset":4}`, "10: 0 1"},
		{crsapitest.Total(func(n int) int { return n * 2 }), `{"Limit":1}`, "20: 0"},
	} {
		inject(test.effect)
		if got := a.list3(t, test.body); got != test.want {
			t.Errorf("%s: %s, want %s", test.body, got, test.want)
		}
	}
	for _, action := range []string{"DescribeTaskList", "DescribeTaskInfo"} {
		body := map[string]string{"DescribeTaskList": "{}", "DescribeTaskInfo": `{"TaskId":1}`}[action]
		a.action = action
		inject(crsapitest.GzipBomb(1 << 20))
		if res := a.ask3(t, body); res.err != nil || len(res.body) < 1<<20 || !json.Valid(res.body) || !bytes.HasPrefix(res.body, []byte(`{"Response":{`)) {
			t.Errorf("gzip bomb: %d bytes, %v", len(res.body), res.err)
		}
		inject(crsapitest.EndlessBody)
		res, err := a.client.Do(a.request3(t, body))
		if err != nil {
			t.Fatal(err)
		}
		start := make([]byte, 300)
		if _, err := io.ReadFull(res.Body, start); err != nil || !bytes.HasPrefix(start, []byte(`{"Response":{"TotalCount":1,"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03","Tasks":[{"TaskId":`)) {
			t.Errorf("endless: %s, %v", start, err)
		}
		res.Body.Close()
	}
}

func TestHang3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newMemoryServer(t)
		a := newAsker3(srv)
		srv.Inject(crsapitest.Fault{API: "3.0", Do: crsapitest.Hang})
		a.client.Timeout = time.Hour
		if res := a.ask3(t, "{}"); res.err == nil {
			t.Error("no error")
		}
	})
}

func TestHook3(t *testing.T) {
	srv, a := newServer3(t)
	task := tasks("a")
	task[0].TaskID = 7
	srv.SetTasks(region, task)
	var seen []string
	srv.OnRequest(func(r crsapitest.Request) {
		seen = append(seen, fmt.Sprintf("%s %s %s %s %d+%d #%d %s %s %s", r.API, r.Action, r.Region, r.Method, r.Offset, r.Limit, r.Seq,
			r.Param("InstanceName"), r.Param("TaskTypes"), r.Param("TaskId")))
		if r.Seq == 2 {
			srv.Add(r.Region, tasks("new")...)
		}
	})
	a.list3(t, `{"Offset":3,"Limit":150,"InstanceName":"n \"","TaskTypes":["012"]}`)
	if got := a.list3(t, `{}`); got != "2: new a" {
		t.Error(got)
	}
	a.action = "DescribeTaskInfo"
	a.code3(t, `{"TaskId":7}`)
	a.action = "GetRedisTaskList"
	a.code3(t, `{}`)
	newAsker(srv).ask(t)
	want := []string{
		`3.0 DescribeTaskList ap-guangzhou POST 3+150 #1 n " ["012"] `,
		`3.0 DescribeTaskList ap-guangzhou POST 0+20 #2   `,
		`3.0 DescribeTaskInfo ap-guangzhou POST 0+0 #3   7`,
		`tce GetRedisTaskList ap-guangzhou POST 0+20 #4   `,
		`2.0 GetRedisTaskList ap-guangzhou GET 0+100 #5   `,
	}
	if !slices.Equal(seen, want) {
		t.Errorf("hook got %q, want %q", seen, want)
	}
	if all, here := srv.Requests(""), srv.Requests(region); all != 5 || here != 5 {
		t.Errorf("%d, %d requests", all, here)
	}
	if codes, names := srv.Answers(region, 0), srv.NamedAnswers("", ""); codes != 5 || names != 4 {
		t.Errorf("%d, %d successful", codes, names)
	}
}

func TestEchoSecrets3(t *testing.T) {
	srv, a := newServer3(t)
	srv.SetAccount(crsapitest.Account{SecretID: a.id, SecretKey: a.key, Token: "canary-token"})
	a.token = "canary-token"
	srv.EchoSecrets(true)
	r := a.request3(t, `{"Limit":0}`)
	_, signature, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	res := a.do(r)
	page := res.documented3(t)
	for _, secret := range []string{a.id, "canary-token", signature, "content-type:application/json"} {
		if !strings.Contains(page.Error.Message, secret) || !strings.Contains(res.Header.Get("X-Debug-Request"), secret) {
			t.Errorf("no %s in %s or in the headers %v", secret, page.Error.Message, res.Header)
		}
	}
	if strings.Contains(string(res.body), a.key) {
		t.Error("the SecretKey is in the response")
	}
	srv.Inject(crsapitest.Fault{Do: crsapitest.Redirect("https://elsewhere.example/")})
	a.client = &http.Client{
		Transport:     srv.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if location, err := a.ask3(t, "{}").Location(); err != nil || location.Query().Get("Token") != "canary-token" {
		t.Errorf("Location %v, error %v", location, err)
	}
	srv.ClearFaults()
	if res := a.ask3(t, `{"Limit":0}`); strings.Contains(string(res.body), "canary") {
		t.Errorf("after ClearFaults: %s", res.body)
	}
}

func TestSlowRequest3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := newMemoryServer(t)
		conn, err := srv.Client().Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(response), "HTTP/1.1 400 ") {
			t.Errorf("%.80q, error %v", response, err)
		}
	})
}
