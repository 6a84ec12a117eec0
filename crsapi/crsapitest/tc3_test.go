package crsapitest_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// The simulator must accept requests with known signatures, and no others.
func TestSignatureVectors3(t *testing.T) {
	const (
		id   = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
		key  = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
		host = "content-type;host"
		r3   = `{"InstanceId":"crs-opcazbrb","Limit":100,"Offset":200,"TaskTypes":["012","017"],"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-24 00:00:00","Result":[0,1,2,4]}`
	)
	for _, test := range []struct {
		id, body, contentType, signed string
		timestamp                     int64
		date, signature               string
	}{
		{"R1", `{"Limit":100,"Offset":0}`, "application/json", host, 1551113065, "2019-02-25", "d2ab5e4fe5e870d07b925ad4725caa1db176115756f4bb591b2c1bb8e805731b"},
		{"R2", `{"Limit":100,"Offset":0}`, "application/json", host + ";x-tc-action", 1551113065, "2019-02-25", "3e8ad6d30b32075b9c406cbc81a8bc944c4b5d3d1543de2444d271eabeb7c062"},
		{"R3", r3, "application/json; charset=utf-8", host, 1551113065, "2019-02-25", "45ed1a6e4a6443fe29cb735a7832145b706e8f390db7e04c4daed1a23a2f8885"},
		{"R4", `{}`, "application/json", host, 1551113065, "2019-02-25", "72f2a742147ca44a304009368d9e43c6327f9708c6866095be83e14e5bc7f5b3"},
		{"before midnight", `{}`, "application/json", host, 1551139199, "2019-02-25", "76f7f6c41508ddcc4a1cdae8535af39b5aaf6fe28cb6b2fedd322f54e9d39e68"},
		{"at midnight", `{}`, "application/json", host, 1551139200, "2019-02-26", "b1444dcc38aa100e2000cb13e2a3c283eb76843517c6374bcb3d02b54a7e92d8"},
	} {
		t.Run(test.id, func(t *testing.T) {
			sim := crsapitest.New()
			sim.SetTasks(region, nil)
			sim.SetAccount(crsapitest.Account{SecretID: id, SecretKey: key})
			sim.SetClockSkew(time.Until(time.Unix(test.timestamp, 0)))
			code := func(body, date string) string {
				r, err := http.NewRequest(http.MethodPost, "https://redis.tencentcloudapi.com/", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header = http.Header{
					"Content-Type":   {test.contentType},
					"X-Tc-Action":    {"DescribeTaskList"},
					"X-Tc-Version":   {"2018-04-12"},
					"X-Tc-Timestamp": {strconv.FormatInt(test.timestamp, 10)},
					"X-Tc-Region":    {region},
					"Authorization":  {"TC3-HMAC-SHA256 Credential=" + id + "/" + date + "/redis/tc3_request, SignedHeaders=" + test.signed + ", Signature=" + test.signature},
				}
				return newDirectAsker(sim).do(r).documented3(t).code()
			}
			if got := code(test.body, test.date); got != "" {
				t.Errorf("refused: %s", got)
			}
			if got := code(test.body+" ", test.date); got != "AuthFailure.SignatureFailure" {
				t.Errorf("with another body: %q", got)
			}
			if got := code(test.body, "2019-02-27"); got != "AuthFailure.InvalidAuthorization" {
				t.Errorf("with another date: %q", got)
			}
		})
	}
}

func TestVerification3(t *testing.T) {
	ago := func(d time.Duration) []string {
		return []string{"X-TC-Timestamp", strconv.FormatInt(time.Now().Add(-d).Unix(), 10)}
	}
	today := time.Now().UTC().Format(time.DateOnly)
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	twice := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, r.Header.Get(name)) }
	}
	const (
		malformed = "AuthFailure.InvalidAuthorization"
		signature = "AuthFailure.SignatureFailure"
		expired   = "AuthFailure.SignatureExpire"
		missing   = "MissingParameter"
	)
	for _, test := range []struct {
		name    string
		change  func(*asker3)
		headers []string
		alter   func(*http.Request) // after it is signed
		code    string
	}{
		{name: "valid"},
		{name: "charset", headers: []string{"Content-Type", "application/json; charset=utf-8"}},
		{name: "capitals in Content-Type", headers: []string{"Content-Type", "Application/JSON; charset=UTF-8"}},
		{name: "action signed", change: func(a *asker3) { a.signed = "content-type;host;x-tc-action" }},
		{name: "all headers signed", change: func(a *asker3) {
			a.signed = "content-type;host;x-tc-action;x-tc-language;x-tc-region;x-tc-timestamp;x-tc-version"
		}, headers: []string{"X-TC-Language", " zh-CN"}},
		{name: "other headers", headers: []string{"X-TC-RequestClient", "test"}},
		{name: "old enough", headers: ago(4*time.Minute + 50*time.Second)},
		{name: "ahead, within the window", headers: ago(-4*time.Minute - 50*time.Second)},

		{name: "too old", headers: ago(5*time.Minute + 10*time.Second), code: expired},
		{name: "too far ahead", headers: ago(-5*time.Minute - 10*time.Second), code: expired},
		{name: "timestamp in milliseconds", headers: []string{"X-TC-Timestamp", "1551113065000"}, code: "InvalidParameter"},
		{name: "timestamp of another signature", alter: func(r *http.Request) {
			r.Header.Set("X-TC-Timestamp", strconv.FormatInt(time.Now().Unix()-7, 10))
		}, code: signature},

		{name: "no Authorization", alter: func(r *http.Request) { r.Header.Del("Authorization") }, code: malformed},
		{name: "other scheme", alter: replace("TC3-HMAC-SHA256", "TC2-HMAC-SHA256"), code: malformed},
		{name: "no space", alter: replace(", ", ","), code: malformed},
		{name: "other order", alter: replace("SignedHeaders=", "Signature="), code: malformed},
		{name: "four parts", alter: replace(", S", ", X=1, S"), code: malformed},
		{name: "no SecretId", change: func(a *asker3) { a.id = "" }, code: malformed},
		{name: "no tc3_request", change: func(a *asker3) { a.scope = today + "/redis/tc4_request" }, code: malformed},
		{name: "short scope", change: func(a *asker3) { a.scope = today + "/redis" }, code: malformed},
		{name: "other service", change: func(a *asker3) { a.scope = today + "/cvm/tc3_request" }, code: malformed},
		{name: "other date", change: func(a *asker3) { a.scope = "2019-02-25/redis/tc3_request" }, code: malformed},
		{name: "content-type not signed", change: func(a *asker3) { a.signed = "host" }, code: malformed},
		{name: "host not signed", change: func(a *asker3) { a.signed = "content-type" }, code: malformed},
		{name: "headers not sorted", change: func(a *asker3) { a.signed = "host;content-type" }, code: malformed},
		{name: "header named twice", change: func(a *asker3) { a.signed = "content-type;host;host" }, code: malformed},
		{name: "header in capitals", change: func(a *asker3) { a.signed = "Content-Type;host" }, code: malformed},
		{name: "empty name", change: func(a *asker3) { a.signed = ";content-type;host" }, code: malformed},
		{name: "signed header missing", change: func(a *asker3) { a.signed = "content-type;host;x-none" }, code: malformed},
		{name: "signed header twice", change: func(a *asker3) { a.signed = "content-type;host;x-twice" }, headers: []string{"X-Twice", "1"}, alter: twice("X-Twice"), code: malformed},
		{name: "signature in capitals", alter: func(r *http.Request) {
			head, sum, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", head+"Signature="+strings.ToUpper(sum[:63])+"A")
		}, code: malformed},
		{name: "signature cut", alter: func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")[:len(r.Header.Get("Authorization"))-2])
		}, code: malformed},

		{name: "unknown key", change: func(a *asker3) { a.id = "AKIDnobody" }, code: "AuthFailure.SecretIdNotFound"},
		{name: "wrong key", change: func(a *asker3) { a.key = "wrong" }, code: signature},
		{name: "signed header changed", change: func(a *asker3) { a.signed = "content-type;host;x-tc-action" }, alter: func(r *http.Request) {
			r.Header.Set("X-TC-Action", "DescribeTaskInfo")
		}, code: signature},
		{name: "content type changed", alter: func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, code: signature},
		{name: "host changed", alter: func(r *http.Request) { r.Host = "redis.tencentcloudapi.com" }, code: signature},
		{name: "token for an account without one", change: func(a *asker3) { a.token = "t" }, code: "AuthFailure.TokenFailure"},

		{name: "no action", headers: []string{"X-TC-Action", "-"}, code: missing},
		{name: "empty action", headers: []string{"X-TC-Action", ""}, code: missing},
		{name: "no version", headers: []string{"X-TC-Version", "-"}, code: missing},
		{name: "no region", headers: []string{"X-TC-Region", "-"}, code: missing},
		{name: "no timestamp", alter: func(r *http.Request) { r.Header.Del("X-TC-Timestamp") }, code: missing},
		{name: "unknown action", headers: []string{"X-TC-Action", "DescribeRedis"}, code: "InvalidAction"},
		{name: "unknown version", headers: []string{"X-TC-Version", "2017-03-12"}, code: "NoSuchVersion"},
		{name: "unknown region", headers: []string{"X-TC-Region", "ap-nowhere"}, code: "UnsupportedRegion"},
		{name: "region twice", alter: twice("X-TC-Region"), code: "InvalidParameter"},
		{name: "form", headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, code: "InvalidRequest"},
		{name: "no content type", headers: []string{"Content-Type", "-"}, code: "InvalidRequest"},
		{name: "query", change: func(a *asker3) { a.url += "?Limit=1" }, code: "InvalidRequest"},
		{name: "GET", change: func(a *asker3) { a.method = http.MethodGet }, code: "UnsupportedProtocol"},
		{name: "PUT", change: func(a *asker3) { a.method = http.MethodPut }, code: "UnsupportedProtocol"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv, a := newServer3(t)
			hooked := 0
			srv.OnRequest(func(crsapitest.Request) { hooked++ })
			if test.change != nil {
				test.change(a)
			}
			r := a.request3(t, "{}", test.headers...)
			if test.alter != nil {
				test.alter(r)
			}
			page := a.do(r).documented3(t)
			if page.code() != test.code {
				t.Fatalf("%+v, want %s", page.Error, test.code)
			}
			if n := srv.NamedAnswers("", test.code); n != 1 {
				t.Errorf("%d answers counted", n)
			}
			if (hooked == 1) != (test.code == "") {
				t.Errorf("the hook ran %d times", hooked)
			}
		})
	}
	t.Run("body changed", func(t *testing.T) {
		_, a := newServer3(t)
		r := a.request3(t, "{}")
		other := a.request3(t, `{"Limit":1}`)
		r.Body, r.ContentLength = other.Body, other.ContentLength
		if got := a.do(r).documented3(t).code(); got != signature {
			t.Error(got)
		}
	})
	t.Run("body too large", func(t *testing.T) {
		_, a := newServer3(t)
		largest := "{}" + strings.Repeat(" ", 10<<20-2)
		if got := a.code3(t, largest); got != "" {
			t.Error(got)
		}
		if got := a.code3(t, largest+" "); got != "RequestSizeLimitExceeded" {
			t.Error(got)
		}
	})
	t.Run("repeated request", func(t *testing.T) {
		_, a := newServer3(t)
		now := strconv.FormatInt(time.Now().Unix(), 10)
		for range 2 { // API 3.0 has no Nonce
			if got := a.code3(t, "{}", "X-TC-Timestamp", now); got != "" {
				t.Error(got)
			}
		}
	})
	t.Run("window and clock", func(t *testing.T) {
		srv, a := newServer3(t)
		srv.SetWindow(2 * time.Hour)
		if got := a.code3(t, "{}", ago(119*time.Minute)...); got != "" {
			t.Error(got)
		}
		if got := a.code3(t, "{}", ago(121*time.Minute)...); got != expired {
			t.Error(got)
		}
		srv.SetClockSkew(48 * time.Hour)
		if page := a.ask3(t, "{}").documented3(t); page.code() != expired || !strings.Contains(page.Error.Message, "server time") {
			t.Errorf("%+v", page.Error)
		}
		if got := a.code3(t, "{}", ago(-48*time.Hour)...); got != "" {
			t.Error(got)
		}
	})
	t.Run("accounts", func(t *testing.T) {
		srv, a := newServer3(t)
		srv.SetAccount(crsapitest.Account{SecretID: "AKIDtemporary", SecretKey: "k", Token: "token-2"})
		a.id, a.key = "AKIDtemporary", "k"
		for _, step := range []struct{ token, code string }{{"", "AuthFailure.TokenFailure"}, {"token-1", "AuthFailure.TokenFailure"}, {"token-2", ""}} {
			a.token = step.token
			if got := a.code3(t, "{}"); got != step.code {
				t.Errorf("token %q: %q", step.token, got)
			}
		}
		srv.RevokeAccount("AKIDtemporary")
		if got := a.code3(t, "{}"); got != "AuthFailure.SecretIdNotFound" {
			t.Error(got)
		}
	})
}

func TestParameters3(t *testing.T) {
	const list, info, tce = "DescribeTaskList", "DescribeTaskInfo", "GetRedisTaskList"
	const wrongType, wrongValue, unknown = "InvalidParameter", "InvalidParameterValue", "UnknownParameter"
	for _, test := range []struct{ action, body, code string }{
		{list, `{}`, ""},
		{list, " {\"Limit\": 1}\n", ""},
		{list, `{"Limit":1,"Offset":0,"InstanceId":"crs-1","InstanceName":"你","BeginTime":"2021-12-30 00:00:00","EndTime":"2021-12-30 00:00:00","TaskTypes":["001","017","054","070"],"Result":[0,1,2,4]}`, ""},
		{list, `{"ProjectIds":[0,-1],"TaskStatus":[0,1,2],"OperatorUin":[100],"OperateUin":["100"]}`, ""},
		{list, `{"TaskTypes":[],"Result":[]}`, ""},
		{list, `{"Limit":100}`, ""},
		{list, `{"Limit":9223372036854775807,"Offset":9223372036854775807}`, ""},

		{list, ``, wrongType},
		{list, `[]`, wrongType},
		{list, `null`, wrongType},
		{list, `{} {}`, wrongType},
		{list, `{"Limit":1`, wrongType},
		{list, `{"Limit":1,}`, wrongType},
		{list, `{"Limit":}`, wrongType},
		{list, `{1:1}`, wrongType},
		{list, `{"Limit":1,"Limit":1}`, wrongType},
		{list, "{\"InstanceId\":\"\xff\"}", wrongType},
		{list, `{"limit":1}`, unknown},
		{list, `{"Status":1}`, unknown},
		{list, `{"RedisId":"crs-1"}`, unknown},
		{list, `{"TaskId":1}`, unknown},
		{list, `{"Limit":"1"}`, wrongType},
		{list, `{"Limit":1.0}`, wrongType},
		{list, `{"Limit":1e2}`, wrongType},
		{list, `{"Limit":null}`, wrongType},
		{list, `{"Limit":0}`, wrongValue},
		{list, `{"Limit":-1}`, wrongValue},
		{list, `{"Offset":-1}`, wrongValue},
		{list, `{"Offset":"0"}`, wrongType},
		{list, `{"InstanceId":1}`, wrongType},
		{list, `{"InstanceId":""}`, wrongValue},
		{list, `{"InstanceName":["a"]}`, wrongType},
		{list, `{"InstanceName":""}`, wrongValue},
		{list, `{"BeginTime":1640793600}`, wrongType},
		{list, `{"BeginTime":"2021-12-30T00:00:00Z"}`, wrongValue},
		{list, `{"EndTime":"2021-02-30 00:00:00"}`, wrongValue},
		{list, `{"BeginTime":"2021-12-30 00:00:01","EndTime":"2021-12-30 00:00:00"}`, wrongValue},
		{list, `{"TaskTypes":"012"}`, wrongType},
		{list, `{"TaskTypes":[12]}`, wrongType},
		{list, `{"TaskTypes":["12"]}`, wrongValue},
		{list, `{"TaskTypes":["backupInstance"]}`, wrongValue},
		{list, `{"TaskTypes":["012","065"]}`, wrongValue},
		{list, `{"TaskTypes":["071"]}`, wrongValue},
		{list, `{"TaskTypes":["-01"]}`, wrongValue},
		{list, `{"TaskTypes":["008"]}`, wrongValue},
		{list, `{"Result":4}`, wrongType},
		{list, `{"Result":["4"]}`, wrongType},
		{list, `{"Result":[3]}`, wrongValue},
		{list, `{"Result":[-1]}`, wrongValue},
		{list, `{"ProjectIds":["0"]}`, wrongType},
		{list, `{"TaskStatus":0}`, wrongType},
		{list, `{"OperateUin":[100]}`, wrongType},

		{tce, `{"Limit":1,"Offset":0,"RedisId":"crs-1","RedisName":"n","BeginTime":"2021-12-30 00:00:00","EndTime":"2021-12-30 00:00:00","TaskTypes":["001","008","012"],"TaskStatus":-1}`, ""},
		{tce, `{"TaskStatus":3}`, ""},
		{tce, `{"TaskStatus":4}`, wrongValue},
		{tce, `{"TaskStatus":-2}`, wrongValue},
		{tce, `{"TaskStatus":[3]}`, wrongType},
		{tce, `{"TaskTypes":["017"]}`, wrongValue},
		{tce, `{"InstanceId":"crs-1"}`, unknown},
		{tce, `{"Result":[2]}`, unknown},
		{tce, `{"Limit":0}`, wrongValue},

		{info, `{"TaskId":7}`, ""},
		{info, `{}`, "MissingParameter"},
		{info, `{"TaskId":"7"}`, wrongType},
		{info, `{"TaskId":0}`, wrongValue},
		{info, `{"TaskId":8}`, "InvalidParameter.InvalidParameter"},
		{info, `{"TaskId":7,"Limit":1}`, unknown},
	} {
		srv, a := newServer3(t)
		task := tasks("a")
		task[0].TaskID = 7
		srv.SetTasks(region, task)
		a.action = test.action
		page := a.ask3(t, test.body).documented3(t)
		if page.code() != test.code {
			t.Errorf("%s %s: %+v, want %q", test.action, test.body, page.Error, test.code)
		}
		if page.Error != nil && len(page.Error.Message) > 200 {
			t.Errorf("%s: message of %d bytes", test.body, len(page.Error.Message))
		}
	}

	t.Run("limit above 100", func(t *testing.T) {
		srv, a := newServer3(t)
		srv.SetTasks(region, numbered(300))
		if page := a.ask3(t, `{"Limit":150,"Offset":150}`).documented3(t); len(page.Tasks) != 100 || *page.Tasks[0].InstanceId != "100" {
			t.Errorf("%d rows from %s", len(page.Tasks), *page.Tasks[0].InstanceId)
		}
	})
}
