package tc3_test

import (
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
)

// The key pair of the examples in Tencent's documents.
const (
	docSecretID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	docSecretKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
)

// TestVectors checks two signatures that Tencent publishes (T1, T2), and
// signatures for the redis service that were computed independently.
func TestVectors(t *testing.T) {
	const (
		plain   = "application/json"
		charset = "application/json; charset=utf-8"
	)
	beijing := time.FixedZone("", 8*60*60)
	cvm := tc3.Request{
		Service: "cvm", Host: "cvm.tencentcloudapi.com", ContentType: charset,
		Payload: []byte(`{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}`),
		Time:    time.Unix(1551113065, 0),
	}
	cvmAction := cvm
	cvmAction.Action = "DescribeInstances"
	redis := func(contentType, action, payload string, at int64) tc3.Request {
		return tc3.Request{
			Service: "redis", Host: "redis.tencentcloudapi.com", ContentType: contentType,
			Action: action, Payload: []byte(payload), Time: time.Unix(at, 0).In(beijing),
		}
	}
	const filtered = `{"InstanceId":"crs-opcazbrb","Limit":100,"Offset":200,"TaskTypes":["012","017"],"BeginTime":"2026-11-01 00:00:00","EndTime":"2026-11-24 00:00:00","Result":[0,1,2,4]}`
	for name, test := range map[string]struct {
		request   tc3.Request
		key       string
		signature string
	}{
		"T1":                  {cvm, "Gu5t9xGARNpq86cd98joQYCN3*******", "2230eefd229f582d8b1b891af7107b91597240707d778ab3738f756258d7652c"},
		"T2":                  {cvmAction, strings.Repeat("*", 32), "10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f"},
		"R1":                  {redis(plain, "", `{"Limit":100,"Offset":0}`, 1551113065), docSecretKey, "d2ab5e4fe5e870d07b925ad4725caa1db176115756f4bb591b2c1bb8e805731b"},
		"R2":                  {redis(plain, "DescribeTaskList", `{"Limit":100,"Offset":0}`, 1551113065), docSecretKey, "3e8ad6d30b32075b9c406cbc81a8bc944c4b5d3d1543de2444d271eabeb7c062"},
		"R3":                  {redis(charset, "", filtered, 1551113065), docSecretKey, "45ed1a6e4a6443fe29cb735a7832145b706e8f390db7e04c4daed1a23a2f8885"},
		"R4":                  {redis(plain, "", `{}`, 1551113065), docSecretKey, "72f2a742147ca44a304009368d9e43c6327f9708c6866095be83e14e5bc7f5b3"},
		"before midnight UTC": {redis(plain, "", `{}`, 1551139199), docSecretKey, "76f7f6c41508ddcc4a1cdae8535af39b5aaf6fe28cb6b2fedd322f54e9d39e68"},
		"at midnight UTC":     {redis(plain, "", `{}`, 1551139200), docSecretKey, "b1444dcc38aa100e2000cb13e2a3c283eb76843517c6374bcb3d02b54a7e92d8"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := tc3.Sign(test.request, docSecretID, test.key); got != test.signature {
				t.Errorf("signature %s, want %s", got, test.signature)
			}
		})
	}
}

func TestAuthorization(t *testing.T) {
	const want = "TC3-HMAC-SHA256 Credential=" + docSecretID + "/2019-02-26/redis/tc3_request, SignedHeaders="
	for action, headers := range map[string]string{
		"":                 "content-type;host",
		"DescribeTaskList": "content-type;host;x-tc-action",
	} {
		r := tc3.Request{
			Service: "redis", Host: "redis.tencentcloudapi.com", ContentType: "application/json",
			Action: action, Payload: []byte("{}"), Time: time.Unix(1551139200, 0),
		}
		header, signature := tc3.Sign(r, docSecretID, docSecretKey)
		if want := want + headers + ", Signature=" + signature; header != want {
			t.Errorf("got  %s\nwant %s", header, want)
		}
	}
}
