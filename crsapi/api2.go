package crsapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

// api2 is GetRedisTaskList of API 2.0.
//
// Source: "GetRedisTaskList" and the common parameters of Tencent Cloud API 2.0.
type api2 struct {
	method    string
	endpoint  *url.URL
	userAgent string
	region    string
	zone      *time.Location
}

var format2 = &format{
	total: "totalCount",
	tasks: "redisTaskSet",
	members: map[string]member{
		"redisId":   memberRedisID,
		"taskName":  memberTaskName,
		"redisName": memberRedisName,
		"projectId": memberProjectID,
		"startTime": memberStartTime,
		"status":    memberStatus,
		"progress":  memberProgress,
	},
}

func (a *api2) list(q Query) call {
	return call{
		action: "GetRedisTaskList",
		format: format2,
		sign: func(ctx context.Context, key credentials.Key) (*http.Request, string) {
			return a.request(ctx, "GetRedisTaskList", a.params(q), key)
		},
	}
}

// params returns the parameters of the action. The document lists redisId
// twice: the second is a misprint of redisName, as its example shows.
func (a *api2) params(q Query) map[string]string {
	p := map[string]string{
		"limit":  strconv.Itoa(q.Limit),
		"offset": strconv.Itoa(q.Offset),
	}
	if q.RedisID != "" {
		p["redisId"] = q.RedisID
	}
	if q.RedisName != "" {
		p["redisName"] = q.RedisName
	}
	if !q.BeginTime.IsZero() {
		p["beginTime"] = q.BeginTime.In(a.zone).Format(timeLayout)
	}
	if !q.EndTime.IsZero() {
		p["endTime"] = q.EndTime.In(a.zone).Format(timeLayout)
	}
	for i, s := range q.Statuses {
		p["taskStatus."+strconv.Itoa(i)] = strconv.Itoa(int(s))
	}
	for i, t := range q.TaskTypes {
		p["taskType."+strconv.Itoa(i)] = t
	}
	return p
}

// request returns a request with all parameters, and its signature.
func (a *api2) request(ctx context.Context, action string, params map[string]string, key credentials.Key) (*http.Request, string) {
	maps.Copy(params, map[string]string{
		"Action":          action,
		"Region":          a.region,
		"Timestamp":       strconv.FormatInt(time.Now().Unix(), 10),
		"Nonce":           strconv.FormatInt(1+rand.Int64N(math.MaxInt64), 10),
		"SecretId":        key.SecretID,
		"SignatureMethod": signatureMethod,
	})
	if key.Token != "" {
		params["Token"] = string(key.Token)
	}
	signature := sign(key.SecretKey, a.method, a.endpoint.Hostname(), a.endpoint.Path, params)
	form := make(url.Values, len(params)+1)
	for name, value := range params {
		form.Set(name, value)
	}
	form.Set("Signature", signature)

	header := newHeader(a.userAgent)
	if a.method == http.MethodPost {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		return newRequest(ctx, a.method, a.endpoint, header, []byte(form.Encode())), signature
	}
	req := newRequest(ctx, a.method, a.endpoint, header, nil)
	req.URL.RawQuery = form.Encode()
	return req, signature
}

const signatureMethod = "HmacSHA256"

// sign returns the parameter Signature of API 2.0: the HMAC of the method, host,
// path and all other parameters with the secret key. Host must not contain a
// port. The algorithm is HMAC-SHA256 if params say so in SignatureMethod, and
// HMAC-SHA1 otherwise.
//
// Source: "Signature" among the common parameters of Tencent Cloud API 2.0.
func sign(key credentials.Secret, method, host, path string, params map[string]string) string {
	algorithm := sha1.New
	if params["SignatureMethod"] == signatureMethod {
		algorithm = sha256.New
	}
	mac := hmac.New(algorithm, []byte(key))
	mac.Write([]byte(signatureSource(method, host, path, params)))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func signatureSource(method, host, path string, params map[string]string) string {
	var b strings.Builder
	b.WriteString(method)
	b.WriteString(host)
	b.WriteString(path)
	separator := byte('?')
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := params[name]
		// Servers leave such values out of the signature of a POST request: they
		// stand for uploaded files.
		if method == http.MethodPost && strings.HasPrefix(value, "@") {
			continue
		}
		b.WriteByte(separator)
		b.WriteString(strings.ReplaceAll(name, "_", "."))
		b.WriteByte('=')
		b.WriteString(value)
		separator = '&'
	}
	return b.String()
}
