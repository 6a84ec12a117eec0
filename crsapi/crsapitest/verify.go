package crsapitest

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

const (
	action = "GetRedisTaskList"

	// module is the code in the error table of GetRedisTaskList. It is part of
	// message; the code of such an error is 4000.
	module = "(11201)"

	lastTimestamp = 253402300799 // the end of the year 9999
)

// verify verifies a request of API 2.0, and sets region and query of the
// exchange. It returns the response to a request that it refuses.
func (s *Simulator) verify(x *exchange, r *http.Request) (refused render) {
	x.request.API, x.request.Action = api2, action
	if x.raw, refused = rawParams(r); refused != nil {
		return refused
	}
	p, refused := parseParams(x.raw)
	if refused != nil {
		return refused
	}
	x.source, x.signature = source(r.Method, hostname(r.Host), p), p["Signature"]
	s.setRegion(x, p["Region"])
	if refused = s.authenticate(p, x.source, x.now); refused != nil {
		return refused
	}
	if x.list == nil {
		return invalidCommon("Region", "is not a region of this service")
	}
	x.query, refused = parseQuery(p, x.zone)
	return refused
}

// rawParams returns the encoded parameters: the query string of a GET, the form
// body of a POST.
func rawParams(r *http.Request) (raw string, refused render) {
	if r.Method == http.MethodGet {
		return r.URL.RawQuery, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return "", invalidCommon("Content-Type", "of a POST must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return "", htmlPage(http.StatusBadRequest)
	}
	return string(body), nil
}

// parseParams is stricter than url.ParseQuery: each name must be unique, and each
// parameter must have a name and a value.
func parseParams(raw string) (map[string]string, render) {
	values, err := url.ParseQuery(raw)
	if err != nil || raw != "" && strings.Contains("&"+raw+"&", "&&") {
		return nil, invalidCommon("parameters", "must be URL-encoded name=value pairs, joined by &")
	}
	p := make(map[string]string, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name][0]
		switch {
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return nil, invalidCommon("a parameter", "is not UTF-8")
		case len(values[name]) > 1:
			return nil, invalidCommon(name, "occurs more than once")
		case name == "" || value == "":
			return nil, invalidCommon(name, "is empty")
		}
		p[name] = value
	}
	return p, nil
}

// source returns the text that is signed: all parameters except Signature,
// sorted by name as sent, with values that are not URL-encoded.
func source(method, host string, p map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		// The vendor's SDKs treat such a value as a file to upload.
		file := method == http.MethodPost && strings.HasPrefix(p[name], "@")
		if name != "Signature" && !file {
			pairs = append(pairs, strings.ReplaceAll(name, "_", ".")+"="+p[name])
		}
	}
	return method + host + Path + "?" + strings.Join(pairs, "&")
}

// hostname returns the part of a Host header that is signed: all but the port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// sign returns the Signature of source for a SignatureMethod.
func sign(key, source, method string) string {
	h := sha1.New
	if method == "HmacSHA256" {
		h = sha256.New
	}
	mac := hmac.New(h, []byte(key))
	mac.Write([]byte(source))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// authenticate checks the common parameters. It stores a Nonce only if the
// signature is correct.
func (s *Simulator) authenticate(p map[string]string, source string, now time.Time) render {
	for _, name := range []string{"Action", "Region", "Timestamp", "Nonce", "SecretId", "Signature"} {
		if p[name] == "" {
			return invalidCommon(name, "is missing")
		}
	}
	if p["Action"] != action {
		return refuse(6100, "this host does not serve the Action")
	}
	nonceValue, ok := parseInt(p["Nonce"], 1, math.MaxInt64)
	if !ok {
		return invalidCommon("Nonce", "must be a positive integer")
	}
	timestamp, ok := parseInt(p["Timestamp"], 1, lastTimestamp)
	if !ok {
		return invalidCommon("Timestamp", "must be in UNIX seconds")
	}

	account, ok := s.account(p["SecretId"])
	switch {
	case !ok:
		return refuse(4104, "")
	case !hmac.Equal([]byte(p["Signature"]), []byte(sign(account.SecretKey, source, p["SignatureMethod"]))):
		return refuse(4100, "")
	case !hmac.Equal([]byte(p["Token"]), []byte(account.Token)):
		return refuse(4105, "")
	}

	serverTime := fmt.Sprintf("server time is %d, %s", now.Unix(), now.UTC().Format(timeLayout))
	switch age := now.Unix() - timestamp; {
	case age > window:
		return refuse(4200, "the request has expired: Timestamp is too old, "+serverTime)
	case age < -window:
		return refuse(4500, "Timestamp is ahead of the server, "+serverTime)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.nonces.use(nonce{account.SecretID, nonceValue}, now.Unix()) {
		return refuse(4500, "Nonce was used before, "+serverTime)
	}
	return nil
}

// taskTypes are the documented values of taskType, without the prefix that only
// the filter has.
var taskTypes = []string{
	"importRdb", "exportBackup", "restoreBackup", "restoreStream", "backupInstance", "cleanInstance", "resizeInstance",
}

// parseQuery reads the parameters of the action. What is left of p in the end is
// not documented.
func parseQuery(p map[string]string, zone *time.Location) (q query, refused render) {
	p = maps.Clone(p)
	pop := func(name string) string {
		defer delete(p, name)
		return p[name]
	}
	check := func(ok bool, name, want string) {
		if !ok && refused == nil {
			refused = invalid(name, want)
		}
	}
	for _, common := range []string{"Action", "Region", "Timestamp", "Nonce", "SecretId", "Signature", "SignatureMethod", "Token"} {
		pop(common)
	}
	q = anyTask()
	limit, ok := parseInt(pop("limit"), 1, math.MaxInt32)
	check(ok, "limit", "must be a positive integer")
	offset, ok := parseInt(pop("offset"), 0, math.MaxInt32)
	check(ok, "offset", "must be 0 or a positive integer")
	q.limit, q.offset = int(limit), int(offset)
	q.redisID, q.redisName = pop("redisId"), pop("redisName")
	if text := pop("beginTime"); text != "" {
		q.begin, ok = parseTime(text, zone)
		check(ok, "beginTime", "must be a time as in 2017-02-08 16:46:34")
	}
	if text := pop("endTime"); text != "" {
		q.end, ok = parseTime(text, zone)
		check(ok, "endTime", "must be a time as in 2017-02-08 16:46:34")
	}
	check(q.begin <= q.end, "endTime", "is before beginTime")
	for name, text := range popArray(p, "taskStatus") {
		status, ok := parseInt(text, int64(crsapi.StatusError), int64(crsapi.StatusFailed))
		check(ok, name, "must be one of the documented statuses")
		q.statuses = append(q.statuses, crsapi.Status(status))
	}
	for name, text := range popArray(p, "taskType") {
		kind, prefixed := strings.CutPrefix(text, "task_")
		check(prefixed && slices.Contains(taskTypes, kind), name, "must be one of the documented types")
		q.types = append(q.types, codes[kind])
		if codes[kind] == backupCode {
			q.types = append(q.types, autoBackupCode)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		check(false, name, "is not a parameter of "+action)
	}
	return q, refused
}

// popArray removes the elements of an array from p: name.0, name.1, and so on.
func popArray(p map[string]string, name string) map[string]string {
	elements := make(map[string]string)
	for i := 0; ; i++ {
		element := name + "." + strconv.Itoa(i)
		text, ok := p[element]
		if !ok {
			return elements
		}
		elements[element] = text
		delete(p, element)
	}
}

// parseInt is stricter than strconv.ParseInt: it accepts no plus sign and no
// leading zero.
func parseInt(s string, lowest, highest int64) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == s && n >= lowest && n <= highest
}

// parseTime is stricter than time.Parse, which accepts fractions of a second and
// an hour with one digit.
func parseTime(s string, zone *time.Location) (int64, bool) {
	t, err := time.ParseInLocation(timeLayout, s, zone)
	return t.Unix(), err == nil && t.Format(timeLayout) == s
}
