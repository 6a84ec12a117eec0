package crsapitest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
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

// parseAuthorization is strict: it accepts only the documented form.
func parseAuthorization(header string) (a authorization, problem string) {
	text, ok := strings.CutPrefix(header, algorithm3+" ")
	if !ok {
		return a, "must start with " + algorithm3
	}
	parts := strings.Split(text, ", ")
	var values [3]string
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		if len(parts) != len(values) {
			return a, "must have three parts, joined by a comma and a space"
		}
		if values[i], ok = strings.CutPrefix(parts[i], name); !ok {
			return a, "must have the parts Credential, SignedHeaders and Signature"
		}
	}

	scope := strings.Split(values[0], "/")
	if len(scope) != 4 || scope[0] == "" || scope[3] != scopeEnd3 {
		return a, "must have a Credential as in SecretId/date/service/" + scopeEnd3
	}
	a.secretID, a.date, a.service = scope[0], scope[1], scope[2]

	a.signed = strings.Split(values[1], ";")
	for i, name := range a.signed {
		if name == "" || name != strings.ToLower(name) || i > 0 && a.signed[i-1] >= name {
			return a, "must have SignedHeaders in lower case and sorted"
		}
	}
	if !slices.Contains(a.signed, "content-type") || !slices.Contains(a.signed, "host") {
		return a, "must have content-type and host in SignedHeaders"
	}

	a.signature = values[2]
	if raw, err := hex.DecodeString(a.signature); err != nil || len(raw) != sha256.Size || a.signature != strings.ToLower(a.signature) {
		return a, "must have a Signature of 64 hexadecimal digits in lower case"
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
