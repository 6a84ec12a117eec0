package crsapi

import (
	"maps"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// The key pair of the examples in Tencent's documents.
const (
	docSecretID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	docSecretKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
)

func TestSignVectors(t *testing.T) {
	d1 := map[string]string{
		"Action": "DescribeInstances", "Nonce": "345122", "Region": "gz",
		"SecretId": docSecretID, "Timestamp": "1408704141",
	}
	d2 := map[string]string{
		"Action": "DescribeInstances", "InstanceIds.0": "ins-09dx96dg", "Nonce": "11886",
		"Region": "ap-guangzhou", "SecretId": docSecretID, "SignatureMethod": "HmacSHA256",
		"Timestamp": "1465185768",
	}
	s1 := map[string]string{
		"Action": "DescribeInstances", "Nonce": "1290303896666895346", "Region": "ap-guangzhou",
		"SecretId": "secretIdFoo", "SignatureMethod": "HmacSHA1", "Timestamp": "1512393162",
		"Version": "2017-03-12",
	}
	g1 := map[string]string{
		"Action": "GetRedisTaskList", "Nonce": "11886", "Region": "ap-guangzhou",
		"SecretId": docSecretID, "SignatureMethod": "HmacSHA256", "Timestamp": "1465185768",
		"beginTime": "2016-12-28 00:03:52", "endTime": "2017-02-11 00:03:52",
		"limit": "10", "offset": "0", "redisId": "crs-izbob1wh", "redisName": "for API test",
		"taskStatus.0": "2", "taskType.0": "task_restoreBackup",
		"taskType.1": "task_backupInstance", "taskType.2": "task_cleanInstance",
	}
	with := func(params map[string]string, name, value string) map[string]string {
		p := maps.Clone(params)
		p[name] = value
		return p
	}
	const cvm, path = "cvm.api.qcloud.com", "/v2/index.php"
	for name, test := range map[string]struct {
		key                credentials.Secret
		method, host, want string
		params             map[string]string
	}{
		"D1 no method is SHA1":  {docSecretKey, "GET", cvm, "HgIYOPcx5lN6gz8JsCFBNAWp2oQ=", d1},
		"D2 SHA256":             {docSecretKey, "GET", cvm, "0EEm/HtGRr/VJXTAD9tYMth1Bzm3lLHz5RCDv1GdM8s=", d2},
		"D3 SHA1":               {docSecretKey, "GET", cvm, "nPVnY6njQmwQ8ciqbPl5Qe+Oru4=", with(d2, "SignatureMethod", "HmacSHA1")},
		"S1 POST":               {"secretKeyBar", "POST", cvm, "p3n+pxBqF5JGZtDSxoVn5tGngf0=", s1},
		"S2 GET":                {"secretKeyBar", "GET", cvm, "5HAq1BOKNLEE2/uauWnp6Zv9Z3c=", s1},
		"S3 POST SHA256":        {"secretKeyBar", "POST", cvm, "B2T37FRSP6Fk0/q/cdfrTE0p3zX5ooB/2BPWZUFpsj4=", with(s1, "SignatureMethod", "HmacSHA256")},
		"G1 GetRedisTaskList":   {docSecretKey, "GET", "redis.api.qcloud.com", "Te1WWg6K0nV83NexWUHvg4By+9Heg9w/8I8/BireGv8=", g1},
		"POST leaves out @file": {"secretKeyBar", "POST", cvm, "p3n+pxBqF5JGZtDSxoVn5tGngf0=", with(s1, "upload", "@file")},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sign(test.key, test.method, test.host, path, test.params); got != test.want {
				t.Errorf("got %s, want %s, of source\n%s", got, test.want,
					signatureSource(test.method, test.host, path, test.params))
			}
		})
	}
}

func TestSignatureSourceSortsAndRenames(t *testing.T) {
	got := signatureSource("GET", "h", "/p", map[string]string{
		"taskType.2": "b", "taskType.10": "a", "a_b": "x y", "Token": "t",
	})
	if want := "GETh/p?Token=t&a.b=x y&taskType.10=a&taskType.2=b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
