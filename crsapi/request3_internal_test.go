package crsapi

import (
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// TestAPI3RequestVectors checks signatures that were computed independently.
// Their body has no parameters, which no Query can produce.
func TestAPI3RequestVectors(t *testing.T) {
	for name, test := range map[string]struct {
		at   int64
		date string
		want string
	}{
		"R4":                  {1551113065, "2019-02-25", "72f2a742147ca44a304009368d9e43c6327f9708c6866095be83e14e5bc7f5b3"},
		"before midnight UTC": {1551139199, "2019-02-25", "76f7f6c41508ddcc4a1cdae8535af39b5aaf6fe28cb6b2fedd322f54e9d39e68"},
		"at midnight UTC":     {1551139200, "2019-02-26", "b1444dcc38aa100e2000cb13e2a3c283eb76843517c6374bcb3d02b54a7e92d8"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Half a second into it: the timestamp is rounded down.
				time.Sleep(time.Until(time.Unix(test.at, 5e8)))
				a := newProtocol(&Config{API: API30, Region: "r", UTCOffset: 8 * time.Hour},
					&url.URL{Scheme: "https", Host: "redis.tencentcloudapi.com", Path: "/"}).(*api3)
				call := a.call("DescribeTaskList", describeTaskList.format, struct{}{})
				req, signature := call.sign(t.Context(), credentials.Key{SecretID: docSecretID, SecretKey: docSecretKey})
				if signature != test.want {
					t.Errorf("signature %s, want %s", signature, test.want)
				}
				want := "TC3-HMAC-SHA256 Credential=" + docSecretID + "/" + test.date +
					"/redis/tc3_request, SignedHeaders=content-type;host, Signature=" + test.want
				if got := req.Header.Get("Authorization"); got != want {
					t.Errorf("Authorization\n%s, want\n%s", got, want)
				}
			})
		})
	}
}
