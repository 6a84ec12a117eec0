package crsapi

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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
	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
)

// request returns a new signed request, and its signature so that it can be
// redacted. Every attempt needs a timestamp, a nonce and a signature of its own.
//
// net/http does not send it twice by itself: it repeats no request whose body it
// cannot rewind. A repeated request would have an old signature, and
// Config.Observe would not see it.
func (c *Client) request(ctx context.Context, action string, params map[string]any, key credentials.Key) (*http.Request, string) {
	req := (&http.Request{Method: c.cfg.Method, Host: c.endpoint.Host, Header: http.Header{}}).WithContext(ctx)
	target := *c.endpoint
	req.URL = &target
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	sign := c.signAPI3
	if c.dialect.v2 {
		sign = c.signAPI2
	}
	body, signature := sign(req, action, params, key)
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return req, signature
}

// signAPI3 is the protocol of API 3.0.
//
// Source: "Common Params" and "Signature Method v3" of Tencent Cloud API 3.0.
func (c *Client) signAPI3(req *http.Request, action string, params map[string]any, key credentials.Key) (body []byte, signature string) {
	const contentType = "application/json"
	body, _ = json.Marshal(params) // numbers and strings always have a JSON form
	now := time.Now()
	authorization, signature := tc3.Sign(tc3.Request{
		Service: "redis", Host: req.Host, ContentType: contentType, Payload: body, Time: now,
	}, key.SecretID, string(key.SecretKey))
	for name, value := range map[string]string{
		"Content-Type": contentType, "Authorization": authorization,
		"X-TC-Action": action, "X-TC-Version": "2018-04-12", "X-TC-Timestamp": strconv.FormatInt(now.Unix(), 10),
		"X-TC-Region": longRegion(c.cfg.Region), "X-TC-Token": string(key.Token),
		"X-TC-Language": "en-US", // of error messages
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	return body, signature
}

// signAPI2 is the protocol of API 2.0: arrays have a parameter for each element.
//
// Source: "Signature" among the common parameters of Tencent Cloud API 2.0.
func (c *Client) signAPI2(req *http.Request, action string, params map[string]any, key credentials.Key) (body []byte, signature string) {
	p := map[string]string{
		"Action": action, "Region": c.cfg.Region, "SecretId": key.SecretID, "SignatureMethod": "HmacSHA256",
		"Timestamp": strconv.FormatInt(time.Now().Unix(), 10),
		"Nonce":     strconv.FormatInt(1+rand.Int64N(math.MaxInt64), 10),
	}
	if key.Token != "" {
		p["Token"] = string(key.Token)
	}
	for name, value := range params {
		switch value := value.(type) {
		case []int:
			for i, n := range value {
				p[fmt.Sprintf("%s.%d", name, i)] = strconv.Itoa(n)
			}
		case []string:
			for i, s := range value {
				p[fmt.Sprintf("%s.%d", name, i)] = s
			}
		default:
			p[name] = fmt.Sprint(value)
		}
	}
	mac := hmac.New(sha256.New, []byte(key.SecretKey))
	_, _ = io.WriteString(mac, signedText(req.Method, req.URL.Hostname(), req.URL.Path, p))
	signature = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	form := url.Values{"Signature": {signature}}
	for name, value := range p {
		form.Set(name, value)
	}
	if req.Method == http.MethodGet {
		req.URL.RawQuery = form.Encode()
		return nil, signature
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return []byte(form.Encode()), signature
}

// signedText returns what API 2.0 signs: the method, host, path and all other
// parameters. Host must not contain a port.
func signedText(method, host, path string, params map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		// Servers leave such values out of the signature of a POST request: they
		// stand for uploaded files.
		if value := params[name]; method != http.MethodPost || !strings.HasPrefix(value, "@") {
			pairs = append(pairs, name+"="+value)
		}
	}
	return method + host + path + "?" + strings.Join(pairs, "&")
}
