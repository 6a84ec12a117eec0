package crsapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
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

// timeLayout is the format of times in requests and responses. They carry no
// time zone.
const timeLayout = "2006-01-02 15:04:05"

// Query holds the input parameters of GetRedisTaskList. The zero value asks for
// all tasks. Fields that are set must all match.
type Query struct {
	// Limit is the number of tasks per page; 0 means Config.PageSize. Offset is
	// the number of tasks to skip. It should be a multiple of Limit.
	Limit, Offset int

	RedisID   string // instance ID, such as crs-izbob1wh
	RedisName string // name of the instance

	// BeginTime and EndTime limit the submission time of tasks. Both are
	// included, with a resolution of one second. The zero time means no limit.
	BeginTime, EndTime time.Time

	Statuses  []Status
	TaskTypes []string // values of TaskTypes()
}

func (q Query) validate() error {
	switch {
	case q.Limit < 1:
		return errors.New("Limit must not be negative")
	case q.Offset < 0:
		return errors.New("Offset must not be negative")
	}
	for _, t := range q.TaskTypes {
		if !slices.Contains(TaskTypes(), t) {
			return fmt.Errorf("unknown task type %q", t)
		}
	}
	return nil
}

// params returns the parameters of the action. The document lists redisId
// twice: the second is a misprint of redisName, as its example shows.
func (q Query) params(zone *time.Location) map[string]string {
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
		p["beginTime"] = q.BeginTime.In(zone).Format(timeLayout)
	}
	if !q.EndTime.IsZero() {
		p["endTime"] = q.EndTime.In(zone).Format(timeLayout)
	}
	for i, s := range q.Statuses {
		p["taskStatus."+strconv.Itoa(i)] = strconv.Itoa(int(s))
	}
	for i, t := range q.TaskTypes {
		p["taskType."+strconv.Itoa(i)] = t
	}
	return p
}

// request returns a signed request and its signature.
//
// Source: the common parameters of Tencent Cloud API 2.0.
func (c *Client) request(ctx context.Context, q Query, key credentials.Key) (*http.Request, string) {
	params := q.params(c.zone)
	maps.Copy(params, map[string]string{
		"Action":          action,
		"Region":          c.cfg.Region,
		"Timestamp":       strconv.FormatInt(time.Now().Unix(), 10),
		"Nonce":           strconv.FormatInt(1+rand.Int64N(math.MaxInt64), 10),
		"SecretId":        key.SecretID,
		"SignatureMethod": signatureMethod,
	})
	if key.Token != "" {
		params["Token"] = string(key.Token)
	}
	signature := sign(key.SecretKey, c.cfg.Method, c.endpoint.Hostname(), c.endpoint.Path, params)
	form := make(url.Values, len(params)+1)
	for name, value := range params {
		form.Set(name, value)
	}
	form.Set("Signature", signature)

	target := *c.endpoint
	req := (&http.Request{
		Method: c.cfg.Method,
		URL:    &target,
		Host:   c.endpoint.Host,
		Header: http.Header{},
	}).WithContext(ctx)
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	if c.cfg.Method == http.MethodPost {
		body := form.Encode()
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Body = io.NopCloser(strings.NewReader(body))
		req.ContentLength = int64(len(body))
	} else {
		target.RawQuery = form.Encode()
		// If a kept connection is dead, net/http sends a GET request without a
		// body again by itself: with the same nonce, and unseen by Observe. It
		// does not repeat a request whose body it cannot rewind.
		req.Body = io.NopCloser(strings.NewReader(""))
	}
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
