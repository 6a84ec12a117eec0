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

// request returns a new signed request, and its signature for redaction. Every attempt
// has its own timestamp, nonce and signature. net/http must not send it twice: the
// signature would be old, and Config.Observe not called. It does not, as it cannot
// rewind this body.
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

// signAPI3 sets the headers of API 3.0, and returns the body.
//
// Source: "Common Params" and "Signature Method v3" of Tencent Cloud API 3.0.
func (c *Client) signAPI3(req *http.Request, action string, params map[string]any, key credentials.Key) (body []byte, signature string) {
	const contentType = "application/json"
	body, _ = json.Marshal(params) // no number or string fails
	now := time.Now()
	authorization, signature := tc3.Sign(tc3.Request{
		Service: "redis", Host: req.Host, ContentType: contentType, Payload: body, Time: now,
	}, key.SecretID, string(key.SecretKey))
	for name, value := range map[string]string{
		"Content-Type": contentType, "Authorization": authorization,
		"X-TC-Action": action, "X-TC-Version": "2018-04-12", "X-TC-Timestamp": strconv.FormatInt(now.Unix(), 10),
		"X-TC-Region": LongRegion(c.cfg.Region), "X-TC-Token": string(key.Token),
		"X-TC-Language": "en-US", // of the error messages
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	return body, signature
}

// signAPI2 sets the parameters of API 2.0, in the URL or in the body. Arrays have a
// parameter for each element.
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

// signedText returns the text that API 2.0 signs. The host has no port.
func signedText(method, host, path string, params map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		// In a POST request, such a value means an uploaded file, which is not signed.
		if value := params[name]; method != http.MethodPost || !strings.HasPrefix(value, "@") {
			pairs = append(pairs, name+"="+value)
		}
	}
	return method + host + path + "?" + strings.Join(pairs, "&")
}
