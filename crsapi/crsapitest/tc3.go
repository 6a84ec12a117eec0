package crsapitest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	algorithm3 = "TC3-HMAC-SHA256"
	service3   = "redis"
	scopeEnd3  = "tc3_request"
)

// authorization is the Authorization header of API 3.0.
type authorization struct {
	secretID, date, service string
	signed                  []string // names of headers
	signature               string
}

// authorizationForm is the documented form, and no other.
var authorizationForm = regexp.MustCompile(
	`^TC3-HMAC-SHA256 Credential=([^/, ]+)/([^/, ]+)/([^/, ]+)/tc3_request, SignedHeaders=([^, ]+), Signature=([0-9a-f]{64})$`)

func parseAuthorization(header string) (a authorization, problem string) {
	parts := authorizationForm.FindStringSubmatch(header)
	if parts == nil {
		return a, "must be " + algorithm3 + " Credential=SecretId/date/service/" + scopeEnd3 + ", SignedHeaders=a;b, Signature=64 hexadecimal digits"
	}
	a = authorization{parts[1], parts[2], parts[3], strings.Split(parts[4], ";"), parts[5]}
	for i, name := range a.signed {
		if name == "" || name != strings.ToLower(name) || i > 0 && a.signed[i-1] >= name {
			return a, "must have SignedHeaders in lower case and sorted"
		}
	}
	if !slices.Contains(a.signed, "content-type") || !slices.Contains(a.signed, "host") {
		return a, "must have content-type and host in SignedHeaders"
	}
	return a, ""
}

// canonical3 returns the canonical request. Each signed header must occur once.
func canonical3(r *http.Request, signed []string, body []byte) (text string, ok bool) {
	var b strings.Builder
	b.WriteString(r.Method + "\n/\n\n") // the query of a POST is empty
	for _, name := range signed {
		values := r.Header.Values(name)
		if name == "host" {
			values = []string{r.Host}
		}
		if len(values) != 1 {
			return "", false
		}
		b.WriteString(name + ":" + strings.ToLower(strings.TrimSpace(values[0])) + "\n")
	}
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + hexSHA256(body))
	return b.String(), true
}

// source3 returns the text that is signed.
func source3(canonical, timestamp, date, service string) string {
	return algorithm3 + "\n" + timestamp + "\n" + date + "/" + service + "/" + scopeEnd3 + "\n" + hexSHA256([]byte(canonical))
}

func sign3(key, date, service, source string) string {
	derived := hmacSHA256([]byte("TC3"+key), date)
	derived = hmacSHA256(derived, service)
	derived = hmacSHA256(derived, scopeEnd3)
	return hex.EncodeToString(hmacSHA256(derived, source))
}

func hmacSHA256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// date3 returns the date in the scope of a signature: that of the timestamp, in
// UTC.
func date3(timestamp int64) string { return time.Unix(timestamp, 0).UTC().Format(time.DateOnly) }
