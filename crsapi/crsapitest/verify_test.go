package crsapitest_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// The documents print these signatures. TestVerification shows that the simulator
// accepts what the asker signs.
func TestSignatureVectors(t *testing.T) {
	// The key pair of the documents.
	const (
		id  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
		key = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
	)
	d2 := "Action=DescribeInstances&InstanceIds.0=ins-09dx96dg&Nonce=11886&Region=ap-guangzhou&SecretId=" + id +
		"&SignatureMethod=HmacSHA256&Timestamp=1465185768"
	s1 := "Action=DescribeInstances&Nonce=1290303896666895346&Region=ap-guangzhou&SecretId=secretIdFoo" +
		"&SignatureMethod=HmacSHA1&Timestamp=1512393162&Version=2017-03-12"
	g1 := "Action=GetRedisTaskList&Nonce=11886&Region=ap-guangzhou&SecretId=" + id +
		"&SignatureMethod=HmacSHA256&Timestamp=1465185768&beginTime=2016-12-28 00:03:52&endTime=2017-02-11 00:03:52" +
		"&limit=10&offset=0&redisId=crs-izbob1wh&redisName=for API test&taskStatus.0=2" +
		"&taskType.0=task_restoreBackup&taskType.1=task_backupInstance&taskType.2=task_cleanInstance"
	tests := []struct {
		id, key, method, host string
		params                string // as signed
		want                  string
	}{
		{
			"D1", key, "GET", "cvm.api.qcloud.com",
			"Action=DescribeInstances&Nonce=345122&Region=gz&SecretId=" + id + "&Timestamp=1408704141",
			"HgIYOPcx5lN6gz8JsCFBNAWp2oQ=",
		},
		{"D2", key, "GET", "cvm.api.qcloud.com", d2, "0EEm/HtGRr/VJXTAD9tYMth1Bzm3lLHz5RCDv1GdM8s="},
		{"D3", key, "GET", "cvm.api.qcloud.com", strings.Replace(d2, "SHA256", "SHA1", 1), "nPVnY6njQmwQ8ciqbPl5Qe+Oru4="},
		{"S1", "secretKeyBar", "POST", "cvm.api.qcloud.com", s1, "p3n+pxBqF5JGZtDSxoVn5tGngf0="},
		{"S2", "secretKeyBar", "GET", "cvm.api.qcloud.com", s1, "5HAq1BOKNLEE2/uauWnp6Zv9Z3c="},
		{
			"S3", "secretKeyBar", "POST", "cvm.api.qcloud.com",
			strings.Replace(s1, "SHA1", "SHA256", 1), "B2T37FRSP6Fk0/q/cdfrTE0p3zX5ooB/2BPWZUFpsj4=",
		},
		{"G1", key, "GET", "redis.api.qcloud.com", g1, "Te1WWg6K0nV83NexWUHvg4By+9Heg9w/8I8/BireGv8="},
	}
	params := func(signed string) map[string]string {
		p := make(map[string]string)
		for pair := range strings.SplitSeq(signed, "&") {
			name, value, _ := strings.Cut(pair, "=")
			p[name] = value
		}
		return p
	}
	for _, test := range tests {
		t.Run(test.id, func(t *testing.T) {
			a := &asker{url: "https://" + test.host + crsapitest.Path, method: test.method, key: test.key}
			if got := a.signature(params(test.params)); got != test.want {
				t.Errorf("signature %s, want %s", got, test.want)
			}
		})
	}

	t.Run("accepted", func(t *testing.T) {
		sim := crsapitest.New()
		sim.SetTasks(region, nil)
		sim.SetAccount(crsapitest.Account{SecretID: id, SecretKey: key})
		sim.SetClockSkew(time.Until(time.Unix(1465185768, 0)))
		a := newDirectAsker(sim)
		p := params(g1)
		p["Signature"] = tests[len(tests)-1].want
		if d := a.do(a.raw(t, encode(p))).documented(t); d.Code != 0 {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
	})
}

func TestVerification(t *testing.T) {
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }
	tests := []struct {
		name  string
		pairs []string
		code  int
		in    string // the message
	}{
		{name: "valid"},
		{"valid SHA1", []string{"SignatureMethod", "HmacSHA1"}, 0, ""},
		{"valid without SignatureMethod", []string{"SignatureMethod", "-"}, 0, ""},
		{"SignatureMethod unknown means SHA1", []string{"SignatureMethod", "HmacMD5"}, 0, ""},
		{"all filters", []string{
			"redisId", "crs-izbob1wh", "redisName", "for API test",
			"beginTime", "2016-12-28 00:03:52", "endTime", "2017-02-11 00:03:52",
			"taskStatus.0", "-1", "taskStatus.1", "0", "taskStatus.2", "1", "taskStatus.3", "2", "taskStatus.4", "3",
			"taskType.0", "task_importRdb", "taskType.1", "task_exportBackup", "taskType.2", "task_restoreBackup",
			"taskType.3", "task_restoreStream", "taskType.4", "task_backupInstance", "taskType.5", "task_cleanInstance",
			"taskType.6", "task_resizeInstance",
		}, 0, ""},
		{"underscore in a value", []string{"redisName", "a_b"}, 0, ""},
		{"spaces and UTF-8 in a value", []string{"redisName", "x y 你"}, 0, ""},
		{"capitals before small letters", []string{"redisName", "n", "Zone", "z", "zone", "z"}, 4000, "(11201)InvalidParameter: Zone"},
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
		{"Nonce maximum", []string{"Nonce", "9223372036854775807"}, 0, ""},
		{"no Timestamp", []string{"Timestamp", "-"}, 4000, "Timestamp is missing"},
		{"Timestamp not a number", []string{"Timestamp", "now"}, 4000, "Timestamp"},
		{"Timestamp in milliseconds", []string{"Timestamp", "1465185768000"}, 4000, "Timestamp"},
		{"Timestamp old enough", []string{"Timestamp", ago(4*time.Minute + 50*time.Second)}, 0, ""},
		{"Timestamp too old", []string{"Timestamp", ago(5*time.Minute + 10*time.Second)}, 4200, "server time is 1"},
		{"Timestamp ahead, within the window", []string{"Timestamp", ago(-4*time.Minute - 50*time.Second)}, 0, ""},
		{"Timestamp too far ahead", []string{"Timestamp", ago(-5*time.Minute - 10*time.Second)}, 4500, "server time is 1"},
		{"no SecretId", []string{"SecretId", "-"}, 4000, "SecretId is missing"},
		{"unknown SecretId", []string{"SecretId", "AKIDnobody"}, 4104, "SecretId"},
		{"Token for an account without one", []string{"Token", "t"}, 4105, "token"},
		{"Version", []string{"Version", "2017-03-12"}, 4000, "(11201)InvalidParameter: Version"},
		{"unknown parameter", []string{"redisID", "crs-1"}, 4000, "(11201)InvalidParameter: redisID"},
		{"unknown long parameter", []string{strings.Repeat("x", 300), "1"}, 4000, "(11201)InvalidParameter: xxx"},
		{"empty value", []string{"redisId", ""}, 4000, "redisId is empty"},
		{"empty Token", []string{"Token", ""}, 4000, "Token is empty"},

		{"no limit", []string{"limit", "-"}, 4000, "(11201)InvalidParameter: limit is missing"},
		{"limit 0", []string{"limit", "0"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit negative", []string{"limit", "-1"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit not a number", []string{"limit", "ten"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit with a leading zero", []string{"limit", "010"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit above the maximum", []string{"limit", "2147483648"}, 4000, "(11201)InvalidParameter: limit"},
		{"limit maximum", []string{"limit", "2147483647"}, 0, ""},
		{"no offset", []string{"offset", "-"}, 4000, "(11201)InvalidParameter: offset is missing"},
		{"offset negative", []string{"offset", "-1"}, 4000, "(11201)InvalidParameter: offset"},
		{"offset with a fraction", []string{"offset", "1.0"}, 4000, "(11201)InvalidParameter: offset"},
		{"offset maximum", []string{"offset", "2147483647"}, 0, ""},

		{"time in another layout", []string{"beginTime", "2017-02-08T16:46:34Z"}, 4000, "(11201)InvalidParameter: beginTime"},
		{"time with a fraction", []string{"beginTime", "2017-02-08 16:46:34.5"}, 4000, "(11201)InvalidParameter: beginTime"},
		{"time with a short hour", []string{"endTime", "2017-02-08 6:46:34"}, 4000, "(11201)InvalidParameter: endTime"},
		{"time that does not exist", []string{"endTime", "2017-02-30 16:46:34"}, 4000, "(11201)InvalidParameter: endTime"},
		{"times inverted", []string{"beginTime", "2017-02-11 00:00:00", "endTime", "2017-02-10 00:00:00"}, 4000, "(11201)InvalidParameter: endTime"},

		{"array without index", []string{"taskStatus", "2"}, 4000, "(11201)InvalidParameter: taskStatus"},
		{"array from 1", []string{"taskStatus.1", "2"}, 4000, "(11201)InvalidParameter: taskStatus.1"},
		{"array with a gap", []string{"taskType.0", "task_importRdb", "taskType.2", "task_importRdb"}, 4000, "(11201)InvalidParameter: taskType.2"},
		{"array with a padded index", []string{"taskStatus.00", "2"}, 4000, "(11201)InvalidParameter: taskStatus.00"},
		{"array with an underscore", []string{"taskStatus_0", "2"}, 4100, "signature"},
		{"undocumented status", []string{"taskStatus.0", "4"}, 4000, "(11201)InvalidParameter: taskStatus.0"},
		{"status not a number", []string{"taskStatus.0", "failed"}, 4000, "(11201)InvalidParameter: taskStatus.0"},
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

func TestEncodingVerification(t *testing.T) {
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
		{"repeated parameter", func(a *asker) *http.Request { return a.raw(t, good(a)+"&limit=100") }, 200, 4000, "limit occurs more than once"},
		{"no value", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId") }, 200, 4000, "name=value"},
		{"empty pair", func(a *asker) *http.Request { return a.raw(t, good(a)+"&") }, 200, 4000, "name=value"},
		{"bad escape", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId=%zz") }, 200, 4000, "redisId is not URL-encoded UTF-8"},
		{"not UTF-8", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId=%ff") }, 200, 4000, "redisId is not URL-encoded UTF-8"},
		{"added after signing", func(a *asker) *http.Request { return a.raw(t, good(a)+"&redisId=crs-1") }, 200, 4100, "signature"},
		{"no Signature", func(a *asker) *http.Request { return a.raw(t, encode(a.params())) }, 200, 4000, "Signature is missing"},
		{"no parameters", func(a *asker) *http.Request { return a.raw(t, "") }, 200, 4000, "Action is missing"},
		{"Signature not URL-encoded", func(a *asker) *http.Request {
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
		{"Host differs from the address", func(a *asker) *http.Request {
			other := newAsker(srv)
			other.method, other.url = a.method, "https://redis.api.qcloud.com:8443/v2/index.php"
			p := a.params()
			p["Signature"] = other.signature(p)
			r := a.raw(t, encode(p))
			r.Host = "redis.api.qcloud.com:8443"
			return r
		}, 200, 0, ""},
		{"Host is an IPv6 address", func(a *asker) *http.Request {
			other := newAsker(srv)
			other.method, other.url = a.method, "https://[::1]:8443/v2/index.php"
			p := a.params()
			p["Signature"] = other.signature(p)
			r := a.raw(t, encode(p))
			r.Host = "[::1]:8443"
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
	t.Run("underscore signed as a full stop is not a parameter", func(t *testing.T) {
		p := get.params("taskStatus.0", "2")
		p["Signature"] = get.signature(p)
		delete(p, "taskStatus.0")
		p["taskStatus_0"] = "2"
		if d := get.do(get.raw(t, encode(p))).documented(t); d.Code != 4000 || !strings.Contains(d.Message, "taskStatus_0") {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
	})
	t.Run("parameters are sorted before the underscore becomes a full stop", func(t *testing.T) {
		p := get.params("n_0", "a", "nA", "b")
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(p)) {
			pairs = append(pairs, strings.ReplaceAll(name, "_", ".")+"="+p[name])
		}
		p["Signature"] = get.sign("GET127.0.0.1"+crsapitest.Path+"?"+strings.Join(pairs, "&"), p["SignatureMethod"])
		if d := get.do(get.raw(t, encode(p))).documented(t); d.Code != 4000 || !strings.Contains(d.Message, "nA") {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
	})
	t.Run("GET signs a value that begins with @", func(t *testing.T) {
		if d := get.ask(t, "redisName", "@me").documented(t); d.Code != 0 {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
	})
	t.Run("POST signs no value that begins with @", func(t *testing.T) {
		p := post.params()
		p["Signature"] = post.signature(p)
		p["redisName"] = "@me"
		if d := post.do(post.raw(t, encode(p))).documented(t); d.Code != 0 {
			t.Errorf("code %d %s", d.Code, d.Message)
		}
	})
}

// An error must not contain secrets of the request.
func TestErrorsContainNoSecrets(t *testing.T) {
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
				t.Fatalf("%q accepted", pairs)
			}
			for _, secret := range []string{a.id, a.key, "canary", p["Signature"]} {
				if strings.Contains(string(res.body), secret) {
					t.Errorf("%q: %s in %s", pairs, secret, res.body)
				}
			}
		}
	}
}
