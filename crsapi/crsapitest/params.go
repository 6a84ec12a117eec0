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

// maxParams is the size limit of the query string and of the form body, in
// bytes. The longest documented request needs less than a tenth of it.
const maxParams = 64 << 10

// param is one parameter, decoded.
type param struct{ name, value string }

// params are the parameters of a request, sorted by name in ASCII order. Names
// are unique.
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

// rawParams returns the encoded parameters: the query string of a GET, the form
// body of a POST. If status is not 0, the gateway responds with it.
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

// parseParams is stricter than url.ParseQuery: it skips nothing, each name must
// be unique, and each parameter must have a name and a value.
func parseParams(raw string) (params, *refusal) {
	if raw == "" {
		return nil, nil
	}
	p := make(params, 0, 16)
	for pair := range strings.SplitSeq(raw, "&") {
		rawName, rawValue, ok := strings.Cut(pair, "=")
		if !ok || rawName == "" {
			return nil, invalidCommon("parameters", "must be name=value pairs, joined by &")
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
			return nil, invalidCommon(p[i].name, "occurs more than once")
		}
	}
	return p, nil
}

// hostname returns the part of a Host header that is signed: all but the port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}
