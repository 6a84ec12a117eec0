package crsapitest

import (
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxParams bounds the query string and the form body, in bytes. The longest
// request that the document allows needs less than a tenth.
const maxParams = 64 << 10

// param is one parameter, decoded.
type param struct{ name, value string }

// params are a request's parameters, sorted by name in ASCII order, each name
// once.
type params []param

func (p params) get(name string) (value string, ok bool) {
	i, ok := slices.BinarySearchFunc(p, name, func(e param, name string) int {
		return strings.Compare(e.name, name)
	})
	if !ok {
		return "", false
	}
	return p[i].value, true
}

// rawParams returns the parameters as sent: of GET from the query string, of
// POST from the form body alone. A status other than 0 is the gateway's answer.
func rawParams(r *http.Request) (raw string, status int, refused *refusal) {
	if r.Method == http.MethodGet {
		if len(r.URL.RawQuery) > maxParams {
			return "", http.StatusRequestURITooLong, nil
		}
		return r.URL.RawQuery, 0, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return "", 0, invalidCommon("Content-Type", "of a POST must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxParams+1))
	switch {
	case err != nil:
		return "", http.StatusBadRequest, nil
	case len(body) > maxParams:
		return "", http.StatusRequestEntityTooLarge, nil
	}
	return string(body), 0, nil
}

// parseParams is stricter than url.ParseQuery: nothing is skipped, nothing may
// come twice, and every parameter has a name and a value.
func parseParams(raw string) (params, *refusal) {
	if raw == "" {
		return nil, nil
	}
	p := make(params, 0, 16)
	for pair := range strings.SplitSeq(raw, "&") {
		rawName, rawValue, ok := strings.Cut(pair, "=")
		if !ok || rawName == "" {
			return nil, invalidCommon("parameters", "must be name=value, joined by &")
		}
		name, err := url.QueryUnescape(rawName)
		if err != nil || !utf8.ValidString(name) {
			return nil, invalidCommon("a parameter's name", "is not URL-encoded UTF-8")
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil || !utf8.ValidString(value) {
			return nil, invalidCommon(name, "is not URL-encoded UTF-8")
		}
		if value == "" {
			return nil, invalidCommon(name, "is empty")
		}
		p = append(p, param{name, value})
	}
	slices.SortFunc(p, func(a, b param) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(p); i++ {
		if p[i].name == p[i-1].name {
			return nil, invalidCommon(p[i].name, "is given twice")
		}
	}
	return p, nil
}

// hostname returns the host of a Host header as it is signed: without a port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}
