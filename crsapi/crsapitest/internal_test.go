package crsapitest

import (
	"encoding/json"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// The documents' own pair, long published with the vectors.
const (
	docsID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	docsKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
)

func TestSignatureVectors(t *testing.T) {
	d2 := "Action=DescribeInstances&InstanceIds.0=ins-09dx96dg&Nonce=11886&Region=ap-guangzhou&SecretId=" + docsID +
		"&SignatureMethod=HmacSHA256&Timestamp=1465185768"
	s1 := "Action=DescribeInstances&Nonce=1290303896666895346&Region=ap-guangzhou&SecretId=secretIdFoo" +
		"&SignatureMethod=HmacSHA1&Timestamp=1512393162&Version=2017-03-12"
	g1 := "Action=GetRedisTaskList&Nonce=11886&Region=ap-guangzhou&SecretId=" + docsID +
		"&SignatureMethod=HmacSHA256&Timestamp=1465185768&beginTime=2016-12-28 00:03:52&endTime=2017-02-11 00:03:52" +
		"&limit=10&offset=0&redisId=crs-izbob1wh&redisName=for API test&taskStatus.0=2" +
		"&taskType.0=task_restoreBackup&taskType.1=task_backupInstance&taskType.2=task_cleanInstance"
	tests := []struct {
		id, key, method, host string
		params                string // as signed
		want                  string
	}{
		{
			"D1", docsKey, "GET", "cvm.api.qcloud.com",
			"Action=DescribeInstances&Nonce=345122&Region=gz&SecretId=" + docsID + "&Timestamp=1408704141",
			"HgIYOPcx5lN6gz8JsCFBNAWp2oQ=",
		},
		{"D2", docsKey, "GET", "cvm.api.qcloud.com", d2, "0EEm/HtGRr/VJXTAD9tYMth1Bzm3lLHz5RCDv1GdM8s="},
		{"D3", docsKey, "GET", "cvm.api.qcloud.com", strings.Replace(d2, "SHA256", "SHA1", 1), "nPVnY6njQmwQ8ciqbPl5Qe+Oru4="},
		{"S1", "secretKeyBar", "POST", "cvm.api.qcloud.com", s1, "p3n+pxBqF5JGZtDSxoVn5tGngf0="},
		{"S2", "secretKeyBar", "GET", "cvm.api.qcloud.com", s1, "5HAq1BOKNLEE2/uauWnp6Zv9Z3c="},
		{
			"S3", "secretKeyBar", "POST", "cvm.api.qcloud.com",
			strings.Replace(s1, "SHA1", "SHA256", 1), "B2T37FRSP6Fk0/q/cdfrTE0p3zX5ooB/2BPWZUFpsj4=",
		},
		{"G1", docsKey, "GET", "redis.api.qcloud.com", g1, "Te1WWg6K0nV83NexWUHvg4By+9Heg9w/8I8/BireGv8="},
	}
	for _, test := range tests {
		t.Run(test.id, func(t *testing.T) {
			// Over the wire in another order, and with a Signature.
			sent := "Signature=x"
			for pair := range strings.SplitSeq(test.params, "&") {
				name, value, _ := strings.Cut(pair, "=")
				sent = url.QueryEscape(name) + "=" + url.QueryEscape(value) + "&" + sent
			}
			p, refused := parseParams(sent)
			if refused != nil {
				t.Fatal(refused.message)
			}
			got := source(test.method, hostname(test.host+":80"), Path, p)
			if want := test.method + test.host + "/v2/index.php?" + test.params; got != want {
				t.Fatalf("source\n%s\nwant\n%s", got, want)
			}
			method, _ := p.get("SignatureMethod")
			if signature := sign(test.key, got, method); signature != test.want {
				t.Errorf("signature %s, want %s", signature, test.want)
			}
		})
	}
}

func TestSource(t *testing.T) {
	tests := []struct{ name, method, sent, want string }{
		{"capitals first", "GET", "b=1&B=2&a=3&A=4", "GEThost/?A=4&B=2&a=3&b=1"},
		{"array by ASCII", "GET", "n.2=a&n.10=b", "GEThost/?n.10=b&n.2=a"},
		{"underscore, sorted as sent", "GET", "n_0=a&nA=b", "GEThost/?nA=b&n.0=a"},
		{"underscore in a value", "GET", "n=a_b", "GEThost/?n=a_b"},
		{"file in GET", "GET", "a=@f&b=1", "GEThost/?a=@f&b=1"},
		{"file in POST", "POST", "a=@f&b=1", "POSThost/?b=1"},
		{"spaces and UTF-8 raw", "GET", "a=x+y%20z%E4%BD%A0", "GEThost/?a=x y z你"},
		{"signature left out, its method not", "GET", "Signature=s&SignatureMethod=m", "GEThost/?SignatureMethod=m"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, refused := parseParams(test.sent)
			if refused != nil {
				t.Fatal(refused.message)
			}
			if got := source(test.method, "host", "/", p); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestHostname(t *testing.T) {
	for host, want := range map[string]string{
		"redis.api.qcloud.com":     "redis.api.qcloud.com",
		"redis.api.qcloud.com:443": "redis.api.qcloud.com",
		"127.0.0.1:8080":           "127.0.0.1",
		"[::1]:8080":               "::1",
	} {
		if got := hostname(host); got != want {
			t.Errorf("hostname(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestNonces(t *testing.T) {
	const window = time.Minute
	start := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)
	var n nonces
	for i := range int64(1000) {
		now := start.Add(time.Duration(i) * 10 * time.Second)
		if !n.use(nonce{"a", i}, now, window) {
			t.Fatalf("nonce %d is refused at its first use", i)
		}
		if !n.use(nonce{"b", i}, now, window) {
			t.Fatalf("nonce %d is refused for another key's", i)
		}
		// What a Timestamp a window ahead allows: two windows later.
		if past := i - 12; past >= 0 && n.use(nonce{"a", past}, now, window) {
			t.Fatalf("nonce %d passes twice within two windows", past)
		}
		// 10 s apart, so that four windows hold 24 of each key.
		if held := len(n.young) + len(n.old); held > 2*24 {
			t.Fatalf("%d nonces held", held)
		}
	}
	if !n.use(nonce{"a", 999}, start.Add(24*time.Hour), window) || len(n.young)+len(n.old) != 1 {
		t.Error("nonces outlive an idle day")
	}
}

func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "a=1&b=2", "a=1&a=2", "a", "=1", "a=", "&", "a=%", "a=%zz", "a=%ff", "%ff=1",
		"taskStatus.0=2&taskStatus.1=-1", "a=1;b=2", "a=b=c", "a=+", "a_b=1", "A=\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, refused := parseParams(raw)
		values, err := url.ParseQuery(raw)
		if refused != nil {
			if !utf8.ValidString(refused.message) || len(refused.message) > 200 {
				t.Fatalf("message %q", refused.message)
			}
			return
		}
		// Strictness may only refuse, never read otherwise than net/url does,
		// but for the semicolons that net/url refuses.
		if err != nil {
			if !strings.Contains(raw, ";") {
				t.Fatalf("accepted, and yet: %v", err)
			}
			return
		}
		if len(values) != len(p) {
			t.Fatalf("%d parameters, want %d", len(p), len(values))
		}
		for i, e := range p {
			if i > 0 && p[i-1].name >= e.name {
				t.Fatalf("%q after %q", e.name, p[i-1].name)
			}
			if got, ok := p.get(e.name); !ok || got != e.value || values.Get(e.name) != e.value {
				t.Fatalf("%q = %q, want %q", e.name, got, values.Get(e.name))
			}
		}
		_, _ = parseQuery(p, time.UTC)
		_ = source("POST", "host", Path, p)
	})
}

func FuzzAppendTask(f *testing.F) {
	f.Add("crs-izbob1wh", "for API test", "0", "backupInstance", int32(2), float32(1))
	f.Add("\x00\xff\"\\", "你好\u2028</script>", "007", "", int32(-7), float32(0.5))
	f.Add("\x00", "\xff", "", "\u007f", int32(0), float32(math.Inf(1)))
	f.Fuzz(func(t *testing.T, id, name, project, taskName string, status int32, progress float32) {
		task := crsapi.Task{
			RedisID: id, RedisName: name, ProjectID: project, TaskName: taskName,
			Status: crsapi.Status(status), Progress: progress,
		}
		b := encoder{zone: time.UTC, floatProgress: status%2 == 0}.appendTask(nil, &task)
		var got struct {
			RedisID, RedisName, TaskName string
			Status                       int32
			Progress                     *float32
			ProjectID                    json.RawMessage
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v in %q", err, b)
		}
		valid := func(s string) string { return string([]rune(s)) }
		if got.RedisID != valid(id) || got.RedisName != valid(name) || got.TaskName != valid(taskName) || got.Status != status {
			t.Fatalf("%+v from %q", got, b)
		}
		if got.Progress != nil && *got.Progress != progress {
			t.Fatalf("progress %v, want %v", *got.Progress, progress)
		}
	})
}
