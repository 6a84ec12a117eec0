package crsapitest_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestConstants(t *testing.T) {
	if len(crsapitest.SecretID) != 36 || !strings.HasPrefix(crsapitest.SecretID, "AKID") || len(crsapitest.SecretKey) != 32 {
		t.Errorf("SecretID has %d bytes, SecretKey %d: not the documents' form", len(crsapitest.SecretID), len(crsapitest.SecretKey))
	}
}

func TestVerification(t *testing.T) {
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }
	tests := []struct {
		name  string
		pairs []string
		code  int
		in    string // the message
	}{
		{name: "good"},
		{"good SHA1", []string{"SignatureMethod", "HmacSHA1"}, 0, ""},
		{"good without SignatureMethod", []string{"SignatureMethod", "-"}, 0, ""},
		{"SignatureMethod unknown means SHA1", []string{"SignatureMethod", "HmacMD5"}, 0, ""},
		{"all filters", []string{
			"redisId", "crs-izbob1wh", "redisName", "for API test",
			"beginTime", "2016-12-28 00:03:52", "endTime", "2017-02-11 00:03:52",
			"taskStatus.0", "-1", "taskStatus.1", "0", "taskStatus.2", "1", "taskStatus.3", "2", "taskStatus.4", "3",
			"taskType.0", "task_importRdb", "taskType.1", "task_exportBackup", "taskType.2", "task_restoreBackup",
			"taskType.3", "task_restoreStream", "taskType.4", "task_backupInstance", "taskType.5", "task_cleanInstance",
			"taskType.6", "task_resizeInstance",
		}, 0, ""},
		{"eleven elements", []string{
			"taskStatus.0", "2", "taskStatus.1", "2", "taskStatus.2", "2", "taskStatus.3", "2", "taskStatus.4", "2", "taskStatus.5", "2",
			"taskStatus.6", "2", "taskStatus.7", "2", "taskStatus.8", "2", "taskStatus.9", "2", "taskStatus.10", "2",
		}, 0, ""},

		{"no Action", []string{"Action", "-"}, 4000, "Action is missing"},
		{"other Action", []string{"Action", "DescribeRedis"}, 6100, "Action"},
		{"no Region", []string{"Region", "-"}, 4000, "Region is missing"},
		{"unknown Region", []string{"Region", "ap-nowhere"}, 4000, "Region"},
		{"no Nonce", []string{"Nonce", "-"}, 4000, "Nonce is missing"},
		{"Nonce 0", []string{"Nonce", "0"}, 4000, "Nonce"},
		{"Nonce negative", []string{"Nonce", "-1"}, 4000, "Nonce"},
		{"Nonce with a sign", []string{"Nonce", "+1"}, 4000, "Nonce"},
		{"Nonce hexadecimal", []string{"Nonce", "0x1"}, 4000, "Nonce"},
		{"Nonce beyond 63 bits", []string{"Nonce", "9223372036854775808"}, 4000, "Nonce"},
		{"Nonce greatest", []string{"Nonce", "9223372036854775807"}, 0, ""},
		{"no Timestamp", []string{"Timestamp", "-"}, 4000, "Timestamp is missing"},
		{"Timestamp in words", []string{"Timestamp", "now"}, 4000, "Timestamp"},
		{"Timestamp in milliseconds", []string{"Timestamp", "1465185768000"}, 4000, "Timestamp"},
		{"Timestamp old enough", []string{"Timestamp", ago(4*time.Minute + 50*time.Second)}, 0, ""},
		{"Timestamp too old", []string{"Timestamp", ago(5*time.Minute + 10*time.Second)}, 4200, "server time is 1"},
		{"Timestamp ahead, within the window", []string{"Timestamp", ago(-4*time.Minute - 50*time.Second)}, 0, ""},
		{"Timestamp too far ahead", []string{"Timestamp", ago(-5*time.Minute - 10*time.Second)}, 4500, "server time is 1"},
		{"no SecretId", []string{"SecretId", "-"}, 4000, "SecretId is missing"},
		{"unknown SecretId", []string{"SecretId", "AKIDnobody"}, 4104, "SecretId"},
		{"Token where none is due", []string{"Token", "t"}, 4105, "token"},
		{"Version", []string{"Version", "2017-03-12"}, 4000, "(11201)InvalidParameter: Version"},
		{"unknown parameter", []string{"redisID", "crs-1"}, 4000, "(11201)InvalidParameter: redisID"},
		{"unknown long parameter", []string{strings.Repeat("x", 300), "1"}, 4000, "(11201)InvalidParameter: xxx"},
		{"empty value", []string{"redisId", ""}, 4000, "redisId is empty"},
		{"empty Token", []string{"Token", ""}, 4000, "Token is empty"},

		{"no limit", []string{"limit", "-"}, 4000, "(11201)InvalidParameter: limit is missing"},
		{"limit 0", []string{"limit", "0"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit negative", []string{"limit", "-1"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit in words", []string{"limit", "ten"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit with a leading zero", []string{"limit", "010"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit huge", []string{"limit", "2147483648"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit greatest", []string{"limit", "2147483647"}, 0, ""},
		{"no offset", []string{"offset", "-"}, 4000, "(11201)InvalidParameter: offset is missing"},
		{"offset negative", []string{"offset", "-1"}, 4000, "(11201)InvalidParameter: offset"},
		{"offset with a fraction", []string{"offset", "1.0"}, 4000, "(11201)InvalidParameter: offset"},
		{"offset greatest", []string{"offset", "2147483647"}, 0, ""},

		{"time in another layout", []string{"beginTime", "2017-02-08T16:46:34Z"}, 4000, "(11201)InvalidParameter: beginTime"},
		{"time with a fraction", []string{"beginTime", "2017-02-08 16:46:34.5"}, 4000, "(11201)InvalidParameter: beginTime"},
		{"time with a short hour", []string{"endTime", "2017-02-08 6:46:34"}, 4000, "(11201)InvalidParameter: endTime"},
		{"time that is not", []string{"endTime", "2017-02-30 16:46:34"}, 4000, "(11201)InvalidParameter: endTime"},
		{"times inverted", []string{"beginTime", "2017-02-11 00:00:00", "endTime", "2017-02-10 00:00:00"}, 4000, "(11201)InvalidParameter: endTime"},

		{"array without index", []string{"taskStatus", "2"}, 4000, "(11201)InvalidParameter: taskStatus"},
		{"array from 1", []string{"taskStatus.1", "2"}, 4000, "(11201)InvalidParameter: taskStatus.1"},
		{"array with a gap", []string{"taskType.0", "task_importRdb", "taskType.2", "task_importRdb"}, 4000, "(11201)InvalidParameter: taskType.2"},
		{"array with a padded index", []string{"taskStatus.00", "2"}, 4000, "(11201)InvalidParameter: taskStatus.00"},
		{"array with an underscore", []string{"taskStatus_0", "2"}, 4100, "signature"},
		{"status undocumented", []string{"taskStatus.0", "4"}, 4000, "(11201)InvalidParameter: taskStatus.0"},
		{"status in words", []string{"taskStatus.0", "failed"}, 4000, "(11201)InvalidParameter: taskStatus.0"},
		{"type without prefix", []string{"taskType.0", "backupInstance"}, 4000, "(11201)InvalidParameter: taskType.0"},
		{"type not filterable", []string{"taskType.0", "task_newInstance"}, 4000, "(11201)InvalidParameter: taskType.0"},
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			srv, a := newServer(t)
			a.method = method
			hooked := 0
			srv.OnRequest(func(crsapitest.Request) { hooked++ })
			for _, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					before, hooksBefore := srv.Answers("", test.code), hooked
					d := a.ask(t, test.pairs...).documented(t)
					if d.Code != test.code || !strings.Contains(d.Message, test.in) {
						t.Fatalf("code %d %q, want %d %q", d.Code, d.Message, test.code, test.in)
					}
					if len(d.Message) > 200 {
						t.Errorf("message of %d bytes", len(d.Message))
					}
					wantDesc := map[int]string{0: "Success", 4000: "InvalidParameter", 4100: "AuthFailure"}[test.code]
					if d.CodeDesc != wantDesc {
						t.Errorf("codeDesc %q, want %q", d.CodeDesc, wantDesc)
					}
					if after := srv.Answers("", test.code); after != before+1 {
						t.Errorf("answers of code %d went from %d to %d", test.code, before, after)
					}
					wantHooks := 0
					if test.code == 0 {
						wantHooks = 1
					}
					if hooked-hooksBefore != wantHooks {
						t.Errorf("hook ran %d times, want %d", hooked-hooksBefore, wantHooks)
					}
				})
			}
		})
	}
}

func TestVerificationOfTheForm(t *testing.T) {
	srv, get := newServer(t)
	post := newAsker(srv)
	post.method = http.MethodPost
	post.nonce.Store(1 << 32)
	good := func(a *asker) string {
		p := a.params()
		p["Signature"] = a.signature(p)
		return encode(p)
	}
	tests := []struct {
		name    string
		request func(a *asker) *http.Request
		status  int
		code    int
		in      string
	}{
		{"twice the same", func(a *asker) *http.Request { return a.raw(t, good(a)+"&limit=100") }, 200, 4000, "limit is given twice"},
		{"no value", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId") }, 200, 4000, "name=value"},
		{"empty pair", func(a *asker) *http.Request { return a.raw(t, good(a)+"&") }, 200, 4000, "name=value"},
		{"bad escape", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId=%zz") }, 200, 4000, "redisId is not URL-encoded UTF-8"},
		{"not UTF-8", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId=%ff") }, 200, 4000, "redisId is not URL-encoded UTF-8"},
		{"added after signing", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId=crs-1") }, 200, 4100, "signature"},
		{"no Signature", func(a *asker) *http.Request { return a.raw(t, encode(a.params())) }, 200, 4000, "Signature is missing"},
		{"nothing", func(a *asker) *http.Request { return a.raw(t, "") }, 200, 4000, "Action is missing"},
		{"signature unescaped", func(a *asker) *http.Request {
			for {
				p := a.params()
				if s := a.signature(p); strings.Contains(s, "+") {
					return a.raw(t, encode(p)+"&Signature="+s)
				}
			}
		}, 200, 4100, "signature"},
		{"space as %20", func(a *asker) *http.Request {
			p := a.params("redisName", "for API test")
			p["Signature"] = a.signature(p)
			return a.raw(t, strings.ReplaceAll(encode(p), "+", "%20"))
		}, 200, 0, ""},
		{"too long", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisName="+strings.Repeat("x", 70<<10)) }, -1, 0, ""},
		{"other path", func(a *asker) *http.Request {
			r := a.raw(t, good(a))
			r.URL.Path = "/v2/"
			return r
		}, 404, 0, ""},
		{"other method", func(a *asker) *http.Request {
			r := a.raw(t, good(a))
			r.Method = http.MethodPut
			return r
		}, 405, 0, ""},
		{"other method's signature", func(a *asker) *http.Request {
			other := newAsker(srv)
			if a.method == http.MethodGet {
				other.method = http.MethodPost
			}
			p := a.params()
			p["Signature"] = other.signature(p)
			return a.raw(t, encode(p))
		}, 200, 4100, "signature"},
		{"other Host", func(a *asker) *http.Request {
			r := a.raw(t, good(a))
			r.Host = "redis.api.qcloud.com"
			return r
		}, 200, 4100, "signature"},
		{"Host in the request alone", func(a *asker) *http.Request {
			other := newAsker(srv)
			other.method, other.url = a.method, "https://redis.api.qcloud.com:8443/v2/index.php"
			p := a.params()
			p["Signature"] = other.signature(p)
			r := a.raw(t, encode(p))
			r.Host = "redis.api.qcloud.com:8443"
			return r
		}, 200, 0, ""},
	}
	for _, a := range []*asker{get, post} {
		for _, test := range tests {
			t.Run(a.method+" "+test.name, func(t *testing.T) {
				res := a.do(test.request(a))
				status := test.status
				if status < 0 {
					status = map[string]int{http.MethodGet: 414, http.MethodPost: 413}[a.method]
				}
				if res.err != nil || res.StatusCode != status {
					t.Fatalf("status %v, error %v, want %d", res.Response, res.err, status)
				}
				if status != 200 {
					return
				}
				if d := res.documented(t); d.Code != test.code || !strings.Contains(d.Message, test.in) {
					t.Errorf("code %d %q, want %d %q", d.Code, d.Message, test.code, test.in)
				}
			})
		}
	}

	t.Run("POST ignores the query string", func(t *testing.T) {
		r := post.request(t)
		r.URL.RawQuery = "limit=0&Version=1"
		if d := post.do(r).documented(t); d.Code != 0 {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
		r = get.request(t)
		r.Method = http.MethodPost
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if d := post.do(r).documented(t); d.Code != 4000 {
			t.Errorf("parameters in the query string of a POST: code %d", d.Code)
		}
	})
	t.Run("POST of another content type", func(t *testing.T) {
		for _, kind := range []string{"", "application/json", "multipart/form-data; boundary=x"} {
			r := post.request(t)
			r.Header.Set("Content-Type", kind)
			if d := post.do(r).documented(t); d.Code != 4000 || !strings.Contains(d.Message, "Content-Type") {
				t.Errorf("%q: code %d %s", kind, d.Code, d.Message)
			}
		}
		r := post.request(t)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		if d := post.do(r).documented(t); d.Code != 0 {
			t.Errorf("with a charset: code %d", d.Code)
		}
	})
	t.Run("underscore signed as a full stop is still no parameter", func(t *testing.T) {
		p := get.params("taskStatus.0", "2")
		p["Signature"] = get.signature(p)
		delete(p, "taskStatus.0")
		p["taskStatus_0"] = "2"
		if d := get.do(get.raw(t, encode(p))).documented(t); d.Code != 4000 || !strings.Contains(d.Message, "taskStatus_0") {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
	})
	t.Run("POST leaves out a value that begins with @", func(t *testing.T) {
		p := post.params()
		p["Signature"] = post.signature(p)
		p["redisName"] = "@me"
		if d := post.do(post.raw(t, encode(p))).documented(t); d.Code != 0 {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
	})
}

func TestReplay(t *testing.T) {
	_, a := newServer(t)
	r := a.request(t)
	if code := a.do(r).documented(t).Code; code != 0 {
		t.Fatalf("code %d", code)
	}
	if d := a.do(r.Clone(t.Context())).documented(t); d.Code != 4500 || !strings.Contains(d.Message, "server time is 1") {
		t.Errorf("the same request again: code %d %s", d.Code, d.Message)
	}
	if code := a.code(t, "Nonce", "1", "limit", "7"); code != 4500 {
		t.Errorf("another request with the same Nonce: code %d", code)
	}
	// What is not signed right must not be able to spend a Nonce.
	p := a.params("Nonce", "4711")
	p["Signature"] = "AAAA"
	if code := a.do(a.raw(t, encode(p))).documented(t).Code; code != 4100 {
		t.Errorf("forged: code %d", code)
	}
	if code := a.code(t, "Nonce", "4711"); code != 0 {
		t.Errorf("after a forged one: code %d", code)
	}
}

func TestAccounts(t *testing.T) {
	srv, a := newServer(t)
	expect := func(what string, want int) {
		t.Helper()
		if code := a.code(t); code != want {
			t.Errorf("%s: code %d, want %d", what, code, want)
		}
	}
	expect("default account", 0)

	srv.SetAccount(crsapitest.Account{SecretID: a.id, SecretKey: "another key"})
	expect("key replaced", 4100)
	a.key = "another key"
	expect("new key", 0)

	srv.SetAccount(crsapitest.Account{SecretID: "AKIDtemporary", SecretKey: "k", Token: "token of today"})
	a.id, a.key = "AKIDtemporary", "k"
	expect("token missing", 4105)
	a.token = "token of yesterday"
	expect("token wrong", 4105)
	a.token = "token of today"
	expect("token right", 0)

	srv.RevokeAccount("AKIDtemporary")
	expect("revoked", 4104)
	a.id, a.key, a.token = crsapitest.SecretID, "another key", ""
	expect("the other account", 0)
}

func TestWindowAndClock(t *testing.T) {
	srv, a := newServer(t)
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }

	srv.SetWindow(2 * time.Hour)
	if code := a.code(t, "Timestamp", ago(119*time.Minute)); code != 0 {
		t.Errorf("within two hours: code %d", code)
	}
	if code := a.code(t, "Timestamp", ago(121*time.Minute)); code != 4200 {
		t.Errorf("older than two hours: code %d", code)
	}

	srv.SetWindow(crsapitest.DefaultWindow)
	srv.SetClockSkew(time.Hour)
	res := a.ask(t)
	if d := res.documented(t); d.Code != 4200 {
		t.Errorf("server an hour ahead: code %d", d.Code)
	} else if _, after, _ := strings.Cut(d.Message, "server time is "); !strings.HasPrefix(after, ago(-time.Hour)[:6]) {
		t.Errorf("message %q does not tell the server's time", d.Message)
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err != nil || time.Until(date) < 59*time.Minute || time.Until(date) > 61*time.Minute {
		t.Errorf("Date %q", res.Header.Get("Date"))
	}
	srv.SetClockSkew(-time.Hour)
	if code := a.code(t); code != 4500 {
		t.Errorf("server an hour behind: code %d", code)
	}
	if code := a.code(t, "Timestamp", ago(time.Hour)); code != 0 {
		t.Errorf("by the server's clock: code %d", code)
	}
}

// No refusal may hand back what the caller must keep.
func TestRefusalsHoldNoSecrets(t *testing.T) {
	srv, a := newServer(t)
	srv.SetAccount(crsapitest.Account{SecretID: a.id, SecretKey: a.key, Token: "canary-token"})
	a.token = "canary-token"
	for _, pairs := range [][]string{
		{"limit", "0"},
		{"Version", "1"},
		{"Region", "ap-nowhere"},
		{"Timestamp", "1"},
		{"Action", "Other"},
		{"SignatureMethod", "-", "Token", "canary-token-wrong"},
	} {
		p := a.params(pairs...)
		p["Signature"] = a.signature(p)
		for _, signature := range []string{p["Signature"], "AAAA"} {
			p["Signature"] = signature
			res := a.do(a.raw(t, encode(p)))
			if d := res.documented(t); d.Code == 0 {
				t.Fatalf("%q passed", pairs)
			}
			for _, secret := range []string{a.id, a.key, "canary", p["Signature"]} {
				if strings.Contains(string(res.body), secret) {
					t.Errorf("%q: %s in %s", pairs, secret, res.body)
				}
			}
		}
	}
}
