package tc3_test

import (
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
)

// TestSign has the two signatures that Tencent publishes, and one at midnight UTC that was
// computed independently.
func TestSign(t *testing.T) {
	const id = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	published := tc3.Request{
		Service: "cvm", Host: "cvm.tencentcloudapi.com", ContentType: "application/json; charset=utf-8",
		Payload: []byte(`{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}`),
		Time:    time.Unix(1551113065, 0),
	}
	withAction := published
	withAction.Action = "DescribeInstances"
	midnight := tc3.Request{
		Service: "redis", Host: "redis.tencentcloudapi.com", ContentType: "application/json",
		Payload: []byte("{}"), Time: time.Unix(1551139200, 0).In(time.FixedZone("", -8*60*60)),
	}
	for _, test := range []struct {
		request                        tc3.Request
		key, scope, headers, signature string
	}{
		{published, "Gu5t9xGARNpq86cd98joQYCN3*******", "2019-02-25/cvm", "content-type;host", "2230eefd229f582d8b1b891af7107b91597240707d778ab3738f756258d7652c"},
		{withAction, strings.Repeat("*", 32), "2019-02-25/cvm", "content-type;host;x-tc-action", "10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f"},
		{midnight, "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA", "2019-02-26/redis", "content-type;host", "b1444dcc38aa100e2000cb13e2a3c283eb76843517c6374bcb3d02b54a7e92d8"},
	} {
		header, signature := tc3.Sign(test.request, id, test.key)
		want := "TC3-HMAC-SHA256 Credential=" + id + "/" + test.scope + "/tc3_request, SignedHeaders=" + test.headers + ", Signature=" + test.signature
		if header != want || signature != test.signature {
			t.Errorf("got  %s, %s\nwant %s", header, signature, want)
		}
	}
}
