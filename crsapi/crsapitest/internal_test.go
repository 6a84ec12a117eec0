package crsapitest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestNonces(t *testing.T) {
	const window = time.Minute
	start := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)
	var n nonces
	for i := range int64(1000) {
		now := start.Add(time.Duration(i) * 10 * time.Second)
		if !n.use(nonce{"a", i}, now, window) {
			t.Fatalf("nonce %d is rejected at its first use", i)
		}
		if !n.use(nonce{"b", i}, now, window) {
			t.Fatalf("nonce %d is rejected because another key used it", i)
		}
		// With a Timestamp one window ahead, a Nonce is valid for two windows.
		if past := i - 12; past >= 0 && n.use(nonce{"a", past}, now, window) {
			t.Fatalf("nonce %d is accepted twice within two windows", past)
		}
		// One Nonce per key each 10 s: 24 per key in four windows.
		if held := len(n.young) + len(n.old); held > 2*24 {
			t.Fatalf("%d nonces stored", held)
		}
	}
	if !n.use(nonce{"a", 999}, start.Add(24*time.Hour), window) || len(n.young)+len(n.old) != 1 {
		t.Error("nonces are still stored after a day without requests")
	}
}

func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "a=1&b=2", "a=1&a=2", "a", "=1", "a=", "&", "a=%", "a=%zz", "a=%ff", "%ff=1",
		"taskStatus.0=2&taskStatus.1=-1", "a=1;b=2", "a=b=c", "a=+", "a_b=1", "A=\x00", "a=@f",
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
		// parseParams may reject more than net/url, but what it accepts must
		// have the same meaning. net/url rejects semicolons; parseParams accepts
		// them.
		if err != nil {
			if !strings.Contains(raw, ";") {
				t.Fatalf("accepted, but net/url returns %v", err)
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
		_ = source("POST", "h", Path, p)
	})
}

// The vectors that the documents print are for another service, so no request
// can show them.
func TestDocumentVectors3(t *testing.T) {
	const body = `{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}`
	if got := hexSHA256([]byte(body)); got != "35e9c5b0e3ae67532d3c9f17ead6c90222632e5b1ff7f6e89887f1398934f064" {
		t.Fatalf("body %s", got)
	}
	for _, test := range []struct {
		id, key             string
		signed              []string
		canonical, expected string
	}{
		{
			"T1", "Gu5t9xGARNpq86cd98joQYCN3*******",
			[]string{"content-type", "host"},
			"5ffe6a04c0664d6b969fab9a13bdab201d63ee709638e2749d62a09ca18d7031",
			"2230eefd229f582d8b1b891af7107b91597240707d778ab3738f756258d7652c",
		},
		{
			"T2", strings.Repeat("*", 32),
			[]string{"content-type", "host", "x-tc-action"},
			"7019a55be8395899b900fb5564e4200d984910f34794a27cb3fb7d10ff6a1e84",
			"10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f",
		},
	} {
		r, err := http.NewRequest(http.MethodPost, "https://cvm.tencentcloudapi.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		r.Header.Set("X-TC-Action", "DescribeInstances")
		canonical, ok := canonical3(r, test.signed, []byte(body))
		if !ok || hexSHA256([]byte(canonical)) != test.canonical {
			t.Errorf("%s: canonical request %q", test.id, canonical)
		}
		const timestamp = 1551113065
		if got := sign3(test.key, date3(timestamp), "cvm", source3(canonical, strconv.Itoa(timestamp), date3(timestamp), "cvm")); got != test.expected {
			t.Errorf("%s: signature %s", test.id, got)
		}
	}
}

// parseBody3 may reject more than encoding/json, but what it accepts must have
// the same meaning, and the checks must not panic.
func FuzzParseBody3(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "[]", "null", `{"Limit":1}`, `{"Limit":1,"Limit":2}`, `{"Result":[0,4],"TaskTypes":["012"]}`, `{"TaskStatus":-1}`,
		`{"InstanceId":"\ud800"}`, "{\"a\":\"\xff\"}", `{"TaskId":1} x`, `{"Limit":1`, `{"BeginTime":"2021-12-30 00:00:00"}`, `{"":{}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		p, refused := parseBody3([]byte(body))
		if refused != nil {
			if !utf8.ValidString(refused.message) || len(refused.message) > 200 {
				t.Fatalf("message %q", refused.message)
			}
			return
		}
		var values map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &values); err != nil || len(values) != len(p) {
			t.Fatalf("%d fields, want %d, error %v", len(p), len(values), err)
		}
		for _, e := range p {
			if e.value != string(values[e.name]) {
				t.Fatalf("%q = %q, want %q", e.name, e.value, values[e.name])
			}
			_ = plainValue(e.value)
		}
		for _, action := range []string{"DescribeTaskList", "DescribeTaskInfo", "GetRedisTaskList"} {
			_, refused := dialectOf(action).parseQuery(p, time.UTC, true)
			if refused != nil && !utf8.ValidString(refused.message) {
				t.Fatalf("message %q", refused.message)
			}
		}
	})
}

func TestFlows(t *testing.T) {
	seen := make(map[string]bool)
	public, private := 0, 0
	for code, f := range flows {
		for _, name := range []string{f.constant, f.name} {
			if name == "" {
				continue
			}
			if seen[name] {
				t.Errorf("%s occurs twice", name)
			}
			seen[name] = true
			if taskType(name) != codeTexts[code] {
				t.Errorf("%s has the code %s, want %d", name, taskType(name), code)
			}
		}
		if f.constant != "" {
			public++
		}
		if f.name != "" {
			private++
		}
	}
	if public != 56 || private != 12 {
		t.Errorf("%d task types of the public cloud, %d of API 2.0", public, private)
	}
}
