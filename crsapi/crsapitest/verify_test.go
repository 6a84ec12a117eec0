package crsapitest_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// The key pair of the documents.
const (
	documentID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	documentKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
)

// at runs a test in a bubble whose clock shows a time.
func at(t *testing.T, timestamp int64, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(timestamp, 0)))
		test(t)
	})
}

// TestSignature2 sends the request of the document of API 2.0 with its signature.
func TestSignature2(t *testing.T) {
	at(t, 1465185768, func(t *testing.T) {
		srv, c := simulate(t, "2.0")
		srv.SetAccount(crsapitest.Account{SecretID: documentID, SecretKey: documentKey})
		p := c.params("Nonce", "11886", "SecretId", documentID, "limit", "10",
			"beginTime", "2016-12-28 00:03:52", "endTime", "2017-02-11 00:03:52",
			"redisId", "crs-izbob1wh", "redisName", "for API test", "taskStatus.0", "2",
			"taskType.0", "task_restoreBackup", "taskType.1", "task_backupInstance", "taskType.2", "task_cleanInstance",
			"Signature", "Te1WWg6K0nV83NexWUHvg4By+9Heg9w/8I8/BireGv8=")
		if e := c.do(c.raw(p.Encode())).result(t); e.code != "" {
			t.Errorf("%+v", e)
		}
	})
}

// TestSignatures3 sends requests of API 3.0 with known signatures.
func TestSignatures3(t *testing.T) {
	for _, test := range []struct {
		timestamp               int64
		date, signed, signature string
	}{
		{
			1551113065, "2019-02-25", "content-type;host;x-tc-action;x-tc-language;x-tc-region;x-tc-timestamp;x-tc-version",
			"197c9ef92a1c95f937cdd29e6a8693490625cb030012a94f27213e03dece520f",
		},
		{1551139199, "2019-02-25", "content-type;host", "76f7f6c41508ddcc4a1cdae8535af39b5aaf6fe28cb6b2fedd322f54e9d39e68"},
		{1551139200, "2019-02-26", "content-type;host", "b1444dcc38aa100e2000cb13e2a3c283eb76843517c6374bcb3d02b54a7e92d8"},
	} {
		at(t, test.timestamp, func(t *testing.T) {
			srv, c := simulate(t, "3.0")
			srv.SetAccount(crsapitest.Account{SecretID: documentID, SecretKey: documentKey})
			for body, want := range map[string]string{"{}": "", "{ }": "AuthFailure.SignatureFailure"} {
				r := c.request3(body, "X-TC-Language", " zh-CN")
				r.Header.Set("Authorization", "TC3-HMAC-SHA256 Credential="+documentID+"/"+test.date+"/redis/tc3_request, SignedHeaders="+test.signed+", Signature="+test.signature)
				if got := c.do(r).result(t).code; got != want {
					t.Errorf("%s: %q, want %q", test.signed, got, want)
				}
			}
		})
	}
}

// TestKeysAndTimes: each API refuses keys, tokens and times that are wrong. A refused
// request reaches no fault.
func TestKeysAndTimes(t *testing.T) {
	const id, key = "AKIDtemporary", "key-of-test"
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }
	for name, test := range map[string]struct {
		change       func(c *client)
		timestamp    string
		want2, want3 string
	}{
		"wrong key":            {change: func(c *client) { c.key = "wrong-key-of-test" }, want2: "4100", want3: "AuthFailure.SignatureFailure"},
		"unknown key":          {change: func(c *client) { c.id = "AKIDnobody" }, want2: "4104", want3: "AuthFailure.SecretIdNotFound"},
		"token":                {change: func(c *client) { c.id, c.key, c.token = id, key, "t" }},
		"no token":             {change: func(c *client) { c.id, c.key = id, key }, want2: "4105", want3: "AuthFailure.TokenFailure"},
		"wrong token":          {change: func(c *client) { c.id, c.key, c.token = id, key, "u" }, want2: "4105", want3: "AuthFailure.TokenFailure"},
		"unknown region":       {change: func(c *client) { c.region = "ap-nowhere" }, want2: "4000", want3: "UnsupportedRegion"},
		"old enough":           {timestamp: ago(4*time.Minute + 50*time.Second)},
		"too old":              {timestamp: ago(5*time.Minute + 10*time.Second), want2: "4200", want3: "AuthFailure.SignatureExpire"},
		"ahead, in the window": {timestamp: ago(-4*time.Minute - 50*time.Second)},
		"too far ahead":        {timestamp: ago(-5*time.Minute - 10*time.Second), want2: "4500", want3: "AuthFailure.SignatureExpire"},
		"milliseconds":         {timestamp: "1465185768000", want2: "4000", want3: "InvalidParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			eachAPI(t, func(t *testing.T, srv *crsapitest.Server, c *client) {
				srv.SetAccount(crsapitest.Account{SecretID: id, SecretKey: key, Token: "t"})
				c.timestamp = test.timestamp
				if test.change != nil {
					test.change(c)
				}
				want := test.want3
				if c.api == "2.0" {
					want = test.want2
				}
				if e := c.send(t, query{}); e.code != want || strings.Contains(e.message, c.key) {
					t.Errorf("%+v, want %q", e, want)
				}
				srv.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(502)})
				if res := c.do(c.request(query{})); (res.StatusCode == 502) != (want == "") {
					t.Errorf("status %d with a fault", res.StatusCode)
				}
			})
		})
	}
}

// TestNonces: API 2.0 refuses a Nonce that it has seen, as long as its Timestamp may
// be valid.
func TestNonces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := simulate(t, "2.0")
		srv.SetAccount(crsapitest.Account{SecretID: "AKIDother", SecretKey: "k"})
		for _, step := range []struct {
			wait    time.Duration
			ahead   time.Duration // of the Timestamp
			id, key string
			want    string
		}{
			{0, 5 * time.Minute, c.id, "wrong", "4100"}, // stores no Nonce
			{0, 5 * time.Minute, c.id, c.key, ""},
			{0, 0, c.id, c.key, "4500"},
			{0, 0, "AKIDother", "k", ""},
			{5 * time.Minute, 0, "AKIDother", "k", "4500"},
			{5 * time.Minute, 0, c.id, c.key, "4500"}, // the first one is valid until now
			{time.Hour, 0, c.id, c.key, ""},
		} {
			time.Sleep(step.wait)
			c.id, c.key = step.id, step.key
			c.timestamp = strconv.FormatInt(time.Now().Add(step.ahead).Unix(), 10)
			if e := c.do(c.request2("Nonce", "7")).result(t); e.code != step.want {
				t.Errorf("%+v: %+v", step, e)
			}
		}
	})
}

// TestParameters2 sends API 2.0 parameters that it must accept or refuse. The message
// names the last one.
func TestParameters2(t *testing.T) {
	for code, requests := range map[string][]string{
		"": {
			"limit=100", "SignatureMethod=HmacSHA1", "SignatureMethod=-", "SignatureMethod=HmacMD5", // the last three mean SHA1
			"Nonce=9223372036854775807", "limit=2147483647", "redisId=crs-1&redisName=x_y 你 @",
			"beginTime=2016-12-28 00:03:52&endTime=2016-12-28 00:03:52",
			"taskStatus.0=-1&taskStatus.1=0&taskStatus.2=1&taskStatus.3=2&taskStatus.4=3&taskStatus.5=3&taskStatus.6=3&taskStatus.7=3&taskStatus.8=3&taskStatus.9=3&taskStatus.10=3",
			"taskType.0=task_importRdb&taskType.1=task_exportBackup&taskType.2=task_restoreBackup&taskType.3=task_restoreStream",
			"taskType.0=task_backupInstance&taskType.1=task_cleanInstance&taskType.2=task_resizeInstance",
		},
		"6100": {"Action=DescribeRedis"},
		"4100": {"taskStatus_0=2"}, // signed as taskStatus.0
		"4000": {
			"Action=-", "Region=-", "SecretId=-", "Timestamp=-", "Nonce=-", "Nonce=0", "Nonce=-1", "Nonce=+1", "Nonce=0x1", "Nonce=9223372036854775808",
			"Version=2017-03-12", "redisID=crs-1", "redisId=", "zone=z&Zone=z",
			"limit=-", "limit=0", "limit=-1", "limit=ten", "limit=010", "limit=2147483648", "offset=-", "offset=-1", "offset=1.0",
			"beginTime=2017-02-08T16:46:34Z", "beginTime=2017-02-08 16:46:34.5", "endTime=2017-02-08 6:46:34", "endTime=2017-02-30 16:46:34",
			"beginTime=2017-02-11 00:00:00&endTime=2017-02-10 00:00:00",
			"taskStatus=2", "taskStatus.1=2", "taskStatus.00=2", "taskStatus.0=4", "taskStatus.0=-2", "taskStatus.0=failed",
			"taskType.0=task_importRdb&taskType.2=task_importRdb", "taskType.0=backupInstance", "taskType.0=task_newInstance",
		},
	} {
		for _, request := range requests {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				_, c := simulate(t, "2.0")
				c.method = method
				pairs := strings.Split(strings.ReplaceAll(request, "&", "="), "=")
				name := pairs[len(pairs)-2]
				e := c.do(c.request2(pairs...)).result(t)
				desc := map[string]string{"": "Success", "4000": "InvalidParameter", "4100": "AuthFailure"}[code]
				if e.code != code || e.desc != desc || code == "4000" && !strings.Contains(e.message, name) {
					t.Errorf("%s %s: %+v, want %s %q", method, request, e, code, desc)
				}
			}
		}
	}
}

// TestEncoding2 sends API 2.0 requests that are not encoded or signed as documented.
func TestEncoding2(t *testing.T) {
	for name, test := range map[string]struct {
		add   string // to the encoded parameters
		alter func(r *http.Request)
		want  string // the code, or the HTTP status
		in    string // the message
	}{
		"repeated":            {add: "&limit=100", want: "4000", in: "limit occurs more than once"},
		"no value":            {add: "&redisId", want: "4000", in: "redisId is empty"},
		"empty pair":          {add: "&", want: "4000", in: "name=value"},
		"bad escape":          {add: "&redisId=%zz", want: "4000", in: "URL-encoded"},
		"not UTF-8":           {add: "&redisId=%ff", want: "4000", in: "UTF-8"},
		"added after signing": {add: "&redisId=crs-1", want: "4100", in: "signature"},
		"other Host":          {alter: func(r *http.Request) { r.Host = "localhost" }, want: "4100", in: "signature"},
		"Host with a port":    {alter: func(r *http.Request) { r.Host += ":8443" }},
		"other path":          {alter: func(r *http.Request) { r.URL.Path = "/v2/" }, want: "404"},
		"other method":        {alter: func(r *http.Request) { r.Method = http.MethodPut }, want: "405"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			_, c := simulate(t, "2.0")
			c.method = method
			p := c.params("redisName", "a b")
			p.Set("Signature", c.signature(p))
			r := c.raw(strings.ReplaceAll(p.Encode(), "+", "%20") + test.add)
			if test.alter != nil {
				test.alter(r)
			}
			res := c.do(r)
			if res.StatusCode != http.StatusOK {
				if strconv.Itoa(res.StatusCode) != test.want || !strings.HasPrefix(res.body, "<html>") {
					t.Errorf("%s %s: status %d, want %s", method, name, res.StatusCode, test.want)
				}
			} else if e := res.result(t); e.code != test.want || !strings.Contains(e.message, test.in) {
				t.Errorf("%s %s: %+v, want %s %q", method, name, e, test.want, test.in)
			}
		}
	}
	_, c := simulate(t, "2.0")
	c.method = http.MethodPost
	if res := c.do(c.raw(strings.Repeat("a", 10<<20+1))); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a body of more than 10 MB: status %d", res.StatusCode)
	}
	for kind, want := range map[string]string{
		"": "4000", "application/json": "4000", "multipart/form-data; boundary=x": "4000", "application/x-www-form-urlencoded; charset=utf-8": "",
	} {
		r := c.request2()
		r.URL.RawQuery = "limit=0" // a POST ignores it
		r.Header.Set("Content-Type", kind)
		if e := c.do(r).result(t); e.code != want {
			t.Errorf("Content-Type %q: %+v", kind, e)
		}
	}
}

// TestHeaders3 sends API 3.0 requests with headers that are wrong.
func TestHeaders3(t *testing.T) {
	today := time.Now().UTC().Format(time.DateOnly)
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	twice := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, r.Header.Get(name)) }
	}
	rewrite := func(part, other string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), part, other, 1))
		}
	}
	signed := func(names string) func(*http.Request) { return rewrite("content-type;host;x-tc-action", names) }
	const (
		malformed = "AuthFailure.InvalidAuthorization"
		signature = "AuthFailure.SignatureFailure"
		missing   = "MissingParameter"
	)
	for name, test := range map[string]struct {
		change  func(*client)
		headers []string
		alter   func(*http.Request) // after it is signed
		code    string
	}{
		"charset":               {headers: []string{"Content-Type", "Application/JSON; charset=UTF-8"}},
		"signed header changed": {alter: set("X-TC-Action", "DescribeTaskInfo"), code: signature},
		"host changed":          {alter: func(r *http.Request) { r.Host = "localhost" }, code: signature},

		"no Authorization":        {alter: set("Authorization", ""), code: malformed},
		"no SecretId":             {change: func(c *client) { c.id = "" }, code: malformed},
		"other service":           {alter: rewrite("/redis/", "/cvm/"), code: malformed},
		"other date":              {alter: rewrite(today, "2019-02-25"), code: malformed},
		"content-type not signed": {alter: signed("host"), code: malformed},
		"host not signed":         {alter: signed("content-type"), code: malformed},
		"headers not sorted":      {alter: signed("host;content-type"), code: malformed},
		"header named twice":      {alter: signed("content-type;host;host"), code: malformed},
		"header in capitals":      {alter: signed("Content-Type;content-type;host"), code: malformed},
		"signed header missing":   {alter: signed("content-type;host;x-none"), code: malformed},
		"signed header twice":     {alter: twice("Content-Type"), code: malformed},
		"signature in capitals":   {alter: set("Authorization", "TC3-HMAC-SHA256 Credential=a/"+today+"/redis/tc3_request, SignedHeaders=content-type;host, Signature="+strings.Repeat("A", 64)), code: malformed},

		"no action":       {headers: []string{"X-TC-Action", "-"}, code: missing},
		"no region":       {headers: []string{"X-TC-Region", "-"}, code: missing},
		"unknown action":  {headers: []string{"X-TC-Action", "DescribeRedis"}, code: "InvalidAction"},
		"unknown version": {headers: []string{"X-TC-Version", "2017-03-12"}, code: "NoSuchVersion"},
		"region twice":    {alter: twice("X-TC-Region"), code: "InvalidParameter"},
		"form":            {headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, code: "InvalidRequest"},
		"query":           {change: func(c *client) { c.url += "?Limit=1" }, code: "InvalidRequest"},
		"GET":             {change: func(c *client) { c.method = http.MethodGet }, code: "UnsupportedProtocol"},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := simulate(t, "3.0")
			if test.change != nil {
				test.change(c)
			}
			r := c.request3("{}", test.headers...)
			if test.alter != nil {
				test.alter(r)
			}
			if e := c.do(r).result(t); e.code != test.code {
				t.Errorf("%+v, want %s", e, test.code)
			}
		})
	}
}

// TestParameters3 sends the actions of API 3.0 all parameters that they must accept
// or refuse.
func TestParameters3(t *testing.T) {
	const list, info, instances, tce = "DescribeTaskList", "DescribeTaskInfo", "DescribeInstances", "GetRedisTaskList"
	for code, requests := range map[string]map[string][]string{ // bodies by action
		"": {
			list: {
				" {}\n", "{}" + strings.Repeat(" ", 10<<20-2),
				`{"Limit":9223372036854775807,"Offset":9223372036854775807,"InstanceId":"crs-1","InstanceName":"你"}`,
				`{"BeginTime":"2021-12-30 00:00:00","EndTime":"2021-12-30 00:00:00","TaskTypes":["001","070"],"Result":[0,1,2,4]}`,
				`{"ProjectIds":[0,-1],"TaskStatus":[0,1,2],"OperatorUin":[100],"OperateUin":["100"],"TaskTypes":[]}`,
			},
			tce: {
				`{"Limit":1,"Offset":0,"RedisId":"crs-1","RedisName":"n","BeginTime":"2021-12-30 00:00:00","TaskTypes":["001","008"],"TaskStatus":-1}`,
				`{"TaskStatus":3}`,
			},
			info: {`{"TaskId":7}`},
			instances: {
				`{}`, `{"Limit":2000,"Offset":1000,"OrderBy":"createtime","OrderType":0}`, `{"Status":[0,1,2,-2,-3]}`,
				`{"InstanceIds":["crs-1"],"ProjectIds":[0],"SearchKey":"x","TagKeys":["a"],"InstanceTags":[{"TagKey":"a","TagValue":"b"}],"Type":1}`,
			},
		},
		"InvalidParameter": {
			list: {
				``, `[]`, `{} {}`, `{"Limit":1,}`, `{"Limit":1,"Limit":1}`, "{\"InstanceId\":\"\xff\"}",
				`{"Limit":"1"}`, `{"Limit":1.0}`, `{"Limit":null}`, `{"TaskTypes":[null]}`, `{"Result":4}`,
			},
			tce:       {`{"TaskStatus":[3]}`},
			info:      {`{"TaskId":"7"}`},
			instances: {`{"Limit":"1"}`, `{"Status":2}`, `{"InstanceId":null}`},
		},
		"InvalidParameterValue": {
			list: {
				`{"Limit":0}`, `{"Offset":-1}`, `{"InstanceId":""}`, `{"InstanceName":""}`,
				`{"BeginTime":"2021-12-30T00:00:00Z"}`, `{"EndTime":"2021-02-30 00:00:00"}`,
				`{"BeginTime":"2021-12-30 00:00:01","EndTime":"2021-12-30 00:00:00"}`,
				`{"TaskTypes":["012","065"]}`, `{"TaskTypes":["071"]}`, `{"TaskTypes":["008"]}`, `{"Result":[3]}`,
			},
			tce:  {`{"TaskStatus":4}`, `{"TaskStatus":-2}`, `{"TaskTypes":["017"]}`},
			info: {`{"TaskId":0}`},
			instances: {
				`{"Limit":0}`, `{"Offset":-1}`, `{"InstanceId":""}`, `{"OrderBy":"CreateTime"}`, `{"OrderType":2}`, `{"Status":[3]}`,
			},
		},
		"UnknownParameter": {
			list: {`{"limit":1}`, `{"RedisId":"crs-1"}`},
			tce:  {`{"InstanceId":"crs-1"}`},
			info: {`{"TaskId":7,"Limit":1}`}, instances: {`{"RedisId":"crs-1"}`},
		},
		"MissingParameter":                  {info: {`{}`}},
		"RequestSizeLimitExceeded":          {list: {"{}" + strings.Repeat(" ", 10<<20-1)}},
		"InvalidParameter.InvalidParameter": {info: {`{"TaskId":8}`}},
	} {
		for action, bodies := range requests {
			for _, body := range bodies {
				srv, c := simulate(t, "3.0")
				task := tasks("a")
				task[0].TaskID = 7
				srv.SetTasks(region, task)
				c.action = action
				if e := c.do(c.request3(body)).result(t); e.code != code {
					t.Errorf("%s %.200s: %+v, want %q", action, body, e, code)
				}
			}
		}
	}
}
